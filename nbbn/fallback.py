"""Inference on NumPy alone, for where numba is not: every layer in a few lines, on blocks of rows.

A layer is a function `(layer, arrays, x) -> y` of rows of its dtype; it may use up `x`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

from nbbn.layers import (
    ELU,
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    Input,
    Layer,
    LayerNormalization,
    LeakyReLU,
    MaxPooling2D,
    ReLU,
    Reshape,
    Softmax,
    ZeroPadding2D,
)
from nbbn.network import Network

# Numbers of the largest activation of a block of rows: what is in memory does not grow with the rows.
_BLOCK_NUMBERS = 1 << 21
_BLOCK_ROWS = 4096
# Klambauer, Unterthiner, Mayr and Hochreiter (2017), eq. 2.
_SELU_ALPHA, _SELU_SCALE = 1.6732632423543772, 1.0507009873554805


class NumpyBlocks:
    """A network ready for any number of rows, from any number of Python threads at once.

    Parameters
    ----------
    network : Network
        Of any layers.
    """

    def __init__(self, network: Network):
        self._network, self._shapes = network, network.shapes
        largest = max(math.prod(shape) for shape in self._shapes)
        self._block = max(1, min(_BLOCK_ROWS, _BLOCK_NUMBERS // largest))

    def run(self, x: np.ndarray) -> np.ndarray:
        """Outputs `(rows, numbers of an output)` for numeric rows."""
        out = np.empty((len(x), math.prod(self._shapes[-1])), self._network.dtype)
        # As the kernels do, without a word on what overflows.
        with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
            for first in range(0, len(x), self._block):
                part = slice(first, first + self._block)
                out[part] = self._outputs(x[part]).reshape(len(out[part]), -1)
        return out

    def _outputs(self, x: np.ndarray) -> np.ndarray:
        x = x.reshape(len(x), *self._shapes[0]).astype(self._network.dtype)
        for layer, arrays, shape in zip(self._network.layers, self._network.weights, self._shapes[1:]):
            x = _LAYERS[type(layer)](layer, arrays, x).reshape(len(x), *shape)
            x = activate(getattr(layer, "activation", "linear"), x)
        return x


# -- activations


def _sigmoid(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, x.dtype.type(1)) / (1 + e)


def _elu(x, alpha=1.0):
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _gelu(x):
    from scipy.special import erf

    # In float64, as the kernel does: 1 + erf(x) cancels.
    return (x * (0.5 * (1 + erf(x.astype(np.float64) / math.sqrt(2))))).astype(x.dtype)


def _leaky_relu(x, slope=0.2):
    return np.where(x > 0, x, slope * x)


def _softmax(x, axes):
    e = np.exp(x - x.max(axes, keepdims=True))
    return e / e.sum(axes, keepdims=True)


_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "selu": lambda x: _SELU_SCALE * _elu(x, _SELU_ALPHA),
    "gelu": _gelu,
    "silu": lambda x: x * _sigmoid(x),
    "softplus": lambda x: np.logaddexp(x, 0),
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "softmax": lambda x: _softmax(x, -1),
    "exponential": np.exp,
}


def activate(name: str, x: np.ndarray) -> np.ndarray:
    """The activation of this name; softmax over the last axis."""
    return _ACTIVATIONS[name](x)


def _relu(layer, arrays, x):
    below = layer.negative_slope * (x - layer.threshold)
    return np.where(x > layer.threshold, np.minimum(x, math.inf if layer.max_value is None else layer.max_value), below)


# -- dense layers and convolutions


def _dense(layer, arrays, x):
    return x @ arrays["kernel"] + arrays.get("bias", 0)


def _cells(layer, kernel_size, strides, count) -> Iterator[tuple[int, int, tuple]]:
    """Each cell of a window: its place, and the slices of the (padded) image that it meets as the window slides."""
    dilation = getattr(layer, "dilation_rate", (1, 1))
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            starts = (i * dilation[0], j * dilation[1])
            slices = (slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(starts, strides, count))
            yield i, j, (slice(None), *slices)


def _padded(x, pads, value=0.0):
    return np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=value)


def _conv(layer, arrays, x):
    out = layer.output_shape(x.shape[1:])
    y = np.zeros((len(x), *out), x.dtype)
    x, kernel, groups = _padded(x, layer.pads(x.shape[1:])), arrays["kernel"], layer.groups
    deep, wide = kernel.shape[2], kernel.shape[3] // groups
    for i, j, cell in _cells(layer, layer.kernel_size, layer.strides, out):
        for g in range(groups):
            filters = slice(g * wide, (g + 1) * wide)
            y[..., filters] += x[cell][..., g * deep : (g + 1) * deep] @ kernel[i, j, :, filters]
    return y + arrays.get("bias", 0)


def _depthwise(layer, arrays, x):
    out = layer.output_shape(x.shape[1:])
    x, kernel = _padded(x, layer.pads(x.shape[1:])), arrays["kernel"]
    y = np.zeros((len(x), *out[:2], *kernel.shape[2:]), x.dtype)
    for i, j, cell in _cells(layer, layer.kernel_size, layer.strides, out):
        y += x[cell][..., None] * kernel[i, j]
    return y.reshape(len(x), *out) + arrays.get("bias", 0)


def _transposed(layer, arrays, x):
    out, crops = layer.output_shape(x.shape[1:]), layer.crops(x.shape[1:])
    # All that the kernel writes, and zeros where the output reaches beyond it.
    whole = [n + before + max(after, 0) for n, (before, after) in zip(out, crops)]
    y = np.zeros((len(x), *whole, out[2]), x.dtype)
    for i, j, cell in _cells(layer, layer.kernel_size, layer.strides, x.shape[1:3]):
        y[cell] += x @ arrays["kernel"][i, j].T
    (top, _), (left, _) = crops
    return y[:, top : top + out[0], left : left + out[1]] + arrays.get("bias", 0)


# -- norms


def _along(axis: int, rank: int) -> list[int]:
    """The shape of an array of one axis that is to meet axis `axis` of rows."""
    return [-1 if k == axis % rank else 1 for k in range(rank)]


def _batch_norm(layer, arrays, x):
    shape = _along(layer.axis, x.ndim)
    gain = arrays.get("gamma", 1.0) / np.sqrt(arrays["var"].astype(np.float64) + layer.epsilon)
    y = (x - arrays["mean"].reshape(shape)) * gain.astype(x.dtype).reshape(shape)
    return y + arrays["beta"].reshape(shape) if "beta" in arrays else y


def _standardised(x, axes, epsilon):
    """In float64, as the kernel does."""
    x = x.astype(np.float64)
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)


def _scaled(y, arrays, shape, dtype):
    for name, operation in (("gamma", np.multiply), ("beta", np.add)):
        if name in arrays:
            y = operation(y, arrays[name].reshape(shape))
    return y.astype(dtype)


def _layer_norm(layer, arrays, x):
    axes = tuple(axis + 1 for axis in layer.axes(x.shape[1:]))
    shape = [n if k in axes else 1 for k, n in enumerate(x.shape)]
    return _scaled(_standardised(x, axes, layer.epsilon), arrays, shape, x.dtype)


def _group_norm(layer, arrays, x):
    last = np.moveaxis(x, layer.axis, -1)
    groups = last.reshape(len(x), -1, layer.group_count(x.shape[1:]), last.shape[-1] // layer.group_count(x.shape[1:]))
    y = np.moveaxis(_standardised(groups, (1, 3), layer.epsilon).reshape(last.shape), -1, layer.axis)
    return _scaled(y, arrays, _along(layer.axis, x.ndim), x.dtype)


# -- pools


def _max_pool(layer, arrays, x):
    out = layer.output_shape(x.shape[1:])
    x = _padded(x, layer.pads(x.shape[1:]), -math.inf)
    y = np.full((len(x), *out), -math.inf, x.dtype)
    for _, _, cell in _cells(layer, layer.pool_size, layer.strides, out):
        np.maximum(y, x[cell], out=y)
    return y


def _average_pool(layer, arrays, x):
    out, pads = layer.output_shape(x.shape[1:]), layer.pads(x.shape[1:])
    inside = _padded(np.ones((1, *x.shape[1:3], 1), x.dtype), pads)
    x = _padded(x, pads)
    y, count = np.zeros((len(x), *out), x.dtype), np.zeros((1, *out[:2], 1), x.dtype)
    for _, _, cell in _cells(layer, layer.pool_size, layer.strides, out):
        y += x[cell]
        count += inside[cell]
    return y / count


def _same(layer, arrays, x):
    """Another shape of the same numbers, or nothing at all in inference."""
    return x


_LAYERS: dict[type[Layer], Callable] = {
    Dense: _dense,
    Conv2D: _conv,
    DepthwiseConv2D: _depthwise,
    Conv2DTranspose: _transposed,
    BatchNormalization: _batch_norm,
    LayerNormalization: _layer_norm,
    GroupNormalization: _group_norm,
    MaxPooling2D: _max_pool,
    AveragePooling2D: _average_pool,
    GlobalMaxPooling2D: lambda layer, arrays, x: x.max((1, 2)),
    GlobalAveragePooling2D: lambda layer, arrays, x: x.mean((1, 2)),
    ZeroPadding2D: lambda layer, arrays, x: _padded(x, layer.padding),
    ReLU: _relu,
    LeakyReLU: lambda layer, arrays, x: _leaky_relu(x, layer.negative_slope),
    ELU: lambda layer, arrays, x: _elu(x, layer.alpha),
    Softmax: lambda layer, arrays, x: _softmax(x, tuple(axis + 1 for axis in layer.axes(x.shape[1:]))),
    **dict.fromkeys((Activation, Flatten, Reshape, Input, Dropout, GaussianNoise), _same),
}
