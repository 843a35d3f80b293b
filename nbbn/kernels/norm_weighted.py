"""Batch norm of weighted rows on own columns: a row of weight 2 counts as the same row twice.

`shares` holds each row's part of the batch's weight; they sum to 1. State and splitting are those
of `norm.py`.
"""

from __future__ import annotations

from nbbn.kernels.norm import (
    BETA,
    GAMMA,
    INVSTD,
    gradient_sums,
    normalise,
    running_rate,
    store_statistics,
)
from nbbn.kernels.registry import READ_ALL, READ_COLUMNS, WRITE_COLUMNS, Real, kernel
from nbbn.kernels.simd import fma, lanes, load, shift, splat, store
from nbbn.kernels.team import share

_normalise, _normalise_relu = normalise[False], normalise[True]
_sums, _sums_relu = gradient_sums[False], gradient_sums[True]


@kernel
def norm_weighted_forward(x: READ_COLUMNS, x_stride, xhat: WRITE_COLUMNS, xhat_stride,
                          y: WRITE_COLUMNS, y_stride, state: WRITE_COLUMNS, shares: READ_ALL, relu,
                          panels, epsilon: Real, momentum: Real, debias, rows, step, thread,
                          threads):
    """`xhat` (may be `x`), `y = gamma * xhat + beta`, with `relu` its positive part.

    Weighted statistics go into `state`.
    """
    v = lanes(x)
    first, end = share(panels, thread, threads)
    width, keep = panels * v, running_rate(momentum, step, debias)
    for panel in range(first, end):
        at = panel * v
        xp, hp, yp, s = shift(x, at), shift(xhat, at), shift(y, at), shift(state, at)
        origin, mean, var = load(xp, 0), splat(x, 0.0), splat(x, 0.0)
        for r in range(rows):
            mean = fma(splat(x, shares[r]), load(xp, r * x_stride) - origin, mean)
        for r in range(rows):
            d = (load(xp, r * x_stride) - origin) - mean
            var = fma(splat(x, shares[r]) * d, d, var)
        invstd = store_statistics(s, width, keep, epsilon, origin + mean, var)
        if relu != 0:
            _normalise_relu(xp, x_stride, hp, xhat_stride, yp, y_stride, 0, rows, origin, mean,
                            invstd, s, width)
        else:
            _normalise(xp, x_stride, hp, xhat_stride, yp, y_stride, 0, rows, origin, mean, invstd,
                       s, width)


@kernel
def norm_weighted_backward(dy: WRITE_COLUMNS, dy_stride, xhat: READ_COLUMNS, xhat_stride,
                           state: READ_COLUMNS, dstate: WRITE_COLUMNS, shares: READ_ALL, relu,
                           panels, rows, thread, threads):
    """`dx` over `dy`, whose rows hold their weights already; dgamma and dbeta into `dstate`."""
    v = lanes(dy)
    first, end = share(panels, thread, threads)
    width = panels * v
    for panel in range(first, end):
        at = panel * v
        dp, xp, s = shift(dy, at), shift(xhat, at), shift(state, at)
        gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
        if relu != 0:
            dgamma, dbeta = _sums_relu(dp, dy_stride, xp, xhat_stride, 0, rows, gamma, beta)
        else:
            dgamma, dbeta = _sums(dp, dy_stride, xp, xhat_stride, 0, rows, gamma, beta)
        store(dstate, GAMMA * width + at, dgamma)
        store(dstate, BETA * width + at, dbeta)
        scale = gamma * load(s, INVSTD * width)
        for r in range(rows):
            g, h = load(dp, r * dy_stride), load(xp, r * xhat_stride)
            store(dp, r * dy_stride, scale * (g - splat(dy, shares[r]) * fma(h, dgamma, dbeta)))
