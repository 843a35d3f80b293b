"""Solvers and learning rates, each against a formula written here."""

from __future__ import annotations

import math

import numpy as np
import pytest
from estimator_helpers import (
    arrays,
    assert_close,
    norms,
    numbers,
    objective_of,
    solvers,
    three_classes,
)

import nbbn
from nbbn.estimators.mlp.mlp_task import REGRESSION_LOSSES

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(rows=90, features=8):
    return three_classes(rows, features, 6)


def classifier(**params):
    defaults = {
        "hidden_layer_sizes": (9, 5), "max_iter": 4, "batch_size": 25, "random_state": 1,
        "shuffle": False,
    }
    return nbbn.MLPClassifier(**{**defaults, **params})


def regressor(**params):
    defaults = {
        "hidden_layer_sizes": (9, 5), "max_iter": 4, "batch_size": 25, "random_state": 1,
        "shuffle": False,
    }
    return nbbn.MLPRegressor(**{**defaults, **params})


# Solvers


def steps_of(model, X, y, count):
    """Weights after `count` full batches, and the gradient before each."""
    found = []
    for n in range(1, count + 1):
        fitted = model.set_params(max_iter=n, batch_size=len(X)).fit(X, y)
        objective = objective_of(fitted, X, y)
        found.append((objective.pack(), objective(objective.pack())[1]))
    return found


@norms
def test_adamw(batch_norm):
    """Decoupled: `p -= rate * alpha * p`, then Adam's step of a gradient without a penalty.

    The loss has none either.
    """
    X, y = data()
    params = {
        "batch_norm": batch_norm, "learning_rate_init": 0.01, "beta_1": 0.8, "epsilon": 1e-3,
        "activation": "tanh",
    }
    model = classifier(solver="adamw", alpha=0.5, **params)
    points = [p for p, _ in steps_of(model, X, y, 4)]
    bare = classifier(solver="adamw", alpha=0.0, **params)
    objective = objective_of(bare.set_params(max_iter=1, batch_size=len(X)).fit(X, y), X, y)
    m = v = 0.0
    start = classifier(
        batch_size=len(X), max_iter=1, **{**params, "learning_rate_init": 1e-200}
    ).fit(X, y)
    p = objective_of(start, X, y).pack()
    for t, ref in enumerate(points, start=1):
        loss, g = objective(p)
        m, v = 0.8 * m + 0.2 * g, 0.999 * v + 0.001 * g * g
        rate = 0.01 * math.sqrt(1 - 0.999**t) / (1 - 0.8**t)
        p = p - 0.01 * 0.5 * p - rate * m / (np.sqrt(v) + 1e-3)
        np.testing.assert_allclose(ref, p, rtol=1e-7, atol=1e-10)
        assert model.loss_curve_[t - 1] == pytest.approx(loss, rel=1e-9)


@norms
def test_clip_norm(batch_norm):
    """A gradient longer than the bound is scaled down to it, all arrays together."""
    X, y = data()
    params = {
        "solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1, "batch_norm": batch_norm,
        "batch_size": len(X),
    }
    start = objective_of(
        classifier(**{**params, "learning_rate_init": 1e-200, "max_iter": 1}).fit(X, y), X, y
    )
    p, (_, gradient) = start.pack(), start(start.pack())
    length = np.linalg.norm(gradient)
    for bound in (0.3 * length, 2 * length):
        fitted = classifier(clip_norm=bound, max_iter=1, **params).fit(X, y)
        step = p - objective_of(fitted, X, y).pack()
        np.testing.assert_allclose(
            step, 0.1 * gradient * min(1, bound / length), rtol=1e-7, atol=1e-12
        )


@solvers
@norms
def test_clip_norm_beyond_reach_changes_nothing(solver, batch_norm):
    X, y = data()
    params = {"solver": solver, "batch_norm": batch_norm}
    got, ref = classifier(clip_norm=1e9, **params).fit(X, y), classifier(**params).fit(X, y)
    assert_close(got, ref, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("loss", ["log_loss", *REGRESSION_LOSSES])
@norms
def test_lbfgs_finds_a_minimum(loss, batch_norm):
    if loss == "log_loss":
        X, y = data()
        model = classifier(
            solver="lbfgs", max_iter=40, batch_norm=batch_norm, alpha=1.0, activation="tanh"
        ).fit(X, y)
    else:
        X, y = numbers()
        y = np.abs(y).round() if loss == "poisson" else y
        model = regressor(
            solver="lbfgs", max_iter=40, batch_norm=batch_norm, loss=loss, alpha=1.0,
            activation="tanh",
        ).fit(X, y)
    curve = np.array(model.loss_curve_)
    assert (
        model.n_iter_ == len(curve)
        and (np.diff(curve) <= 1e-12).all()
        and curve[-1] < 0.7 * curve[0]
    )
    assert model.loss_ == pytest.approx(curve[-1])


def test_lbfgs_running_statistics_are_those_of_all_rows():
    X, y = data()
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    for w in (None, weights):
        model = classifier(solver="lbfgs", max_iter=7, activation="tanh").fit(X, y, w)
        z = X @ model.coefs_[0]
        np.testing.assert_allclose(
            model.running_means_[0], np.average(z, axis=0, weights=w), rtol=1e-9, atol=1e-12
        )
        var = np.average(np.square(z - np.average(z, axis=0, weights=w)), axis=0, weights=w)
        np.testing.assert_allclose(model.running_vars_[0], var, rtol=1e-9)


def test_lbfgs_in_single_precision():
    """Computed in double precision, and rounded at the end."""
    X, y = data()
    got = classifier(solver="lbfgs", max_iter=9).fit(X.astype(np.float32), y)
    ref = classifier(solver="lbfgs", max_iter=9).fit(X.astype(np.float32).astype(np.float64), y)
    assert {a.dtype for a in arrays(got)} == {np.dtype("float32")}
    assert_close(got, ref, rtol=1e-5, atol=1e-6)


# Learning rates


def schedule_of(name, epochs, steps, rate=0.02, power=0.5, rows=90):
    """The rate of each step of a fit."""
    t = np.arange(epochs * steps)
    if name == "cosine":
        return rate * 0.5 * (1 + np.cos(np.pi * t / (epochs * steps)))
    if name == "one_cycle":
        last = epochs * steps - 1
        top = 0.3 * last
        up, down = np.minimum(t / top, 1), np.clip((t - top) / (last - top), 0, 1)
        rising = 0.04 + (1 - 0.04) * 0.5 * (1 - np.cos(np.pi * up))
        falling = 4e-6 + (1 - 4e-6) * 0.5 * (1 + np.cos(np.pi * down))
        return rate * np.where(t < top, rising, falling)
    seen = rows * (t // steps)
    return np.where(t < steps, rate, rate / (seen + 1) ** power)  # invscaling


@solvers
@pytest.mark.parametrize("name", ["cosine", "one_cycle", "invscaling"])
def test_schedule(solver, name):
    X, y = data()
    params = {"solver": solver, "max_iter": 5, "learning_rate_init": 0.02}
    rates = schedule_of(name, 5, 4)
    got = classifier(learning_rate=name, **params).fit(X, y)
    ref = classifier(learning_rate=lambda step: rates[step], **params).fit(X, y)
    assert_close(got, ref, rtol=1e-9, atol=1e-12)


@solvers
def test_function_of_the_step(solver):
    X, y = data()
    asked = []
    got = classifier(solver=solver, learning_rate=lambda step: asked.append(step) or 0.001).fit(
        X, y
    )
    assert_close(got, classifier(solver=solver, learning_rate_init=0.001).fit(X, y))
    assert asked == list(range(16))
    as_object = classifier(
        solver=solver, learning_rate=nbbn.schedules.CosineDecay(0.02, 20), max_iter=5
    ).fit(X, y)
    ref = classifier(
        solver=solver, learning_rate="cosine", learning_rate_init=0.02, max_iter=5
    ).fit(X, y)
    assert_close(as_object, ref)


@solvers
def test_adaptive_rate(solver):
    """The rate falls by fives while nothing improves, until it is too small."""
    X, y = data()
    model = classifier(
        solver=solver, learning_rate="adaptive", learning_rate_init=1e-3, tol=100.0,
        n_iter_no_change=2, max_iter=100,
    ).fit(X, y)
    # An improvement on infinity, the first patience, five slower ones.
    assert model.n_iter_ == 1 + 3 + 5 * 3
    assert model._fit_state.rate == pytest.approx(1e-3 / 5**5)
    constant = classifier(solver=solver, tol=100.0, n_iter_no_change=2, max_iter=100).fit(X, y)
    assert constant.n_iter_ == 4


@pytest.mark.parametrize(
    "wrong", [lambda step: -1.0, lambda step: float("nan"), lambda step: math.inf]
)
def test_wrong_rate(wrong):
    X, y = data()
    with pytest.raises(ValueError, match="learning_rate"):
        classifier(learning_rate=wrong).fit(X, y)


def test_the_first_step_of_rmsprop():
    """Its mean of squares forgets a tenth a step: the first step is `rate / sqrt(0.1)` long."""
    X, y = three_classes(60, 8, 6)
    params = {"hidden_layer_sizes": (7,), "batch_size": 60, "random_state": 0, "solver": "rmsprop",
              "learning_rate_init": 1e-3, "batch_norm": False, "alpha": 0.0, "dtype": "float64"}
    one = nbbn.MLPClassifier(max_iter=1, **params).fit(X, y)
    start = nbbn.MLPClassifier(max_iter=1, **{**params, "learning_rate_init": 1e-30}).fit(X, y)
    moves = np.abs(one.coefs_[1] - start.coefs_[1])
    np.testing.assert_allclose(moves, 1e-3 / np.sqrt(0.1), rtol=1e-3)


@pytest.mark.parametrize("tol, epochs", [(0.0, 9), (1e-9, 4)])
def test_a_score_that_stays_is_an_improvement_by_0(tol, epochs):
    """As in scikit-learn: with a tolerance of 0 equal scores do not end the fit."""
    from sklearn.neural_network import MLPClassifier

    X, y = three_classes(60, 8, 6)
    params = {"hidden_layer_sizes": (7,), "early_stopping": True, "tol": tol, "max_iter": 9,
              "n_iter_no_change": 2, "learning_rate_init": 1e-12, "random_state": 0}
    for model in (nbbn.MLPClassifier(batch_norm=False, **params), MLPClassifier(**params)):
        assert model.fit(X, y).n_iter_ == epochs
