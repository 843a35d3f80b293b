"""Training the same network with and without batch norm, and what each epoch came to."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sklearn.exceptions import ConvergenceWarning

from nbbn.commands.demo.datasets import Images
from nbbn.estimators import MLPClassifier


@dataclass
class Run:
    """One fit: the estimator and its figures, an entry an epoch."""

    name: str
    model: MLPClassifier
    # Mean cross-entropy and share of rows classified rightly, of the training rows during the
    # epoch, and of the test rows after it.
    loss: list[float] = field(default_factory=list)
    val_loss: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    val_accuracy: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)  # of training alone
    total: float = 0.0  # seconds of the whole fit

    def add(self, logs: dict) -> None:
        """Keep an epoch's figures."""
        for curve, values in self.curves().items():
            values.append(float(logs["val_score" if curve == "val_accuracy" else curve]))

    def curves(self) -> dict[str, list[float]]:
        """The figures by name, JSON-ready."""
        names = ("loss", "val_loss", "accuracy", "val_accuracy", "seconds")
        return {name: getattr(self, name) for name in names}


def compile_kernels(images: Images, **params: Any) -> None:
    """One epoch on a few rows, with and without batch norm: no fit's figures hold compilation."""
    few = slice(0, 4 * params["batch_size"])
    for batch_norm in (True, False):
        _fit(MLPClassifier(batch_norm=batch_norm, **{**params, "max_iter": 1}), images, few)


def train(name: str, batch_norm: bool, images: Images, show: Callable[[object, dict], None],
          **params: Any) -> Run:
    """Fit with the same parameters, seed and rows in the same order, but for batch norm.

    `show` is called after each epoch as the estimator's callbacks are.
    """
    run = Run(name, MLPClassifier(batch_norm=batch_norm, **params))

    def epoch_done(estimator: object, logs: dict) -> None:
        run.add(logs)
        show(estimator, logs)

    run.model.callbacks = [epoch_done]
    start = time.perf_counter()
    _fit(run.model, images)
    run.total = time.perf_counter() - start
    run.model.callbacks = None
    return run


def _fit(model: MLPClassifier, images: Images, rows: slice = slice(None)) -> None:
    with warnings.catch_warnings():
        # The number of epochs was chosen; that more would help is no news.
        warnings.simplefilter("ignore", ConvergenceWarning)
        x, y = images.x_train[rows], images.y_train[rows]
        model.fit(x, y, X_val=images.x_test, y_val=images.y_test)
