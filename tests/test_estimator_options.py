"""What the estimators take beyond scikit-learn's parameters: each against a formula written here, and its mistakes by name."""

from __future__ import annotations

import math

import naive
import numpy as np
import pytest
from scipy.special import erf
from sklearn.datasets import make_classification

import nbbn
from nbbn.estimators import lbfgs
from nbbn.estimators.architecture import collect

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ALPHA, SCALE = 1.6732632423543772, 1.0507009873554805
ACTIVATIONS = {
    "identity": lambda z: z,
    "logistic": naive.sigmoid,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z < 0, 0.2 * z, z),
    "elu": lambda z: np.where(z < 0, np.expm1(np.minimum(z, 0)), z),
    "selu": lambda z: SCALE * np.where(z < 0, ALPHA * np.expm1(np.minimum(z, 0)), z),
    "gelu": lambda z: 0.5 * z * (1 + erf(z / math.sqrt(2))),
    "silu": lambda z: z * naive.sigmoid(z),
    "softplus": lambda z: np.logaddexp(z, 0),
}
LOSSES = {
    "squared_error": lambda t, y: 0.5 * np.square(y - t),
    "absolute_error": lambda t, y: np.abs(y - t),
    "huber": lambda t, y: np.where(np.abs(y - t) < 0.7, 0.5 * np.square(y - t), 0.7 * (np.abs(y - t) - 0.35)),
    "quantile": lambda t, y: np.maximum(0.8 * (t - y), 0.2 * (y - t)),
    "poisson": lambda t, y: t * np.log(np.where(t > 0, t, 1) / y) - t + y,
}
NORMS = [True, "post", False]
norms = pytest.mark.parametrize("batch_norm", NORMS, ids=str)
solvers = pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "rmsprop"])


def data(rows=90, features=8):
    return make_classification(rows, features, n_informative=6, n_classes=3, class_sep=1.5, random_state=0)


def numbers(rows=90, outputs=1):
    rng = np.random.default_rng(3)
    X = rng.normal(size=(rows, 6))
    y = X @ rng.normal(size=(6, outputs)) + 0.5 * rng.normal(size=(rows, outputs))
    return X, y[:, 0] if outputs == 1 else y


def classifier(**params):
    defaults = {"hidden_layer_sizes": (9, 5), "max_iter": 4, "batch_size": 25, "random_state": 1, "shuffle": False}
    return nbbn.MLPClassifier(**{**defaults, **params})


def regressor(**params):
    defaults = {"hidden_layer_sizes": (9, 5), "max_iter": 4, "batch_size": 25, "random_state": 1, "shuffle": False}
    return nbbn.MLPRegressor(**{**defaults, **params})


def arrays(estimator):
    names = ("coefs_", "intercepts_", "gammas_", "betas_", "running_means_", "running_vars_")
    return [a for name in names for a in getattr(estimator, name) if a is not None]


def assert_same(got, ref, **tolerance):
    for a, b in zip(arrays(got), arrays(ref), strict=True):
        np.testing.assert_allclose(a, b, **(tolerance or {"rtol": 0, "atol": 0}))


def objective_of(estimator, X, y, weights=None):
    """The loss of all rows as a function of a fitted estimator's weights."""
    meaning = estimator._meaning
    targets = meaning.targets(meaning.encode(estimator._check_y(y, len(X), np.float64)), np.dtype("float64"))
    found = lbfgs.Objective(estimator._architecture, estimator.alpha, X, targets, weights,
                            collect(estimator, estimator._architecture, np.dtype("float64")))
    found.trainer(meaning.engine_loss, meaning.level)
    return found


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
        hidden = ACTIVATIONS[activation](hidden @ fitted.coefs_[layer - 1] + fitted.intercepts_[layer - 1])
        np.testing.assert_allclose(fitted.transform(X, layer=layer), hidden, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(fitted.predict_proba(X), naive.softmax(hidden @ fitted.coefs_[2] + fitted.intercepts_[2]),
                               rtol=1e-8, atol=1e-12)  # fmt: skip


@norms
@pytest.mark.parametrize("activation", [*ACTIVATIONS, ["gelu", "tanh"]], ids=str)
def test_gradient_of_activation(activation, batch_norm):
    X, y = data()
    assert_gradient(objective_of(classifier(activation=activation, batch_norm=batch_norm).fit(X, y), X, y))


@norms
def test_activation_of_each_layer(batch_norm):
    X, y = data()
    same = classifier(activation=["tanh", "tanh"], batch_norm=batch_norm).fit(X, y)
    assert_same(same, classifier(activation="tanh", batch_norm=batch_norm).fit(X, y))
    other = classifier(activation=("tanh", "relu"), batch_norm=batch_norm).fit(X, y)
    assert (other.transform(X, layer=1) < 0).any()
    assert ((other.transform(X, layer=2) >= 0).all()) == (batch_norm != "post")


def test_logistic_layers_start_within_their_own_bounds():
    X, y = data()
    start = classifier(activation=["relu", "logistic"], batch_norm=False, learning_rate_init=1e-200).fit(X, y)
    bounds = [math.sqrt(6 / 17), math.sqrt(2 / 14), math.sqrt(2 / 8)]
    for kernel, bound in zip(start.coefs_, bounds, strict=True):
        assert 0.8 * bound < np.abs(kernel).max() <= bound


# Losses


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_loss(loss, outputs, weighted):
    """The validation loss is the formula's; so is the training loss, of weights that stay as they are."""
    X, y = numbers(outputs=outputs)
    y = np.random.default_rng(0).poisson(2, y.shape).astype(float) if loss == "poisson" else y
    weights = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    model = regressor(loss=loss, quantile=0.8, huber_delta=0.7, learning_rate_init=1e-200, batch_size=len(X), alpha=0.0)
    model.fit(X, y, weights, X_val=X, y_val=y, sample_weight_val=weights)
    terms = LOSSES[loss](y, model.predict(X)).reshape(len(X), -1)
    terms = terms.sum(1) if loss == "poisson" else terms.mean(1)
    assert model.validation_loss_curve_[-1] == pytest.approx(np.average(terms, weights=weights), rel=1e-9)


@pytest.mark.parametrize("loss", LOSSES)
@norms
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_of_loss(loss, batch_norm, weighted):
    X, y = numbers()
    y = np.random.default_rng(0).poisson(2, y.shape).astype(float) if loss == "poisson" else y
    weights = np.random.default_rng(1).uniform(0, 3, len(X)) if weighted else None
    model = regressor(loss=loss, quantile=0.8, huber_delta=0.7, batch_norm=batch_norm, activation="tanh", alpha=0.3)
    objective = objective_of(model.fit(X, y, weights), X, y, weights)
    value = objective(objective.pack())[0]
    assert_gradient(objective)
    if not batch_norm:
        penalty = 0.15 * sum(np.square(c).sum() for c in model.coefs_) / (len(X) if weights is None else weights.sum())
        terms = LOSSES[loss](y, model.predict(X))
        assert value == pytest.approx(np.average(terms, weights=weights) + penalty, rel=1e-9)


@pytest.mark.parametrize("quantile", [0.1, 0.5, 0.9])
def test_quantile_is_estimated(quantile):
    X, y = numbers(2000)
    model = regressor(loss="quantile", quantile=quantile, max_iter=60, learning_rate_init=0.01, batch_size=200).fit(X, y)
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
    """Decoupled: `p -= rate * alpha * p`, then Adam's step of a gradient without a penalty; the loss has none either."""
    X, y = data()
    params = {"batch_norm": batch_norm, "learning_rate_init": 0.01, "beta_1": 0.8, "epsilon": 1e-3, "activation": "tanh"}
    model = classifier(solver="adamw", alpha=0.5, **params)
    points = [p for p, _ in steps_of(model, X, y, 4)]
    bare = classifier(solver="adamw", alpha=0.0, **params)
    objective = objective_of(bare.set_params(max_iter=1, batch_size=len(X)).fit(X, y), X, y)
    m = v = 0.0
    start = classifier(batch_size=len(X), max_iter=1, **{**params, "learning_rate_init": 1e-200}).fit(X, y)
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
    params = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.1, "batch_norm": batch_norm, "batch_size": len(X)}
    start = objective_of(classifier(**{**params, "learning_rate_init": 1e-200, "max_iter": 1}).fit(X, y), X, y)
    p, (_, gradient) = start.pack(), start(start.pack())
    length = np.linalg.norm(gradient)
    for bound in (0.3 * length, 2 * length):
        fitted = classifier(clip_norm=bound, max_iter=1, **params).fit(X, y)
        step = p - objective_of(fitted, X, y).pack()
        np.testing.assert_allclose(step, 0.1 * gradient * min(1, bound / length), rtol=1e-7, atol=1e-12)


@solvers
@norms
def test_clip_norm_beyond_reach_changes_nothing(solver, batch_norm):
    X, y = data()
    params = {"solver": solver, "batch_norm": batch_norm}
    got, ref = classifier(clip_norm=1e9, **params).fit(X, y), classifier(**params).fit(X, y)
    assert_same(got, ref, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("loss", ["log_loss", *LOSSES])
@norms
def test_lbfgs_finds_a_minimum(loss, batch_norm):
    if loss == "log_loss":
        X, y = data()
        model = classifier(solver="lbfgs", max_iter=40, batch_norm=batch_norm, alpha=1.0, activation="tanh").fit(X, y)
    else:
        X, y = numbers()
        y = np.abs(y).round() if loss == "poisson" else y
        model = regressor(solver="lbfgs", max_iter=40, batch_norm=batch_norm, loss=loss, alpha=1.0, activation="tanh").fit(X, y)
    curve = np.array(model.loss_curve_)
    assert model.n_iter_ == len(curve) and (np.diff(curve) <= 1e-12).all() and curve[-1] < 0.7 * curve[0]
    assert model.loss_ == pytest.approx(curve[-1])


def test_lbfgs_running_statistics_are_those_of_all_rows():
    X, y = data()
    weights = np.random.default_rng(0).uniform(0, 2, len(X))
    for w in (None, weights):
        model = classifier(solver="lbfgs", max_iter=7, activation="tanh").fit(X, y, w)
        z = X @ model.coefs_[0]
        np.testing.assert_allclose(model.running_means_[0], np.average(z, axis=0, weights=w), rtol=1e-9, atol=1e-12)
        var = np.average(np.square(z - np.average(z, axis=0, weights=w)), axis=0, weights=w)
        np.testing.assert_allclose(model.running_vars_[0], var, rtol=1e-9)


def test_lbfgs_in_single_precision():
    """Computed in double precision, and rounded at the end."""
    X, y = data()
    got = classifier(solver="lbfgs", max_iter=9).fit(X.astype(np.float32), y)
    ref = classifier(solver="lbfgs", max_iter=9).fit(X.astype(np.float32).astype(np.float64), y)
    assert {a.dtype for a in arrays(got)} == {np.dtype("float32")}
    assert_same(got, ref, rtol=1e-5, atol=1e-6)


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
    assert_same(got, ref, rtol=1e-9, atol=1e-12)


@solvers
def test_function_of_the_step(solver):
    X, y = data()
    asked = []
    got = classifier(solver=solver, learning_rate=lambda step: asked.append(step) or 0.001).fit(X, y)
    assert_same(got, classifier(solver=solver).fit(X, y))
    assert asked == list(range(16))
    as_object = classifier(solver=solver, learning_rate=nbbn.schedules.CosineDecay(0.02, 20), max_iter=5).fit(X, y)
    ref = classifier(solver=solver, learning_rate="cosine", learning_rate_init=0.02, max_iter=5).fit(X, y)
    assert_same(as_object, ref)


@solvers
def test_adaptive_rate(solver):
    """The rate falls by fives while nothing improves, until it is too small."""
    X, y = data()
    model = classifier(solver=solver, learning_rate="adaptive", tol=100.0, n_iter_no_change=2, max_iter=100).fit(X, y)
    assert model.n_iter_ == 1 + 3 + 5 * 3  # an improvement on infinity, the first patience, five slower ones
    assert model._record.rate == pytest.approx(1e-3 / 5**5)
    constant = classifier(solver=solver, tol=100.0, n_iter_no_change=2, max_iter=100).fit(X, y)
    assert constant.n_iter_ == 4


@pytest.mark.parametrize("wrong", [lambda step: -1.0, lambda step: float("nan"), lambda step: math.inf])
def test_wrong_rate(wrong):
    X, y = data()
    with pytest.raises(ValueError, match="learning_rate"):
        classifier(learning_rate=wrong).fit(X, y)


# Dropout


@norms
def test_dropout(batch_norm):
    X, y = data(400)
    params = {"batch_norm": batch_norm, "max_iter": 30, "learning_rate_init": 0.01}
    got, again = (classifier(dropout=0.5, **params).fit(X, y) for _ in range(2))
    assert_same(got, again)
    bare = classifier(**params).fit(X, y)
    assert_same(classifier(dropout=[0.0, 0.0], **params).fit(X, y), bare)
    assert got.loss_ > 1.1 * bare.loss_
    assert_same(classifier(dropout=[0.5, 0.5], **params).fit(X, y), got)
    first = classifier(dropout=[0.5, 0.0], **params).fit(X, y)
    assert np.abs(first.coefs_[0] - got.coefs_[0]).max() > 1e-3
    np.testing.assert_array_equal(got.predict_proba(X), got.predict_proba(X))
    assert got.score(X, y) > 0.55
    assert classifier(dropout=0.5, **{**params, "random_state": 2}).fit(X, y).loss_ != got.loss_


def test_dropout_keeps_the_mean():
    """A linear network's expected output is that of the whole network."""
    X, y = numbers(4000)
    params = {"hidden_layer_sizes": (64,), "activation": "identity", "batch_norm": False, "learning_rate_init": 1e-200,
              "max_iter": 1, "batch_size": 4000, "alpha": 0.0}  # fmt: skip
    bare = regressor(**params).fit(X, y)
    loss = regressor(dropout=0.3, **params).fit(X, y).loss_
    hidden = bare.transform(X)
    noise = 0.5 * ((np.square(hidden) @ np.square(bare.coefs_[1])) * 0.3 / 0.7).mean()
    assert loss == pytest.approx(bare.loss_ + noise, rel=0.02)


@pytest.mark.parametrize("threads", [1, 2])
def test_dropout_at_any_number_of_threads(threads):
    X, y = data(400)
    assert_same(classifier(dropout=0.4, n_jobs=threads).fit(X, y), classifier(dropout=0.4, n_jobs=1).fit(X, y))


@norms
def test_partial_fit_continues_dropout(batch_norm):
    X, y = data()
    params = {"dropout": [0.3, 0.1], "batch_norm": batch_norm}
    whole, parts = classifier(max_iter=5, **params).fit(X, y), classifier(**params)
    for _ in range(5):
        parts.partial_fit(X, y, classes=[0, 1, 2])
    assert_same(parts, whole)


# Weights


@norms
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_weighted_equals_repeated(batch_norm, solver, kind):
    """In one batch a row of weight k is the row k times, statistics of batch norm included; one of weight 0 is absent."""
    X, y = data() if kind == "classes" else numbers()
    make = classifier if kind == "classes" else regressor
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    params = {"batch_norm": batch_norm, "solver": solver, "batch_size": "auto", "max_iter": 20, "alpha": 0.5}
    params["learning_rate_init"] = 0.01
    got = make(**params).fit(X, y, sample_weight=weights)
    ref = make(**params).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert_same(got, ref, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(got.loss_curve_, ref.loss_curve_, rtol=1e-8)


@norms
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_only_the_proportion_of_weights_counts(batch_norm, solver):
    X, y = data()
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    params = {"batch_norm": batch_norm, "solver": solver, "alpha": 0.0}
    ones = classifier(**params).fit(X, y, np.ones(len(X)))
    assert_same(ones, classifier(**params).fit(X, y), rtol=1e-7, atol=1e-9)
    got = classifier(**params).fit(X, y, 1e6 * weights)
    assert_same(got, classifier(**params).fit(X, y, weights), rtol=1e-6, atol=1e-8)


@norms
def test_a_batch_without_weight_is_left_out(batch_norm):
    X, y = data(100)
    weights = np.ones(100)
    weights[25:50] = 0
    got = classifier(batch_norm=batch_norm).fit(X, y, weights)
    keep = weights > 0
    ref = classifier(batch_norm=batch_norm).fit(X[keep], y[keep])
    assert_same(got, ref, rtol=1e-8, atol=1e-10)
    assert got.t_ == 400


@pytest.mark.parametrize("given", ["balanced", {0: 1.0, 1: 2.5, 2: 0.25}])
def test_class_weight(given):
    X, y = data()
    y = np.where(y == 2, np.arange(len(y)) % 3 == 0, y).astype(int) + (y == 2) * (np.arange(len(y)) % 2)
    classes, counts = np.unique(y, return_counts=True)
    own = np.random.default_rng(0).uniform(0.5, 2, len(X))
    table = {c: len(y) / (len(classes) * n) for c, n in zip(classes, counts)} if given == "balanced" else given
    by_class = np.array([table[label] for label in y])
    got = classifier(class_weight=given).fit(X, y, own, X_val=X, y_val=y)
    ref = classifier().fit(X, y, own * by_class, X_val=X, y_val=y)
    assert_same(got, ref, rtol=1e-9, atol=1e-12)
    assert got.validation_loss_curve_ == pytest.approx(ref.validation_loss_curve_)


def test_class_weight_of_string_labels_and_of_many_labels():
    X, y = data()
    words = np.array(["ash", "beech", "cedar"])[y]
    got = classifier(class_weight={"ash": 3.0, "beech": 1.0, "cedar": 1.0}).fit(X, words)
    assert_same(got, classifier(class_weight={0: 3.0, 1: 1.0, 2: 1.0}).fit(X, y))
    many = np.column_stack([y == 0, y > 0])
    classifier(class_weight="balanced").fit(X, many)
    with pytest.raises(ValueError, match="class_weight as a dict needs one label a row"):
        classifier(class_weight={0: 2.0}).fit(X, many)
    with pytest.raises(ValueError, match="class_weight='balanced' is not supported for partial_fit"):
        classifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight={"oak": 2.0}).fit(X, y)


@pytest.mark.parametrize(
    ("weights", "match"),
    [(np.zeros(90), "zero"), (-np.ones(90), "Negative values in sample_weight"), (np.full(90, np.nan), "NaN"),
     (np.ones(89), "sample_weight"), (np.ones((90, 2)), "1D")],
    ids=["zeros", "negative", "nan", "short", "2-D"],
)  # fmt: skip
def test_wrong_weights(weights, match):
    X, y = data()
    with pytest.raises(ValueError, match=match):
        classifier().fit(X, y, weights)
    with pytest.raises(ValueError, match="sample_weight_val"):
        classifier().fit(X, y, sample_weight_val=np.ones(90))


# Hidden activations and statistics


@norms
def test_transform(batch_norm):
    X, y = data()
    fitted = classifier(batch_norm=batch_norm, activation="tanh", dropout=0.2).fit(X, y)
    hidden = X
    for h in range(2):
        z = hidden @ fitted.coefs_[h] + fitted.intercepts_[h]
        if batch_norm:
            numbers_of = [getattr(fitted, n)[h] for n in ("gammas_", "betas_", "running_means_", "running_vars_")]
            z = np.tanh(z) if batch_norm == "post" else z
            z = naive.batch_norm_inference(z, *numbers_of)
        hidden = z if batch_norm == "post" else np.tanh(z)
        np.testing.assert_allclose(fitted.transform(X, layer=h + 1), hidden, rtol=1e-9, atol=1e-12)
    np.testing.assert_array_equal(fitted.transform(X), fitted.transform(X, layer=2))
    np.testing.assert_array_equal(fitted.transform(X, layer=-1), fitted.predict_proba(X))
    np.testing.assert_array_equal(fitted.transform(X, layer=0), X)
    assert len(fitted.get_feature_names_out()) == 5
    for wrong in (4, -5, 1.0, True, "last"):
        with pytest.raises(ValueError, match="layer must be a whole number from -4 to 3"):
            fitted.transform(X, layer=wrong)


def test_transform_of_changed_weights():
    X, y = data()
    fitted = classifier().fit(X, y)
    before = fitted.transform(X)
    fitted.partial_fit(X, y)
    assert np.abs(fitted.transform(X) - before).max() > 1e-6


@pytest.mark.parametrize("batch_norm", [True, "post", [False, "pre"]], ids=str)
def test_recalibrate(batch_norm):
    """Each batch norm's input, with the new statistics before it, then has mean 0 and variance 1."""
    X, y = data(9000)
    fitted = classifier(batch_norm=batch_norm, activation="tanh", batch_size=200).fit(X, y)
    fitted.running_means_ = [None if m is None else m + 1 for m in fitted.running_means_]
    assert fitted.recalibrate(X) is fitted
    kinds = batch_norm if isinstance(batch_norm, list) else [batch_norm] * 2
    hidden = X
    for h, kind in enumerate(kinds):
        z = hidden @ fitted.coefs_[h] + fitted.intercepts_[h]
        inside = np.tanh(z) if kind == "post" else z
        if kind:
            np.testing.assert_allclose(fitted.running_means_[h], inside.mean(0), rtol=1e-9, atol=1e-11)
            np.testing.assert_allclose(fitted.running_vars_[h], inside.var(0), rtol=1e-9)
        hidden = fitted.transform(X, layer=h + 1)
    again = [m.copy() for m in fitted.running_means_ if m is not None]
    fitted.recalibrate(X)
    for a, b in zip([m for m in fitted.running_means_ if m is not None], again):
        np.testing.assert_array_equal(a, b)


# Parameters that do not go together


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"batch_norm": [True]}, "batch_norm has 1 entries for 2 hidden layers"),
        ({"activation": ["relu"] * 3}, "activation has 3 entries for 2 hidden layers"),
        ({"dropout": (0.1,)}, "dropout has 1 entries for 2 hidden layers"),
        ({"activation": ["relu", "swash"]}, "activation entries must be among"),
        ({"activation": ["relu", 3]}, "activation entries must be among"),
        ({"dropout": [0.1, 1.0]}, "dropout entries must be numbers from 0 to below 1"),
        ({"dropout": [0.1, "x"]}, "dropout entries"),
        ({"solver": "lbfgs", "dropout": 0.5}, "solver='lbfgs' does not support dropout=0.5"),
        ({"solver": "lbfgs", "clip_norm": 1.0}, "solver='lbfgs' does not support clip_norm=1.0"),
        ({"solver": "lbfgs", "learning_rate": "cosine"}, "solver='lbfgs' does not support learning_rate='cosine'"),
        ({"solver": "lbfgs", "learning_rate": lambda s: 1.0}, "solver='lbfgs' does not support learning_rate"),
        ({"solver": "lbfgs", "early_stopping": "loss"}, "solver='lbfgs' does not support early_stopping='loss'"),
        ({"solver": "lbfgs", "checkpoint": "x"}, "solver='lbfgs' does not support checkpoint='x'"),
        ({"n_jobs": 0}, "n_jobs == 0"),
    ],
    ids=str,
)
def test_what_does_not_go_together(params, match):
    X, y = data()
    estimator = classifier(**params)
    with pytest.raises(ValueError, match=match):
        estimator.fit(X, y)
    assert not hasattr(estimator, "coefs_")


def test_partial_fit_with_a_checkpoint():
    X, y = data()
    with pytest.raises(ValueError, match="partial_fit does not support checkpoint"):
        classifier(checkpoint="x").partial_fit(X, y, classes=[0, 1, 2])


def test_lbfgs_ignores_what_scikit_learn_ignores():
    X, y = data()
    got = classifier(solver="lbfgs", early_stopping=True, learning_rate="adaptive", batch_size=1).fit(X, y)
    assert_same(got, classifier(solver="lbfgs").fit(X, y))
