"""Depthwise convolutions, forward (of dz with the flipped kernel, too) and the kernel's gradient.

Weights stand as `[cell][panel][lanes]`. Each number is read where it stands, four pixels of a line
at a time; what lies beyond the border is left out.
"""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, minimum, shift, splat, store
from nbbn.kernels.team import images_of, lines_within, share, share_lines
from nbbn.kernels.window import (
    BORDERED_H,
    BORDERED_W,
    DILATION_H,
    DILATION_W,
    HEIGHT,
    KERNEL_H,
    KERNEL_W,
    LEFT,
    OUT_H,
    OUT_PIXEL,
    OUT_W,
    PIXEL,
    SPREAD_H,
    SPREAD_W,
    STRIDE_H,
    STRIDE_W,
    TOP,
    WIDTH,
    bordered,
    clear,
    clear_border,
    out_at,
    rows_read,
)

# Pixels of a line that are summed at once, against a weight that stays in its register.
AT_ONCE = 4


@inline
def _four_pixels(w, x, row, step, weights, panels, first, end, start):
    """Sums of neighbouring pixels over rows `first` to `end` of the kernel, all columns.

    `x` stands where the first pixel's window begins, `step` floats before the next one's.
    """
    a, b, c, d = start, start, start, start
    panel, across = panels * lanes(x), w[DILATION_W] * w[PIXEL]
    for k in range(first, end):
        at, cell = shift(x, k * row), shift(weights, k * w[KERNEL_W] * panel)
        for _ in range(w[KERNEL_W]):
            weight = load(cell, 0)
            a, b = fma(load(at, 0), weight, a), fma(load(at, step), weight, b)
            c, d = fma(load(at, 2 * step), weight, c), fma(load(at, 3 * step), weight, d)
            at, cell = shift(at, across), shift(cell, panel)
    return a, b, c, d


@inline
def _three(x0, x1, x2, w0, w1, w2, total):
    """One pixel's sum over a row of three cells."""
    return fma(x2, w2, fma(x1, w1, fma(x0, w0, total)))


@inline
def _four_pixels_of_three(w, x, row, step, weights, panels, first, end, start):
    """`_four_pixels` of rows of three cells side by side, one or two pixels from window to window:
    what two windows read is loaded once.
    """
    a, b, c, d = start, start, start, start
    panel, pixel = panels * lanes(x), w[PIXEL]
    for k in range(first, end):
        at, cell = shift(x, k * row), shift(weights, 3 * k * panel)
        w0, w1, w2 = load(cell, 0), load(cell, panel), load(cell, 2 * panel)
        x0, x1, x2 = load(at, 0), load(at, pixel), load(at, 2 * pixel)
        x3, x4, x5 = load(at, 3 * pixel), load(at, 4 * pixel), load(at, 5 * pixel)
        a = _three(x0, x1, x2, w0, w1, w2, a)
        if step == pixel:
            b, c = _three(x1, x2, x3, w0, w1, w2, b), _three(x2, x3, x4, w0, w1, w2, c)
            d = _three(x3, x4, x5, w0, w1, w2, d)
        else:
            x6, x7, x8 = load(at, 6 * pixel), load(at, 7 * pixel), load(at, 8 * pixel)
            b, c = _three(x2, x3, x4, w0, w1, w2, b), _three(x4, x5, x6, w0, w1, w2, c)
            d = _three(x6, x7, x8, w0, w1, w2, d)
    return a, b, c, d


@inline
def _pixel(w, x, row, weights, panels, first, end, left, right, total):
    """The sum of one pixel over some rows and columns of the kernel."""
    panel, across = panels * lanes(x), w[DILATION_W] * w[PIXEL]
    for k in range(first, end):
        for m in range(left, right):
            weight = load(weights, (k * w[KERNEL_W] + m) * panel)
            total = fma(load(x, k * row + m * across), weight, total)
    return total


@inline
def _clipped(like, value, relu, most):
    """With `relu` clipped to 0 and `most`."""
    return minimum(maximum(value, splat(like, 0.0)), splat(like, most)) if relu != 0 else value


@inline
def _taps(place, taps, dilation, size):
    """First and last-plus-one tap of a window at `place` that falls on one of `size` places."""
    first = (-place + dilation - 1) // dilation if place < 0 else 0
    return min(first, taps), max(min(taps, (size - 1 - place) // dilation + 1), 0)


@inline
def _line(w, image, height, width, top, left, weights, bias, relu, most, out, panels, i):
    """Line `i` of the output; the image's first pixel is `top` down and `left` to the right."""
    v, row, pixel = lanes(image), width * w[PIXEL], w[OUT_PIXEL]
    step, down = w[STRIDE_W] * w[PIXEL], w[DILATION_H] * row
    place = i * w[STRIDE_H] - top
    first, end = _taps(place, w[KERNEL_H], w[DILATION_H], height)
    source, target = shift(image, place * row - left * w[PIXEL]), shift(out, out_at(w, i, 0))
    # Pixels whose windows are within the image; the last four of them may be computed twice.
    inner, outer = _inner_pixels(w, width, left)
    of_three = w[KERNEL_W] == 3 and w[DILATION_W] == 1 and w[STRIDE_W] <= 2
    j = 0
    while j < w[OUT_W]:
        if inner <= j < outer and outer - inner >= AT_ONCE:
            j = min(j, outer - AT_ONCE)
            at, to = shift(source, j * step), shift(target, j * pixel)
            for p in range(0, panels * v, v):
                cells, start = shift(weights, p), load(bias, p)
                if of_three:
                    a, b, c, d = _four_pixels_of_three(w, shift(at, p), down, step, cells, panels,
                                                       first, end, start)
                else:
                    a, b, c, d = _four_pixels(w, shift(at, p), down, step, cells, panels, first,
                                              end, start)
                store(to, p, _clipped(image, a, relu, most))
                store(to, p + pixel, _clipped(image, b, relu, most))
                store(to, p + 2 * pixel, _clipped(image, c, relu, most))
                store(to, p + 3 * pixel, _clipped(image, d, relu, most))
            j += AT_ONCE
            continue
        m, stop = _taps(j * w[STRIDE_W] - left, w[KERNEL_W], w[DILATION_W], width)
        for p in range(0, panels * v, v):
            total = _pixel(w, shift(source, j * step + p), down, shift(weights, p), panels, first,
                           end, m, stop, load(bias, p))
            store(target, j * pixel + p, _clipped(image, total, relu, most))
        j += 1


@inline
def _inner_pixels(w, width, left):
    """First and last-plus-one pixel of a line whose windows are within an image's width."""
    reach, step = (w[KERNEL_W] - 1) * w[DILATION_W] + 1, w[STRIDE_W]
    first = (left + step - 1) // step if left > 0 else 0
    end = (width + left - reach) // step + 1 if width + left >= reach else 0
    return first, min(end, w[OUT_W])


@kernel(inference=True)
def depthwise_forward(x: Read.IMAGES, x_image, window: INDICES, weights: Read.ALL, bias: Read.ALL,
                      relu, most: Real, z: Write.IMAGES, z_image, panels, scratch: Write.ALL,
                      blocks, rows, thread, threads):
    """`z[c] = x[c] * weights[c] + bias[c]` of own lines, with `relu` clipped to 0 and `most`."""
    w = window
    first, end = share_lines(rows, w[OUT_H], blocks, thread, threads)
    spread = w[SPREAD_H] > 1 or w[SPREAD_W] > 1
    if spread:
        clear_border(w, scratch)
    for n in range(*images_of(first, end, w[OUT_H])):
        own, stop = lines_within(n, first, end, w[OUT_H])
        image, out = shift(x, n * x_image), shift(z, n * z_image)
        height, width, top, left = w[HEIGHT], w[WIDTH], w[TOP], w[LEFT]
        if spread:
            image = bordered(w, image, scratch, *rows_read(w, own, stop))
            height, width, top, left = w[BORDERED_H], w[BORDERED_W], 0, 0
        for i in range(own, stop):
            _line(w, image, height, width, top, left, weights, bias, relu, most, out, panels, i)


@kernel
def depthwise_gradient(x: Read.IMAGES, x_image, window: INDICES, dz: Read.IMAGES, dz_image,
                       partial: Write.IMAGES, panels, scratch: Write.ALL, blocks, rows, thread,
                       threads):
    """The kernel's gradient, `partial[block]` over the images of each own block."""
    w, v = window, lanes(x)
    cells = w[KERNEL_H] * w[KERNEL_W]
    size = cells * panels * v
    begin, stop = share(blocks, thread, threads)
    clear_border(w, scratch)
    pixel, row = w[PIXEL], w[BORDERED_W] * w[PIXEL]
    for block in range(begin, stop):
        sum_out = shift(partial, block * size)
        clear(sum_out, size)
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            source = bordered(w, shift(x, n * x_image), scratch, 0, w[BORDERED_H])
            grad = shift(dz, n * dz_image)
            for cell in range(cells):
                k, m = cell // w[KERNEL_W], cell % w[KERNEL_W]
                at = shift(source, k * w[DILATION_H] * row + m * w[DILATION_W] * pixel)
                for panel in range(panels):
                    to = (cell * panels + panel) * v
                    total = load(sum_out, to)
                    for i in range(w[OUT_H]):
                        for j in range(w[OUT_W]):
                            place = i * w[STRIDE_H] * row + j * w[STRIDE_W] * pixel
                            slope = load(grad, out_at(w, i, j) + panel * v)
                            total = fma(load(at, place + panel * v), slope, total)
                    store(sum_out, to, total)


@kernel
def flip_cells(weights: Read.ALL, cells, panels, out: Write.ALL, thread, threads):
    """`out[cell] = weights[last - cell]` of a depthwise kernel."""
    size = panels * lanes(weights)
    first, end = share(cells, thread, threads)
    for cell in range(first, end):
        for i in range(size):
            out[cell * size + i] = weights[(cells - 1 - cell) * size + i]
