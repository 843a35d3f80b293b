"""Convolutions by tiles: the numbers of the definition, in both directions."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from test_architectures import Forced
from test_kernels import run

import nbbn
from nbbn import layers as L
from nbbn.kernels import window
from nbbn.program import winograd
from nbbn.program.inference import InferenceProgram
from nbbn.program.layout import lanes
from nbbn.program.runnable import TrainingRun
from nbbn.program.weight_layouts import ConvLayout, PointsLayout

# Height, width, channels, filters, padding, rows: tiles at every border, odd sizes, padded vectors.
SHAPES = [
    (8, 8, 32, 32, "same", 3), (7, 9, 40, 48, "same", 2), (9, 7, 33, 64, "valid", 3),
    (4, 4, 64, 128, "same", 5), (2, 2, 32, 32, "same", 1), (5, 2, 64, 40, "same", 2),
]  # fmt: skip


@pytest.fixture(autouse=True)
def single_is_wide():
    if not winograd.is_faster(words_of(8, 8, 64, 64), np.dtype("float32")):
        pytest.skip("no convolution goes by tiles here")


def words_of(height, width, pixel, out_pixel):
    words = np.ones(window.WINDOW_WORDS, np.int64)
    words[[window.HEIGHT, window.WIDTH, window.OUT_H, window.OUT_W]] = height, width, height, width
    words[[window.KERNEL_H, window.KERNEL_W]] = 3
    words[[window.PIXEL, window.OUT_PIXEL]] = pixel, out_pixel
    return words


def rows(shape, seed=0):
    height, width, channels, _, _, count = shape
    return np.random.default_rng(seed).normal(size=(count, height, width, channels))


def network(shape, dtype, *tail):
    """A pointwise convolution, whose result the one by tiles reads."""
    height, width, channels, filters, padding, _ = shape
    x = L.Input((height, width, channels), dtype=dtype)
    y = L.Conv2D(channels, 1, dtype=dtype)(x)
    y = L.Conv2D(filters, 3, padding=padding, bias_initializer="random_normal", dtype=dtype)(y)
    for layer in tail:
        y = layer(y)
    return nbbn.Model(x, y)


def pair(shape, tail=lambda dtype: ()):
    """The same network in both dtypes."""
    nbbn.utils.set_random_seed(1)
    double = network(shape, "float64", *tail("float64"))
    single = network(shape, "float32", *tail("float32"))
    single.set_weights([np.asarray(w, "float32") for w in double.get_weights()])
    double.set_weights([np.asarray(w, "float64") for w in single.get_weights()])
    return single, double


def kernels(model):
    computation = model.network().computation()
    return [call.kernel for call in InferenceProgram(computation, np.dtype("float32")).program
            .operations]


def assert_close(got, expected, tolerance=3e-6):
    assert got.shape == expected.shape
    scale = np.abs(expected).max()
    np.testing.assert_allclose(got, expected, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("shape", SHAPES)
def test_forward(shape):
    single, double = pair(shape)
    x = rows(shape).astype("float32")
    assert "winograd_forward" in kernels(single)
    expected = double.predict(x.astype("float64"), verbose=0)
    assert expected.dtype == np.float64
    assert_close(single.predict(x, verbose=0), expected)


def by_definition(x, kernel, bias):
    """A convolution that pads."""
    _, height, width, _ = x.shape
    x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    return bias + sum(x[:, i : i + height, j : j + width] @ kernel[i, j]
                      for i in range(3) for j in range(3))


def test_forward_by_its_formula():
    """Of an image that the program reads where the caller has it."""
    model = nbbn.Sequential([L.Input((6, 5, 4 * lanes("float32"))), L.Conv2D(70, 3, padding="same")])
    assert kernels(model)[0] == "winograd_forward"
    x = rows((6, 5, 4 * lanes("float32"), 0, "", 3)).astype("float32")
    kernel, bias = (np.asarray(w, "float64") for w in model.get_weights())
    assert_close(model.predict(x, verbose=0), by_definition(x.astype("float64"), kernel, bias))


@pytest.mark.parametrize("shape", [SHAPES[0], (7, 9, 32, 48, "same", 2), (6, 5, 32, 32, "same", 3)])
def test_pools_of_tiles(shape):
    single, double = pair(shape, lambda dtype: (L.ReLU(dtype=dtype),
                                                L.MaxPooling2D(2, dtype=dtype)))
    x = rows(shape).astype("float32")
    assert kernels(single).count("winograd_forward") == 1
    assert not any("pool" in name for name in kernels(single))
    assert_close(single.predict(x, verbose=0), double.predict(x.astype("float64"), verbose=0))


def test_other_pools_do_not_join_tiles():
    single, double = pair((9, 9, 32, 32, "same", 2), lambda dtype: (L.MaxPooling2D(3, dtype=dtype),))
    x = rows((9, 9, 32, 32, "same", 2)).astype("float32")
    assert "conv_pool_forward" in kernels(single)
    assert_close(single.predict(x, verbose=0), double.predict(x.astype("float64"), verbose=0))


def test_sums_and_bounds_are_finished_in_tiles():
    """A shortcut, a ReLU and its bound, with images that the last tiles leave."""
    def made(dtype):
        x = L.Input((5, 7, 32), dtype=dtype)
        a = L.Conv2D(32, 1, dtype=dtype)(x)
        y = L.Conv2D(32, 3, padding="same", dtype=dtype)(a)
        y = L.ReLU(max_value=0.5, dtype=dtype)(L.Add(dtype=dtype)([a, y]))
        return nbbn.Model(x, y)
    nbbn.utils.set_random_seed(2)
    double, single = made("float64"), made("float32")
    single.set_weights([np.asarray(w, "float32") for w in double.get_weights()])
    double.set_weights([np.asarray(w, "float64") for w in single.get_weights()])
    x = rows((5, 7, 32, 0, "", 4)).astype("float32")
    got, expected = single.predict(x, verbose=0), double.predict(x.astype("float64"), verbose=0)
    assert (got == 0.5).any() and (got == 0).any()
    assert_close(got, expected)


def test_no_tile_reads_another_image():
    """Where all images but one are NaN that one has the numbers it has alone."""
    shape = (5, 6, 32, 32, "same", 3)
    single, _ = pair(shape)
    x = rows(shape).astype("float32")
    alone = single.predict(x[1:2], verbose=0)
    x[[0, 2]] = np.nan
    got = single.predict(x, verbose=0)
    np.testing.assert_array_equal(got[1:2], alone)
    assert np.isnan(got[[0, 2]]).all()


def trained(model, x, y, batch):
    model.compile(nbbn.optimizers.SGD(0.05, momentum=0.9), "mse")
    model.fit(x, y, batch_size=batch, epochs=3, shuffle=False, verbose=0)
    return [np.asarray(w) for w in model.get_weights()]


@pytest.mark.parametrize("shape", SHAPES)
def test_training(shape):
    """Kernels after some steps, the last batch of an epoch a shorter one."""
    tail = lambda dtype: (L.BatchNormalization(dtype=dtype), L.ReLU(dtype=dtype),  # noqa: E731
                          L.GlobalAveragePooling2D(dtype=dtype), L.Dense(2, dtype=dtype))
    single, double = pair(shape, tail)
    before = [np.asarray(w, "float64") for w in double.get_weights()]
    count = 2 * shape[-1] + 3
    x = rows((*shape[:-1], count)).astype("float32")
    y = np.random.default_rng(3).normal(size=(count, 2)).astype("float32")
    got = trained(single, x, y, shape[-1] + 2)
    expected = trained(double, x.astype("float64"), y.astype("float64"), shape[-1] + 2)
    for a, b, start in zip(got, expected, before):
        moved = np.abs(b - start).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-3 * moved + 1e-6)


def print_digests():
    """Of what training and predictions give, for the test below, in a process of its own."""
    nbbn.trainer.ThreadChoice, nbbn.trainer._WORTH_A_TEAM = Forced, 0
    TrainingRun.worth = lambda self, threads: threads
    for shape in SHAPES:
        height, width, _, filters, padding, count = shape
        cut = 0 if padding == "same" else 2
        x = rows(shape).astype("float32")
        y = np.random.default_rng(3).normal(size=(count, height - cut, width - cut, filters))
        digests = []
        for threads in (1, 2, 3, 7):
            with nbbn.num_threads(threads):
                single, _ = pair(shape)
                found = [*trained(single, x, y.astype("float32"), count),
                         single.predict(x, verbose=0), single.predict(x[:1], verbose=0)]
            digests.append(hashlib.sha256(b"".join(a.tobytes() for a in found)).hexdigest())
        print(*digests)


def test_same_bits_with_any_threads():
    code = "import test_winograd; test_winograd.print_digests()"
    env = os.environ | {"NUMBA_NUM_THREADS": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True,
                          check=False)
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    assert len(lines) == len(SHAPES) and all(len(line) == 4 for line in lines)
    assert all(len({*line}) == 1 for line in lines)
    assert len({line[0] for line in lines}) == len(SHAPES)


@pytest.mark.parametrize("groups", [1, 2])
def test_points_of_python_and_of_the_kernel(groups):
    """A kernel that is uploaded has the bits of one that training leaves."""
    v = lanes("float32")
    layout = ConvLayout((3, 3), 2 * v, 2 * v, 3 * v, groups)
    array = np.random.default_rng(4).normal(size=(3, 3, 2 * v // groups, 3 * v))
    array = array.astype("float32")
    cells = np.zeros(layout.items("float32"), "float32")
    layout.write(cells, array)
    points = np.zeros(PointsLayout(layout).items("float32"), "float32")
    PointsLayout(layout).write(points, array)
    by_kernel = np.zeros_like(points)
    run("winograd_kernel", "float32", 1, weights=cells, weight_depth=18 * v, pixel=2 * v,
        out=by_kernel, panels=3)
    np.testing.assert_array_equal(points, by_kernel)
    g = array[:, :, 1, 2].astype("float64")
    if groups == 1:
        to = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
        found = points.reshape(3, 16, 2 * v, v)[0, :, 1, 2]
        np.testing.assert_allclose(found, (to @ g @ to.T).ravel(), atol=1e-6)


def test_float64_is_by_the_definition():
    assert not winograd.is_faster(words_of(8, 8, 64, 64), np.dtype("float64"))


@pytest.mark.parametrize("word, value", [
    (window.KERNEL_H, 1), (window.STRIDE_W, 2), (window.DILATION_H, 2), (window.SPREAD_W, 2),
    (window.OUT_W, 1), (window.PIXEL, 3), (window.OUT_PIXEL, 1),
])  # fmt: skip
def test_other_windows_do_not_go_by_tiles(word, value):
    words = words_of(8, 8, 64, 64)
    words[word] = value
    assert not winograd.is_faster(words, np.dtype("float32"))
