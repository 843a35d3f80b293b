"""The oracle for networks of layers.

NumPy alone, float64, written from Keras 3's definitions and never from the library.

A layer is any object whose class is named as in Keras and whose attributes are Keras's arguments;
`describe` makes one. Arrays have rows first and channels last. Each layer is a function `(layer, x,
weights, training)` that returns its output and its `backward`, which maps the gradient of the
output to that of the input and those of the weights by name. Everything here is slow and short on
purpose.
"""

from __future__ import annotations

import math
import re

import numpy as np

# Of a layer's arrays in Keras's `get_weights`.
ORDER = (
    "kernel", "depthwise_kernel", "pointwise_kernel", "bias", "gamma", "beta", "mean", "var",
    "alpha", "embeddings",
)
STATISTICS = ("mean", "var")


# Layers, losses and optimisers by name


_NORM = {"axis": -1, "epsilon": 1e-3, "center": True, "scale": True, "trainable": True}
_WINDOW = {"strides": 1, "padding": "valid", "dilation_rate": 1}
_AFFINE = {"activation": None, "use_bias": True, "trainable": True}
_POOL = {"pool_size": 2, "strides": None, "padding": "valid"}
_LOSS = {"from_logits": False, "label_smoothing": 0.0}
_OPTIMIZER = {
    "weight_decay": None, "clipnorm": None, "global_clipnorm": None, "clipvalue": None,
    "gradient_accumulation_steps": None,
}
_ADAM = {
    **_OPTIMIZER, "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7,
    "amsgrad": False,
}

# Keras's defaults of the arguments that change a number.
DEFAULTS = {
    "Dense": _AFFINE,
    "Conv2D": {**_AFFINE, **_WINDOW, "groups": 1},
    "DepthwiseConv2D": {**_AFFINE, **_WINDOW, "depth_multiplier": 1},
    "Conv2DTranspose": {**_AFFINE, **_WINDOW, "output_padding": None},
    "SeparableConv2D": {**_AFFINE, **_WINDOW, "depth_multiplier": 1},
    "Conv1D": {**_AFFINE, **_WINDOW, "groups": 1},
    "DepthwiseConv1D": {**_AFFINE, **_WINDOW, "depth_multiplier": 1},
    "Conv1DTranspose": {**_AFFINE, **_WINDOW, "output_padding": None},
    "SeparableConv1D": {**_AFFINE, **_WINDOW, "depth_multiplier": 1},
    "BatchNormalization": {**_NORM, "momentum": 0.99},
    "LayerNormalization": _NORM,
    "GroupNormalization": {**_NORM, "groups": 32},
    "Activation": {},
    "ReLU": {"max_value": None, "negative_slope": 0.0, "threshold": 0.0},
    "LeakyReLU": {"negative_slope": 0.3},
    "ELU": {"alpha": 1.0},
    "PReLU": {"shared_axes": None, "trainable": True},
    "Rescaling": {"offset": 0.0},
    "Normalization": {"axis": -1, "mean": None, "variance": None, "invert": False},
    "Embedding": {"trainable": True},
    "Softmax": {"axis": -1},
    "MaxPooling2D": _POOL,
    "AveragePooling2D": _POOL,
    "GlobalMaxPooling2D": {"keepdims": False},
    "GlobalAveragePooling2D": {"keepdims": False},
    "MaxPooling1D": _POOL,
    "AveragePooling1D": {"strides": None, "padding": "valid"},
    "GlobalMaxPooling1D": {"keepdims": False},
    "GlobalAveragePooling1D": {"keepdims": False},
    "Dropout": {},
    "GaussianNoise": {},
    "Flatten": {},
    "Reshape": {},
    "ZeroPadding2D": {"padding": 1},
    "UpSampling2D": {"size": 2, "interpolation": "nearest"},
    "ZeroPadding1D": {"padding": 1},
    "UpSampling1D": {"size": 2},
    "Cropping1D": {"cropping": 1},
    "Cropping2D": {"cropping": 0},
    "Permute": {},
    "RepeatVector": {},
    "SpatialDropout1D": {},
    "SpatialDropout2D": {},
    "SparseCategoricalCrossentropy": {"from_logits": False},
    "CategoricalCrossentropy": _LOSS,
    "BinaryCrossentropy": _LOSS,
    "MeanSquaredError": {},
    "MeanAbsoluteError": {},
    "Huber": {"delta": 1.0},
    "SGD": {**_OPTIMIZER, "learning_rate": 0.01, "momentum": 0.0, "nesterov": False},
    "RMSprop": {
        **_OPTIMIZER, "learning_rate": 0.001, "rho": 0.9, "momentum": 0.0, "epsilon": 1e-7,
        "centered": False,
    },
    "Adam": _ADAM,
    "Nadam": _ADAM,
    "Adamax": _ADAM,
    "Adagrad": {**_OPTIMIZER, "learning_rate": 0.001, "initial_accumulator_value": 0.1,
                "epsilon": 1e-7},
    "Adadelta": {**_OPTIMIZER, "learning_rate": 0.001, "rho": 0.95, "epsilon": 1e-7},
    "Lion": {**_OPTIMIZER, "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.99},
    "Ftrl": {**_OPTIMIZER, "learning_rate": 0.001, "initial_accumulator_value": 0.1,
             "l1_regularization_strength": 0.0, "l2_regularization_strength": 0.0,
             "l2_shrinkage_regularization_strength": 0.0, "beta": 0.0},
    "AdamW": {**_ADAM, "weight_decay": 0.004},
    "L1": {"l1": 0.01},
    "L2": {"l2": 0.01},
    "L1L2": {"l1": 0.0, "l2": 0.0},
}


def describe(kind, **arguments):
    """An object of a class named `kind` that holds the arguments, and Keras's defaults of the
    others.
    """
    described = type(kind, (), {})()
    vars(described).update({**DEFAULTS[kind], **arguments})
    return described


def kind_of(thing):
    """The name of its class."""
    return type(thing).__name__


# Activations: functions of x that return `(y, backward)`


def sigmoid(z):
    """`1 / (1 + exp(-z))`, without overflow for any z."""
    e = np.exp(-np.abs(z))
    return np.where(z >= 0, 1, e) / (1 + e)


def _gelu(z):
    return z * _normal_cdf(z), _normal_cdf(z) + z * np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def _normal_cdf(z):
    return 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))


def _elu(z, alpha=1.0):
    e = alpha * np.exp(np.minimum(z, 0))
    return np.where(z > 0, z, e - alpha), np.where(z > 0, 1.0, e)


def _selu(z):
    scale, alpha = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717
    y, slope = _elu(z, alpha)
    return scale * y, scale * slope


def _relu(z, max_value=None, negative_slope=0.0, threshold=0.0):
    """Above the threshold z itself, up to `max_value`.

    At and below it a line of the negative slope through the threshold.
    """
    above, most = z > threshold, math.inf if max_value is None else max_value
    y = np.where(above, np.minimum(z, most), negative_slope * (z - threshold))
    return y, np.where(above, np.where(z < most, 1.0, 0.0), negative_slope)


def _sigmoid(z):
    s = sigmoid(z)
    return s, s * (1 - s)


def _silu(z):
    s = sigmoid(z)
    return z * s, s + z * s * (1 - s)


def _mish(z):
    t = np.tanh(np.logaddexp(0, z))
    return z * t, t + z * sigmoid(z) * (1 - t**2)


def _clip_between(z, low, high):
    return np.clip(z, low, high), np.where((z > low) & (z < high), 1.0, 0.0)


def _hard_sigmoid(z):
    return np.clip((z + 3) / 6, 0, 1), np.where(np.abs(z) < 3, 1 / 6, 0.0)


def _hard_silu(z):
    s, slope = _hard_sigmoid(z)
    return z * s, s + z * slope


def _sparse_plus(z):
    y = np.where(z <= -1, 0, np.where(z < 1, (z + 1) ** 2 / 4, z))
    return y, np.where(z <= -1, 0, np.where(z < 1, (z + 1) / 2, 1.0))


def _shrink(z, bias):
    outside = np.abs(z) > 0.5
    return np.where(outside, z - bias * np.sign(z), 0.0), np.where(outside, 1.0, 0.0)


def _squareplus(z):
    root = np.sqrt(z**2 + 4)
    y = np.where(z > 0, (z + root) / 2, 2 / (root - z))  # the same, without a difference
    return y, y / root


# Each returns the value and the derivative.
ELEMENTWISE = {
    "linear": lambda z: (z, np.ones_like(z)), "relu": _relu,
    "leaky_relu": lambda z: _relu(z, negative_slope=0.2), "elu": _elu, "selu": _selu, "gelu": _gelu,
    "silu": _silu, "softplus": lambda z: (np.logaddexp(0, z), sigmoid(z)), "sigmoid": _sigmoid,
    "tanh": lambda z: (np.tanh(z), 1 - np.tanh(z) ** 2),
    "softsign": lambda z: (z / (1 + np.abs(z)), 1 / (1 + np.abs(z)) ** 2), "mish": _mish,
    "exponential": lambda z: (np.exp(z), np.exp(z)), "relu6": lambda z: _clip_between(z, 0, 6),
    "hard_sigmoid": _hard_sigmoid, "hard_silu": _hard_silu,
    "hard_tanh": lambda z: _clip_between(z, -1, 1), "hard_shrink": lambda z: _shrink(z, 0.0),
    "soft_shrink": lambda z: _shrink(z, 0.5),
    "tanh_shrink": lambda z: (z - np.tanh(z), np.tanh(z) ** 2),
    "log_sigmoid": lambda z: (-np.logaddexp(0, -z), sigmoid(-z)), "sparse_plus": _sparse_plus,
    "sparse_sigmoid": lambda z: (np.clip((z + 1) / 2, 0, 1), np.where(np.abs(z) < 1, 0.5, 0.0)),
    "squareplus": _squareplus,
}


def elementwise(function, x):
    """Output and `backward` of a function that returns value and derivative."""
    y, slope = function(x)
    return y, lambda dy: dy * slope


def softmax(x, axis=-1):
    """`exp(x) / sum(exp(x))` along an axis, and its `backward`."""
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    y = e / e.sum(axis=axis, keepdims=True)
    return y, lambda dy: y * (dy - (dy * y).sum(axis=axis, keepdims=True))


def log_softmax(x):
    """`x - log(sum(exp(x)))` along the last axis, and its `backward`."""
    top = x.max(axis=-1, keepdims=True)
    y = x - top - np.log(np.exp(x - top).sum(axis=-1, keepdims=True))
    return y, lambda dy: dy - np.exp(y) * dy.sum(axis=-1, keepdims=True)


def activate(name, x):
    """The activation of this name (None is linear)."""
    if name == "log_softmax":
        return log_softmax(x)
    return softmax(x) if name == "softmax" else elementwise(ELEMENTWISE[name or "linear"], x)


# Affine layers


def _affine(layer, y, w, backward_affine):
    """Bias and activation after a linear map whose own `backward` is given."""
    z = y + w["bias"] if "bias" in w else y
    y, backward_activation = activate(layer.activation, z)

    def backward(dy):
        dz = backward_activation(dy)
        dx, dkernel = backward_affine(dz)
        bias = {"bias": dz.reshape(-1, dz.shape[-1]).sum(axis=0)} if "bias" in w else {}
        return dx, {"kernel": dkernel, **bias}

    return y, backward


def dense(layer, x, w, training):
    """`activation(x @ kernel + bias)` along the last axis, at any rank."""
    kernel = w["kernel"]

    def backward(dz):
        return dz @ kernel.T, x.reshape(-1, x.shape[-1]).T @ dz.reshape(-1, dz.shape[-1])

    return _affine(layer, x @ kernel, w, backward)


def pair(value):
    """`(height, width)` of a number or a pair."""
    return (value, value) if np.isscalar(value) else tuple(value)


def _windows(sizes, kernel_size, strides, padding, dilation=(1, 1)):
    """Per axis the number of windows, and how many cells are padded before and after."""
    counts, pads = [], []
    for size, k, stride, step in zip(sizes, kernel_size, strides, dilation):
        extent = (k - 1) * step + 1
        if padding == "same":
            count = math.ceil(size / stride)
            total = max((count - 1) * stride + extent - size, 0)
            pads.append((total // 2, total - total // 2))
        elif padding == "causal":
            count = (size - 1) // stride + 1
            pads.append((extent - 1, 0))
        else:
            count = (size - extent) // stride + 1
            pads.append((0, 0))
        counts.append(count)
    return counts, [(0, 0), *pads, (0, 0)]


def _taps(counts, kernel_size, strides, dilation=(1, 1)):
    """For each cell `(i, j)` of the kernel, the index of all the pixels that it meets, one per
    window.
    """
    for i in range(kernel_size[0]):
        for j in range(kernel_size[1]):
            starts = i * dilation[0], j * dilation[1]
            yield (
                (i, j),
                (
                    slice(None),
                    *(slice(a, a + (n - 1) * s + 1, s) for a, n, s in zip(starts, counts, strides)),
                ),
            )


def _unpad(x, pads):
    return x[tuple(slice(before, size - after) for size, (before, after) in zip(x.shape, pads))]


def _convolution(layer, x, w, kernel, groups):
    """Correlation with a kernel `(kh, kw, in / groups, out)`.

    Both channel axes fall into `groups` consecutive parts.
    """
    size, strides, dilation = kernel.shape[:2], pair(layer.strides), pair(layer.dilation_rate)
    counts, pads = _windows(x.shape[1:3], size, strides, layer.padding, dilation)
    padded = np.pad(x, pads)
    parts = padded.reshape(*padded.shape[:3], groups, -1)
    kernels = kernel.reshape(*kernel.shape[:3], groups, -1)
    taps = list(_taps(counts, size, strides, dilation))
    y = sum(np.einsum("nhwgc,cgf->nhwgf", parts[at], kernels[ij]) for ij, at in taps)

    def backward(dz):
        dz = dz.reshape(y.shape)
        dparts, dkernels = np.zeros_like(parts), np.zeros_like(kernels)
        for ij, at in taps:
            dkernels[ij] = np.einsum("nhwgc,nhwgf->cgf", parts[at], dz)
            dparts[at] += np.einsum("nhwgf,cgf->nhwgc", dz, kernels[ij])
        return _unpad(dparts.reshape(padded.shape), pads), dkernels.reshape(w["kernel"].shape)

    return _affine(layer, y.reshape(*y.shape[:3], -1), w, backward)


def conv2d(layer, x, w, training):
    """Kernel `(kh, kw, in / groups, filters)`."""
    return _convolution(layer, x, w, w["kernel"], layer.groups)


def depthwise_conv2d(layer, x, w, training):
    """Kernel `(kh, kw, in, multiplier)`.

    Output channel `c * multiplier + m` is input channel c by kernel m.
    """
    kernel = w["kernel"]
    return _convolution(layer, x, w, kernel.reshape(*kernel.shape[:2], 1, -1), groups=x.shape[-1])


def separable_conv(layer, x, w, training):
    """Kernels `(kh, kw, in, multiplier)` and `(1, 1, in * multiplier, filters)`."""
    window = {name: getattr(layer, name) for name in _WINDOW}
    depthwise = describe("DepthwiseConv2D", **window)
    mixed, backward_depthwise = depthwise_conv2d(
        depthwise, x, {"kernel": w["depthwise_kernel"]}, training
    )
    bias = {"bias": w["bias"]} if "bias" in w else {}
    y, backward_mix = conv2d(
        describe("Conv2D", activation=layer.activation), mixed,
        {"kernel": w["pointwise_kernel"], **bias}, training,
    )

    def backward(dy):
        dmixed, of_mix = backward_mix(dy)
        dx, of_depthwise = backward_depthwise(dmixed)
        kernels = {
            "depthwise_kernel": of_depthwise["kernel"], "pointwise_kernel": of_mix.pop("kernel"),
        }
        return dx, {**kernels, **of_mix}

    return y, backward


# What is of images takes these of a layer over steps so.
_SINGLE = ("kernel_size", "strides", "dilation_rate", "pool_size", "size", "output_padding")
_OF_LINES = {**dict.fromkeys(_SINGLE, 1), **dict.fromkeys(_SINGLE[-1:], 0), "padding": 0,
             "cropping": 0}


def single(value):
    """A number, which may stand in a list."""
    return value if np.isscalar(value) else value[0]


def of_steps(function):
    """A layer over steps: of images one line high."""

    def run(layer, x, w, training):
        given = {
            name: (of_height, single(value) if name in _SINGLE else value)
            for name, of_height in _OF_LINES.items()
            if not isinstance(value := getattr(layer, name, None), str | type(None))
        }
        image = type(kind_of(layer), (), {})()
        vars(image).update({**vars(layer), **given})
        high = {name: a[None] if name.endswith("kernel") else a for name, a in w.items()}
        y, backward = function(image, x[:, None], high, training)

        def backward_of_steps(dy):
            dx, grads = backward(dy[:, None])
            return dx[:, 0], {n: g[0] if n.endswith("kernel") else g for n, g in grads.items()}

        return y[:, 0], backward_of_steps

    return run


def _transposed_size(size, k, stride, padding, extra):
    """Length of the output, and how many cells of the full map, `(size - 1) * stride + k` long,
    come before it.
    """
    if padding == "valid":
        return (size - 1) * stride + (max(k, stride) if extra is None else k + extra), 0
    if extra is None:
        length, total = size * stride, stride + k - 2
    else:
        length, total = (size - 1) * stride + k % 2 + extra, k + k % 2 - 2 + extra
    return length, k - 1 - min(math.ceil(total / 2), k - 1)


def conv2d_transpose(layer, x, w, training):
    """Kernel `(kh, kw, filters, in)`.

    Each pixel adds its kernel to the full map, and the output is a part of that.
    """
    kernel, strides = w["kernel"], pair(layer.strides)
    size, filters = kernel.shape[:2], kernel.shape[2]
    extra = (None, None) if layer.output_padding is None else pair(layer.output_padding)
    lengths, offsets = zip(
        *(
            _transposed_size(*axis, layer.padding, e)
            for *axis, e in zip(x.shape[1:3], size, strides, extra)
        )
    )
    # Where the output is longer than the full map, zeros follow.
    full = [
        max((n - 1) * s + k, o + m)
        for n, s, k, o, m in zip(x.shape[1:3], strides, size, offsets, lengths)
    ]
    part = (slice(None), *(slice(o, o + m) for o, m in zip(offsets, lengths)))
    taps = list(_taps(x.shape[1:3], size, strides))
    y = np.zeros((len(x), *full, filters), x.dtype)
    for ij, at in taps:
        y[at] += np.einsum("nhwc,fc->nhwf", x, kernel[ij])

    def backward(dz):
        dfull, dx, dkernel = np.zeros_like(y), np.zeros_like(x), np.zeros_like(kernel)
        dfull[part] = dz
        for ij, at in taps:
            dx += np.einsum("nhwf,fc->nhwc", dfull[at], kernel[ij])
            dkernel[ij] = np.einsum("nhwf,nhwc->fc", dfull[at], x)
        return dx, dkernel

    return _affine(layer, y[part], w, backward)


# Normalisation


def _standardise(x, axes, epsilon):
    """`(x - mean) / sqrt(var + epsilon)` over `axes`, its `backward`, and both statistics.

    The variance is the biased one.
    """
    mean, var = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    deviation = np.sqrt(var + epsilon)
    xhat = (x - mean) / deviation

    def backward(dxhat):
        average, slope = (
            dxhat.mean(axis=axes, keepdims=True),
            (dxhat * xhat).mean(axis=axes, keepdims=True),
        )
        return (dxhat - average - xhat * slope) / deviation

    return xhat, backward, mean, var


def _scale_and_shift(xhat, backward_xhat, w, axes):
    """`gamma * xhat + beta`; both vary along `axes` only."""
    shape = [n if i in axes else 1 for i, n in enumerate(xhat.shape)]
    others = tuple(i for i in range(xhat.ndim) if i not in axes)
    gamma = w["gamma"].reshape(shape) if "gamma" in w else 1
    beta = w["beta"].reshape(shape) if "beta" in w else 0

    def backward(dy):
        grads = {"gamma": (dy * xhat).sum(axis=others), "beta": dy.sum(axis=others)}
        return backward_xhat(dy * gamma), {name: grad for name, grad in grads.items() if name in w}

    return gamma * xhat + beta, backward


def _axes(axis, rank):
    return tuple(sorted(a % rank for a in ([axis] if np.isscalar(axis) else axis)))


def batch_norm(layer, x, w, training):
    """Statistics over all axes but one.

    In training those of the batch, which move the running ones, unless it is frozen.
    """
    axes = _axes(layer.axis, x.ndim)
    others = tuple(i for i in range(x.ndim) if i not in axes)
    if training and layer.trainable:
        xhat, backward_xhat, mean, var = _standardise(x, others, layer.epsilon)
        for name, batch in (("mean", mean), ("var", var)):
            w[name] = layer.momentum * w[name] + (1 - layer.momentum) * batch.reshape(-1)
    else:
        shape = [n if i in axes else 1 for i, n in enumerate(x.shape)]
        deviation = np.sqrt(w["var"].reshape(shape) + layer.epsilon)
        xhat = (x - w["mean"].reshape(shape)) / deviation

        def backward_xhat(dxhat):
            return dxhat / deviation

    return _scale_and_shift(xhat, backward_xhat, w, axes)


def layer_norm(layer, x, w, training):
    """Statistics of each row over `axis`, one or several.

    Gamma and beta have the shape of these axes.
    """
    axes = _axes(layer.axis, x.ndim)
    xhat, backward, _, _ = _standardise(x, axes, layer.epsilon)
    return _scale_and_shift(xhat, backward, w, axes)


def group_norm(layer, x, w, training):
    """Statistics of each row and each group of consecutive channels, over all that is in it.

    Gamma and beta per channel.
    """
    (axis,) = _axes(layer.axis, x.ndim)
    groups = x.shape[axis] if layer.groups == -1 else layer.groups
    split = (*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])
    others = tuple(i for i in range(1, x.ndim + 1) if i != axis)
    xhat, backward_split, _, _ = _standardise(x.reshape(split), others, layer.epsilon)

    def backward(dxhat):
        return backward_split(dxhat.reshape(split)).reshape(x.shape)

    return _scale_and_shift(xhat.reshape(x.shape), backward, w, (axis,))


# Pooling and shapes


def _pool(layer, x, fill):
    size = pair(layer.pool_size)
    strides = size if layer.strides is None else pair(layer.strides)
    counts, pads = _windows(x.shape[1:3], size, strides, layer.padding)
    taps = [at for _, at in _taps(counts, size, strides)]
    padded = np.pad(x, pads, constant_values=fill)
    return padded, pads, taps


def max_pooling(layer, x, w, training):
    """The first of the largest cells, row by row, receives the gradient.

    A padded cell is never the largest.
    """
    padded, pads, taps = _pool(layer, x, -np.inf)
    cells = np.stack([padded[at] for at in taps])
    first = cells.argmax(axis=0)

    def backward(dy):
        dpadded = np.zeros_like(padded)
        for i, at in enumerate(taps):
            dpadded[at] += dy * (first == i)
        return _unpad(dpadded, pads), {}

    return cells.max(axis=0), backward


def average_pooling(layer, x, w, training):
    """The sum over a window's cells within the image, divided by their number."""
    padded, pads, taps = _pool(layer, x, 0)
    inside = np.pad(np.ones_like(x), pads)
    count = sum(inside[at] for at in taps)

    def backward(dy):
        dpadded = np.zeros_like(padded)
        for at in taps:
            dpadded[at] += dy / count
        return _unpad(dpadded, pads), {}

    return sum(padded[at] for at in taps) / count, backward


def global_average_pooling(layer, x, w, training):
    """The mean over all axes between rows and channels."""
    axes = tuple(range(1, x.ndim - 1))

    def backward(dy):
        share = np.expand_dims(dy.reshape(len(x), -1), axes) / math.prod(x.shape[1:-1])
        return np.broadcast_to(share, x.shape), {}

    return x.mean(axis=axes, keepdims=layer.keepdims), backward


def global_max_pooling(layer, x, w, training):
    """The largest over all axes between rows and channels; equal ones share the gradient."""
    axes = tuple(range(1, x.ndim - 1))
    largest = x == x.max(axis=axes, keepdims=True)

    def backward(dy):
        share = np.expand_dims(dy.reshape(len(x), -1), axes)
        return largest * share / largest.sum(axis=axes, keepdims=True), {}

    return x.max(axis=axes, keepdims=layer.keepdims), backward


def _reshaped(x, shape):
    return x.reshape(len(x), *shape), lambda dy: (dy.reshape(x.shape), {})


def up_sampling(layer, x, w, training):
    """Each pixel as a block of equal ones."""
    down, right = pair(layer.size)
    n, height, width, channels = x.shape

    def backward(dy):
        return dy.reshape(n, height, down, width, right, channels).sum((2, 4)), {}

    return x.repeat(down, 1).repeat(right, 2), backward


def zero_padding(layer, x, w, training):
    """`padding` is one number, one per axis, or `((top, bottom), (left, right))`."""
    pads = [(0, 0), *(pair(p) for p in pair(layer.padding)), (0, 0)]
    return np.pad(x, pads), lambda dy: (_unpad(dy, pads), {})


def cropping(layer, x, w, training):
    """The opposite of `zero_padding`."""
    pads = [(0, 0), *(pair(p) for p in pair(layer.cropping)), (0, 0)]
    return _unpad(x, pads), lambda dy: (np.pad(dy, pads), {})


def permute(layer, x, w, training):
    """Axes of a row are counted from 1."""
    order = (0, *layer.dims)
    return x.transpose(order), lambda dy: (dy.transpose(np.argsort(order)), {})


def repeat_vector(layer, x, w, training):
    """A row of features as `n` equal steps."""
    return np.stack([x] * layer.n, 1), lambda dy: (dy.sum(1), {})


def _noise(layer, x, w, training):
    """The identity; in training the result is random, and not for this file."""
    assert not training
    return x, lambda dy: (dy, {})


def prelu(layer, x, w, training):
    """`x`, or below 0 `alpha` times it."""
    alpha = w["alpha"]

    def backward(dy):
        dalpha = np.where(x > 0, 0.0, dy * x).sum(0)
        shared = tuple(k for k, n in enumerate(alpha.shape) if n == 1)
        return np.where(x > 0, dy, alpha * dy), {"alpha": dalpha.sum(shared, keepdims=True)}

    return np.where(x > 0, x, alpha * x), backward


def rescaling(layer, x):
    """A scale and an offset, or one for each channel."""
    scale = np.asarray(layer.scale)
    return x * scale + np.asarray(layer.offset), lambda dy: dy * scale


def normalization(layer, x):
    """By given mean and variance along the kept axes, in their order."""
    axes = () if layer.axis is None else _axes(layer.axis, x.ndim)
    shape = [n if k in axes else 1 for k, n in enumerate(x.shape)]
    kept = [x.shape[k] for k in axes]
    mean, var = (np.broadcast_to(a, kept).reshape(shape) for a in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(var), 1e-7)
    if layer.invert:
        return mean + x * deviation, lambda dy: dy * deviation
    return (x - mean) / deviation, lambda dy: dy / deviation


def embedding(layer, x, w, training):
    """Rows of a table by number."""
    table, rows = w["embeddings"], x.astype(int)

    def backward(dy):
        grad = np.zeros_like(table)
        for row, slope in zip(rows.ravel(), dy.reshape(-1, table.shape[1])):
            grad[row] += slope
        return np.zeros(x.shape), {"embeddings": grad}

    return table[rows], backward


def _without_weights(function):
    """A layer of a function of the layer and x."""

    def run(layer, x, w, training):
        y, backward = function(layer, x)
        return y, lambda dy: (backward(dy), {})

    return run


def _relu_layer(layer, x):
    return elementwise(
        lambda z: _relu(z, layer.max_value, layer.negative_slope, layer.threshold), x
    )


LAYERS = {
    "Dense": dense,
    "Conv2D": conv2d,
    "DepthwiseConv2D": depthwise_conv2d,
    "Conv2DTranspose": conv2d_transpose,
    "SeparableConv2D": separable_conv,
    "Conv1D": of_steps(conv2d),
    "DepthwiseConv1D": of_steps(depthwise_conv2d),
    "Conv1DTranspose": of_steps(conv2d_transpose),
    "SeparableConv1D": of_steps(separable_conv),
    "BatchNormalization": batch_norm,
    "LayerNormalization": layer_norm,
    "GroupNormalization": group_norm,
    "Activation": _without_weights(lambda layer, x: activate(layer.activation, x)),
    "ReLU": _without_weights(_relu_layer),
    "LeakyReLU": _without_weights(
        lambda layer, x: elementwise(lambda z: _relu(z, None, layer.negative_slope), x)
    ),
    "ELU": _without_weights(lambda layer, x: elementwise(lambda z: _elu(z, layer.alpha), x)),
    "Softmax": _without_weights(lambda layer, x: softmax(x, layer.axis)),
    "PReLU": prelu,
    "Rescaling": _without_weights(rescaling),
    "Normalization": _without_weights(normalization),
    "Embedding": embedding,
    "MaxPooling2D": max_pooling,
    "AveragePooling2D": average_pooling,
    "GlobalMaxPooling2D": global_max_pooling,
    "GlobalAveragePooling2D": global_average_pooling,
    "MaxPooling1D": of_steps(max_pooling),
    "AveragePooling1D": of_steps(average_pooling),
    "GlobalMaxPooling1D": global_max_pooling,
    "GlobalAveragePooling1D": global_average_pooling,
    "Dropout": _noise,
    "GaussianNoise": _noise,
    "Flatten": lambda layer, x, w, training: _reshaped(x, (-1,)),
    "Reshape": lambda layer, x, w, training: _reshaped(x, layer.target_shape),
    "ZeroPadding2D": zero_padding,
    "UpSampling2D": up_sampling,
    "ZeroPadding1D": of_steps(zero_padding),
    "UpSampling1D": of_steps(up_sampling),
    "Cropping1D": of_steps(cropping),
    "Cropping2D": cropping,
    "Permute": permute,
    "RepeatVector": repeat_vector,
    "SpatialDropout1D": _noise,
    "SpatialDropout2D": _noise,
}


def weight_shapes(layer, shape):
    """Name and shape of each array of a layer, in Keras's order, for inputs of `shape` (rows in
    front).
    """
    kind = kind_of(layer)
    if kind == "PReLU":
        shared = layer.shared_axes or ()
        return {"alpha": tuple(1 if k in shared else n for k, n in enumerate(shape[1:], 1))}
    if kind == "Embedding":
        return {"embeddings": (layer.input_dim, layer.output_dim)}
    if kind.endswith("Normalization") and kind != "Normalization":
        own = tuple(shape[a] for a in _axes(layer.axis, len(shape)))
        there = {
            "gamma": layer.scale,
            "beta": layer.center,
            **dict.fromkeys(STATISTICS, kind == "BatchNormalization"),
        }
        return {name: own for name, present in there.items() if present}
    inputs, size = shape[-1], getattr(layer, "kernel_size", None)
    size = single(size) if kind.endswith(("1D", "1DTranspose")) and size is not None else size
    if kind.startswith("Separable"):
        size = pair(size) if kind.endswith("2D") else (size,)
        mixed = inputs * layer.depth_multiplier
        return {
            "depthwise_kernel": (*size, inputs, layer.depth_multiplier),
            "pointwise_kernel": (*(1 for _ in size), mixed, layer.filters),
            **({"bias": (layer.filters,)} if layer.use_bias else {}),
        }
    kernels = {
        "Dense": lambda: ((inputs, layer.units), layer.units),
        "Conv2D": lambda: (
            (*pair(layer.kernel_size), inputs // layer.groups, layer.filters),
            layer.filters,
        ),
        "DepthwiseConv2D": lambda: (
            (*pair(layer.kernel_size), inputs, layer.depth_multiplier),
            inputs * layer.depth_multiplier,
        ),
        "Conv2DTranspose": lambda: (
            (*pair(layer.kernel_size), layer.filters, inputs),
            layer.filters,
        ),
        "Conv1D": lambda: ((size, inputs // layer.groups, layer.filters), layer.filters),
        "DepthwiseConv1D": lambda: (
            (size, inputs, layer.depth_multiplier), inputs * layer.depth_multiplier,
        ),
        "Conv1DTranspose": lambda: ((size, layer.filters, inputs), layer.filters),
    }
    if kind not in kernels:
        return {}
    kernel, units = kernels[kind]()
    return {"kernel": kernel, **({"bias": (units,)} if layer.use_bias else {})}


# Losses: the value per row (or per pixel) and its gradient by the output


EPSILON = 1e-7  # probabilities are kept this far off 0 and 1, in float64 too


def _clip(p):
    return np.clip(p, EPSILON, 1 - EPSILON), (p >= EPSILON) & (p <= 1 - EPSILON)


def categorical_crossentropy(y, p, from_logits=False, label_smoothing=0.0):
    """`-sum(y * log(p / sum(p)))` along the last axis."""
    y = y * (1 - label_smoothing) + label_smoothing / p.shape[-1]
    if from_logits:
        shifted = p - p.max(axis=-1, keepdims=True)
        log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
        return -(y * log_p).sum(axis=-1), np.exp(log_p) * y.sum(axis=-1, keepdims=True) - y
    total = p.sum(axis=-1, keepdims=True)
    share = p / total
    clipped, inside = _clip(share)
    dshare = -y / clipped * inside
    return -(y * np.log(clipped)).sum(axis=-1), (
        dshare - (dshare * share).sum(axis=-1, keepdims=True)
    ) / total


def sparse_categorical_crossentropy(y, p, from_logits=False):
    """Labels in place of one-hot rows; a last axis of length 1 is left out."""
    y = y[..., 0] if y.ndim == p.ndim else y
    return categorical_crossentropy(np.eye(p.shape[-1])[y.astype(int)], p, from_logits)


def binary_crossentropy(y, p, from_logits=False, label_smoothing=0.0):
    """`-mean(y * log(p) + (1 - y) * log(1 - p))` along the last axis."""
    y = y * (1 - label_smoothing) + label_smoothing / 2
    if from_logits:
        return (np.logaddexp(0, p) - y * p).mean(axis=-1), (sigmoid(p) - y) / p.shape[-1]
    p, inside = _clip(p)
    slope = inside * ((1 - y) / (1 - p) - y / p)
    return -(y * np.log(p) + (1 - y) * np.log(1 - p)).mean(axis=-1), slope / p.shape[-1]


def mean_squared_error(y, p):
    """`mean((p - y)^2)` along the last axis."""
    return ((p - y) ** 2).mean(axis=-1), 2 * (p - y) / p.shape[-1]


def mean_absolute_error(y, p):
    """`mean(|p - y|)` along the last axis."""
    return np.abs(p - y).mean(axis=-1), np.sign(p - y) / p.shape[-1]


def huber(y, p, delta=1.0):
    """A parabola up to `delta` from the target and straight lines beyond, the mean along the last
    axis.
    """
    error, size = p - y, np.abs(p - y)
    values = np.where(size <= delta, error**2 / 2, delta * size - delta**2 / 2)
    return values.mean(axis=-1), np.clip(error, -delta, delta) / p.shape[-1]


def log_cosh(y, p):
    """`log(cosh(p - y))`, the mean along the last axis."""
    return np.log(np.cosh(p - y)).mean(axis=-1), np.tanh(p - y) / p.shape[-1]


_LOSSES = (
    sparse_categorical_crossentropy, categorical_crossentropy, binary_crossentropy,
    mean_squared_error, mean_absolute_error, huber, log_cosh,
)  # fmt: skip
LOSSES = {f.__name__: f for f in _LOSSES}
LOSSES.update({"mse": mean_squared_error, "mae": mean_absolute_error})


def loss_and_gradient(loss, y, p, sample_weight=None):
    """`sum(weight * value) / number of values` and its gradient by p.

    `loss` is a name or an object of Keras's class.

    The weights do not enter the divisor. A value belongs to a row, or to a pixel where rows have
    several.
    """
    name = (
        loss if isinstance(loss, str) else re.sub("(?<=[a-z])(?=[A-Z])", "_", kind_of(loss)).lower()
    )
    options = (
        {} if isinstance(loss, str) else {k: getattr(loss, k) for k in DEFAULTS[kind_of(loss)]}
    )
    y = np.asarray(y, dtype=float)
    if p.shape[-1] == 1 and y.ndim == p.ndim - 1:
        y = y[..., None]
    values, dp = LOSSES[name](y, p, **options)
    weight = (
        np.ones(values.shape) if sample_weight is None else np.asarray(sample_weight, dtype=float)
    )
    weight = weight.reshape(weight.shape + (1,) * (values.ndim - weight.ndim)) / values.size
    return (weight * values).sum(), weight[..., None] * dp


# Optimisers: functions `(spec, gradient, state, step)` that return the change of an array


def sgd(spec, grad, state, step):
    """`v = momentum * v - rate * g`.

    The change is v, or with Nesterov's `momentum * v - rate * g`.
    """
    state["v"] = spec.momentum * state.get("v", 0.0) - spec.learning_rate * grad
    return spec.momentum * state["v"] - spec.learning_rate * grad if spec.nesterov else state["v"]


def rmsprop(spec, grad, state, step):
    """Epsilon stands inside the root, the rate inside the momentum.

    `centered` subtracts the squared mean gradient.
    """
    state["square"] = spec.rho * state.get("square", 0.0) + (1 - spec.rho) * grad**2
    state["mean"] = spec.rho * state.get("mean", 0.0) + (1 - spec.rho) * grad
    variance = state["square"] - (state["mean"] ** 2 if spec.centered else 0.0)
    state["v"] = spec.momentum * state.get("v", 0.0) + spec.learning_rate * grad / np.sqrt(
        variance + spec.epsilon
    )
    return -state["v"]


def adam(spec, grad, state, step):
    """Epsilon stands outside the root of the uncorrected second moment; `step` counts from 1."""
    state["m"] = spec.beta_1 * state.get("m", 0.0) + (1 - spec.beta_1) * grad
    state["v"] = spec.beta_2 * state.get("v", 0.0) + (1 - spec.beta_2) * grad**2
    state["largest"] = np.maximum(state.get("largest", 0.0), state["v"])
    second = state["largest"] if spec.amsgrad else state["v"]
    rate = spec.learning_rate * math.sqrt(1 - spec.beta_2**step) / (1 - spec.beta_1**step)
    return -rate * state["m"] / (np.sqrt(second) + spec.epsilon)


def nadam(spec, grad, state, step):
    """The momentum of the step to come, both corrected by the product of all momenta so far."""
    state["m"] = spec.beta_1 * state.get("m", 0.0) + (1 - spec.beta_1) * grad
    state["v"] = spec.beta_2 * state.get("v", 0.0) + (1 - spec.beta_2) * grad**2
    u, following = (spec.beta_1 * (1 - 0.5 * 0.96**t) for t in (step, step + 1))
    state["product"] = state.get("product", 1.0) * u
    ahead = following * state["m"] / (1 - state["product"] * following)
    ahead = ahead + (1 - u) * grad / (1 - state["product"])
    second = np.sqrt(state["v"] / (1 - spec.beta_2**step)) + spec.epsilon
    return -spec.learning_rate * ahead / second


def adamax(spec, grad, state, step):
    """The largest gradient so far, which fades, in the place of the second moment."""
    state["m"] = spec.beta_1 * state.get("m", 0.0) + (1 - spec.beta_1) * grad
    state["u"] = np.maximum(spec.beta_2 * state.get("u", 0.0), np.abs(grad))
    rate = spec.learning_rate / (1 - spec.beta_1**step)
    return -rate * state["m"] / (state["u"] + spec.epsilon)


def adagrad(spec, grad, state, step):
    """Divided by the root of all squares so far."""
    state["a"] = state.get("a", spec.initial_accumulator_value) + grad**2
    return -spec.learning_rate * grad / np.sqrt(state["a"] + spec.epsilon)


def adadelta(spec, grad, state, step):
    """Steps in the unit of the weights."""
    state["a"] = spec.rho * state.get("a", 0.0) + (1 - spec.rho) * grad**2
    root = np.sqrt(state.get("moved", 0.0) + spec.epsilon)
    change = -root * grad / np.sqrt(state["a"] + spec.epsilon)
    state["moved"] = spec.rho * state.get("moved", 0.0) + (1 - spec.rho) * change**2
    return spec.learning_rate * change


def lion(spec, grad, state, step):
    """The sign of the mean gradient."""
    m = state.get("m", 0.0)
    state["m"] = spec.beta_2 * m + (1 - spec.beta_2) * grad
    return -spec.learning_rate * np.sign(spec.beta_1 * m + (1 - spec.beta_1) * grad)


def ftrl(spec, grad, state, step):
    """A new array of the sum of gradients; `state["array"]` is the old one."""
    p, before = state["array"], state.get("a", spec.initial_accumulator_value)
    state["a"], rate = before + grad**2, spec.learning_rate
    grad = grad + 2 * spec.l2_shrinkage_regularization_strength * p
    sigma = (np.sqrt(state["a"]) - np.sqrt(before)) / rate
    state["z"] = state.get("z", 0.0) + grad - sigma * p
    l1 = spec.l1_regularization_strength
    l2 = spec.l2_regularization_strength + spec.beta / (2 * rate)
    new = (np.clip(state["z"], -l1, l1) - state["z"]) / (np.sqrt(state["a"]) / rate + 2 * l2)
    return new - p


OPTIMIZERS = {
    "SGD": sgd, "RMSprop": rmsprop, "Adam": adam, "AdamW": adam, "Nadam": nadam, "Adamax": adamax,
    "Adagrad": adagrad, "Adadelta": adadelta, "Lion": lion, "Ftrl": ftrl,
}


class NaiveOptimizer:
    """A described optimiser and its memory.

    `update` changes arrays, given as two dicts with the same keys.
    """

    def __init__(self, spec):
        self.spec, self.steps, self.states, self.collected = spec, 0, {}, []

    def clip(self, grads):
        """At most one of: each gradient by its own norm, all by their joint norm, each number."""
        spec, norms = self.spec, {key: math.sqrt((g**2).sum()) for key, g in grads.items()}
        if spec.clipnorm:
            return {
                key: g * spec.clipnorm / max(norms[key], spec.clipnorm) for key, g in grads.items()
            }
        if spec.global_clipnorm:
            norm = math.hypot(*norms.values())
            return {
                key: g * spec.global_clipnorm / max(norm, spec.global_clipnorm)
                for key, g in grads.items()
            }
        if spec.clipvalue:
            return {key: np.clip(g, -spec.clipvalue, spec.clipvalue) for key, g in grads.items()}
        return grads

    def update(self, arrays, grads):
        """One call per batch.

        The arrays change once per `gradient_accumulation_steps` calls, by the mean gradient.
        """
        spec = self.spec
        self.collected.append(grads)
        if len(self.collected) < (spec.gradient_accumulation_steps or 1):
            return
        grads = self.clip({key: np.mean([g[key] for g in self.collected], axis=0) for key in grads})
        self.collected = []
        self.steps += 1
        for key, grad in grads.items():
            # Decay comes first, and acts on every trained array: biases, gammas and betas too.
            arrays[key] = arrays[key] * (1 - (spec.weight_decay or 0.0) * spec.learning_rate)
            state = self.states.setdefault(key, {})
            state["array"] = arrays[key]
            arrays[key] = arrays[key] + OPTIMIZERS[kind_of(spec)](spec, grad, state, self.steps)


# Networks


class NaiveNetwork:
    """Layers in a row.

    Parameters
    ----------
    layers : list
        Objects whose class and attributes are named as in Keras.
    input_shape : tuple of int
        Of one row.
    weights : list of dict, optional
        Arrays by name (`ORDER`) for each layer; zeros where it is left out.
    """

    def __init__(self, layers, input_shape, weights=None):
        self.layers, self.shapes = list(layers), []
        shape = (2, *input_shape)
        for layer in self.layers:
            self.shapes.append(weight_shapes(layer, shape))
            zeros = {name: np.zeros(own) for name, own in self.shapes[-1].items()}
            shape = LAYERS[kind_of(layer)](layer, np.zeros(shape), zeros, False)[0].shape
        self.output_shape = shape[1:]
        if weights is None:
            weights = [
                {name: np.zeros(own) for name, own in shapes.items()} for shapes in self.shapes
            ]
        self.weights = [
            {name: np.array(a, dtype=float) for name, a in arrays.items()} for arrays in weights
        ]
        assert [
            {name: a.shape for name, a in arrays.items()} for arrays in self.weights
        ] == self.shapes

    def draw(self, rng):
        """Random weights, none 0 or 1 by accident, that float32 holds exactly.

        Returns the network.
        """
        draws = {
            "kernel": lambda shape: rng.normal(
                0, 1 / math.sqrt(max(math.prod(shape[:-1]), 2)), shape
            ),
            "bias": lambda shape: rng.normal(0, 0.3, shape),
            "gamma": lambda shape: rng.normal(1, 0.3, shape),
            "beta": lambda shape: rng.normal(0, 0.3, shape),
            "mean": lambda shape: rng.normal(0, 0.5, shape),
            "var": lambda shape: rng.uniform(0.5, 2, shape),
            "alpha": lambda shape: rng.normal(0.2, 0.3, shape),
            "embeddings": lambda shape: rng.normal(0, 0.7, shape),
        }
        for arrays, shapes in zip(self.weights, self.shapes):
            for name, shape in shapes.items():
                draw = draws[name.rpartition("_")[2]]
                arrays[name] = draw(shape).astype(np.float32).astype(float)
        return self

    def get_weights(self):
        """The arrays in one list, in Keras's order."""
        return [arrays[name].copy() for arrays in self.weights for name in ORDER if name in arrays]

    def set_weights(self, flat):
        """The opposite of `get_weights`."""
        places = [(arrays, name) for arrays in self.weights for name in ORDER if name in arrays]
        for (arrays, name), array in zip(places, flat, strict=True):
            arrays[name] = np.array(array, dtype=float).reshape(arrays[name].shape)

    def forward(self, x, training=False):
        """The output; training takes the batch's statistics and moves the running ones."""
        x, self.tape = np.asarray(x, dtype=float), []
        for layer, arrays in zip(self.layers, self.weights):
            x, backward = LAYERS[kind_of(layer)](layer, x, arrays, training)
            self.tape.append(backward)
        return x

    def backward(self, dy):
        """The gradients of `sum(dy * output)` of the last `forward`.

        By its input, and a dict by name for each layer.
        """
        grads = []
        for backward in reversed(self.tape):
            dy, own = backward(dy)
            grads.insert(0, own)
        return dy, grads

    def _trained(self):
        """Key, layer and name of each array that training changes."""
        for i, (layer, arrays) in enumerate(zip(self.layers, self.weights)):
            for name in arrays:
                if name not in STATISTICS and layer.trainable:
                    yield (i, name), layer, name

    def penalties(self):
        """What the regularisers add to the loss, `l1 * sum(|w|) + l2 * sum(w^2)`, and the gradient
        by each array's key.
        """
        total, grads = 0.0, {}
        for key, layer, name in self._trained():
            depthwise = kind_of(layer).startswith("Depthwise") and name == "kernel"
            attribute = "depthwise" if depthwise else name.removesuffix("_kernel")
            regularizer = getattr(layer, f"{attribute}_regularizer", None)
            if regularizer is not None:
                w = self.weights[key[0]][name]
                l1, l2 = getattr(regularizer, "l1", 0.0), getattr(regularizer, "l2", 0.0)
                total += l1 * np.abs(w).sum() + l2 * (w**2).sum()
                grads[key] = l1 * np.sign(w) + 2 * l2 * w
        return total, grads

    def loss(self, x, y, loss, sample_weight=None, training=False):
        """The loss of a batch, penalties included."""
        return (
            loss_and_gradient(loss, y, self.forward(x, training), sample_weight)[0]
            + self.penalties()[0]
        )

    def train_step(self, x, y, loss, optimizer, sample_weight=None):
        """One step of a `NaiveOptimizer`; returns the loss before the step, penalties included."""
        value, dy = loss_and_gradient(loss, y, self.forward(x, training=True), sample_weight)
        _, by_layer = self.backward(dy)
        penalty, penalty_grads = self.penalties()
        keys = [key for key, _, _ in self._trained()]
        grads = {
            (i, name): by_layer[i][name] + penalty_grads.get((i, name), 0.0) for i, name in keys
        }
        arrays = {(i, name): self.weights[i][name] for i, name in keys}
        optimizer.update(arrays, grads)
        for (i, name), array in arrays.items():
            self.weights[i][name] = array
        return value + penalty
