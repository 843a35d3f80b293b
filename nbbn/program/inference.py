"""A network lowered to the program of one block of rows: all layers of a block in one thread, from the rows to the answers."""

from __future__ import annotations

import numpy as np

from nbbn.layers import BatchNormalization, Layer
from nbbn.program.layout import padded, panels_of, stride_of
from nbbn.program.nodes import Node, nodes_of
from nbbn.program.parameters import Parameters
from nbbn.program.program import Buffer, Program, Segment

# Rows of a block: its activations stay in a core's own caches, its weights are read once a block.
BLOCK_ROWS = 64


class InferenceProgram:
    """The program of a block, with parameters of its own or those of a training program.

    Parameters
    ----------
    layers, shapes
        The layers and the row shape before each and after the last.
    dtype : numpy.dtype
        float32 or float64.
    parameters : Parameters, optional
        Where the arrays stand; laid out anew by default.
    """

    def __init__(self, layers: tuple[Layer, ...], shapes, dtype: np.dtype, parameters: Parameters | None = None):
        self.layers = layers
        self.program = Program(np.dtype(dtype))
        nodes = nodes_of(layers, shapes)
        self.parameters = parameters or Parameters(self.program, layers, shapes)
        self.features, self.outputs = shapes[0][0], shapes[-1][0]
        # Multiply-adds a row, and reading it.
        self.work_per_row = sum(node.depth * node.width for node in nodes if node.kind == "dense") + 16 * self.features
        self._x, self._stride = Buffer("X", Segment.X), self.features
        if nodes and nodes[0].kind != "dense":
            self._copy_in()
        for node in nodes:
            getattr(self, f"_{node.kind}")(node)
        self.program.add("copy_rows", x=self._x, x_stride=self._stride, width=self.outputs, out=Buffer("out", Segment.OUT),
                         out_stride=self.outputs)

    def _new(self, name: str, width: int) -> tuple[Buffer, int]:
        stride = stride_of(width, self.program.dtype)
        return self.program.buffer(name, Segment.WORK, BLOCK_ROWS * stride), stride

    def _copy_in(self) -> None:
        """Only a dense layer can read rows of any width in place."""
        out, stride = self._new("x", self.features)
        self.program.add("copy_rows", x=self._x, x_stride=self._stride, width=self.features, out=out, out_stride=stride)
        self._x, self._stride = out, stride

    def _dense(self, node: Node) -> None:
        dtype = self.program.dtype
        out, stride = self._new(f"z{node.layer}", node.width)
        blocks = self.parameters.blocks
        self.program.add("dense_relu_forward" if node.relu else "dense_forward", x=self._x, x_stride=self._stride,
                         depth=node.depth, weights=blocks[node.layer, "kernel"].buffer,
                         weight_depth=padded(node.depth, dtype), bias=blocks[node.layer, "bias"].buffer, z=out,
                         z_stride=stride, panels=panels_of(node.width, dtype))
        self._x, self._stride = out, stride

    def _norm(self, node: Node) -> None:
        layer: BatchNormalization = self.layers[node.layer]
        self.program.add("norm_relu_inference" if node.relu else "norm_inference", x=self._x, x_stride=self._stride,
                         y=self._x, y_stride=self._stride, state=self.parameters.state(node.layer),
                         panels=panels_of(node.width, self.program.dtype), epsilon=layer.epsilon)

    def _activation(self, node: Node) -> None:
        units = {"units": node.width} if node.activation == "softmax" else {}
        self.program.add(f"{node.activation}_forward", x=self._x, x_stride=self._stride, **units,
                         panels=panels_of(node.width, self.program.dtype))
