"""Tiny and repeated work: what a call costs besides its arithmetic."""

from __future__ import annotations

import itertools
import warnings

import numpy as np
from sklearn.datasets import load_iris

import nbbn

from .timed import Call, Timed
from .workloads import make_rows, mlp

WARM_STARTS = 10
SMALL = (20, (32,))  # features, hidden units


def iris() -> tuple[np.ndarray, np.ndarray]:
    """Fisher's 150 flowers."""
    return load_iris(return_X_y=True)


def iris_fit(**params: object) -> nbbn.MLPClassifier:
    """An estimator fitted to iris; that it has not converged is no news here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nbbn.MLPClassifier((32,), random_state=0, **params).fit(*iris())


class Iris(Timed):
    """A whole fit of 150 rows of 4 features, 50 iterations, 32 hidden units."""

    params = ["adam", "sgd", "lbfgs"]
    param_names = ("by",)
    version = "1"

    def prepare(self, by: str) -> Call:
        return lambda: iris_fit(solver=by, max_iter=50)

    def time_fit(self, _: object) -> None:
        self.call()


class WarmStart(Timed):
    """Ten fits of one iteration of lbfgs on iris, each going on from the last."""

    version = "1"

    def prepare(self) -> Call:
        x, y = iris()

        def loop() -> None:
            model = iris_fit(solver="lbfgs", max_iter=1, warm_start=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for _ in range(WARM_STARTS - 1):
                    model.fit(x, y)

        return loop

    def time_lbfgs(self) -> None:
        self.call()


class NewRows(Timed):
    """An epoch of `Sequential.fit` of 20-32-10, batch 32, each with another number of rows."""

    version = "1"

    def prepare(self) -> Call:
        x, y = make_rows(712, SMALL[0])
        model, counts = mlp(*SMALL), itertools.cycle(range(200, 712))

        def epoch() -> None:
            rows = next(counts)
            model.fit(x[:rows], y[:rows], batch_size=32, verbose=0)

        return epoch

    def time_fit(self) -> None:
        self.call()


class OnBatch(Timed):
    """`train_on_batch` of 20-32-10."""

    params = [8, 32, 256]
    param_names = ("rows",)
    version = "1"

    def prepare(self, rows: int) -> Call:
        (x, y), model = make_rows(rows, SMALL[0]), mlp(*SMALL)
        return lambda: model.train_on_batch(x, y)

    def time_train_on_batch(self, _: object) -> None:
        self.call()


class OneRow(Timed):
    """`predict` of one row: iris by the estimator and folded, 20-32-10 by the `Sequential`."""

    params = ["estimator", "folded", "Sequential"]
    param_names = ("model",)
    version = "1"

    def prepare(self, which: str) -> Call:
        if which == "Sequential":
            (x, _), network = make_rows(1, SMALL[0]), mlp(*SMALL)
            return lambda: network.predict(x, verbose=0)
        estimator = iris_fit(max_iter=5)
        model = estimator.fold() if which == "folded" else estimator
        row = iris()[0][:1]
        return lambda: model.predict(row)

    def time_predict(self, _: object) -> None:
        self.call()
