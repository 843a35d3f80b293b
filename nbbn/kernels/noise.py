"""Dropout and Gaussian noise from a counter.

A number depends on the seed, the step, the row and the column, and on no thread.
"""

from __future__ import annotations

import math

from numba import uint64

from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import lanes, scalar, stack
from nbbn.kernels.team import share_images

_FACTORS = 8  # vectors
_GOLDEN = uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = uint64(0xBF58476D1CE4E5B9), uint64(0x94D049BB133111EB)


@inline
def mix(seed, counter):
    """64 well-mixed bits (SplitMix64: Steele, Lea and Flood, 2014, fig. 15)."""
    z = uint64(seed) + (uint64(counter) + uint64(1)) * _GOLDEN
    z = (z ^ (z >> uint64(30))) * _FIRST
    z = (z ^ (z >> uint64(27))) * _SECOND
    return z ^ (z >> uint64(31))


@inline
def uniform(seed, counter):
    """A number in [0, 1)."""
    return float(mix(seed, counter) >> uint64(11)) * (1.0 / 9007199254740992.0)


@inline
def drop_image(x, y, n, row, image, pixel, channels, rate_of_loss, key, factors):
    """Image `n`, which is row `row` of the batch.

    Factors first, in a buffer of their own: their loop becomes vectors also where `y` is `x`, as
    for the gradient. In one loop with the product it would not: the compiler then fears that a
    number is read after its neighbour was written.
    """
    keep = scalar(x, 1.0 / (1.0 - rate_of_loss))
    bound = uint64(rate_of_loss * 9007199254740992.0)
    pixels, most = image // pixel, _FACTORS * lanes(x)
    for p in range(pixels):
        number = (row * pixels + p) * channels
        for start in range(0, channels, most):
            count = min(most, channels - start)
            for c in range(count):
                lost = (mix(key, number + start + c) >> uint64(11)) < bound
                factors[c] = scalar(x, 0.0) if lost else keep
            at = n * image + p * pixel + start
            for c in range(count):
                y[at + c] = x[at + c] * factors[c]


@kernel
def dropout(x: Read.IMAGES, y: Write.IMAGES, image, pixel, channels, rate_of_loss: Real, seed,
            blocks, rows, step, thread, threads):
    """`y = x / (1 - rate)`, or `x * 0` with probability `rate` (Srivastava et al., 2014).

    Run again on `dy` it gives the gradient.
    """
    first, end = share_images(rows, blocks, thread, threads)
    key, factors = mix(seed, step), stack(x, _FACTORS)
    for n in range(first, end):
        drop_image(x, y, n, n, image, pixel, channels, rate_of_loss, key, factors)


@kernel
def placed_dropout(x: Read.IMAGES, y: Write.IMAGES, image, pixel, channels, rate_of_loss: Real,
                   seed, places: INDICES, first, blocks, rows, step, thread, threads):
    """`dropout` of some of a batch's rows, which have these places in it."""
    begin, end = share_images(rows, blocks, thread, threads)
    key, factors = mix(seed, step), stack(x, _FACTORS)
    for n in range(begin, end):
        drop_image(x, y, n, places[first + n], image, pixel, channels, rate_of_loss, key, factors)


@inline
def disturb_image(x, y, n, row, image, pixel, channels, stddev, key):
    """Image `n`, which is row `row` of the batch."""
    pixels = image // pixel
    for p in range(pixels):
        at = n * image + p * pixel
        for c in range(channels):
            number = 2 * ((row * pixels + p) * channels + c)
            radius = math.sqrt(-2.0 * math.log(1.0 - uniform(key, number)))
            angle = 2.0 * math.pi * uniform(key, number + 1)
            y[at + c] = scalar(x, x[at + c] + stddev * (radius * math.cos(angle)))


@kernel
def gaussian_noise(x: Read.IMAGES, y: Write.IMAGES, image, pixel, channels, stddev: Real, seed,
                   blocks, rows, step, thread, threads):
    """`y = x + stddev * normal` (Box and Muller, 1958)."""
    first, end = share_images(rows, blocks, thread, threads)
    key = mix(seed, step)
    for n in range(first, end):
        disturb_image(x, y, n, n, image, pixel, channels, stddev, key)


@kernel
def placed_gaussian_noise(x: Read.IMAGES, y: Write.IMAGES, image, pixel, channels, stddev: Real,
                          seed, places: INDICES, first, blocks, rows, step, thread, threads):
    """`gaussian_noise` of some of a batch's rows, which have these places in it."""
    begin, end = share_images(rows, blocks, thread, threads)
    key = mix(seed, step)
    for n in range(begin, end):
        disturb_image(x, y, n, places[first + n], image, pixel, channels, stddev, key)
