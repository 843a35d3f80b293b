"""Training by epochs: going on, stopping, validation data, functions as callbacks."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from estimator_helpers import assert_same_bits, kinds, three_classes
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import log_loss, mean_squared_error

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(rows=203, features=13):
    return three_classes(rows, features, 8)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (20, 7), "max_iter": 4, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


@kinds
@pytest.mark.parametrize("solver", ["sgd", "adam", "rmsprop"])
@pytest.mark.parametrize("batch_norm", [True, "post", False])
def test_partial_fit_continues(kind, solver, batch_norm):
    """n calls of partial_fit are n epochs of fit, bit for bit."""
    X, y = data()
    params = {"solver": solver, "batch_norm": batch_norm, "shuffle": False}
    whole = make(kind, max_iter=5, **params).fit(X, y)
    parts = make(kind, **params)
    extra = {"classes": [0, 1, 2]} if kind == "MLPClassifier" else {}
    for _ in range(5):
        assert parts.partial_fit(X, y, **extra) is parts
    assert_same_bits(parts, whole)
    assert parts.t_ == whole.t_
    np.testing.assert_array_equal(parts.predict(X), whole.predict(X))


def test_partial_fit_sees_classes_later():
    X, y = data()
    estimator = make().partial_fit(X[y < 2], y[y < 2], classes=[0, 1, 2])
    for _ in range(30):
        estimator.partial_fit(X, y)
    np.testing.assert_array_equal(np.unique(estimator.predict(X)), [0, 1, 2])


def test_shuffling():
    X, y = data()
    ref = make(shuffle=True).fit(X, y)
    assert_same_bits(make(shuffle=True).fit(X, y), ref)
    assert make(shuffle=False).fit(X, y).loss_curve_ != ref.loss_curve_
    assert make(shuffle=True, random_state=2).fit(X, y).loss_curve_ != ref.loss_curve_
    by_instance = make(random_state=np.random.RandomState(1)).fit(X, y)
    assert_same_bits(by_instance, ref)


def test_stops_without_improvement():
    X, y = data()
    with pytest.warns(ConvergenceWarning, match=r"Maximum iterations \(3\)"):
        make(max_iter=3).fit(X, y)
    fitted = make(max_iter=100, tol=10.0, n_iter_no_change=2).fit(X, y)
    # The first epoch improves on infinity; the next three do not, which is more than two.
    assert fitted.n_iter_ == 4


@kinds
def test_early_stopping(kind):
    X, y = data(400)
    fitted = make(
        kind, early_stopping=True, validation_fraction=0.25, max_iter=200, n_iter_no_change=5
    ).fit(X, y)
    assert fitted.n_iter_ == len(fitted.validation_scores_) < 200
    assert fitted.best_validation_score_ == max(fitted.validation_scores_)
    assert fitted.best_loss_ is None
    assert fitted.t_ == fitted.n_iter_ * 300


@kinds
def test_validation_data(kind):
    X, y = data(300)
    train, held_out = (X[:200], y[:200]), (X[200:], y[200:])
    params = {"normalize_y": False} if kind == "MLPRegressor" else {}
    fitted = make(kind, **params).fit(*train, X_val=held_out[0], y_val=held_out[1])
    assert len(fitted.validation_scores_) == len(fitted.validation_loss_curve_) == 4
    assert fitted.validation_scores_[-1] == pytest.approx(fitted.score(*held_out), rel=1e-12)
    if kind == "MLPClassifier":
        loss = log_loss(held_out[1], fitted.predict_proba(held_out[0]))
    else:
        loss = mean_squared_error(held_out[1], fitted.predict(held_out[0])) / 2
    assert fitted.validation_loss_curve_[-1] == pytest.approx(loss, rel=1e-9)
    assert_same_bits(fitted, make(kind, **params).fit(*train))


@pytest.mark.parametrize("batch_norm", [True, "post", False])
def test_best_epoch_is_restored_whole(batch_norm):
    """Weights of the best epoch with the running statistics of the last would score differently."""
    X, y = data(300)
    labels = np.array(["ash", "beech", "cedar"])[y]
    estimator = make(
        early_stopping=True, learning_rate_init=0.3, max_iter=12, batch_norm=batch_norm
    )
    estimator.fit(X[:200], labels[:200], X_val=X[200:], y_val=labels[200:])
    scores = estimator.validation_scores_
    assert scores[-1] < max(scores), "the last epoch is the best: the test shows nothing"
    assert estimator.score(X[200:], labels[200:]) == pytest.approx(max(scores), abs=1e-12)
    assert estimator.best_validation_score_ == max(scores)


def test_validation_data_come_in_pairs():
    X, y = data()
    with pytest.raises(ValueError, match="y_val"):
        make().fit(X, y, X_val=X)
    with pytest.raises(ValueError, match="X_val"):
        make().fit(X, y, y_val=y)
    with pytest.raises(ValueError, match="12 features"):
        make().fit(X, y, X_val=X[:, :12], y_val=y)


@kinds
def test_callbacks(kind):
    X, y = data()
    seen = []
    estimator = make(kind, callbacks=[lambda estimator, logs: seen.append((estimator, dict(logs)))])
    estimator.fit(X, y, X_val=X, y_val=y)
    assert [logs["epoch"] for _, logs in seen] == [1, 2, 3, 4]
    assert [logs["loss"] for _, logs in seen] == estimator.loss_curve_
    assert [logs["val_loss"] for _, logs in seen] == estimator.validation_loss_curve_
    assert [logs["val_score"] for _, logs in seen] == estimator.validation_scores_
    assert all(
        who is estimator and logs["epochs"] == 4 and logs["seconds"] >= 0 for who, logs in seen
    )
    assert all(("accuracy" in logs) == (kind == "MLPClassifier") for _, logs in seen)
    assert all(0 <= logs.get("accuracy", 0.5) <= 1 for _, logs in seen)
    seen.clear()
    estimator.fit(X, y)
    assert not {"val_loss", "val_score"} & set(seen[0][1])


def test_callback_stops_training():
    X, y = data()
    stopped = make(max_iter=50, callbacks=[lambda _, logs: logs["epoch"] == 3]).fit(X, y)
    assert stopped.n_iter_ == 3
    np.testing.assert_array_equal(stopped.predict(X), make(max_iter=3).fit(X, y).predict(X))


def test_callback_sees_the_network_of_its_epoch():
    X, y = data()
    outputs = []
    make(
        shuffle=False,
        callbacks=[lambda estimator, logs: outputs.append(estimator.predict_proba(X))],
    ).fit(X, y)
    for epochs, got in enumerate(outputs, start=1):
        np.testing.assert_array_equal(
            got, make(shuffle=False, max_iter=epochs).fit(X, y).predict_proba(X)
        )


def test_error_in_a_callback_comes_through():
    X, y = data()

    def fail(estimator, logs):
        raise ZeroDivisionError("mine")

    estimator = make(callbacks=[fail])
    with pytest.raises(ZeroDivisionError, match="mine"):
        estimator.fit(X, y)
    assert_same_bits(estimator.set_params(callbacks=None).fit(X, y), make().fit(X, y))


@pytest.mark.parametrize("batch_norm", [True, "post"])
def test_running_statistics_are_right_after_ten_steps(batch_norm):
    """From their start at 0 and 1, plain moving averages would be a third of the way off."""
    rng = np.random.default_rng(0)
    X = rng.normal(5, 3, (320, 20))
    y = (X[:, :10].sum(axis=1) > X[:, 10:].sum(axis=1)).astype(int)
    fitted = make(hidden_layer_sizes=(16,), max_iter=1, batch_norm=batch_norm).fit(X, y)
    inside = X @ fitted.coefs_[0]
    inside = inside if batch_norm is True else np.maximum(inside, 0)
    alive = inside.var(axis=0) > 1e-3
    assert alive.sum() > 8
    mean, var = fitted.running_means_[0][alive], fitted.running_vars_[0][alive]
    np.testing.assert_allclose(var, inside.var(axis=0)[alive], rtol=0.3, atol=0.5)
    assert (np.abs(mean - inside.mean(axis=0)[alive]) < 0.3 * inside.std(axis=0)[alive]).all()
    assert np.abs(var - 1).max() > 1

    network = naive.MLP(
        fitted.coefs_, fitted.intercepts_, ["pre" if batch_norm is True else "post"]
    )
    network.gammas, network.betas = fitted.gammas_, fitted.betas_
    training_mode = ((network.forward_train(X)[0][:, 0] > 0) == y).mean()
    assert fitted.score(X, y) == pytest.approx(training_mode, abs=0.05)


@pytest.mark.parametrize("verbose", [True, False])
def test_verbose(verbose, capsys):
    X, y = data()
    make(verbose=verbose).fit(X, y)
    out, err = capsys.readouterr()
    assert bool(out + err) == verbose
