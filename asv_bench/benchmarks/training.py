"""Training: epochs of an MNIST-sized network and of the README's convolutional one.

The data are made up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .contest import ratio
from .timed import Call, Timed
from .workloads import CNN_BATCH, cnn, cnn_fit, fit, make_images, pictures

VARIANTS: dict[str, dict[str, Any]] = {
    "sample_weight": {},
    "dropout": {"dropout": 0.2},
    "no batch norm": {"batch_norm": False},
}


def weights_of(rows: int) -> np.ndarray:
    """Weights around 1."""
    return np.random.default_rng(3).uniform(0.5, 1.5, rows)


class Epoch(Timed):
    """One epoch of 784-128-64-32-10, Adam, as a whole fit: validation of the input included."""

    params = ([32, 256, 1024], [True, False])
    param_names = ("batch_size", "batch_norm")
    version = "2"

    def prepare(self, batch_size: int, batch_norm: bool) -> Call:
        x, y = make_images()
        return lambda: fit(x, y, batch_size, batch_norm=batch_norm)

    def time_fit(self, *_: object) -> None:
        self.call()


class Solvers(Timed):
    """One epoch at batch 256 with each solver."""

    params = ["sgd", "rmsprop", "adam", "adamw"]
    param_names = ("solver",)
    version = "2"

    def prepare(self, solver: str) -> Call:
        x, y = make_images()
        return lambda: fit(x, y, 256, solver=solver)

    def time_fit(self, *_: object) -> None:
        self.call()


class Variants(Timed):
    """One epoch at batch 256 with what costs besides: weighted rows, dropout."""

    params = ["sample_weight", "dropout"]
    param_names = ("variant",)
    version = "1"

    def prepare(self, variant: str) -> Call:
        x, y = make_images()
        return variant_fit(variant, x, y)

    def time_fit(self, *_: object) -> None:
        self.call()


class OverPlain:
    """Time of an epoch of each variant over that of the plain one with batch norm, in turn."""

    params = ([32, 256, 1024], list(VARIANTS))
    param_names = ("batch_size", "variant")
    version = "1"
    unit = "times the plain epoch"

    def setup(self, batch_size: int, variant: str) -> None:
        x, y = make_images(20_000)
        self.plain: Call = lambda: fit(x, y, batch_size)
        self.variant = variant_fit(variant, x, y, batch_size)

    def track_ratio_to_plain(self, *_: object) -> float:
        return ratio(self.plain, self.variant)


def variant_fit(variant: str, x: np.ndarray, y: np.ndarray, batch_size: int = 256) -> Call:
    """A call that fits one epoch of a variant."""
    weight = weights_of(len(x)) if variant == "sample_weight" else None
    return lambda: fit(x, y, batch_size, sample_weight=weight, **VARIANTS[variant])


class Convolutional(Timed):
    """One epoch of the README's convolutional network over 3,200 images at batch 128.

    Compiled and built beforehand.
    """

    version = "1"

    def prepare(self) -> Call:
        x, y = pictures(25 * CNN_BATCH)
        model = cnn()
        return lambda: cnn_fit(model, x, y)

    def time_fit(self) -> None:
        self.call()
