"""Batch norm of weighted rows on own columns: a row of weight 2 counts as the same row twice.

`shares` holds each row's part of the batch's weight; they sum to 1. State and splitting are those of `norm.py`.
"""

from __future__ import annotations

from nbbn.kernels.norm import BETA, GAMMA, INVSTD, MEAN, RUNNING_MEAN, RUNNING_VAR, running_rate
from nbbn.kernels.registry import READ_ALL, READ_COLUMNS, WRITE_COLUMNS, Real, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, shift, splat, sqrt, store, where_positive
from nbbn.kernels.team import share


@kernel
def norm_weighted_forward(x: READ_COLUMNS, x_stride, xhat: WRITE_COLUMNS, xhat_stride, y: WRITE_COLUMNS, y_stride,
                          state: WRITE_COLUMNS, shares: READ_ALL, relu, panels, epsilon: Real, momentum: Real, debias, rows,
                          step, thread, threads):
    """`xhat` (may be `x`), `y = gamma * xhat + beta`, with `relu` its positive part; weighted statistics into `state`."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    width = panels * v
    keep = running_rate(momentum, step, debias)
    old, new, one, zero = splat(x, keep), splat(x, 1.0 - keep), splat(x, 1.0), splat(x, 0.0)
    for panel in range(first, end):
        column = panel * v
        xp, hp, yp, s = shift(x, column), shift(xhat, column), shift(y, column), shift(state, column)
        origin, shifted, var = load(xp, 0), zero, zero
        for r in range(rows):
            shifted = fma(splat(x, shares[r]), load(xp, r * x_stride) - origin, shifted)
        for r in range(rows):
            d = (load(xp, r * x_stride) - origin) - shifted
            var = fma(splat(x, shares[r]) * d, d, var)
        mean, invstd = origin + shifted, one / sqrt(var + splat(x, epsilon))
        store(s, MEAN * width, mean)
        store(s, INVSTD * width, invstd)
        store(s, RUNNING_MEAN * width, fma(new, mean, old * load(s, RUNNING_MEAN * width)))
        store(s, RUNNING_VAR * width, fma(new, var, old * load(s, RUNNING_VAR * width)))
        gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
        for r in range(rows):
            h = ((load(xp, r * x_stride) - origin) - shifted) * invstd
            store(hp, r * xhat_stride, h)
            out = fma(gamma, h, beta)
            if relu != 0:
                out = maximum(out, zero)
            store(yp, r * y_stride, out)


@kernel
def norm_weighted_backward(dy: WRITE_COLUMNS, dy_stride, xhat: READ_COLUMNS, xhat_stride, state: READ_COLUMNS,
                           dstate: WRITE_COLUMNS, shares: READ_ALL, relu, panels, rows, thread, threads):
    """`dx` over `dy`, whose rows hold their weights already; dgamma and dbeta into `dstate`."""
    v = lanes(dy)
    first, end = share(panels, thread, threads)
    width = panels * v
    zero = splat(dy, 0.0)
    for panel in range(first, end):
        column = panel * v
        dp, xp, s = shift(dy, column), shift(xhat, column), shift(state, column)
        gamma, beta, invstd = load(s, GAMMA * width), load(s, BETA * width), load(s, INVSTD * width)
        dgamma, dbeta = zero, zero
        for r in range(rows):
            g, h = load(dp, r * dy_stride), load(xp, r * xhat_stride)
            if relu != 0:
                g = where_positive(fma(gamma, h, beta), g, zero)
                store(dp, r * dy_stride, g)
            dgamma, dbeta = fma(g, h, dgamma), dbeta + g
        store(dstate, GAMMA * width + column, dgamma)
        store(dstate, BETA * width + column, dbeta)
        scale = gamma * invstd
        for r in range(rows):
            g, h = load(dp, r * dy_stride), load(xp, r * xhat_stride)
            store(dp, r * dy_stride, scale * (g - splat(dy, shares[r]) * fma(h, dgamma, dbeta)))
