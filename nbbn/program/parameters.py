"""A network's parameters inside the engine: where each array stands, on the way in and out."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nbbn import operations as op
from nbbn.errors import LayerError
from nbbn.kernels.norm import BETA, GAMMA, RUNNING_MEAN, RUNNING_VAR, STATE_ROWS
from nbbn.operations import Array, Shape
from nbbn.program import window_words, winograd
from nbbn.program.fusion import Node
from nbbn.program.layout import aligned_bytes, padded
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.weight_layouts import (
    ConvLayout,
    MatrixLayout,
    PointsLayout,
    RowsLayout,
    VectorLayout,
    WeightLayout,
)

_STATE_ROW = {"gamma": GAMMA, "beta": BETA, "mean": RUNNING_MEAN, "var": RUNNING_VAR}
Weights = list[dict[str, np.ndarray]]


@functools.lru_cache(maxsize=1024)
def _bytes(layout: WeightLayout, dtype: np.dtype) -> int:
    return layout.items(dtype) * dtype.itemsize


@dataclass(frozen=True)
class Block:
    """Where an array of a layer stands, in which layout, and the user's shape of it."""

    buffer: Buffer
    layout: WeightLayout
    shape: Shape

    def view(self, memory: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The block within the segment's bytes, flat."""
        start = self.buffer.offset
        return memory[start : start + _bytes(self.layout, dtype)].view(dtype)

    def read(self, memory: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """A copy in the user's layout."""
        return self.layout.read(self.view(memory, dtype)).reshape(self.shape)

    def write(self, memory: np.ndarray, dtype: np.dtype, array: np.ndarray) -> None:
        """Take an array of the user's layout; the padding stays as it is."""
        self.layout.write(self.view(memory, dtype), array)


def input_pixel(node: Node, dtype: np.dtype) -> int:
    """Floats from pixel to pixel of what a node reads.

    Whole vectors, but a convolution reads the caller's images as they are.
    """
    channels = node.input_shape[-1]
    if node.is_convolution and node.sources[0] == -1:
        return channels
    if isinstance(node.operation, op.ConvolveDepthwise):
        return padded(channels * node.operation.multiplier, dtype)
    return padded(channels, dtype)


class Parameters:
    """Buffers for a network's arrays in the parameter segment.

    What training changes by gradients is padded with zeros: sums over a block count its array.

    Parameters
    ----------
    program : Program
        Its parameter segment is laid out.
    arrays : tuple of dict
        What each layer declares.
    nodes : list of Node
    by_rows : bool
        Whether the first dense kernel stands row by row, as it does in the user's array: where few
        of its rows are read, and nothing but that is done with them.
    training : bool
        Whether training changes them: then a kernel stands by cells in any case.
    """

    def __init__(self, program: Program, arrays: tuple[dict[str, Array], ...], nodes: list[Node],
                 *, by_rows: bool = False, training: bool = False):
        self.dtype, self._by_rows = program.dtype, by_rows
        self._by_cells = {node.step.key_of("kernel") for node in nodes
                          if node.is_convolution and (training or not self._is_by_tiles(node))}
        # By layer and the array's name there.
        self.blocks: dict[tuple[int, str], Block] = {}
        self.transposed: dict[tuple[int, str], Block] = {}
        self.by_points: dict[tuple[int, str], Block] = {}
        self._program, self._arrays = program, arrays
        self._constants: list[tuple[Buffer, np.ndarray]] = []
        for node in nodes:
            if self._known(node):
                continue
            if node.has_kernel:
                channels = node.step.output_shape[-1]
                kernel = node.operation.kernel_shape(node.input_shape)
                self._add(node, "kernel", self._kernel_layout(node), kernel)
                self._add(node, "bias", VectorLayout(channels), (channels,))
            elif isinstance(node.operation, op.BatchNorm | op.RowNorm):
                self._add_state(node)
            else:
                for name in node.operation.arrays:
                    self._add_rows(node, name)

    def _known(self, node: Node) -> bool:
        """Whether an earlier call of a node's layer has brought the arrays."""
        if not any(key in self.blocks for key in node.step.keys[:1]):
            return False
        if node.has_kernel:
            if self.of(node, "kernel").layout != self._kernel_layout(node):
                raise LayerError(f"layer {node.layer} is called on rows of one axis and on rows of "
                                 "several: use two layers")
        return True

    def _kernel_layout(self, node: Node) -> WeightLayout:
        operation, channels = node.operation, node.input_shape[-1]
        units = node.step.output_shape[-1]
        size = window_words.window_of(operation).size
        if isinstance(operation, op.ConvolveDepthwise):
            return RowsLayout((*size, channels, operation.multiplier), size[0] * size[1])
        if not node.is_convolution and self._by_rows and node.index == 0:
            return RowsLayout((channels, units), channels)
        if not node.is_convolution:
            return MatrixLayout(channels, units)
        layout = ConvLayout(
            size, channels, input_pixel(node, self.dtype), units, getattr(operation, "groups", 1),
            isinstance(operation, op.ConvolveTransposed),
        )
        return layout if node.step.key_of("kernel") in self._by_cells else PointsLayout(layout)

    def _is_by_tiles(self, node: Node) -> bool:
        words = window_words.of_node(node, input_pixel(node, self.dtype), self.dtype)
        return winograd.is_faster(words, self.dtype, node.pool)

    def of(self, node: Node, array: str) -> Block:
        """The block of one of a node's arrays."""
        return self.blocks[node.step.key_of(array)]

    def _add(self, node: Node, array: str, layout: WeightLayout, shape: Shape) -> None:
        layer, name = node.step.key_of(array)
        declared = self._arrays[layer].get(name)
        buffer = self._buffer(f"{name}{layer}", layout.items(self.dtype))
        self.blocks[layer, name] = Block(buffer, layout, declared.shape if declared else shape)

    def _add_rows(self, node: Node, array: str) -> None:
        """An array whose last axis is padded."""
        layer, name = node.step.key_of(array)
        shape = self._arrays[layer][name].shape
        self._add(node, array, RowsLayout(shape, math.prod(shape[:-1])), shape)

    def _add_state(self, node: Node) -> None:
        layer, channels = node.layer, node.input_shape[-1]
        width = padded(channels, self.dtype)
        state = self._buffer(f"state{layer}", STATE_ROWS * width)
        for name, row in _STATE_ROW.items():
            declared = self._arrays[layer].get(name)
            shape = declared.shape if declared else (channels,)
            place = state.at(row * width, self.dtype.itemsize)
            self.blocks[layer, name] = Block(place, RowsLayout(shape, 1), shape)

    def _buffer(self, name: str, items: int) -> Buffer:
        return self._program.buffer(name, Segment.PARAMS, items)

    def state(self, layer: int) -> Buffer:
        """The block of per-channel numbers of a norm."""
        return self.blocks[layer, "gamma"].buffer

    def is_trained(self, layer: int, name: str) -> bool:
        """Whether training changes an array by gradients."""
        array = self._arrays[layer].get(name)
        return array is not None and array.trained

    def transpose_of(self, node: Node) -> Block | None:
        """Where the transpose of a dense kernel stands, if somebody reads that."""
        return self.transposed.get(node.step.key_of("kernel"))

    def add_transposed(self, node: Node) -> Block:
        """Room for the transpose of a dense kernel, kept up to date by the program."""
        if (block := self.transpose_of(node)) is None:
            layer, name = node.step.key_of("kernel")
            kernel = self.blocks[layer, name].layout
            assert isinstance(kernel, MatrixLayout)
            layout = MatrixLayout(kernel.units, kernel.depth)
            buffer = self._buffer(f"{name}{layer}T", layout.items(self.dtype))
            block = Block(buffer, layout, (kernel.units, kernel.depth))
            self.transposed[layer, name] = block
        return block

    def points_of(self, node: Node) -> Block | None:
        """Where a convolution's kernel stands by points, if it does."""
        kernel = self.of(node, "kernel")
        own = isinstance(kernel.layout, PointsLayout)
        return kernel if own else self.by_points.get(node.step.key_of("kernel"))

    def add_points(self, node: Node) -> Block:
        """Room for a convolution's kernel by points, kept up to date by the program."""
        if (block := self.points_of(node)) is None:
            layer, name = node.step.key_of("kernel")
            kernel = self.blocks[layer, name]
            assert isinstance(kernel.layout, ConvLayout)
            layout = PointsLayout(kernel.layout)
            buffer = self._buffer(f"{name}{layer}P", layout.items(self.dtype))
            block = Block(buffer, layout, kernel.shape)
            self.by_points[layer, name] = block
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
        for (_, name), block in self.blocks.items():
            if name == "gamma":
                ones = np.ones_like(block.read(memory, self.dtype))
                block.write(memory, self.dtype, ones)
            elif name == "var":
                block.view(memory, self.dtype)[:] = 1
        return memory

    def upload(self, memory: np.ndarray, weights: Weights) -> None:
        """Arrays of the user's into the segment."""
        for i, arrays in enumerate(weights):
            for name, array in arrays.items():
                self._write(memory, i, name, array)

    def _write(self, memory: np.ndarray, layer: int, name: str, array: np.ndarray) -> None:
        self.blocks[layer, name].write(memory, self.dtype, array)
        if transposed := self.transposed.get((layer, name)):
            transposed.write(memory, self.dtype, array.T)
        if points := self.by_points.get((layer, name)):
            points.write(memory, self.dtype, array)

    def constrain(self, memory: np.ndarray, layer: int, name: str,
                  constraint: Callable[[np.ndarray], np.ndarray]) -> None:
        """What a constraint makes of an array, in its place."""
        array = self.blocks[layer, name].read(memory, self.dtype)
        self._write(memory, layer, name, constraint(array))

    def download(self, memory: np.ndarray) -> Weights:
        """New arrays in the user's layout."""
        return [
            {name: self.blocks[layer, name].read(memory, self.dtype) for name in arrays}
            for layer, arrays in enumerate(self._arrays)
        ]
