"""Folding a trained network, writing it and opening it again."""

from __future__ import annotations

import os
import tempfile

import nbbn

from .timed import Call, Timed
from .workloads import cnn, cnn_fit, fit, make_images, pictures


def trained(network: str) -> nbbn.MLPClassifier | nbbn.Sequential:
    """A trained dense or convolutional network."""
    if network == "dense":
        return fit(*make_images(2000), 256)
    return cnn_fit(cnn(), *pictures(640))


class Fold(Timed):
    """Folding three batch norms, the numeric check on random rows included."""

    params = ["dense", "convolutional"]
    param_names = ("network",)
    version = "2"

    def prepare(self, network: str) -> Call:
        return trained(network).fold

    def time_fold(self, _: object) -> None:
        self.call()


class File(Timed):
    """The folded network's file: written whole, or opened."""

    params = (["dense", "convolutional"], ["save", "load"])
    param_names = ("network", "way")
    version = "1"

    def prepare(self, network: str, way: str) -> Call:
        folder = tempfile.TemporaryDirectory()
        self.folder = folder  # goes with the process
        path, model = os.path.join(folder.name, "model.safetensors"), trained(network).fold()
        model.save(path)
        return (lambda: model.save(path)) if way == "save" else (lambda: nbbn.load(path))

    def time_file(self, *_: object) -> None:
        self.call()
