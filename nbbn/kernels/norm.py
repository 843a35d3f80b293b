"""Batch norm on own columns: training forward and backward, and inference as an affine map.

The per-channel numbers of a layer stand in one block, `state`, of rows of `width` floats: GAMMA,
BETA, MEAN, INVSTD of the batch, RUNNING_MEAN, RUNNING_VAR. The helpers for a vector of channels
serve the norms of images too.
"""

from __future__ import annotations

from nbbn.kernels.registry import Read, Real, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, shift, splat, sqrt, store, where_positive
from nbbn.kernels.team import share
from nbbn.kernels.window import clear

GAMMA, BETA, MEAN, INVSTD, RUNNING_MEAN, RUNNING_VAR = range(6)
STATE_ROWS = 6
# Rows summed in one go before they join the total: keeps the error of long float32 sums down
# (two-level summation).
BLOCK = 128


# -- of a vector of channels


def _column_sum(squares: bool):
    """The sum of `x - origin`, or of the squares of what is then left without `mean`."""
    @inline
    def column_sum(x, stride, rows, origin, mean):
        zero = splat(x, 0.0)
        total = zero
        for start in range(0, rows, BLOCK):
            a, b, c, d = zero, zero, zero, zero
            end = min(start + BLOCK, rows)
            r = start
            while r + 4 <= end:
                t = load(x, r * stride) - origin
                u = load(x, (r + 1) * stride) - origin
                v = load(x, (r + 2) * stride) - origin
                w = load(x, (r + 3) * stride) - origin
                if squares:
                    t, u, v, w = t - mean, u - mean, v - mean, w - mean
                    a, b, c, d = fma(t, t, a), fma(u, u, b), fma(v, v, c), fma(w, w, d)
                else:
                    a, b, c, d = a + t, b + u, c + v, d + w
                r += 4
            while r < end:
                t = load(x, r * stride) - origin
                if squares:
                    t = t - mean
                    a = fma(t, t, a)
                else:
                    a = a + t
                r += 1
            total = total + ((a + b) + (c + d))
        return total
    return column_sum


_sum, _sum_of_squares = _column_sum(False), _column_sum(True)


@inline
def column_moments(x, stride, rows):
    """First row, mean and biased variance of a vector of columns; the mean relative to that row.

    Two passes over values shifted by the first row (Chan, Golub and LeVeque, 1983, eq. 1.7 and
    section 3): exact for a constant column, and as precise at a mean of 1e6 as at 0.
    """
    n, origin = splat(x, 1.0 / rows), load(x, 0)
    mean = _sum(x, stride, rows, origin, splat(x, 0.0)) * n
    return origin, mean, _sum_of_squares(x, stride, rows, origin, mean) * n


@inline
def running_rate(momentum, step, debias):
    """Weight of the old value; with `debias` no memory of the start (Kingma and Ba, 2015, s. 3)."""
    if debias == 0:
        return momentum
    if step == 0 or momentum == 0.0:
        return 0.0
    if momentum >= 1.0:
        return step / (step + 1.0)
    return momentum * (1.0 - momentum**step) / (1.0 - momentum ** (step + 1))


@inline
def update_running(state, width, keep, mean, var):
    """Move the running statistics: the old ones count `keep`."""
    old, new = splat(state, keep), splat(state, 1.0 - keep)
    old_mean, old_var = load(state, RUNNING_MEAN * width), load(state, RUNNING_VAR * width)
    store(state, RUNNING_MEAN * width, fma(new, mean, old * old_mean))
    store(state, RUNNING_VAR * width, fma(new, var, old * old_var))


@inline
def store_statistics(state, width, keep, epsilon, mean, var):
    """The batch's statistics into `state`; return `1 / sqrt(var + epsilon)`."""
    invstd = splat(state, 1.0) / sqrt(var + splat(state, epsilon))
    store(state, MEAN * width, mean)
    store(state, INVSTD * width, invstd)
    update_running(state, width, keep, mean, var)
    return invstd


def _normalise(clip: bool):
    @inline
    def normalise(x, x_step, xhat, xhat_step, y, y_step, first, end, origin, mean, invstd, state,
                  width):
        """`xhat` and `y` of some rows of a vector of channels."""
        zero = splat(x, 0.0)
        gamma, beta = load(state, GAMMA * width), load(state, BETA * width)
        for r in range(first, end):
            h = ((load(x, r * x_step) - origin) - mean) * invstd
            store(xhat, r * xhat_step, h)
            out = fma(gamma, h, beta)
            if clip:
                out = maximum(out, zero)
            store(y, r * y_step, out)
    return normalise


def _affine(clip: bool):
    @inline
    def affine(x, x_step, y, y_step, first, end, state, width, epsilon):
        """`y` of some rows of a vector of channels, from the running statistics."""
        zero = splat(x, 0.0)
        std = sqrt(load(state, RUNNING_VAR * width) + splat(x, epsilon))
        scale = load(state, GAMMA * width) / std
        mean, beta = load(state, RUNNING_MEAN * width), load(state, BETA * width)
        for r in range(first, end):
            out = fma(scale, load(x, r * x_step) - mean, beta)
            if clip:
                out = maximum(out, zero)
            store(y, r * y_step, out)
    return affine


def _gradient_sums(clip: bool):
    @inline
    def gradient_sums(dy, dy_step, xhat, xhat_step, first, end, gamma, beta):
        """Sums of `dy * xhat` and `dy` of some rows; behind a ReLU `dy` is masked first."""
        zero = splat(dy, 0.0)
        a, b = zero, zero
        for r in range(first, end):
            g, h = load(dy, r * dy_step), load(xhat, r * xhat_step)
            if clip:
                g = where_positive(fma(gamma, h, beta), g, zero)
                store(dy, r * dy_step, g)
            a, b = fma(g, h, a), b + g
        return a, b
    return gradient_sums


@inline
def cleared_sums(partial, block, width):
    """A block's `dgamma, dbeta`, at 0."""
    sums = shift(partial, block * 2 * width)
    clear(sums, 2 * width)
    return sums


# By whether a ReLU follows.
normalise = {clip: _normalise(clip) for clip in (False, True)}
affine = {clip: _affine(clip) for clip in (False, True)}
gradient_sums = {clip: _gradient_sums(clip) for clip in (False, True)}


# -- kernels


def _kernels(relu: str) -> None:
    """Register the kernels of a norm, behind which a ReLU follows or not."""
    clip = bool(relu)
    own_normalise, own_affine, own_sums = normalise[clip], affine[clip], gradient_sums[clip]

    @kernel(name=f"norm{relu}_forward")
    def forward(x: Read.COLUMNS, x_stride, xhat: Write.COLUMNS, xhat_stride, y: Write.COLUMNS,
                y_stride, state: Write.COLUMNS, panels, epsilon: Real, momentum: Real, debias, rows,
                step, thread, threads):
        """`xhat` (may be `x`), `y = gamma * xhat + beta`; statistics into `state`."""
        v = lanes(x)
        first, end = share(panels, thread, threads)
        width, keep = panels * v, running_rate(momentum, step, debias)
        for panel in range(first, end):
            at = panel * v
            columns, s = shift(x, at), shift(state, at)
            origin, mean, var = column_moments(columns, x_stride, rows)
            invstd = store_statistics(s, width, keep, epsilon, origin + mean, var)
            own_normalise(columns, x_stride, shift(xhat, at), xhat_stride, shift(y, at), y_stride,
                          0, rows, origin, mean, invstd, s, width)

    @kernel(name=f"norm{relu}_backward")
    def backward(dy: Write.COLUMNS, dy_stride, xhat: Read.COLUMNS, xhat_stride, state: Read.COLUMNS,
                 dstate: Write.COLUMNS, panels, rows, thread, threads):
        """`dx` over `dy` (Ioffe and Szegedy, 2015, section 3); dgamma and dbeta into `dstate`.

        The mask of a ReLU is made anew from `xhat`.
        """
        v = lanes(dy)
        first, end = share(panels, thread, threads)
        width, n = panels * v, splat(dy, 1.0 / rows)
        for panel in range(first, end):
            at = panel * v
            dp, xp, s = shift(dy, at), shift(xhat, at), shift(state, at)
            gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
            dgamma, dbeta = splat(dy, 0.0), splat(dy, 0.0)
            for start in range(0, rows, BLOCK):
                a, b = own_sums(dp, dy_stride, xp, xhat_stride, start, min(start + BLOCK, rows),
                                gamma, beta)
                dgamma, dbeta = dgamma + a, dbeta + b
            store(dstate, GAMMA * width + at, dgamma)
            store(dstate, BETA * width + at, dbeta)
            scale = gamma * load(s, INVSTD * width)
            drop, slope = dbeta * n, dgamma * n
            for r in range(rows):
                g, h = load(dp, r * dy_stride), load(xp, r * xhat_stride)
                store(dp, r * dy_stride, scale * ((g - drop) - h * slope))

    @kernel(name=f"norm{relu}_inference", inference=True)
    def inference(x: Read.COLUMNS, x_stride, y: Write.COLUMNS, y_stride, state: Read.COLUMNS,
                  panels, epsilon: Real, rows, thread, threads):
        """`y = gamma * (x - running_mean) / sqrt(running_var + epsilon) + beta`; `y` may be `x`."""
        v = lanes(x)
        first, end = share(panels, thread, threads)
        for panel in range(first, end):
            at = panel * v
            own_affine(shift(x, at), x_stride, shift(y, at), y_stride, 0, rows, shift(state, at),
                       panels * v, epsilon)


for _relu in ("", "_relu"):
    _kernels(_relu)


# -- of weighted rows: a row of weight 2 counts as the same row twice. `shares` holds each row's
# part of the batch's weight; they sum to 1.

_normalise_plain, _normalise_relu = normalise[False], normalise[True]
_sums_plain, _sums_relu = gradient_sums[False], gradient_sums[True]


@kernel
def norm_weighted_forward(x: Read.COLUMNS, x_stride, xhat: Write.COLUMNS, xhat_stride,
                          y: Write.COLUMNS, y_stride, state: Write.COLUMNS, shares: Read.ALL, relu,
                          panels, epsilon: Real, momentum: Real, debias, rows, step, thread,
                          threads):
    """`xhat` (may be `x`), `y`, with `relu` its positive part; weighted statistics into `state`."""
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
            _normalise_plain(xp, x_stride, hp, xhat_stride, yp, y_stride, 0, rows, origin, mean,
                             invstd, s, width)


@kernel
def norm_weighted_backward(dy: Write.COLUMNS, dy_stride, xhat: Read.COLUMNS, xhat_stride,
                           state: Read.COLUMNS, dstate: Write.COLUMNS, shares: Read.ALL, relu,
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
            dgamma, dbeta = _sums_plain(dp, dy_stride, xp, xhat_stride, 0, rows, gamma, beta)
        store(dstate, GAMMA * width + at, dgamma)
        store(dstate, BETA * width + at, dbeta)
        scale = gamma * load(s, INVSTD * width)
        for r in range(rows):
            g, h = load(dp, r * dy_stride), load(xp, r * xhat_stride)
            store(dp, r * dy_stride, scale * (g - splat(dy, shares[r]) * fma(h, dgamma, dbeta)))
