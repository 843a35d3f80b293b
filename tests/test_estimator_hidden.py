"""Hidden activations and exact running statistics."""

from __future__ import annotations

import naive
import numpy as np
import pytest
from estimator_helpers import norms, three_classes

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
def test_transform(batch_norm):
    X, y = data()
    fitted = classifier(batch_norm=batch_norm, activation="tanh", dropout=0.2).fit(X, y)
    hidden = X
    for h in range(2):
        z = hidden @ fitted.coefs_[h] + fitted.intercepts_[h]
        if batch_norm:
            numbers_of = [
                getattr(fitted, n)[h]
                for n in ("gammas_", "betas_", "running_means_", "running_vars_")
            ]
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


def test_names_of_the_columns():
    """`set_output` gives a frame of any layer, with that layer's names."""
    pandas = pytest.importorskip("pandas")
    X, y = data()
    frame = pandas.DataFrame(X, columns=[f"f{i}" for i in range(X.shape[1])])
    fitted = classifier().fit(frame, y).set_output(transform="pandas")
    plain = classifier().fit(X, y)
    names = {
        0: list(frame.columns), 1: [f"mlpclassifier{i}" for i in range(9)],
        2: [f"mlpclassifier{i}" for i in range(5)], 3: [f"mlpclassifier{i}" for i in range(3)],
    }
    for layer, columns in names.items():
        for given in (layer, layer - 4):
            got = fitted.transform(frame, layer=given)
            assert list(got.columns) == columns == list(fitted.get_feature_names_out(layer=given))
            np.testing.assert_array_equal(got.to_numpy(), plain.transform(X, layer=layer))
            assert got.index.equals(frame.index)
    assert list(fitted.fit_transform(frame, y).columns) == names[2]
    assert list(plain.get_feature_names_out(layer=0)) == [f"x{i}" for i in range(8)]
    assert isinstance(plain.transform(frame.to_numpy()), np.ndarray)
    with pytest.raises(ValueError, match="input_features is not equal to feature_names_in_"):
        fitted.get_feature_names_out([f"g{i}" for i in range(8)])
    with pytest.raises(ValueError, match="layer must be a whole number from -4 to 3"):
        fitted.get_feature_names_out(layer=4)


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
            np.testing.assert_allclose(
                fitted.running_means_[h], inside.mean(0), rtol=1e-9, atol=1e-11
            )
            np.testing.assert_allclose(fitted.running_vars_[h], inside.var(0), rtol=1e-9)
        hidden = fitted.transform(X, layer=h + 1)
    again = [m.copy() for m in fitted.running_means_ if m is not None]
    fitted.recalibrate(X)
    for a, b in zip([m for m in fitted.running_means_ if m is not None], again):
        np.testing.assert_array_equal(a, b)
