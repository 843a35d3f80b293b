"""Kernels one by one: activations and losses against their records, values and slopes."""

from __future__ import annotations

import numpy as np
import pytest

import nbbn
from nbbn import activations, functional, layers, losses
from nbbn.kernels import KERNELS
from nbbn.kernels.activation import BY_OUTPUT
from nbbn.program.layout import lanes, padded
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.runnable import TrainingRun

DTYPES = [np.float32, np.float64]
FREE = [
    Segment.X, Segment.Y, Segment.OUT, Segment.GAMMA, Segment.BETA, Segment.LOSSES, Segment.HITS,
    Segment.ORDER,
]


def run(kernel, dtype, rows, threads=1, **operands):
    """One step of one kernel on `rows` rows; arrays are written in place."""
    program, arrays = Program(np.dtype(dtype)), {}
    for segment, (name, value) in zip(
        FREE, [(n, v) for n, v in operands.items() if isinstance(v, np.ndarray)]
    ):
        arrays[segment], operands[name] = value, Buffer(name, segment)
    program.add(kernel, **operands)
    step = np.array([[rows, 0, 0, 0, 0, np.float64(rows).view(np.int64), rows]])
    TrainingRun(program, np.dtype(dtype), np.empty(0, np.uint8), 1).run(step, arrays, threads)


# -- activations

# A function and numbers for its parameters, other than the defaults too.
FUNCTIONS = [(name, function.defaults) for name, function in activations.ELEMENTWISE.items()]
FUNCTIONS += [("leaky_relu", (0.3,)), ("leaky_relu", (0.0,)), ("elu", (0.7,))]
FUNCTIONS += [
    ("clipped_relu", n)
    for n in [(0.0, 6.0, 0.0), (0.1, 6.0, 0.5), (0.2, np.inf, -1.0), (0.0, 2.0, 1.0)]
]
functions = pytest.mark.parametrize(("name", "numbers"), FUNCTIONS, ids=str)
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def grid(dtype):
    """Numbers of all sizes and both signs, as a whole number of vectors."""
    sizes = np.concatenate([np.geomspace(1e-30, 80, 300), np.linspace(0.01, 12, 403)])
    x = np.concatenate([-sizes, [0.0], sizes]).astype(dtype)
    return np.resize(x, padded(len(x), np.dtype(dtype)))


def tolerance(dtype):
    return 20 * float(np.finfo(dtype).eps)


def value_of(name, numbers, x):
    """What the record says, computed in float64."""
    return activations.ELEMENTWISE[name](x.astype(np.float64), *numbers)


def image_kernel(name, numbers, **arrays):
    first = next(iter(arrays.values()))
    run(name, first.dtype, 1, image=len(first), blocks=1, **arrays, **numbers)


def test_every_activation_has_kernels_of_its_parameters():
    for name, function in activations.ELEMENTWISE.items():
        for kernel, buffers in [(f"image_{name}", "xy"), (f"image_{name}_slope", ("dy", "x"))]:
            assert KERNELS[kernel].operands == [*buffers, "image", "blocks", *function.parameters]
    assert set(BY_OUTPUT) < set(activations.ELEMENTWISE)


@dtypes
@functions
def test_activation(name, numbers, dtype):
    """Relative to the value, near 0 and in the tails too."""
    x = grid(dtype)
    y = np.empty_like(x)
    image_kernel(f"image_{name}", activations.ELEMENTWISE[name].named(numbers), x=x, y=y)
    # 1 + erf(x) cancels, in the record as in the kernel; a cube of small numbers is none in float32.
    tail = {"gelu": 1e-16, "tanh_shrink": np.finfo(dtype).tiny}.get(name, 0)
    np.testing.assert_allclose(y, value_of(name, numbers, x), rtol=tolerance(dtype), atol=tail)
    image_kernel(f"image_{name}", activations.ELEMENTWISE[name].named(numbers), x=x, y=x)
    np.testing.assert_array_equal(x, y)


@dtypes
@functions
def test_slope_is_the_central_difference(name, numbers, dtype):
    x = grid(dtype)
    h = 1e-6 * np.maximum(np.abs(x.astype(np.float64)), 1)
    ref = (value_of(name, numbers, x + h) - value_of(name, numbers, x - h)) / (2 * h)
    bends = {
        "clipped_relu": numbers[1:], "gelu": (), "silu": (), "mish": (), "tanh": (),
        "relu6": (0, 6), "hard_sigmoid": (-3, 3), "hard_silu": (-3, 3), "hard_tanh": (-1, 1),
        "hard_shrink": (-0.5, 0.5), "soft_shrink": (-0.5, 0.5), "sparse_sigmoid": (-1, 1),
        "sparse_plus": (-1, 1), "tanh_shrink": (), "log_sigmoid": (), "squareplus": (),
    }.get(name, (0.0,))
    smooth = np.all(
        [np.abs(x - bend) > 2 * h for bend in bends if np.isfinite(bend)] or [h > 0], axis=0
    )
    for factor in (1.0, -2.0):
        dy = np.full_like(x, factor)
        image_kernel(
            f"image_{name}_slope", activations.ELEMENTWISE[name].named(numbers), dy=dy, x=x
        )
        np.testing.assert_allclose(
            dy[smooth], factor * ref[smooth], rtol=1e-5, atol=max(10 * np.finfo(dtype).eps, 1e-9)
        )


@dtypes
@pytest.mark.parametrize("name", BY_OUTPUT)
def test_activation_in_place(name, dtype):
    """On columns of rows, whose slope comes from the outputs: the same numbers as of images."""
    x = grid(dtype)
    x, rows = np.stack([x, x[::-1], 0.1 * x]).astype(dtype), 3
    y, dy = x.copy(), np.linspace(-1, 1, x.size).astype(dtype).reshape(x.shape)
    ref, slope = np.empty_like(x), dy.copy()
    panels = x.shape[1] // lanes(np.dtype(dtype))
    run(f"{name}_forward", dtype, rows, 2, x=y, x_stride=x.shape[1], panels=panels)
    run(
        f"{name}_backward", dtype, rows, 2, dy=dy, dy_stride=x.shape[1], y=y, y_stride=x.shape[1],
        panels=panels,
    )
    run(f"image_{name}", dtype, rows, x=x, y=ref, image=x.shape[1], blocks=2)
    run(f"image_{name}_slope", dtype, rows, dy=slope, x=x, image=x.shape[1], blocks=2)
    np.testing.assert_array_equal(y, ref)
    np.testing.assert_array_equal(dy, slope)


@dtypes
@functions
def test_infinities_and_nan(name, numbers, dtype):
    x = np.resize(np.array([-np.inf, np.inf, np.nan], dtype), 3 * lanes(np.dtype(dtype)))
    y = np.empty_like(x)
    image_kernel(f"image_{name}", activations.ELEMENTWISE[name].named(numbers), x=x, y=y)
    ref = value_of(name, numbers, x)
    if name == "exponential":  # which ends at a finite number
        y[1::3] = ref[1::3]
    np.testing.assert_allclose(y, ref, rtol=1e-6)


@dtypes
@pytest.mark.parametrize("name", ["elu", "selu"])
def test_elu_keeps_its_digits_near_zero_on_every_path(name, dtype):
    x = -np.geomspace(1e-12, 0.1, 64).astype(dtype).reshape(8, 8)
    ref, near = (
        value_of(name, activations.ELEMENTWISE[name].defaults, x),
        {"rtol": tolerance(dtype)},
    )
    np.testing.assert_allclose(
        functional.dense(x, np.eye(8, dtype=dtype), activation=name), ref, **near
    )
    pixels, kernel = x.reshape(2, 2, 2, 8), np.eye(8, dtype=dtype).reshape(1, 1, 8, 8)
    np.testing.assert_allclose(
        functional.conv2d(pixels, kernel, activation=name).reshape(8, 8), ref, **near
    )
    common = {"dtype": np.dtype(dtype).name}
    for chain, rows in [
        ([layers.Dense(8, name, **common)], x),
        ([layers.Dense(8, **common), layers.Activation(name)], x),
        ([layers.Conv2D(8, 1, activation=name, **common), layers.Flatten()], pixels),
    ]:
        model = nbbn.Sequential(chain)
        model.compile("sgd", "mse")
        model.build(rows.shape)
        model.set_weights(
            [np.eye(8, dtype=dtype).reshape(model.get_weights()[0].shape), np.zeros(8, dtype)]
        )
        np.testing.assert_allclose(model.predict(rows, verbose=0).reshape(8, 8), ref, **near)
        zeros = np.zeros((len(rows), 64 // len(rows)), dtype)
        assert model.train_on_batch(rows, zeros) == pytest.approx(
            np.square(ref).mean(), rel=10 * near["rtol"]
        )


@pytest.mark.parametrize("shape", [(2, 3), (2, 1, 1, 3)], ids=str)
def test_a_bounded_relu_of_infinities(shape):
    x = np.array([-np.inf, np.inf, np.nan, -1.0, 7.0, 0.5], np.float32).reshape(shape)
    for layer, wanted in [
        (layers.ReLU(6), [0, 6, np.nan, 0, 6, 0.5]),
        (layers.ReLU(6, threshold=1.0), [0, 6, np.nan, 0, 6, 0]),
        (layers.ReLU(6, negative_slope=0.5), [-np.inf, 6, np.nan, -0.5, 6, 0.5]),
        (layers.ReLU(threshold=1.0), [0, np.inf, np.nan, 0, 7, 0]),
        (layers.ReLU(), [0, np.inf, np.nan, 0, 7, 0.5]),
        (layers.LeakyReLU(0.0), [0, np.inf, np.nan, 0, 7, 0.5]),
        (layers.LeakyReLU(0.5), [-np.inf, np.inf, np.nan, -0.5, 7, 0.5]),
    ]:
        network = nbbn.Network((layer,), shape[1:], [{}], np.dtype("f4"))
        got = nbbn.FoldedModel(network).predict(x)
        np.testing.assert_array_equal(got.ravel(), np.array(wanted, np.float32), str(layer))


# -- losses

UNITS, ROWS = 5, 7


def targets_of(record, rng):
    if record.takes_labels:
        return rng.integers(0, UNITS, ROWS)
    if record.end in ("softmax", "sigmoid"):
        return rng.dirichlet(np.ones(UNITS), ROWS)
    return (
        rng.poisson(2, (ROWS, UNITS)).astype(float)
        if record.end == "exponential"
        else rng.normal(0, 2, (ROWS, UNITS))
    )


def outputs_of(record, z):
    if record.end == "softmax":
        e = np.exp(z)
        return e / e.sum(1, keepdims=True)
    return z if record.end in (None, "linear") else activations.ELEMENTWISE[record.end](z)


@dtypes
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("record", losses.RECORDS.values(), ids=losses.RECORDS)
def test_loss(record, threads, dtype):
    """Each row's value is the record's.

    The gradient is the central difference of the mean over the rows.
    """
    rng = np.random.default_rng(0)
    z, t = rng.normal(0, 1.5, (ROWS, UNITS)).astype(dtype), targets_of(record, rng)
    wide = np.zeros((ROWS, padded(UNITS, np.dtype(dtype))), dtype)
    if record.end in ("softmax", "sigmoid"):
        wide += -1e30
    wide[:, :UNITS] = z
    matrix = np.zeros_like(wide)
    if not record.takes_labels:
        t = t.astype(dtype)
        matrix[:, :UNITS] = t
    values, hits, dy = np.empty(ROWS), np.zeros(ROWS), np.zeros_like(wide)
    known = {
        "z": wide, "y": wide, "dy": dy, "targets": matrix, "labels": np.asarray(t, np.int64),
        "order": np.arange(ROWS), "losses": values, "hits": hits, "units": UNITS,
        "panels": wide.shape[1] // lanes(np.dtype(dtype)), "parameter": 0.7,
        **dict.fromkeys(("z_stride", "y_stride", "dy_stride", "t_stride"), wide.shape[1]),
    }
    wanted = KERNELS[record.engine].operands
    run(record.engine, dtype, ROWS, threads, **{name: known[name] for name in wanted})
    gradient = (dy if "dy" in wanted else wide)[:, :UNITS]

    def rows(z):
        return record.of_rows(t, outputs_of(record, z), 0.7)

    z = z.astype(np.float64)
    close = 1e-5 if dtype == np.float32 else 1e-8
    np.testing.assert_allclose(values, rows(z), rtol=close)
    for j in range(UNITS):
        h = np.zeros(UNITS)
        h[j] = 1e-6
        slope = (rows(z + h) - rows(z - h)) / 2e-6 / ROWS
        # scikit-learn's gradients are those of the sum over the units.
        scale = UNITS if record.engine in ("squared_error", "poisson") else 1
        np.testing.assert_allclose(gradient[:, j], scale * slope, rtol=1e-4, atol=close)
