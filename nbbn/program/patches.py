"""Which convolutions copy their patches beside each other first, and how many at a time.

Lines of an image are multiplied where they stand as long as tiles fit them and weights stay in a
core's cache from line to line. Patches of several lines make tiles of any line, and large weights,
or sums of gradients, are gone through once for all of them.
"""

from __future__ import annotations

import numpy as np

from nbbn.kernels import window as w
from nbbn.kernels.tile import HEIGHTS, best_height
from nbbn.program import window_words
from nbbn.program.layout import lanes, panels_of

# Bytes of patches that stand beside each other, forward and for the gradient of a kernel, whose
# every column is read from a cache as long as it is no longer than `COLUMN`.
PATCHES_BYTES, GRADIENT_BYTES, COLUMN = 1 << 19, 1 << 21, 256
# Bytes of weights that are not read anew for each line, and what a line is that reads them seldom.
HEAVY_BYTES, LONG_LINE = 3 << 18, 28
# Fewer panels than these are not worth the copy, forward and for a gradient.
PANELS, GRADIENT_PANELS = 4, 2
# How much more than they need the strips of single lines may compute.
WASTE = 1.1


def patch(words: np.ndarray, dtype: np.dtype) -> int:
    """Floats from patch to patch: vectors in an odd number, so that rows of a tile do not fall on
    one set of a cache."""
    return window_words.depth(words) | lanes(dtype)


def held(words: np.ndarray, rows: int, dtype: np.dtype) -> int:
    """Patches of a convolution that are held at once; 0 where lines are as fast."""
    if not _is_faster(words, dtype):
        return 0
    tallest = HEIGHTS[-1]
    fit = PATCHES_BYTES // (patch(words, dtype) * dtype.itemsize) // tallest * tallest
    return min(rows * _pixels(words), max(fit, tallest))


def held_for_gradient(words: np.ndarray, rows: int, dtype: np.dtype) -> int:
    """Patches that are held at once for the gradient of a kernel; 0 where lines are as fast."""
    ones = window_words.is_pointwise(words)
    few = panels_of(int(words[w.OUT_PIXEL]), dtype) < GRADIENT_PANELS
    if ones or few or window_words.is_spread(words):
        return 0
    fit = GRADIENT_BYTES // (patch(words, dtype) * dtype.itemsize)
    return min(rows * _pixels(words), max(fit, 1), COLUMN)


def _pixels(words: np.ndarray) -> int:
    return int(words[w.OUT_H] * words[w.OUT_W])


def _is_faster(words: np.ndarray, dtype: np.dtype) -> bool:
    if panels_of(int(words[w.OUT_PIXEL]), dtype) < PANELS or window_words.is_spread(words):
        return False
    line, pixels = int(words[w.OUT_W]), _pixels(words)
    if line == 1:  # one line downwards
        line = pixels
    lines = pixels // line
    heavy = window_words.depth(words) * int(words[w.OUT_PIXEL]) * dtype.itemsize > HEAVY_BYTES
    wasteful = lines * _computed(line) > WASTE * _computed(pixels)
    return lines > 1 and line < LONG_LINE and (heavy or wasteful)


def _computed(rows: int) -> int:
    """Rows that strips compute for so many, those of short strips counted for what they cost."""
    height = best_height.py_func(rows)
    work = -(-rows // height) * height
    return work if height >= HEIGHTS[2] else 2 * work
