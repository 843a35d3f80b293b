"""Batch norm of images, and of anything whose rows the threads own.

Moments are taken by block of images and merged in block order. A pixel is a row of `pixel` floats.
`batch` has three rows of `width` floats: ORIGIN and SHIFT, whose sum is the mean, and INVSTD;
`state` is the layer's block of `norm.py`. With `frozen` the running statistics stand in for the
batch's.
"""

from __future__ import annotations

from nbbn.kernels.norm import (
    BETA,
    GAMMA,
    RUNNING_MEAN,
    RUNNING_VAR,
    affine,
    cleared_sums,
    column_moments,
    gradient_sums,
    middle,
    normalise,
    origin_of,
    running_rate,
    update_running,
)
from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, shift, splat, sqrt, store, where_positive
from nbbn.kernels.team import share, share_images
from nbbn.kernels.window import HEIGHT, KERNEL_H, KERNEL_W, OUT_H, OUT_W, WIDTH, out_at, pixel_at

ORIGIN, SHIFT, INVSTD = range(3)
BATCH_ROWS = 3
M2 = 2  # third row of a block's partial, after origin and shift


@inline
def load_moments(block, width):
    """Origin, shift and m2 (or INVSTD) of a vector of channels."""
    return load(block, ORIGIN * width), load(block, SHIFT * width), load(block, M2 * width)


@inline
def merge_moments(like, before, count, origin, mean, m2, new_origin, new_mean, new_m2):
    """Mean (less `origin`) and m2 of two sets (Chan, Golub and LeVeque, 1983, eq. 2.1)."""
    delta = (new_origin - origin) + (new_mean - mean)
    part = splat(like, count / (before + count))
    weight = splat(like, before * (count / (before + count)))
    return fma(delta, part, mean), fma(delta * delta, weight, m2 + new_m2)


@kernel
def image_moments(x: Read.IMAGES, pixel, pixels, partial: Write.IMAGES, panels, blocks, rows,
                  thread, threads):
    """`partial[block] = origin, shift, m2` of the pixels of each own block, image by image."""
    v = lanes(x)
    width = panels * v
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            for panel in range(panels):
                out = shift(partial, block * BATCH_ROWS * width + panel * v)
                if n == first:
                    whole = shift(x, n * pixels * pixel + panel * v)
                    store(out, ORIGIN * width, origin_of(whole, pixel, (end - first) * pixels))
                image = shift(x, n * pixels * pixel + panel * v)
                origin, old_mean, old_m2 = load_moments(out, width)
                mean, var = column_moments(image, pixel, pixels, origin)
                m2 = var * splat(x, float(pixels))
                if n > first:
                    mean, m2 = merge_moments(x, float((n - first) * pixels), float(pixels), origin,
                                             old_mean, old_m2, origin, mean, m2)
                store(out, SHIFT * width, mean)
                store(out, M2 * width, m2)


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
        p, b, s = shift(partial, panel * v), shift(batch, panel * v), shift(state, panel * v)
        before = 0
        origin = middle(_block_mean(p, width, 0, blocks, rows),
                        _block_mean(p, width, rows // 2, blocks, rows),
                        _block_mean(p, width, rows - 1, blocks, rows))
        mean, m2 = splat(p, 0.0), splat(p, 0.0)
        for block in range(blocks):
            begin, stop = share(rows, block, blocks)
            count = (stop - begin) * pixels
            if count > 0:
                new = shift(p, block * BATCH_ROWS * width)
                new_origin, new_mean, new_m2 = load_moments(new, width)
                if before == 0:
                    mean, m2 = (new_origin - origin) + new_mean, new_m2
                else:
                    mean, m2 = merge_moments(p, float(before), float(count), origin, mean, m2,
                                             new_origin, new_mean, new_m2)
                before += count
        var = m2 * splat(p, 1.0 / before)
        store(b, ORIGIN * width, origin)
        store(b, SHIFT * width, mean)
        store(b, INVSTD * width, splat(p, 1.0) / sqrt(var + splat(p, epsilon)))
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
        b, s = shift(batch, panel * v), shift(state, panel * v)
        std = sqrt(load(s, RUNNING_VAR * width) + splat(b, epsilon))
        store(b, ORIGIN * width, load(s, RUNNING_MEAN * width))
        store(b, SHIFT * width, splat(b, 0.0))
        store(b, INVSTD * width, splat(b, 1.0) / std)


@kernel
def image_norm_backward(dy: Write.IMAGES, xhat: Read.IMAGES, batch: Read.ALL, state: Read.ALL,
                        dstate: Read.ALL, pixel, pixels, panels, frozen, blocks, rows, batch_rows,
                        thread, threads):
    """`dx` over `dy` from dgamma and dbeta in `dstate` (Ioffe and Szegedy, 2015, section 3)."""
    v = lanes(dy)
    width = panels * v
    first, end = share_images(rows, blocks, thread, threads)
    n = splat(dy, 0.0 if frozen != 0 else 1.0 / (batch_rows * pixels))
    for image in range(first, end):
        for panel in range(panels):
            d, s, b = shift(dstate, panel * v), shift(state, panel * v), shift(batch, panel * v)
            scale = load(s, GAMMA * width) * load(b, INVSTD * width)
            slope, drop = load(d, GAMMA * width) * n, load(d, BETA * width) * n
            for r in range(image * pixels, (image + 1) * pixels):
                at = r * pixel + panel * v
                store(dy, at, scale * ((load(dy, at) - drop) - load(xhat, at) * slope))


def _kernels(relu: str) -> None:
    """Register the kernels that differ where a ReLU follows."""
    clip = bool(relu)
    own_normalise, own_affine, own_sums = normalise[clip], affine[clip], gradient_sums[clip]

    @kernel(name=f"image_norm{relu}_forward")
    def forward(x: Read.IMAGES, xhat: Write.IMAGES, y: Write.IMAGES, batch: Read.ALL,
                state: Read.ALL, pixel, pixels, panels, blocks, rows, thread, threads):
        """`xhat` (may be `x`), `y = gamma * xhat + beta` of own images."""
        v = lanes(x)
        width = panels * v
        first, end = share_images(rows, blocks, thread, threads)
        for n in range(first, end):
            for panel in range(panels):
                at = panel * v
                origin, mean, invstd = load_moments(shift(batch, at), width)
                own_normalise(shift(x, at), pixel, shift(xhat, at), pixel, shift(y, at), pixel,
                              n * pixels, (n + 1) * pixels, origin, mean, invstd, shift(state, at),
                              width)

    @kernel(name=f"image_norm{relu}_sums")
    def gradient(dy: Write.IMAGES, xhat: Read.IMAGES, state: Read.ALL, partial: Write.IMAGES, pixel,
             pixels, panels, blocks, rows, thread, threads):
        """`partial[block] = dgamma, dbeta`; the mask of a ReLU, made anew, is laid on `dy`."""
        v = lanes(dy)
        width = panels * v
        begin, stop = share(blocks, thread, threads)
        for block in range(begin, stop):
            sums = cleared_sums(partial, block, width)
            first, end = share(rows, block, blocks)
            for n in range(first, end):
                for panel in range(panels):
                    at = panel * v
                    s, out = shift(state, at), shift(sums, at)
                    a, b = own_sums(shift(dy, at), pixel, shift(xhat, at), pixel, n * pixels,
                                    (n + 1) * pixels, load(s, GAMMA * width), load(s, BETA * width))
                    store(out, GAMMA * width, load(out, GAMMA * width) + a)
                    store(out, BETA * width, load(out, BETA * width) + b)

    @kernel(name=f"image_norm{relu}_inference", inference=True)
    def inference(x: Write.IMAGES, state: Read.ALL, pixel, pixels, panels, epsilon: Real, blocks,
                  rows, thread, threads):
        """`x = gamma * (x - running_mean) / sqrt(running_var + epsilon) + beta` of own images."""
        v = lanes(x)
        first, end = share_images(rows, blocks, thread, threads)
        for panel in range(panels):
            columns = shift(x, panel * v)
            own_affine(columns, pixel, columns, pixel, first * pixels, end * pixels,
                       shift(state, panel * v), panels * v, epsilon)


for _relu in ("", "_relu"):
    _kernels(_relu)


# -- with a ReLU and a maximum pool in one: what lies between a convolution and the next is never
# stored. Forward and backward compute the normalised values anew from the convolution's output; the
# gradient takes its place. The pool's windows neither overlap nor leave gaps, but for what is left
# over at the right and at the bottom.


@inline
def normalised(z, at, origin, mean, invstd):
    """xhat of one vector."""
    return ((load(z, at) - origin) - mean) * invstd


@inline
def window_best(w, z, corner, origin, mean, invstd, gamma, beta):
    """The largest `gamma * xhat + beta` of a window."""
    best = fma(gamma, normalised(z, corner, origin, mean, invstd), beta)
    for k in range(w[KERNEL_H]):
        for m in range(w[KERNEL_W]):
            at = corner + pixel_at(w, k, m)
            best = maximum(best, fma(gamma, normalised(z, at, origin, mean, invstd), beta))
    return best


@inline
def window_gradient(w, z, dy, i, j, relu, origin, mean, invstd, gamma, beta):
    """Place of a window's first pixel, its largest `gamma * xhat + beta`, and its gradient."""
    corner = pixel_at(w, i * w[KERNEL_H], j * w[KERNEL_W])
    best = window_best(w, z, corner, origin, mean, invstd, gamma, beta)
    grad = load(dy, out_at(w, i, j))
    if relu != 0:
        grad = where_positive(best, grad, splat(z, 0.0))
    return corner, best, grad


@kernel
def norm_pool_forward(z: Read.IMAGES, z_image, window: INDICES, batch: Read.ALL, state: Read.ALL,
                      relu, y: Write.IMAGES, y_image, panels, blocks, rows, thread, threads):
    """`y`: the maximum of each window of `gamma * xhat + beta`, with `relu` its positive part."""
    w, v = window, lanes(z)
    width, zero = panels * v, splat(z, 0.0)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for panel in range(panels):
            s = shift(state, panel * v)
            origin, mean, invstd = load_moments(shift(batch, panel * v), width)
            gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
            source, target = shift(z, n * z_image + panel * v), shift(y, n * y_image + panel * v)
            for i in range(w[OUT_H]):
                for j in range(w[OUT_W]):
                    corner = pixel_at(w, i * w[KERNEL_H], j * w[KERNEL_W])
                    best = window_best(w, source, corner, origin, mean, invstd, gamma, beta)
                    if relu != 0:
                        best = maximum(best, zero)
                    store(target, out_at(w, i, j), best)


@kernel
def norm_pool_sums(z: Read.IMAGES, z_image, window: INDICES, batch: Read.ALL, state: Read.ALL, relu,
                   dy: Read.IMAGES, dy_image, partial: Write.IMAGES, panels, blocks, rows, thread,
                   threads):
    """`partial[block] = dgamma, dbeta`: a window's gradient counts at its first maximum."""
    w, v = window, lanes(z)
    width, zero = panels * v, splat(z, 0.0)
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        own = cleared_sums(partial, block, width)
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            for panel in range(panels):
                s, out = shift(state, panel * v), shift(own, panel * v)
                origin, mean, invstd = load_moments(shift(batch, panel * v), width)
                gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
                source = shift(z, n * z_image + panel * v)
                grads = shift(dy, n * dy_image + panel * v)
                dgamma, dbeta = load(out, GAMMA * width), load(out, BETA * width)
                for i in range(w[OUT_H]):
                    for j in range(w[OUT_W]):
                        corner, best, rest = window_gradient(w, source, grads, i, j, relu, origin,
                                                             mean, invstd, gamma, beta)
                        dbeta = dbeta + rest
                        for k in range(w[KERNEL_H]):
                            for m in range(w[KERNEL_W]):
                                at = corner + pixel_at(w, k, m)
                                h = normalised(source, at, origin, mean, invstd)
                                below = best - fma(gamma, h, beta)
                                dgamma = fma(where_positive(below, zero, rest), h, dgamma)
                                rest = where_positive(below, rest, zero)
                store(out, GAMMA * width, dgamma)
                store(out, BETA * width, dbeta)


@kernel
def norm_pool_backward(z: Write.IMAGES, z_image, window: INDICES, batch: Read.ALL, state: Read.ALL,
                       relu, dy: Read.IMAGES, dy_image, dstate: Read.ALL, frozen, panels, blocks,
                       rows, batch_rows, thread, threads):
    """`dz` over `z`, from the merged dgamma and dbeta in `dstate`."""
    w, v = window, lanes(z)
    width, zero = panels * v, splat(z, 0.0)
    part = splat(z, 0.0 if frozen != 0 else 1.0 / (batch_rows * w[HEIGHT] * w[WIDTH]))
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for panel in range(panels):
            s, d = shift(state, panel * v), shift(dstate, panel * v)
            origin, mean, invstd = load_moments(shift(batch, panel * v), width)
            gamma, beta = load(s, GAMMA * width), load(s, BETA * width)
            scale = gamma * invstd
            slope, drop = load(d, GAMMA * width) * part, load(d, BETA * width) * part
            source, grads = shift(z, n * z_image + panel * v), shift(dy, n * dy_image + panel * v)
            for i in range(w[OUT_H]):
                for j in range(w[OUT_W]):
                    corner, best, rest = window_gradient(w, source, grads, i, j, relu, origin, mean,
                                                         invstd, gamma, beta)
                    for k in range(w[KERNEL_H]):
                        for m in range(w[KERNEL_W]):
                            at = corner + pixel_at(w, k, m)
                            h = normalised(source, at, origin, mean, invstd)
                            below = best - fma(gamma, h, beta)
                            hit = where_positive(below, zero, rest)
                            rest = where_positive(below, rest, zero)
                            store(source, at, scale * ((hit - drop) - h * slope))
            bottom, right = w[OUT_H] * w[KERNEL_H], w[OUT_W] * w[KERNEL_W]
            for i in range(w[HEIGHT]):
                for j in range(right if i < bottom else 0, w[WIDTH]):  # what no window covers
                    at = pixel_at(w, i, j)
                    h = normalised(source, at, origin, mean, invstd)
                    store(source, at, scale * ((zero - drop) - h * slope))
