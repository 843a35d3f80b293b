"""Inference on NumPy alone, for where numba is not, on blocks of rows.

An operation is a function `(step, arrays, x) -> y` of rows of the network's dtype.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator

import numpy as np

from nbbn import operations as op
from nbbn.activations import ELEMENTWISE
from nbbn.network import Network, Weights
from nbbn.operations import Operation, Pair, Sides, Step, Window
from nbbn.sparse_rows import SparseRows

# Numbers of the largest activation of a block: what is in memory does not grow with the rows.
_BLOCK_NUMBERS, _BLOCK_ROWS = 1 << 21, 4096
Arrays = dict[str, np.ndarray]


class NumpyBlocks:
    """A network ready for any number of rows, from any number of Python threads at once."""

    def __init__(self, network: Network):
        self._computation, self._weights = network.computation(), network.weights
        self._dtype = network.dtype
        shapes = [network.input_shape, *(step.output_shape for step in self._computation.steps)]
        largest = max(math.prod(shape) for shape in shapes)
        self._block = max(1, min(_BLOCK_ROWS, _BLOCK_NUMBERS // largest))

    def with_weights(self, weights: Weights) -> NumpyBlocks:
        """The same network with other weights."""
        other = copy.copy(self)
        other._weights = weights
        return other

    def run(self, x: np.ndarray | SparseRows) -> np.ndarray:
        """Outputs `(rows, numbers of an output)` for numeric rows."""
        out = np.empty((len(x), math.prod(self._computation.output_shape)), self._dtype)
        # As the kernels do, without a word on what overflows.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for first in range(0, len(x), self._block):
                part = slice(first, first + self._block)
                rows = x[part]
                rows = rows.toarray() if isinstance(rows, SparseRows) else rows
                out[part] = self._outputs(rows).reshape(len(rows), -1)
        return out

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        steps = self._computation.steps
        results = {-1: x.reshape(len(x), *self._computation.input_shape).astype(self._dtype)}
        needed = {source: i for i, step in enumerate(steps) for source in step.sources}
        for i, step in enumerate(steps):
            sources = [results[source] for source in step.sources]
            arrays = step.view(self._weights[step.layer])
            results[i] = OPERATIONS[type(step.operation)](step, arrays, *sources)
            for source in {*step.sources}:
                if needed[source] == i:
                    del results[source]
        return results[len(steps) - 1]


# -- dense layers and convolutions


def _dense(step: Step[op.Dense], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    return x @ arrays["kernel"] + arrays.get("bias", 0)


def _cells(window: Window, count: Pair) -> Iterator[tuple[int, int, tuple[slice, slice, slice]]]:
    """Each tap of a window: its place, and what it meets of the (padded) images as it slides."""
    for i in range(window.size[0]):
        for j in range(window.size[1]):
            starts = (i * window.dilation[0], j * window.dilation[1])
            along = zip(starts, window.strides, count)
            down, right = (slice(a, a + s * (n - 1) + 1, s) for a, s, n in along)
            yield i, j, (slice(None), down, right)


def _padded(x: np.ndarray, sides: Sides, value: float = 0.0) -> np.ndarray:
    return np.pad(x, ((0, 0), *sides, (0, 0)), constant_values=value)


def _convolve(step: Step[op.Convolve], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    window, groups, out = step.operation.window, step.operation.groups, step.output_shape
    y = np.zeros((len(x), *out), x.dtype)
    x, kernel = _padded(x, window.sides), arrays["kernel"]
    deep, wide = kernel.shape[2], kernel.shape[3] // groups
    for i, j, cell in _cells(window, (out[0], out[1])):
        for g in range(groups):
            filters = slice(g * wide, (g + 1) * wide)
            y[..., filters] += x[cell][..., g * deep : (g + 1) * deep] @ kernel[i, j, :, filters]
    return y + arrays.get("bias", 0)


def _depthwise(step: Step[op.ConvolveDepthwise], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    window, (height, width, _) = step.operation.window, step.output_shape
    x, kernel = _padded(x, window.sides), arrays["kernel"]
    y = np.zeros((len(x), height, width, *kernel.shape[2:]), x.dtype)
    for i, j, cell in _cells(window, (height, width)):
        y += x[cell][..., None] * kernel[i, j]
    return y.reshape(len(x), *step.output_shape) + arrays.get("bias", 0)


def _transposed(step: Step[op.ConvolveTransposed], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    window, out = step.operation.window, step.output_shape
    # All that the kernel writes, and zeros where the output reaches beyond it.
    whole = [n + before + max(after, 0) for n, (before, after) in zip(out, window.sides)]
    y = np.zeros((len(x), *whole, out[2]), x.dtype)
    for i, j, cell in _cells(window, (x.shape[1], x.shape[2])):
        y[cell] += x @ arrays["kernel"][i, j].T
    (top, _), (left, _) = window.sides
    return y[:, top : top + out[0], left : left + out[1]] + arrays.get("bias", 0)


# -- norms


def _batch_norm(step: Step[op.BatchNorm], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    variance = arrays["var"].astype(np.float64) + step.operation.epsilon
    gain = arrays.get("gamma", 1.0) / np.sqrt(variance)
    y = (x - arrays["mean"]) * gain.astype(x.dtype)
    return y + arrays["beta"] if "beta" in arrays else y


def _row_norm(step: Step[op.RowNorm], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    """In float64, as the kernel does."""
    pixels, channels = step.operation.pixels, step.operation.channels
    sets = x.astype(np.float64).reshape(len(x), -1, pixels, x.shape[-1] // channels, channels)
    variance = sets.var((2, 4), keepdims=True) + step.operation.epsilon
    y = ((sets - sets.mean((2, 4), keepdims=True)) / np.sqrt(variance)).reshape(x.shape)
    if "gamma" in arrays:
        y = y * arrays["gamma"].reshape(-1)
    if "beta" in arrays:
        y = y + arrays["beta"].reshape(-1)
    return y.astype(x.dtype)


# -- pools


def _pool(step: Step[op.Pool], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    window, out, of_maxima = step.operation.window, step.output_shape, step.operation.kind == "max"
    if step.operation.is_global(step.input_shape):
        return (np.max if of_maxima else np.mean)(x, (1, 2), keepdims=True)
    combine, first = (np.maximum, -math.inf) if of_maxima else (np.add, 0.0)
    y, x = np.full((len(x), *out), first, x.dtype), _padded(x, window.sides, first)
    cells = [cell for _, _, cell in _cells(window, (out[0], out[1]))]
    for cell in cells:
        combine(y, x[cell], out=y)
    if of_maxima:
        return y
    inside = _padded(np.ones((1, *step.input_shape[:2], 1), x.dtype), window.sides)
    return y / sum(inside[cell] for cell in cells)


# -- number by number, and moves


def _elementwise(step: Step[op.Elementwise], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    return ELEMENTWISE[step.operation.function](x, *step.operation.numbers)


def softmax(x: np.ndarray) -> np.ndarray:
    """`exp(x) / sum(exp(x))` over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def _softmax(step: Step[op.Softmax], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    if not step.operation.log:
        return softmax(x)
    x = x - x.max(-1, keepdims=True)
    return x - np.log(np.exp(x).sum(-1, keepdims=True))


def _affine(step: Step[op.Affine], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    numbers = step.operation.of_channels(x.shape[-1])
    scale, offset, mean = (numbers[name].astype(x.dtype) for name in ("scale", "offset", "mean"))
    return (x - mean) * scale + offset


def _prelu(step: Step[op.PRelu], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, x, arrays["alpha"] * x)


def _embed(step: Step[op.Embed], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    return arrays["embeddings"].take(x.astype(np.int64), 0, mode="clip")


# Keras's epsilon.
_LEAST_NORM = 1e-7


def _dot(step: Step[op.Dot], arrays: Arrays, *xs: np.ndarray) -> np.ndarray:
    x, y = (x.reshape(len(x), -1, x.shape[-1]) for x in xs)
    if step.operation.cosine:
        x, y = (x / np.maximum(np.sqrt((x * x).sum(-1, keepdims=True)), x.dtype.type(_LEAST_NORM))
                for x in (x, y))
    return (x @ y.transpose(0, 2, 1)).reshape(len(x), *step.output_shape)


def _permute(step: Step[op.Permute], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    return x.transpose(0, *(axis + 1 for axis in step.operation.order))


def _pad(step: Step[op.Pad], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    sides = step.operation.sides
    top_left, bottom_right = ([max(-side[end], 0) for side in sides] for end in (0, 1))
    inner = [slice(a, n - b) for a, b, n in zip(top_left, bottom_right, step.input_shape)]
    (top, bottom), (left, right) = ((max(a, 0), max(b, 0)) for a, b in sides)
    return _padded(x[(slice(None), *inner)], ((top, bottom), (left, right)))


def _repeat(step: Step[op.Repeat], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    for axis, times in enumerate(step.operation.times, 1):
        x = x.repeat(times, axis) if times > 1 else x
    return x


_COMBINED = {"add": np.add, "subtract": np.subtract, "multiply": np.multiply,
             "maximum": np.maximum, "minimum": np.minimum}


def _combine(step: Step[op.Combine], arrays: Arrays, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    rank = len(step.output_shape)
    x, y = (a.reshape(len(a), *(1,) * (rank + 1 - a.ndim), *a.shape[1:]) for a in (x, y))
    return _COMBINED[step.operation.kind](x, y)


def _concatenate(step: Step[op.Concatenate], arrays: Arrays, *xs: np.ndarray) -> np.ndarray:
    return np.concatenate(xs, step.operation.axis + 1)


def _part(step: Step[op.Part], arrays: Arrays, x: np.ndarray) -> np.ndarray:
    first, size = step.operation.first, math.prod(step.output_shape)
    return x.reshape(len(x), -1)[:, first : first + size].reshape(len(x), *step.output_shape)


OPERATIONS: dict[type[Operation], Callable[..., np.ndarray]] = {
    op.Dense: _dense, op.Convolve: _convolve, op.ConvolveTransposed: _transposed,
    op.ConvolveDepthwise: _depthwise, op.Pool: _pool, op.BatchNorm: _batch_norm,
    op.RowNorm: _row_norm, op.Elementwise: _elementwise,
    op.Softmax: _softmax, op.Permute: _permute,
    op.Reshape: lambda step, arrays, x: x.reshape(len(x), *step.output_shape),
    op.Pad: _pad, op.Affine: _affine, op.PRelu: _prelu, op.Embed: _embed, op.Dot: _dot,
    op.Repeat: _repeat, op.Combine: _combine, op.Concatenate: _concatenate, op.Part: _part,
    op.Disturb: lambda step, arrays, x: x,
}
