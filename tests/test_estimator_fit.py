"""The course of a fit: early stopping, progress, interruption, and a fit in pieces."""

from __future__ import annotations

import io
import pickle

import numpy as np
import pytest
from estimator_helpers import arrays, assert_same_fit, kinds, norms, three_classes
from rich.console import Console
from rich.errors import LiveError
from rich.progress import Progress

import nbbn
from nbbn import terminal
from nbbn.training_loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(rows=160):
    return three_classes(rows, 9, 7)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (12, 5), "max_iter": 6, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


# Early stopping


@kinds
@norms
@pytest.mark.parametrize("by", ["loss", "score", True])
def test_early_stopping_keeps_the_best_epoch(kind, batch_norm, by):
    X, y = data(400)
    outputs = []
    model = make(
        kind, early_stopping=by, learning_rate_init=0.1, max_iter=40, n_iter_no_change=5,
        batch_norm=batch_norm,
        callbacks=lambda estimator, logs: outputs.append(estimator.predict(X)),
    )
    model.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    curve = np.array(model.validation_loss_curve_ if by == "loss" else model.validation_scores_)
    best = curve.argmin() if by == "loss" else curve.argmax()
    assert best < len(curve) - 1, "the last epoch is the best: the test shows nothing"
    np.testing.assert_array_equal(model.predict(X), outputs[best])
    assert (
        model.best_validation_score_
        == model.validation_scores_[best]
        == pytest.approx(model.score(X[200:], y[200:]))
    )
    assert model.best_loss_ is None


def test_early_stopping_by_loss_counts():
    X, y = data(400)
    model = make(early_stopping="loss", tol=10.0, n_iter_no_change=3, max_iter=50).fit(X, y)
    assert model.n_iter_ == 1 + 4
    assert model.t_ == 5 * 360


def test_curves_are_kept_without_early_stopping():
    X, y = data()
    weights = np.linspace(0, 2, len(X))
    model = make().fit(X, y, X_val=X, y_val=y, sample_weight_val=weights)
    assert (
        len(model.loss_curve_)
        == len(model.validation_loss_curve_)
        == len(model.validation_scores_)
        == 6
    )
    assert model.best_validation_score_ is None
    assert model.validation_scores_[-1] == pytest.approx(model.score(X, y, sample_weight=weights))
    p = model.predict_proba(X)[np.arange(len(X)), y]
    assert model.validation_loss_curve_[-1] == pytest.approx(
        np.average(-np.log(p), weights=weights)
    )


def test_a_restored_epoch_can_be_trained_on():
    X, y = data(400)
    model = make(early_stopping=True, warm_start=True, max_iter=30).fit(X, y)
    count = len(model.loss_curve_)
    model.fit(X, y)
    assert len(model.loss_curve_) == count + model.n_iter_


# Progress, and interruption


CHANGES = {
    "nothing": lambda model, X: None,
    "the penalty": lambda model, X: model.set_params(alpha=0.5),
    "the moments": lambda model, X: model.set_params(beta_1=0.5, epsilon=1e-3),
    "the rate": lambda model, X: model.set_params(
        learning_rate="invscaling", learning_rate_init=0.1
    ),
    "the bound": lambda model, X: model.set_params(clip_norm=0.1),
    "the batches": lambda model, X: model.set_params(batch_size=50),
    "the threads": lambda model, X: model.set_params(n_jobs=1),
    "the statistics": lambda model, X: model.recalibrate(X[:50]),
    "the weights": lambda model, X: setattr(
        model, "coefs_", [2 * kernel for kernel in model.coefs_]
    ),
    "a failed call": lambda model, X: failed_call(model, X),
    "a fit": lambda model, X: model.fit(X, np.arange(len(X)) % 3),
}


def failed_call(model, X):
    def fail(estimator, logs):
        raise ZeroDivisionError

    model.callbacks = fail
    with pytest.raises(ZeroDivisionError):
        model.partial_fit(X, np.arange(len(X)) % 3)
    model.callbacks = None


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changes_between_calls_counts(change):
    """A call of partial_fit goes on with the last one's compiled step, one of a pickle compiles its
    own: the same bits.
    """
    X, y = data()
    params = {"dropout": 0.2, "max_iter": 3}
    got, ref = (
        make(**params).partial_fit(X, y, classes=[0, 1, 2]).partial_fit(X, y) for _ in range(2)
    )
    change(got, X)
    change(ref, X)
    for _ in range(2):
        got, ref = got.partial_fit(X, y), pickle.loads(pickle.dumps(ref)).partial_fit(X, y)
        assert_same_fit(got, ref)
    weights = np.linspace(0, 2, 90)
    for arguments in (
        (X[:90], y[:90]), (X[:90], y[:90], weights), (X[:90].astype(np.float32), y[:90]),
    ):
        got, ref = (
            got.partial_fit(*arguments),
            pickle.loads(pickle.dumps(ref)).partial_fit(*arguments),
        )
        assert_same_fit(got, ref)


def test_lines_in_a_log(capsys):
    X, y = data()
    make(verbose=True, max_iter=3).fit(X, y, X_val=X, y_val=y)
    make(verbose=2, solver="lbfgs", max_iter=2).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["Iteration", "Validation"] * 3 + [
        "Iteration"
    ] * 2


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("validated", [False, True])
def test_bar_on_a_terminal(monkeypatch, solver, validated):
    """Epochs, loss, validation score, rows a second; and the bits of a silent fit."""
    X, y = data()
    stream = io.StringIO()
    monkeypatch.setattr(
        terminal, "console", lambda: Console(file=stream, force_terminal=True, width=120)
    )
    held = {"X_val": X, "y_val": y} if validated else {}
    params = (
        {"solver": solver, "tol": 10.0, "n_iter_no_change": 2}
        if solver == "adam"
        else {"solver": solver}
    )
    loud, quiet = make(verbose=True, **params).fit(X, y, **held), make(**params).fit(X, y, **held)
    text = stream.getvalue()
    assert f"{loud.n_iter_}/6" in text and "rows/s" in text and "loss" in text and "epoch" in text
    assert ("validation" in text) == validated
    assert ("Stopping." in text) == (solver == "adam")
    assert_same_fit(loud, quiet)


def test_lines_beside_another_bar(monkeypatch, capsys):
    """An older rich draws one bar at a time, and refuses a second."""
    X, y = data()

    def refuse(self):
        raise LiveError("Only one live display may be active at once")

    monkeypatch.setattr(
        terminal, "console", lambda: Console(file=io.StringIO(), force_terminal=True)
    )
    monkeypatch.setattr(Progress, "start", refuse)
    make(verbose=True, max_iter=3).fit(X, y)
    assert [line.split(",")[0] for line in capsys.readouterr().out.splitlines()] == [
        f"Iteration {n}" for n in (1, 2, 3)
    ]


def test_interruption_keeps_what_is_trained(monkeypatch):
    X, y = data()
    whole, count = Loop.epoch, []

    def interrupted(self, watcher):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return whole(self, watcher)

    monkeypatch.setattr(Loop, "epoch", interrupted)
    with pytest.warns(UserWarning, match=r"Training interrupted by user\."):
        got = make().fit(X, y)
    monkeypatch.undo()
    assert got.n_iter_ == 3
    np.testing.assert_array_equal(got.predict_proba(X), make(max_iter=3).fit(X, y).predict_proba(X))


@kinds
def test_a_fit_that_raises_leaves_no_trace(kind):
    X, y = data()
    model = make(kind).fit(X, y)
    before = pickle.dumps(model)

    def fail(estimator, logs):
        raise ZeroDivisionError

    model.callbacks = [fail]
    with pytest.raises(ZeroDivisionError):
        model.fit(X[:, :5], y)
    model.callbacks = None
    assert pickle.dumps(model) == before


@kinds
@norms
@pytest.mark.parametrize(
    "params",
    [
        {"solver": "sgd"}, {"solver": "adamw"}, {"solver": "rmsprop"}, {"clip_norm": 0.5},
        {"learning_rate": "invscaling"}, {"learning_rate": "cosine", "max_iter": 5},
        {"learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
        {"learning_rate": nbbn.schedules.ExponentialDecay(0.01, 3, 0.5)},
        {"dropout": 0.2, "activation": ["gelu", "selu"]},
    ],
    ids=str,
)
def test_partial_fit_is_fit_in_pieces(kind, batch_norm, params):
    """n calls are n epochs, bit for bit; through a pickle as well."""
    X, y = data()
    weights = np.linspace(0, 2, len(X))
    params = {"shuffle": False, "batch_norm": batch_norm, **params}
    whole, parts = make(kind, **{"max_iter": 5, **params}).fit(X, y, weights), make(kind, **params)
    extra = {"classes": [0, 1, 2]} if kind == "MLPClassifier" else {}
    for _ in range(5):
        parts = pickle.loads(pickle.dumps(parts)).partial_fit(X, y, sample_weight=weights, **extra)
    for a, b in zip(arrays(parts), arrays(whole), strict=True):
        np.testing.assert_array_equal(a, b)
    assert parts.loss_curve_ == whole.loss_curve_ and parts.t_ == whole.t_
