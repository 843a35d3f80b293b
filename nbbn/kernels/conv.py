"""Convolutions of images: forward (of dz with the flipped kernel, too) and the gradients.

A kernel row is one run of `KERNEL_W * PIXEL` floats of the image: a convolution is the matrix tile
with an outer loop over the kernel's rows, and no patch is ever copied. Kernels are panel-major,
`[panels][KERNEL_H * KERNEL_W * PIXEL, padded][lanes]`. Threads own whole images, or in inference
lines of them; gradients are summed by block of images and merged in block order.
"""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, Read, Write, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, shift, splat, store, transpose
from nbbn.kernels.team import images_of, lines_within, share, share_images, share_lines
from nbbn.kernels.tile import best_height, strips, strips_onto
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
    STRIDE_H,
    STRIDE_W,
    TOP,
    WIDTH,
    bordered,
    clear,
    clear_border,
    lines_of,
    out_at,
    pieces_of,
    rows_of_pieces,
    rows_read,
    runs_of,
)


@inline
def _convolve(w, source, weights, weight_depth, bias, relu, z, panels, parts, first, end):
    """Some pieces of the lines of one bordered image."""
    v = lanes(source)
    row, panel = w[BORDERED_W] * w[PIXEL], weight_depth * v
    (_, pixels, line, step), (runs, run) = lines_of(w), runs_of(w)
    for piece in range(first, end):
        i, (j, stop) = piece // parts, share(pixels, piece % parts, parts)
        at = shift(source, i * line + j * step)
        out, count = shift(z, (i * pixels + j) * w[OUT_PIXEL]), stop - j
        if w[DILATION_W] == 1:
            strips(best_height(count), at, step, 1, w[DILATION_H] * row, runs, run, weights, panel,
                   v, run * v, bias, out, w[OUT_PIXEL], v, count, panels)
        else:
            _convolve_by_cells(w, at, step, weights, panel, bias, out, count, panels)
        if relu != 0:
            rectify(out, count * w[OUT_PIXEL])


@inline
def rectify(x, count):
    """`x = max(x, 0)`, while it is hot."""
    zero = splat(x, 0.0)
    for i in range(0, count, lanes(x)):
        store(x, i, maximum(load(x, i), zero))


@inline
def _convolve_by_cells(w, at, step, weights, panel, bias, out, pixels, panels):
    """One line of the output where a kernel row is no single run: cell by cell."""
    v = lanes(at)
    pixel, row = w[PIXEL], w[BORDERED_W] * w[PIXEL]
    for j in range(pixels):
        for p in range(panels):
            store(out, j * w[OUT_PIXEL] + p * v, load(bias, p * v))
    for k in range(w[KERNEL_H]):
        for m in range(w[KERNEL_W]):
            a = shift(at, k * w[DILATION_H] * row + m * w[DILATION_W] * pixel)
            b = shift(weights, (k * w[KERNEL_W] + m) * pixel * v)
            strips_onto(a, step, 1, 0, 1, pixel, b, panel, v, 0, out, w[OUT_PIXEL], v, pixels,
                        panels)


@kernel(inference=True)
def conv_forward(x: Read.IMAGES, x_image, window: INDICES, weights: Read.ALL, weight_depth,
                 bias: Read.ALL, relu, z: Write.IMAGES, z_image, panels, scratch: Write.ALL, blocks,
                 rows, thread, threads):
    """`z = x * weights + bias` (cross-correlation) of own lines, with `relu` clipped at 0."""
    w = window
    lines, down = lines_of(w)[0], w[OUT_W] == 1
    parts = pieces_of(lines, blocks, threads)
    pieces = lines * parts
    first, end = share_lines(rows, pieces, blocks, thread, threads)
    clear_border(w, scratch)
    for n in range(*images_of(first, end, pieces)):
        own, stop = lines_within(n, first, end, pieces)
        top, bottom = rows_read(w, *rows_of_pieces(down, w[OUT_H], parts, own, stop))
        source = bordered(w, shift(x, n * x_image), scratch, top, bottom)
        _convolve(w, source, weights, weight_depth, bias, relu, shift(z, n * z_image), panels,
                  parts, own, stop)


@kernel(inference=True)
def conv_pool_forward(x: Read.IMAGES, x_image, window: INDICES, weights: Read.ALL, weight_depth,
                      bias: Read.ALL, relu, pool: INDICES, y: Write.IMAGES, y_image, panels,
                      scratch: Write.ALL, strip: Write.ALL, blocks, rows, thread, threads):
    """The maxima of the windows of `x * weights + bias`, with `relu` their positive part.

    For pools that do not overlap. A window's rows are computed into `strip` and leave it as maxima;
    what no window covers is never computed.
    """
    w = window
    down = w[OUT_W] == 1
    lines, tall = (pool[OUT_W], 1) if down else (pool[OUT_H], pool[KERNEL_H])
    parts = pieces_of(lines, blocks, threads)
    pieces = lines * parts
    first, end = share_lines(rows, pieces, blocks, thread, threads)
    clear_border(w, scratch)
    for n in range(*images_of(first, end, pieces)):
        own, stop = lines_within(n, first, end, pieces)
        top, bottom = rows_of_pieces(down, pool[OUT_H], parts, own, stop)
        top, bottom = rows_read(w, top * pool[KERNEL_H], bottom * pool[KERNEL_H])
        source = bordered(w, shift(x, n * x_image), scratch, top, bottom)
        _convolve_pooled(w, source, weights, weight_depth, bias, relu, pool, shift(y, n * y_image),
                         panels, strip, parts, own, stop)


@inline
def _convolve_pooled(w, source, weights, weight_depth, bias, relu, pool, y, panels, strip, parts,
                     first, end):
    """Some pieces of the pool's lines of one bordered image."""
    v = lanes(source)
    row, panel = w[BORDERED_W] * w[PIXEL], weight_depth * v
    tall, wide, floor = pool[KERNEL_H], pool[KERNEL_W], splat(y, 0.0)
    out_pixels = pool[OUT_W]
    (_, _, line, step), (runs, run) = lines_of(w), runs_of(w)
    if w[OUT_W] == 1:
        tall, wide, out_pixels = wide, tall, pool[OUT_H]
    for piece in range(first, end):
        i, (start, stop) = piece // parts, share(out_pixels, piece % parts, parts)
        pixels = (stop - start) * wide
        strip_line = pixels * w[OUT_PIXEL]
        for k in range(tall):
            at = shift(source, (i * tall + k) * line + start * wide * step)
            strips(best_height(pixels), at, step, 1, w[DILATION_H] * row, runs, run, weights, panel,
                   v, run * v, bias, shift(strip, k * strip_line), w[OUT_PIXEL], v, pixels, panels)
        for j in range(stop - start):
            for p in range(panels):
                at = j * wide * w[OUT_PIXEL] + p * v
                best = load(strip, at)
                for k in range(tall):
                    for m in range(wide):
                        best = maximum(best, load(strip, k * strip_line + m * w[OUT_PIXEL] + at))
                if relu != 0:
                    best = maximum(best, floor)
                store(y, (i * out_pixels + start + j) * pool[OUT_PIXEL] + p * v, best)


@inline
def _add_gradient(w, source, dz, partial, weight_depth, panels):
    """`partial += x.T @ dz` of one bordered image, one run of the kernel at a time."""
    v = lanes(source)
    pixel, row = w[PIXEL], w[BORDERED_W] * w[PIXEL]
    (lines, pixels, line, step), (runs, run) = lines_of(w), runs_of(w)
    cells = 1  # runs in a kernel row
    if w[DILATION_W] != 1:
        runs, cells, run = w[KERNEL_H], w[KERNEL_W], pixel
    for k in range(runs):
        for m in range(cells):
            a = shift(source, k * w[DILATION_H] * row + m * w[DILATION_W] * pixel)
            c = shift(partial, (k * cells + m) * run * v)
            strips_onto(a, 1, step, line, lines, pixels, dz, v, w[OUT_PIXEL],
                        pixels * w[OUT_PIXEL], c, v, weight_depth * v, run, panels)


@kernel
def conv_gradient(x: Read.IMAGES, x_image, window: INDICES, dz: Read.IMAGES, dz_image,
                  partial: Write.IMAGES, weight_depth, panels, scratch: Write.ALL, blocks, rows,
                  thread, threads):
    """`partial[block] = sum of x.T @ dz` over the images of each own block."""
    size = panels * weight_depth * lanes(x)
    begin, stop = share(blocks, thread, threads)
    clear_border(window, scratch)
    for block in range(begin, stop):
        sum_out = shift(partial, block * size)
        clear(sum_out, size)
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            source = bordered(window, shift(x, n * x_image), scratch, 0, window[BORDERED_H])
            _add_gradient(window, source, shift(dz, n * dz_image), sum_out, weight_depth, panels)


@kernel
def transpose_cells(weights: Read.ALL, weight_depth, cells, turned, pixel, units_pixel,
                    out: Write.ALL, out_depth, panels, thread, threads):
    """`out[cell, unit, channel] = weights[cell, channel, unit]`; `turned`: the cell opposite."""
    v = lanes(weights)
    first, end = share(cells, thread, threads)
    for cell in range(first, end):
        source = cells - 1 - cell if turned != 0 else cell
        for panel in range(panels):
            for channel in range(0, pixel, v):  # the pixels of what is trained are whole vectors
                at = shift(weights, (panel * weight_depth + source * pixel + channel) * v)
                step = channel // v * out_depth + cell * units_pixel + panel * v
                transpose(at, v, shift(out, step * v), v)


@kernel
def conv_input_gradient(dz: Read.IMAGES, dz_image, window: INDICES, weights: Read.ALL, weight_depth,
                        dx: Write.IMAGES, dx_image, panels, blocks, rows, thread, threads):
    """`dx = sum over cells of dz @ weights[cell].T`, added where the forward pass had read."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        out = shift(dx, n * dx_image)
        clear(out, dx_image)
        _add_input_gradient(window, shift(dz, n * dz_image), weights, weight_depth, out, panels)


@inline
def _add_input_gradient(w, dz, weights, weight_depth, dx, panels):
    """One image; `w` is the forward window, of an image that was not spread."""
    v = lanes(dz)
    pixel, out_pixel, width = w[PIXEL], w[OUT_PIXEL], w[WIDTH]
    lines, pixels, _, _ = lines_of(w)
    downwards = w[OUT_W] == 1
    for i in range(lines):
        for k in range(w[KERNEL_H]):
            for m in range(w[KERNEL_W]):
                # Where the line's first pixel reads, and how the others follow.
                row = i * w[STRIDE_H] + k * w[DILATION_H] - w[TOP]
                column = m * w[DILATION_W] - w[LEFT]
                start, size, step, apart, hits = column, width, w[STRIDE_W], 1, row
                if downwards:
                    start, size, step, apart, hits = row, w[HEIGHT], w[STRIDE_H], width, column
                if 0 <= hits < (width if downwards else w[HEIGHT]):
                    first = max(0, (step - 1 - start) // step) if start < 0 else 0
                    last = min(pixels, (size - 1 - start) // step + 1)
                    if first < last:
                        a = shift(dz, (i * pixels + first) * out_pixel)
                        c = shift(dx, (row * width + column + first * step * apart) * pixel)
                        b = shift(weights, (k * w[KERNEL_W] + m) * out_pixel * v)
                        strips_onto(a, out_pixel, 1, 0, 1, out_pixel, b, weight_depth * v, v, 0, c,
                                    step * apart * pixel, v, last - first, panels)


@inline
def _depthwise(w, source, weights, bias, z, panels, first, end):
    """Some rows of one bordered image, channel by channel."""
    v = lanes(source)
    pixel, row = w[PIXEL], w[BORDERED_W] * w[PIXEL]
    for i in range(first, end):
        for j in range(w[OUT_W]):
            at = shift(source, i * w[STRIDE_H] * row + j * w[STRIDE_W] * pixel)
            out = shift(z, (i * w[OUT_W] + j) * w[OUT_PIXEL])
            for panel in range(panels):
                total = load(bias, panel * v)
                for k in range(w[KERNEL_H]):
                    for m in range(w[KERNEL_W]):
                        tap = k * w[DILATION_H] * row + m * w[DILATION_W] * pixel
                        cell = ((k * w[KERNEL_W] + m) * panels + panel) * v
                        total = fma(load(at, tap + panel * v), load(weights, cell), total)
                store(out, panel * v, total)


@kernel(inference=True)
def depthwise_forward(x: Read.IMAGES, x_image, window: INDICES, weights: Read.ALL, bias: Read.ALL,
                      z: Write.IMAGES, z_image, panels, scratch: Write.ALL, blocks, rows, thread,
                      threads):
    """`z[c] = x[c] * weights[c] + bias[c]` of own lines; weights `[cell][panel][lanes]`."""
    w = window
    first, end = share_lines(rows, w[OUT_H], blocks, thread, threads)
    clear_border(w, scratch)
    for n in range(*images_of(first, end, w[OUT_H])):
        own, stop = lines_within(n, first, end, w[OUT_H])
        source = bordered(w, shift(x, n * x_image), scratch, *rows_read(w, own, stop))
        _depthwise(w, source, weights, bias, shift(z, n * z_image), panels, own, stop)


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
