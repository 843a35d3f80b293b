"""What batch norm changes where the user says nothing, and regression on standardised targets."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from estimator_helpers import assert_same_bits, numbers, three_classes
from safetensors import safe_open
from safetensors.numpy import save_file
from scipy.sparse import csr_array
from sklearn.base import clone

import nbbn
from nbbn.partitions.partitions import Partitions

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

REGRESSION_LOSSES = ["squared_error", "absolute_error", "huber", "quantile"]


def regressor(**params):
    defaults = {"hidden_layer_sizes": (12, 7), "max_iter": 5, "batch_size": 30, "random_state": 1}
    return nbbn.MLPRegressor(**{**defaults, **params})


def far(outputs=1):
    """Rows, and targets far from mean 0 and variance 1, of several scales."""
    X, y = numbers(outputs=outputs)
    return X, y * np.array([3000.0, 0.02, 7.0])[:outputs].squeeze() + 5e4


# Rate and penalty


@pytest.mark.parametrize(
    "batch_norm, rate, alpha",
    [
        (False, 0.001, 1e-4), (True, 0.002, 0.05), ("post", 0.002, 0.05),
        ([False, True], 0.002, 0.05), ([False, False], 0.001, 1e-4),
    ],
    ids=str,
)
@pytest.mark.parametrize("solver", ["adam", "adamw", "sgd", "lbfgs"])
def test_rate_and_penalty_go_by_batch_norm(batch_norm, rate, alpha, solver):
    X, y = three_classes(90, 8, 6)
    params = {"hidden_layer_sizes": (9, 5), "max_iter": 3, "random_state": 0, "solver": solver,
              "batch_norm": batch_norm}  # fmt: skip
    fitted = nbbn.MLPClassifier(**params).fit(X, y)
    assert (fitted.learning_rate_init_, fitted.alpha_) == (rate, alpha)
    assert fitted.get_params()["alpha"] is None and clone(fitted).learning_rate_init is None
    told = nbbn.MLPClassifier(**params, learning_rate_init=rate, alpha=alpha).fit(X, y)
    assert_same_bits(fitted, told)


def test_what_is_given_wins():
    X, y = three_classes(90, 8, 6)
    fitted = nbbn.MLPClassifier(max_iter=2, learning_rate_init=0.5, alpha=0).fit(X, y)
    assert (fitted.learning_rate_init_, fitted.alpha_) == (0.5, 0.0)


def test_resolved_values_are_those_of_a_file(tmp_path):
    X, y = three_classes(90, 8, 6)
    fitted = nbbn.MLPClassifier(max_iter=2, alpha=0.25).fit(X, y)
    fitted.save(tmp_path / "m.safetensors")
    got = nbbn.load(tmp_path / "m.safetensors")
    assert (got.learning_rate_init, got.learning_rate_init_) == (None, 0.002)
    assert (got.alpha, got.alpha_) == (0.25, 0.25)


# Standardised targets


def standardised_by_hand(model, X, y, weights=None):
    """A model that was fitted on standardised targets from the same start; its answers."""
    scale, one = model._task.scale, y.ndim == 1
    mean = np.average(y, axis=0, weights=weights)
    spread = np.sqrt(np.average(np.square(y - mean), axis=0, weights=weights))
    if model.loss == "huber":
        spread = np.sqrt(np.mean(np.square(spread)))
    # They are rounded.
    np.testing.assert_allclose(scale.shift, np.atleast_1d(mean), atol=1e-6 * np.max(spread))
    np.testing.assert_allclose(scale.spread, np.broadcast_to(spread, len(scale.spread)), rtol=1e-6)
    mean, spread = (np.array(v)[0] if one else np.array(v) for v in (scale.shift, scale.spread))
    start = clone(model).set_params(learning_rate_init=1e-300, max_iter=1).fit(X, y, weights)
    other = clone(model).set_params(normalize_y=False, warm_start=True)
    if model.loss == "huber":
        other.set_params(huber_delta=model.huber_delta / np.max(spread))
    other.n_features_in_ = X.shape[1]
    for name in ("coefs_", "intercepts_", "gammas_", "betas_"):
        setattr(other, name, [None if a is None else a.copy() for a in getattr(start, name)])
    for name in ("coefs_", "intercepts_"):
        getattr(other, name)[-1][:] = 0
    other.fit(X, (y - mean) / spread, weights)
    return other, other.predict(X) * spread + mean


@pytest.mark.parametrize("loss", REGRESSION_LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_targets_are_standardised(loss, outputs, weighted):
    X, y = far(outputs)
    weights = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    model = regressor(loss=loss, huber_delta=100.0, shuffle=False).fit(X, y, weights)
    other, ref = standardised_by_hand(model, X, y, weights)
    np.testing.assert_allclose(model.predict(X), ref, rtol=1e-9)
    np.testing.assert_allclose(model.loss_curve_, other.loss_curve_, rtol=1e-7)
    assert np.ptp(ref, axis=0).min() > 0


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_units_of_the_targets_do_not_matter(solver):
    X, y = numbers(outputs=3)
    factor, shift = np.array([1e6, 1e-3, -40.0]), np.array([1e5, 3.0, 0.0])
    one = regressor(solver=solver).fit(X, y).predict(X)
    other = regressor(solver=solver).fit(X, y * factor + shift).predict(X)
    np.testing.assert_allclose((other - shift) / factor, one, rtol=1e-3, atol=1e-3)


def test_a_fit_starts_at_the_mean():
    X, y = far()
    start = regressor(learning_rate_init=1e-300, max_iter=1).fit(X, y)
    np.testing.assert_allclose(start.predict(X), y.mean(), atol=1e-6 * y.std())


def test_attributes_are_in_the_units_of_the_targets(tmp_path):
    X, y = far()
    model = regressor(hidden_layer_sizes=(12,)).fit(X, y)
    inside = (X @ model.coefs_[0] - model.running_means_[0]) / np.sqrt(
        model.running_vars_[0] + 1e-5)
    hidden = np.maximum(inside * model.gammas_[0] + model.betas_[0], 0)
    ref = (hidden @ model.coefs_[1] + model.intercepts_[1])[:, 0]
    np.testing.assert_allclose(model.predict(X), ref, rtol=1e-10)
    np.testing.assert_allclose(model.fold().predict(X).ravel(), ref, rtol=1e-10)
    model.save(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(nbbn.load(tmp_path / "m.safetensors").predict(X),
                                  model.predict(X))
    assert regressor(normalize_y=False).fit(X, y).score(X, y) < model.score(X, y)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("between", [lambda m: m, lambda m: pickle.loads(pickle.dumps(m))],
                         ids=["itself", "pickled"])
def test_partial_fits_are_a_fit(between, dtype):
    """Bit for bit: the output layer is not taken to the targets' units and back in between."""
    X, y = far(3)
    whole = regressor(shuffle=False, dtype=dtype).fit(X, y)
    parts = regressor(shuffle=False, dtype=dtype)
    for _ in range(5):
        parts = between(parts.partial_fit(X, y))
    assert_same_bits(parts, whole)


def test_the_first_partial_fit_says_the_scale():
    X, y = far()
    model = regressor().partial_fit(X[:40], y[:40])
    scale = model._task.scale
    assert scale.shift[0] == pytest.approx(y[:40].mean(), abs=1e-6 * y.std())
    model.partial_fit(X[40:], 10 * y[40:])
    assert model._task.scale == scale


def test_a_warm_start_goes_on_from_attributes_as_they_are(tmp_path):
    X, y = far()
    model = regressor(warm_start=True).fit(X, y)
    model.save(tmp_path / "m.safetensors")
    for start in (model, nbbn.load(tmp_path / "m.safetensors")):
        start.intercepts_[-1] = start.intercepts_[-1] + 500.0
        shifted = start.predict(X)
        start.set_params(learning_rate_init=1e-300, max_iter=1).fit(X, y)
        np.testing.assert_allclose(start.predict(X), shifted, rtol=0.02)
        np.testing.assert_allclose(start.intercepts_[-1], start.network().weights[-2]["bias"])


def test_files_of_earlier_versions_go_on_as_they_were_fitted(tmp_path):
    """They know neither the parameter nor the scale."""
    X, y = far()
    path = tmp_path / "m.safetensors"
    regressor(normalize_y=False, warm_start=True, alpha=1e-4, learning_rate_init=1e-3).fit(
        X, y).save(path)
    with safe_open(path, "np") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}
    key = next(name for name, text in metadata.items() if "normalize_y" in text)
    meta = json.loads(metadata[key])
    held = meta if "params" in meta else meta["meta"]
    del held["params"]["normalize_y"], held["target_scale"]
    save_file(tensors, path, {**metadata, key: json.dumps(meta)})
    old = nbbn.load(path)
    assert old.normalize_y is False and (old.alpha, old.learning_rate_init) == (1e-4, 1e-3)
    assert old.fit(X, y)._task.scale is None


def test_partitions_are_standardised_as_a_whole():
    X, y = far()
    weights = np.linspace(0, 2, len(X))
    cut = [slice(0, 20), slice(20, 21), slice(21, 90)]
    parts = Partitions([(X[s], y[s], weights[s]) for s in cut], window=1)
    model = regressor().fit(parts)
    scale = model._task.scale
    mean = np.average(y, weights=weights)
    together = regressor().fit(X, y, weights)
    assert scale == together._task.scale
    assert abs(scale.shift[0] - mean) < 1e-6 * y.std()
    assert abs(model.predict(X).mean() - y.mean()) < 2 * y.std()


def test_sparse_rows_and_dense_ones_have_the_same_bits():
    X, y = far()
    X = np.where(X > 0.5, X, 0.0)
    assert_same_bits(regressor().fit(csr_array(X), y), regressor().fit(X, y))


def test_a_checkpoint_goes_on_to_the_same_bits(tmp_path):
    X, y = far()
    path = tmp_path / "c.safetensors"

    def stop(estimator, logs):
        return logs["epoch"] == 2

    regressor(checkpoint=path, callbacks=stop).fit(X, y)
    assert_same_bits(regressor(checkpoint=path).fit(X, y), regressor().fit(X, y))


def test_early_stopping_and_validation_see_the_same_scale():
    X, y = far()
    model = regressor(early_stopping=True, max_iter=8).fit(X, y, X_val=X, y_val=y)
    assert model.best_validation_score_ == pytest.approx(model.score(X, y), rel=1e-9)
    residual = (y - model.predict(X)) / y.std()
    best = int(np.argmax(model.validation_scores_))
    loss = np.square(residual).mean() / 2
    assert model.validation_loss_curve_[best] == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("value", [0.0, 0.1, 3e7])
def test_constant_targets(value):
    X, _ = far()
    model = regressor().fit(X, np.full(len(X), value))
    assert model._task.scale.spread == (1.0,)
    np.testing.assert_allclose(model.predict(X), value, atol=0.5)


def test_targets_whose_squares_overflow_are_left_as_they_are():
    X, y = numbers()
    assert regressor().fit(X, y * 1e300)._task.scale is None


def test_counts_are_left_as_they_are():
    X, y = numbers()
    model = regressor(loss="poisson", normalize_y=True).fit(X, np.abs(y).round())
    assert model._task.scale is None


@pytest.mark.parametrize("params", [{"batch_norm": False}, {"normalize_y": False}], ids=str)
def test_where_targets_are_not_standardised(params):
    X, y = far()
    assert regressor(**params).fit(X, y)._task.scale is None


def test_standardised_targets_without_batch_norm():
    """scikit-learn's network on them, from its own start."""
    from sklearn.neural_network import MLPRegressor

    X, y = far()
    params = {"hidden_layer_sizes": (12,), "max_iter": 6, "random_state": 3, "batch_size": 30}
    got = nbbn.MLPRegressor(batch_norm=False, normalize_y=True, **params).fit(X, y)
    (shift,), (spread,) = got._task.scale.shift, got._task.scale.spread
    ref = MLPRegressor(**params).fit(X, (y - shift) / spread)
    np.testing.assert_allclose(got.predict(X), ref.predict(X) * spread + shift, rtol=1e-9)
