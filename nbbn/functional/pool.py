"""Pooling as a NumPy function: max_pool2d."""

from __future__ import annotations

import numpy as np

from nbbn.functional.checks import check_images, target
from nbbn.functional.lowered import activation_of, layer_of, output_shape, run
from nbbn.layers import MaxPooling2D


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
        Where to write `y`: C-contiguous, of y's shape and x's dtype. May be reused from call to
        call, and may be `x`.

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
    """
    x = check_images(x)
    layer = layer_of(MaxPooling2D, pool_size=pool_size, strides=strides, padding=padding)
    y = target(out, output_shape(layer, x), x.dtype)
    run(layer, activation_of(None), x, x.shape[1:], {}, y)
    return y
