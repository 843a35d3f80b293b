"""The parameters of a network inside the engine: where each array stands, on the way in and on the way out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.kernels.activation import NO_LOGIT
from nbbn.kernels.norm import BETA, GAMMA, RUNNING_MEAN, RUNNING_VAR, STATE_ROWS
from nbbn.layers import BatchNormalization, Dense, Layer
from nbbn.network import Weights
from nbbn.program.layout import aligned_bytes, lanes, pack_kernel, padded, panels_of, unpack_kernel
from nbbn.program.program import Buffer, Program, Segment

_STATE_ROW = {"gamma": GAMMA, "beta": BETA, "mean": RUNNING_MEAN, "var": RUNNING_VAR}


@dataclass(frozen=True)
class Block:
    """A dense kernel `(depth, units)` in panels, or a vector of `units` (depth 0)."""

    buffer: Buffer
    depth: int
    units: int

    def view(self, memory: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """The block within the segment's bytes: `(panels, padded depth, lanes)`, or `(padded units,)`."""
        width = padded(self.units, dtype)
        items = padded(self.depth, dtype) * width if self.depth else width
        start = self.buffer.offset
        flat = memory[start : start + items * dtype.itemsize].view(dtype)
        return flat.reshape(panels_of(self.units, dtype), -1, lanes(dtype)) if self.depth else flat

    def read(self, memory: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """A copy in the user's layout."""
        block = self.view(memory, dtype)
        return unpack_kernel(block, self.depth, self.units) if self.depth else block[: self.units].copy()

    def write(self, memory: np.ndarray, dtype: np.dtype, array: np.ndarray) -> None:
        """Take an array of the user's layout; the padding stays as it is."""
        block = self.view(memory, dtype)
        if self.depth:
            pack_kernel(array, block)
        else:
            block[: self.units] = array


class Parameters:
    """Buffers for a network's arrays in the parameter segment.

    Parameters
    ----------
    program : Program
        Whose parameter segment is laid out.
    layers, shapes
        The layers and the row shape before each.
    logits : int or None
        Index of the dense layer whose outputs go into a softmax or a sigmoid: its padding never wins.
    """

    def __init__(self, program: Program, layers: tuple[Layer, ...], shapes: list[tuple[int, ...]],
                 logits: int | None = None):
        self.dtype = program.dtype
        self.blocks: dict[tuple[int, str], Block] = {}
        self.transposed: dict[int, Block] = {}
        self._program, self._logits, self._layers = program, logits, layers
        self._constants: list[tuple[Buffer, np.ndarray]] = []
        for i, (layer, shape) in enumerate(zip(layers, shapes)):
            if isinstance(layer, Dense):
                self._add(i, "kernel", shape[-1], layer.units)
                self._add(i, "bias", 0, layer.units)
            elif isinstance(layer, BatchNormalization):
                self._add_state(i, shape[-1])

    def _add(self, layer: int, name: str, depth: int, units: int) -> None:
        width = padded(units, self.dtype)
        buffer = self._buffer(f"{name}{layer}", padded(depth, self.dtype) * width if depth else width)
        self.blocks[layer, name] = Block(buffer, depth, units)

    def _add_state(self, layer: int, channels: int) -> None:
        width = padded(channels, self.dtype)
        state = self._buffer(f"state{layer}", STATE_ROWS * width)
        for name, row in _STATE_ROW.items():
            self.blocks[layer, name] = Block(state.at(row * width, self.dtype.itemsize), 0, channels)

    def _buffer(self, name: str, items: int) -> Buffer:
        return self._program.buffer(name, Segment.PARAMS, items)

    def state(self, layer: int) -> Buffer:
        """The block of per-channel numbers of a batch norm."""
        return self.blocks[layer, "gamma"].buffer

    def add_transposed(self, layer: int) -> Block:
        """Room for the transpose of a dense kernel, kept up to date by the program."""
        kernel = self.blocks[layer, "kernel"]
        items = padded(kernel.depth, self.dtype) * padded(kernel.units, self.dtype)
        block = Block(self._buffer(f"kernel{layer}T", items), kernel.units, kernel.depth)
        self.transposed[layer] = block
        return block

    def add_constant(self, name: str, values: np.ndarray) -> Buffer:
        """A buffer with fixed contents."""
        buffer = self._buffer(name, len(values))
        self._constants.append((buffer, values))
        return buffer

    def memory(self) -> np.ndarray:
        """The segment's bytes with every constant and every default in place."""
        memory = aligned_bytes(self._program.sizes.get(Segment.PARAMS, 0))
        for buffer, values in self._constants:
            start = buffer.offset
            memory[start : start + len(values) * self.dtype.itemsize].view(self.dtype)[:] = values
        for (layer, name), block in self.blocks.items():
            if name in ("gamma", "var"):
                block.view(memory, self.dtype)[:] = 1
            elif name == "bias" and layer == self._logits:
                block.view(memory, self.dtype)[block.units :] = NO_LOGIT
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
        spec = self._layers[layer]
        switch = {"bias": "use_bias", "gamma": "scale", "beta": "center"}.get(name)
        return switch is None or getattr(spec, switch)
