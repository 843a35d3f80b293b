"""scikit-learn's callbacks, from 1.9 on."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from estimator_helpers import assert_same_fit, kinds, norms, three_classes
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(rows=160):
    return three_classes(rows, 9, 7)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (12, 5), "max_iter": 6, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


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

    def on_fit_task_end(
        self, estimator, context, *, X=None, y=None, metadata=None, fitted_estimator=None
    ):
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
    model = (
        make(kind, max_iter=2, callbacks=[recorder])
        if way == "parameter"
        else make(kind, max_iter=2)
    )
    if way == "set_callbacks":
        model.set_callbacks(recorder)
    model.fit(X, y, weights)
    assert recorder.calls == [
        "setup", "begin fit 0", "begin epoch 0", "end epoch 0", "begin epoch 1", "end epoch 1",
        "end fit 0", "teardown",
    ]
    assert (
        recorder.seen[0] is X
        and recorder.seen[1] is y
        and recorder.seen[2]["sample_weight"] is weights
    )
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


@pytest.mark.slow
def test_callbacks_within_a_search():
    X, y = data()
    monitor = callback.ScoringMonitor(scoring="accuracy")
    GridSearchCV(make(callbacks=[monitor], max_iter=3), {"alpha": [1e-4, 1e-2]}, cv=2).fit(X, y)
    epochs = [
        row for log in monitor.get_logs("all") for row in log.data if row["task_name"] == "epoch"
    ]
    assert len(epochs) == (2 * 2 + 1) * 3
    GridSearchCV(make(max_iter=2), {"alpha": [1e-4, 1e-2]}, cv=2, n_jobs=2).set_callbacks(
        callback.ProgressBar()
    ).fit(X, y)
    with pytest.raises(TypeError, match="auto-propagated"):
        GridSearchCV(
            make(callbacks=callback.ProgressBar()), {"alpha": [1e-4]}, cv=2, error_score="raise"
        ).fit(X, y)


def test_callbacks_within_a_pipeline():
    """Of the network alone, and of the whole: a bar that shows its steps."""
    X, y = data()
    monitor = callback.ScoringMonitor(scoring="accuracy")
    pipeline = make_pipeline(StandardScaler(), make(max_iter=4).set_callbacks(monitor)).fit(X, y)
    rows = [row for row in monitor.get_logs().data if row["task_name"] == "epoch"]
    assert len(rows) == 4 and rows[-1]["accuracy"] == pipeline.score(X, y)
    ref = make_pipeline(StandardScaler(), make(max_iter=4)).fit(X, y)
    watched = (
        make_pipeline(StandardScaler(), make(max_iter=4))
        .set_callbacks(callback.ProgressBar())
        .fit(X, y)
    )
    assert_same_fit(watched[-1], ref[-1])
    assert_same_fit(pipeline[-1], ref[-1])


def test_clones_share_callbacks():
    recorder = Recorder()
    model = make(callbacks=[recorder], hidden_layer_sizes=[5, 3])
    copy = clone(model)
    assert (
        copy.callbacks is model.callbacks
        and copy.hidden_layer_sizes is not model.hidden_layer_sizes
    )


def test_no_callbacks():
    X, y = data()
    with pytest.raises(TypeError, match="callbacks must be functions"):
        make(callbacks=[3]).fit(X, y)
    with pytest.raises(TypeError, match="class Recorder; make an object"):
        make(callbacks=[Recorder]).fit(X, y)


def test_functions_with_lbfgs():
    X, y = data()
    seen = []
    model = make(
        solver="lbfgs",
        max_iter=20,
        callbacks=lambda estimator, logs: seen.append(logs) or logs["epoch"] == 4,
    )
    model.fit(X, y, X_val=X, y_val=y)
    assert [logs["epoch"] for logs in seen] == [1, 2, 3, 4] and model.n_iter_ == 4
    assert [logs["loss"] for logs in seen] == model.loss_curve_
    assert [logs["val_score"] for logs in seen] == model.validation_scores_
    assert model.validation_scores_[-1] == model.score(X, y)
    assert model.validation_loss_curve_[-1] == pytest.approx(seen[-1]["val_loss"])
