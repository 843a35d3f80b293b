"""Initializers and regularizers: values, distributions, names."""

import json
import pickle
from math import sqrt

import numpy as np
import pytest

from nbbn import initializers, regularizers
from nbbn.initializers import (
    Constant,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)
from nbbn.regularizers import L1, L1L2, L2

EVERY = [
    Zeros(), Ones(), Constant(0.3), RandomNormal(0.1, 0.2), RandomUniform(-1, 3), TruncatedNormal(),
    VarianceScaling(2.0, "fan_out", "uniform"), GlorotUniform(), GlorotNormal(), HeUniform(),
    HeNormal(), LecunUniform(), LecunNormal(), Orthogonal(),
]
RANDOM = EVERY[3:]


@pytest.mark.parametrize("initializer", EVERY, ids=repr)
def test_arrays(initializer):
    got = initializer((3, 2, 4, 5), np.random.default_rng(0), np.float32)
    assert got.shape == (3, 2, 4, 5) and got.dtype == np.float32
    assert got.flags.c_contiguous and got.flags.writeable
    ref = initializer((3, 2, 4, 5), np.random.default_rng(0), np.float64)
    assert ref.dtype == np.float64
    np.testing.assert_array_equal(got, ref.astype(np.float32))


def test_constants():
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    for initializer, value in [(Zeros(), 0), (Ones(), 1), (Constant(), 0), (Constant(0.25), 0.25)]:
        np.testing.assert_array_equal(initializer((2, 3), rng, np.float64), np.full((2, 3), value))
    assert rng.bit_generator.state == before


# Of a (3, 5, 8, 64) kernel: fan_in = 15 * 8 = 120, fan_out = 15 * 64 = 960.
KERNEL = (3, 5, 8, 64)
UNIFORM = [
    (RandomUniform(), KERNEL, -0.05, 0.05),
    (RandomUniform(-1, 3), KERNEL, -1, 3),
    (GlorotUniform(), KERNEL, -sqrt(6 / 1080), sqrt(6 / 1080)),
    (HeUniform(), KERNEL, -sqrt(6 / 120), sqrt(6 / 120)),
    (LecunUniform(), KERNEL, -sqrt(3 / 120), sqrt(3 / 120)),
    (VarianceScaling(2.0, "fan_out", "uniform"), KERNEL, -sqrt(6 / 960), sqrt(6 / 960)),
    (GlorotUniform(), (100, 200), -sqrt(6 / 300), sqrt(6 / 300)),
    (HeUniform(), (20000,), -sqrt(6 / 20000), sqrt(6 / 20000)),
]


@pytest.mark.parametrize(("initializer", "shape", "low", "high"), UNIFORM, ids=repr)
def test_uniform(initializer, shape, low, high):
    got = initializer(shape, np.random.default_rng(1), np.float64)
    assert got.min() >= low and got.max() < high
    width = high - low
    assert got.min() < low + 0.01 * width and got.max() > high - 0.01 * width
    assert abs(got.mean() - (low + high) / 2) < 0.02 * width
    assert got.std() == pytest.approx(width / sqrt(12), rel=0.02)


NORMAL = [
    (RandomNormal(), KERNEL, 0.05, None),
    (RandomNormal(0.0, 2.0), KERNEL, 2.0, None),
    (TruncatedNormal(), KERNEL, 0.05 * 0.87962566103423978, 0.1),
    (GlorotNormal(), KERNEL, sqrt(2 / 1080), 2 * sqrt(2 / 1080) / 0.87962566103423978),
    (HeNormal(), KERNEL, sqrt(2 / 120), 2 * sqrt(2 / 120) / 0.87962566103423978),
    (LecunNormal(), KERNEL, sqrt(1 / 120), 2 * sqrt(1 / 120) / 0.87962566103423978),
    (VarianceScaling(), KERNEL, sqrt(1 / 120), 2 * sqrt(1 / 120) / 0.87962566103423978),
    (VarianceScaling(3.0, "fan_avg", "untruncated_normal"), KERNEL, sqrt(3 / 540), None),
    (HeNormal(), (50, 400), sqrt(2 / 50), 2 * sqrt(2 / 50) / 0.87962566103423978),
]


@pytest.mark.parametrize(("initializer", "shape", "stddev", "bound"), NORMAL, ids=repr)
def test_normal(initializer, shape, stddev, bound):
    got = initializer(shape, np.random.default_rng(2), np.float64)
    assert abs(got.mean()) < 0.04 * stddev
    assert got.std() == pytest.approx(stddev, rel=0.02)
    if bound is None:
        assert abs(got).max() > 3 * stddev
    else:
        assert 0.98 * bound < abs(got).max() <= bound


def test_means():
    for initializer in (RandomNormal(3.0, 0.1), TruncatedNormal(3.0, 0.1)):
        assert initializer((5000,), np.random.default_rng(0), np.float64).mean() == pytest.approx(
            3.0, abs=0.01
        )


@pytest.mark.parametrize("shape", [(6, 4), (4, 6), (5, 5), (3, 2, 2, 7), (2, 1, 2, 9)])
def test_orthogonal(shape):
    matrix = Orthogonal(2.0)(shape, np.random.default_rng(0), np.float64).reshape(-1, shape[-1])
    rows, columns = matrix.shape
    gram = matrix.T @ matrix if rows >= columns else matrix @ matrix.T
    np.testing.assert_allclose(gram, 4.0 * np.eye(min(rows, columns)), atol=1e-12)


def test_orthogonal_is_uniform():
    # Without the signs of R's diagonal, LAPACK's Q has a first entry that is negative every time.
    rng = np.random.default_rng(0)
    first = [Orthogonal()((3, 3), rng, np.float64)[0, 0] for _ in range(200)]
    assert abs(np.mean(first)) < 0.15


def test_orthogonal_needs_a_matrix():
    with pytest.raises(
        ValueError, match=r"Orthogonal: needs an array of at least two axes, got shape \(3,\)"
    ):
        Orthogonal()((3,), np.random.default_rng(0))


@pytest.mark.parametrize("initializer", RANDOM, ids=repr)
def test_random_numbers_come_from_the_generator(initializer):
    rng, same = np.random.default_rng(5), np.random.default_rng(5)
    first, second = (initializer((4, 6), rng, np.float64) for _ in range(2))
    assert (first != second).any()
    np.testing.assert_array_equal(initializer((4, 6), same, np.float64), first)


@pytest.mark.parametrize("cls", [type(i) for i in RANDOM], ids=lambda cls: cls.__name__)
def test_an_own_seed_leaves_the_generator_alone(cls):
    rng = np.random.default_rng(5)
    before = rng.bit_generator.state
    first, second = (cls(seed=np.int64(3))((4, 6), rng, np.float64) for _ in range(2))
    np.testing.assert_array_equal(first, second)
    assert rng.bit_generator.state == before
    assert (cls(seed=4)((4, 6), rng, np.float64) != first).any()


def test_without_a_generator():
    assert GlorotUniform()((2, 3)).dtype == np.float32
    assert (GlorotUniform()((20, 3)) != GlorotUniform()((20, 3))).any()


NAMES = {
    "zeros": Zeros, "ones": Ones, "constant": Constant, "random_normal": RandomNormal,
    "random_uniform": RandomUniform, "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling, "glorot_uniform": GlorotUniform,
    "glorot_normal": GlorotNormal, "he_uniform": HeUniform, "he_normal": HeNormal,
    "lecun_uniform": LecunUniform, "lecun_normal": LecunNormal, "orthogonal": Orthogonal,
}


@pytest.mark.parametrize("name", NAMES)
def test_get_by_name(name):
    cls = NAMES[name]
    assert (
        initializers.get(name) == initializers.get(cls.__name__) == initializers.get(cls) == cls()
    )
    assert getattr(initializers, name) is cls
    assert initializers.get(cls()) == cls()


def test_get():
    assert initializers.get(None) is None
    assert initializers.get("uniform") == RandomUniform()
    assert initializers.get("normal") == RandomNormal()
    given = HeNormal(seed=1)
    assert initializers.get(given) is given


@pytest.mark.parametrize(
    "initializer", [*EVERY, HeNormal(seed=7), Orthogonal(0.5, seed=1)], ids=repr
)
def test_config(initializer):
    assert initializers.get(json.loads(json.dumps(initializer.config()))) == initializer
    assert pickle.loads(pickle.dumps(initializer)) == initializer
    assert hash(initializer) == hash(initializers.get(initializer.config()))


def test_keras_distribution_synonym():
    assert VarianceScaling(distribution="normal") == VarianceScaling()


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda: initializers.get("he_norm"),
            ValueError,
            "unknown initializer 'he_norm'; did you mean 'he_normal'",
        ),
        (lambda: initializers.get("Glorot Uniform"), ValueError, "did you mean 'glorot_uniform'"),
        (
            lambda: initializers.get("kaiming"),
            ValueError,
            "unknown initializer 'kaiming'; choose one of zeros, ones, ",
        ),
        (lambda: initializers.get(3), TypeError, "an initializer is a name, .* got int"),
        (lambda: initializers.get(int), TypeError, "an initializer is a name, .* got type"),
        (lambda: initializers.get({"class_name": 3}), ValueError, "must be a dict of class_name"),
        (
            lambda: initializers.get({"class_name": "Zeros", "config": 3}),
            ValueError,
            "must be a dict of class_name",
        ),
        (
            lambda: initializers.get({"class_name": "Zeros", "config": {"x": 3}}),
            ValueError,
            "Zeros does not take x",
        ),
        (lambda: Constant("a"), ValueError, "Constant: value must be a finite number, got 'a'"),
        (
            lambda: Constant(float("nan")),
            ValueError,
            "Constant: value must be a finite number, got nan",
        ),
        (
            lambda: RandomNormal(stddev=-1),
            ValueError,
            "RandomNormal: stddev must be at least 0, got -1",
        ),
        (
            lambda: TruncatedNormal(stddev=-1),
            ValueError,
            "TruncatedNormal: stddev must be at least 0, got -1",
        ),
        (
            lambda: RandomUniform(1, 0),
            ValueError,
            "RandomUniform: minval must not lie above maxval, got 1.0 and 0.0",
        ),
        (lambda: VarianceScaling(0), ValueError, "VarianceScaling: scale must be above 0, got 0"),
        (
            lambda: VarianceScaling(mode="fan"),
            ValueError,
            "mode must be one of fan_in, fan_out, fan_avg, got 'fan'",
        ),
        (
            lambda: VarianceScaling(distribution="beta"),
            ValueError,
            "distribution must be one of uniform, .* got 'beta'",
        ),
        (
            lambda: HeNormal(seed=-1),
            ValueError,
            "HeNormal: seed must be None or a whole number of at least 0, got -1",
        ),
        (lambda: HeNormal(1.5), ValueError, "HeNormal: seed must be .* got 1.5"),
        (
            lambda: regularizers.get("l22"),
            ValueError,
            "unknown regularizer 'l22'; did you mean 'l2'",
        ),
        (
            lambda: regularizers.get("ridge"),
            ValueError,
            "unknown regularizer 'ridge'; choose one of l1, l2, l1_l2",
        ),
        (lambda: regularizers.get(0.1), TypeError, "a regularizer is a name, .* got float"),
        (lambda: regularizers.get({"config": {}}), ValueError, "must be a dict of class_name"),
        (
            lambda: regularizers.get({"class_name": "L2", "config": {"l1": 1}}),
            ValueError,
            "L2 does not take l1",
        ),
        (lambda: L2(-0.1), ValueError, "L2: l2 must be a finite number of at least 0, got -0.1"),
        (
            lambda: L1(float("inf")),
            ValueError,
            "L1: l1 must be a finite number of at least 0, got inf",
        ),
    ],
)
def test_refuses(make, error, message):
    with pytest.raises(error, match=message):
        make()


# Regularizers


def test_regularizer_factors():
    assert (L1().l1, L1().l2) == (0.01, 0.0)
    assert (L2().l1, L2().l2) == (0.0, 0.01)
    assert (L1L2().l1, L1L2().l2) == (0.0, 0.0)
    assert (L1L2(0.1, 0.2).l1, L1L2(0.1, 0.2).l2) == (0.1, 0.2)


def test_penalties():
    weights = np.array([[1.0, -2.0], [0.5, 0.0]], np.float32)
    assert L1(0.1)(weights) == pytest.approx(0.35)
    assert L2(0.1)(weights) == pytest.approx(0.525)
    assert L1L2(0.1, 0.2)(weights) == pytest.approx(0.35 + 1.05)


def test_regularizers_by_name():
    assert (
        regularizers.get("l1")
        == regularizers.get("L1")
        == regularizers.get(L1)
        == regularizers.l1()
        == L1(0.01)
    )
    assert regularizers.get("l2") == regularizers.l2(0.01) == L2()
    assert regularizers.get("l1_l2") == regularizers.get("L1L2") == regularizers.l1_l2() == L1L2()
    assert regularizers.get(None) is None
    for regularizer in (L1(0.5), L2(0.25), L1L2(0.1, 0.2)):
        assert regularizers.get(json.loads(json.dumps(regularizer.config()))) == regularizer
        assert pickle.loads(pickle.dumps(regularizer)) == regularizer and hash(regularizer)
