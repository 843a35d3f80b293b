"""Batch norm of images, and of anything whose rows the threads own: moments by block of images, merged in block order.

A pixel is a row of `pixel` floats. `batch` has three rows of `width` floats: ORIGIN and SHIFT, whose sum is the mean, and INVSTD;
`state` is the layer's block of `norm.py`. With `frozen` the running statistics stand in for the batch's.
"""

from __future__ import annotations

from nbbn.kernels.norm import (
    BETA,
    GAMMA,
    RUNNING_MEAN,
    RUNNING_VAR,
    column_moments,
    running_rate,
)
from nbbn.kernels.registry import READ_ALL, READ_COLUMNS, READ_IMAGES, WRITE_COLUMNS, WRITE_IMAGES, Real, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, shift, splat, sqrt, store, where_positive
from nbbn.kernels.team import share
from nbbn.kernels.window import clear, share_images

ORIGIN, SHIFT, INVSTD = range(3)
BATCH_ROWS = 3
M2 = 2  # third row of a block's partial, after origin and shift


@inline
def merge_moments(like, before, count, origin, mean, m2, new_origin, new_mean, new_m2):
    """Mean (relative to `origin`) and m2 of two sets of `before` and `count` values (Chan, Golub and LeVeque, 1983, eq. 2.1)."""
    delta = (new_origin - origin) + (new_mean - mean)
    part = splat(like, count / (before + count))
    weight = splat(like, before * (count / (before + count)))
    return fma(delta, part, mean), fma(delta * delta, weight, m2 + new_m2)


@kernel
def image_moments(x: READ_IMAGES, pixel, pixels, partial: WRITE_IMAGES, panels, blocks, rows, thread, threads):
    """`partial[block] = origin, shift, m2` of the pixels of each own block, image by image."""
    v = lanes(x)
    width = panels * v
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            for panel in range(panels):
                out = shift(partial, block * BATCH_ROWS * width + panel * v)
                origin, mean, var = column_moments(shift(x, n * pixels * pixel + panel * v), pixel, pixels)
                m2 = var * splat(x, float(pixels))
                if n == first:
                    store(out, ORIGIN * width, origin)
                else:
                    start = load(out, ORIGIN * width)
                    mean, m2 = merge_moments(x, float((n - first) * pixels), float(pixels), start, load(out, SHIFT * width),
                                             load(out, M2 * width), origin, mean, m2)
                store(out, SHIFT * width, mean)
                store(out, M2 * width, m2)


@kernel
def image_norm_statistics(partial: READ_ALL, pixels, batch: WRITE_COLUMNS, state: WRITE_COLUMNS, panels, epsilon: Real,
                          momentum: Real, debias, update, blocks, rows, step, thread, threads):
    """Merge the blocks into `batch`; running statistics into `state`."""
    v = lanes(partial)
    width = panels * v
    first, end = share(panels, thread, threads)
    keep = running_rate(momentum, step, debias)
    old, new, one = splat(partial, keep), splat(partial, 1.0 - keep), splat(partial, 1.0)
    for panel in range(first, end):
        p, b, s = shift(partial, panel * v), shift(batch, panel * v), shift(state, panel * v)
        before = 0
        origin, mean, m2 = load(p, ORIGIN * width), splat(p, 0.0), splat(p, 0.0)
        for block in range(blocks):
            begin, stop = share(rows, block, blocks)
            count = (stop - begin) * pixels
            if count > 0:
                q = shift(p, block * BATCH_ROWS * width)
                if before == 0:
                    origin, mean, m2 = load(q, ORIGIN * width), load(q, SHIFT * width), load(q, M2 * width)
                else:
                    mean, m2 = merge_moments(p, float(before), float(count), origin, mean, m2, load(q, ORIGIN * width),
                                             load(q, SHIFT * width), load(q, M2 * width))
                before += count
        var = m2 * splat(p, 1.0 / before)
        store(b, ORIGIN * width, origin)
        store(b, SHIFT * width, mean)
        store(b, INVSTD * width, one / sqrt(var + splat(p, epsilon)))
        if update != 0:
            store(s, RUNNING_MEAN * width, fma(new, origin + mean, old * load(s, RUNNING_MEAN * width)))
            store(s, RUNNING_VAR * width, fma(new, var, old * load(s, RUNNING_VAR * width)))


@kernel
def frozen_norm_statistics(batch: WRITE_COLUMNS, state: READ_COLUMNS, panels, epsilon: Real, thread, threads):
    """The running statistics as the batch's."""
    v = lanes(batch)
    width = panels * v
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        b, s = shift(batch, panel * v), shift(state, panel * v)
        store(b, ORIGIN * width, load(s, RUNNING_MEAN * width))
        store(b, SHIFT * width, splat(b, 0.0))
        store(b, INVSTD * width, splat(b, 1.0) / sqrt(load(s, RUNNING_VAR * width) + splat(b, epsilon)))


def _forward(clip: bool):
    @inline
    def forward(x, xhat, y, batch, state, pixel, panels, first, end):
        v = lanes(x)
        width = panels * v
        zero = splat(x, 0.0)
        for panel in range(panels):
            b, s = shift(batch, panel * v), shift(state, panel * v)
            origin, mean, invstd = load(b, ORIGIN * width), load(b, SHIFT * width), load(b, INVSTD * width)
            gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
            for r in range(first, end):
                at = r * pixel + panel * v
                h = ((load(x, at) - origin) - mean) * invstd
                store(xhat, at, h)
                out = fma(gamma, h, beta)
                if clip:
                    out = maximum(out, zero)
                store(y, at, out)

    return forward


_plain_forward, _relu_forward = _forward(False), _forward(True)


@kernel
def image_norm_forward(x: READ_IMAGES, xhat: WRITE_IMAGES, y: WRITE_IMAGES, batch: READ_ALL, state: READ_ALL, pixel, pixels,
                       panels, blocks, rows, thread, threads):
    """`xhat` (may be `x`), `y = gamma * xhat + beta` of own images."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        _plain_forward(x, xhat, y, batch, state, pixel, panels, n * pixels, (n + 1) * pixels)


@kernel
def image_norm_relu_forward(x: READ_IMAGES, xhat: WRITE_IMAGES, y: WRITE_IMAGES, batch: READ_ALL, state: READ_ALL, pixel,
                            pixels, panels, blocks, rows, thread, threads):
    """`xhat` (may be `x`), `y = max(gamma * xhat + beta, 0)` of own images."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        _relu_forward(x, xhat, y, batch, state, pixel, panels, n * pixels, (n + 1) * pixels)


def _sums(clip: bool):
    @inline
    def sums(dy, xhat, state, partial, pixel, panels, first, end):
        """Add the sums of `dy * xhat` and `dy` of some pixels to `partial`; with ReLU, mask `dy`."""
        v = lanes(dy)
        width = panels * v
        zero = splat(dy, 0.0)
        for panel in range(panels):
            s, out = shift(state, panel * v), shift(partial, panel * v)
            gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
            a, b = zero, zero
            for r in range(first, end):
                at = r * pixel + panel * v
                g, h = load(dy, at), load(xhat, at)
                if clip:
                    g = where_positive(fma(gamma, h, beta), g, zero)
                    store(dy, at, g)
                a, b = fma(g, h, a), b + g
            store(out, GAMMA * width, load(out, GAMMA * width) + a)
            store(out, BETA * width, load(out, BETA * width) + b)

    return sums


_plain_sums, _relu_sums = _sums(False), _sums(True)


def _by_block(sums):
    @inline
    def by_block(dy, xhat, state, partial, pixel, pixels, panels, blocks, rows, thread, threads):
        size = 2 * panels * lanes(dy)
        begin, stop = share(blocks, thread, threads)
        for block in range(begin, stop):
            out = shift(partial, block * size)
            clear(out, size)
            first, end = share(rows, block, blocks)
            for n in range(first, end):
                sums(dy, xhat, state, out, pixel, panels, n * pixels, (n + 1) * pixels)

    return by_block


_plain_by_block, _relu_by_block = _by_block(_plain_sums), _by_block(_relu_sums)


@kernel
def image_norm_sums(dy: WRITE_IMAGES, xhat: READ_IMAGES, state: READ_ALL, partial: WRITE_IMAGES, pixel, pixels, panels, blocks,
                    rows, thread, threads):
    """`partial[block] = dgamma, dbeta` of own blocks."""
    _plain_by_block(dy, xhat, state, partial, pixel, pixels, panels, blocks, rows, thread, threads)


@kernel
def image_norm_relu_sums(dy: WRITE_IMAGES, xhat: READ_IMAGES, state: READ_ALL, partial: WRITE_IMAGES, pixel, pixels, panels,
                         blocks, rows, thread, threads):
    """The same behind a ReLU, whose mask is made anew from `xhat` and laid on `dy`."""
    _relu_by_block(dy, xhat, state, partial, pixel, pixels, panels, blocks, rows, thread, threads)


@kernel
def image_norm_backward(dy: WRITE_IMAGES, xhat: READ_IMAGES, batch: READ_ALL, state: READ_ALL, dstate: READ_ALL, pixel, pixels,
                        panels, frozen, blocks, rows, thread, threads):
    """`dx` over `dy` of own images, from the merged dgamma and dbeta in `dstate` (Ioffe and Szegedy, 2015, section 3)."""
    v = lanes(dy)
    width = panels * v
    first, end = share_images(rows, blocks, thread, threads)
    n = splat(dy, 0.0 if frozen != 0 else 1.0 / (rows * pixels))
    for image in range(first, end):
        for panel in range(panels):
            d, s, b = shift(dstate, panel * v), shift(state, panel * v), shift(batch, panel * v)
            scale = load(s, GAMMA * width) * load(b, INVSTD * width)
            slope, shift_by = load(d, GAMMA * width) * n, load(d, BETA * width) * n
            for r in range(image * pixels, (image + 1) * pixels):
                at = r * pixel + panel * v
                store(dy, at, scale * ((load(dy, at) - shift_by) - load(xhat, at) * slope))


def _inference(clip: bool):
    @inline
    def inference(x, state, pixel, panels, epsilon, first, end):
        v = lanes(x)
        width = panels * v
        zero = splat(x, 0.0)
        for panel in range(panels):
            s = shift(state, panel * v)
            scale = load(s, GAMMA * width) / sqrt(load(s, RUNNING_VAR * width) + splat(x, epsilon))
            mean, beta = load(s, RUNNING_MEAN * width), load(s, BETA * width)
            for r in range(first, end):
                at = r * pixel + panel * v
                out = fma(scale, load(x, at) - mean, beta)
                if clip:
                    out = maximum(out, zero)
                store(x, at, out)

    return inference


_plain_inference, _relu_inference = _inference(False), _inference(True)


@kernel(inference=True)
def image_norm_inference(x: WRITE_IMAGES, state: READ_ALL, pixel, pixels, panels, epsilon: Real, blocks, rows, thread, threads):
    """`x = gamma * (x - running_mean) / sqrt(running_var + epsilon) + beta` of own images."""
    first, end = share_images(rows, blocks, thread, threads)
    _plain_inference(x, state, pixel, panels, epsilon, first * pixels, end * pixels)


@kernel(inference=True)
def image_norm_relu_inference(x: WRITE_IMAGES, state: READ_ALL, pixel, pixels, panels, epsilon: Real, blocks, rows, thread,
                              threads):
    """The same, then ReLU."""
    first, end = share_images(rows, blocks, thread, threads)
    _relu_inference(x, state, pixel, panels, epsilon, first * pixels, end * pixels)
