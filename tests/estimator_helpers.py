"""What the tests of the estimators share."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn
from sklearn.datasets import make_classification

from nbbn.estimators.mlp import lbfgs
from nbbn.estimators.mlp.architecture import collect
from nbbn.training_loop import Samples

NEWEST = tuple(int(n) for n in sklearn.__version__.split(".")[:2]) >= (1, 9)
newest = pytest.mark.skipif(
    not NEWEST, reason="scikit-learn's own estimators have these parameters as of 1.9"
)

KINDS = ["MLPClassifier", "MLPRegressor"]
STATE = ("coefs_", "intercepts_", "gammas_", "betas_", "running_means_", "running_vars_")
CURVES = (
    "loss_curve_", "validation_loss_curve_", "validation_scores_", "n_iter_", "t_", "best_loss_",
)

kinds = pytest.mark.parametrize("kind", KINDS)
norms = pytest.mark.parametrize("batch_norm", [True, "post", False], ids=str)
solvers = pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "rmsprop"])


def three_classes(rows: int, features: int, informative: int):
    """Rows that a small network can learn, and their labels 0, 1 and 2."""
    return make_classification(
        rows, features, n_informative=informative, n_classes=3, class_sep=1.5, random_state=0
    )


def numbers(rows: int = 90, outputs: int = 1):
    """Rows, and noisy linear targets."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(rows, 6))
    y = X @ rng.normal(size=(6, outputs)) + 0.5 * rng.normal(size=(rows, outputs))
    return X, y[:, 0] if outputs == 1 else y


def arrays(estimator) -> list[np.ndarray]:
    """Every trained array of an estimator."""
    return [a for name in STATE for a in getattr(estimator, name) if a is not None]


def assert_same_bits(got, ref) -> None:
    """The same arrays and the same losses on the way."""
    for name in STATE:
        assert [a is None for a in getattr(got, name)] == [a is None for a in getattr(ref, name)], (
            name
        )
    for a, b in zip(arrays(got), arrays(ref), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert got.loss_curve_ == ref.loss_curve_


def assert_same_fit(got, ref) -> None:
    """The same bits, validation and counts as well."""
    assert_same_bits(got, ref)
    for name in CURVES:
        assert getattr(got, name) == getattr(ref, name), name


def assert_close(got, ref, **tolerance) -> None:
    """The same arrays, exactly unless a tolerance is given."""
    for a, b in zip(arrays(got), arrays(ref), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def objective_of(estimator, X, y, weights=None):
    """The loss of all rows as a function of a fitted estimator's weights."""
    task, dtype = estimator._task, np.dtype("float64")
    y = estimator._checked_y(y, len(X), dtype, multilabel=True)
    samples = Samples(X, task.targets(task.encode(y), dtype), weights)
    start = collect(estimator, estimator._architecture, dtype)
    if task.scale is not None:
        output = estimator._architecture.dense[-1]
        start[output] = task.scale.inside(start[output])
    found = lbfgs.Objective(estimator._architecture, estimator.alpha_, samples, start)
    found.trainer(task.engine_loss, task.engine_level)
    return found
