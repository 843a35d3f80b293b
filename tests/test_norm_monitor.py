"""`nbbn.callbacks.NormMonitor`: what it finds, on values; when it warns."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn.callbacks import NormMonitor, NormWarning
from nbbn.norm_monitor import lag, look


def model_of(*stack, rate=0.1, momentum=0.0):
    nbbn.utils.set_random_seed(0)
    model = nbbn.Sequential(stack)
    model.compile(nbbn.optimizers.SGD(rate, momentum), "sparse_categorical_crossentropy")
    return model


def rows(rng, n=300):
    x = rng.normal(2, 3, (n, 5)).astype(np.float32)
    return x, (x.sum(1) > 10).astype(int)


def silent(model, x, y, monitor, **options):
    """A fit and the warnings of it."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NormWarning)
        model.fit(x, y, verbose=0, callbacks=[monitor], **options)
    return [str(w.message) for w in caught]


def test_the_distance_of_statistics():
    mean, var = np.array([1.0, 0.0]), np.array([0.99, 3.99])
    batch_mean, batch_var = np.array([0.0, 0.0]), np.array([0.99, 0.99])
    # Channel 0: mean off by 1 deviation; channel 1: deviation 2 instead of 1.
    assert lag(mean, var, batch_mean, batch_var, 0.01) == pytest.approx(1.0)
    assert lag(mean, var, mean, var, 0.01) == 0


def test_a_look_is_a_step_of_training(rng):
    x, y = rows(rng, 64)
    model = model_of(L.Dense(6, name="d"), L.BatchNormalization(name="one"),
                     L.Activation("relu", name="r"), L.Dense(4), L.BatchNormalization(name="two"),
                     L.Activation("softmax"))
    model.build((None, 5))
    weights = model.get_weights()
    seen = look(model.network(), x)
    kernel, bias, gamma, beta, mean, var = (w.astype(float) for w in weights[:6])
    z = x @ kernel + bias
    batch_mean, batch_var = z.mean(0), z.var(0)
    np.testing.assert_allclose(seen.spread["one"], np.sqrt(batch_var), rtol=1e-4)
    ref = np.sqrt(np.mean((mean - batch_mean) ** 2 / (batch_var + 1e-3)
                          + (np.sqrt((var + 1e-3) / (batch_var + 1e-3)) - 1) ** 2))
    assert seen.lag["one"] == pytest.approx(ref, rel=1e-4)
    h = np.maximum(gamma * (z - batch_mean) / np.sqrt(batch_var + 1e-3) + beta, 0)
    above = h @ weights[6] + weights[7]
    np.testing.assert_allclose(seen.spread["two"], above.std(0), rtol=1e-3)
    assert seen.dead["r"].tolist() == np.flatnonzero(h.max(0) <= 0).tolist()
    for a, b in zip(weights, model.get_weights()):
        np.testing.assert_array_equal(a, b)


def test_epochs_and_updates(rng):
    x, y = rows(rng)
    model = model_of(L.Dense(6, name="d"), L.BatchNormalization(name="n", momentum=0.5),
                     L.Activation("relu", name="r"), L.Dense(2, activation="softmax", name="s"))
    model.build((None, 5))
    before = [w.astype(float) for w in model.get_weights()]
    monitor = NormMonitor(x[:200])
    assert silent(model, x, y, monitor, epochs=1) == []
    after = model.get_weights()
    joined = [np.concatenate([w[i].ravel() for i in (2, 3)]) for w in (before, after)]
    ref = np.linalg.norm(joined[1] - joined[0]) / np.linalg.norm(joined[0])
    assert monitor.update["n"] == [pytest.approx(ref)]
    assert set(monitor.update) == {"d", "n", "s"}
    silent(model, x, y, monitor, epochs=3)
    assert monitor.epoch == [0, 1, 2]
    assert {len(values) for kind in (monitor.lag, monitor.dead, monitor.exploding, monitor.update)
            for values in kind.values()} == {3}
    assert set(monitor.lag) == {"n"} and set(monitor.dead) == {"n", "r"}


def test_it_changes_no_bit(rng):
    x, y = rows(rng)
    ends = []
    for callbacks in ([], [NormMonitor(x[:50])]):
        nbbn.utils.set_random_seed(3)
        model = model_of(L.Dense(6), L.BatchNormalization(momentum=0.5), L.Dropout(0.2),
                         L.Dense(2, activation="softmax"))
        model.fit(x, y, epochs=3, verbose=0, callbacks=callbacks)
        ends.append(model.get_weights())
    for a, b in zip(*ends):
        np.testing.assert_array_equal(a, b)


def test_running_statistics_lag(rng):
    x, y = rows(rng)
    model = model_of(L.BatchNormalization(name="n"), L.Dense(2, activation="softmax"))
    monitor = NormMonitor(x)
    (message,) = silent(model, x, y, monitor, epochs=1)
    assert "running statistics lag" in message and "n (" in message
    assert "recalibrate" in message and "momentum" in message
    model.recalibrate(x)
    assert look(model.network(), x).lag["n"] < 1e-4
    with pytest.raises(NormWarning), warnings.catch_warnings():
        warnings.simplefilter("error", NormWarning)
        model_of(L.BatchNormalization(), L.Dense(2, activation="softmax")).fit(
            x, y, verbose=0, callbacks=[NormMonitor(x)])


def test_frozen_norms_do_not_lag(rng):
    x, y = rows(rng)
    model = model_of(L.BatchNormalization(name="n", trainable=False),
                     L.Dense(2, activation="softmax"), rate=0.01)
    monitor = NormMonitor(x)
    assert silent(model, x, y, monitor, epochs=1) == []
    assert monitor.lag == {} and monitor.exploding == {"n": [0]}


def test_dead_channels(rng):
    x, y = rows(rng)
    model = model_of(L.Dense(4, activation="relu", name="d", kernel_initializer="zeros",
                             bias_initializer=nbbn.initializers.Constant(-1.0)),
                     L.Dense(2, activation="softmax"))
    monitor = NormMonitor(x)
    (message,) = silent(model, x, y, monitor, epochs=1)
    assert "dead" in message and "d (4 of 4)" in message
    assert monitor.dead["d"] == [4] and monitor.dead_channels["d"] == [0, 1, 2, 3]


def test_gamma_that_is_nothing(rng):
    x, y = rows(rng)
    model = model_of(L.BatchNormalization(name="n", gamma_initializer="zeros", trainable=True),
                     L.Dense(2, activation="softmax", kernel_initializer="zeros"), rate=1e-9)
    monitor = NormMonitor(x, max_lag=100)
    assert silent(model, x, y, monitor, epochs=1)[0].count("n (5 of 5)") == 1


@pytest.mark.filterwarnings("ignore:training diverged")  # as it is made to
def test_exploding_channels(rng):
    x, y = rows(rng)
    model = model_of(L.Dense(4, name="d", kernel_initializer=nbbn.initializers.RandomNormal(
        stddev=1e-3)), L.BatchNormalization(name="n"), L.Dense(2, activation="softmax"), rate=0.1)
    monitor = NormMonitor(x, max_lag=1e9, max_growth=2.0)
    (message,) = silent(model, x, y, monitor, epochs=2)
    assert "grown more than 2 times" in message
    assert monitor.exploding["n"][-1] == len(monitor.exploding_channels["n"]) > 0


def test_images_and_estimators(rng):
    x = rng.normal(size=(60, 6, 6, 2)).astype(np.float32)
    y = rng.integers(0, 2, 60)
    monitor = NormMonitor(x)
    stack = [L.Conv2D(3, (3, 3)), L.BatchNormalization(name="n", momentum=0.5), L.ReLU(name="r"),
             L.GlobalAveragePooling2D(), L.Dense(2, activation="softmax")]
    model = model_of(*stack)
    silent(model, x, y, monitor, epochs=2)
    assert monitor._sizes["n"] == 3 and set(monitor.dead) == {"n", "r"}
    flat, labels = rows(rng)
    monitor = NormMonitor(flat)
    estimator = nbbn.SequentialClassifier(
        [L.BatchNormalization(name="n", momentum=0.5), L.Dense(2, activation="softmax")],
        epochs=2, callbacks=[monitor], random_state=0)
    estimator.fit(flat, labels)
    assert len(monitor.lag["n"]) == 2


def test_the_picture(rng):
    pytest.importorskip("matplotlib")
    from matplotlib.figure import Figure

    x, y = rows(rng)
    monitor = NormMonitor(x)
    with pytest.raises(RuntimeError, match="call fit with it first"):
        monitor.plot()
    model = model_of(L.BatchNormalization(name="n", momentum=0.5), L.Dense(2, activation="softmax"))
    silent(model, x, y, monitor, epochs=2)
    assert [ax.get_title() for ax in monitor.plot().axes][2:] == ["Dead channels",
                                                                  "Exploding channels"]
    own = Figure()
    assert monitor.plot(own) is own and own.axes[0].lines[0].get_ydata() == pytest.approx(
        monitor.lag["n"])


@pytest.mark.parametrize("argument", ["max_lag", "max_dead", "max_growth"])
@pytest.mark.parametrize("value", [0, -1.0, "1", True, float("nan")])
def test_limits_that_are_none(argument, value):
    with pytest.raises(ValueError, match=f"NormMonitor: {argument} must be a number above 0"):
        NormMonitor(np.zeros((2, 2)), **{argument: value})


def test_rows_that_do_not_fit(rng):
    x, y = rows(rng)
    model = model_of(L.BatchNormalization(), L.Dense(2, activation="softmax"))
    with pytest.raises(ValueError, match="NormMonitor's x has rows of shape"):
        model.fit(x, y, verbose=0, callbacks=[NormMonitor(x[:, :3])])
    with pytest.raises(ValueError, match="x must have 2 rows or more"):
        model.fit(x, y, verbose=0, callbacks=[NormMonitor(x[:1])])
