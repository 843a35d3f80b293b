"""Networks with branches, folded and in training: the gallery's ResNet-18 and MobileNetV2.

Images of 32 x 32 x 3 are made up.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import nbbn

from .recipes import mobilenet_v2, resnet18, settled
from .timed import Call, Timed

SIDE, CLASSES = 32, 10
NETWORKS = ["ResNet-18", "MobileNetV2"]
BATCH, STEPS, WIDTH = 64, 4, 16


def network(name: str, **sizes: Any) -> nbbn.Model:
    """One of `NETWORKS`, the same weights each time."""
    nbbn.set_random_seed(0)
    made = resnet18 if name == "ResNet-18" else mobilenet_v2
    return settled(made((SIDE, SIDE, 3), CLASSES, **sizes))


def compiled(**sizes: Any) -> nbbn.Model:
    """A narrow ResNet-18 under Adam."""
    model = network("ResNet-18", **{"width": WIDTH, **sizes})
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def images(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Normal images and labels."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((count, SIDE, SIDE, 3), dtype=np.float32)
    return x, rng.integers(0, CLASSES, count)


class Inference(Timed):
    """Probabilities of a folded network."""

    params = (NETWORKS, [1, 32])
    param_names = ("network", "images")
    version = "1"

    def prepare(self, name: str, count: int) -> Call:
        folded, (x, _) = network(name).fold(), images(count)
        return lambda: folded.predict(x)

    def time_predict(self, *_: object) -> None:
        self.call()


class Training(Timed):
    """Four steps of a ResNet-18 a quarter as wide, batch 64, Adam, as a whole fit."""

    version = "1"

    def prepare(self) -> Call:
        model, (x, y) = compiled(), images(STEPS * BATCH)
        return lambda: model.fit(x, y, batch_size=BATCH, epochs=1, verbose=0)

    def time_fit(self, *_: object) -> None:
        self.call()
