"""Gradients in memory: partial sums merged in block order, penalties, clipping."""

from __future__ import annotations

import math

from nbbn.kernels.registry import Read, Real, Write, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    maximum,
    minimum,
    splat,
    store,
    total,
    where_positive,
)
from nbbn.kernels.team import share


@kernel
def merge_partials(partial: Read.ALL, blocks, out: Write.COLUMNS, panels, thread, threads):
    """`out = partial.sum(0)`, in block order; own columns."""
    v = lanes(partial)
    first, end = share(panels, thread, threads)
    for i in range(first * v, end * v, v):
        merged = load(partial, i)
        for block in range(1, blocks):
            merged = merged + load(partial, block * panels * v + i)
        store(out, i, merged)


@kernel
def mask_columns(x: Write.COLUMNS, mask: Read.ALL, panels, thread, threads):
    """`x *= mask` on own columns: keeps the zeros of a grouped kernel."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for i in range(first * v, end * v, v):
        store(x, i, load(x, i) * load(mask, i))


@kernel
def image_column_sums(x: Read.IMAGES, x_pixel, pixels, partial: Write.IMAGES, panels, blocks, rows,
                      thread, threads):
    """`partial[block] = sum of own pixels`: a bias's gradient, by block of images."""
    v = lanes(x)
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        first, end = share(rows, block, blocks)
        for panel in range(panels):
            column = splat(x, 0.0)
            for r in range(first * pixels, end * pixels):
                column = column + load(x, r * x_pixel + panel * v)
            store(partial, (block * panels + panel) * v, column)


@kernel
def add_penalty(grad: Write.COLUMNS, param: Read.COLUMNS, l1: Real, l2: Real,
                penalties: Write.COLUMNS_F64, panels, rows, thread, threads):
    """`grad += 2 * l2 * param + l1 * sign(param)`.

    `penalties[i] += rows * (l2 * sum(param**2) + l1 * sum(abs(param)))` of each vector.
    """
    v = lanes(grad)
    first, end = share(panels, thread, threads)
    zero, one, two = splat(grad, 0.0), splat(grad, l1), splat(grad, 2.0 * l2)
    for i in range(first, end):
        p, g = load(param, i * v), load(grad, i * v)
        slope = where_positive(p, one, where_positive(zero - p, zero - one, zero))
        store(grad, i * v, g + fma(two, p, slope))
        size = where_positive(p, p, zero - p)
        penalties[i] += rows * (l2 * total(p * p) + l1 * total(size))


@kernel
def add_to_gradient_norm(grad: Read.ALL, squared_norm: Write.ALONE_F64, restart, panels, thread):
    """`squared_norm[0] += sum(grad**2)`, from 0 with `restart`."""
    if thread != 0:
        return
    v = lanes(grad)
    squares = 0.0 if restart != 0 else squared_norm[0]
    for i in range(panels):
        value = load(grad, i * v)
        squares += total(value * value)
    squared_norm[0] = squares


@kernel
def clip_by_gradient_norm(grad: Write.COLUMNS, squared_norm: Read.ALL_F64, bound: Real, panels,
                          thread, threads):
    """`grad *= bound / length` where the length of all gradients is above `bound`.

    Pascanu, Mikolov and Bengio (2013), algorithm 1.
    """
    length = math.sqrt(squared_norm[0])
    if length <= bound:
        return
    v = lanes(grad)
    first, end = share(panels, thread, threads)
    scale = splat(grad, bound / length)
    for i in range(first * v, end * v, v):
        store(grad, i, load(grad, i) * scale)


@kernel
def clip_by_value(grad: Write.COLUMNS, bound: Real, panels, thread, threads):
    """`grad` within `[-bound, bound]`."""
    v = lanes(grad)
    first, end = share(panels, thread, threads)
    low, high = splat(grad, -bound), splat(grad, bound)
    for i in range(first * v, end * v, v):
        store(grad, i, maximum(minimum(load(grad, i), high), low))


@kernel
def shrink_columns(param: Write.COLUMNS, panels, shrink, thread, threads):
    """`param -= shrink * param`: decoupled weight decay (Loshchilov and Hutter, 2019)."""
    v = lanes(param)
    first, end = share(panels, thread, threads)
    factor = splat(param, shrink)
    for i in range(first * v, end * v, v):
        p = load(param, i)
        store(param, i, p - p * factor)
