"""The course of a fit: callbacks, checkpoints, early stopping, progress, interruption."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import nbbn
from nbbn.commands import progress
from nbbn.estimators.loop import Loop

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

KINDS = ["MLPClassifier", "MLPRegressor"]
kinds = pytest.mark.parametrize("kind", KINDS)
norms = pytest.mark.parametrize("batch_norm", [True, "post", False])


def data(rows=160):
    return make_classification(rows, 9, n_informative=7, n_classes=3, class_sep=1.5, random_state=0)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (12, 5), "max_iter": 6, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


def arrays(estimator):
    names = ("coefs_", "intercepts_", "gammas_", "betas_", "running_means_", "running_vars_")
    return [a for name in names for a in getattr(estimator, name) if a is not None]


def assert_same_bits(got, ref):
    for a, b in zip(arrays(got), arrays(ref), strict=True):
        np.testing.assert_array_equal(a, b)
    for name in ("loss_curve_", "validation_loss_curve_", "validation_scores_", "n_iter_", "t_", "best_loss_"):
        assert getattr(got, name) == getattr(ref, name), name


# scikit-learn's callbacks


class Recorder:
    """Notes every call; may stop."""

    def __init__(self, stop_after=None):
        self.calls, self.fitted, self.stop_after = [], [], stop_after

    def setup(self, estimator, context):
        self.calls.append("setup")

    def teardown(self, estimator, context):
        self.calls.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.calls.append(f"begin {context.task_name} {context.task_id}")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None):
        self.calls.append(f"end {context.task_name} {context.task_id}")
        self.seen = X, y, metadata
        if context.task_name == "epoch":
            self.fitted.append(fitted_estimator)
            return len(self.fitted) == self.stop_after


callback = pytest.importorskip("sklearn.callback", reason="scikit-learn's callbacks came with 1.9")


@kinds
@pytest.mark.parametrize("way", ["parameter", "set_callbacks"])
def test_protocol(kind, way):
    X, y = data()
    recorder, weights = Recorder(), np.ones(len(X))
    model = make(kind, max_iter=2, callbacks=[recorder]) if way == "parameter" else make(kind, max_iter=2)
    if way == "set_callbacks":
        model.set_callbacks(recorder)
    model.fit(X, y, weights)
    assert recorder.calls == ["setup", "begin fit 0", "begin epoch 0", "end epoch 0", "begin epoch 1", "end epoch 1", "end fit 0",
                              "teardown"]  # fmt: skip
    assert recorder.seen[0] is X and recorder.seen[1] is y and recorder.seen[2]["sample_weight"] is weights
    assert hasattr(model, "_skl_callbacks") == (way == "set_callbacks")
    assert not hasattr(model, "_callback_fit_ctx")


@norms
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_fitted_estimator_is_that_of_its_epoch(batch_norm, solver):
    X, y = data()
    recorder = Recorder()
    make(callbacks=recorder, batch_norm=batch_norm, solver=solver, max_iter=4).fit(X, y)
    assert len(recorder.fitted) == 4
    for epochs, got in enumerate(recorder.fitted, start=1):
        ref = make(batch_norm=batch_norm, solver=solver, max_iter=epochs).fit(X, y)
        np.testing.assert_allclose(got.predict_proba(X), ref.predict_proba(X), rtol=1e-9)
        assert got.n_iter_ == epochs


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_protocol_stops(solver):
    X, y = data()
    model = make(callbacks=Recorder(stop_after=3), solver=solver, max_iter=50).fit(X, y)
    assert model.n_iter_ == 3
    ref = make(solver=solver, max_iter=3).fit(X, y)
    np.testing.assert_allclose(model.predict_proba(X), ref.predict_proba(X), rtol=1e-9)


def test_scoring_monitor():
    X, y = data()
    monitor = callback.ScoringMonitor(scoring="accuracy")
    model = make(callbacks=monitor).fit(X, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert [row["task_id"] for row in rows] == list(range(6))
    assert rows[-1]["accuracy"] == model.score(X, y)


def test_progress_bar():
    """Its thread ends, after an error as well."""
    X, y = data()
    make(callbacks=callback.ProgressBar()).fit(X, y)
    with pytest.raises(ValueError, match="NaN"):
        make(callbacks=callback.ProgressBar()).fit(np.where(X > 2, np.nan, X), y)

    def fail(estimator, logs):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make(callbacks=[callback.ProgressBar(), fail]).fit(X, y)
    assert not [t for t in threading.enumerate() if "RichProgress" in type(t).__name__]


def test_callbacks_within_a_search():
    X, y = data()
    monitor = callback.ScoringMonitor(scoring="accuracy")
    GridSearchCV(make(callbacks=[monitor], max_iter=3), {"alpha": [1e-4, 1e-2]}, cv=2).fit(X, y)
    epochs = [row for log in monitor.get_logs("all") for row in log.data if row["task_name"] == "epoch"]
    assert len(epochs) == (2 * 2 + 1) * 3
    GridSearchCV(make(max_iter=2), {"alpha": [1e-4, 1e-2]}, cv=2, n_jobs=2).set_callbacks(callback.ProgressBar()).fit(X, y)
    with pytest.raises(TypeError, match="auto-propagated"):
        GridSearchCV(make(callbacks=callback.ProgressBar()), {"alpha": [1e-4]}, cv=2, error_score="raise").fit(X, y)


def test_clones_share_callbacks():
    recorder = Recorder()
    model = make(callbacks=[recorder], hidden_layer_sizes=[5, 3])
    copy = clone(model)
    assert copy.callbacks is model.callbacks and copy.hidden_layer_sizes is not model.hidden_layer_sizes


def test_no_callbacks():
    X, y = data()
    with pytest.raises(TypeError, match="callbacks must be functions"):
        make(callbacks=[3]).fit(X, y)
    with pytest.raises(TypeError, match="class Recorder; make an object"):
        make(callbacks=[Recorder]).fit(X, y)


def test_functions_with_lbfgs():
    X, y = data()
    seen = []
    model = make(solver="lbfgs", max_iter=20, callbacks=lambda estimator, logs: seen.append(logs) or logs["epoch"] == 4)
    model.fit(X, y, X_val=X, y_val=y)
    assert [logs["epoch"] for logs in seen] == [1, 2, 3, 4] and model.n_iter_ == 4
    assert [logs["loss"] for logs in seen] == model.loss_curve_
    assert [logs["val_score"] for logs in seen] == model.validation_scores_
    assert model.validation_scores_[-1] == model.score(X, y)
    assert model.validation_loss_curve_[-1] == pytest.approx(seen[-1]["val_loss"])


# Early stopping


@kinds
@norms
@pytest.mark.parametrize("by", ["loss", "score", True])
def test_early_stopping_keeps_the_best_epoch(kind, batch_norm, by):
    X, y = data(400)
    outputs = []
    model = make(kind, early_stopping=by, learning_rate_init=0.1, max_iter=40, n_iter_no_change=5, batch_norm=batch_norm,
                 callbacks=lambda estimator, logs: outputs.append(estimator.predict(X)))  # fmt: skip
    model.fit(X[:200], y[:200], X_val=X[200:], y_val=y[200:])
    curve = np.array(model.validation_loss_curve_ if by == "loss" else model.validation_scores_)
    best = curve.argmin() if by == "loss" else curve.argmax()
    assert best < len(curve) - 1, "the last epoch is the best: the test shows nothing"
    np.testing.assert_array_equal(model.predict(X), outputs[best])
    assert model.best_validation_score_ == model.validation_scores_[best] == pytest.approx(model.score(X[200:], y[200:]))
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
    assert len(model.loss_curve_) == len(model.validation_loss_curve_) == len(model.validation_scores_) == 6
    assert model.best_validation_score_ is None
    assert model.validation_scores_[-1] == pytest.approx(model.score(X, y, sample_weight=weights))
    p = model.predict_proba(X)[np.arange(len(X)), y]
    assert model.validation_loss_curve_[-1] == pytest.approx(np.average(-np.log(p), weights=weights))


def test_a_restored_epoch_can_be_trained_on():
    X, y = data(400)
    model = make(early_stopping=True, warm_start=True, max_iter=30).fit(X, y)
    count = len(model.loss_curve_)
    model.fit(X, y)
    assert len(model.loss_curve_) == count + model.n_iter_


# Checkpoints

WAYS = {
    "plain": {},
    "no norm": {"batch_norm": False},
    "dropout": {"dropout": 0.3},
    "in order": {"shuffle": False},
    "sgd, adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.05, "n_iter_no_change": 1},
    "invscaling": {"learning_rate": "invscaling"},
    "one cycle": {"learning_rate": "one_cycle"},
    "adamw": {"solver": "adamw", "clip_norm": 1.0},
    "early stopping": {"early_stopping": True, "learning_rate_init": 0.1},
    "early stopping by loss": {"early_stopping": "loss", "learning_rate_init": 0.1, "shuffle": False},
    "float32": {"dtype": "float32"},
}


@kinds
@pytest.mark.parametrize("stop", [1, 4])
@pytest.mark.parametrize("params", WAYS.values(), ids=WAYS)
def test_resumed_fit_has_the_same_bits(kind, params, stop, tmp_path):
    X, y = data()
    weights = np.linspace(0.5, 2, len(X))
    params = {"max_iter": 9, **params}
    ref = make(kind, **params).fit(X, y, weights)

    def fail(estimator, logs):
        if logs["epoch"] == stop:
            raise ZeroDivisionError

    stopped = make(kind, checkpoint=tmp_path / "fit", callbacks=fail, **params)
    with pytest.raises(ZeroDivisionError):
        stopped.fit(X, y, weights)
    assert not hasattr(stopped, "coefs_")
    seen = []
    got = make(kind, checkpoint=str(tmp_path / "fit"), callbacks=lambda estimator, logs: seen.append(logs["epoch"]), **params)
    got.fit(X, y, weights)
    assert seen[0] == stop + 1
    assert_same_bits(got, ref)
    assert_same_bits(got.set_params(checkpoint=None).partial_fit(X, y, weights) if not params.get("early_stopping") else got,
                     ref.partial_fit(X, y, weights) if not params.get("early_stopping") else ref)  # fmt: skip


@pytest.mark.parametrize("random_state", [np.random.RandomState, lambda seed: None])
def test_resumed_fit_with_other_random_states(random_state, tmp_path):
    X, y = data()
    path = tmp_path / "fit"
    whole = make(random_state=random_state(5), checkpoint=path).fit(X, y)
    kept = path.read_bytes()
    other = make(random_state=random_state(5), max_iter=3, checkpoint=tmp_path / "other").fit(X, y)
    assert other.n_iter_ == 3
    again = make(random_state=random_state(5), checkpoint=path).fit(X, y)
    assert_same_bits(again, whole)
    assert path.read_bytes() == kept


def test_more_epochs_than_before(tmp_path):
    X, y = data()
    make(max_iter=3, checkpoint=tmp_path / "fit").fit(X, y)
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(6\)"):
        got = make(checkpoint=tmp_path / "fit").fit(X, y)
    assert_same_bits(got, make().fit(X, y))


def test_a_finished_fit_stays_finished(tmp_path):
    X, y = data()
    params = {"tol": 10.0, "n_iter_no_change": 2, "max_iter": 50}
    ref = make(checkpoint=tmp_path / "fit", **params).fit(X, y)
    seen = []
    got = make(checkpoint=tmp_path / "fit", callbacks=lambda *args: seen.append(args), **params).fit(X, y)
    assert got.n_iter_ == 4 and seen == []
    assert_same_bits(got, ref)


@pytest.mark.parametrize(
    ("params", "change", "match"),
    [
        ({"alpha": 1.0}, None, "differs in alpha"),
        ({"hidden_layer_sizes": (12, 6)}, None, "hidden_layer_sizes"),
        ({"random_state": 2}, None, "random_state"),
        ({}, "X", "differs in X;"),
        ({}, "y", "differs in y;"),
        ({}, "sample_weight", "differs in sample_weight;"),
        ({"learning_rate": "cosine", "max_iter": 7}, None, "max_iter"),
    ],
    ids=str,
)
def test_checkpoint_of_another_fit(params, change, match, tmp_path):
    X, y = data()
    path = tmp_path / "fit"
    start = {"learning_rate": "cosine"} if "learning_rate" in params else {}
    make(checkpoint=path, max_iter=3, **start).fit(X, y)
    kept = path.read_bytes()
    given = {"X": X, "y": y, "sample_weight": None}
    given |= {"X": {"X": X + 1e-9}, "y": {"y": (y + 1) % 3}, "sample_weight": {"sample_weight": np.ones(len(X))}}.get(change, {})
    with pytest.raises(nbbn.FileError, match=match):
        make(checkpoint=path, **params).fit(**given)
    assert path.read_bytes() == kept


@pytest.mark.parametrize("content", [b"", b"12345678" * 9, None])
def test_broken_checkpoint(content, tmp_path):
    X, y = data()
    path = tmp_path / "fit"
    make(checkpoint=path, max_iter=2).fit(X, y)
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    with pytest.raises(nbbn.FileError, match="no checkpoint of a fit, or broken"):
        make(checkpoint=path).fit(X, y)
    make().fit(X, y).save(path)
    with pytest.raises(nbbn.FileError, match="no checkpoint of a fit, or broken"):
        make(checkpoint=path).fit(X, y)
    with pytest.raises(nbbn.FileError, match="does not exist"):
        make(checkpoint=tmp_path / "none" / "fit").fit(X, y)


def test_a_killed_process_is_resumed(tmp_path):
    code = f"""
        import os, warnings
        import nbbn
        from sklearn.datasets import make_classification
        warnings.simplefilter("ignore")
        X, y = make_classification(160, 9, n_informative=7, n_classes=3, class_sep=1.5, random_state=0)
        model = nbbn.MLPClassifier((12, 5), max_iter=6, batch_size=32, random_state=1, checkpoint={str(tmp_path / "fit")!r})
        model.callbacks = lambda estimator, logs: os._exit(7) if logs["epoch"] == 4 else None
        model.fit(X, y)
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    assert subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, timeout=300).returncode == 7
    seen = []
    got = make(checkpoint=tmp_path / "fit", callbacks=lambda estimator, logs: seen.append(logs["epoch"])).fit(*data())
    assert seen == [5, 6]
    assert_same_bits(got, make().fit(*data()))


# Progress, and interruption


def test_lines_in_a_log(capsys):
    X, y = data()
    make(verbose=True, max_iter=3).fit(X, y, X_val=X, y_val=y)
    make(verbose=2, solver="lbfgs", max_iter=2).fit(X, y)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["Iteration", "Validation"] * 3 + ["Iteration"] * 2


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("validated", [False, True])
def test_bar_on_a_terminal(monkeypatch, solver, validated):
    """Epochs, loss, validation score, rows a second; and the bits of a silent fit."""
    X, y = data()
    stream = io.StringIO()
    monkeypatch.setattr(progress, "console", lambda: Console(file=stream, force_terminal=True, width=120))
    held = {"X_val": X, "y_val": y} if validated else {}
    params = {"solver": solver, "tol": 10.0, "n_iter_no_change": 2} if solver == "adam" else {"solver": solver}
    loud, quiet = make(verbose=True, **params).fit(X, y, **held), make(**params).fit(X, y, **held)
    text = stream.getvalue()
    assert f"{loud.n_iter_}/6" in text and "rows/s" in text and "loss" in text and "epoch" in text
    assert ("validation" in text) == validated
    assert ("Stopping." in text) == (solver == "adam")
    assert_same_bits(loud, quiet)


def test_interruption_keeps_what_is_trained(monkeypatch):
    X, y = data()
    whole, count = Loop._epoch, []

    def interrupted(self, order):
        count.append(1)
        if len(count) == 4:
            raise KeyboardInterrupt
        return whole(self, order)

    monkeypatch.setattr(Loop, "_epoch", interrupted)
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
@pytest.mark.parametrize("params", [
    {"solver": "sgd"}, {"solver": "adamw"}, {"solver": "rmsprop"}, {"clip_norm": 0.5}, {"learning_rate": "invscaling"},
    {"learning_rate": "cosine", "max_iter": 5}, {"learning_rate": "adaptive", "tol": 0.1, "n_iter_no_change": 1},
    {"learning_rate": nbbn.schedules.ExponentialDecay(0.01, 3, 0.5)}, {"dropout": 0.2, "activation": ["gelu", "selu"]},
], ids=str)  # fmt: skip
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
