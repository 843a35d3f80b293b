"""Weights of rows and of classes."""

from __future__ import annotations

import numpy as np
import pytest
from estimator_helpers import assert_close, norms, numbers, three_classes

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


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


@norms
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("kind", ["classes", "numbers"])
def test_weighted_equals_repeated(batch_norm, solver, kind):
    """In one batch a row of weight k is the row k times, statistics of batch norm included.

    One of weight 0 is absent.
    """
    X, y = data() if kind == "classes" else numbers()
    make = classifier if kind == "classes" else regressor
    weights = np.random.default_rng(0).integers(0, 4, len(X))
    params = {
        "batch_norm": batch_norm, "solver": solver, "batch_size": "auto", "max_iter": 20,
        "alpha": 0.5,
    }
    params["learning_rate_init"] = 0.01
    got = make(**params).fit(X, y, sample_weight=weights)
    ref = make(**params).fit(X.repeat(weights, axis=0), y.repeat(weights))
    assert_close(got, ref, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(got.loss_curve_, ref.loss_curve_, rtol=1e-8)


@norms
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_only_the_proportion_of_weights_counts(batch_norm, solver):
    X, y = data()
    weights = np.random.default_rng(0).uniform(0.5, 2, len(X))
    params = {"batch_norm": batch_norm, "solver": solver, "alpha": 0.0}
    ones = classifier(**params).fit(X, y, np.ones(len(X)))
    assert_close(ones, classifier(**params).fit(X, y), rtol=1e-7, atol=1e-9)
    got = classifier(**params).fit(X, y, 1e6 * weights)
    assert_close(got, classifier(**params).fit(X, y, weights), rtol=1e-6, atol=1e-8)


@norms
def test_a_batch_without_weight_is_left_out(batch_norm):
    X, y = data(100)
    weights = np.ones(100)
    weights[25:50] = 0
    got = classifier(batch_norm=batch_norm).fit(X, y, weights)
    keep = weights > 0
    ref = classifier(batch_norm=batch_norm).fit(X[keep], y[keep])
    assert_close(got, ref, rtol=1e-8, atol=1e-10)
    assert got.t_ == 400


@pytest.mark.parametrize("given", ["balanced", {0: 1.0, 1: 2.5, 2: 0.25}])
def test_class_weight(given):
    X, y = data()
    y = np.where(y == 2, np.arange(len(y)) % 3 == 0, y).astype(int) + (y == 2) * (
        np.arange(len(y)) % 2
    )
    classes, counts = np.unique(y, return_counts=True)
    own = np.random.default_rng(0).uniform(0.5, 2, len(X))
    table = (
        {c: len(y) / (len(classes) * n) for c, n in zip(classes, counts)}
        if given == "balanced"
        else given
    )
    by_class = np.array([table[label] for label in y])
    got = classifier(class_weight=given).fit(X, y, own, X_val=X, y_val=y)
    ref = classifier().fit(X, y, own * by_class, X_val=X, y_val=y)
    assert_close(got, ref, rtol=1e-9, atol=1e-12)
    assert got.validation_loss_curve_ == pytest.approx(ref.validation_loss_curve_)


def test_class_weight_of_string_labels_and_of_many_labels():
    X, y = data()
    words = np.array(["ash", "beech", "cedar"])[y]
    got = classifier(class_weight={"ash": 3.0, "beech": 1.0, "cedar": 1.0}).fit(X, words)
    assert_close(got, classifier(class_weight={0: 3.0, 1: 1.0, 2: 1.0}).fit(X, y))
    many = np.column_stack([y == 0, y > 0])
    classifier(class_weight="balanced").fit(X, many)
    with pytest.raises(ValueError, match="class_weight as a dict needs one label a row"):
        classifier(class_weight={0: 2.0}).fit(X, many)
    with pytest.raises(ValueError, match="class_weight as a list is for multilabel targets"):
        classifier(class_weight=[1.0, 2.0, 2.0]).fit(X, y)
    with pytest.raises(
        ValueError, match="class_weight='balanced' is not supported for partial_fit"
    ):
        classifier(class_weight="balanced").partial_fit(X, y, classes=[0, 1, 2])
    with pytest.raises(ValueError, match="class_weight"):
        classifier(class_weight={"oak": 2.0}).fit(X, y)


@pytest.mark.parametrize("kind", [bool, np.int8, np.float32, float])
def test_class_weight_by_the_labels_value(kind):
    X, y = data()
    y = (y > 0).astype(kind)
    ref = classifier(class_weight={0: 1.0, 1: 4.0}).fit(X, y.astype(int))
    for keys in (np.unique(y), [0, 1], [0.0, 1.0], [False, True]):
        got = classifier(class_weight=dict(zip(keys, [1.0, 4.0]))).fit(X, y)
        assert_close(got, ref)


def test_class_weights_of_several_labels_multiply(tmp_path):
    X, y = data()
    many, given = np.column_stack([y == 0, y > 1]), [{0: 1.0, 1: 3.0}, {False: 0.5, True: 2.0}]
    weights = np.where(y == 0, 3.0, 1.0) * np.where(y > 1, 2.0, 0.5)
    got = classifier(class_weight=given).fit(X, many)
    assert_close(got, classifier().fit(X, many, weights))
    got.save(tmp_path / "model.nbbn")
    assert nbbn.load(tmp_path / "model.nbbn").class_weight == given


@pytest.mark.parametrize("wrong", [-1.0, np.nan, np.inf])
def test_wrong_class_weights(wrong):
    X, y = data()
    with pytest.raises(ValueError, match="class_weight must hold finite weights of 0 or more, got"):
        classifier(class_weight={0: wrong}).fit(X, y)


def test_weights_that_cancel_out():
    X, y = data()
    with pytest.raises(ValueError, match="sample_weight times class_weight is zero for every row"):
        classifier(class_weight={0: 0.0, 1: 1.0, 2: 1.0}).fit(X, y, (y == 0).astype(float))
    without = classifier(class_weight={0: 0.0, 1: 1.0, 2: 1.0}, batch_size=90).fit(X, y)
    assert_close(without, classifier(batch_size=90).fit(X, y, (y > 0).astype(float)))


@pytest.mark.parametrize(
    ("weights", "match"),
    [
        (np.zeros(90), "zero"), (-np.ones(90), "Negative values in sample_weight"),
        (np.full(90, np.nan), "NaN"), (np.ones(89), "sample_weight"), (np.ones((90, 2)), "1D"),
    ],
    ids=["zeros", "negative", "nan", "short", "2-D"],
)
def test_wrong_weights(weights, match):
    X, y = data()
    with pytest.raises(ValueError, match=match):
        classifier().fit(X, y, weights)
    with pytest.raises(ValueError, match="sample_weight_val"):
        classifier().fit(X, y, sample_weight_val=np.ones(90))
