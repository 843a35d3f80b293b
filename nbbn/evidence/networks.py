"""Seeded networks, trained step by step, and their gradients."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from nbbn import layers, optimizers
from nbbn.evidence.data import CLASSES, Batches
from nbbn.initializers import HeNormal, Initializer
from nbbn.layers import Layer
from nbbn.models.sequential import Sequential

# Of running statistics: short fits are studied, and the default of 0.99 would lag behind.
MOMENTUM = 0.9
# Rows that are gathered at once.
_ROWS = 1 << 15
Norm = Callable[[], Layer]


def batch_norm() -> Layer:
    """The batch norm of the studies."""
    return layers.BatchNormalization(momentum=MOMENTUM)


def dense_stack(widths: Sequence[int], *, activation: str = "relu", norm: Norm | None = None,
                initializer: Initializer | None = None, last: Initializer | None = None,
                before: bool = True, extra: Norm | None = None) -> list[Layer]:
    """Dense layers with a norm before or after the activation, and a softmax.

    `extra` comes behind the activation.
    """
    start, stack = initializer or HeNormal(), list[Layer]()
    for units in widths:
        bias = norm is None or not before  # else beta is one
        stack.append(layers.Dense(units, kernel_initializer=start, use_bias=bias))
        inner: list[Layer] = [layers.Activation(activation)]
        if norm is not None:
            inner = [norm(), *inner] if before else [*inner, norm()]
        stack += inner
        if extra is not None:
            stack.append(extra())
    return [*stack, layers.Dense(CLASSES, activation="softmax", kernel_initializer=last or start)]


def network(stack: Iterable[Layer], seed: int, optimizer: optimizers.Optimizer) -> Sequential:
    """A compiled classifier whose random numbers follow from the seed."""
    model = Sequential(stack)
    model._layers.seed = seed
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def train(model: Sequential, batches: Batches, steps: int) -> None:
    """Take some steps."""
    most = max(1, _ROWS // batches.batch_size)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it diverges is what some studies look for
        for first in range(0, steps, most):
            x, y = batches.take(min(most, steps - first))
            model.fit(x, y, batch_size=batches.batch_size, shuffle=False, verbose=0)


def is_finite(model: Sequential) -> bool:
    """Whether all weights are numbers."""
    return all(np.isfinite(array).all() for array in model.get_weights())


def accuracy(model: Sequential, x: np.ndarray, y: np.ndarray) -> float:
    """Share of the rows whose class is found; that of chance for a model that has diverged."""
    if not is_finite(model):
        return 1 / CLASSES
    return float(np.mean(model.predict(x, verbose=0).argmax(1) == y))
