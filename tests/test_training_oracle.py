"""The estimators' training, step by step.

Against the oracle, and without batch norm against scikit-learn.
"""

from __future__ import annotations

import naive
import numpy as np
import pytest
from sklearn import neural_network
from sklearn.base import clone, is_classifier
from sklearn.preprocessing import LabelBinarizer

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

NORMS = [True, "post", False]
TASKS = ["binary", "multiclass", "multilabel", "regression", "multioutput"]
SOLVERS = {
    "plain sgd": {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 0.05},
    "momentum": {
        "solver": "sgd", "momentum": 0.8, "nesterovs_momentum": False, "learning_rate_init": 0.02,
    },
    "nesterov": {
        "solver": "sgd", "momentum": 0.8, "nesterovs_momentum": True, "learning_rate_init": 0.02,
    },
    "adam": {"solver": "adam"},
    "adam, other betas": {"solver": "adam", "beta_1": 0.7, "beta_2": 0.95, "epsilon": 1e-3},
    "rmsprop": {"solver": "rmsprop"},
}
# Which of an estimator's parameters a solver of the oracle takes, and under which name.
HYPER = {
    "sgd": {"momentum": "momentum", "nesterovs_momentum": "nesterov"},
    "adam": {"beta_1": "beta_1", "beta_2": "beta_2", "epsilon": "epsilon"},
    "rmsprop": {"epsilon": "epsilon"},
}
norms = pytest.mark.parametrize("batch_norm", NORMS, ids=str)


def make_data(task, rows=103, features=37, dtype=np.float64):
    """Learnable data: targets from a random linear map with noise."""
    rng = np.random.default_rng(7)
    X = rng.normal(0.3, 1.5, (rows, features)).astype(dtype)
    outputs = {"binary": 1, "regression": 1, "multiclass": 3, "multioutput": 2, "multilabel": 4}[
        task
    ]
    scores = X @ rng.normal(size=(features, outputs)) / np.sqrt(features) + 0.3 * rng.normal(
        size=(rows, outputs)
    )
    y = {
        "binary": lambda: (scores[:, 0] > 0).astype(int),
        "multiclass": lambda: scores.argmax(axis=1),
        "multilabel": lambda: (scores > 0.2).astype(int),
        "regression": lambda: scores[:, 0],
        "multioutput": lambda: scores,
    }[task]()
    return X, y


def make_estimator(task, library=nbbn, **params):
    """An estimator of `library` that trains three epochs in the order of the rows."""
    name = "MLPRegressor" if task in ("regression", "multioutput") else "MLPClassifier"
    defaults = {
        "hidden_layer_sizes": (30, 17), "learning_rate_init": 0.01, "batch_size": 25, "max_iter": 3,
        "shuffle": False, "random_state": 3, "alpha": 1e-4,
    }
    if library is nbbn and name == "MLPRegressor":
        defaults["normalize_y"] = False
    return getattr(library, name)(**{**defaults, **params})


def untrained(estimator, X, y):
    """The estimator after one epoch with steps too small to change a weight.

    It shows its initial weights.
    """
    return clone(estimator).set_params(learning_rate_init=1e-200, max_iter=1).fit(X, y)


def train_oracle(estimator, X, y):
    """The oracle's trained network and loss curve for a fitted estimator's parameters and initial
    weights.
    """
    start = untrained(estimator, X, y)
    hidden = len(start.coefs_) - 1
    norm = estimator.batch_norm
    norm = list(norm) if isinstance(norm, (list, tuple)) else [norm] * hidden
    mlp = naive.MLP(
        start.coefs_, start.intercepts_, batch_norm=["pre" if n is True else n for n in norm],
        activation=estimator.activation, out_activation=start.out_activation_,
        bn_epsilon=estimator.bn_epsilon, bn_momentum=estimator.bn_momentum,
    )
    mlp.gammas, mlp.betas = start.gammas_, start.betas_
    targets = (
        LabelBinarizer().fit_transform(y) if is_classifier(estimator) else y.reshape(len(y), -1)
    )
    batch_size = min(200 if estimator.batch_size == "auto" else estimator.batch_size, len(X))
    epochs = [naive.batches(len(X), batch_size, merge_tail=any(norm))] * estimator.max_iter
    hyper = {theirs: getattr(estimator, ours) for ours, theirs in HYPER[estimator.solver].items()}
    return naive.train_mlp(
        mlp, X.astype(float), targets, epochs, naive.OPTIMIZERS[estimator.solver],
        alpha=estimator.alpha, learning_rate=estimator.learning_rate_init, **hyper,
    )


def output(estimator, X):
    """Probabilities of a classifier's columns, or a regressor's prediction; two-dimensional."""
    if not is_classifier(estimator):
        return estimator.predict(X).reshape(len(X), -1)
    probability = estimator.predict_proba(X)
    return probability[:, 1:] if estimator.n_outputs_ == 1 else probability


def assert_lists_close(got, ref, tolerance, name):
    """The same length, None in the same places, and every array close."""
    for i, (g, r) in enumerate(zip(got, ref, strict=True)):
        assert (g is None) == (r is None), f"{name}[{i}]"
        if r is not None:
            np.testing.assert_allclose(g, r, **tolerance, err_msg=f"{name}[{i}]")


def check(task, rows=103, features=37, dtype=np.float64, **params):
    """Fit, and compare everything that training produces with the oracle."""
    X, y = make_data(task, rows, features, dtype)
    estimator = make_estimator(task, **params).fit(X, y)
    ref, loss_curve = train_oracle(estimator, X, y)
    exact = dtype == np.float64
    tolerance = {"rtol": 1e-8, "atol": 1e-9} if exact else {"rtol": 2e-3, "atol": 2e-4}
    for name in ("coefs", "intercepts", "gammas", "betas", "running_means", "running_vars"):
        got = getattr(estimator, f"{name}_")
        assert {a.dtype for a in got if a is not None} <= {np.dtype(dtype)}, name
        assert_lists_close(got, getattr(ref, name), tolerance, name)
    np.testing.assert_allclose(estimator.loss_curve_, loss_curve, rtol=tolerance["rtol"])
    assert estimator.loss_ == estimator.loss_curve_[-1]
    unseen = make_data(task, 50, features, dtype)[0][::-1]
    assert output(estimator, unseen).dtype == dtype
    np.testing.assert_allclose(output(estimator, unseen), ref.predict(unseen), **tolerance)


@pytest.mark.parametrize("task", TASKS)
def test_oracle_equals_scikit_learn(task):
    """The oracle without batch norm against scikit-learn, so that both sides of the other tests
    stand.
    """
    X, y = make_data(task)
    estimator = make_estimator(task, neural_network, alpha=0.3, activation="tanh")
    start = untrained(estimator, X, y)
    mlp = naive.MLP(start.coefs_, start.intercepts_, [False, False], "tanh", start.out_activation_)
    targets = (
        LabelBinarizer().fit_transform(y) if is_classifier(estimator) else y.reshape(len(y), -1)
    )
    epochs = [naive.batches(len(X), 25, merge_tail=False)] * 3
    ref, loss_curve = naive.train_mlp(
        mlp, X, targets, epochs, naive.adam, alpha=0.3, learning_rate=0.01
    )
    estimator.fit(X, y)
    assert_lists_close(estimator.coefs_, ref.coefs, {"rtol": 1e-9, "atol": 1e-12}, "coefs")
    np.testing.assert_allclose(estimator.loss_curve_, loss_curve, rtol=1e-10)
    np.testing.assert_allclose(output(estimator, X), ref.predict(X), rtol=1e-9)


def test_untrained_network():
    """Weights as scikit-learn draws them; where batch norm follows, gamma and beta have the scale
    and the bias of the layer.
    """
    X, y = make_data("multiclass")
    start = untrained(make_estimator("multiclass", batch_norm=[True, False]), X, y)
    theirs = untrained(make_estimator("multiclass", neural_network), X, y)
    assert_lists_close(start.coefs_, theirs.coefs_, {"rtol": 0, "atol": 0}, "coefs_")
    np.testing.assert_array_equal(start.intercepts_[0], 0)
    np.testing.assert_array_equal(start.intercepts_[1], theirs.intercepts_[1])
    np.testing.assert_allclose(start.gammas_[0], np.sqrt(2 * 37 / (37 + 30)), rtol=1e-14)
    np.testing.assert_allclose(start.betas_[0], theirs.intercepts_[0], rtol=1e-12)
    for name in ("gammas_", "betas_", "running_means_", "running_vars_"):
        assert len(getattr(start, name)) == 2
        assert getattr(start, name)[1] is None


@norms
@pytest.mark.parametrize("solver", SOLVERS.values(), ids=SOLVERS)
def test_solver(solver, batch_norm):
    check("multiclass", **solver, batch_norm=batch_norm)


@norms
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
def test_activation(activation, batch_norm):
    check("multiclass", activation=activation, batch_norm=batch_norm)


@norms
@pytest.mark.parametrize("task", TASKS)
def test_task(task, batch_norm):
    check(task, solver="sgd", learning_rate_init=0.05, alpha=0.5, batch_norm=batch_norm)
    check(task, solver="adam", alpha=0.5, batch_norm=batch_norm)


PER_LAYER = [[True, False], [False, "post"], ["post", "pre"], ("pre", "pre"), [False, False]]


@pytest.mark.parametrize("batch_norm", PER_LAYER, ids=str)
def test_batch_norm_per_layer(batch_norm):
    check("multiclass", batch_norm=batch_norm)


BATCHES = [
    (100, 25),
    (101, 25),  # a rest of one row
    (106, 25),  # a rest just below a quarter
    (107, 25),  # and one just above
    (104, 32),  # a rest of exactly a quarter
    (17, 4),  # one row is a quarter here, and still has no variance
    (9, 2),
    (60, 50),
    (30, 30),
    (203, "auto"),
    (103, "auto"),
]


@pytest.mark.parametrize(
    ("rows", "batch_size", "batch_norm"),
    [(*sizes, norm) for sizes in BATCHES for norm in (True, False)] + [(64, 1, False)],
)
def test_batches(rows, batch_size, batch_norm):
    check("multiclass", rows=rows, batch_size=batch_size, batch_norm=batch_norm, solver="sgd")


@norms
@pytest.mark.parametrize(
    ("features", "units"),
    [
        (1, (5,)), (2, (1,)), (37, (128,)), (16, (16, 16)), (65, (33, 7, 3)), (13, (64, 31, 1, 5)),
        (130, (140, 20)),
    ],
    ids=str,
)
def test_widths(features, units, batch_norm):
    check(
        "multiclass", features=features, hidden_layer_sizes=units, batch_norm=batch_norm,
        solver="sgd",
    )


@pytest.mark.parametrize(
    "bn", [{"bn_momentum": 0.5}, {"bn_momentum": 0.99}, {"bn_epsilon": 0.1}], ids=str
)
@pytest.mark.parametrize("batch_norm", [True, "post"])
def test_batch_norm_parameters(bn, batch_norm):
    check("regression", batch_norm=batch_norm, **bn)


@norms
@pytest.mark.parametrize("task", TASKS)
def test_float32(task, batch_norm):
    check(task, dtype=np.float32, batch_norm=batch_norm, solver="sgd", alpha=0.1)


@pytest.mark.parametrize("solver", ["adam", "rmsprop"])
def test_float32_solver(solver):
    check("multiclass", dtype=np.float32, solver=solver)


def test_running_statistics_approach_the_plain_moving_average():
    """After 40 epochs the correction has faded: the newest batch weighs 1 - momentum."""
    check(
        "binary", rows=64, batch_size=32, max_iter=40, n_iter_no_change=100, solver="sgd",
        hidden_layer_sizes=(9,),
    )


LIKE_SCIKIT_LEARN = {
    "sgd": {"solver": "sgd"},
    "sgd without nesterov": {"solver": "sgd", "nesterovs_momentum": False, "alpha": 0.1},
    "adam": {"solver": "adam"},
    "shuffled": {"shuffle": True},
    "shuffled sgd": {"shuffle": True, "solver": "sgd", "batch_size": "auto"},
    "logistic": {"activation": "logistic"},
    "early stopping": {
        "early_stopping": True, "validation_fraction": 0.2, "shuffle": True, "max_iter": 15,
    },
    "no improvement": {"tol": 0.05, "n_iter_no_change": 2, "max_iter": 60},
}


@pytest.mark.parametrize("params", LIKE_SCIKIT_LEARN.values(), ids=LIKE_SCIKIT_LEARN)
@pytest.mark.parametrize("task", TASKS)
def test_without_batch_norm_is_scikit_learn(task, params):
    X, y = make_data(task)
    params = {"max_iter": 6, **params}
    ref = make_estimator(task, neural_network, **params).fit(X, y)
    got = make_estimator(task, batch_norm=False, **params).fit(X, y)
    tolerance = {"rtol": 1e-7, "atol": 1e-8}
    assert_lists_close(got.coefs_, ref.coefs_, tolerance, "coefs_")
    assert_lists_close(got.intercepts_, ref.intercepts_, tolerance, "intercepts_")
    np.testing.assert_allclose(got.loss_curve_, ref.loss_curve_, rtol=1e-7)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(got, name) == getattr(ref, name), name
    for name in ("loss_", "best_loss_", "validation_scores_", "best_validation_score_"):
        expected = getattr(ref, name)
        assert (getattr(got, name) is None) == (expected is None), name
        if expected is not None:
            np.testing.assert_allclose(getattr(got, name), expected, rtol=1e-6, err_msg=name)
    np.testing.assert_allclose(output(got, X), output(ref, X), **tolerance)
    if is_classifier(ref):
        np.testing.assert_array_equal(got.predict(X), ref.predict(X))
        np.testing.assert_array_equal(got.classes_, ref.classes_)
    assert got.score(X, y) == pytest.approx(ref.score(X, y), abs=1e-7)


def test_partial_fit_is_scikit_learns():
    X, y = make_data("multiclass")
    ref, got = (
        make_estimator("multiclass", neural_network),
        make_estimator("multiclass", batch_norm=False),
    )
    for _ in range(3):
        ref.partial_fit(X, y, classes=[0, 1, 2])
        got.partial_fit(X, y, classes=[0, 1, 2])
    assert_lists_close(got.coefs_, ref.coefs_, {"rtol": 1e-8, "atol": 1e-9}, "coefs_")
    assert (got.n_iter_, got.t_, len(got.loss_curve_)) == (
        ref.n_iter_, ref.t_, len(ref.loss_curve_),
    )


def test_real_digits_after_one_epoch(mnist):
    """10,000 rows of MNIST as raw bytes: 157 steps are enough for nine of ten test digits."""
    X, y = mnist["x_train"][:10_000].reshape(-1, 784), mnist["y_train"][:10_000]
    estimator = nbbn.MLPClassifier(
        (64,), batch_size=64, learning_rate_init=0.01, max_iter=1, random_state=0, dtype="float32"
    )
    estimator.fit(X, y)
    assert estimator.score(mnist["x_test"].reshape(-1, 784), mnist["y_test"]) > 0.9
