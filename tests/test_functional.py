"""The batch-norm kernels as NumPy functions, against the oracle."""

from __future__ import annotations

from itertools import product

import naive
import numpy as np
import pytest

import nbbn
from nbbn.functional import batch_norm_backward, batch_norm_inference, batch_norm_train

DTYPES = [np.float32, np.float64]
ACTIVATIONS = [None, "relu"]
MATRICES = list(product([2, 3, 7, 33, 1000, 5000], [1, 3, 16, 37, 128, 300]))
IMAGES = [(4, 5, 6, 3), (2, 28, 28, 32), (3, 7, 7, 16), (1, 9, 5, 70)]
# A rounding is 6e-8 in float32, 1.1e-16 in float64; a result takes a handful of them.
TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 4e-14}

dtypes = pytest.mark.parametrize("dtype", DTYPES)
activations = pytest.mark.parametrize("activation", ACTIVATIONS)


def make(rng, shape, dtype, axis=-1):
    """Inputs of shape `shape` and gamma, beta, mean, var per channel, none of them 0 or 1 by
    accident.
    """
    channels = shape[axis]
    return {
        "x": rng.normal(0.5, 2, shape).astype(dtype),
        "gamma": rng.normal(1, 0.5, channels).astype(dtype),
        "beta": rng.normal(0, 0.5, channels).astype(dtype),
        "mean": rng.normal(0.5, 1, channels).astype(dtype),
        "var": rng.uniform(0.5, 4, channels).astype(dtype),
    }


def upstream(rng, data, axis, activation):
    """A random dy, zero where the rounding of an input to the ReLU could change its sign."""
    z, _, _ = naive.batch_norm_train(data["x"], data["gamma"], data["beta"], axis=axis)
    dy = rng.normal(size=data["x"].shape)
    if activation == "relu":
        dy[np.abs(z) < 1e-3] = 0
    return dy.astype(data["x"].dtype)


def assert_near(got, ref, scale):
    """`got` has the right dtype and shape and is within rounding of `ref`, for terms as large as
    `scale`.
    """
    assert got.shape == ref.shape
    tolerance = TOLERANCE[got.dtype]
    np.testing.assert_allclose(got, ref, rtol=tolerance, atol=tolerance * np.max(scale))


def check_train_and_backward(rng, data, axis, activation):
    x, gamma, beta = data["x"], data["gamma"], data["beta"]
    dy = upstream(rng, data, axis, activation)
    before = x.copy()
    y, cache = batch_norm_train(x, gamma, beta, axis=axis, activation=activation)
    dx, dgamma, dbeta = batch_norm_backward(dy, cache)
    np.testing.assert_array_equal(x, before)
    assert y.dtype == dx.dtype == dgamma.dtype == dbeta.dtype == x.dtype

    ref_y, ref_mean, ref_var = naive.batch_norm_train(
        x, gamma, beta, axis=axis, activation=activation
    )
    ref_dx, ref_dgamma, ref_dbeta = naive.batch_norm_backward(
        dy, x, gamma, beta, axis=axis, activation=activation
    )
    gain = np.abs(gamma / np.sqrt(ref_var + 1e-5)).max()
    size = np.abs(x).max()
    assert_near(y, ref_y, size * gain + np.abs(beta).max())
    tolerance = TOLERANCE[x.dtype]
    np.testing.assert_allclose(cache.mean, ref_mean, rtol=tolerance, atol=tolerance * size)
    np.testing.assert_allclose(cache.var, ref_var, rtol=5 * tolerance, atol=tolerance * 1e-3)
    rows = x.size // x.shape[axis]
    assert_near(dgamma, ref_dgamma, rows * np.abs(dy).max())
    assert_near(dbeta, ref_dbeta, rows * np.abs(dy).max())
    # xhat carries an error of size * gain roundings, and is at most sqrt(rows).
    dx_scale = gain * np.abs(dy).max() * (1 + size / np.sqrt(ref_var + 1e-5).min())
    assert_near(dx, ref_dx, dx_scale)
    others = tuple(i for i in range(x.ndim) if i != axis % x.ndim)
    np.testing.assert_allclose(
        dx.sum(axis=others, dtype=float), 0, atol=tolerance * rows * dx_scale
    )


@dtypes
@activations
@pytest.mark.parametrize("shape", MATRICES + IMAGES, ids=str)
def test_train_and_backward(rng, shape, dtype, activation):
    check_train_and_backward(rng, make(rng, shape, dtype), -1, activation)


@dtypes
@activations
@pytest.mark.parametrize(
    ("shape", "axis"),
    [
        ((5, 7), 0), ((5, 7), 1), ((5, 7), -2), ((6, 5, 9), 1), ((3, 4, 5, 6), 0),
        ((3, 4, 5, 6), 1), ((3, 4, 5, 6), -2),
    ],
    ids=str,
)
def test_axis(rng, shape, axis, dtype, activation):
    data = make(rng, shape, dtype, axis)
    check_train_and_backward(rng, data, axis, activation)
    got = batch_norm_inference(**data, axis=axis, activation=activation)
    ref = naive.batch_norm_inference(**data, axis=axis, activation=activation)
    assert_near(got, ref, 10 * np.abs(data["x"]).max())


@dtypes
@activations
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), *MATRICES[::5], *IMAGES], ids=str)
def test_inference(rng, shape, dtype, activation):
    data = make(rng, shape, dtype)
    got = batch_norm_inference(**data, epsilon=1e-3, activation=activation)
    assert got.dtype == dtype
    ref = naive.batch_norm_inference(**data, epsilon=1e-3, activation=activation)
    assert_near(got, ref, 10 * np.abs(data["x"]).max())


@pytest.mark.parametrize("epsilon", [1e-12, 1e-3, 1.0])
def test_epsilon_stands_inside_the_root(rng, epsilon):
    """With a variance of 1e-14 an epsilon outside the root shows at once."""
    data = make(rng, (50, 7), np.float64)
    data["x"] *= 1e-7
    data["var"] = np.full(7, 1e-14)
    args = data["x"], data["gamma"], data["beta"]
    y, cache = batch_norm_train(*args, epsilon=epsilon)
    np.testing.assert_allclose(
        y, naive.batch_norm_train(*args, epsilon=epsilon)[0], rtol=1e-10, atol=1e-12
    )
    dy = rng.normal(size=data["x"].shape)
    ref = naive.batch_norm_backward(dy, *args, epsilon=epsilon)
    for g, r in zip(batch_norm_backward(dy, cache), ref, strict=True):
        np.testing.assert_allclose(g, r, rtol=1e-9, atol=1e-9 * np.abs(r).max())
    ref = naive.batch_norm_inference(**data, epsilon=epsilon)
    np.testing.assert_allclose(batch_norm_inference(**data, epsilon=epsilon), ref, rtol=1e-10)


@activations
@pytest.mark.parametrize(("has_gamma", "has_beta"), list(product([True, False], repeat=2)))
def test_affine_four_ways(rng, has_gamma, has_beta, activation):
    data = make(rng, (40, 19), np.float64)
    dy = upstream(rng, data, -1, activation)
    data["gamma"] = data["gamma"] if has_gamma else None
    data["beta"] = data["beta"] if has_beta else None
    args = data["x"], data["gamma"], data["beta"]
    y, cache = batch_norm_train(*args, activation=activation)
    np.testing.assert_allclose(
        y, naive.batch_norm_train(*args, activation=activation)[0], rtol=1e-12, atol=1e-12
    )
    ref = naive.batch_norm_backward(dy, *args, activation=activation)
    np.testing.assert_allclose(batch_norm_backward(dy, cache)[0], ref[0], rtol=1e-11, atol=1e-12)
    got = batch_norm_inference(**data, activation=activation)
    ref = naive.batch_norm_inference(**data, activation=activation)
    np.testing.assert_allclose(got, ref, rtol=1e-12, atol=1e-12)


@activations
@pytest.mark.parametrize(("shape", "axis"), [((9, 5), -1), ((3, 4, 2, 3), 1)], ids=str)
def test_central_differences(rng, shape, axis, activation):
    data = make(rng, shape, np.float64, axis)
    dy = upstream(rng, data, axis, activation)
    params = {name: data[name] for name in ("x", "gamma", "beta")}
    _, cache = batch_norm_train(**params, axis=axis, activation=activation)
    step = 1e-5
    for (name, array), got in zip(params.items(), batch_norm_backward(dy, cache), strict=True):
        ref = np.empty_like(array)
        for index in np.ndindex(array.shape):
            sides = []
            for sign in (1, -1):
                moved = array.copy()
                moved[index] += sign * step
                y, _ = batch_norm_train(**{**params, name: moved}, axis=axis, activation=activation)
                sides.append((dy * y).sum())
            ref[index] = (sides[0] - sides[1]) / (2 * step)
        np.testing.assert_allclose(got, ref, rtol=1e-6, atol=1e-7, err_msg=name)


def unaligned(a):
    out = np.empty(a.nbytes + 1, np.uint8)[1:].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


def read_only(a):
    a = a.copy()
    a.setflags(write=False)
    return a


LAYOUTS = {
    "fortran": np.asfortranarray, "every second row": lambda a: np.repeat(a, 2, axis=0)[::2],
    "every third column": lambda a: np.repeat(a, 3, axis=-1)[..., ::3],
    "reversed rows": lambda a: a[::-1].copy()[::-1],
    "reversed columns": lambda a: a[..., ::-1].copy()[..., ::-1],
    "swapped axes": lambda a: np.ascontiguousarray(a.swapaxes(0, 1)).swapaxes(0, 1),
    "read-only": read_only, "unaligned": unaligned,
}


@dtypes
@pytest.mark.parametrize("shape", [(33, 37), (4, 5, 6, 16)], ids=str)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layout(rng, layout, shape, dtype):
    """Strides and flags of x and dy change no bit."""
    data = make(rng, shape, dtype)
    dy = rng.normal(size=shape).astype(dtype)
    y, cache = batch_norm_train(data["x"], data["gamma"], data["beta"], activation="relu")
    ref = y, cache.mean, cache.var, *batch_norm_backward(dy, cache), batch_norm_inference(**data)
    data["x"] = layout(data["x"])
    data["gamma"] = read_only(data["gamma"])
    y, cache = batch_norm_train(data["x"], data["gamma"], data["beta"], activation="relu")
    got = (
        y, cache.mean, cache.var, *batch_norm_backward(layout(dy), cache),
        batch_norm_inference(**data),
    )
    for g, r in zip(got, ref, strict=True):
        np.testing.assert_array_equal(g, r)


def test_backward_twice(rng):
    """The cache is read, not used up."""
    data = make(rng, (50, 20), np.float32)
    dy = rng.normal(size=(50, 20)).astype(np.float32)
    _, cache = batch_norm_train(data["x"], data["gamma"], data["beta"], activation="relu")
    for first, second in zip(
        batch_norm_backward(dy, cache), batch_norm_backward(dy, cache), strict=True
    ):
        np.testing.assert_array_equal(first, second)


def strided(shape, dtype):
    return np.empty((2 * shape[0], *shape[1:]), dtype)[::2]


@dtypes
@pytest.mark.parametrize("make_out", [np.empty, strided])
def test_out_is_filled_and_returned(rng, make_out, dtype):
    shape = (33, 20)
    data = make(rng, shape, dtype)
    dy = rng.normal(size=shape).astype(dtype)
    args = data["x"], data["gamma"], data["beta"]
    ref_y, cache = batch_norm_train(*args)
    ref_dx, _, _ = batch_norm_backward(dy, cache)
    ref_inference = batch_norm_inference(**data)
    y, dx, inference = (make_out(shape, dtype) for _ in range(3))
    got_y, cache = batch_norm_train(*args, out=y)
    got_dx, _, _ = batch_norm_backward(dy, cache, out=dx)
    assert got_y is y
    assert got_dx is dx
    assert batch_norm_inference(**data, out=inference) is inference
    np.testing.assert_array_equal(y, ref_y)
    np.testing.assert_array_equal(dx, ref_dx)
    np.testing.assert_array_equal(inference, ref_inference)


@pytest.mark.parametrize(
    ("out", "error"),
    [
        (np.empty((10, 5), np.float32), ValueError),
        (np.empty((10, 4), np.float64), TypeError),
        (read_only(np.empty((10, 4), np.float32)), ValueError),
    ],
    ids=["shape", "dtype", "read-only"],
)
def test_bad_out(rng, out, error):
    data = make(rng, (10, 4), np.float32)
    args = data["x"], data["gamma"], data["beta"]
    _, cache = batch_norm_train(*args)
    with pytest.raises(error, match="out"):
        batch_norm_train(*args, out=out)
    with pytest.raises(error, match="out"):
        batch_norm_inference(**data, out=out)
    with pytest.raises(error, match="out"):
        batch_norm_backward(data["x"], cache, out=out)


def functions(data, **options):
    """The two forward functions, to call with `data`."""
    args = {name: data[name] for name in ("x", "gamma", "beta")}
    return [
        lambda: batch_norm_train(**args, **options),
        lambda: batch_norm_inference(**data, **options),
    ]


@pytest.mark.parametrize("which", [0, 1], ids=["train", "inference"])
@pytest.mark.parametrize(
    ("change", "options", "error", "match"),
    [
        ({"x": np.ones((10, 4), np.int64)}, {}, TypeError, "float32"),
        ({"x": np.ones((10, 4), np.float16)}, {}, TypeError, "float32"),
        ({"x": np.ones((10, 4), complex)}, {}, TypeError, "float32"),
        ({"x": np.ones(4)}, {}, ValueError, "x"), ({"x": np.ones((0, 4))}, {}, ValueError, "empty"),
        ({"x": np.ones((10, 0))}, {}, ValueError, "empty"),
        ({"gamma": np.ones(5)}, {}, ValueError, "gamma"),
        ({"beta": np.ones((4, 1))}, {}, ValueError, "beta"), ({}, {"axis": 2}, ValueError, "axis"),
        ({}, {"axis": -3}, ValueError, "axis"), ({}, {"epsilon": 0.0}, ValueError, "epsilon"),
        ({}, {"epsilon": -1.0}, ValueError, "epsilon"),
        ({}, {"activation": "swish"}, ValueError, "relu"),
    ],
)
def test_bad_input(rng, which, change, options, error, match):
    data = {**make(rng, (10, 4), np.float64), **change}
    with pytest.raises(error, match=match):
        functions(data, **options)[which]()


@pytest.mark.parametrize("shape", [(1, 4), (1, 1, 1, 4)], ids=str)
def test_one_row_has_no_variance(rng, shape):
    data = make(rng, shape, np.float32)
    with pytest.raises(ValueError, match="1 sample"):
        batch_norm_train(data["x"], data["gamma"], data["beta"])


@pytest.mark.parametrize("name", ["mean", "var"])
def test_inference_checks_statistics(rng, name):
    data = make(rng, (10, 4), np.float64)
    with pytest.raises(ValueError, match=name):
        batch_norm_inference(**{**data, name: np.ones(3)})


@pytest.mark.parametrize(
    ("dy", "error"),
    [(np.ones((10, 5)), ValueError), (np.ones((10, 4), np.float32), TypeError)],
    ids=["shape", "dtype"],
)
def test_bad_dy(rng, dy, error):
    data = make(rng, (10, 4), np.float64)
    _, cache = batch_norm_train(data["x"], data["gamma"], data["beta"])
    with pytest.raises(error, match="dy"):
        batch_norm_backward(dy, cache)


@dtypes
@pytest.mark.parametrize("value", [0.0, 0.1, -3e4])
@pytest.mark.parametrize("rows", [2, 33, 1000])
def test_constant_column_gives_beta(rng, rows, value, dtype):
    data = make(rng, (rows, 5), dtype)
    data["x"][:, 2] = value
    y, cache = batch_norm_train(data["x"], data["gamma"], data["beta"])
    assert cache.var[2] == 0
    np.testing.assert_array_equal(y[:, 2], data["beta"][2])
    dx, _, _ = batch_norm_backward(data["x"], cache)
    assert np.isfinite(dx).all()


@pytest.mark.parametrize("channels", [1, 3, 64, 100])
@pytest.mark.parametrize("rows", [33, 5000])
def test_variance_far_from_zero(rng, rows, channels):
    """E[x^2] - E[x]^2 loses every digit here; two passes do not."""
    x = (1e6 + rng.normal(size=(rows, channels))).astype(np.float32)
    y, cache = batch_norm_train(x, None, None)
    np.testing.assert_allclose(cache.mean, x.mean(axis=0, dtype=float), rtol=1e-7)
    np.testing.assert_allclose(cache.var, x.var(axis=0, dtype=float), rtol=1e-4)
    ref, _, _ = naive.batch_norm_train(x, None, None)
    # A mean kept in float32 is off by at most half its spacing, 0.03.
    np.testing.assert_allclose(y, ref, atol=0.04 / np.sqrt(cache.var.min()))


@dtypes
@pytest.mark.parametrize("scale", [1e-15, 1e15])
def test_scale(rng, scale, dtype):
    x = (scale * rng.normal(size=(100, 7))).astype(dtype)
    y, cache = batch_norm_train(x, None, None)
    ref, _, var = naive.batch_norm_train(x, None, None)
    np.testing.assert_allclose(cache.var, var, rtol=1e-5)
    np.testing.assert_allclose(y, ref, rtol=1e-4, atol=1e-5 * np.abs(ref).max())


def test_huge_values_give_no_nan(rng):
    """The square of 1e30 is above float32's range."""
    y, _ = batch_norm_train((1e30 * rng.normal(size=(100, 7))).astype(np.float32), None, None)
    assert np.isfinite(y).all()


@dtypes
@activations
@pytest.mark.parametrize("shape", [(33, 5), (33, 100), (2000, 37), (3, 7, 7, 16)], ids=str)
def test_nan_stays_in_its_channel(rng, shape, dtype, activation):
    data = make(rng, shape, dtype)
    args = data["gamma"], data["beta"]
    ref, _ = batch_norm_train(data["x"], *args, activation=activation)
    data["x"][(1,) * (len(shape) - 1) + (2,)] = np.nan
    y, cache = batch_norm_train(data["x"], *args, activation=activation)
    assert np.isnan(y[..., 2]).all()
    assert np.isnan(cache.mean[2])
    others = np.arange(shape[-1]) != 2
    np.testing.assert_array_equal(y[..., others], ref[..., others])


@dtypes
@pytest.mark.parametrize(
    "shape", [(7, 3), (1000, 37), (3000, 60), (8192, 64), (70, 300), (4, 28, 28, 16)], ids=str
)
def test_same_bits_with_any_number_of_threads(rng, shape, dtype):
    data = make(rng, shape, dtype)
    dy = rng.normal(size=shape).astype(dtype)
    results = []
    for threads in (1, 2, 4):
        with nbbn.num_threads(threads):
            y, cache = batch_norm_train(data["x"], data["gamma"], data["beta"], activation="relu")
            results.append(
                [
                    y, cache.mean, cache.var, *batch_norm_backward(dy, cache),
                    batch_norm_inference(**data),
                ]
            )
    for other in results[1:]:
        for got, ref in zip(other, results[0], strict=True):
            assert got.tobytes() == ref.tobytes()
