"""Which convolutions go by Winograd's minimal filtering, and how many tiles at a time.

In float32 alone: float64 is for numbers that are those of the definition to the last digits.
"""

from __future__ import annotations

import numpy as np

from nbbn.kernels import window as w
from nbbn.kernels.tile import HEIGHTS
from nbbn.kernels.winograd import POINTS
from nbbn.operations import Pool, Step
from nbbn.program.layout import lanes, panels_of

# Bytes of tiles that are multiplied at once, before and behind the products, and how many tiles
# there are at least where the kernel comes from beyond the cache for each group of them; the same
# for the gradient of a kernel.
_BYTES, _LEAST_OF_HEAVY = 3 << 18, 128
_GRADIENT_BYTES, _GRADIENT_LEAST = 3 << 19, 256
# Bytes of a kernel's points that stay in a core's cache.
_HEAVY = 1 << 20
# Fewer vectors of channels, in and out, are not worth what is done to each.
_PANELS = 2


def is_faster(words: np.ndarray, dtype: np.dtype, pool: Step[Pool] | None = None) -> bool:
    """Whether a convolution goes by tiles: 3 x 3 cells side by side, of whole vectors of channels.

    With a pool if that takes the largest of each tile.
    """
    if pool and pool.operation.window.size != (2, 2):
        return False
    side_by_side = words[[w.STRIDE_H, w.STRIDE_W, w.DILATION_H, w.DILATION_W, w.SPREAD_H,
                          w.SPREAD_W]] == 1
    three = words[[w.KERNEL_H, w.KERNEL_W]] == 3
    if not (dtype == np.float32 and side_by_side.all() and three.all()):
        return False
    pixel, height, width = (int(words[k]) for k in (w.PIXEL, w.OUT_H, w.OUT_W))
    whole = pixel % lanes(dtype) == 0 and min(height, width) > 1
    few = min(panels_of(pixel, dtype), panels_of(int(words[w.OUT_PIXEL]), dtype)) < _PANELS
    return whole and not few


def tiles_of(words: np.ndarray) -> int:
    """Tiles of an image."""
    return int((words[w.OUT_H] + 1) // 2 * ((words[w.OUT_W] + 1) // 2))


def held(words: np.ndarray, rows: int, dtype: np.dtype) -> int:
    """Tiles that are held at once."""
    fit = _fit(words, dtype, _BYTES, _LEAST_OF_HEAVY)
    tallest = HEIGHTS[-1]
    return min(rows * tiles_of(words), max(fit // tallest * tallest, tallest))


def held_for_gradient(words: np.ndarray, rows: int, dtype: np.dtype) -> int:
    """Tiles that are held at once for the gradient of a kernel."""
    return min(rows * tiles_of(words), _fit(words, dtype, _GRADIENT_BYTES, _GRADIENT_LEAST))


def _fit(words: np.ndarray, dtype: np.dtype, size: int, least: int) -> int:
    heavy = words[w.PIXEL] * words[w.OUT_PIXEL] * POINTS * dtype.itemsize > _HEAVY
    return max(1, size // (_tile(words, dtype) * dtype.itemsize), least if heavy else 1)


def _tile(words: np.ndarray, dtype: np.dtype) -> int:
    """Floats of a tile's points, before and behind the products."""
    v = lanes(dtype)
    return POINTS * (int(words[w.PIXEL]) | v) + POINTS * (int(words[w.OUT_PIXEL]) | v)


def room(words: np.ndarray, rows: int, dtype: np.dtype, *, training: bool) -> int:
    """Floats that a convolution by tiles takes beside its images."""
    count = held(words, rows, dtype)
    if training:
        count = max(count, held_for_gradient(words, rows, dtype))
    return count * _tile(words, dtype)
