"""Folding kernels: the folded layer against layer and batch norm, in plain float64 NumPy with
explicit loops.
"""

from itertools import product

import numpy as np
import pytest

from nbbn.fold import fold_conv, fold_dense

AFFINES = list(product((True, False), repeat=2))


def norm(y, gamma, beta, mean, var, epsilon):
    """Batch norm over the last axis, from the formula."""
    gamma = 1.0 if gamma is None else gamma
    beta = 0.0 if beta is None else beta
    return gamma * (y - mean) / np.sqrt(var + epsilon) + beta


def plus(y, bias):
    return y if bias is None else y + bias


def conv(x, kernel, groups):
    """Valid convolution, stride 1: x (h, w, in), kernel (kh, kw, in / groups, out)."""
    kh, kw, per_group, out = kernel.shape
    y = np.zeros((x.shape[0] - kh + 1, x.shape[1] - kw + 1, out))
    for i, j, o, p, q, c in np.ndindex(*y.shape, kh, kw, per_group):
        group = o // (out // groups)
        y[i, j, o] += x[i + p, j + q, group * per_group + c] * kernel[p, q, c, o]
    return y


def depthwise(x, kernel, groups):
    """Valid depthwise convolution.

    Kernel (kh, kw, in, multiplier), output channel `c * multiplier + m`.
    """
    kh, kw, channels, multiplier = kernel.shape
    y = np.zeros((x.shape[0] - kh + 1, x.shape[1] - kw + 1, channels * multiplier))
    for i, j, c, m, p, q in np.ndindex(*y.shape[:2], channels, multiplier, kh, kw):
        y[i, j, c * multiplier + m] += x[i + p, j + q, c] * kernel[p, q, c, m]
    return y


def transposed(x, kernel, groups):
    """Transposed convolution, stride 1.

    Kernel (kh, kw, out / groups, in), as the scatter that it is.
    """
    kh, kw, per_group, channels = kernel.shape
    y = np.zeros((x.shape[0] + kh - 1, x.shape[1] + kw - 1, per_group * groups))
    for i, j, c, p, q, o in np.ndindex(*x.shape, kh, kw, per_group):
        group = c // (channels // groups)
        y[i + p, j + q, group * per_group + o] += x[i, j, c] * kernel[p, q, o, c]
    return y


# kind, forward, kernel shape, groups, input channels, output channels
CONVS = [
    ("conv", conv, (2, 3, 4, 6), 1, 4, 6),
    ("conv", conv, (2, 3, 2, 6), 2, 4, 6),
    ("conv", conv, (2, 3, 1, 4), 4, 4, 4),
    ("depthwise", depthwise, (2, 3, 4, 1), 1, 4, 4),
    ("depthwise", depthwise, (2, 3, 4, 2), 1, 4, 8),
    ("depthwise", depthwise, (2, 3, 4, 2), 4, 4, 8),
    ("transposed", transposed, (2, 3, 6, 4), 1, 4, 6),
    ("transposed", transposed, (2, 3, 3, 4), 2, 4, 6),
    ("transposed", transposed, (2, 3, 2, 4), 4, 4, 8),
    ("transposed", transposed, (2, 3, 1, 4), 4, 4, 4),
    # as many inputs as outputs, so that a scale on the wrong axis has the right shape
    ("transposed", transposed, (2, 3, 4, 4), 1, 4, 4),
]


def statistics(rng, channels, scale, center):
    gamma = rng.normal(1, 0.5, channels) if scale else None
    beta = rng.normal(size=channels) if center else None
    var = rng.uniform(0.2, 4, channels)
    var[0] = 1e-14
    return gamma, beta, rng.normal(size=channels), var, 1e-3


@pytest.mark.parametrize(("scale", "center"), AFFINES)
@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_dense(rng, dtype, with_bias, scale, center):
    x = rng.normal(size=(7, 5))
    kernel = rng.normal(size=(5, 3)).astype(dtype)
    bias = rng.normal(size=3).astype(dtype) if with_bias else None
    bn = statistics(rng, 3, scale, center)
    got_kernel, got_bias = fold_dense(kernel, bias, *bn)
    ref = norm(plus(x @ kernel, bias), *bn)
    assert got_kernel.dtype == got_bias.dtype == dtype
    tolerance = 1e-12 if dtype == np.float64 else 3e-6
    np.testing.assert_allclose(
        x @ got_kernel.astype(float) + got_bias, ref, rtol=0, atol=tolerance * np.abs(ref).max()
    )


@pytest.mark.parametrize(("kind", "forward", "shape", "groups", "inputs", "outputs"), CONVS)
@pytest.mark.parametrize(
    ("scale", "center", "with_bias"),
    [(True, True, True), (False, True, True), (True, False, False)],
)
def test_conv(rng, kind, forward, shape, groups, inputs, outputs, scale, center, with_bias):
    x = rng.normal(size=(4, 5, inputs))
    kernel = rng.normal(size=shape)
    bias = rng.normal(size=outputs) if with_bias else None
    bn = statistics(rng, outputs, scale, center)
    loop_groups = inputs if kind == "depthwise" else groups
    ref = norm(plus(forward(x, kernel, loop_groups), bias), *bn)
    got_kernel, got_bias = fold_conv(kernel, bias, *bn, groups=groups, kind=kind)
    got = forward(x, got_kernel, loop_groups) + got_bias
    assert ref.shape[-1] == outputs
    np.testing.assert_allclose(got, ref, rtol=0, atol=1e-12 * np.abs(ref).max())


@pytest.mark.parametrize("spatial", [(3,), (2, 3, 2)])
@pytest.mark.parametrize(
    ("kind", "ends", "axis"), [("conv", (2, 5), -1), ("transposed", (5, 2), -2)]
)
def test_one_and_three_spatial_axes(rng, spatial, kind, ends, axis):
    kernel = rng.normal(size=(*spatial, *ends))
    bn = statistics(rng, 5, True, True)
    got, _ = fold_conv(kernel, None, *bn, kind=kind)
    gain = bn[0] / np.sqrt(bn[3] + bn[4])
    for channel in range(5):
        ref = np.take(kernel, channel, axis) * gain[channel]
        np.testing.assert_allclose(np.take(got, channel, axis), ref, rtol=1e-14)


def test_epsilon_stands_inside_the_root():
    kernel, _ = fold_dense(np.ones((1, 1)), None, None, None, [0.0], [1e-14], 1e-5)
    np.testing.assert_allclose(kernel, 1 / np.sqrt(1e-14 + 1e-5), rtol=1e-15)


def test_computes_in_float64_and_casts_last():
    # In float32, bias - mean is rounded to a multiple of 1 / 16: an error of up to 0.03 after the
    # gain of 1.
    mean, bias = np.float64(1e6 + 0.013), np.float32(1e6)
    _, got = fold_dense(np.ones((1, 1), np.float32), [bias], None, None, [mean], [1.0 - 1e-3], 1e-3)
    np.testing.assert_allclose(got, [-0.013], rtol=1e-6)


def test_arguments_are_not_written(rng):
    arguments = [rng.normal(size=(4, 3)), *rng.uniform(1, 2, size=(5, 3))]
    copies = [a.copy() for a in arguments]
    for array in arguments:
        array.setflags(write=False)
    kernel, _ = fold_dense(*arguments, 1e-3)
    assert not np.shares_memory(kernel, arguments[0])
    for array, copy in zip(arguments, copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_fortran_ordered_kernel(rng):
    kernel, bn = rng.normal(size=(4, 3)), statistics(rng, 3, True, True)
    ref, _ = fold_dense(kernel, None, *bn)
    got, _ = fold_dense(np.asfortranarray(kernel), None, *bn)
    np.testing.assert_array_equal(got, ref)
    assert got.flags.c_contiguous


def call(function=fold_dense, **changes):
    """`function` on good arguments but for `changes`."""
    shape = (2, 3) if function is fold_dense else (1, 1, 2, 3)
    good = {name: np.ones(3) for name in ("bias", "gamma", "beta", "mean", "var")}
    return function(**{"kernel": np.ones(shape), **good, "epsilon": 1e-3, **changes})


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (
            TypeError,
            "kernel must be float32 or float64, got int64",
            {"kernel": np.ones((2, 3), np.int64)},
        ),
        (ValueError, r"a dense kernel must have 2 axes, got shape \(3,\)", {"kernel": np.ones(3)}),
        (ValueError, "kernel holds NaN or infinity", {"kernel": np.full((2, 3), np.nan)}),
        (ValueError, r"bias must have shape \(3,\).*got \(2,\)", {"bias": np.ones(2)}),
        (ValueError, r"gamma must have shape \(3,\).*got \(1, 3\)", {"gamma": np.ones((1, 3))}),
        (TypeError, "beta must be real numbers, got complex128", {"beta": np.ones(3, complex)}),
        (
            ValueError,
            "mean must be given: a batch norm folds only with its running statistics",
            {"mean": None},
        ),
        (ValueError, "var must be given", {"var": None}),
        (ValueError, "mean holds NaN or infinity", {"mean": np.array([0, np.inf, 0])}),
        (
            ValueError,
            "var must not be negative, got a minimum of -0.5",
            {"var": np.array([1, -0.5, 1])},
        ),
        (TypeError, "epsilon must be a number, got str", {"epsilon": "1e-3"}),
        (ValueError, "epsilon must be above 0 and finite, got 0", {"epsilon": 0.0}),
        (ValueError, "epsilon must be above 0 and finite, got nan", {"epsilon": np.nan}),
        (
            ValueError,
            "kernel is not finite in float32 after folding: a gain .* is too large",
            {"kernel": np.full((2, 3), 1e30, np.float32), "gamma": np.full(3, 1e20)},
        ),
        (
            ValueError,
            "bias is not finite in float64 after folding",
            {"mean": np.full(3, -1e300), "gamma": np.full(3, 1e10)},
        ),
    ],
)
def test_dense_refuses(error, message, changes):
    with pytest.raises(error, match=message):
        call(**changes)


@pytest.mark.parametrize(
    ("error", "message", "changes"),
    [
        (
            ValueError,
            "kind must be one of conv, depthwise, transposed, got 'dense'",
            {"kind": "dense"},
        ),
        (
            ValueError,
            r"a conv kernel must have 3 or 4 or 5 axes, got shape \(2, 3\)",
            {"kernel": np.ones((2, 3))},
        ),
        (TypeError, "groups must be an int, got float", {"groups": 1.0}),
        (
            ValueError,
            "groups must be at least 1 and divide the 3 output channels, got 2",
            {"groups": 2},
        ),
        (
            ValueError,
            "groups must be at least 1 and divide the 3 output channels, got 0",
            {"groups": 0},
        ),
        (ValueError, "divide the 3 input channels, got 2", {"groups": 2, "kind": "transposed"}),
        (
            ValueError,
            "groups of a depthwise kernel .* must be 1 or 2, got 3",
            {"groups": 3, "kind": "depthwise"},
        ),
        (ValueError, r"bias must have shape \(6,\).*got \(3,\)", {"kind": "depthwise"}),
        (ValueError, r"bias must have shape \(2,\).*got \(3,\)", {"kind": "transposed"}),
    ],
)
def test_conv_refuses(error, message, changes):
    with pytest.raises(error, match=message):
        call(fold_conv, **changes)
