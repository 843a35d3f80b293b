"""Functions on images alone: convolutions with bias and ReLU, and maximum pools."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbbn.functional import conv2d, max_pool2d

from .norm import DTYPES
from .timed import Call, Timed

# Rows, height, width, channels in.
IMAGES = [(1, 28, 28, 32), (64, 28, 28, 1), (64, 28, 28, 32), (64, 14, 14, 64)]
FILTERS = 64
TAPS: dict[str, dict[str, Any]] = {
    "1 x 1": {"taps": 1},
    "5 x 5": {"taps": 5},
    "3 x 3, strides 2": {"strides": 2},
    "3 x 3, dilated": {"dilation_rate": 2},
    "3 x 3, depthwise": {"groups": 32},
    "3 x 3, 4 groups": {"groups": 4},
}


def pixels(shape: tuple[int, ...], dtype: str = "float32") -> np.ndarray:
    """Normal images."""
    return np.random.default_rng(7).standard_normal(shape, dtype=np.float32).astype(dtype)


class Inputs:
    """Images, a kernel and a bias of `FILTERS` filters, and what the convolution is told."""

    def __init__(
        self, shape: tuple[int, ...], dtype: str, taps: int = 3, groups: int = 1, **options: Any
    ):
        self.x = pixels(shape, dtype)
        self.kernel = pixels((taps, taps, shape[-1] // groups, FILTERS), dtype)
        self.bias = pixels((FILTERS,), dtype)
        self.options = {"groups": groups, **options}

    def nbbn(self) -> np.ndarray:
        return conv2d(self.x, self.kernel, self.bias, activation="relu", **self.options)


class Convolution(Timed):
    """3 x 3 taps, 64 filters; the kernel is laid out anew in each call."""

    params = (IMAGES, ["valid", "same"], DTYPES)
    param_names = ("images", "padding", "dtype")
    version = "2"

    def prepare(self, shape: tuple[int, ...], padding: str, dtype: str) -> Call:
        return Inputs(shape, dtype, padding=padding).nbbn

    def time_conv2d(self, *_: object) -> None:
        self.call()


class Taps(Timed):
    """Other windows and groups on 64 images of 28 x 28 x 32, 64 filters."""

    params = (list(TAPS), DTYPES)
    param_names = ("taps", "dtype")
    version = "1"

    def prepare(self, taps: str, dtype: str) -> Call:
        return Inputs(IMAGES[2], dtype, **TAPS[taps]).nbbn

    def time_conv2d(self, *_: object) -> None:
        self.call()


class MaxPool(Timed):
    """Windows of 2 x 2 side by side, and of 3 x 3 that overlap."""

    params = (IMAGES, [2, 3], DTYPES)
    param_names = ("images", "window", "dtype")
    version = "2"

    def prepare(self, shape: tuple[int, ...], window: int, dtype: str) -> Call:
        x = pixels(shape, dtype)
        return lambda: max_pool2d(x, window, strides=2)

    def time_max_pool2d(self, *_: object) -> None:
        self.call()
