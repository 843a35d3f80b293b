"""What the functions ask of their arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

_FLOATS = frozenset((np.dtype("float32"), np.dtype("float64")))


def check_x(x: ArrayLike, axis: int) -> tuple[np.ndarray, int]:
    """`x` as an array of float32 or float64, not empty, and `axis` counted from the front."""
    x = np.asarray(x)
    if x.dtype not in _FLOATS:
        raise TypeError(f"x must be float32 or float64, got {x.dtype}; convert it")
    if x.ndim < 2:
        raise ValueError(f"x must have 2 dimensions or more, got shape {x.shape}")
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} is not an axis of shape {x.shape}")
    if x.size == 0:
        raise ValueError(f"x is empty: shape {x.shape}")
    return x, axis % x.ndim


def check_images(x: ArrayLike) -> np.ndarray:
    """`x` as an array of images, checked as by `check_x`."""
    x = np.asarray(x)
    if x.ndim != 4:
        raise ValueError("x must have 4 dimensions, (rows, height, width, channels), "
                         f"got shape {x.shape}; reshape it")
    return check_x(x, -1)[0]


def check_out(out: object, shape: tuple[int, ...], dtype: np.dtype) -> None:
    """Check that `out` is None or a writeable array of this shape and dtype."""
    if out is None:
        return
    if not isinstance(out, np.ndarray) or out.dtype != dtype:
        got = getattr(out, "dtype", type(out).__name__)
        raise TypeError(f"out must be an ndarray of dtype {dtype}, got {got}")
    if out.shape != shape:
        raise ValueError(f"out must have shape {shape}, got {out.shape}")
    if not out.flags.writeable:
        raise ValueError("out is read-only: give a writeable array")


def target(out: np.ndarray | None, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """`out`, which the kernels write as it is and so is C-contiguous, or a new array."""
    check_out(out, shape, dtype)
    if out is None:
        return np.empty(shape, dtype)
    if not (out.flags.c_contiguous and out.flags.aligned):
        raise ValueError(f"out must be C-contiguous and aligned, got strides {out.strides}; "
                         f"use np.empty({shape}, '{dtype}')")
    return out


def like_x(name: str, values: ArrayLike, dtype: np.dtype) -> np.ndarray:
    """`values` as an array, which must have x's dtype: nothing is converted silently."""
    array = np.asarray(values)
    if array.dtype != dtype:
        raise TypeError(f"{name} must have x's dtype {dtype}, got {array.dtype}; "
                        "convert one of the two")
    return array


def per_channel(dtype: np.dtype, channels: int,
                **arrays: np.ndarray | None) -> dict[str, np.ndarray]:
    """The arrays that are not None, by name, each of x's dtype with one number a channel."""
    given = {name: like_x(name, values, dtype) for name, values in arrays.items()
             if values is not None}
    for name, array in given.items():
        if array.shape != (channels,):
            raise ValueError(f"{name} must have shape ({channels},), one number a channel, "
                             f"got {array.shape}; reshape it")
    return given
