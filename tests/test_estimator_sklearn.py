"""Without batch norm the estimators are scikit-learn's, number for number.

Every solver, loss, weight and way to go on.
"""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse
from estimator_helpers import newest
from sklearn import neural_network
from sklearn.base import is_classifier

import nbbn

pytestmark = [newest, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

TASKS = ["binary", "multiclass", "multilabel", "regression", "multioutput", "counts"]
tasks = pytest.mark.parametrize("task", TASKS)


def make_data(task, rows=103, features=17):
    """Learnable rows and targets."""
    rng = np.random.default_rng(7)
    X = rng.normal(0.3, 1.5, (rows, features))
    scores = X @ rng.normal(size=(features, 4)) / 4 + 0.3 * rng.normal(size=(rows, 4))
    y = {
        "binary": lambda: np.where(scores[:, 0] > 0, "ash", "beech"),
        "multiclass": lambda: scores[:, :3].argmax(1) - 1,
        "multilabel": lambda: (scores > 0.2).astype(int),
        "regression": lambda: scores[:, 0],
        "multioutput": lambda: scores[:, :2],
        "counts": lambda: rng.poisson(np.exp(0.3 * scores[:, 0])),
    }[task]()
    return X, y, rng.choice([0, 0.5, 1, 3], rows, p=[0.05, 0.3, 0.35, 0.3])


def pair(task, **params):
    """scikit-learn's estimator and ours with the same parameters."""
    kind = "MLPClassifier" if task in ("binary", "multiclass", "multilabel") else "MLPRegressor"
    defaults = {
        "hidden_layer_sizes": (11, 5), "random_state": 3, "max_iter": 6, "batch_size": 25,
        "learning_rate_init": 0.01,
    }
    params = {**defaults, **({"loss": "poisson"} if task == "counts" else {}), **params}
    return getattr(neural_network, kind)(**params), getattr(nbbn, kind)(batch_norm=False, **params)


def output(estimator, X):
    return estimator.predict_proba(X) if is_classifier(estimator) else estimator.predict(X)


def assert_equal(ref, got, X, rtol=1e-9):
    """Every trained number and every attribute."""
    for name in ("coefs_", "intercepts_"):
        for a, b in zip(getattr(got, name), getattr(ref, name), strict=True):
            np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-12, err_msg=name)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_"):
        assert getattr(got, name) == getattr(ref, name), name
    for name in (
        "loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_",
    ):
        if getattr(ref, name, None) is not None:
            np.testing.assert_allclose(
                getattr(got, name), getattr(ref, name), rtol=1e-9, err_msg=name
            )
        elif hasattr(ref, name):
            assert getattr(got, name) is None, name
    np.testing.assert_allclose(output(got, X), output(ref, X), rtol=1e-8, atol=1e-12)
    if is_classifier(ref):
        np.testing.assert_array_equal(got.classes_, ref.classes_)
        np.testing.assert_array_equal(got.predict(X), ref.predict(X))
        assert got.predict(X).dtype == ref.predict(X).dtype


def check(task, *, weighted=False, times=1, method="fit", **params):
    X, y, weights = make_data(task)
    ref, got = pair(task, **params)
    for estimator in (ref, got):
        for _ in range(times):
            extra = (
                {"classes": np.unique(y)}
                if method == "partial_fit" and is_classifier(ref) and y.ndim == 1
                else {}
            )
            if method == "partial_fit" and task == "multilabel":
                extra = {"classes": np.arange(4)}
            getattr(estimator, method)(X, y, sample_weight=weights if weighted else None, **extra)
    assert_equal(ref, got, X)


@tasks
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_solver(task, solver, weighted):
    check(task, solver=solver, weighted=weighted, alpha=0.3)


@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh"])
def test_lbfgs_activation(activation):
    check("multiclass", solver="lbfgs", activation=activation)


def test_lbfgs_with_saturated_probabilities():
    """scikit-learn keeps probabilities off 0.

    A line search that tries a long step sees another loss.
    """
    rng = np.random.default_rng(22)
    X = rng.normal(0.3, 1.5, (103, 17))
    y = (X @ rng.normal(size=(17, 4)) / 4 + 0.3 * rng.normal(size=(103, 4)))[:, 0] > 0
    weights = rng.integers(0, 4, 103).astype(float)
    ref, got = (m.set_params(solver="lbfgs", alpha=0.3).fit(X, y, weights) for m in pair("binary"))
    assert_equal(ref, got, X, rtol=1e-7)


def test_lbfgs_of_several_counts():
    X, _, _ = make_data("regression")
    y = np.random.default_rng(0).poisson(2.0, (len(X), 3))
    ref, got = (m.set_params(solver="lbfgs").fit(X, y) for m in pair("counts"))
    assert_equal(ref, got, X)


def test_lbfgs_in_parts():
    """More rows than are computed in one go."""
    X, y, weights = make_data("multiclass", rows=9000)
    ref, got = (
        m.set_params(solver="lbfgs", max_iter=3).fit(X, y, weights) for m in pair("multiclass")
    )
    assert_equal(ref, got, X, rtol=1e-7)


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@tasks
def test_goes_on(task, method):
    check(task, method=method, times=3, warm_start=method == "fit", weighted=True)


@pytest.mark.parametrize(
    "params",
    [
        {"solver": "sgd", "learning_rate": "invscaling"},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.25, "shuffle": False},
        {
            "solver": "sgd", "learning_rate": "adaptive", "tol": 0.2, "n_iter_no_change": 1,
            "max_iter": 30,
        },
        {"solver": "adam", "tol": 0.05, "n_iter_no_change": 1, "max_iter": 30},
        {"solver": "lbfgs", "max_iter": 3},
        {"early_stopping": True, "max_iter": 20},
    ],
    ids=str,
)
def test_warm_start(params):
    """A second fit goes on with the weights, the count of stale epochs and the rows seen, and with
    a fresh optimiser.
    """
    check("multiclass", times=2, warm_start=True, **params)


@pytest.mark.parametrize("learning_rate", ["constant", "invscaling", "adaptive"])
def test_partial_fit_keeps_the_learning_rate(learning_rate):
    check(
        "multiclass", times=4, method="partial_fit", solver="sgd", learning_rate=learning_rate,
        tol=10.0, n_iter_no_change=1,
    )


@tasks
def test_early_stopping_with_weights(task):
    check(task, early_stopping=True, max_iter=20, weighted=True, validation_fraction=0.3)


@pytest.mark.parametrize(
    "params",
    [
        {"hidden_layer_sizes": ()}, {"hidden_layer_sizes": (), "activation": "logistic"},
        {"hidden_layer_sizes": 7}, {"hidden_layer_sizes": np.array([7, 3])}, {"batch_size": 1},
        {"solver": "sgd", "momentum": 0},
        {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4},
        {"n_iter_no_change": np.inf, "tol": 1e9},
    ],
    ids=str,
)
def test_odd_parameters(params):
    check("multiclass", **params)


@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_sparse_rows(solver):
    X, y, weights = make_data("multiclass")
    X = np.where(X > 0.5, X, 0)
    ref, got = pair("multiclass", solver=solver)
    assert_equal(
        ref.fit(scipy.sparse.csr_array(X), y, weights),
        got.fit(scipy.sparse.csr_array(X), y, weights),
        X,
    )


def test_sparse_labels_are_answered_sparse():
    X, y, _ = make_data("multilabel")
    for estimator in pair("multilabel"):
        answers = estimator.fit(X, scipy.sparse.csr_matrix(y)).predict(X)
        assert scipy.sparse.issparse(answers) and answers.shape == y.shape


def test_one_class():
    X, y, _ = make_data("regression")
    ref, got = pair("binary")
    ref.fit(X, np.full(len(X), "ash"))
    with pytest.warns(RuntimeWarning, match="y holds one class, 'ash'"):
        got.fit(X, np.full(len(X), "ash"))
    np.testing.assert_allclose(got.predict_proba(X), ref.predict_proba(X), rtol=1e-9)
    np.testing.assert_array_equal(got.predict(X), ref.predict(X))


def test_weights_set_by_hand():
    """Attributes of a network that was never fitted, and then partial_fit."""
    X, y, _ = make_data("multiclass")
    fitted = pair("multiclass")[0].fit(X, y)
    models = []
    for estimator in pair("multiclass"):
        estimator.coefs_ = [c.copy() for c in fitted.coefs_]
        estimator.intercepts_ = [b.copy() for b in fitted.intercepts_]
        estimator.n_features_in_, estimator.n_outputs_, estimator.n_layers_ = X.shape[1], 3, 4
        estimator.out_activation_, estimator.t_, estimator.n_iter_, estimator.loss_curve_ = (
            "softmax", 0, 0, [],
        )
        estimator.best_loss_, estimator._no_improvement_count = np.inf, 0
        models.append(estimator.partial_fit(X, y, classes=np.unique(y)))
    for a, b in zip(models[1].coefs_, models[0].coefs_, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def test_errors_are_scikit_learns():
    """The same text for the same mistake."""
    X, y, _ = make_data("multiclass")
    mistakes = [
        (lambda m: m.fit(X, y).predict(X[:, 1:]), ValueError),
        (lambda m: m.fit(X[:, 0], y), ValueError),
        (lambda m: m.fit(X[:50], y), ValueError),
        (lambda m: m.fit(np.where(X > 2, np.nan, X), y), ValueError),
        (lambda m: m.fit(X, y, sample_weight=np.ones((len(X), 2))), ValueError),
        (lambda m: m.fit(X, y, sample_weight=np.ones(3)), ValueError),
        (lambda m: m.fit(X, np.column_stack([y, y])), ValueError),
        (lambda m: m.fit(X, None), ValueError),
        (lambda m: m.fit(X, []), ValueError),
        (lambda m: m.fit(X, 3), TypeError),
        (lambda m: m.fit(X, np.zeros((len(X), 2, 2), int)), ValueError),
        (lambda m: m.fit(X, np.where(y == 1, np.nan, y)), ValueError),
        (lambda m: m.fit(X, np.array(["ash", np.nan, "beech"], object)[y]), ValueError),
        (lambda m: m.fit(X, np.array(["ash", None, "beech"], object)[y]), TypeError),
        (lambda m: m.fit(None, y), ValueError),
        (lambda m: m.fit("rows", y), ValueError),
        (lambda m: m.fit({"rows": X}, y), TypeError),
        (lambda m: m.fit([[1.0, 2.0], [3.0]], y), ValueError),
        (lambda m: m.fit(np.full(X.shape, "ash"), y), ValueError),
        (lambda m: m.fit(np.full(X.shape, "ash", object), y), ValueError),
        (lambda m: m.fit(X[:0], y[:0]), ValueError),
        (lambda m: m.fit(X[:, :0], y), ValueError),
        (lambda m: m.fit(np.where(X > 2, np.inf, X), y), ValueError),
        (lambda m: m.fit(X, y).predict(np.where(X > 2, np.nan, X)), ValueError),
        (lambda m: m.fit(X, y).score(X, y[:5]), ValueError),
        (lambda m: m.partial_fit(X, y, classes=[-1, 0]), ValueError),
        (lambda m: m.predict(X), Exception),
        (lambda m: m.partial_fit(X, y), ValueError),
        (
            lambda m: m.partial_fit(X, y, classes=[-1, 0, 1]).partial_fit(X, y, classes=[0, 1, 2]),
            ValueError,
        ),
        (lambda m: m.partial_fit(X, y, classes=[-1, 0, 1]).partial_fit(X, y + 1), ValueError),
        (
            lambda m: m.set_params(early_stopping=True).partial_fit(X, y, classes=[-1, 0, 1]),
            ValueError,
        ),
        (
            lambda m: m.set_params(early_stopping=True, validation_fraction=0.005).fit(X, y),
            ValueError,
        ),
        (
            lambda m: m.set_params(warm_start=True).fit(X, y).fit(X, np.where(y == 1, 5, y)),
            ValueError,
        ),
        (lambda m: m.set_params(solver="lbfgs").partial_fit, AttributeError),
        (lambda m: m.set_params(hidden_layer_sizes=(3, -1)).fit(X, y), ValueError),
        (lambda m: m.set_params(alpha=-1).fit(X, y), ValueError),
    ]
    for i, (mistake, error) in enumerate(mistakes):
        texts = []
        for estimator in pair("multiclass"):
            with np.errstate(all="ignore"), pytest.raises(error) as raised:
                mistake(estimator)
            cause = raised.value.__cause__
            texts.append((type(raised.value), str(raised.value), str(cause)))
        kind, text, cause = texts[0]
        text = text.replace("'alpha' parameter of MLPClassifier must be a float",
                            "'alpha' parameter of MLPClassifier must be None or a float")
        assert texts[1] == (kind, text, cause), i


@pytest.mark.filterwarnings("default::sklearn.exceptions.ConvergenceWarning")
def test_warnings_are_scikit_learns():
    X, y, _ = make_data("multiclass")
    for params in (
        {}, {"batch_size": 500}, {"solver": "lbfgs", "max_iter": 2},
        {"solver": "lbfgs", "max_fun": 3},
    ):
        texts = []
        for estimator in pair("multiclass", **params):
            with pytest.warns(UserWarning) as caught:
                estimator.fit(X, y)
            texts.append([(w.category, str(w.message)) for w in caught])
        assert texts[0] == texts[1], params


def test_lines_are_scikit_learns(capsys):
    X, y, _ = make_data("multiclass")
    runs = [
        {
            "solver": "sgd", "learning_rate": "adaptive", "tol": 10.0, "n_iter_no_change": 1,
            "max_iter": 200,
        },
        {"tol": 10.0, "n_iter_no_change": 2},
        {"early_stopping": True, "tol": 10.0, "n_iter_no_change": 2},
    ]
    for params in runs:
        texts = []
        for estimator in pair("multiclass", verbose=True, **params):
            estimator.fit(X, y)
            texts.append(capsys.readouterr().out)
        assert texts[0] == texts[1] != ""


def test_the_optimiser_shows_its_rate():
    X, y, _ = make_data("multiclass")
    for params in ({}, {"solver": "sgd"}, {"solver": "sgd", "learning_rate": "invscaling"}):
        ref, got = (m.fit(X, y) for m in pair("multiclass", **params))
        assert got._optimizer.learning_rate == pytest.approx(
            ref._optimizer.learning_rate, rel=1e-12
        )
        assert got._no_improvement_count == ref._no_improvement_count
