"""The loss of a network on a batch and its gradient, at any weights.

A step of plain gradient descent at rate 1 takes the weights to `w - g`: the engine that trains
tells the gradient, in float64.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from nbbn.evidence.networks import accuracy, network
from nbbn.layers import Layer
from nbbn.optimizers import SGD

Arrays = list[np.ndarray]


class Gradients:
    """A network of layers whose loss and gradient are asked for at any weights.

    Attributes
    ----------
    start : list of ndarray
        The initial weights, running statistics included.
    names : list of str
        Of each array, `kernel` or `gamma`; '' for what is not trained.
    fixed : list of int
        The first array of each layer that is not trained.
    """

    def __init__(self, stack: Iterable[Layer], columns: int, seed: int):
        wide = [replace(layer, dtype="float64") for layer in stack]
        self._model = network(wide, seed, SGD(1.0))
        self._model.build((None, columns))
        self.names: list[str] = []
        self.fixed: list[int] = []
        for layer in self._model.layers:
            self.fixed += [] if layer.trainable else [len(self.names)]
            for name in layer.copies() or {}:
                fixed = not layer.trainable or name in layer.statistics
                self.names.append("" if fixed else name)
        self.start = self._model.get_weights()

    def at(self, weights: Arrays, x: np.ndarray, y: np.ndarray) -> tuple[float, Arrays, Arrays]:
        """The loss, its gradient (0 for what is not trained), and the weights after the batch.

        These are the given ones with the running statistics moved on.
        """
        self._model.set_weights(weights)
        figures = self._model.train_on_batch(x, y)
        loss = figures[0] if isinstance(figures, list) else figures
        gradient, moved = [], []
        for name, before, after in zip(self.names, weights, self._model.get_weights()):
            gradient.append(before - after if name else np.zeros_like(before))
            moved.append(before if name else after)
        return float(loss), gradient, moved  # type: ignore[arg-type]

    def accuracy(self, weights: Arrays, x: np.ndarray, y: np.ndarray) -> float:
        """Share of the rows whose class is found, in inference."""
        self._model.set_weights(weights)
        return accuracy(self._model, x, y)


def along(weights: Arrays, gradient: Arrays, step: float) -> Arrays:
    """The weights a step down the gradient."""
    return [w - step * g for w, g in zip(weights, gradient)]


def norm(arrays: Sequence[np.ndarray]) -> float:
    """Euclidean length of all numbers together."""
    return float(np.sqrt(sum(float(np.vdot(a, a)) for a in arrays)))


def difference(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Length of the difference."""
    return norm([a - b for a, b in zip(one, other)])


def cosine(one: Sequence[np.ndarray], other: Sequence[np.ndarray]) -> float:
    """Cosine of the angle between them; NaN where one is 0."""
    product = sum(float(np.vdot(a, b)) for a, b in zip(one, other))
    lengths = norm(one) * norm(other)
    return product / lengths if lengths else float("nan")
