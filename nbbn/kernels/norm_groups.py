"""Layer and group norm: statistics within each row, so that no rows mix; over own images.

A *set* is what is normalised together: `set_pixels` pixels times `set_channels` channels. Layer
norm has a set for each pixel (all of its channels), group norm one for each group of channels (of
all pixels). `state` is GAMMA, BETA, of `norm.py`.
"""

from __future__ import annotations

import math

from nbbn.kernels.norm import BETA, GAMMA, cleared_sums
from nbbn.kernels.registry import Read, Real, Write, kernel
from nbbn.kernels.simd import scalar
from nbbn.kernels.team import share, share_images


@kernel(inference=True)
def group_norm_forward(x: Read.IMAGES, xhat: Write.IMAGES, y: Write.IMAGES, invstd: Write.IMAGES,
                       state: Read.ALL, width, pixel, pixels, channels, set_pixels, set_channels,
                       epsilon: Real, blocks, rows, thread, threads):
    """`xhat` (may be `x`) and `y`, two passes a set in float64 (Wu and He, 2018, eq. 1 to 3)."""
    first, end = share_images(rows, blocks, thread, threads)
    groups = channels // set_channels
    sets = pixels // set_pixels * groups
    count = float(set_pixels * set_channels)
    for n in range(first, end):
        for one in range(sets):
            start, column = one // groups * set_pixels, one % groups * set_channels
            mean, var = 0.0, 0.0
            for p in range(start, start + set_pixels):
                at = (n * pixels + p) * pixel + column
                for c in range(set_channels):
                    mean += float(x[at + c])
            mean /= count
            for p in range(start, start + set_pixels):
                at = (n * pixels + p) * pixel + column
                for c in range(set_channels):
                    var += (float(x[at + c]) - mean) ** 2
            scale = 1.0 / math.sqrt(var / count + epsilon)
            invstd[n * sets + one] = scalar(x, scale)
            for p in range(start, start + set_pixels):
                at = (n * pixels + p) * pixel + column
                for c in range(set_channels):
                    h = (float(x[at + c]) - mean) * scale
                    xhat[at + c] = scalar(x, h)
                    k = column + c
                    y[at + c] = scalar(x, h * state[GAMMA * width + k] + state[BETA * width + k])


@kernel
def group_norm_backward(dy: Write.IMAGES, xhat: Read.IMAGES, invstd: Read.IMAGES, state: Read.ALL,
                        partial: Write.IMAGES, width, pixel, pixels, channels, set_pixels,
                        set_channels, blocks, rows, thread, threads):
    """`dx` over `dy`; `partial[block] = dgamma, dbeta`."""
    begin, stop = share(blocks, thread, threads)
    groups = channels // set_channels
    sets = pixels // set_pixels * groups
    count = float(set_pixels * set_channels)
    for block in range(begin, stop):
        out = cleared_sums(partial, block, width)
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            for one in range(sets):
                start, column = one // groups * set_pixels, one % groups * set_channels
                a, b = 0.0, 0.0
                for p in range(start, start + set_pixels):
                    at = (n * pixels + p) * pixel + column
                    for c in range(set_channels):
                        g, h = dy[at + c], xhat[at + c]
                        out[GAMMA * width + column + c] += g * h
                        out[BETA * width + column + c] += g
                        scaled = float(g) * state[GAMMA * width + column + c]
                        a, b = a + scaled * h, b + scaled
                a, b, scale = a / count, b / count, float(invstd[n * sets + one])
                for p in range(start, start + set_pixels):
                    at = (n * pixels + p) * pixel + column
                    for c in range(set_channels):
                        scaled = float(dy[at + c]) * state[GAMMA * width + column + c]
                        dy[at + c] = scalar(dy, scale * (scaled - b - xhat[at + c] * a))
