"""Batch norm, ReLU and a maximum pool in one.

What lies between a convolution and the next is never stored: forward and backward compute the
normalised values anew from the convolution's output; the gradient takes its place. The pool's
windows neither overlap nor leave gaps, but for what is left over at the right and at the bottom.
Statistics are those of `norm_images.py`.
"""

from __future__ import annotations

from nbbn.kernels.norm import BETA, GAMMA, cleared_sums
from nbbn.kernels.norm_images import load_moments
from nbbn.kernels.registry import INDICES, Read, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, shift, splat, store, where_positive
from nbbn.kernels.team import share, share_images
from nbbn.kernels.window import (
    HEIGHT,
    KERNEL_H,
    KERNEL_W,
    OUT_H,
    OUT_W,
    WIDTH,
    out_at,
    pixel_at,
)


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
                       rows, thread, threads):
    """`dz` over `z`, from the merged dgamma and dbeta in `dstate`."""
    w, v = window, lanes(z)
    width, zero = panels * v, splat(z, 0.0)
    part = splat(z, 0.0 if frozen != 0 else 1.0 / (rows * w[HEIGHT] * w[WIDTH]))
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
