"""Whether a convolution copies its patches beside each other first, and how many at a time.

Lines of an image are multiplied where they stand as long as tiles fit them and weights stay in a
core's cache from line to line. Patches of several lines make tiles of any line, and large weights
are read once for all of them.
"""

from __future__ import annotations

import numpy as np

from nbbn.kernels import window as w
from nbbn.kernels.tile import HEIGHTS, best_height
from nbbn.program import window_words
from nbbn.program.layout import lanes, panels_of
from nbbn.program.lowering import Lowering
from nbbn.program.program import Buffer

# Bytes of the patches that stand beside each other: they stay in the L2 with what they meet.
PATCHES_BYTES = 1 << 19
# Bytes of weights that are not read anew for each line, and what a line is that reads them seldom.
HEAVY_BYTES, LONG_LINE = 3 << 18, 28
# Fewer panels than these are not worth the copy.
PANELS = 4
# How much more than they need the strips of single lines may compute.
WASTE = 1.1


def patches(low: Lowering, words: np.ndarray) -> dict[str, Buffer | int] | None:
    """Operands of a convolution from patches; None where it is no faster."""
    if not _is_faster(words, low.dtype):
        return None
    depth, pixels = window_words.depth(words), int(words[w.OUT_H] * words[w.OUT_W])
    # An odd number of vectors: rows of a tile do not fall on one set of the cache.
    patch = depth | lanes(low.dtype)
    fit = PATCHES_BYTES // (patch * low.dtype.itemsize) // HEIGHTS[-1] * HEIGHTS[-1]
    held = min(low.rows * pixels, max(fit, HEIGHTS[-1]))
    name = f"patches{len(low.program.operations)}"
    room = low.program.buffer(name, low.own_segment, held * patch)
    return {"patches": room, "patch": patch, "held": held}


def _is_faster(words: np.ndarray, dtype: np.dtype) -> bool:
    panels = panels_of(int(words[w.OUT_PIXEL]), dtype)
    if panels < PANELS or window_words.is_spread(words):
        return False
    line, pixels = int(words[w.OUT_W]), int(words[w.OUT_H] * words[w.OUT_W])
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
