"""Dense layers alone, and the share of this machine's matrix peak that they reach.

The peak is NumPy's SGEMM.
"""

from __future__ import annotations

import numpy as np

from nbbn.functional import dense

from .contest import medians
from .timed import Call, Timed

SHAPES = [(32, 784, 128), (1000, 784, 128), (1024, 256, 256), (4096, 1024, 1024)]
PEAK_SIDE = 1024


class Inputs:
    """Rows, kernel and bias of a dense layer, float32, and an array to write to."""

    def __init__(self, shape: tuple[int, ...]):
        rows, deep, wide = shape
        rng = np.random.default_rng(7)
        self.x = rng.standard_normal((rows, deep), dtype=np.float32)
        self.kernel = rng.standard_normal((deep, wide), dtype=np.float32)
        self.bias = rng.standard_normal(wide, dtype=np.float32)
        self.out = np.empty((rows, wide), np.float32)

    def nbbn(self) -> np.ndarray:
        return dense(self.x, self.kernel, self.bias, activation="relu", out=self.out)

    def numpy(self) -> None:
        np.matmul(self.x, self.kernel, out=self.out)
        self.out += self.bias
        np.maximum(self.out, 0, out=self.out)


class Dense(Timed):
    """A dense layer with bias and ReLU; its weights are laid out anew in each call."""

    params = (SHAPES, ["nbbn", "NumPy"])
    param_names = ("rows, in, out", "by")
    version = "1"

    def prepare(self, shape: tuple[int, ...], by: str) -> Call:
        inputs = Inputs(shape)
        return inputs.nbbn if by == "nbbn" else inputs.numpy

    def time_forward(self, *_: object) -> None:
        self.call()


class Share:
    """Arithmetic of the layer for each second, over that of NumPy's matrix product at its best."""

    params = (SHAPES,)
    param_names = ("rows, in, out",)
    version = "1"
    unit = "share of the matrix peak"

    def setup(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(7)
        self.inputs = Inputs(shape)
        self.square = rng.standard_normal((PEAK_SIDE, PEAK_SIDE), dtype=np.float32)
        self.product = np.empty_like(self.square)

    def peak(self) -> None:
        np.matmul(self.square, self.square, out=self.product)

    def track_share_of_peak(self, shape: tuple[int, ...]) -> float:
        seconds = medians({"layer": self.inputs.nbbn, "peak": self.peak})
        return float(2 * np.prod(shape) / seconds["layer"] / (2 * PEAK_SIDE**3 / seconds["peak"]))
