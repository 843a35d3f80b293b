"""Layers as NumPy functions: dense, conv2d, max_pool2d, layer_norm and group_norm."""

from __future__ import annotations

import math

import numpy as np

from nbbn.functional.checks import check_images, check_x, like_x, per_channel, target
from nbbn.functional.lowered import activation_of, layer_of, output_shape, run, run_activation
from nbbn.layers import (
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GroupNormalization,
    LayerNormalization,
    MaxPooling2D,
)


def dense(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None = None, *,
          activation: str | None = None, out: np.ndarray | None = None) -> np.ndarray:
    """A dense layer: `y = activation(x @ kernel + bias)`.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., in)
        Two dimensions or more. Fastest when C-contiguous; other layouts are copied.
    kernel : ndarray of x's dtype, shape (in, units)
    bias : ndarray of x's dtype, shape (units,), optional
        0 where absent.
    activation : str, optional
        A name of `nbbn.layers.ACTIVATIONS`; softmax goes over the last axis.
    out : ndarray, optional
        Where to write `y`: C-contiguous, of y's shape and x's dtype. May be reused, and be `x`.

    Returns
    -------
    ndarray of shape (..., units)
        `out`, or a new array.

    Raises
    ------
    TypeError
        For dtypes that are not float32 or float64, or differ, and an activation that is no name.
    ValueError
        For an empty `x`, shapes that do not fit, an unknown activation, and an `out` that is not
        C-contiguous or not writeable.

    Notes
    -----
    Sums are taken in x's dtype in the order of the input features, whatever the number of rows and
    threads. The kernel is laid out for the engine at each call; a model keeps it so.

    References
    ----------
    Rumelhart, Hinton and Williams (1986), equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import dense
    >>> dense(np.array([[1.0, 2.0]]), np.array([[1.0], [-2.0]]), np.array([0.5]), activation="relu")
    array([[0.]])
    """
    x, _ = check_x(x, -1)
    act = activation_of(activation)
    kernel = like_x("kernel", kernel, x.dtype)
    if kernel.ndim != 2 or kernel.shape[0] != x.shape[-1] or not kernel.size:
        raise ValueError(f"kernel must have shape (in, units) with in {x.shape[-1]} for x of shape "
                         f"{x.shape} and 1 unit or more, got {kernel.shape}; transpose or reshape "
                         "it")
    units = kernel.shape[1]
    weights = {"kernel": kernel, **per_channel(x.dtype, units, bias=bias)}
    y = target(out, (*x.shape[:-1], units), x.dtype)
    run(layer_of(Dense, units=units), act, x, x.shape[-1:], weights, y)
    return y


def conv2d(x: np.ndarray, kernel: np.ndarray, bias: np.ndarray | None = None, *,
           strides: int | tuple[int, int] = (1, 1), padding: str = "valid",
           dilation_rate: int | tuple[int, int] = (1, 1), groups: int = 1,
           activation: str | None = None, out: np.ndarray | None = None) -> np.ndarray:
    """A convolution over height and width, a bias and an activation.

    Cross-correlation: the kernel is not turned round.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, height, width, in)
        Fastest when C-contiguous; other layouts are copied.
    kernel : ndarray of x's dtype, shape (kernel_height, kernel_width, in / groups, filters)
    bias : ndarray of x's dtype, shape (filters,), optional
        0 where absent.
    strides : int or tuple of two ints
        Steps down and to the right. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        `valid`: `(n - window) // stride + 1` outputs along an axis of n, with `window = (kernel -
        1) * dilation + 1`; `same`: zeros around, the odd one at the bottom or right, `ceil(n /
        stride)` outputs.
    dilation_rate : int or tuple of two ints
        Distance between the kernel's taps.
    groups : int
        Groups of consecutive channels that do not mix; divides `in` and `filters`.
    activation : str, optional
        A name of `nbbn.layers.ACTIVATIONS`; softmax goes over the channels.
    out : ndarray, optional
        Where to write `y`: C-contiguous, of y's shape and x's dtype. May be reused, and be `x`.

    Returns
    -------
    ndarray of shape (rows, out_height, out_width, filters)
        `out`, or a new array.

    Raises
    ------
    TypeError
        For dtypes that are not float32 or float64, or differ, and an activation that is no name.
    ValueError
        For an empty `x`, shapes that do not fit, arguments that break the rules above, images
        smaller than the window, and an `out` that is not C-contiguous or not writeable.

    Notes
    -----
    Sums are taken in x's dtype, in the same order at any number of rows and threads. No patch of an
    image is copied; a padded image is, one at a time. Each group is computed on its own, or all in
    one go where a group is one channel.

    References
    ----------
    LeCun, Bottou, Bengio and Haffner (1998), section II; Dumoulin and Visin (2016), sections 2 and
    5.1, for the windows; Krizhevsky, Sutskever and Hinton (2012), section 3.5, for the groups.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import conv2d
    >>> conv2d(np.ones((1, 4, 4, 1)), np.ones((3, 3, 1, 2)), padding="same")[0, :, :, 0]
    array([[4., 6., 6., 4.],
           [6., 9., 9., 6.],
           [6., 9., 9., 6.],
           [4., 6., 6., 4.]])
    """
    x = check_images(x)
    act = activation_of(activation)
    kernel = like_x("kernel", kernel, x.dtype)
    if kernel.ndim != 4 or not kernel.size:
        raise ValueError("kernel must have shape (height, width, in / groups, filters), "
                         f"each 1 or more, got {kernel.shape}; reshape it")
    *size, depth, filters = kernel.shape
    window = {"kernel_size": size, "strides": strides, "padding": padding,
              "dilation_rate": dilation_rate}
    whole = layer_of(Conv2D, filters=filters, groups=groups, **window)
    row, channels, groups = x.shape[1:], x.shape[-1], whole.groups
    shape = output_shape(whole, x)
    if depth * groups != channels:
        raise ValueError(f"kernel must have {channels // groups} on its third axis, "
                         f"for {channels} channels in {groups} groups, got shape {kernel.shape}")
    weights = {"kernel": kernel, **per_channel(x.dtype, filters, bias=bias)}
    y = target(out, shape, x.dtype)
    if groups == 1:
        run(whole, act, x, row, weights, y)
    elif groups == channels:
        layer = layer_of(DepthwiseConv2D, depth_multiplier=filters // channels, **window)
        # Filter m of channel c writes channel c * multiplier + m, here as there.
        run(layer, act, x, row, {**weights, "kernel": kernel.reshape(*size, channels, -1)}, y)
    else:
        parts = _parts(layer_of(Conv2D, filters=filters // groups, **window), groups, x, weights,
                       shape)
        np.concatenate(parts, axis=-1, out=y)
        run_activation(act, y)
    return y


def _parts(layer: Conv2D, groups: int, x: np.ndarray, weights: dict[str, np.ndarray],
           shape: tuple[int, ...]) -> list[np.ndarray]:
    """What each group gives on its own; all of them together have `shape`.

    As one matrix, with zeros between groups, a NaN of one would reach all: 0 * NaN is NaN.
    """
    parts, deep, wide = [], x.shape[-1] // groups, layer.filters
    for g in range(groups):
        part = np.empty((*shape[:-1], wide), x.dtype)
        own = {name: array[..., g * wide : (g + 1) * wide] for name, array in weights.items()}
        run(layer, activation_of(None), x[..., g * deep : (g + 1) * deep], (*x.shape[1:-1], deep),
            own, part)
        parts.append(part)
    return parts


def max_pool2d(x: np.ndarray, pool_size: int | tuple[int, int] = (2, 2), *,
               strides: int | tuple[int, int] | None = None, padding: str = "valid",
               out: np.ndarray | None = None) -> np.ndarray:
    """The largest value of each window, per channel.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, height, width, channels)
        Fastest when C-contiguous; other layouts are copied.
    pool_size : int or tuple of two ints
        Height and width of the window.
    strides : int, tuple of two ints or None
        Steps down and to the right; None: the pool size.
    padding : {"valid", "same"}
        `valid`: `(n - pool) // stride + 1` outputs along an axis of n; `same`: windows reach over
        the border, where there is nothing, `ceil(n / stride)` outputs.
    out : ndarray, optional
        Where to write `y`: C-contiguous, of y's shape and x's dtype. May be reused, and be `x`.

    Returns
    -------
    ndarray of shape (rows, out_height, out_width, channels)
        `out`, or a new array.

    Raises
    ------
    TypeError
        For dtypes other than float32 and float64, and an `out` of another dtype.
    ValueError
        For an empty `x`, arguments that break the rules above, images smaller than the window, and
        an `out` of another shape, not C-contiguous or not writeable.

    Notes
    -----
    A NaN is the largest of its window where it is the first value; after that it is passed over.

    References
    ----------
    Scherer, Mueller and Behnke (2010).

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import max_pool2d
    >>> x = np.arange(16.0).reshape(1, 4, 4, 1)
    >>> max_pool2d(x)[0, :, :, 0]
    array([[ 5.,  7.],
           [13., 15.]])
    """
    x = check_images(x)
    layer = layer_of(MaxPooling2D, pool_size=pool_size, strides=strides, padding=padding)
    y = target(out, output_shape(layer, x), x.dtype)
    run(layer, activation_of(None), x, x.shape[1:], {}, y)
    return y


def layer_norm(x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *,
               epsilon: float = 1e-5, activation: str | None = None,
               out: np.ndarray | None = None) -> np.ndarray:
    """Normalise over the last axis.

    `y = activation(gamma * (x - mean) / sqrt(var + epsilon) + beta)`.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (..., channels)
        Two dimensions or more. Fastest when C-contiguous; other layouts are copied.
    gamma, beta : ndarray of x's dtype, shape (channels,), optional
        1 and 0 where absent.
    epsilon : float
        Added to the (biased) variance inside the root, above 0.
    activation : str, optional
        A name of `nbbn.layers.ACTIVATIONS`; softmax goes over the last axis.
    out : ndarray, optional
        Where to write `y`: C-contiguous, of x's shape and dtype. May be reused, and be `x`.

    Returns
    -------
    ndarray
        `out`, or a new array of x's shape.

    Raises
    ------
    TypeError
        For dtypes that are not float32 or float64, or differ, and an activation that is no name.
    ValueError
        For an empty `x`, shapes that do not fit, an epsilon that is not above 0, an unknown
        activation, and an `out` that is not C-contiguous or not writeable.

    Notes
    -----
    Mean and variance are two passes in float64.

    References
    ----------
    Ba, Kiros and Hinton (2016), equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import layer_norm
    >>> layer_norm(np.array([[1.0, 3.0], [10.0, 30.0]])).round(2)
    array([[-1.,  1.],
           [-1.,  1.]])
    """
    x, _ = check_x(x, -1)
    act = activation_of(activation)
    layer = layer_of(LayerNormalization, epsilon=epsilon)
    weights = per_channel(x.dtype, x.shape[-1], gamma=gamma, beta=beta)
    y = target(out, x.shape, x.dtype)
    run(layer, act, x, x.shape[-1:], weights, y)
    return y


def group_norm(x: np.ndarray, gamma: np.ndarray | None = None, beta: np.ndarray | None = None, *,
               groups: int, epsilon: float = 1e-5, activation: str | None = None,
               out: np.ndarray | None = None) -> np.ndarray:
    """Normalise each row's groups of channels.

    `y = activation(gamma * (x - mean) / sqrt(var + epsilon) + beta)`. A group is a run of
    neighbouring channels with all axes between the first and the last.

    Parameters
    ----------
    x : ndarray of float32 or float64, shape (rows, ..., channels)
        Two dimensions or more. Fastest when C-contiguous; other layouts are copied.
    gamma, beta : ndarray of x's dtype, shape (channels,), optional
        1 and 0 where absent.
    groups : int
        Divides the number of channels; 1 normalises over the whole row, -1 each channel on its own
        (instance norm).
    epsilon : float
        Added to the (biased) variance inside the root, above 0.
    activation : str, optional
        A name of `nbbn.layers.ACTIVATIONS`; softmax goes over the channels.
    out : ndarray, optional
        Where to write `y`: C-contiguous, of x's shape and dtype. May be reused, and be `x`.

    Returns
    -------
    ndarray
        `out`, or a new array of x's shape.

    Raises
    ------
    TypeError
        For dtypes that are not float32 or float64, or differ, and an activation that is no name.
    ValueError
        For an empty `x`, shapes that do not fit, groups that do not divide the channels, an epsilon
        that is not above 0, an unknown activation, and an `out` that is not C-contiguous or not
        writeable.

    Notes
    -----
    Mean and variance are two passes in float64.

    References
    ----------
    Wu and He (2018), equations 1, 2 and 7; Ulyanov, Vedaldi and Lempitsky (2016) for the instance
    norm.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.functional import group_norm
    >>> group_norm(np.array([[1.0, 3.0, 10.0, 30.0]]), groups=2).round(2)
    array([[-1.,  1., -1.,  1.]])
    """
    x, _ = check_x(x, -1)
    act = activation_of(activation)
    layer = layer_of(GroupNormalization, groups=groups, epsilon=epsilon)
    shape = output_shape(layer, x)
    weights = per_channel(x.dtype, x.shape[-1], gamma=gamma, beta=beta)
    y = target(out, shape, x.dtype)
    row = x.shape[1:] if x.ndim == 2 else (math.prod(x.shape[1:-1]), x.shape[-1])
    run(layer, act, x, row, weights, y)
    return y
