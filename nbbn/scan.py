"""Are all numbers of a large array finite?"""

from __future__ import annotations

import functools

import numpy as np

from nbbn import compiler

_BLOCKS = 256
# Numbers that NumPy looks at in one go, without a compiler.
_PART = 1 << 20


@functools.lru_cache(maxsize=16)
def _table(size: int, dtype: np.dtype) -> np.ndarray:
    from nbbn.program.program import Buffer, Program, Segment

    p = Program(dtype)
    p.add("scan_finite", x=Buffer("x", Segment.X), size=size, blocks=_BLOCKS, out=Buffer("out", Segment.OUT))
    return p.table(repeats=False)


def all_finite(x: np.ndarray) -> bool:
    """Whether a C-contiguous float32 or float64 array holds neither NaN nor infinity."""
    flat = x.reshape(-1)
    if not compiler.available():
        return all(np.isfinite(flat[i : i + _PART]).all() for i in range(0, flat.size, _PART))
    from nbbn.program.runnable import call_program

    out = np.empty(_BLOCKS, x.dtype)
    call_program(_table(flat.size, x.dtype), flat, flat, out, out, out, out, 0, True)
    return bool(np.isfinite(out).all())
