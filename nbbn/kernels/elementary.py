"""exp, expm1, sigmoid and tanh of a vector, by range reduction and a polynomial.

Their relative error is a few units in the last place.
"""

from __future__ import annotations

import math

from numba.extending import overload

from nbbn.kernels.registry import inline
from nbbn.kernels.simd import (
    absolute,
    floor,
    fma,
    maximum,
    minimum,
    power_of_two,
    splat,
    where_positive,
)

# exp(r) - 1 on |r| <= log(2) / 2 by its Taylor series (the reduction is Cody and Waite's, 1980,
# chapter 6): the first term left out is below half a unit in the last place, 6e-9 after 8 terms in
# float32, 1e-17 after 14 in float64.
_TERMS = {32: 8, 64: 14}
# log(2) = high + low, where n * high is exact.
_LOG2_HIGH = {32: 0.693359375, 64: 0.693145751953125}
# Beyond this exp counts as 0, or stays at the last power within the normal range.
_LIMIT = {32: 87.0, 64: 708.0}


def _reduced(like, x):
    """`(exp(r) - 1, 2 ** n)` with x = n * log(2) + r, x bounded to the normal range."""


def _limit(like):
    """Where `exp` ends, by dtype."""


@overload(_limit)
def _limit_overload(like):
    limit = _LIMIT[like.dtype.bitwidth]
    return lambda like: limit


@overload(_reduced)
def _reduced_overload(like, x):
    bits = like.dtype.bitwidth
    terms, high, limit = _TERMS[bits], _LOG2_HIGH[bits], _LIMIT[bits]
    low = math.log(2) - high
    per_log2 = 1 / math.log(2)
    coefficients = tuple(1 / math.factorial(k) for k in range(terms, 0, -1))
    def implementation(like, x):
        bounded = minimum(maximum(x, splat(like, -limit)), splat(like, limit))
        n = floor(fma(bounded, splat(like, per_log2), splat(like, 0.5)))
        r = fma(n, splat(like, -high), bounded)
        r = fma(n, splat(like, -low), r)
        p = splat(like, coefficients[0])
        for k in range(1, terms):
            p = fma(p, r, splat(like, coefficients[k]))
        return p * r, power_of_two(n)
    return implementation


@inline
def exp(like, x):
    """`e ** x`; 0 below -87 (float32) or -708 (float64), NaN for NaN."""
    m, power = _reduced(like, x)
    zero = splat(like, 0.0)
    return where_positive(zero - x - splat(like, _limit(like)), zero, fma(m, power, power))


@inline
def expm1(like, x):
    """`e ** x - 1`, exact near 0 too; for x up to 87 (float32) or 708 (float64)."""
    m, power = _reduced(like, x)
    return fma(m, power, power - splat(like, 1.0))


@inline
def sigmoid(like, x):
    """`1 / (1 + exp(-x))` from `exp(-|x|)`, which cannot overflow."""
    one = splat(like, 1.0)
    e = exp(like, splat(like, 0.0) - absolute(x))
    return where_positive(x, one / (one + e), e / (one + e))


@inline
def tanh(like, x):
    """`-t / (t + 2)` with `t = exp(-2|x|) - 1`, and the sign of x: exact near 0 too."""
    one, zero = splat(like, 1.0), splat(like, 0.0)
    t = expm1(like, splat(like, -2.0) * absolute(x))
    size = (zero - t) / (t + one + one)
    return where_positive(x, size, zero - size)
