"""`Sequential` on partitions: the numbers of the fit in memory, shuffles, figures, errors."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

import nbbn
from nbbn import Partitions
from nbbn.layers import Activation, BatchNormalization, Conv2D, Dense, Dropout, Flatten

ROWS = 150


def images(rows=ROWS):
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, rows)
    return (rng.integers(0, 90, (rows, 6, 6, 1)) + 40 * y[:, None, None, None]).astype("u1"), y


def model(*, metrics=("accuracy",), loss="sparse_categorical_crossentropy", **more):
    nbbn.set_random_seed(0)
    made = nbbn.Sequential([
        Conv2D(4, 3), BatchNormalization(), Activation("relu"), Flatten(), Dropout(0.1),
        Dense(3, activation="softmax"),
    ])
    made.compile("adam", loss, metrics=list(metrics), **more)
    return made


def cut(*given, sizes=(40, 31, 0, 49, 30), **options):
    ends = np.cumsum([0, *sizes])
    parts = [tuple(array[a:b] for array in given) for a, b in pairwise(ends)]
    return Partitions(parts, **{"window": 2, **options})


def fitted(made, *given, **options):
    return made, made.fit(*given, **{"epochs": 3, "batch_size": 16, "verbose": 0, **options})


def assert_same(got, ref):
    for a, b in zip(got[0].get_weights(), ref[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert got[1].history.keys() == ref[1].history.keys()
    for name, values in ref[1].history.items():
        np.testing.assert_allclose(got[1].history[name], values, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("shuffle", [True, False])
def test_one_window_is_the_fit_in_memory(shuffle):
    x, y = images()
    ref = fitted(model(), x, y, shuffle=shuffle, validation_split=0.1)
    assert_same(fitted(model(), cut(x, y, window=5), shuffle=shuffle, validation_split=0.1), ref)


@pytest.mark.parametrize("window", [1, 2, 4])
@pytest.mark.parametrize(
    "more", [{}, {"class_weight": {0: 2.0}}, {"batch_size": 64}, {"weights": True}], ids=str
)
def test_unshuffled_steps_are_those_in_memory(window, more):
    x, y = images()
    more = dict(more)
    weights = np.random.default_rng(1).uniform(size=ROWS) if more.pop("weights", False) else None
    ref = fitted(model(), x, y, shuffle=False, sample_weight=weights, **more)
    given = (x, y) if weights is None else (x, y, weights)
    assert_same(fitted(model(), cut(*given, window=window), shuffle=False, **more), ref)


def test_numbers_and_metrics_that_training_does_not_count():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(ROWS, 4)), rng.normal(size=ROWS)

    def made():
        nbbn.set_random_seed(0)
        found = nbbn.Sequential([Dense(5), BatchNormalization(), Dense(1)])
        found.compile("sgd", "mse", metrics=["mae"])
        return found

    ref = fitted(made(), x, y, shuffle=False, validation_data=(x, y))
    got = fitted(made(), cut(x, y), shuffle=False, validation_data=cut(x, y))
    assert_same(got, ref)
    assert "val_mae" in got[1].history
    assert got[0].evaluate(cut(x, y), verbose=0) == pytest.approx(ref[0].evaluate(x, y, verbose=0))
    np.testing.assert_allclose(got[0].predict(cut(x, y)), ref[0].predict(x), rtol=1e-5)
    assert got[0].predict(Partitions([x, x[:0]])).shape == (ROWS, 1)
    for each, rows in ((ref[0], x), (got[0], cut(x, y))):
        each.recalibrate(rows)
    for a, b in zip(got[0].get_weights(), ref[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_shuffles_follow_from_the_seed_and_go_on(tmp_path):
    x, y = images()
    ref = fitted(model(), cut(x, y), epochs=5)
    assert_same(fitted(model(), cut(x, y), epochs=5), ref)
    got = model()
    fitted(got, cut(x, y), epochs=2)
    got.save(tmp_path / "m.safetensors")
    got = nbbn.load(tmp_path / "m.safetensors")
    got.fit(cut(x, y), epochs=5, initial_epoch=2, batch_size=16, verbose=0)
    for a, b in zip(got.get_weights(), ref[0].get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    with nbbn.num_threads(1):
        assert_same(fitted(model(), cut(x, y), epochs=5), ref)
    other = fitted(model(), cut(x, y, window=3), epochs=5)
    assert not np.array_equal(other[0].get_weights()[0], ref[0].get_weights()[0])


def test_callbacks_by_batch_and_stops():
    x, y = images()
    seen = []

    class Stop(nbbn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(batch)
            self.model.stop_training = len(seen) == 13

    fitted(model(), cut(x, y), callbacks=[Stop()])
    assert seen == [*range(10), 0, 1, 2]


@pytest.mark.parametrize("window", [1, 9], ids=["streamed", "in memory"])
def test_errors(window):
    x, y = images()
    x = x.astype("f4")
    bad = np.where(np.arange(ROWS)[:, None, None, None] == 80, np.nan, x)
    made = model()
    with pytest.raises(ValueError, match="partition 4: x holds nan"):
        fitted(made, cut(bad, y, window=window))
    with pytest.raises(ValueError, match="partition 5: y holds the label 7"):
        fitted(made, cut(x, np.where(np.arange(ROWS) == 140, 7, y), window=window))
    with pytest.raises(ValueError, match="partition 1: y must be given"):
        fitted(made, cut(x, window=window))
    with pytest.raises(ValueError, match="y is given beside x"):
        fitted(made, cut(x, y, window=window), y)
    with pytest.raises(ValueError, match=r"b: X has rows of shape \(3, 6, 1\), but those of a"):
        fitted(made, Partitions([(x, y), (x[:, :3], y)], window=window, names=["a", "b"]))
    with pytest.raises(ValueError, match="no rows"):
        fitted(made, Partitions([(x[:0], y[:0])] * 2, window=window))
    weighted = Partitions([(x, y), (x, y, np.ones(ROWS))], window=window)
    with pytest.raises(ValueError, match="partition 2: has a sample_weight, unlike"):
        fitted(made, weighted)
    if window == 1:
        with pytest.raises(ValueError, match="validation_split is only supported for arrays"):
            fitted(made, cut(x, y), validation_split=0.1)
    fitted(made, cut(x, y, window=window))


def test_estimators_around_layers():
    x, y = images()
    made = nbbn.SequentialClassifier(list(model().layers[:-1]), epochs=2, random_state=0)
    with pytest.raises(TypeError, match="Partitions are not supported by SequentialClassifier"):
        made.fit(cut(x, y))
    made.fit(x, y)
    np.testing.assert_array_equal(made.predict(cut(x, y)), made.predict(x))
    assert made.score(cut(x, y)) == made.score(x, y)
