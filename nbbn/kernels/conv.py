"""Convolutions of images, forward (of dz with the flipped kernel, too), and what follows at once.

A kernel row is one run of `KERNEL_W * PIXEL` floats of the image: a convolution is the matrix tile
with an outer loop over the kernel's rows, and no patch is copied. Where lines are too short for
tall tiles, or weights too large to be read once a line, patches of several lines are copied beside
each other first. Kernels are panel-major, `[panels][KERNEL_H * KERNEL_W * PIXEL, padded][lanes]`.
Threads own whole images, or in inference lines of them.
"""

from __future__ import annotations

from nbbn.kernels.patches import copy_patches
from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, maximum, minimum, shift, splat, store
from nbbn.kernels.team import (
    BY_LINES,
    images_of,
    lines_within,
    share,
    share_images,
    share_lines,
)
from nbbn.kernels.tile import best_height, strip, strips, strips_onto
from nbbn.kernels.window import (
    BORDERED_W,
    DILATION_H,
    DILATION_W,
    KERNEL_H,
    KERNEL_W,
    OUT_H,
    OUT_PIXEL,
    OUT_W,
    PIXEL,
    bordered,
    clear_border,
    lines_of,
    pieces_of,
    rows_of_pieces,
    rows_read,
    runs_of,
)


@inline
def finish(z, other, pixel, adds, relu, most, pixels, panels):
    """`z += other` where it `adds`, then with `relu` clipped to 0 and `most`, while it is hot."""
    if adds == 0 and relu == 0:
        return
    v, floor, top = lanes(z), splat(z, 0.0), splat(z, most)
    for j in range(pixels):
        for p in range(panels):
            at = j * pixel + p * v
            value = load(z, at)
            if adds != 0:
                value = value + load(other, at)
            if relu != 0:
                value = minimum(maximum(value, floor), top)
            store(z, at, value)


@inline
def _convolve(w, source, weights, weight_depth, bias, other, adds, relu, most, z, panels, parts,
              first, end):
    """Some pieces of the lines of one bordered image."""
    v = lanes(source)
    row, panel = w[BORDERED_W] * w[PIXEL], weight_depth * v
    (_, pixels, line, step), (runs, run) = lines_of(w), runs_of(w)
    for piece in range(first, end):
        i, (j, stop) = piece // parts, share(pixels, piece % parts, parts)
        at, out = shift(source, i * line + j * step), (i * pixels + j) * w[OUT_PIXEL]
        count = stop - j
        if w[DILATION_W] != 1:
            _convolve_by_cells(w, at, step, weights, panel, bias, shift(z, out), count, panels)
            finish(shift(z, out), shift(other, out), w[OUT_PIXEL], adds, relu, most, count, panels)
            continue
        height = best_height(count)
        for start in range(0, count, height):
            begin = min(start, count - height)
            here = out + begin * w[OUT_PIXEL]
            strip(height, shift(at, begin * step), step, 1, w[DILATION_H] * row, runs, run, weights,
                  panel, v, run * v, bias, shift(z, here), w[OUT_PIXEL], v, panels)
            finish(shift(z, here), shift(other, here), w[OUT_PIXEL], adds, relu, most, height,
                   panels)


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
                 bias: Read.ALL, other: Read.IMAGES, other_image, adds, relu, most: Real,
                 z: Write.IMAGES, z_image, panels, scratch: Write.ALL, blocks, rows, thread,
                 threads):
    """`z = clip(x * weights + bias + other)` (cross-correlation) of own lines; see `finish`."""
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
        _convolve(w, source, weights, weight_depth, bias, shift(other, n * other_image), adds, relu,
                  most, shift(z, n * z_image), panels, parts, own, stop)


@inline
def _own_part(rows, pixels, panels, blocks, thread, threads):
    """Pixels of all images, and panels, of a thread: all of its images', or where all threads share
    each image a part of the panels, of few panels a part of the pixels.
    """
    if blocks != BY_LINES:
        first, end = share_images(rows, blocks, thread, threads)
        return first * pixels, end * pixels, 0, panels
    if panels < 2 * threads:
        first, end = share(rows * pixels, thread, threads)
        return first, end, 0, panels
    begin, stop = share((panels + 1) // 2, thread, threads)
    return 0, rows * pixels, 2 * begin, min(2 * stop, panels)


@kernel(inference=True)
def conv_patches_forward(x: Read.IMAGES, x_image, window: INDICES, weights: Read.ALL, weight_depth,
                         bias: Read.ALL, other: Read.IMAGES, adds, relu, most: Real,
                         z: Write.IMAGES, panels, patches: Write.ALL, patch, held, blocks, rows,
                         thread, threads):
    """`conv_forward` from patches, `held` of them beside each other in `patches`, `patch` apart.

    Images of `z` and `other` stand without gaps.
    """
    w, v = window, lanes(x)
    pixels, depth = w[OUT_H] * w[OUT_W], w[KERNEL_H] * w[KERNEL_W] * w[PIXEL]
    begin, stop, p_first, p_end = _own_part(rows, pixels, panels, blocks, thread, threads)
    panel = weight_depth * v
    for first in range(begin, stop, held):
        count = min(held, stop - first)
        copy_patches(w, x, x_image, first, count, patches, patch)
        height = best_height(count)
        for p in range(p_first, p_end, 2):
            wide = min(2, p_end - p)
            for start in range(0, count, height):
                at = min(start, count - height)
                here = (first + at) * w[OUT_PIXEL] + p * v
                strip(height, shift(patches, at * patch), patch, 1, 0, 1, depth,
                      shift(weights, p * panel), panel, v, 0, shift(bias, p * v), shift(z, here),
                      w[OUT_PIXEL], v, wide)
                finish(shift(z, here), shift(other, here), w[OUT_PIXEL], adds, relu, most, height,
                       wide)


@kernel(inference=True)
def conv_pool_forward(x: Read.IMAGES, x_image, window: INDICES, weights: Read.ALL, weight_depth,
                      bias: Read.ALL, relu, most: Real, pool: INDICES, y: Write.IMAGES, y_image,
                      panels, scratch: Write.ALL, strip_out: Write.ALL, blocks, rows, thread,
                      threads):
    """The maxima of the windows of `x * weights + bias`, with `relu` clipped to 0 and `most`.

    For pools that do not overlap. A window's rows are computed into `strip_out` and leave it as
    maxima; what no window covers is never computed.
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
        _convolve_pooled(w, source, weights, weight_depth, bias, relu, most, pool,
                         shift(y, n * y_image), panels, strip_out, parts, own, stop)


@inline
def _convolve_pooled(w, source, weights, weight_depth, bias, relu, most, pool, y, panels, strip_out,
                     parts, first, end):
    """Some pieces of the pool's lines of one bordered image."""
    v = lanes(source)
    row, panel = w[BORDERED_W] * w[PIXEL], weight_depth * v
    tall, wide, floor, ceiling = pool[KERNEL_H], pool[KERNEL_W], splat(y, 0.0), splat(y, most)
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
                   v, run * v, bias, shift(strip_out, k * strip_line), w[OUT_PIXEL], v, pixels,
                   panels)
        for j in range(stop - start):
            for p in range(panels):
                at = j * wide * w[OUT_PIXEL] + p * v
                best = load(strip_out, at)
                for k in range(tall):
                    for m in range(wide):
                        cell = k * strip_line + m * w[OUT_PIXEL] + at
                        best = maximum(best, load(strip_out, cell))
                if relu != 0:
                    best = minimum(maximum(best, floor), ceiling)
                store(y, (i * out_pixels + start + j) * pool[OUT_PIXEL] + p * v, best)
