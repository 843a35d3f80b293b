"""Batch norm of images, and of anything whose rows the threads own.

Moments are taken by block of images and merged in block order. A pixel is a row of `pixel` floats;
a feature vector is an image of one pixel. With `frozen` the running statistics stand in for the
batch's. The blocks of per-channel numbers are those of `norm.py`.
"""

from __future__ import annotations

from nbbn.kernels.norm import (
    BATCH_ROWS,
    BETA,
    BLOCK,
    GAMMA,
    INVSTD,
    ORIGIN,
    RUNNING_MEAN,
    RUNNING_VAR,
    SHIFT,
    affine_of,
    block_moments,
    centred,
    cleared_sums,
    floor_of,
    gradient_sums,
    input_gradient,
    merge_block,
    middle,
    normalise,
    normalised,
    origin_of,
    running_rate,
    slope_of,
    store_batch,
    update_running,
)
from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    maximum,
    shift,
    splat,
    store,
    where_above,
    where_positive,
)
from nbbn.kernels.team import share, share_images
from nbbn.kernels.window import HEIGHT, KERNEL_H, KERNEL_W, OUT_H, OUT_W, WIDTH, out_at, pixel_at


@inline
def run_of(pixels):
    """Pixels of a run, which is taken channels after channels: whole images, as few as may be."""
    return pixels * max(1, BLOCK // pixels)


@kernel
def image_moments(x: Read.IMAGES, pixel, pixels, partial: Write.IMAGES, panels, blocks, rows,
                  thread, threads):
    """`partial[block] = origin, shift, m2` of the pixels of each own block."""
    v = lanes(x)
    width = panels * v
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        first, end = share(rows, block, blocks)
        count = (end - first) * pixels
        if count > 0:
            own, out = shift(x, first * pixels * pixel), shift(partial, block * BATCH_ROWS * width)
            for at in range(0, width, v):
                store(out, ORIGIN * width + at, origin_of(shift(own, at), pixel, count))
            block_moments(own, pixel, count, run_of(pixels), panels, out)


@inline
def _block_mean(partial, width, row, blocks, rows):
    """The mean of the block that a row is in."""
    mean = splat(partial, 0.0)
    for block in range(blocks):
        begin, stop = share(rows, block, blocks)
        if begin <= row < stop:
            of = shift(partial, block * BATCH_ROWS * width)
            mean = load(of, ORIGIN * width) + load(of, SHIFT * width)
    return mean


@kernel
def image_norm_statistics(partial: Read.ALL, pixels, batch: Write.COLUMNS, state: Write.COLUMNS,
                          panels, epsilon: Real, momentum: Real, debias, update, blocks, rows, step,
                          thread, threads):
    """Merge the blocks into `batch`; running statistics into `state`."""
    v = lanes(partial)
    width = panels * v
    first, end = share(panels, thread, threads)
    keep = running_rate(momentum, step, debias)
    for panel in range(first, end):
        p, s = shift(partial, panel * v), shift(state, panel * v)
        origin = middle(_block_mean(p, width, 0, blocks, rows),
                        _block_mean(p, width, rows // 2, blocks, rows),
                        _block_mean(p, width, rows - 1, blocks, rows))
        mean, m2, before = splat(p, 0.0), splat(p, 0.0), 0
        for block in range(blocks):
            begin, stop = share(rows, block, blocks)
            count = (stop - begin) * pixels
            if count > 0:
                mean, m2 = merge_block(before, count, origin, mean, m2,
                                       shift(p, block * BATCH_ROWS * width), width)
                before += count
        var = m2 * splat(p, 1.0 / before)
        store_batch(shift(batch, panel * v), width, origin, mean, var, epsilon)
        if update != 0:
            update_running(s, width, keep, origin + mean, var)


@kernel
def frozen_norm_statistics(batch: Write.COLUMNS, state: Read.COLUMNS, panels, epsilon: Real, thread,
                           threads):
    """The running statistics as the batch's."""
    v = lanes(batch)
    width = panels * v
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        s = shift(state, panel * v)
        store_batch(shift(batch, panel * v), width, load(s, RUNNING_MEAN * width),
                    splat(batch, 0.0), load(s, RUNNING_VAR * width), epsilon)


@kernel
def image_norm_forward(x: Read.IMAGES, y: Write.IMAGES, batch: Read.ALL, state: Read.ALL, relu,
                       pixel, pixels, panels, blocks, rows, thread, threads):
    """`y = gamma * xhat + beta` of own images, with `relu` its positive part."""
    v = lanes(x)
    first, end = share_images(rows, blocks, thread, threads)
    run = run_of(pixels)
    for start in range(first * pixels, end * pixels, run):
        count = min(run, end * pixels - start)
        for at in range(0, panels * v, v):
            of = affine_of(shift(batch, at), shift(state, at), panels * v)
            normalise(shift(x, start * pixel + at), pixel, shift(y, start * pixel + at), pixel,
                      count, of, floor_of(x, relu), False)


@kernel
def image_norm_sums(dy: Read.IMAGES, x: Read.IMAGES, batch: Read.ALL, state: Read.ALL,
                    partial: Write.IMAGES, relu, pixel, pixels, panels, blocks, rows, thread,
                    threads):
    """`partial[block] = dgamma, dbeta`."""
    v = lanes(dy)
    width, run, floor = panels * v, run_of(pixels), floor_of(dy, relu)
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        sums = cleared_sums(partial, block, width)
        first, end = share(rows, block, blocks)
        for start in range(first * pixels, end * pixels, run):
            count = min(run, end * pixels - start)
            for at in range(0, width, v):
                b, out = shift(batch, at), shift(sums, at)
                slope, drop = gradient_sums(
                    shift(dy, start * pixel + at), pixel, shift(x, start * pixel + at), pixel,
                    count, affine_of(b, shift(state, at), width), floor)
                add_sums(out, width, slope * load(b, INVSTD * width), drop)


@inline
def add_sums(sums, width, dgamma, dbeta):
    """Add to a block's `dgamma, dbeta`."""
    store(sums, GAMMA * width, load(sums, GAMMA * width) + dgamma)
    store(sums, BETA * width, load(sums, BETA * width) + dbeta)


@kernel
def image_norm_backward(dy: Write.IMAGES, x: Read.IMAGES, batch: Read.ALL, state: Read.ALL,
                        dstate: Read.ALL, relu, pixel, pixels, panels, frozen, blocks, rows,
                        batch_rows, thread, threads):
    """`dx` over `dy` from dgamma and dbeta in `dstate`."""
    v = lanes(dy)
    width, run, floor = panels * v, run_of(pixels), floor_of(dy, relu)
    first, end = share_images(rows, blocks, thread, threads)
    part = 0.0 if frozen != 0 else 1.0 / (batch_rows * pixels)
    for start in range(first * pixels, end * pixels, run):
        count = min(run, end * pixels - start)
        for at in range(0, width, v):
            b, own = shift(batch, at), shift(dy, start * pixel + at)
            input_gradient(own, pixel, shift(x, start * pixel + at), pixel, own, pixel, count, None,
                           affine_of(b, shift(state, at), width), floor,
                           slope_of(b, shift(dstate, at), width, part), False)


# -- with a ReLU and a maximum pool in one: what lies between a convolution and the next is never
# stored. The gradient takes the place of the convolution's output. The pool's windows neither
# overlap nor leave gaps, but for what is left over at the right and at the bottom.


@inline
def window_best(w, z, corner, of):
    """The largest normalised value of a window."""
    best = normalised(z, corner, of)
    for k in range(w[KERNEL_H]):
        for m in range(w[KERNEL_W]):
            best = maximum(best, normalised(z, corner + pixel_at(w, k, m), of))
    return best


@inline
def window_gradient(w, z, dy, i, j, of, floor):
    """Place of a window's first pixel, its largest normalised value, and its gradient."""
    corner = pixel_at(w, i * w[KERNEL_H], j * w[KERNEL_W])
    best = window_best(w, z, corner, of)
    return corner, best, where_above(best, floor, load(dy, out_at(w, i, j)), splat(z, 0.0))


@kernel
def norm_pool_forward(z: Read.IMAGES, z_image, window: INDICES, batch: Read.ALL, state: Read.ALL,
                      relu, y: Write.IMAGES, y_image, panels, blocks, rows, thread, threads):
    """`y`: the maximum of each window of `gamma * xhat + beta`, with `relu` its positive part."""
    w, v = window, lanes(z)
    floor = floor_of(z, relu)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for at in range(0, panels * v, v):
            of = affine_of(shift(batch, at), shift(state, at), panels * v)
            source, target = shift(z, n * z_image + at), shift(y, n * y_image + at)
            for i in range(w[OUT_H]):
                for j in range(w[OUT_W]):
                    corner = pixel_at(w, i * w[KERNEL_H], j * w[KERNEL_W])
                    best = window_best(w, source, corner, of)
                    store(target, out_at(w, i, j), maximum(best, floor))


@kernel
def norm_pool_sums(z: Read.IMAGES, z_image, window: INDICES, batch: Read.ALL, state: Read.ALL, relu,
                   dy: Read.IMAGES, dy_image, partial: Write.IMAGES, panels, blocks, rows, thread,
                   threads):
    """`partial[block] = dgamma, dbeta`: a window's gradient counts at its first maximum."""
    w, v = window, lanes(z)
    width, zero, floor = panels * v, splat(z, 0.0), floor_of(z, relu)
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        sums = cleared_sums(partial, block, width)
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            for at in range(0, width, v):
                b = shift(batch, at)
                of = affine_of(b, shift(state, at), width)
                source, grads = shift(z, n * z_image + at), shift(dy, n * dy_image + at)
                slope, drop = zero, zero
                for i in range(w[OUT_H]):
                    for j in range(w[OUT_W]):
                        corner, best, rest = window_gradient(w, source, grads, i, j, of, floor)
                        drop = drop + rest
                        for k in range(w[KERNEL_H]):
                            for m in range(w[KERNEL_W]):
                                t = centred(source, corner + pixel_at(w, k, m), of)
                                below = best - fma(of[2], t, of[3])
                                slope = fma(where_positive(below, zero, rest), t, slope)
                                rest = where_positive(below, rest, zero)
                add_sums(shift(sums, at), width, slope * load(b, INVSTD * width), drop)


@kernel
def norm_pool_backward(z: Write.IMAGES, z_image, window: INDICES, batch: Read.ALL, state: Read.ALL,
                       relu, dy: Read.IMAGES, dy_image, dstate: Read.ALL, frozen, panels, blocks,
                       rows, batch_rows, thread, threads):
    """`dz` over `z`, from the merged dgamma and dbeta in `dstate`."""
    w, v = window, lanes(z)
    width, zero, floor = panels * v, splat(z, 0.0), floor_of(z, relu)
    part = 0.0 if frozen != 0 else 1.0 / (batch_rows * w[HEIGHT] * w[WIDTH])
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for place in range(0, width, v):
            b = shift(batch, place)
            of = affine_of(b, shift(state, place), width)
            slope, drop = slope_of(b, shift(dstate, place), width, part)
            source, grads = shift(z, n * z_image + place), shift(dy, n * dy_image + place)
            for i in range(w[OUT_H]):
                for j in range(w[OUT_W]):
                    corner, best, rest = window_gradient(w, source, grads, i, j, of, floor)
                    for k in range(w[KERNEL_H]):
                        for m in range(w[KERNEL_W]):
                            at = corner + pixel_at(w, k, m)
                            t = centred(source, at, of)
                            below = best - fma(of[2], t, of[3])
                            hit = where_positive(below, zero, rest)
                            rest = where_positive(below, rest, zero)
                            store(source, at, of[2] * ((hit - drop) - t * slope))
            bottom, right = w[OUT_H] * w[KERNEL_H], w[OUT_W] * w[KERNEL_W]
            for i in range(w[HEIGHT]):
                for j in range(right if i < bottom else 0, w[WIDTH]):  # what no window covers
                    at = pixel_at(w, i, j)
                    t = centred(source, at, of)
                    store(source, at, of[2] * ((zero - drop) - t * slope))
