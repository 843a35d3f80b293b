"""What users rely on: scikit-learn's contract, and what an estimator has and takes."""

from __future__ import annotations

import inspect
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from estimator_helpers import KINDS, arrays, assert_same_bits, kinds, newest, three_classes
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import nbbn
from nbbn.estimators.mlp.defaults import value_of

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(rows=203, features=13):
    return three_classes(rows, features, 8)


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (20, 7), "max_iter": 4, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


@parametrize_with_checks(
    [
        getattr(nbbn, kind)(
            hidden_layer_sizes=(20,), max_iter=60, learning_rate_init=0.02, random_state=0,
            batch_norm=norm,
        )
        for kind in KINDS
        for norm in (True, False)
    ] + [
        getattr(nbbn, kind)(
            hidden_layer_sizes=(12, 12), max_iter=60, learning_rate_init=0.02, random_state=0,
            residual=True,
        )
        for kind in KINDS
    ]
)
@pytest.mark.filterwarnings("ignore:y holds one class")  # one of the checks fits on one
def test_scikit_learn_checks(estimator, check):
    check(estimator)


@pytest.mark.slow
@newest
def test_the_check_that_is_skipped_here():
    """Of arrays of other libraries.

    Scikit-learn runs it where scipy's support for them was switched on before its import.
    """
    code = f"""
        import warnings
        import nbbn
        from sklearn.utils.estimator_checks import estimator_checks_generator
        warnings.simplefilter("ignore")
        for kind in {KINDS}:
            for norm in (True, False):
                for estimator, check in estimator_checks_generator(getattr(nbbn, kind)(max_iter=5, batch_norm=norm)):
                    if "array_api" in str(check):
                        check(estimator)
                        print("passed")
    """
    env = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).resolve().parents[1]),
        "SCIPY_ARRAY_API": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True,
        timeout=600,
    )
    assert done.stdout.split() == ["passed"] * 4, done.stderr


# Parameters and the life of an estimator


@kinds
def test_parameters(kind):
    estimator = make(kind, bn_momentum=0.8, batch_norm=["pre", False])
    params = estimator.get_params()
    assert params["bn_momentum"] == 0.8
    assert params["bn_epsilon"] == 1e-5
    assert getattr(nbbn, kind)().batch_norm is True
    assert clone(estimator).get_params() == params
    assert estimator.set_params(bn_epsilon=1e-3).bn_epsilon == 1e-3
    first = () if kind == "MLPClassifier" else ("huber",)
    assert getattr(nbbn, kind)(*first, (9,), "tanh").activation == "tanh"
    with pytest.raises(TypeError):
        getattr(nbbn, kind)(*first, (9,), "relu", False)


@newest
def test_shares_scikit_learns_signatures():
    """Every parameter of scikit-learn's, in its place and with its default.

    The others by keyword alone. Two defaults depend on batch norm: without it they are
    scikit-learn's.
    """
    from sklearn import neural_network

    by_norm = ("learning_rate_init", "alpha")

    for kind in KINDS:
        for method in (
            "__init__", "fit", "partial_fit", "predict", "predict_proba", "predict_log_proba",
            "score",
        ):
            if kind == "MLPRegressor" and "proba" in method:
                continue
            ours, theirs = (
                inspect.signature(getattr(getattr(library, kind), method)).parameters
                for library in (nbbn, neural_network)
            )
            shared = {name: (p.default, p.kind) for name, p in ours.items() if name in theirs}
            expected = {name: (p.default, p.kind) for name, p in theirs.items()}
            for name in by_norm if method == "__init__" else ():
                assert value_of(getattr(nbbn, kind)(batch_norm=False), name) == expected[name][0]
                expected[name] = (None, expected[name][1])
            assert shared == expected, (kind, method)
            positional = [name for name, p in ours.items() if p.kind is p.POSITIONAL_OR_KEYWORD]
            assert positional == [
                name for name, p in theirs.items() if p.kind is p.POSITIONAL_OR_KEYWORD
            ], (kind, method)
    assert nbbn.MLPClassifier().loss == neural_network.MLPClassifier().loss == "log_loss"


@kinds
def test_pickle(kind):
    X, y = data()
    fitted = make(kind).fit(X, y)
    copy = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(copy.predict(X), fitted.predict(X))
    assert_same_bits(copy, fitted)
    assert_same_bits(copy.partial_fit(X, y), fitted.partial_fit(X, y))


@kinds
def test_fit_starts_anew(kind):
    X, y = data()
    estimator = make(kind)
    assert estimator.fit(X, y) is estimator
    first = pickle.loads(pickle.dumps(estimator))
    assert_same_bits(estimator.fit(X, y), first)
    assert_same_bits(clone(estimator).fit(X, y), first)
    estimator.set_params(hidden_layer_sizes=(5,)).fit(X[:, :4], y)
    assert estimator.coefs_[0].shape == (4, 5)


def test_pipeline_and_grid_search():
    X, y = data()
    pipeline = make_pipeline(StandardScaler(), make(max_iter=10, learning_rate_init=0.01))
    assert pipeline.fit(X, y).score(X, y) > 0.7
    grid = {
        "mlpclassifier__batch_norm": [True, "post", False],
        "mlpclassifier__alpha": [1e-4, 1e-1],
    }
    one, two = (GridSearchCV(pipeline, grid, cv=2, n_jobs=n).fit(X, y) for n in (1, 2))
    np.testing.assert_array_equal(
        one.cv_results_["mean_test_score"], two.cv_results_["mean_test_score"]
    )
    assert one.best_params_ == two.best_params_


def test_attributes():
    X, y = data()
    fitted = make().fit(X, y)
    assert fitted.n_iter_ == len(fitted.loss_curve_) == 4
    assert fitted.t_ == 4 * len(X)
    assert fitted.n_layers_ == 4
    assert fitted.n_outputs_ == 3
    assert fitted.out_activation_ == "softmax"
    assert fitted.n_features_in_ == 13
    assert fitted.loss_ == fitted.loss_curve_[-1]
    assert fitted.best_loss_ == min(fitted.loss_curve_)
    np.testing.assert_array_equal(fitted.classes_, [0, 1, 2])
    for name in ("gammas_", "betas_", "running_means_", "running_vars_"):
        assert [a.shape for a in getattr(fitted, name)] == [(20,), (7,)], name
    assert [w.shape for w in fitted.coefs_] == [(13, 20), (20, 7), (7, 3)]
    assert make().fit(X, y == 1).out_activation_ == "logistic"
    assert make("MLPRegressor").fit(X, y).out_activation_ == "identity"


def test_feature_names():
    pandas = pytest.importorskip("pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    fitted = make().fit(frame, y)
    assert list(fitted.feature_names_in_) == list(frame.columns)
    np.testing.assert_array_equal(fitted.predict(frame), make().fit(X, y).predict(X))
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(frame[frame.columns[::-1]])


# Labels and targets


@pytest.mark.parametrize(
    "labels", [["ash", "beech", "cedar"], [-5, 0, 70], [1.0, 2.0, 3.0]], ids=str
)
def test_any_labels(labels):
    X, y = data()
    labels = np.array(labels)
    fitted, ref = make().fit(X, labels[y]), make().fit(X, y)
    np.testing.assert_array_equal(fitted.classes_, labels)
    np.testing.assert_array_equal(fitted.predict(X), labels[ref.predict(X)])
    np.testing.assert_array_equal(fitted.predict_proba(X), ref.predict_proba(X))


def test_continuous_labels():
    X, y = data()
    with pytest.raises(ValueError, match="Unknown label type"):
        make().fit(X, y + X[:, 0])


def test_probabilities():
    X, y = data()
    for target in (y, y == 1):
        fitted = make().fit(X, target)
        probability = fitted.predict_proba(X)
        assert probability.shape == (len(X), len(fitted.classes_))
        np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-12)
        np.testing.assert_array_equal(
            fitted.classes_[probability.argmax(axis=1)], fitted.predict(X)
        )
        np.testing.assert_allclose(
            fitted.predict_log_proba(X), np.log(probability), rtol=1e-6, atol=1e-12
        )
        assert fitted.score(X, target) == (fitted.predict(X) == target).mean()


def test_probabilities_of_extreme_rows():
    X, y = data()
    probability = make().fit(X, y).predict_proba(1e6 * X)
    assert np.isfinite(probability).all()
    np.testing.assert_allclose(probability.sum(axis=1), 1, rtol=1e-12)


def test_regression_targets():
    X, y = data()
    single = make("MLPRegressor", max_iter=30, learning_rate_init=0.02).fit(X, y.astype(float))
    assert single.predict(X).shape == (len(X),)
    double = make("MLPRegressor").fit(X, np.column_stack([y, -y]).astype(float))
    assert double.predict(X).shape == (len(X), 2)
    assert single.score(X, y) > 0


# The data as they come


@kinds
def test_dtype(kind):
    X, y = data()
    for dtype, force, expected in (
        (np.float64, None, np.float64), (np.float32, None, np.float32),
        (np.float64, "float32", np.float32), (np.float32, "float64", np.float64),
        (np.int64, None, np.float64),
    ):
        fitted = make(kind, dtype=force).fit(X.astype(dtype), y)
        assert {a.dtype for a in arrays(fitted)} == {np.dtype(expected)}
        if kind == "MLPClassifier":
            assert fitted.predict_proba(X.astype(dtype)).dtype == expected


def test_images_of_bytes():
    """uint8 rows give the bits of the same numbers in floating point."""
    rng = np.random.default_rng(0)
    X, y = rng.integers(0, 256, (150, 30), dtype=np.uint8), rng.integers(0, 3, 150)
    for dtype in ("float32", "float64"):
        got, ref = make(dtype=dtype).fit(X, y), make(dtype=dtype).fit(X.astype(dtype), y)
        assert_same_bits(got, ref)
        np.testing.assert_array_equal(got.predict_proba(X), ref.predict_proba(X.astype(dtype)))


@pytest.mark.parametrize(
    "layout",
    [
        np.asfortranarray, lambda a: np.repeat(a, 2, axis=0)[::2],
        lambda a: a[:, ::-1].copy()[:, ::-1], lambda a: a.tolist(),
    ],
    ids=["fortran", "strided", "reversed", "list"],
)
@pytest.mark.parametrize("shuffle", [True, False])
def test_layout_of_x(layout, shuffle):
    X, y = data()
    X.setflags(write=False)
    before = X.copy()
    ref = make(shuffle=shuffle).fit(X, y)
    got = make(shuffle=shuffle).fit(layout(X), y)
    np.testing.assert_array_equal(X, before)
    for g, r in zip(arrays(got), arrays(ref), strict=True):
        np.testing.assert_allclose(g, r, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(got.predict_proba(layout(X)), ref.predict_proba(X), rtol=1e-9)


def test_prediction_of_a_row_is_its_own():
    """A row's answer does not depend on the rows beside it."""
    X, y = data()
    fitted = make().fit(X, y)
    together = fitted.predict_proba(X)
    alone = np.vstack([fitted.predict_proba(row[None]) for row in X[:40]])
    np.testing.assert_allclose(alone, together[:40], rtol=1e-12)
