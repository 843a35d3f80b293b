"""Activations, losses and dropout, each against a formula written here."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from estimator_helpers import assert_close, norms, numbers, objective_of, three_classes
from scipy.special import erf
from sklearn.base import clone

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805
ACTIVATIONS = {
    "identity": lambda z: z, "logistic": naive.sigmoid, "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0), "leaky_relu": lambda z: np.where(z < 0, 0.2 * z, z),
    "elu": lambda z: np.where(z < 0, np.expm1(np.minimum(z, 0)), z),
    "selu": lambda z: SCALE * np.where(z < 0, ALPHA * np.expm1(np.minimum(z, 0)), z),
    "gelu": lambda z: 0.5 * z * (1 + erf(z / math.sqrt(2))), "silu": lambda z: z * naive.sigmoid(z),
    "softplus": lambda z: np.logaddexp(z, 0),
}
LOSSES = {
    "squared_error": lambda t, y: 0.5 * np.square(y - t),
    "absolute_error": lambda t, y: np.abs(y - t),
    "huber": lambda t, y: np.where(
        np.abs(y - t) < 0.7, 0.5 * np.square(y - t), 0.7 * (np.abs(y - t) - 0.35)
    ),
    "quantile": lambda t, y: np.maximum(0.8 * (t - y), 0.2 * (y - t)),
    "poisson": lambda t, y: t * np.log(np.where(t > 0, t, 1) / y) - t + y,
}


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


def assert_gradient(objective):
    """Central differences along random directions, so short that hardly any unit crosses a kink."""
    rng, at = np.random.default_rng(0), objective.pack()
    _, gradient = objective(at)
    for _ in range(4):
        v = rng.normal(size=at.size)
        slope = (objective(at + 1e-7 * v)[0] - objective(at - 1e-7 * v)[0]) / 2e-7
        assert gradient @ v == pytest.approx(slope, rel=1e-5, abs=1e-7)


# Activations


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activation(activation):
    X, y = data()
    fitted = classifier(activation=activation, batch_norm=False).fit(X, y)
    hidden = X
    for layer in (1, 2):
        hidden = ACTIVATIONS[activation](
            hidden @ fitted.coefs_[layer - 1] + fitted.intercepts_[layer - 1]
        )
        np.testing.assert_allclose(fitted.transform(X, layer=layer), hidden, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(
        fitted.predict_proba(X), naive.softmax(hidden @ fitted.coefs_[2] + fitted.intercepts_[2]),
        rtol=1e-8, atol=1e-12,
    )


@norms
@pytest.mark.parametrize("activation", [*ACTIVATIONS, ["gelu", "tanh"]], ids=str)
def test_gradient_of_activation(activation, batch_norm):
    X, y = data()
    assert_gradient(
        objective_of(classifier(activation=activation, batch_norm=batch_norm).fit(X, y), X, y)
    )


def test_layers_given_as_arrays():
    X, y = data()
    given = {"activation": ["tanh", "relu"], "batch_norm": [False, True], "dropout": [0.0, 0.2]}
    got = classifier(**{name: np.array(entries) for name, entries in given.items()}).fit(X, y)
    assert_close(got, classifier(**given).fit(X, y))
    assert_close(clone(got).fit(X, y), got)
    assert "batch_norm=array" in repr(got)


@norms
def test_activation_of_each_layer(batch_norm):
    X, y = data()
    same = classifier(activation=["tanh", "tanh"], batch_norm=batch_norm).fit(X, y)
    assert_close(same, classifier(activation="tanh", batch_norm=batch_norm).fit(X, y))
    other = classifier(activation=("tanh", "relu"), batch_norm=batch_norm).fit(X, y)
    assert (other.transform(X, layer=1) < 0).any()
    assert ((other.transform(X, layer=2) >= 0).all()) == (batch_norm != "post")


def test_logistic_layers_start_within_their_own_bounds():
    X, y = data()
    start = classifier(
        activation=["relu", "logistic"], batch_norm=False, learning_rate_init=1e-200
    ).fit(X, y)
    bounds = [math.sqrt(6 / 17), math.sqrt(2 / 14), math.sqrt(2 / 8)]
    for kernel, bound in zip(start.coefs_, bounds, strict=True):
        assert 0.8 * bound < np.abs(kernel).max() <= bound


# Losses


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss(loss, outputs, weighted):
    """The validation loss is the formula's.

    So is the training loss, of weights that stay as they are.
    """
    X, y = numbers(outputs=outputs)
    y = np.random.default_rng(0).poisson(2, y.shape).astype(float) if loss == "poisson" else y
    weights = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    model = regressor(
        loss=loss, quantile=0.8, huber_delta=0.7, learning_rate_init=1e-200, batch_size=len(X),
        alpha=0.0, normalize_y=False,
    )
    model.fit(X, y, weights, X_val=X, y_val=y, sample_weight_val=weights)
    terms = LOSSES[loss](y, model.predict(X)).reshape(len(X), -1)
    terms = terms.sum(1) if loss == "poisson" else terms.mean(1)
    assert model.validation_loss_curve_[-1] == pytest.approx(
        np.average(terms, weights=weights), rel=1e-9
    )


@pytest.mark.parametrize("loss", LOSSES)
@norms
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_of_loss(loss, batch_norm, weighted):
    X, y = numbers()
    y = np.random.default_rng(0).poisson(2, y.shape).astype(float) if loss == "poisson" else y
    weights = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    model = regressor(
        loss=loss, quantile=0.8, huber_delta=0.7, batch_norm=batch_norm, activation="tanh",
        alpha=0.3, normalize_y=False,
    )
    objective = objective_of(model.fit(X, y, weights), X, y, weights)
    value = objective(objective.pack())[0]
    assert_gradient(objective)
    if not batch_norm:
        penalty = (
            0.15
            * sum(np.square(c).sum() for c in model.coefs_)
            / (len(X) if weights is None else weights.sum())
        )
        terms = LOSSES[loss](y, model.predict(X))
        assert value == pytest.approx(np.average(terms, weights=weights) + penalty, rel=1e-9)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_quantile_is_estimated(quantile):
    X, y = numbers(2000)
    model = regressor(
        loss="quantile", quantile=quantile, max_iter=60, learning_rate_init=0.01, batch_size=200
    ).fit(X, y)
    assert (y < model.predict(X)).mean() == pytest.approx(quantile, abs=0.06)


def test_counts_below_zero():
    X, y = numbers()
    with pytest.raises(ValueError, match="out of the valid range of the loss 'poisson'"):
        regressor(loss="poisson").fit(X, y)
    model = regressor(loss="poisson").fit(X, np.abs(y))
    assert model.out_activation_ == "exp" and (model.predict(X) > 0).all()
    np.testing.assert_allclose(model.fold().predict(X), model.predict(X), rtol=1e-6)


def test_a_warm_start_may_change_the_loss():
    X, y = numbers()
    model = regressor(warm_start=True).fit(X, y)
    model.set_params(loss="huber").fit(X, y)
    with pytest.raises(ValueError, match="loss differ from the fitted"):
        model.set_params(loss="poisson").fit(X, np.abs(y))


# Dropout


@norms
def test_dropout(batch_norm):
    X, y = data(400)
    params = {"batch_norm": batch_norm, "max_iter": 30, "learning_rate_init": 0.01}
    got, again = (classifier(dropout=0.5, **params).fit(X, y) for _ in range(2))
    assert_close(got, again)
    bare = classifier(**params).fit(X, y)
    assert_close(classifier(dropout=[0.0, 0.0], **params).fit(X, y), bare)
    assert got.loss_ > 1.1 * bare.loss_
    assert_close(classifier(dropout=[0.5, 0.5], **params).fit(X, y), got)
    first = classifier(dropout=[0.5, 0.0], **params).fit(X, y)
    assert np.abs(first.coefs_[0] - got.coefs_[0]).max() > 1e-3
    np.testing.assert_array_equal(got.predict_proba(X), got.predict_proba(X))
    assert got.score(X, y) > 0.55
    assert classifier(dropout=0.5, **{**params, "random_state": 2}).fit(X, y).loss_ != got.loss_


def test_dropout_keeps_the_mean():
    """A linear network's expected output is that of the whole network."""
    X, y = numbers(4000)
    params = {
        "hidden_layer_sizes": (64,), "activation": "identity", "batch_norm": False,
        "learning_rate_init": 1e-200, "max_iter": 1, "batch_size": 4000, "alpha": 0.0,
    }
    bare = regressor(**params).fit(X, y)
    loss = regressor(dropout=0.3, **params).fit(X, y).loss_
    hidden = bare.transform(X)
    noise = 0.5 * ((np.square(hidden) @ np.square(bare.coefs_[1])) * 0.3 / 0.7).mean()
    assert loss == pytest.approx(bare.loss_ + noise, rel=0.02)


@pytest.mark.parametrize("threads", [1, 2])
def test_dropout_at_any_number_of_threads(threads):
    X, y = data(400)
    assert_close(
        classifier(dropout=0.4, n_jobs=threads).fit(X, y),
        classifier(dropout=0.4, n_jobs=1).fit(X, y),
    )


@norms
def test_partial_fit_continues_dropout(batch_norm):
    X, y = data()
    params = {"dropout": [0.3, 0.1], "batch_norm": batch_norm}
    whole, parts = classifier(max_iter=5, **params).fit(X, y), classifier(**params)
    for _ in range(5):
        parts.partial_fit(X, y, classes=[0, 1, 2])
    assert_close(parts, whole)
