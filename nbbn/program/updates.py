"""The optimiser's part of a training step: from gradients to new parameters."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn.operations import Array, BatchNorm
from nbbn.optimizers import Optimizer
from nbbn.program.fusion import Node
from nbbn.program.layout import lanes, padded
from nbbn.program.lowering import Lowering
from nbbn.program.parameters import Block
from nbbn.program.program import Buffer, Segment
from nbbn.program.sparse import SparseTensor, kernel_update
from nbbn.program.tensors import Tensor
from nbbn.program.weight_layouts import ConvLayout

# Bytes of a dense layer's rows that are multiplied at a time for its kernel's gradient, half of a
# small L2; and fewest rows.
_CHUNK_BYTES, _LEAST_CHUNK = 1 << 20, 64


def chunk_of(rows: int, x: Tensor, dtype: np.dtype) -> int:
    """Rows of a chunk: as even chunks as fit, in groups of eight."""
    chunks = -(-rows // max(_LEAST_CHUNK, _CHUNK_BYTES // (x.width * dtype.itemsize)))
    return -(-rows // (8 * chunks)) * 8


class Updates:
    """Emits steps on parameters, each as late as every thread has used the old values.

    Parameters
    ----------
    low : Lowering
    optimizer : Optimizer
    decay : float
        L2 penalty: `decay * kernel / rows` joins a kernel's gradient.

    Attributes
    ----------
    slots : dict
        Optimiser state: (layer, array name, slot) -> block in the parameter segment.
    squares : list of (Buffer, int)
        Running sums of squares of each kernel's panels (float64), before each step.
    penalties : list of (Buffer, int)
        Sums over steps of each regularised array's penalty, a number a vector (float64).
    """

    def __init__(self, low: Lowering, optimizer: Optimizer, decay: float):
        self._low, self._optimizer = low, optimizer
        self.slots: dict[tuple[int, str, int], Block] = {}
        self.squares: list[tuple[Buffer, int]] = []
        self.penalties: list[tuple[Buffer, int]] = []
        self._pending: list[Callable[[], object]] = []
        # Gradients that wait for the norm of all of them: node, array, gradient, vectors.
        self._clipped: list[tuple[Node, str, Buffer, int]] = []
        # Of layers that are called several times, by array: what their calls have come to.
        self._calls = Counter(key for node in low.nodes for key in node.step.keys)
        self._summed: dict[tuple[int, str], tuple[Buffer, int]] = {}
        self._clips = any(
            getattr(optimizer, name, None) for name in ("clipnorm", "clipvalue", "global_clipnorm")
        )
        self._shrinks = bool(getattr(optimizer, "weight_decay", None))
        self._decay = decay
        self._constants = low.constant("constants", np.array(optimizer.constants(), np.float64))

    def later(self, update: Callable[[], object]) -> None:
        """Keep an update until all threads have used the old values."""
        self._pending.append(update)

    def emit(self, keep: int = 0) -> None:
        """Emit the pending updates but the last `keep`."""
        while len(self._pending) > keep:
            self._pending.pop(0)()

    def finish(self) -> None:
        """Emit what is left, clipped gradients last."""
        self.emit()
        self._emit_clipped()

    def dense(self, node: Node, x: Tensor, dz: Tensor) -> None:
        """One step on a dense layer: the gradient of its kernel need not reach memory."""
        low, panels = self._low, self._low.panels(node.width)
        shared = self._calls[node.step.key_of("kernel")] > 1
        bounded = self._clips or shared or self._array(node, "kernel").penalised
        count = low.panels(x.width) * panels
        squares = low.program.buffer(f"squares{node.index}", Segment.WORK, count, itemsize=8)
        update, source = kernel_update(x)
        common: dict[str, Any] = {
            **source, "dz": dz, "weights": low.block(node, "kernel"), "squares": squares,
            "panels": panels, "constants": self._constants, "decay": self._decay,
        }
        gradient = low.block(node, "kernel")  # which is not read where there is one chunk
        chunk = low.rows if isinstance(x, SparseTensor) else chunk_of(low.rows, x, low.dtype)
        if bounded or low.rows > chunk:
            gradient = self.gradient_of(node, "kernel")
            if isinstance(x, SparseTensor) or padded(x.width, low.dtype) > x.width:
                low.lasting.add(gradient.name)  # zeros where nothing is written
        if not isinstance(x, SparseTensor):
            common |= {"chunk": chunk, "gradient": gradient, "depth_parts": 1}
        stepped = True
        if low.parameters.is_trained(*node.step.key_of("kernel")):
            vectors = self.vectors(node, "kernel")
            self.squares.append((squares, count))
            if bounded:
                low.add(f"{update}_gradient", slots=gradient, **common)
                stepped = self.train(node, "kernel", gradient, vectors)
            else:
                self._shrink(low.block(node, "kernel"), vectors)
                slots = self._slots(node, "kernel")
                low.add(f"{update}_{self._optimizer.kernel}", slots=slots, **common)
        if self.trains_bias(node):
            items = panels * lanes(low.dtype)
            gradient = low.program.buffer(f"dbias{node.index}", Segment.WORK, items)
            low.add("column_sum", x=dz, out=gradient, panels=panels)
            self.train(node, "bias", gradient, panels)
        if stepped:
            self._transpose(node)

    def trains_bias(self, node: Node) -> bool:
        """Whether a node's bias is trained: not where a batch norm takes it away again.

        Its gradient is 0 there but for rounding: Adam would make whole steps of that noise, and
        the running mean would lag behind the bias.
        """
        if not self._low.parameters.is_trained(*node.step.key_of("bias")):
            return False
        plain = not self._array(node, "bias").penalised and not self._shrinks
        bias = node.step.key_of("bias")
        calls = [other for other in self._low.nodes if bias in other.step.keys]
        return not (plain and all(not call.relu and self._is_normalised(call) for call in calls))

    def _is_normalised(self, node: Node) -> bool:
        readers = [reader for reader in self._low.nodes if node.index in reader.sources]
        return len(readers) == 1 and _centres(readers[0])

    def vectors(self, node: Node, name: str) -> int:
        """Vectors that an array fills."""
        layout = self._low.parameters.of(node, name).layout
        return layout.items(self._low.dtype) // lanes(self._low.dtype)

    def train(self, node: Node, name: str, gradient: Buffer, vectors: int) -> bool:
        """One step on an array whose gradient is in memory; whether it is emitted by now.

        That of a layer which is called several times waits for the gradients of all calls, a
        clipped one for those of all arrays.
        """
        low, array = self._low, self._array(node, name)
        if self._calls[node.step.key_of(name)] > 1:
            if not self._complete(node, name, gradient, vectors):
                return False
            gradient, _ = self._summed.pop(node.step.key_of(name))
        if array.penalised:
            name_of_sums = f"penalty_{name}{node.index}"
            sums = low.program.buffer(name_of_sums, Segment.WORK, vectors, itemsize=8)
            self.penalties.append((sums, vectors))
            low.add("add_penalty", grad=gradient, param=low.block(node, name), l1=array.l1,
                    l2=array.l2, penalties=sums, panels=vectors)
        if self._clips:
            self._clipped.append((node, name, gradient, vectors))
            return False
        self._step(node, name, gradient, vectors)
        return True

    def _complete(self, node: Node, name: str, gradient: Buffer, vectors: int) -> bool:
        """Add the gradient of one of a layer's calls to the others'; whether it is the last."""
        key = node.step.key_of(name)
        total, count = self._summed.get(key, (gradient, 0))
        if count:
            self._low.add("add_columns", x=total, y=gradient, panels=vectors)
        self._summed[key] = total, count + 1
        return count + 1 == self._calls[key]

    def _array(self, node: Node, name: str) -> Array:
        layer, named = node.step.key_of(name)
        return self._low.computation.arrays[layer][named]

    def gradient_of(self, node: Node, name: str) -> Buffer:
        """Room for the gradient of an array."""
        items = self._low.parameters.of(node, name).layout.items(self._low.dtype)
        return self._low.program.buffer(f"d{name}{node.index}", Segment.WORK, items)

    def _slots(self, node: Node, name: str) -> Buffer:
        """Optimiser state of one array: its slots follow each other."""
        low, parameter = self._low, self._low.parameters.of(node, name)
        items, count = parameter.layout.items(low.dtype), self._optimizer.slots
        layer, named = node.step.key_of(name)
        buffer = low.program.buffer(f"slots_{named}{layer}", Segment.PARAMS, items * count)
        for s in range(count):
            place = buffer.at(s * items, low.dtype.itemsize)
            self.slots[layer, named, s] = replace(parameter, buffer=place)
        return buffer

    def _transpose(self, node: Node) -> None:
        """Bring the transpose of a dense kernel up to date."""
        low = self._low
        transposed = low.parameters.transpose_of(node)
        if transposed and low.parameters.is_trained(*node.step.key_of("kernel")):
            low.add("transpose_weights", weights=low.block(node, "kernel"),
                    weight_depth=padded(node.input_shape[-1], low.dtype), out=transposed.buffer,
                    out_depth=padded(node.width, low.dtype), panels=low.panels(node.width))

    def _step(self, node: Node, name: str, gradient: Buffer, vectors: int) -> None:
        parameter = self._low.block(node, name)
        self._shrink(parameter, vectors)
        self._low.add(f"update_{self._optimizer.kernel}", param=parameter, grad=gradient,
                      slots=self._slots(node, name), constants=self._constants, panels=vectors)
        self._follow(node, name)

    def _follow(self, node: Node, name: str) -> None:
        """Bring the points of a convolution's kernel up to date."""
        low = self._low
        points = low.parameters.points_of(node) if name == "kernel" else None
        if points:
            layout = low.parameters.of(node, name).layout
            assert isinstance(layout, ConvLayout)
            low.add_points(low.block(node, name), layout.pixel, layout.filters, points.buffer)

    def _shrink(self, parameter: Buffer, vectors: int) -> None:
        if self._shrinks:
            self._low.add("shrink_columns", param=parameter, panels=vectors)

    def _emit_clipped(self) -> None:
        """Bound the gradients, then take the steps that waited for it."""
        optimizer, low = self._optimizer, self._low
        norm = low.program.buffer("squared_norm", Segment.WORK, 1, itemsize=8)
        for k, (_, _, gradient, vectors) in enumerate(self._clipped):
            if optimizer.clipvalue:
                low.add("clip_by_value", grad=gradient, bound=optimizer.clipvalue, panels=vectors)
            else:
                restart = int(k == 0 or bool(optimizer.clipnorm))
                low.add("add_to_gradient_norm", grad=gradient, squared_norm=norm, restart=restart,
                        panels=vectors)
            if optimizer.clipnorm:
                self._clip_by_norm(gradient, norm, optimizer.clipnorm, vectors)
        for node, name, gradient, vectors in self._clipped:
            if optimizer.global_clipnorm:
                self._clip_by_norm(gradient, norm, optimizer.global_clipnorm, vectors)
            self._step(node, name, gradient, vectors)
            if name == "kernel":
                self._transpose(node)

    def _clip_by_norm(self, gradient: Buffer, norm: Buffer, bound: float, vectors: int) -> None:
        self._low.add("clip_by_gradient_norm", grad=gradient, squared_norm=norm, bound=bound,
                      panels=vectors)


def _centres(node: Node) -> bool:
    """Whether a node takes the mean of the batch away."""
    return isinstance(node.operation, BatchNorm) and not node.operation.uses_running
