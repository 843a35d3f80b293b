"""Within scikit-learn's other estimators, across processes, with metadata routing and as a page."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import joblib
import numpy as np
import pytest
import sklearn
from estimator_helpers import KINDS, assert_same_bits, kinds, newest, three_classes
from sklearn import neural_network
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.inspection import partial_dependence, permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_validate
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PARAMS = {
    "hidden_layer_sizes": (12, 5), "max_iter": 8, "batch_size": 32, "learning_rate_init": 0.03,
    "random_state": 1,
}


def data(rows=160):
    return three_classes(rows, 9, 7)


def make(kind="MLPClassifier", **params):
    return getattr(nbbn, kind)(**{**PARAMS, **params})


def proba(model, X, y):
    return model.fit(X, y).predict_proba(X)


def answer(model, X, y):
    return model.fit(X, y).predict(X)


CLASSIFIERS = {
    "calibrated": lambda m, X, y: proba(CalibratedClassifierCV(m, cv=3), X, y),
    "crossed": lambda m, X, y: cross_val_predict(m, X, y, cv=3, method="predict_proba"),
    "voting": lambda m, X, y: (
        VotingClassifier([("a", m), ("b", LogisticRegression())], voting="soft")
        .fit(X, y, sample_weight=np.linspace(0.5, 2, len(X)))
        .predict_proba(X)
    ),
    "stacked": lambda m, X, y: proba(StackingClassifier([("a", m)], cv=3), X, y),
    "bagged": lambda m, X, y: proba(BaggingClassifier(m, n_estimators=3, random_state=0), X, y),
    "boosted": lambda m, X, y: proba(
        AdaBoostClassifier(m, n_estimators=2, random_state=0), X, y > 0
    ),
    "one to rest": lambda m, X, y: proba(OneVsRestClassifier(m), X, y),
    "one to one": lambda m, X, y: OneVsOneClassifier(m).fit(X, y).decision_function(X),
    "several outputs": lambda m, X, y: np.hstack(
        proba(MultiOutputClassifier(m), X, np.column_stack([y, y == 1]))
    ),
    "chain": lambda m, X, y: proba(ClassifierChain(m), X, np.column_stack([y == 0, y == 1])),
    "pipeline": lambda m, X, y: proba(make_pipeline(StandardScaler(), m), X, y),
    "importance": lambda m, X, y: (
        permutation_importance(m.fit(X, y), X, y, n_repeats=2, random_state=0).importances
    ),
    "dependence": lambda m, X, y: partial_dependence(m.fit(X, y), X, [0], grid_resolution=5)[
        "average"
    ],
}
REGRESSORS = {
    "bagged": lambda m, X, y: answer(BaggingRegressor(m, n_estimators=3, random_state=0), X, y),
    "scaled target": lambda m, X, y: answer(
        TransformedTargetRegressor(m, transformer=StandardScaler()), X, 100.0 * y
    ),
    "several outputs": lambda m, X, y: answer(
        MultiOutputRegressor(m), X, np.column_stack([y, X[:, 0]])
    ),
    "crossed": lambda m, X, y: cross_val_predict(m, X, y, cv=3),
}


@newest
@pytest.mark.parametrize("within", CLASSIFIERS.values(), ids=CLASSIFIERS)
def test_classifier_within(within):
    """The same numbers as with scikit-learn's own network; with batch norm it works too."""
    X, y = data()
    ref = within(neural_network.MLPClassifier(**PARAMS), X, y)
    np.testing.assert_allclose(within(make(batch_norm=False), X, y), ref, rtol=1e-6, atol=1e-9)
    got = within(make(), X, y)
    assert got.shape == ref.shape and np.isfinite(got).all()


@newest
@pytest.mark.parametrize("within", REGRESSORS.values(), ids=REGRESSORS)
def test_regressor_within(within):
    X, y = data()
    ref = within(neural_network.MLPRegressor(**PARAMS), X, y)
    np.testing.assert_allclose(
        within(make("MLPRegressor", batch_norm=False), X, y), ref, rtol=1e-6, atol=1e-9
    )
    assert np.isfinite(within(make("MLPRegressor"), X, y)).all()


def test_as_a_transformer():
    """The last hidden layer's activations as features of another model, beside others."""
    X, y = data()
    union = FeatureUnion([("network", make()), ("rows", "passthrough")])
    model = make_pipeline(union, GaussianNB()).fit(X, y)
    hidden = make().fit(X, y).transform(X)
    np.testing.assert_array_equal(model[:-1].transform(X), np.hstack([hidden, X]))
    assert list(model[:-1].get_feature_names_out()[:2]) == [
        "network__mlpclassifier0",
        "network__mlpclassifier1",
    ]


# Metadata routing


def test_validation_rows_through_a_pipeline():
    """The steps before transform X_val as they transform X."""
    X, y = data()
    weights = np.linspace(0.5, 2, 100)
    with sklearn.config_context(enable_metadata_routing=True):
        model = make().set_fit_request(
            X_val=True, y_val=True, sample_weight=True, sample_weight_val=True
        )
        scaler = StandardScaler().set_fit_request(sample_weight=False)
        pipeline = Pipeline([("scale", scaler), ("network", model)], transform_input=["X_val"])
        pipeline.fit(
            X[:100], y[:100], X_val=X[100:], y_val=y[100:], sample_weight=weights,
            sample_weight_val=np.ones(60),
        )
    scale = StandardScaler().fit(X[:100]).transform
    ref = make().fit(scale(X[:100]), y[:100], weights, X_val=scale(X[100:]), y_val=y[100:])
    assert_same_bits(pipeline[-1], ref)
    assert pipeline[-1].validation_loss_curve_ == ref.validation_loss_curve_


def test_weights_through_a_search():
    X, y = data()
    weights = np.where(y == 0, 5.0, 0.2)
    with sklearn.config_context(enable_metadata_routing=True):
        model = make(alpha=1e-4)
        model.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        search = GridSearchCV(model, {"alpha": [1e-4, 1e-2]}, cv=2, n_jobs=2).fit(
            X, y, sample_weight=weights
        )
        scores = cross_validate(model, X, y, cv=2, params={"sample_weight": weights})["test_score"]
    assert search.cv_results_["mean_test_score"][0] == pytest.approx(scores.mean())
    assert_same_bits(
        search.best_estimator_, make(alpha=search.best_params_["alpha"]).fit(X, y, weights)
    )
    plain = cross_validate(make(alpha=1e-4), X, y, cv=2)["test_score"]
    assert scores.mean() != plain.mean()


@kinds
def test_requests(kind):
    requests = make(kind).get_metadata_routing()
    assert set(requests.fit.requests) == {"sample_weight", "X_val", "y_val", "sample_weight_val"}
    assert set(requests.partial_fit.requests) == {"sample_weight"} | (
        {"classes"} if kind == "MLPClassifier" else set()
    )
    assert set(requests.score.requests) == {"sample_weight"} and set(
        requests.transform.requests
    ) == {"layer"}


# Across processes


@pytest.mark.slow
def test_from_another_process(tmp_path):
    """Fitted, pickled and dumped there.

    Here the same answers, and training goes on with the same bits.
    """
    code = f"""
        import pickle, warnings
        import joblib, nbbn
        from sklearn.datasets import make_classification
        warnings.simplefilter("ignore")
        X, y = make_classification(160, 9, n_informative=7, n_classes=3, class_sep=1.5, random_state=0)
        for kind in {KINDS}:
            model = getattr(nbbn, kind)(**{PARAMS}, dropout=0.2).fit(X, y)
            with open({str(tmp_path)!r} + "/" + kind + ".pickle", "wb") as file:
                pickle.dump(model, file)
            joblib.dump(model, {str(tmp_path)!r} + "/" + kind + ".joblib")
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, check=True, timeout=300)
    X, y = data()
    for kind in KINDS:
        ref = make(kind, dropout=0.2).fit(X, y)
        loaded = [pickle.loads((tmp_path / f"{kind}.pickle").read_bytes())]
        loaded += [joblib.load(tmp_path / f"{kind}.joblib", mmap_mode=mode) for mode in (None, "r")]
        for model in loaded:
            np.testing.assert_array_equal(model.predict(X), ref.predict(X))
        again = ref.partial_fit(X, y)
        for model in loaded:
            assert_same_bits(model.partial_fit(X, y), again)


def test_in_workers():
    """A fitted estimator goes to workers and predicts there."""
    X, y = data()
    model = make().fit(X, y)
    parts = joblib.Parallel(n_jobs=2)(
        joblib.delayed(model.predict_proba)(part) for part in (X[:80], X[80:])
    )
    np.testing.assert_allclose(np.vstack(parts), model.predict_proba(X), rtol=1e-12)


# As a page


@kinds
def test_page(kind):
    X, y = data()
    model = make(kind, bn_momentum=0.8)
    assert "bn_momentum" in model._repr_html_()
    page = make_pipeline(StandardScaler(), model.fit(X, y))._repr_html_()
    assert kind in page and "StandardScaler" in page and "bn_momentum" in page
    assert repr(make(kind)).startswith(f"{kind}(") and "bn_momentum" not in repr(make(kind))
