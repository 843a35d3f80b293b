"""Patches: what each pixel of a convolution's output reads, copied into rows of a matrix."""

from __future__ import annotations

from nbbn.kernels.registry import inline
from nbbn.kernels.simd import shift
from nbbn.kernels.window import (
    DILATION_H,
    DILATION_W,
    HEIGHT,
    KERNEL_H,
    KERNEL_W,
    LEFT,
    OUT_H,
    OUT_W,
    PIXEL,
    STRIDE_H,
    STRIDE_W,
    TOP,
    WIDTH,
    clear,
    copy,
)


@inline
def copy_patches(w, x, x_image, first, count, out, patch):
    """Patches of `count` pixels from the `first` on, counted over all images, `patch` apart."""
    pixels = w[OUT_H] * w[OUT_W]
    for q in range(count):
        image, place = (first + q) // pixels, (first + q) % pixels
        _copy_patch(w, shift(x, image * x_image), place // w[OUT_W], place % w[OUT_W],
                    shift(out, q * patch))


@inline
def _copy_patch(w, image, i, j, out):
    """What output pixel (i, j) reads, run by run; zeros where there is no image."""
    pixel = w[PIXEL]
    top, left = i * w[STRIDE_H] - w[TOP], j * w[STRIDE_W] - w[LEFT]
    run = w[KERNEL_W] * pixel
    first = min(max(-left, 0), w[KERNEL_W])
    end = max(min(w[WIDTH] - left, w[KERNEL_W]), first)
    for k in range(w[KERNEL_H]):
        row, to = top + k * w[DILATION_H], shift(out, k * run)
        if not 0 <= row < w[HEIGHT]:
            clear(to, run)
            continue
        source = shift(image, (row * w[WIDTH] + left) * pixel)
        if w[DILATION_W] == 1:
            clear(to, first * pixel)
            copy(shift(source, first * pixel), shift(to, first * pixel), (end - first) * pixel)
            clear(shift(to, end * pixel), run - end * pixel)
            continue
        for m in range(w[KERNEL_W]):
            if 0 <= left + m * w[DILATION_W] < w[WIDTH]:
                copy(shift(source, m * w[DILATION_W] * pixel), shift(to, m * pixel), pixel)
            else:
                clear(shift(to, m * pixel), pixel)
