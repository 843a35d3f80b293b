"""Pooling of images: maximum and average over windows, and their gradients.

Padding takes no part; threads own whole images, or in inference lines of them.
A global pool is one window as large as the image. The gradient of a maximum goes to the first one
of its window, row by row.
"""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, Read, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, maximum, shift, splat, store, where_positive
from nbbn.kernels.team import images_of, lines_within, share_images, share_lines
from nbbn.kernels.window import HEIGHT, OUT_H, OUT_W, clear, columns_of, out_at, pixel_at, rows_of


@inline
def window_maximum(w, x, i, j, at):
    """The largest vector of a window."""
    (top, bottom), (left, right) = rows_of(w, i), columns_of(w, j)
    best = load(x, pixel_at(w, top, left) + at)
    for k in range(top, bottom):
        for m in range(left, right):
            best = maximum(best, load(x, pixel_at(w, k, m) + at))
    return best


@kernel(inference=True)
def max_pool_forward(x: Read.IMAGES, x_image, window: INDICES, y: Write.IMAGES, y_image, panels,
                     blocks, rows, thread, threads):
    """`y = max of each window`."""
    w, v = window, lanes(x)
    first, end = share_lines(rows, w[OUT_H], blocks, thread, threads)
    for n in range(*images_of(first, end, w[OUT_H])):
        source, target = shift(x, n * x_image), shift(y, n * y_image)
        for i in range(*lines_within(n, first, end, w[OUT_H])):
            for j in range(w[OUT_W]):
                for panel in range(panels):
                    at = panel * v
                    store(target, out_at(w, i, j) + at, window_maximum(w, source, i, j, at))


@kernel
def max_pool_backward(x: Read.IMAGES, x_image, window: INDICES, dy: Read.IMAGES, dy_image,
                      dx: Write.IMAGES, dx_image, panels, blocks, rows, thread, threads):
    """`dx`: each window's gradient at its first maximum, summed where windows overlap."""
    w, v = window, lanes(x)
    zero = splat(x, 0.0)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        source, grad, out = shift(x, n * x_image), shift(dy, n * dy_image), shift(dx, n * dx_image)
        clear(out, pixel_at(w, w[HEIGHT], 0))
        for i in range(w[OUT_H]):
            top, bottom = rows_of(w, i)
            for j in range(w[OUT_W]):
                left, right = columns_of(w, j)
                for panel in range(panels):
                    at = panel * v
                    best = window_maximum(w, source, i, j, at)
                    rest = load(grad, out_at(w, i, j) + at)
                    for k in range(top, bottom):
                        for m in range(left, right):
                            cell = pixel_at(w, k, m) + at
                            below = best - load(source, cell)
                            store(out, cell, load(out, cell) + where_positive(below, zero, rest))
                            rest = where_positive(below, rest, zero)


@kernel(inference=True)
def average_pool_forward(x: Read.IMAGES, x_image, window: INDICES, y: Write.IMAGES, y_image, panels,
                         blocks, rows, thread, threads):
    """`y = mean of each window's cells within the image`."""
    w, v = window, lanes(x)
    first, end = share_lines(rows, w[OUT_H], blocks, thread, threads)
    for n in range(*images_of(first, end, w[OUT_H])):
        source, target = shift(x, n * x_image), shift(y, n * y_image)
        for i in range(*lines_within(n, first, end, w[OUT_H])):
            top, bottom = rows_of(w, i)
            for j in range(w[OUT_W]):
                left, right = columns_of(w, j)
                share_of_cell = splat(x, 1.0 / ((bottom - top) * (right - left)))
                for panel in range(panels):
                    at = panel * v
                    total = splat(x, 0.0)
                    for k in range(top, bottom):
                        for m in range(left, right):
                            total = total + load(source, pixel_at(w, k, m) + at)
                    store(target, out_at(w, i, j) + at, total * share_of_cell)


@kernel
def average_pool_backward(window: INDICES, dy: Read.IMAGES, dy_image, dx: Write.IMAGES, dx_image,
                          panels, blocks, rows, thread, threads):
    """`dx`: each window's gradient in equal shares, summed where windows overlap."""
    w, v = window, lanes(dy)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        grad, out = shift(dy, n * dy_image), shift(dx, n * dx_image)
        clear(out, pixel_at(w, w[HEIGHT], 0))
        for i in range(w[OUT_H]):
            top, bottom = rows_of(w, i)
            for j in range(w[OUT_W]):
                left, right = columns_of(w, j)
                share_of_cell = splat(dy, 1.0 / ((bottom - top) * (right - left)))
                for panel in range(panels):
                    at = panel * v
                    part = load(grad, out_at(w, i, j) + at) * share_of_cell
                    for k in range(top, bottom):
                        for m in range(left, right):
                            cell = pixel_at(w, k, m) + at
                            store(out, cell, load(out, cell) + part)
