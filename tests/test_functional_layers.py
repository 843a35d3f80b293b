"""Dense, convolution, pool and norms as NumPy functions, against the oracle."""

from __future__ import annotations

import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import naive_layers as naive
import numpy as np
import pytest

import nbbn
from nbbn.functional import conv2d, dense, group_norm, layer_norm, max_pool2d

# A result takes a handful of roundings (6e-8 in float32, 1.1e-16 in float64) of terms as large as
# the sum of their sizes.
TOLERANCE = {np.dtype(np.float32): 2e-6, np.dtype(np.float64): 1e-14}
ACTIVATIONS = [None, "softmax", *naive.ELEMENTWISE]

dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
activations = pytest.mark.parametrize("activation", ACTIVATIONS)


def draw(rng, *shapes, dtype=np.float64):
    """Arrays of these shapes, one after the other, no number of them 0 or 1 by accident."""
    return [rng.normal(0.3, 1, shape).astype(dtype) for shape in shapes]


def oracle(kind, x, activation=None, *, weights=None, **arguments):
    """The layer's output in float64."""
    layer = naive.describe(kind, **arguments)
    given = {name: np.asarray(a, float) for name, a in (weights or {}).items() if a is not None}
    y, _ = naive.LAYERS[kind](layer, np.asarray(x, float), given, False)
    return naive.activate(activation, y)[0]


def assert_near(got, ref, dtype, terms=None):
    """`got` is of this dtype and within rounding of `ref`, whose terms add up to `terms` in size."""
    assert got.dtype == dtype
    assert got.shape == ref.shape
    assert got.flags.c_contiguous
    tolerance = TOLERANCE[got.dtype]
    np.testing.assert_allclose(
        got, ref, rtol=tolerance, atol=tolerance * np.abs(ref if terms is None else terms).max()
    )


def check_affine(kind, got, x, kernel, bias, activation=None, **arguments):
    weights = {"kernel": kernel, "bias": bias}
    ref = oracle(kind, x, activation, weights=weights, **arguments)
    sizes = {name: np.abs(a) for name, a in weights.items() if a is not None}
    assert_near(got, ref, x.dtype, oracle(kind, np.abs(x), weights=sizes, **arguments))


# Dense


DENSE = [*product([1, 3, 65, 500], [1, 7, 33], [1, 5, 16, 70]), (1000, 300, 130)]


@dtypes
@pytest.mark.parametrize(("rows", "features", "units"), DENSE)
def test_dense(rng, rows, features, units, dtype):
    x, kernel, bias = draw(rng, (rows, features), (features, units), units, dtype=dtype)
    check_affine("Dense", dense(x, kernel, bias), x, kernel, bias)
    check_affine("Dense", dense(x, kernel, activation="relu"), x, kernel, None, "relu")


@activations
@pytest.mark.parametrize("shape", [(9, 7), (3, 5, 7), (2, 3, 2, 2, 7)], ids=str)
def test_dense_at_any_rank(rng, shape, activation):
    x, kernel, bias = draw(rng, shape, (7, 11), 11)
    check_affine(
        "Dense", dense(x, kernel, bias, activation=activation), x, kernel, bias, activation
    )


# Convolution


IMAGES = [(1, 1, 1, 1), (2, 3, 2, 5), (5, 7, 6, 3), (3, 9, 11, 17), (2, 6, 5, 32)]
WINDOWS = [
    {}, {"padding": "same"}, {"strides": 2, "padding": "same"},
    {"strides": (1, 3), "padding": "same"}, {"dilation_rate": 2, "padding": "same"},
    {"dilation_rate": (1, 2), "padding": "SAME"},
]
# Channels, groups, filters.
GROUPS = [(4, 2, 6), (18, 3, 9), (5, 5, 5), (6, 6, 18), (20, 4, 36), (1, 1, 3)]


def fits(shape, size, window):
    """Whether a window is within the image."""
    return "padding" in window or (size[0] <= shape[1] and size[1] <= shape[2])


@dtypes
@pytest.mark.parametrize(
    ("shape", "size", "window"),
    [case for case in product(IMAGES, [(1, 1), (3, 3), (2, 3)], WINDOWS) if fits(*case)],
    ids=str,
)
def test_conv2d(rng, shape, size, window, dtype):
    window = {"padding": "valid", **window}
    x, kernel, bias = draw(rng, shape, (*size, shape[-1], 6), 6, dtype=dtype)
    got = conv2d(x, kernel, bias, **window)
    check_affine(
        "Conv2D", got, x, kernel, bias, groups=1, **{**window, "padding": window["padding"].lower()}
    )


@pytest.mark.parametrize("window", [{}, {"strides": (2, 3)}, {"dilation_rate": [2, 1]}], ids=str)
def test_conv2d_without_padding(rng, window):
    x, kernel = draw(rng, (3, 9, 10, 5), (3, 2, 5, 19))
    check_affine("Conv2D", conv2d(x, kernel, **window), x, kernel, None, **window)


@activations
@pytest.mark.parametrize("groups", [1, 2, 6])
def test_conv2d_activation(rng, groups, activation):
    x, kernel, bias = draw(rng, (3, 5, 4, 6), (2, 2, 6 // groups, 12), 12)
    got = conv2d(x, kernel, bias, groups=groups, activation=activation)
    check_affine("Conv2D", got, x, kernel, bias, activation, groups=groups)


@dtypes
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize(("channels", "groups", "filters"), GROUPS)
def test_conv2d_groups(rng, channels, groups, filters, window, dtype):
    x, kernel, bias = draw(
        rng, (2, 7, 6, channels), (3, 2, channels // groups, filters), filters, dtype=dtype
    )
    got = conv2d(x, kernel, bias, groups=groups, **window)
    ref = {**window, "padding": window.get("padding", "valid").lower()}
    check_affine("Conv2D", got, x, kernel, bias, groups=groups, **ref)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(("groups", "reached"), [(2, 6), (6, 2)])
def test_what_is_not_finite_stays_in_its_group(rng, groups, reached, value):
    """As one matrix with zeros between the groups, 0 * NaN would reach all of them."""
    x, kernel = draw(rng, (1, 4, 4, 6), (2, 2, 6 // groups, 12))
    x[0, 1, 1, 0] = value
    got = conv2d(x, kernel, groups=groups)
    assert not np.isfinite(got[0, :2, :2, :reached]).any()
    assert np.isfinite(got[..., reached:]).all()


# Pool


@dtypes
@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("strides", [None, 1, (2, 3)], ids=str)
@pytest.mark.parametrize("pool_size", [(2, 2), 1, (3, 2), (1, 4)], ids=str)
@pytest.mark.parametrize("shape", [(1, 3, 4, 1), (5, 7, 6, 3), (2, 8, 8, 37)], ids=str)
def test_max_pool2d(rng, shape, pool_size, strides, padding, dtype):
    """Below zero too: a padded cell is never the largest."""
    (x,) = draw(rng, shape, dtype=dtype)
    for shifted in (x, x - dtype(10)):
        got = max_pool2d(shifted, pool_size, strides=strides, padding=padding)
        ref = oracle("MaxPooling2D", shifted, pool_size=pool_size, strides=strides, padding=padding)
        assert got.dtype == dtype
        np.testing.assert_array_equal(got, ref)


def test_max_pool2d_defaults(rng):
    (x,) = draw(rng, (3, 5, 7, 4))
    np.testing.assert_array_equal(
        max_pool2d(x), x[:, :4, :6].reshape(3, 2, 2, 3, 2, 4).max(axis=(2, 4))
    )


# Norms


ROWS = [(1, 1), (1, 300), (3, 7), (65, 16), (4, 5, 33), (2, 3, 4, 5), (2, 2, 3, 2, 6)]


@dtypes
@pytest.mark.parametrize(("has_gamma", "has_beta"), list(product([True, False], repeat=2)))
@pytest.mark.parametrize("shape", ROWS, ids=str)
def test_layer_norm(rng, shape, has_gamma, has_beta, dtype):
    x, gamma, beta = draw(rng, shape, shape[-1], shape[-1], dtype=dtype)
    weights = {"gamma": gamma if has_gamma else None, "beta": beta if has_beta else None}
    assert_near(
        layer_norm(x, **weights), oracle("LayerNormalization", x, epsilon=1e-5, weights=weights),
        dtype, terms=9.0,
    )


@dtypes
@pytest.mark.parametrize(("has_gamma", "has_beta"), list(product([True, False], repeat=2)))
@pytest.mark.parametrize("groups", [1, 2, 6, -1])
@pytest.mark.parametrize("shape", [(3, 6), (5, 7, 12), (4, 5, 6, 18), (2, 3, 2, 4, 6)], ids=str)
def test_group_norm(rng, shape, groups, has_gamma, has_beta, dtype):
    x, gamma, beta = draw(rng, shape, shape[-1], shape[-1], dtype=dtype)
    weights = {"gamma": gamma if has_gamma else None, "beta": beta if has_beta else None}
    got = group_norm(x, **weights, groups=groups)
    assert_near(
        got, oracle("GroupNormalization", x, groups=groups, epsilon=1e-5, weights=weights), dtype,
        terms=9.0,
    )


@activations
@pytest.mark.parametrize("shape", [(5, 6), (3, 4, 2, 6)], ids=str)
def test_norm_activation(rng, shape, activation):
    x, gamma, beta = draw(rng, shape, 6, 6)
    weights = {"gamma": gamma, "beta": beta}
    ref = oracle("LayerNormalization", x, activation, epsilon=1e-5, weights=weights)
    assert_near(layer_norm(x, **weights, activation=activation), ref, float)
    ref = oracle("GroupNormalization", x, activation, groups=3, epsilon=1e-5, weights=weights)
    assert_near(group_norm(x, **weights, groups=3, activation=activation), ref, float)


@pytest.mark.parametrize("epsilon", [1e-12, 1e-3, 1])
def test_epsilon_stands_inside_the_root(rng, epsilon):
    """With a variance of 1e-14 an epsilon outside the root shows at once."""
    x = 1e-7 * draw(rng, (5, 4, 6))[0]
    got = layer_norm(x, epsilon=epsilon)
    np.testing.assert_allclose(
        got, oracle("LayerNormalization", x, epsilon=epsilon), rtol=1e-10, atol=1e-12
    )
    got = group_norm(x, groups=2, epsilon=epsilon)
    np.testing.assert_allclose(
        got, oracle("GroupNormalization", x, groups=2, epsilon=epsilon), rtol=1e-10, atol=1e-12
    )


def test_variance_far_from_zero(rng):
    """E[x^2] - E[x]^2 loses every digit here; two passes do not."""
    x = (1e6 + rng.normal(size=(20, 8, 12))).astype(np.float32)
    for got, ref in [
        (layer_norm(x), oracle("LayerNormalization", x, epsilon=1e-5)),
        (group_norm(x, groups=3), oracle("GroupNormalization", x, groups=3, epsilon=1e-5)),
    ]:
        np.testing.assert_allclose(got, ref, rtol=1e-6, atol=1e-6)


# What all of them have in common. Each call keeps x's shape, so that its output may be written over
# x.


def weights_of(rng, dtype):
    """Arrays for 6 channels."""
    names = {
        "square": (6, 6), "kernel": (3, 2, 6, 6), "grouped": (3, 2, 3, 6),
        "depthwise": (3, 2, 1, 6),
    }
    shapes = {**names, "bias": 6, "gamma": 6, "beta": 6}
    return dict(zip(shapes, draw(rng, *shapes.values(), dtype=dtype)))


SHAPE = (5, 4, 7, 6)
CALLS = {
    "dense": lambda x, w, **k: dense(x, w["square"], w["bias"], **k),
    "dense, softmax": lambda x, w, **k: dense(x, w["square"], w["bias"], activation="softmax", **k),
    "conv2d": lambda x, w, **k: conv2d(
        x, w["kernel"], w["bias"], padding="same", activation="relu", **k
    ),
    "conv2d, one pixel": lambda x, w, **k: conv2d(
        x, w["square"][None, None], activation="softmax", **k
    ),
    "conv2d, groups": lambda x, w, **k: conv2d(
        x, w["grouped"], w["bias"], padding="same", groups=2, activation="gelu", **k
    ),
    "conv2d, depthwise": lambda x, w, **k: conv2d(x, w["depthwise"], padding="same", groups=6, **k),
    "max_pool2d": lambda x, w, **k: max_pool2d(x, 3, strides=1, padding="same", **k),
    "layer_norm": lambda x, w, **k: layer_norm(x, w["gamma"], w["beta"], activation="silu", **k),
    "group_norm": lambda x, w, **k: group_norm(
        x, w["gamma"], w["beta"], groups=3, activation="softmax", **k
    ),
}
calls = pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)


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
    "every third channel": lambda a: np.repeat(a, 3, axis=-1)[..., ::3],
    "reversed rows": lambda a: a[::-1].copy()[::-1],
    "reversed channels": lambda a: a[..., ::-1].copy()[..., ::-1],
    "swapped axes": lambda a: np.ascontiguousarray(a.swapaxes(0, -1)).swapaxes(0, -1),
    "read-only": read_only, "unaligned": unaligned,
}


@dtypes
@calls
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layout(rng, layout, call, dtype):
    """Strides and flags of x and of the weights change no bit, and neither is written."""
    (x,), weights = draw(rng, SHAPE, dtype=dtype), weights_of(rng, dtype)
    before = x.copy()
    ref = call(x, weights)
    np.testing.assert_array_equal(x, before)
    got = call(layout(x), {name: layout(a) for name, a in weights.items()})
    assert got.tobytes() == ref.tobytes()


@dtypes
@calls
def test_same_bits_with_any_number_of_threads(rng, call, dtype):
    (x,), weights = draw(rng, (130, 9, 28, 6), dtype=dtype), weights_of(rng, dtype)
    results = []
    for threads in (1, 2, 4):
        with nbbn.num_threads(threads):
            results.append(call(x, weights).tobytes())
    assert results[0] == results[1] == results[2]


@calls
def test_rows_do_not_depend_on_each_other(rng, call):
    (x,), weights = draw(rng, (130, 4, 7, 6), dtype=np.float32), weights_of(rng, np.float32)
    whole = call(x, weights)
    for i in (0, 77, 129):
        np.testing.assert_array_equal(call(x[i : i + 1], weights), whole[i : i + 1])


@calls
def test_nan_stays_in_its_row(rng, call):
    (x,), weights = draw(rng, SHAPE), weights_of(rng, np.float64)
    ref = call(x, weights)
    x[2, 0, 0, 0] = np.nan  # the first of the windows that it is in
    got = call(x, weights)
    assert np.isnan(got[2]).any()
    others = np.arange(len(x)) != 2
    np.testing.assert_array_equal(got[others], ref[others])


@dtypes
@calls
def test_out(rng, call, dtype):
    """It is filled and returned, call after call; it may be x, or overlap with it."""
    (x,), weights = draw(rng, (400, *SHAPE[1:]), dtype=dtype), weights_of(rng, dtype)
    ref = call(x, weights)
    out = np.full_like(x, np.nan)
    for _ in range(2):
        assert call(x, weights, out=out) is out
        np.testing.assert_array_equal(out, ref)
    memory = np.empty((401, *SHAPE[1:]), dtype)
    for source, written in [
        (memory[:-1], memory[:-1]), (memory[:-1], memory[1:]), (memory[1:], memory[:-1]),
    ]:
        source[...] = x
        assert call(source, weights, out=written) is written
        np.testing.assert_array_equal(written, ref)


@calls
def test_out_may_be_a_transposed_x(rng, call):
    """Same address and shape, other strides."""
    memory, weights = np.empty((6, 6, 6, 6)), weights_of(rng, np.float64)
    memory[...] = draw(rng, memory.shape)[0]
    ref = call(memory.T.copy(), weights)
    np.testing.assert_array_equal(call(memory.T, weights, out=memory), ref)


@calls
def test_weights_of_one_call_do_not_reach_the_next(rng, call):
    x, first, second = draw(rng, SHAPE)[0], weights_of(rng, np.float64), weights_of(rng, np.float64)
    ref = call(x, first)
    call(x, second)
    np.testing.assert_array_equal(call(x, first), ref)


def test_absent_arrays_after_given_ones(rng):
    """What is left out is 1 or 0, not what the call before left."""
    x, gamma, beta = draw(rng, SHAPE, 6, 6)
    ref = layer_norm(x)
    assert np.abs(layer_norm(x, gamma, beta) - ref).max() > 0.1
    np.testing.assert_array_equal(layer_norm(x), ref)


def test_what_is_kept_does_not_grow_with_the_weights(rng):
    """A program is kept for the next call; the memory that its weights took is not."""
    x, kernel = np.ones((1, 1013), np.float32), np.ones((1013, 1021), np.float32)
    dense(x, kernel[:, 1:])  # compiles what so large a layer takes
    tracemalloc.start()
    dense(x, kernel)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < kernel.nbytes / 10


def test_many_threads_at_once(rng):
    """Different layers, with different weights, at the same time."""
    (x,) = draw(rng, (60, 12, 14, 6), dtype=np.float32)
    jobs = [(call, weights_of(rng, np.float32)) for _ in range(4) for call in CALLS.values()]
    refs = [call(x, weights) for call, weights in jobs]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda job: job[0](x, job[1]), jobs * 2))
    for g, r in zip(got, refs * 2, strict=True):
        np.testing.assert_array_equal(g, r)


# Errors


@calls
@pytest.mark.parametrize(
    ("out", "error", "match"),
    [
        (
            np.empty((5, 4, 7, 5)),
            ValueError,
            r"out must have shape \(5, 4, 7, 6\), got \(5, 4, 7, 5\)",
        ),
        (
            np.empty(SHAPE, np.float32),
            TypeError,
            "out must be an ndarray of dtype float64, got float32",
        ),
        ([1.0], TypeError, "out must be an ndarray of dtype float64, got list"),
        (read_only(np.empty(SHAPE)), ValueError, "out is read-only"),
        (
            np.empty((10, 4, 7, 6))[::2],
            ValueError,
            r"out must be C-contiguous.*use np.empty\(\(5, 4, 7, 6\), 'float64'\)",
        ),
        (unaligned(np.empty(SHAPE)), ValueError, "out must be C-contiguous and aligned"),
    ],
    ids=["shape", "dtype", "list", "read-only", "strided", "unaligned"],
)
def test_bad_out(rng, call, out, error, match):
    (x,), weights = draw(rng, SHAPE), weights_of(rng, np.float64)
    with pytest.raises(error, match=match):
        call(x, weights, out=out)


@calls
@pytest.mark.parametrize(
    ("x", "error", "match"),
    [
        (
            np.ones(SHAPE, np.int64),
            TypeError,
            "x must be float32 or float64, got int64; convert it",
        ),
        (np.ones(SHAPE, np.float16), TypeError, "x must be float32 or float64, got float16"),
        (np.ones(SHAPE, complex), TypeError, "x must be float32 or float64, got complex128"),
        (np.ones((0, 4, 7, 6)), ValueError, "x is empty"),
        (np.ones(6), ValueError, "x must have . dimensions"),
    ],
    ids=["int64", "float16", "complex", "empty", "one axis"],
)
def test_bad_x(rng, call, x, error, match):
    with pytest.raises(error, match=match):
        call(x, weights_of(rng, np.float64))


@pytest.mark.parametrize("shape", [(4, 7, 6), (1, 2, 4, 7, 6)], ids=str)
@pytest.mark.parametrize(
    "call", [lambda x: conv2d(x, np.ones((1, 1, 6, 2))), max_pool2d], ids=["conv2d", "max_pool2d"]
)
def test_images_have_four_axes(call, shape):
    with pytest.raises(
        ValueError, match=r"x must have 4 dimensions, \(rows, height, width, channels\), got shape"
    ):
        call(np.ones(shape))


ROW, IMAGE, KERNEL = np.ones((3, 6)), np.ones((2, 4, 5, 6)), np.ones((3, 2, 6, 4))
BAD_ARRAYS = {
    "dense, another dtype": (
        lambda: dense(ROW, np.ones((6, 2), np.float32)),
        TypeError,
        "kernel must have x's dtype float64, got float32; convert one of the two",
    ),
    "dense, no kernel": (
        lambda: dense(ROW, None), TypeError, "kernel must have x's dtype float64, got object",
    ),
    "dense, transposed": (
        lambda: dense(ROW, np.ones((2, 6))),
        ValueError,
        r"kernel must have shape \(in, units\) with in 6 for x of shape \(3, 6\).*got \(2, 6\)",
    ),
    "dense, a vector": (
        lambda: dense(ROW, np.ones(6)), ValueError, r"kernel must have shape \(in, units\)",
    ),
    "dense, no units": (lambda: dense(ROW, np.ones((6, 0))), ValueError, "1 unit or more"),
    "dense, bias": (
        lambda: dense(ROW, np.ones((6, 2)), np.ones(3)),
        ValueError,
        r"bias must have shape \(2,\), .*got \(3,\)",
    ),
    "dense, dtype of the bias": (
        lambda: dense(ROW, np.ones((6, 2)), [0, 0]), TypeError, "bias must have x's dtype .*int64",
    ),
    "conv2d, another dtype": (
        lambda: conv2d(np.float32(IMAGE), KERNEL), TypeError, "kernel must have x's dtype float32",
    ),
    "conv2d, three axes": (
        lambda: conv2d(IMAGE, KERNEL[0]), ValueError, r"kernel must have shape \(height, width, in",
    ),
    "conv2d, no filters": (
        lambda: conv2d(IMAGE, KERNEL[..., :0]), ValueError, "each 1 or more, got",
    ),
    "conv2d, channels": (
        lambda: conv2d(IMAGE, np.ones((3, 2, 5, 4))),
        ValueError,
        r"kernel must have 6 on its third axis, for 6 channels in 1 groups, got shape \(3, 2, 5, 4\)",
    ),
    "conv2d, channels of a group": (
        lambda: conv2d(IMAGE, KERNEL, groups=2),
        ValueError,
        "kernel must have 3 on its third axis, for 6 channels in 2 groups",
    ),
    "conv2d, bias": (
        lambda: conv2d(IMAGE, KERNEL, np.ones((1, 4))), ValueError, r"bias must have shape \(4,\)",
    ),
    "layer_norm, gamma": (
        lambda: layer_norm(ROW, np.ones(3)), ValueError, r"gamma must have shape \(6,\)",
    ),
    "layer_norm, beta": (
        lambda: layer_norm(ROW, None, np.ones((6, 1))), ValueError, r"beta must have shape \(6,\)",
    ),
    "layer_norm, another dtype": (
        lambda: layer_norm(ROW, np.ones(6, np.float32)), TypeError, "gamma must have x's dtype",
    ),
    "group_norm, gamma": (
        lambda: group_norm(IMAGE, np.ones(4), groups=2),
        ValueError,
        r"gamma must have shape \(6,\)",
    ),
    "group_norm, another dtype": (
        lambda: group_norm(IMAGE, None, np.ones(6, int), groups=2), TypeError, "beta must have x's",
    ),
}


@pytest.mark.parametrize(("call", "error", "match"), BAD_ARRAYS.values(), ids=BAD_ARRAYS)
def test_bad_arrays(call, error, match):
    with pytest.raises(error, match=match):
        call()


BAD_ARGUMENTS = {
    "strides 0": (
        lambda: conv2d(IMAGE, KERNEL, strides=0),
        "strides must be a whole number of at least 1 .*got 0",
    ),
    "strides 1.0": (
        lambda: conv2d(IMAGE, KERNEL, strides=(1.0, 1)),
        r"strides must be .*got \(1.0, 1\)",
    ),
    "strides, three": (lambda: conv2d(IMAGE, KERNEL, strides=(1, 1, 1)), "strides must be"),
    "padding": (
        lambda: conv2d(IMAGE, KERNEL, padding="full"),
        "padding must be 'valid' or 'same', got 'full'",
    ),
    "dilation": (lambda: conv2d(IMAGE, KERNEL, dilation_rate="2"), "dilation_rate must be"),
    "strides and dilation": (
        lambda: conv2d(IMAGE, KERNEL, strides=2, dilation_rate=2),
        "cannot both be above 1",
    ),
    "groups": (
        lambda: conv2d(IMAGE, KERNEL, groups=True),
        "groups must be a whole number of at least 1, got True",
    ),
    "groups of filters": (
        lambda: conv2d(IMAGE, KERNEL, groups=3),
        "filters must be a multiple of groups, got filters 4 and",
    ),
    "groups of channels": (
        lambda: conv2d(IMAGE, KERNEL, groups=4),
        r"x of shape \(2, 4, 5, 6\) does not fit: .*groups 4",
    ),
    "a large window": (
        lambda: conv2d(IMAGE, np.ones((5, 2, 6, 4))),
        "x of shape .* height 5 and width 2 at least.*'same'",
    ),
    "a large dilation": (
        lambda: conv2d(IMAGE, KERNEL, dilation_rate=2),
        "height 5 and width 3 at least",
    ),
    "pool size": (lambda: max_pool2d(IMAGE, 0), "pool_size must be a whole number of at least 1"),
    "pool strides": (
        lambda: max_pool2d(IMAGE, strides=(2,)),
        "strides must be None, a whole number of at least 1",
    ),
    "pool padding": (
        lambda: max_pool2d(IMAGE, padding=1),
        "padding must be 'valid' or 'same', got 1",
    ),
    "a large pool": (
        lambda: max_pool2d(IMAGE, (2, 6)),
        r"x of shape \(2, 4, 5, 6\) does not fit.* width 6 at least",
    ),
    "epsilon 0": (
        lambda: layer_norm(ROW, epsilon=0.0),
        "epsilon must be a finite number above 0, got 0.0",
    ),
    "epsilon nan": (
        lambda: group_norm(ROW, groups=1, epsilon=np.nan),
        "epsilon must be a finite number above 0, got nan",
    ),
    "no groups": (
        lambda: group_norm(ROW, groups=0),
        "groups must be a whole number of at least 1, or -1",
    ),
    "groups that do not divide": (
        lambda: group_norm(ROW, groups=4),
        r"x of shape \(3, 6\) does not fit: .*groups 4, got 6",
    ),
}


@pytest.mark.parametrize(("call", "match"), BAD_ARGUMENTS.values(), ids=BAD_ARGUMENTS)
def test_bad_arguments(call, match):
    with pytest.raises(ValueError, match=match):
        call()


def test_a_bad_argument_stays_bad_after_a_good_one():
    """1.0 == 1 == True: a program that is kept for one is not to be found by the other."""
    conv2d(IMAGE, KERNEL, strides=(1, 1))
    group_norm(ROW, groups=1)
    for call in (
        lambda: conv2d(IMAGE, KERNEL, strides=(1.0, 1.0)),
        lambda: group_norm(ROW, groups=True),
    ):
        with pytest.raises(ValueError, match="must be a whole number"):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda activation: dense(ROW, np.ones((6, 2)), activation=activation),
        lambda activation: conv2d(IMAGE, KERNEL, activation=activation),
        lambda activation: layer_norm(ROW, activation=activation),
        lambda activation: group_norm(ROW, groups=2, activation=activation),
    ],
    ids=["dense", "conv2d", "layer_norm", "group_norm"],
)
def test_bad_activation(call):
    with pytest.raises(
        ValueError, match="activation: unknown activation 'rleu'; did you mean 'relu'"
    ):
        call("rleu")
    with pytest.raises(TypeError, match="activation must be None or a name"):
        call(np.tanh)
