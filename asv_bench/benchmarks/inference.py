"""Inference: the estimator, the unfolded network and the folded one.

On 1 to 10,000 rows or 1 to 1,000 images.
"""

from __future__ import annotations

import numpy as np

import nbbn

from .timed import Call, Timed
from .workloads import cnn, cnn_fit, fit, make_images, pictures

ROWS = [1, 32, 1000, 10_000]
IMAGES = [1, 32, 1000]


class Dense(Timed):
    """Probabilities from 784-128-64-32-10 with batch norm and ReLU."""

    params = (ROWS, ["folded", "unfolded", "estimator"])
    param_names = ("rows", "model")
    version = "1"

    def prepare(self, rows: int, which: str) -> Call:
        x, y = make_images(max(rows, 2000))
        estimator = fit(x[:2000], y[:2000], 256)
        model = {"folded": folded, "unfolded": unfolded, "estimator": lambda e: e}[which](estimator)
        x = np.ascontiguousarray(x[:rows])
        return lambda: model.predict_proba(x)

    def time_predict_proba(self, *_: object) -> None:
        self.call()


class Convolutional(Timed):
    """Probabilities from the README's convolutional network."""

    params = (IMAGES, ["folded", "unfolded"])
    param_names = ("images", "model")
    version = "1"

    def prepare(self, images: int, which: str) -> Call:
        x, y = pictures(max(images, 640))
        network = cnn_fit(cnn(), x[:640], y[:640])
        model = network.fold() if which == "folded" else nbbn.FoldedModel(network.network())
        x = np.ascontiguousarray(x[:images])
        return lambda: model.predict(x)

    def time_predict(self, *_: object) -> None:
        self.call()


def folded(estimator: nbbn.MLPClassifier) -> nbbn.FoldedModel:
    """The estimator's network with its batch norms folded away."""
    return estimator.fold()


def unfolded(estimator: nbbn.MLPClassifier) -> nbbn.FoldedModel:
    """The same network as it is, behind the same door."""
    return nbbn.FoldedModel(estimator.network(), kind="classifier", classes=estimator.classes_)
