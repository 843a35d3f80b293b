"""The engine's own layouts.

Padded widths, panel-major kernels, and strides that keep off powers of two.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import DTypeLike

from nbbn.kernels.simd import lanes_of

ALIGNMENT = 64  # bytes: a cache line and the widest vector


def lanes(dtype: DTypeLike) -> int:
    """Floats of `dtype` in one vector."""
    return lanes_of(np.dtype(dtype).itemsize)


def panels_of(width: int, dtype: DTypeLike) -> int:
    """Vectors that hold `width` columns."""
    return -(-width // lanes(dtype))


def padded(width: int, dtype: DTypeLike) -> int:
    """`width` rounded up to whole vectors."""
    return panels_of(width, dtype) * lanes(dtype)


def stride_of(width: int, dtype: DTypeLike) -> int:
    """Items from row to row of a buffer: whole vectors, and an odd number of cache lines.

    Down a column every set of a cache is used then: of 8 lines from row to row 256 rows find room
    in an eighth of the first cache, of 9 in all of it.
    """
    items, line = padded(width, dtype), ALIGNMENT // np.dtype(dtype).itemsize
    lines = -(-items // line)
    if lines > 1 and lines % 2 == 0:
        items = (lines + 1) * line
    return items


def pack_kernel(kernel: np.ndarray, out: np.ndarray) -> None:
    """`(depth, units)` into panels `(panels, padded depth, lanes)`.

    The padding of `out` stays as it is.
    """
    depth, units = kernel.shape
    v = out.shape[2]
    for panel in range(out.shape[0]):
        columns = kernel[:, panel * v : (panel + 1) * v]
        out[panel, :depth, : columns.shape[1]] = columns


def unpack_kernel(panels: np.ndarray, depth: int, units: int) -> np.ndarray:
    """The inverse of `pack_kernel`: a new C-contiguous array of shape `(depth, units)`."""
    kernel = np.empty((depth, units), panels.dtype)
    v = panels.shape[2]
    for panel in range(panels.shape[0]):
        columns = kernel[:, panel * v : (panel + 1) * v]
        columns[:] = panels[panel, :depth, : columns.shape[1]]
    return kernel


# Memory that fills a good part of an L2 is taken in huge pages, where the system has them (NumPy
# asks for them from 4 MB on): scattered small pages collide in the cache, differently in each
# process. A fit of two epochs of 784-128-64-32-10 at batch 256 took 0.160 to 0.172 s in nine
# processes out of ten, against 0.201 to 0.211 s in four out of five. To clear a huge page takes 0.4
# ms, so a fit of a small network does without.
_HUGE, _ASKED, _LARGE = 2 << 20, 4 << 20, 1 << 19


def aligned_bytes(size: int) -> np.ndarray:
    """A zeroed uint8 array of `size` bytes on a 64-byte boundary.

    A large one on that of a huge page.
    """
    boundary = 64 if size < _LARGE else _HUGE
    raw = np.zeros(size + 64 if boundary == 64 else max(size, _ASKED) + _HUGE, np.uint8)
    start = -raw.ctypes.data % boundary
    return raw[start : start + size]
