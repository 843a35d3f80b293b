"""Batch norm on own columns: training forward and backward, with ReLU fused or not, and inference as an affine map.

The per-channel numbers of a layer stand in one block, `state`, of rows of `width` floats: GAMMA, BETA, MEAN, INVSTD of the
batch, RUNNING_MEAN, RUNNING_VAR.
"""

from __future__ import annotations

from nbbn.kernels.registry import READ_COLUMNS, WRITE_COLUMNS, Real, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, shift, splat, sqrt, store, where_positive
from nbbn.kernels.team import share

GAMMA, BETA, MEAN, INVSTD, RUNNING_MEAN, RUNNING_VAR = range(6)
STATE_ROWS = 6
# Rows summed in one go before they join the total: keeps the error of long float32 sums down (two-level summation).
BLOCK = 128


@inline
def column_moments(x, stride, rows):
    """First row, mean and biased variance of a vector of columns, the mean relative to the first row.

    Two passes over values shifted by the first row (Chan, Golub and LeVeque, 1983, eq. 1.7 and section 3): exact for a constant
    column, and as precise at a mean of 1e6 as at 0.
    """
    zero = splat(x, 0.0)
    n = splat(x, 1.0 / rows)
    origin = load(x, 0)
    total = zero
    for start in range(0, rows, BLOCK):
        a, b, c, d = zero, zero, zero, zero
        end = min(start + BLOCK, rows)
        r = start
        while r + 4 <= end:
            a = a + (load(x, r * stride) - origin)
            b = b + (load(x, (r + 1) * stride) - origin)
            c = c + (load(x, (r + 2) * stride) - origin)
            d = d + (load(x, (r + 3) * stride) - origin)
            r += 4
        while r < end:
            a = a + (load(x, r * stride) - origin)
            r += 1
        total = total + ((a + b) + (c + d))
    mean = total * n
    total = zero
    for start in range(0, rows, BLOCK):
        a, b, c, d = zero, zero, zero, zero
        end = min(start + BLOCK, rows)
        r = start
        while r + 4 <= end:
            t = (load(x, r * stride) - origin) - mean
            u = (load(x, (r + 1) * stride) - origin) - mean
            v = (load(x, (r + 2) * stride) - origin) - mean
            w = (load(x, (r + 3) * stride) - origin) - mean
            a, b, c, d = fma(t, t, a), fma(u, u, b), fma(v, v, c), fma(w, w, d)
            r += 4
        while r < end:
            t = (load(x, r * stride) - origin) - mean
            a = fma(t, t, a)
            r += 1
        total = total + ((a + b) + (c + d))
    return origin, mean, total * n


@inline
def running_rate(momentum, step, debias):
    """Weight of the old running value; with `debias` the average has no memory of its start (Kingma and Ba, 2015, sec. 3)."""
    if debias == 0:
        return momentum
    if step == 0 or momentum == 0.0:
        return 0.0
    if momentum >= 1.0:
        return step / (step + 1.0)
    return momentum * (1.0 - momentum**step) / (1.0 - momentum ** (step + 1))


def _forward(clip: bool):
    @inline
    def forward(x, x_stride, xhat, xhat_stride, y, y_stride, state, panels, epsilon, momentum, debias, rows, step, thread,
                threads):
        v = lanes(x)
        first, end = share(panels, thread, threads)
        width = panels * v
        keep = running_rate(momentum, step, debias)
        old, new = splat(x, keep), splat(x, 1.0 - keep)
        one, zero = splat(x, 1.0), splat(x, 0.0)
        for panel in range(first, end):
            column = panel * v
            xp, hp, yp, s = shift(x, column), shift(xhat, column), shift(y, column), shift(state, column)
            origin, shifted, var = column_moments(xp, x_stride, rows)
            mean = origin + shifted
            invstd = one / sqrt(var + splat(x, epsilon))
            store(s, MEAN * width, mean)
            store(s, INVSTD * width, invstd)
            store(s, RUNNING_MEAN * width, fma(new, mean, old * load(s, RUNNING_MEAN * width)))
            store(s, RUNNING_VAR * width, fma(new, var, old * load(s, RUNNING_VAR * width)))
            gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
            for r in range(rows):
                h = ((load(xp, r * x_stride) - origin) - shifted) * invstd
                store(hp, r * xhat_stride, h)
                out = fma(gamma, h, beta)
                if clip:
                    out = maximum(out, zero)
                store(yp, r * y_stride, out)

    return forward


def _backward(clip: bool):
    @inline
    def backward(dy, dy_stride, xhat, xhat_stride, state, dstate, panels, rows, thread, threads):
        v = lanes(dy)
        first, end = share(panels, thread, threads)
        width = panels * v
        zero, n = splat(dy, 0.0), splat(dy, 1.0 / rows)
        for panel in range(first, end):
            column = panel * v
            dp, xp, s = shift(dy, column), shift(xhat, column), shift(state, column)
            gamma, beta, invstd = load(s, GAMMA * width), load(s, BETA * width), load(s, INVSTD * width)
            dgamma, dbeta = zero, zero
            for start in range(0, rows, BLOCK):
                a, b = zero, zero
                for r in range(start, min(start + BLOCK, rows)):
                    g, x = load(dp, r * dy_stride), load(xp, r * xhat_stride)
                    if clip:
                        g = where_positive(fma(gamma, x, beta), g, zero)
                        store(dp, r * dy_stride, g)
                    a, b = fma(g, x, a), b + g
                dgamma, dbeta = dgamma + a, dbeta + b
            store(dstate, GAMMA * width + column, dgamma)
            store(dstate, BETA * width + column, dbeta)
            scale = gamma * invstd
            shift_by, slope = dbeta * n, dgamma * n
            for r in range(rows):
                g, x = load(dp, r * dy_stride), load(xp, r * xhat_stride)
                store(dp, r * dy_stride, scale * ((g - shift_by) - x * slope))

    return backward


_plain_forward, _relu_forward = _forward(False), _forward(True)
_plain_backward, _relu_backward = _backward(False), _backward(True)


@kernel
def norm_forward(x: READ_COLUMNS, x_stride, xhat: WRITE_COLUMNS, xhat_stride, y: WRITE_COLUMNS, y_stride,
                 state: WRITE_COLUMNS, panels, epsilon: Real, momentum: Real, debias, rows, step, thread, threads):
    """`xhat` (may be `x`), `y = gamma * xhat + beta`; batch and running statistics into `state`."""
    _plain_forward(x, x_stride, xhat, xhat_stride, y, y_stride, state, panels, epsilon, momentum, debias, rows, step, thread,
                   threads)


@kernel
def norm_relu_forward(x: READ_COLUMNS, x_stride, xhat: WRITE_COLUMNS, xhat_stride, y: WRITE_COLUMNS, y_stride,
                      state: WRITE_COLUMNS, panels, epsilon: Real, momentum: Real, debias, rows, step, thread, threads):
    """`xhat` (may be `x`), `y = max(gamma * xhat + beta, 0)`; batch and running statistics into `state`."""
    _relu_forward(x, x_stride, xhat, xhat_stride, y, y_stride, state, panels, epsilon, momentum, debias, rows, step, thread,
                  threads)


@kernel
def norm_backward(dy: WRITE_COLUMNS, dy_stride, xhat: READ_COLUMNS, xhat_stride, state: READ_COLUMNS, dstate: WRITE_COLUMNS,
                  panels, rows, thread, threads):
    """`dx` over `dy` (Ioffe and Szegedy, 2015, section 3); dgamma and dbeta into `dstate`."""
    _plain_backward(dy, dy_stride, xhat, xhat_stride, state, dstate, panels, rows, thread, threads)


@kernel
def norm_relu_backward(dy: WRITE_COLUMNS, dy_stride, xhat: READ_COLUMNS, xhat_stride, state: READ_COLUMNS,
                       dstate: WRITE_COLUMNS, panels, rows, thread, threads):
    """The same behind a ReLU, whose mask is made anew from `xhat`."""
    _relu_backward(dy, dy_stride, xhat, xhat_stride, state, dstate, panels, rows, thread, threads)


def _inference(clip: bool):
    @inline
    def inference(x, x_stride, y, y_stride, state, panels, epsilon, rows, thread, threads):
        v = lanes(x)
        first, end = share(panels, thread, threads)
        width = panels * v
        zero = splat(x, 0.0)
        for panel in range(first, end):
            column = panel * v
            s = shift(state, column)
            scale = load(s, GAMMA * width) / sqrt(load(s, RUNNING_VAR * width) + splat(x, epsilon))
            mean, beta = load(s, RUNNING_MEAN * width), load(s, BETA * width)
            for r in range(rows):
                out = fma(scale, load(x, r * x_stride + column) - mean, beta)
                if clip:
                    out = maximum(out, zero)
                store(y, r * y_stride + column, out)

    return inference


_plain_inference, _relu_inference = _inference(False), _inference(True)


@kernel(inference=True)
def norm_inference(x: READ_COLUMNS, x_stride, y: WRITE_COLUMNS, y_stride, state: READ_COLUMNS, panels, epsilon: Real, rows,
                   thread, threads):
    """`y = gamma * (x - running_mean) / sqrt(running_var + epsilon) + beta`; `y` may be `x`."""
    _plain_inference(x, x_stride, y, y_stride, state, panels, epsilon, rows, thread, threads)


@kernel(inference=True)
def norm_relu_inference(x: READ_COLUMNS, x_stride, y: WRITE_COLUMNS, y_stride, state: READ_COLUMNS, panels, epsilon: Real,
                        rows, thread, threads):
    """The same, then ReLU."""
    _relu_inference(x, x_stride, y, y_stride, state, panels, epsilon, rows, thread, threads)
