"""Pooling of images: maximum and average over windows, and their gradients.

Padding takes no part; threads own whole images.
A global pool is one window as large as the image. The gradient of a maximum goes to the first one
of its window, row by row.
"""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, READ_IMAGES, WRITE_IMAGES, inline, kernel
from nbbn.kernels.simd import lanes, load, maximum, shift, splat, store, where_positive
from nbbn.kernels.window import (
    HEIGHT,
    KERNEL_H,
    KERNEL_W,
    LEFT,
    OUT_H,
    OUT_PIXEL,
    OUT_W,
    PIXEL,
    STRIDE_H,
    STRIDE_W,
    TOP,
    WIDTH,
    clear,
    share_images,
)


@inline
def cells(size, start, kernel_size):
    """First and last-plus-one of a window's cells that lie within an image's side."""
    return max(0, start), min(size, start + kernel_size)


@inline
def window_maximum(w, x, i, j, at):
    """The largest vector of a window."""
    top, bottom = cells(w[HEIGHT], i * w[STRIDE_H] - w[TOP], w[KERNEL_H])
    left, right = cells(w[WIDTH], j * w[STRIDE_W] - w[LEFT], w[KERNEL_W])
    best = load(x, (top * w[WIDTH] + left) * w[PIXEL] + at)
    for k in range(top, bottom):
        for m in range(left, right):
            best = maximum(best, load(x, (k * w[WIDTH] + m) * w[PIXEL] + at))
    return best


@kernel(inference=True)
def max_pool_forward(x: READ_IMAGES, x_image, window: INDICES, y: WRITE_IMAGES, y_image, panels,
                     blocks, rows, thread, threads):
    """`y = max of each window`."""
    w, v = window, lanes(x)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        source, target = shift(x, n * x_image), shift(y, n * y_image)
        for i in range(w[OUT_H]):
            for j in range(w[OUT_W]):
                for panel in range(panels):
                    at = panel * v
                    store(target, (i * w[OUT_W] + j) * w[OUT_PIXEL] + at,
                          window_maximum(w, source, i, j, at))


@kernel
def max_pool_backward(x: READ_IMAGES, x_image, window: INDICES, dy: READ_IMAGES, dy_image,
                      dx: WRITE_IMAGES, dx_image, panels, blocks, rows, thread, threads):
    """`dx`: each window's gradient at its first maximum, summed where windows overlap."""
    w, v = window, lanes(x)
    zero = splat(x, 0.0)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        source, grad, out = shift(x, n * x_image), shift(dy, n * dy_image), shift(dx, n * dx_image)
        clear(out, w[HEIGHT] * w[WIDTH] * w[PIXEL])
        for i in range(w[OUT_H]):
            top, bottom = cells(w[HEIGHT], i * w[STRIDE_H] - w[TOP], w[KERNEL_H])
            for j in range(w[OUT_W]):
                left, right = cells(w[WIDTH], j * w[STRIDE_W] - w[LEFT], w[KERNEL_W])
                for panel in range(panels):
                    at = panel * v
                    best = window_maximum(w, source, i, j, at)
                    rest = load(grad, (i * w[OUT_W] + j) * w[OUT_PIXEL] + at)
                    for k in range(top, bottom):
                        for m in range(left, right):
                            cell = (k * w[WIDTH] + m) * w[PIXEL] + at
                            below = best - load(source, cell)
                            store(out, cell, load(out, cell) + where_positive(below, zero, rest))
                            rest = where_positive(below, rest, zero)


@kernel(inference=True)
def average_pool_forward(x: READ_IMAGES, x_image, window: INDICES, y: WRITE_IMAGES, y_image, panels,
                         blocks, rows, thread, threads):
    """`y = mean of each window's cells within the image`."""
    w, v = window, lanes(x)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        source, target = shift(x, n * x_image), shift(y, n * y_image)
        for i in range(w[OUT_H]):
            top, bottom = cells(w[HEIGHT], i * w[STRIDE_H] - w[TOP], w[KERNEL_H])
            for j in range(w[OUT_W]):
                left, right = cells(w[WIDTH], j * w[STRIDE_W] - w[LEFT], w[KERNEL_W])
                share_of_cell = splat(x, 1.0 / ((bottom - top) * (right - left)))
                for panel in range(panels):
                    at = panel * v
                    total = splat(x, 0.0)
                    for k in range(top, bottom):
                        for m in range(left, right):
                            total = total + load(source, (k * w[WIDTH] + m) * w[PIXEL] + at)
                    store(target, (i * w[OUT_W] + j) * w[OUT_PIXEL] + at, total * share_of_cell)


@kernel
def average_pool_backward(window: INDICES, dy: READ_IMAGES, dy_image, dx: WRITE_IMAGES, dx_image,
                          panels, blocks, rows, thread, threads):
    """`dx`: each window's gradient in equal shares, summed where windows overlap."""
    w, v = window, lanes(dy)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        grad, out = shift(dy, n * dy_image), shift(dx, n * dx_image)
        clear(out, w[HEIGHT] * w[WIDTH] * w[PIXEL])
        for i in range(w[OUT_H]):
            top, bottom = cells(w[HEIGHT], i * w[STRIDE_H] - w[TOP], w[KERNEL_H])
            for j in range(w[OUT_W]):
                left, right = cells(w[WIDTH], j * w[STRIDE_W] - w[LEFT], w[KERNEL_W])
                share_of_cell = splat(dy, 1.0 / ((bottom - top) * (right - left)))
                for panel in range(panels):
                    at = panel * v
                    part = load(grad, (i * w[OUT_W] + j) * w[OUT_PIXEL] + at) * share_of_cell
                    for k in range(top, bottom):
                        for m in range(left, right):
                            cell = (k * w[WIDTH] + m) * w[PIXEL] + at
                            store(out, cell, load(out, cell) + part)
