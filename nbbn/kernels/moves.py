"""Numbers to other places: axes in another order, padding, pixels of another width, repeats."""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, Read, Write, kernel
from nbbn.kernels.simd import scalar, shift
from nbbn.kernels.team import share_images
from nbbn.kernels.window import BORDERED_H, bordered, clear_border


@kernel(inference=True)
def clear_padding(x: Write.IMAGES, pixel, channels, pixels, blocks, rows, thread, threads):
    """Zeros behind the channels of each pixel: what a function with `f(0) != 0` left there."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        for c in range(channels, pixel):
            x[r * pixel + c] = scalar(x, 0.0)


@kernel(inference=True)
def repack(x: Read.IMAGES, x_image, x_pixel, x_channels, y: Write.IMAGES, y_image, y_pixel,
           y_channels, count, blocks, rows, thread, threads):
    """Copy each image's `count` numbers, in order, to pixels of another width."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        source, target = shift(x, n * x_image), shift(y, n * y_image)
        a, c, b, d = 0, 0, 0, 0
        for _ in range(count):
            target[b + d] = source[a + c]
            c += 1
            d += 1
            if c == x_channels:
                a, c = a + x_pixel, 0
            if d == y_channels:
                b, d = b + y_pixel, 0


@kernel(inference=True)
def repeat_channels(x: Read.IMAGES, x_image, x_pixel, channels, times, y: Write.IMAGES, y_image,
                    y_pixel, pixels, blocks, rows, thread, threads):
    """`y[c * times + t] = x[c]` for each pixel: what a depthwise layer with a multiplier reads."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for p in range(pixels):
            source = shift(x, n * x_image + p * x_pixel)
            target = shift(y, n * y_image + p * y_pixel)
            for c in range(channels):
                for t in range(times):
                    target[c * times + t] = source[c]


@kernel
def sum_repeats(dy: Read.IMAGES, dy_image, dy_pixel, channels, times, dx: Write.IMAGES, dx_image,
                dx_pixel, pixels, blocks, rows, thread, threads):
    """`dx[c] = dy[c * times : (c + 1) * times].sum()` for each pixel."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for p in range(pixels):
            source = shift(dy, n * dy_image + p * dy_pixel)
            target = shift(dx, n * dx_image + p * dx_pixel)
            for c in range(channels):
                total = source[c * times]
                for t in range(1, times):
                    total += source[c * times + t]
                target[c] = total


@kernel(inference=True)
def pad_images(x: Read.IMAGES, x_image, window: INDICES, y: Write.IMAGES, y_image, blocks, rows,
               thread, threads):
    """`y`: the bordered image, or with negative borders the inner part of one."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        target = shift(y, n * y_image)
        clear_border(window, target)
        bordered(window, shift(x, n * x_image), target, 0, window[BORDERED_H])


@kernel(inference=True)
def permute(x: Read.IMAGES, x_image, y: Write.IMAGES, y_image, a, b, c, x_a, x_b, y_a, y_b, y_c,
            blocks, rows, thread, threads):
    """Axes in another order: `y[i * y_a + j * y_b + k * y_c] = x[i * x_a + j * x_b + k]`."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        source, target = shift(x, n * x_image), shift(y, n * y_image)
        for i in range(a):
            for j in range(b):
                for k in range(c):
                    target[i * y_a + j * y_b + k * y_c] = source[i * x_a + j * x_b + k]
