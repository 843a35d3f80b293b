"""Convolutions of images: the gradients of kernels and of what goes in.

The layout is that of `kernels/conv.py`. Gradients of kernels are summed by block of images and
merged in block order.
"""

from __future__ import annotations

from nbbn.kernels.patches import copy_patches
from nbbn.kernels.registry import INDICES, Read, Write, inline, kernel
from nbbn.kernels.simd import lanes, shift, transpose
from nbbn.kernels.team import share, share_images
from nbbn.kernels.tile import strips_onto
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
    runs_of,
)


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
def conv_patches_gradient(x: Read.IMAGES, x_image, window: INDICES, dz: Read.IMAGES,
                          partial: Write.IMAGES, weight_depth, panels, patches: Write.ALL, patch,
                          held, blocks, rows, thread, threads):
    """`conv_gradient` from patches, `held` of them at once; images of `dz` stand without gaps."""
    w, v = window, lanes(x)
    pixels, depth = w[OUT_H] * w[OUT_W], w[KERNEL_H] * w[KERNEL_W] * w[PIXEL]
    size = panels * weight_depth * v
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        sum_out = shift(partial, block * size)
        clear(sum_out, size)
        first, end = share(rows, block, blocks)
        first, end = first * pixels, end * pixels
        for at in range(first, end, held):
            count = min(held, end - at)
            copy_patches(w, x, x_image, at, count, patches, patch)
            strips_onto(patches, 1, patch, 0, 1, count, shift(dz, at * w[OUT_PIXEL]), v,
                        w[OUT_PIXEL], 0, sum_out, v, weight_depth * v, depth, panels)


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
