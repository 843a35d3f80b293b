"""Statistics beside an outlier: of float32, as precise as the numbers allow."""

from __future__ import annotations

import numpy as np
import pytest

import nbbn
from nbbn.functional import batch_norm_train

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
PLACES = {"first": 0, "middle": 0.5, "last": 1.0, "anywhere": 0.37}
# What a sum of float32 numbers near 1, and one of 1e6, may be off by, over the deviation.
TOLERANCE = 4e-6


def with_outlier(shape, place, axis=0, whole=1):
    """Float32 numbers near 1, but for `whole` of 1e6 in a row at a place of an axis."""
    x = np.random.default_rng(0).normal(1, 1, shape).astype(np.float32)
    at = int(PLACES[place] * (shape[axis] - whole))
    index = [slice(None)] * len(shape)
    index[axis] = slice(at, at + whole)
    x[tuple(index)] = 1e6
    return x


def assert_right(mean, var, x):
    axes = tuple(range(x.ndim - 1))
    exact = x.astype(np.float64)
    right, deviation = exact.mean(axes), exact.std(axes)
    assert np.abs(mean - right).max() <= TOLERANCE * np.abs(right).max() + 1e-5
    np.testing.assert_allclose(np.sqrt(var), deviation, rtol=1e-5)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("shape", [(60_000, 16), (4096, 3), (30_001, 5), (37, 1), (300, 20, 20, 8)])
def test_functional(shape, place):
    x = with_outlier(shape, place)
    _, cache = batch_norm_train(x)
    assert_right(np.asarray(cache.mean, np.float64), np.asarray(cache.var, np.float64), x)


def running(layers, x, weights=None):
    """The batch's statistics, from the running ones after a step that keeps half of the old."""
    model = nbbn.Sequential([nbbn.layers.BatchNormalization(momentum=0.5), *layers])
    model.compile("sgd", "mse")
    model.fit(x, np.zeros(len(x)), batch_size=len(x), sample_weight=weights, verbose=0,
              shuffle=False)
    mean, var = (np.asarray(array, np.float64) for array in model.layers[0].get_weights()[2:])
    return 2 * mean, 2 * var - 1


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("rows", [64, 2048])
def test_training_on_rows(rows, place):
    x = with_outlier((rows, 9), place)
    assert_right(*running([nbbn.layers.Dense(1)], x), x)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("whole", [1, 4])
@pytest.mark.parametrize("rows", [32, 128])
def test_training_on_images(rows, place, whole):
    """Of whole images, the first or all of a block, too."""
    x = with_outlier((rows, 8, 8, 3), place, whole=whole)
    layers = [nbbn.layers.GlobalAveragePooling2D(), nbbn.layers.Dense(1)]
    assert_right(*running(layers, x), x)


@pytest.mark.parametrize("place", PLACES)
def test_training_on_images_with_an_outlying_row(place):
    x = with_outlier((16, 12, 5, 3), place, axis=1)
    layers = [nbbn.layers.GlobalAveragePooling2D(), nbbn.layers.Dense(1)]
    assert_right(*running(layers, x), x)


@pytest.mark.parametrize("place", PLACES)
def test_weighted_statistics(place):
    x = with_outlier((500, 6), place)
    y = np.arange(500) % 2
    model = nbbn.MLPClassifier((4,), max_iter=1, batch_size=500, dtype="float32", random_state=0,
                               shuffle=False)
    got = model.fit(x, y, sample_weight=np.full(500, 2.0))
    ref = nbbn.MLPClassifier(**{**model.get_params(), "dtype": "float64"}).fit(x, y)
    deviation = np.sqrt(ref.running_vars_[0])
    np.testing.assert_allclose(np.sqrt(got.running_vars_[0]), deviation, rtol=1e-5)
    assert (np.abs(got.running_means_[0] - ref.running_means_[0]) <= 1e-6 * deviation).all()


def test_a_constant_column_stays_exact():
    x = np.full((999, 3), 12345.678, np.float32)
    out, cache = batch_norm_train(x)
    assert not out.any() and not np.asarray(cache.var).any()
