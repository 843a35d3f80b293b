"""Functions on images alone: a convolution with bias and ReLU, and a maximum pool."""

from __future__ import annotations

import numpy as np

from nbbn.functional import conv2d, max_pool2d

from .timed import Call, Timed

# Rows, height, width, channels in.
IMAGES = [(1, 28, 28, 32), (64, 28, 28, 1), (64, 28, 28, 32), (64, 14, 14, 64)]
FILTERS = 64


def pixels(shape: tuple[int, ...]) -> np.ndarray:
    """Normal images, float32."""
    return np.random.default_rng(7).standard_normal(shape, dtype=np.float32)


class Convolution(Timed):
    """3 x 3 taps, 64 filters; the kernel is laid out anew in each call."""

    params = (IMAGES, ["valid", "same"])
    param_names = ("images", "padding")
    version = "1"

    def prepare(self, shape: tuple[int, ...], padding: str) -> Call:
        x, kernel, bias = pixels(shape), pixels((3, 3, shape[-1], FILTERS)), pixels((FILTERS,))
        return lambda: conv2d(x, kernel, bias, padding=padding, activation="relu")

    def time_conv2d(self, *_: object) -> None:
        self.call()


class MaxPool(Timed):
    """Windows of 2 x 2 side by side, and of 3 x 3 that overlap."""

    params = (IMAGES, [2, 3])
    param_names = ("images", "window")
    version = "1"

    def prepare(self, shape: tuple[int, ...], window: int) -> Call:
        x = pixels(shape)
        return lambda: max_pool2d(x, window, strides=2)

    def time_max_pool2d(self, *_: object) -> None:
        self.call()
