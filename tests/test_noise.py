"""Gaussian noise in training: every number of it, brought out through the program of a step.

Behind the noise stands a dense layer of zeros with one output a row, whose target is 1 for the
output of its own number: the gradient of its kernel, in the step of a rate of 1, is the noisy rows
themselves, each times a power of two.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

import nbbn
from nbbn.layers import Dense, Dropout, Flatten, GaussianNoise, Reshape
from nbbn.network import computation
from nbbn.optimizers import SGD
from nbbn.trainer import Trainer

ROWS, SIZE, STDDEV = 64, 360, 0.25


def trainer_of(layers, features, dtype, seed=1, loss="mean_squared_error", rows=ROWS):
    dtype = np.dtype(dtype)
    return Trainer(computation(layers, (features,)), dtype, dtype, rows, loss, SGD(1.0), seed=seed)


def noisy(
    x, steps=1, *, shape=(SIZE,), stddev=STDDEV, seed=1, own_seed=None, threads=1, dtype="f8"
):
    """The rows as they leave the noise, of each step: `(steps, ROWS, SIZE)`."""
    layers = [
        Reshape(shape), GaussianNoise(stddev, seed=own_seed), Flatten(),
        Dense(ROWS, use_bias=False),
    ]
    zeros = [{}, {}, {}, {"kernel": np.zeros((SIZE, ROWS), dtype)}]
    seen = []
    with nbbn.num_threads(threads):
        trainer = trainer_of(layers, SIZE, dtype, seed)
        for _ in range(steps):
            trainer.upload(zeros)
            trainer.epoch(
                x.astype(dtype), np.eye(ROWS, dtype=dtype), np.arange(ROWS), np.array([0, ROWS]),
                np.ones(1),
            )
            seen.append(trainer.download()[3]["kernel"].T * (ROWS * ROWS / 2))
    return np.array(seen)


@pytest.fixture(scope="module")
def noise():
    """Eight steps of noise of deviation 1 on zeros: 184,320 numbers."""
    return noisy(np.zeros((ROWS, SIZE)), 8, stddev=1.0)


def test_moments(noise):
    """Within five deviations of each estimate."""
    count = noise.size
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((noise**power).mean() - moment) < 5 * math.sqrt(variance / count), power


def test_distribution(noise):
    """The largest distance between the distribution functions.

    The tails reach as far as those of so many normal numbers.
    """
    assert stats.kstest(noise.ravel(), "norm").pvalue > 1e-3
    assert 3.8 < noise.max() < 6 and 3.8 < -noise.min() < 6


def pairs(noise):
    yield "neighbours", noise[..., :-1], noise[..., 1:]
    yield "one between", noise[..., :-2], noise[..., 2:]
    yield "rows", noise[:, :-1], noise[:, 1:]
    yield "end of a row and the next", noise[:, :-1, -1], noise[:, 1:, 0]
    yield "steps", noise[:-1], noise[1:]
    yield "two steps", noise[:-2], noise[2:]
    yield "row and step", noise[1:, :-1], noise[:-1, 1:]


def test_no_correlation(noise):
    """Of the numbers, of their squares, and of one with the other's square."""
    for name, a, b in pairs(noise):
        a, b = a.ravel(), b.ravel()
        for x, y in [(a, b), (a**2 - 1, b**2 - 1), (a, b**2 - 1), (a**2 - 1, b)]:
            assert abs(np.corrcoef(x, y)[0, 1]) < 5 / math.sqrt(a.size), name


def test_no_number_twice(noise):
    assert len(np.unique(noise)) == noise.size


def test_seeds():
    x = np.zeros((ROWS, SIZE))
    one, other = noisy(x, seed=1)[0], noisy(x, seed=2)[0]
    assert (one != other).all()
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 5 / math.sqrt(one.size)
    np.testing.assert_array_equal(one, noisy(x, seed=1)[0])
    np.testing.assert_array_equal(noisy(x, seed=1, own_seed=3), noisy(x, seed=2, own_seed=3))


def mixed(seed, counter):
    """SplitMix64's output number `counter` from a seed."""
    mask = (1 << 64) - 1
    z = (seed + (counter + 1) * 0x9E3779B97F4A7C15) & mask
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & mask
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & mask
    return z ^ (z >> 31)


def test_is_box_and_mullers_of_two_numbers_each():
    """Numbers 2i and 2i + 1 of the step's own generator make the i-th of a batch."""
    key = mixed(7, 1)
    u = np.array([mixed(key, i) >> 11 for i in range(2 * ROWS * SIZE)]).reshape(-1, 2) / 2**53
    ref = np.sqrt(-2 * np.log(1 - u[:, 0])) * np.cos(2 * np.pi * u[:, 1])
    got = noisy(np.zeros((ROWS, SIZE)), 2, stddev=1.0, own_seed=7)[1]
    np.testing.assert_allclose(got.ravel(), ref, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("shape", [(SIZE,), (4, 6, 15), (8, 5, 9), (60, 6)])
def test_the_same_bits_at_any_number_of_threads_and_in_any_shape(shape, dtype):
    x = np.random.default_rng(0).standard_normal((ROWS, SIZE)).astype(dtype)
    one = noisy(x, 3, shape=shape, dtype=dtype)
    for threads in (2, 5):
        np.testing.assert_array_equal(one, noisy(x, 3, shape=shape, dtype=dtype, threads=threads))
    np.testing.assert_array_equal(one, noisy(x, 3, dtype=dtype))
    # Around what came in, by the noise alone.
    pure = noisy(np.zeros((ROWS, SIZE)), 3)
    np.testing.assert_allclose(one - x, pure, rtol=0, atol=4 * np.finfo(dtype).eps * 4)


def test_a_deviation_of_0_changes_nothing():
    x = np.random.default_rng(0).standard_normal((ROWS, SIZE))
    np.testing.assert_array_equal(noisy(x, stddev=0.0)[0], x)


@pytest.mark.parametrize(("seed", "deviation"), [(None, 0.5 * math.sqrt(2)), (3, 1.0)])
def test_two_layers_of_noise_differ_unless_they_have_one_seed(seed, deviation):
    """Their sum is wider by the root of two, that of equal noise by two."""
    layers = [
        GaussianNoise(0.5, seed=seed), GaussianNoise(0.5, seed=seed), Dense(ROWS, use_bias=False),
    ]
    trainer = trainer_of(layers, SIZE, "f8")
    trainer.upload([{}, {}, {"kernel": np.zeros((SIZE, ROWS))}])
    trainer.epoch(
        np.zeros((ROWS, SIZE)), np.eye(ROWS), np.arange(ROWS), np.array([0, ROWS]), np.ones(1)
    )
    got = trainer.download()[2]["kernel"].T * (ROWS * ROWS / 2)
    assert got.std() == pytest.approx(deviation, rel=5 / math.sqrt(2 * got.size))


def test_the_gradient_passes_unchanged():
    """With slopes of the loss that are the same wherever the outputs are.

    Behind the noise and without it.
    """
    rng = np.random.default_rng(0)
    x, second = rng.standard_normal((ROWS, 12)), rng.standard_normal((9, 4))
    steps = []
    for between in ([GaussianNoise(0.5)], []):
        layers = [Dense(9, use_bias=False), *between, Dense(4, use_bias=False)]
        trainer = trainer_of(layers, 12, "f8", loss="mean_absolute_error")
        trainer.upload([{"kernel": np.zeros((12, 9))}, *({} for _ in between), {"kernel": second}])
        trainer.epoch(x, np.full((ROWS, 4), 1e6), np.arange(ROWS), np.array([0, ROWS]), np.ones(1))
        steps.append(trainer.download()[0]["kernel"])
    np.testing.assert_array_equal(*steps)
    np.testing.assert_allclose(
        steps[0], np.outer(x.mean(0), second.sum(1) / 4), rtol=1e-12, atol=1e-14
    )


def test_inference_has_no_noise():
    trainer = trainer_of([GaussianNoise(0.5), Dropout(0.5), Dense(3, use_bias=False)], 3, "f8")
    trainer.upload([{}, {}, {"kernel": np.eye(3)}])
    x = np.arange(12.0).reshape(4, 3)
    np.testing.assert_array_equal(trainer.outputs(x), x)
