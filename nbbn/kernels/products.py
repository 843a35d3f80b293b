"""Products of the vectors of two rows, each of the first with each of the second."""

from __future__ import annotations

import math

from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, scalar, shift, splat, store, total
from nbbn.kernels.team import share_images
from nbbn.kernels.window import clear

# Largest factor that makes a vector's length 1 (Keras's epsilon).
_LEAST_NORM = 1e-7


@inline
def _product(x, y, depth):
    """`x[:depth] @ y[:depth]`: behind a function with f(0) != 0 the padding is no zeros."""
    v, acc = lanes(x), splat(x, 0.0)
    whole = depth // v * v
    for k in range(0, whole, v):
        acc = fma(load(x, k), load(y, k), acc)
    result = float(total(acc))
    for k in range(whole, depth):
        result += float(x[k]) * float(y[k])
    return result


@inline
def _factor(x, depth, cosine):
    """1, or what makes the length of a vector 1."""
    return 1.0 / max(math.sqrt(_product(x, x, depth)), _LEAST_NORM) if cosine else 1.0


@kernel(inference=True)
def dot_forward(x: Read.IMAGES, x_image, x_pixel, y: Read.IMAGES, y_image, y_pixel,
                out: Write.IMAGES, out_image, out_pixel, a, b, depth, cosine, blocks, rows, thread,
                threads):
    """`out[i, j] = x[i] @ y[j]` of `a` and `b` vectors, with `cosine` of length 1."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for i in range(a):
            left = shift(x, n * x_image + i * x_pixel)
            target = shift(out, n * out_image + i * out_pixel)
            factor = _factor(left, depth, cosine)
            for j in range(b):
                right = shift(y, n * y_image + j * y_pixel)
                value = _product(left, right, depth) * factor * _factor(right, depth, cosine)
                target[j] = scalar(out, value)


@inline
def _add_multiple(target, times, x, depth):
    v, factor = lanes(x), splat(x, times)
    whole = depth // v * v
    for k in range(0, whole, v):
        store(target, k, fma(factor, load(x, k), load(target, k)))
    for k in range(whole, depth):
        target[k] = scalar(target, float(target[k]) + times * float(x[k]))


@inline
def _gradient(d, d_x, d_y, x, x_pixel, y, y_pixel, out, size, a, b, depth, cosine):
    """The gradient by the `a` vectors `x`: `d[i * d_x + j * d_y]` times what `y[j]` does to them.

    Of vectors of length 1 what goes along with `x[i]` itself changes nothing (d|x|/dx = x / |x|).
    """
    clear(out, size)
    for i in range(a):
        left, target = shift(x, i * x_pixel), shift(out, i * x_pixel)
        factor = _factor(left, depth, cosine)
        for j in range(b):
            right, slope = shift(y, j * y_pixel), float(d[i * d_x + j * d_y])
            other = _factor(right, depth, cosine)
            _add_multiple(target, slope * factor * other, right, depth)
            if cosine:
                along = _product(left, right, depth) * factor * other
                _add_multiple(target, -slope * along * factor * factor, left, depth)


@kernel
def dot_backward(d: Read.IMAGES, d_image, d_pixel, x: Read.IMAGES, x_image, x_pixel, y: Read.IMAGES,
                 y_image, y_pixel, dx: Write.IMAGES, dy: Write.IMAGES, wants_x, wants_y, a, b,
                 depth, cosine, blocks, rows, thread, threads):
    """`dx` and `dy`, laid out as `x` and `y`."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        slopes = shift(d, n * d_image)
        left, right = shift(x, n * x_image), shift(y, n * y_image)
        if wants_x:
            _gradient(slopes, d_pixel, 1, left, x_pixel, right, y_pixel, shift(dx, n * x_image),
                      x_image, a, b, depth, cosine)
        if wants_y:
            _gradient(slopes, 1, d_pixel, right, y_pixel, left, x_pixel, shift(dy, n * y_image),
                      y_image, b, a, depth, cosine)
