"""Optimisers and learning-rate schedules.

Their arguments, their rates, and what a step with them does.
"""

from __future__ import annotations

import json
import math
import pickle
from dataclasses import dataclass

import numpy as np
import pytest

import nbbn
from nbbn import Sequential, optimizers, schedules
from nbbn.kernels.simd import load, splat, store
from nbbn.kernels.update import optimizer
from nbbn.layers import Dense
from nbbn.optimizers import SGD, Adam, AdamW, Optimizer, RMSprop

ALL = (SGD, RMSprop, Adam, AdamW)
STEPS = np.arange(50)


# -- arguments


def test_defaults_are_those_of_keras():
    assert (SGD().learning_rate, SGD().momentum, SGD().nesterov) == (0.01, 0.0, False)
    assert (RMSprop().learning_rate, RMSprop().rho, RMSprop().epsilon) == (0.001, 0.9, 1e-7)
    assert (Adam().learning_rate, Adam().beta_1, Adam().beta_2, Adam().epsilon) == (
        0.001, 0.9, 0.999, 1e-7,
    )
    assert AdamW().weight_decay == 0.004 and Adam().weight_decay is None


def test_order_of_the_arguments_is_that_of_keras():
    assert SGD(0.1, 0.9, True) == SGD(learning_rate=0.1, momentum=0.9, nesterov=True)
    assert RMSprop(0.1, 0.8, 0.0, 1e-3) == RMSprop(learning_rate=0.1, rho=0.8, epsilon=1e-3)
    assert Adam(0.1, 0.8, 0.9, 1e-3) == Adam(
        learning_rate=0.1, beta_1=0.8, beta_2=0.9, epsilon=1e-3
    )
    assert AdamW(0.1, 0.2, 0.8) == AdamW(learning_rate=0.1, weight_decay=0.2, beta_1=0.8)
    assert isinstance(AdamW(), Adam) and AdamW() != Adam(weight_decay=0.004)


def test_repr_shows_what_was_given():
    assert repr(SGD(0.5, clipnorm=1)) == "SGD(clipnorm=1.0, learning_rate=0.5)"


@pytest.mark.parametrize(
    "name, cls", [("sgd", SGD), ("RMSprop", RMSprop), ("adam", Adam), ("AdamW", AdamW)]
)
def test_get(name, cls):
    assert optimizers.get(name) == cls()
    with pytest.raises(
        TypeError, match=rf"optimizer is the class {cls.__name__}; make an object of it"
    ):
        optimizers.get(cls)


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize(
    "rate", [0.5, schedules.CosineDecay(0.1, 10), schedules.PiecewiseConstantDecay([1], [1.0, 0.5])]
)
def test_config_is_json(cls, rate):
    optimizer = cls(rate, weight_decay=0.1, global_clipnorm=2, gradient_accumulation_steps=4)
    assert optimizers.get(json.loads(json.dumps(optimizer.config()))) == optimizer
    assert optimizers.get(AdamW(weight_decay=None).config()).weight_decay is None


@pytest.mark.parametrize(
    "make, error, match",
    [
        (
            lambda: SGD("fast"),
            TypeError,
            r"SGD: learning_rate must be a number, a schedule or a function of the step, got",
        ),
        (lambda: SGD(True), TypeError, r"learning_rate must be a number"),
        (
            lambda: SGD(-1),
            ValueError,
            r"learning_rate must be a finite number of at least 0, got -1",
        ),
        (lambda: SGD(math.nan), ValueError, r"learning_rate must be a finite number"),
        (
            lambda: SGD(momentum=1.5),
            ValueError,
            r"SGD: momentum must be a number in \[0, 1\], got 1\.5",
        ),
        (lambda: Adam(beta_1=1), ValueError, r"Adam: beta_1 and beta_2 must lie below 1"),
        (
            lambda: Adam(epsilon=-1),
            ValueError,
            r"Adam: epsilon must be a finite number of at least 0, got -1",
        ),
        (lambda: Adam(weight_decay="a"), ValueError, r"weight_decay must be a finite number"),
        (
            lambda: Adam(clipnorm=1, clipvalue=1),
            ValueError,
            r"only one of clipnorm, clipvalue and global_clipnorm",
        ),
        (lambda: Adam(clipnorm=0), ValueError, r"clipnorm must be above 0, got 0; leave it out"),
        (
            lambda: Adam(amsgrad="yes"),
            ValueError,
            r"Adam: amsgrad must be True or False, got 'yes'",
        ),
        (
            lambda: RMSprop(centered=1),
            ValueError,
            r"RMSprop: centered must be True or False, got 1",
        ),
        (
            lambda: RMSprop(momentum=1.5),
            ValueError,
            r"RMSprop: momentum must be a number in \[0, 1\], got 1\.5",
        ),
        (lambda: SGD(use_ema=True), ValueError, r"SGD: use_ema is not supported, got True"),
        (
            lambda: SGD(gradient_accumulation_steps=1),
            ValueError,
            r"gradient_accumulation_steps must be None or a whole number",
        ),
        (
            lambda: optimizers.get("xyz"),
            ValueError,
            r"unknown optimizer 'xyz'; choose one of sgd, rmsprop, adam, adamw",
        ),
        (
            lambda: optimizers.get(3),
            TypeError,
            r"optimizer must be a name or an object of nbbn.optimizers, got int",
        ),
        (
            lambda: SGD(lambda step: 1).config(),
            ValueError,
            r"a learning_rate that is a function cannot be written",
        ),
        (
            lambda: SGD(lambda step: -1.0).rates(np.arange(2)),
            ValueError,
            r"must give finite numbers of at least 0",
        ),
        (
            lambda: setattr(SGD(), "momentum", 0.5),
            AttributeError,
            r"SGD: only learning_rate can be set",
        ),
        (
            lambda: setattr(SGD(), "learning_rate", None),
            TypeError,
            r"learning_rate must be a number",
        ),
    ],
)
def test_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_learning_rate_can_be_set():
    optimizer = Adam()
    optimizer.learning_rate = 1
    assert optimizer.learning_rate == 1.0 and isinstance(optimizer.learning_rate, float)
    optimizer.learning_rate = schedules.OneCycle(0.1, 10)
    with pytest.raises(
        TypeError, match=r"its learning_rate is a schedule, which a number cannot replace"
    ):
        optimizer.learning_rate = 0.1


# -- rates


def test_rates():
    np.testing.assert_array_equal(SGD(0.5).rates(STEPS), np.full(50, 0.5))
    np.testing.assert_array_equal(SGD(lambda step: 1 / (1 + step)).rates(STEPS), 1 / (1 + STEPS))
    ref = [0.1 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) for t in range(1, 51)]
    np.testing.assert_allclose(Adam(0.1).rates(STEPS), ref, rtol=1e-12)
    np.testing.assert_array_equal(Adam(0.1).learning_rates(STEPS), np.full(50, 0.1))


def test_shrinks():
    schedule = schedules.CosineDecay(0.1, 20)
    np.testing.assert_array_equal(AdamW(schedule, 0.5).shrinks(STEPS), 0.5 * schedule(STEPS))
    assert SGD().shrinks(STEPS) is None and AdamW(weight_decay=0.0).shrinks(STEPS) is None


SCHEDULES = {
    "exponential": (schedules.ExponentialDecay(0.1, 10, 0.5), lambda s: 0.1 * 0.5 ** (s / 10)),
    "stairs": (
        schedules.ExponentialDecay(0.1, 10, 0.5, staircase=True),
        lambda s: 0.1 * 0.5 ** (s // 10),
    ),
    "inverse time": (schedules.InverseTimeDecay(0.1, 10, 0.5), lambda s: 0.1 / (1 + 0.5 * s / 10)),
    "inverse time, stairs": (
        schedules.InverseTimeDecay(0.1, 10, 0.5, True),
        lambda s: 0.1 / (1 + 0.5 * (s // 10)),
    ),
    "polynomial": (
        schedules.PolynomialDecay(0.1, 10, 0.02, 2.0),
        lambda s: 0.08 * (1 - min(s, 10) / 10) ** 2 + 0.02,
    ),
    "polynomial, cycle": (
        schedules.PolynomialDecay(0.1, 10, 0.02, cycle=True),
        lambda s: 0.08 * (1 - s / (10 * max(1, math.ceil(s / 10)))) + 0.02,
    ),
    "cosine": (
        schedules.CosineDecay(0.1, 20, alpha=0.1),
        lambda s: 0.1 * (0.9 * 0.5 * (1 + math.cos(math.pi * min(s, 20) / 20)) + 0.1),
    ),
    "cosine, warm": (
        schedules.CosineDecay(0.1, 20, warmup_target=0.5, warmup_steps=8),
        lambda s: (
            0.1 + 0.4 * s / 8 if s < 8 else 0.25 * (1 + math.cos(math.pi * min(s - 8, 20) / 20))
        ),
    ),
    "pieces": (
        schedules.PiecewiseConstantDecay([10, 20], [1.0, 0.5, 0.1]),
        lambda s: 1.0 if s <= 10 else 0.5 if s <= 20 else 0.1,
    ),
}


@pytest.mark.parametrize("schedule, ref", SCHEDULES.values(), ids=SCHEDULES)
def test_schedule(schedule, ref):
    got = schedule(STEPS)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, [ref(int(s)) for s in STEPS], rtol=1e-12)
    assert type(schedule(3)) is float and schedule(3) == got[3]
    assert schedules.from_config(json.loads(json.dumps(schedule.config()))) == schedule


def test_one_cycle():
    rates = schedules.OneCycle(1.0, 101, warmup_share=0.25)(np.arange(120))
    assert (
        rates[0] == pytest.approx(0.04) and rates[25] == pytest.approx(1.0) and rates.argmax() == 25
    )
    np.testing.assert_allclose(rates[100:], 4e-6)
    assert (np.diff(rates[:26]) > 0).all() and (np.diff(rates[25:101]) < 0).all()


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: schedules.CosineDecay(0.1, 0), r"CosineDecay: decay_steps must be above 0, got 0"),
        (
            lambda: schedules.ExponentialDecay("a", 1, 1),
            r"initial_learning_rate must be a finite number, got 'a'",
        ),
        (
            lambda: schedules.PiecewiseConstantDecay([1], [1.0]),
            r"needs one value more than boundaries, got 1 values for 1",
        ),
        (
            lambda: schedules.PiecewiseConstantDecay([2, 1], [1, 2, 3]),
            r"boundaries must ascend, got \(2\.0, 1\.0\)",
        ),
        (
            lambda: schedules.OneCycle(0.1, 10, warmup_share=1.0),
            r"warmup_share must lie between 0 and 1, got 1\.0",
        ),
        (
            lambda: schedules.from_config({"class_name": "Magic"}),
            r"unknown schedule 'Magic'; known schedules: Exponential",
        ),
    ],
)
def test_schedules_refuse(make, match):
    with pytest.raises(ValueError, match=match):
        make()


# -- steps


def steps_of(optimizer, x, t, steps, **fit):
    """The kernel of `y = x @ kernel` after some steps on the squared error, starting from 0."""
    model = Sequential(
        [Dense(t.shape[1], use_bias=False, kernel_initializer="zeros", dtype="float64")]
    )
    model.compile(optimizer, "mse")
    model.fit(x, t, batch_size=len(x), epochs=steps, verbose=0, **fit)
    return model.get_weights()[0]


@pytest.fixture
def line(rng):
    x = rng.normal(size=(40, 3))
    return x, x @ np.array([[1.0, -2], [0.5, 3], [0, 1]])


def gradient(kernel, x, t):
    return 2 * x.T @ (x @ kernel - t) / t.size


@pytest.mark.parametrize(
    "clip", [{}, {"clipvalue": 0.3}, {"clipnorm": 0.5}, {"global_clipnorm": 0.5}], ids=str
)
@pytest.mark.parametrize("decay", [None, 0.2])
def test_sgd_with_decay_and_clips(line, clip, decay):
    x, t = line
    got = steps_of(
        SGD(schedules.ExponentialDecay(0.2, 2, 0.5), momentum=0.5, weight_decay=decay, **clip), x,
        t, 4,
    )
    p, v = np.zeros((3, 2)), 0.0
    for step in range(4):
        rate, g = 0.2 * 0.5 ** (step / 2), gradient(p, x, t)
        if "clipvalue" in clip:
            g = np.clip(g, -0.3, 0.3)
        elif clip:
            g = g * min(1, 0.5 / np.sqrt((g * g).sum()))
        p = p - p * rate * (decay or 0)
        v = 0.5 * v - rate * g
        p = p + v
    np.testing.assert_allclose(got, p, rtol=1e-9)


def test_rmsprop_keeps_epsilon_inside_the_root(line):
    x, t = line
    p, v = np.zeros((3, 2)), 0.0
    for _ in range(3):
        g = gradient(p, x, t)
        v = 0.8 * v + 0.2 * g * g
        p = p - 0.1 * g / np.sqrt(v + 0.01)
    np.testing.assert_allclose(steps_of(RMSprop(0.1, rho=0.8, epsilon=0.01), x, t, 3), p, rtol=1e-9)


def test_adamw(line):
    x, t = line
    p, m, v = np.zeros((3, 2)), 0.0, 0.0
    for step in range(1, 5):
        g = gradient(p, x, t)
        m, v = 0.9 * m + 0.1 * g, 0.99 * v + 0.01 * g * g
        p = p - p * 0.1 * 0.3
        p = p - 0.1 * np.sqrt(1 - 0.99**step) / (1 - 0.9**step) * m / (np.sqrt(v) + 1e-7)
    np.testing.assert_allclose(
        steps_of(AdamW(0.1, weight_decay=0.3, beta_2=0.99), x, t, 4), p, rtol=1e-9
    )


def _many(p, g, param, slots, i, size, constants, rate):
    """Steps along the sum of all gradients so far, kept in the sixth slot.

    The ninth constant scales them.
    """
    total = load(slots, 5 * size + i) + g
    store(slots, 5 * size + i, total)
    store(param, i, p - splat(param, rate * constants[8]) * total)


@dataclass
class Many(Optimizer):
    learning_rate: float = 0.1

    slots, kernel = 6, "_many"

    def constants(self):
        return [0.0] * 8 + [0.5]


def test_an_optimizer_may_have_any_number_of_slots_and_constants(line):
    optimizer(_many)
    x, t = line
    p, total = np.zeros((3, 2)), 0.0
    for _ in range(4):
        total = total + gradient(p, x, t)
        p = p - 0.05 * total
    np.testing.assert_allclose(steps_of(Many(), x, t, 4), p, rtol=1e-9)


def test_a_function_of_the_step(line):
    x, t = line
    seen = []

    def rate(step):
        seen.append(step)
        return 0.1 / (step + 1)

    p = np.zeros((3, 2))
    for step in range(3):
        p = p - 0.1 / (step + 1) * gradient(p, x, t)
    np.testing.assert_allclose(steps_of(SGD(rate), x, t, 3), p, rtol=1e-9)
    assert seen == [0, 1, 2] and all(type(s) is int for s in seen)


def test_learning_rate_is_assigned_to():
    """As Keras's variable is."""
    model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,), kernel_initializer="ones")])
    model.compile(SGD(0.5), "mse")
    rate = model.optimizer.learning_rate
    assert rate == 0.5 and float(rate) == 0.5 and rate.numpy() == 0.5 and repr(rate) == "0.5"
    rate.assign(rate * 0.5)
    assert model.optimizer.learning_rate == 0.25 == model.optimizer.lr
    model.train_on_batch([[1.0]], [[0.0]])
    np.testing.assert_allclose(model.get_weights()[0], [[1 - 0.25 * 2]])
    assert pickle.loads(pickle.dumps(model.optimizer)).learning_rate == 0.25
    with pytest.raises(ValueError, match="finite number of at least 0"):
        rate.assign(-1)


def test_cosine_decay_with_restarts():
    """By the definition: each run is `t_mul` as long and `m_mul` as high as the one before."""
    schedule = schedules.CosineDecayRestarts(0.1, 4, t_mul=2.0, m_mul=0.5, alpha=0.1)
    ref = []
    for length, height in ((4, 1.0), (8, 0.5), (16, 0.25)):
        share = 0.5 * height * (1 + np.cos(np.pi * np.arange(length) / length))
        ref += [*(0.1 * (0.9 * share + 0.1))]
    np.testing.assert_allclose(schedule(np.arange(28)), ref, rtol=1e-6)
    even = schedules.CosineDecayRestarts(0.1, 4, t_mul=1.0)
    np.testing.assert_allclose(even([0, 2, 4, 6]), [0.1, 0.05, 0.1, 0.05])


def test_what_keras_has_besides():
    import nbbn.optimizers as there

    with pytest.raises(AttributeError, match=r"no attribute 'Lamb'; use AdamW"):
        there.Lamb  # noqa: B018
    with pytest.raises(ValueError, match=r"learning_rate_power must be -0\.5"):
        there.Ftrl(learning_rate_power=-0.3)
