"""The parameters of a network inside the engine: where each array stands, on the way in and on the way out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.kernels.norm import BETA, GAMMA, RUNNING_MEAN, RUNNING_VAR, STATE_ROWS
from nbbn.kernels.softmax import NO_LOGIT
from nbbn.layers import Conv2DTranspose, Dense, Layer
from nbbn.network import Weights
from nbbn.program.forms import ConvForm, Form, MatrixForm, RowsForm, VectorForm
from nbbn.program.layout import aligned_bytes, padded
from nbbn.program.nodes import Node
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.windows import kernel_size

_STATE_ROW = {"gamma": GAMMA, "beta": BETA, "mean": RUNNING_MEAN, "var": RUNNING_VAR}


@dataclass(frozen=True)
class Block:
    """Where an array of a layer stands, and in which form."""

    buffer: Buffer
    form: Form

    def view(self, memory: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The block within the segment's bytes, flat."""
        start = self.buffer.offset
        return memory[start : start + self.form.items(dtype) * dtype.itemsize].view(dtype)

    def read(self, memory: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """A copy in the user's layout."""
        return self.form.read(self.view(memory, dtype))

    def write(self, memory: np.ndarray, dtype: np.dtype, array: np.ndarray) -> None:
        """Take an array of the user's layout; the padding stays as it is."""
        self.form.write(self.view(memory, dtype), array)


def input_pixel(nodes: list[Node], at: int, dtype) -> int:
    """Floats from pixel to pixel of what a node reads: whole vectors, but a convolution reads the caller's images as they are."""
    channels = nodes[at].before[-1]
    return channels if at == 0 and nodes[at].kind == "conv" else padded(channels, dtype)


class Parameters:
    """Buffers for a network's arrays in the parameter segment.

    Parameters
    ----------
    program : Program
        Whose parameter segment is laid out.
    layers, shapes, nodes
        The layers, the row shape before each, and their nodes.
    logits : int or None
        Index of the dense layer whose outputs go into a softmax or a sigmoid: its padding never wins.
    """

    def __init__(self, program: Program, layers: tuple[Layer, ...], shapes: list[tuple[int, ...]], nodes: list[Node],
                 logits: int | None = None):
        self.dtype = program.dtype
        self.blocks: dict[tuple[int, str], Block] = {}
        self.transposed: dict[int, Block] = {}
        self._program, self._logits, self._layers, self._shapes = program, logits, layers, shapes
        self._constants: list[tuple[Buffer, np.ndarray]] = []
        for at, node in enumerate(nodes):
            if node.kind in ("dense", "conv", "depthwise"):
                self._add(node.layer, "kernel", self._kernel_form(node, input_pixel(nodes, at, self.dtype)))
                self._add(node.layer, "bias", VectorForm(node.after[-1]))
            elif node.kind in ("norm", "image_norm", "norm_pool", "group_norm"):
                self._add_state(node)

    def _kernel_form(self, node: Node, pixel: int) -> Form:
        layer, channels, units = self._layers[node.layer], node.before[-1], node.after[-1]
        if node.kind == "dense":
            return MatrixForm(channels, units)
        if node.kind == "depthwise":
            size = layer.kernel_size
            return RowsForm((*size, channels, layer.depth_multiplier), size[0] * size[1])
        return ConvForm(kernel_size(layer), channels, pixel, units, getattr(layer, "groups", 1),
                        isinstance(layer, Conv2DTranspose), isinstance(layer, Dense))

    def _add(self, layer: int, name: str, form: Form) -> None:
        self.blocks[layer, name] = Block(self._buffer(f"{name}{layer}", form.items(self.dtype)), form)

    def _add_state(self, node: Node) -> None:
        layer, width = node.layer, padded(node.before[-1], self.dtype)
        state = self._buffer(f"state{layer}", STATE_ROWS * width)
        declared = self._layers[layer].weight_shapes(self._shapes[layer])
        for name, row in _STATE_ROW.items():
            form = RowsForm(declared.get(name, (node.before[-1],)), 1)
            self.blocks[layer, name] = Block(state.at(row * width, self.dtype.itemsize), form)

    def _buffer(self, name: str, items: int) -> Buffer:
        return self._program.buffer(name, Segment.PARAMS, items)

    def state(self, layer: int) -> Buffer:
        """The block of per-channel numbers of a batch norm."""
        return self.blocks[layer, "gamma"].buffer

    def add_transposed(self, layer: int) -> Block:
        """Room for the transpose of a dense kernel, kept up to date by the program."""
        kernel = self.blocks[layer, "kernel"].form
        form = MatrixForm(kernel.units, kernel.depth)
        block = Block(self._buffer(f"kernel{layer}T", form.items(self.dtype)), form)
        self.transposed[layer] = block
        return block

    def add_constant(self, name: str, values: np.ndarray) -> Buffer:
        """A buffer with fixed contents: integers as int64, floats in the program's dtype."""
        values = values.astype(np.int64 if values.dtype.kind == "i" else self.dtype)
        buffer = self._program.buffer(name, Segment.PARAMS, len(values), values.itemsize)
        self._constants.append((buffer, values))
        return buffer

    def memory(self) -> np.ndarray:
        """The segment's bytes with every constant and every default in place."""
        memory = aligned_bytes(self._program.sizes.get(Segment.PARAMS, 0))
        for buffer, values in self._constants:
            start = buffer.offset
            memory[start : start + values.nbytes].view(values.dtype)[:] = values
        for (layer, name), block in self.blocks.items():
            if name in ("gamma", "var"):
                block.view(memory, self.dtype)[:] = 1
            elif name == "bias" and layer == self._logits:
                block.view(memory, self.dtype)[block.form.units :] = NO_LOGIT
        return memory

    def upload(self, memory: np.ndarray, weights: Weights) -> None:
        """Arrays of the user's into the segment."""
        for i, arrays in enumerate(weights):
            for name, array in arrays.items():
                self.blocks[i, name].write(memory, self.dtype, array)
                if name == "kernel" and i in self.transposed:
                    self.transposed[i].write(memory, self.dtype, array.T)

    def download(self, memory: np.ndarray) -> Weights:
        """New arrays in the user's layout."""
        weights: Weights = [{} for _ in self._layers]
        for (i, name), block in self.blocks.items():
            if self._declared(i, name):
                weights[i][name] = block.read(memory, self.dtype)
        return weights

    def _declared(self, layer: int, name: str) -> bool:
        return name in self._layers[layer].weight_shapes(self._shapes[layer])
