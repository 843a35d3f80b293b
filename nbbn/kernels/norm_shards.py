"""Batch norm over a batch whose shards several processes have.

Each shard leaves four rows of `width` numbers: ORIGIN, SHIFT (whose sum is the mean), M2 and COUNT,
its rows or the sum of their weights. All processes gather these and merge them in one order.
`batch` is that of `norm_images.py`. Forward and backward on rows, whose threads own columns, stand
here; images take the kernels of `norm_images.py` between what is gathered.
"""

from __future__ import annotations

from nbbn.kernels.norm import (
    BETA,
    BLOCK,
    GAMMA,
    column_moments,
    gradient_sums,
    middle,
    normalise,
    origin_of,
    running_rate,
    update_running,
)
from nbbn.kernels.norm_images import BATCH_ROWS, INVSTD, load_moments, merge_moments
from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, shift, splat, sqrt, store
from nbbn.kernels.team import share

ORIGIN, SHIFT, M2, COUNT = range(4)
MOMENT_ROWS = 4


@inline
def store_shard(out, width, origin, mean, m2, count):
    """What a shard leaves of a vector of channels."""
    store(out, ORIGIN * width, origin)
    store(out, SHIFT * width, mean)
    store(out, M2 * width, m2)
    store(out, COUNT * width, splat(out, count))


@kernel
def shard_moments(x: Read.COLUMNS, x_stride, out: Write.COLUMNS, panels, rows, thread, threads):
    """Moments of the rows of own columns."""
    v = lanes(x)
    width, zero = panels * v, splat(x, 0.0)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        own, columns = shift(out, panel * v), shift(x, panel * v)
        if rows > 0:
            origin = origin_of(columns, x_stride, rows)
            mean, var = column_moments(columns, x_stride, rows, origin)
            m2 = var * splat(x, float(rows))
            store_shard(own, width, origin, mean, m2, float(rows))
        else:
            store_shard(own, width, zero, zero, zero, 0.0)


@kernel
def shard_weighted_moments(x: Read.COLUMNS, x_stride, shares: Read.ALL, out: Write.COLUMNS, panels,
                           rows, thread, threads):
    """The same of weighted rows; `shares` are their parts of the whole batch's weight."""
    v = lanes(x)
    width, zero = panels * v, splat(x, 0.0)
    first, end = share(panels, thread, threads)
    mass = 0.0
    for r in range(rows):
        mass += float(shares[r])
    for panel in range(first, end):
        own, columns = shift(out, panel * v), shift(x, panel * v)
        origin, mean, m2 = zero, zero, zero
        if mass > 0.0:
            origin = origin_of(columns, x_stride, rows)
            for r in range(rows):
                mean = fma(splat(x, shares[r]), load(columns, r * x_stride) - origin, mean)
            mean = mean * splat(x, 1.0 / mass)
            for r in range(rows):
                slip = (load(columns, r * x_stride) - origin) - mean
                m2 = fma(splat(x, shares[r]) * slip, slip, m2)
        store_shard(own, width, origin, mean, m2, mass)


@kernel
def merge_block_moments(partial: Read.ALL, pixels, out: Write.COLUMNS, panels, blocks, rows, thread,
                        threads):
    """A shard's moments from those of its blocks of images; COUNT is that of the images."""
    v = lanes(partial)
    width, zero = panels * v, splat(partial, 0.0)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        p, before = shift(partial, panel * v), 0
        origin, mean, m2 = zero, zero, zero
        for block in range(blocks):
            begin, stop = share(rows, block, blocks)
            count = (stop - begin) * pixels
            if count > 0:
                new_origin, new_mean, new_m2 = load_moments(
                    shift(p, block * BATCH_ROWS * width), width)
                if before == 0:
                    origin, mean, m2 = new_origin, new_mean, new_m2
                else:
                    mean, m2 = merge_moments(p, float(before), float(count), origin, mean, m2,
                                             new_origin, new_mean, new_m2)
                before += count
        store_shard(shift(out, panel * v), width, origin, mean, m2, float(rows))


@inline
def shard_mean(partial, places, width, shard):
    """The mean of a shard's channels."""
    own = shift(partial, places[shard] * MOMENT_ROWS * width)
    return load(own, ORIGIN * width) + load(own, SHIFT * width)


@inline
def shard_count(partial, places, width, shard):
    """How many rows a shard has, or what they weigh."""
    return float(partial[places[shard] * MOMENT_ROWS * width + COUNT * width])


@inline
def full_shard(partial, places, width, shard, step, shards):
    """The next shard with rows, from one on; -1 where there is none."""
    while 0 <= shard < shards:
        if shard_count(partial, places, width, shard) > 0.0:
            return shard
        shard += step
    return -1


@kernel
def merge_shard_moments(partial: Read.ALL, places: INDICES, shards, pixels, batch: Write.COLUMNS,
                        state: Write.COLUMNS, panels, epsilon: Real, momentum: Real, debias, update,
                        step, thread, threads):
    """Merge the shards that stand in `places` into `batch`; running statistics into `state`."""
    v = lanes(partial)
    width = panels * v
    first, end = share(panels, thread, threads)
    keep = running_rate(momentum, step, debias)
    head = max(0, full_shard(partial, places, width, 0, 1, shards))
    tail = max(0, full_shard(partial, places, width, shards - 1, -1, shards))
    centre = max(head, full_shard(partial, places, width, (head + tail) // 2, 1, shards))
    for panel in range(first, end):
        p, b, s = shift(partial, panel * v), shift(batch, panel * v), shift(state, panel * v)
        origin = middle(shard_mean(p, places, width, head), shard_mean(p, places, width, centre),
                        shard_mean(p, places, width, tail))
        before, mean, m2 = 0.0, splat(p, 0.0), splat(p, 0.0)
        for shard in range(shards):
            count = shard_count(p, places, width, shard) * pixels
            if count > 0.0:
                own = shift(p, places[shard] * MOMENT_ROWS * width)
                new_origin, new_mean = load(own, ORIGIN * width), load(own, SHIFT * width)
                new_m2 = load(own, M2 * width)
                if before == 0.0:
                    mean, m2 = (new_origin - origin) + new_mean, new_m2
                else:
                    mean, m2 = merge_moments(p, before, count, origin, mean, m2, new_origin,
                                             new_mean, new_m2)
                before += count
        var = m2 * splat(p, 1.0 / before)
        store(b, ORIGIN * width, origin)
        store(b, SHIFT * width, mean)
        store(b, INVSTD * width, splat(p, 1.0) / sqrt(var + splat(p, epsilon)))
        if update != 0:
            update_running(s, width, keep, origin + mean, var)


_normalise_plain, _normalise_relu = normalise[False], normalise[True]
_sums_plain, _sums_relu = gradient_sums[False], gradient_sums[True]


@kernel
def shard_norm_forward(x: Read.COLUMNS, x_stride, xhat: Write.COLUMNS, xhat_stride,
                       y: Write.COLUMNS, y_stride, batch: Read.COLUMNS, state: Read.COLUMNS, relu,
                       panels, rows, thread, threads):
    """`xhat` (may be `x`), `y = gamma * xhat + beta`, with `relu` its positive part."""
    v = lanes(x)
    width = panels * v
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        origin, mean, invstd = load_moments(shift(batch, at), width)
        if relu != 0:
            _normalise_relu(shift(x, at), x_stride, shift(xhat, at), xhat_stride, shift(y, at),
                            y_stride, 0, rows, origin, mean, invstd, shift(state, at), width)
        else:
            _normalise_plain(shift(x, at), x_stride, shift(xhat, at), xhat_stride, shift(y, at),
                             y_stride, 0, rows, origin, mean, invstd, shift(state, at), width)


@kernel
def shard_norm_sums(dy: Write.COLUMNS, dy_stride, xhat: Read.COLUMNS, xhat_stride,
                    state: Read.COLUMNS, out: Write.COLUMNS, relu, panels, rows, thread, threads):
    """A shard's `dgamma, dbeta`; the mask of a ReLU, made anew, is laid on `dy`."""
    v = lanes(dy)
    width = panels * v
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        dp, xp, s = shift(dy, at), shift(xhat, at), shift(state, at)
        gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
        dgamma, dbeta = splat(dy, 0.0), splat(dy, 0.0)
        for start in range(0, rows, BLOCK):
            stop = min(start + BLOCK, rows)
            if relu != 0:
                a, b = _sums_relu(dp, dy_stride, xp, xhat_stride, start, stop, gamma, beta)
            else:
                a, b = _sums_plain(dp, dy_stride, xp, xhat_stride, start, stop, gamma, beta)
            dgamma, dbeta = dgamma + a, dbeta + b
        store(out, GAMMA * width + at, dgamma)
        store(out, BETA * width + at, dbeta)


@kernel
def shard_norm_backward(dy: Write.COLUMNS, dy_stride, xhat: Read.COLUMNS, xhat_stride,
                        batch: Read.COLUMNS, state: Read.COLUMNS, dstate: Read.COLUMNS, panels,
                        rows, batch_rows, thread, threads):
    """`dx` over `dy` from the merged dgamma and dbeta (Ioffe and Szegedy, 2015, section 3)."""
    v = lanes(dy)
    first, end = share(panels, thread, threads)
    width, n = panels * v, splat(dy, 1.0 / batch_rows)
    for panel in range(first, end):
        at = panel * v
        dp, xp, s, d = shift(dy, at), shift(xhat, at), shift(state, at), shift(dstate, at)
        scale = load(s, GAMMA * width) * load(batch, INVSTD * width + at)
        slope, drop = load(d, GAMMA * width) * n, load(d, BETA * width) * n
        for r in range(rows):
            g, h = load(dp, r * dy_stride), load(xp, r * xhat_stride)
            store(dp, r * dy_stride, scale * ((g - drop) - h * slope))


@kernel
def shard_weighted_norm_backward(dy: Write.COLUMNS, dy_stride, xhat: Read.COLUMNS, xhat_stride,
                                 batch: Read.COLUMNS, state: Read.COLUMNS, dstate: Read.COLUMNS,
                                 shares: Read.ALL, panels, rows, thread, threads):
    """The same of weighted rows, whose gradients hold their weights already."""
    v = lanes(dy)
    width = panels * v
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        dp, xp, s, d = shift(dy, at), shift(xhat, at), shift(state, at), shift(dstate, at)
        scale = load(s, GAMMA * width) * load(batch, INVSTD * width + at)
        dgamma, dbeta = load(d, GAMMA * width), load(d, BETA * width)
        for r in range(rows):
            g, h = load(dp, r * dy_stride), load(xp, r * xhat_stride)
            store(dp, r * dy_stride, scale * (g - splat(dy, shares[r]) * fma(h, dgamma, dbeta)))
