"""A network lowered to the program of one block of rows: all layers of a block in one thread, from the rows to the answers."""

from __future__ import annotations

import math

import numpy as np

from nbbn.layers import Layer
from nbbn.program import windows
from nbbn.program.image_training import as_view
from nbbn.program.images import Images, pools_a_conv
from nbbn.program.layout import padded, panels_of
from nbbn.program.nodes import Node, nodes_of
from nbbn.program.parameters import Parameters
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.tensors import Tensor, layout_of

# Rows of a block: its activations stay in a core's own caches, its weights are read once a block.
BLOCK_ROWS = 64
# Numbers of the largest activation of a block of images: it stays in the L2.
BLOCK_NUMBERS = 1 << 17


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
        self.parameters = parameters or Parameters(self.program, layers, shapes, nodes)
        self.features, self.outputs = math.prod(shapes[0]), math.prod(shapes[-1])
        self.work_per_row = sum(self._work(node) for node in nodes) + 16 * self.features
        self.in_tiles = all(len(node.before) == 1 for node in nodes)  # rows that are multiplied several at a time
        self.block = self._block_rows(nodes)
        self.images = Images(self.program, self.parameters, layers, 1, Segment.WORK)
        if any(node.kind in ("conv", "depthwise") for node in nodes):
            self.images.reserve_scratch(nodes, gradients=False)
        x = self._input(nodes, tuple(shapes[0]))
        i = 0
        while i < len(nodes):
            if i + 1 < len(nodes) and pools_a_conv(nodes[i], nodes[i + 1], layers):
                x = self._conv_pool(nodes[i], nodes[i + 1], x)
                i += 2
            else:
                x = getattr(self, f"_{nodes[i].kind}")(i, nodes[i], x)
                i += 1
        self._output(x)

    def _work(self, node: Node) -> int:
        """Multiply-adds of a row."""
        if node.kind == "dense":
            return node.depth * node.width
        if node.kind in ("conv", "depthwise"):
            kernel = self.layers[node.layer].weight_shapes(node.before)["kernel"]
            return math.prod(node.after[:-1]) * math.prod(kernel)
        return node.width

    def _block_rows(self, nodes: list[Node]) -> int:
        if self.in_tiles:
            return BLOCK_ROWS
        pooled = {i for i in range(len(nodes) - 1) if pools_a_conv(nodes[i], nodes[i + 1], self.layers)}
        largest = max((node.width for i, node in enumerate(nodes) if i not in pooled), default=1)
        return max(1, min(BLOCK_ROWS, BLOCK_NUMBERS // largest))

    def _new(self, name: str, shape) -> Tensor:
        stride, pixel = layout_of(shape, self.program.dtype)
        return Tensor(self.program.buffer(name, Segment.WORK, self.block * stride), stride, tuple(shape), pixel)

    def _input(self, nodes: list[Node], shape) -> Tensor:
        """The caller's rows as the first node takes them: dense layers and convolutions read them where they are."""
        shape = nodes[0].before if nodes else (math.prod(shape),)
        raw = Tensor(Buffer("X", Segment.X), self.features, shape, shape[-1])
        if nodes and nodes[0].kind in ("dense", "conv"):
            return raw
        x = self._new("x", shape)
        if len(shape) == 1:
            self.program.add("copy_rows", x=raw.buffer, x_stride=raw.stride, width=self.features, out=x.buffer,
                             out_stride=x.stride)
        else:
            self.images.repack(raw, x)
        return x

    def _output(self, x: Tensor) -> None:
        out = Buffer("out", Segment.OUT)
        if len(x.shape) == 1:
            self.program.add("copy_rows", x=x.buffer, x_stride=x.stride, width=self.outputs, out=out, out_stride=self.outputs)
        else:
            self.images.repack(x, Tensor(out, self.outputs, (self.outputs,), self.outputs))

    def _dense(self, i: int, node: Node, x: Tensor) -> Tensor:
        dtype = self.program.dtype
        z = self._new(f"z{node.layer}", node.after)
        blocks = self.parameters.blocks
        self.program.add("dense_relu_forward" if node.relu else "dense_forward", x=x.buffer, x_stride=x.stride,
                         depth=node.depth, weights=blocks[node.layer, "kernel"].buffer,
                         weight_depth=padded(node.depth, dtype), bias=blocks[node.layer, "bias"].buffer, z=z.buffer,
                         z_stride=z.stride, panels=panels_of(node.width, dtype))
        return z

    def _norm(self, i: int, node: Node, x: Tensor) -> Tensor:
        self.program.add("norm_relu_inference" if node.relu else "norm_inference", x=x.buffer, x_stride=x.stride, y=x.buffer,
                         y_stride=x.stride, state=self.parameters.state(node.layer),
                         panels=panels_of(node.width, self.program.dtype), epsilon=self.layers[node.layer].epsilon)
        return x

    def _activation(self, i: int, node: Node, x: Tensor) -> Tensor:
        units = {"units": node.width} if node.activation == "softmax" else {}
        self.program.add(f"{node.activation}_forward", x=x.buffer, x_stride=x.stride, **units,
                         panels=panels_of(node.width, self.program.dtype))
        return x

    def _conv(self, i: int, node: Node, x: Tensor) -> Tensor:
        z = self._new(f"z{node.layer}", node.after)
        self.images.conv(node, x, z, self.images.convolution(node, x.pixel))
        return z

    def _conv_pool(self, conv: Node, pool: Node, x: Tensor) -> Tensor:
        y = self._new(f"y{pool.layer}", pool.after)
        self.images.conv_pool(conv, pool, x, y, self.images.convolution(conv, x.pixel))
        return y

    def _depthwise(self, i: int, node: Node, x: Tensor) -> Tensor:
        times = self.layers[node.layer].depth_multiplier
        if times > 1:
            repeated = self._new(f"x{node.layer}", (*node.before[:-1], node.before[-1] * times))
            self.images.repeat(node, x, repeated)
            x = repeated
        z, blocks = self._new(f"z{node.layer}", node.after), self.parameters.blocks
        self.images.depthwise(x, z, f"window{node.layer}", self.images.convolution(node, x.pixel),
                              blocks[node.layer, "kernel"].buffer, blocks[node.layer, "bias"].buffer)
        return z

    def _image_norm(self, i: int, node: Node, x: Tensor) -> Tensor:
        self.program.add("image_norm_relu_inference" if node.relu else "image_norm_inference", x=x.buffer,
                         state=self.parameters.state(node.layer), pixel=x.pixel, pixels=x.pixels,
                         panels=self.images.panels(x.channels), epsilon=self.layers[node.layer].epsilon, blocks=1)
        return x

    def _group_norm(self, i: int, node: Node, x: Tensor) -> Tensor:
        sets = self.images.sets(node)
        count = x.pixels // sets["set_pixels"] * (x.channels // sets["set_channels"])
        invstd = self.program.buffer(f"invstd{node.layer}", Segment.WORK, self.block * count)
        xhat, y = self._new(f"xhat{node.layer}", x.shape), self._new(f"y{node.layer}", x.shape)
        self.images.group_norm(node, x, xhat, y, invstd)
        return y

    def _max_pool(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._new(f"y{node.layer}", node.after)
        self.images.pool(node, x, y)
        return y

    _average_pool = _max_pool

    def _image_activation(self, i: int, node: Node, x: Tensor) -> Tensor:
        self.images.activate(node.activation, node.numbers, x, x)
        return x

    def _channel_softmax(self, i: int, node: Node, x: Tensor) -> Tensor:
        self.images.softmax(x, x)
        return x

    def _repack(self, i: int, node: Node, x: Tensor) -> Tensor:
        if view := as_view(x, node):
            return view
        y = self._new(f"y{node.layer}", node.after)
        self.images.repack(x, y)
        return y

    def _permute(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._new(f"p{i}", node.after)
        self.images.permute(node.numbers, x, y)
        return y

    def _pad(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._new(f"y{node.layer}", node.after)
        self.images.pad(f"window{node.layer}", windows.padding(self.layers[node.layer], node.before, x.pixel), x, y)
        return y
