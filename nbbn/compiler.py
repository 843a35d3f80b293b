"""Whether numba's compiler is there.

What asks here can do without it, what imports `nbbn.kernels` cannot.
Without it, loading, predicting, folding and saving run on NumPy (`nbbn.fallback`); training does
not.
"""

from __future__ import annotations

import functools
import os

VARIABLE = "NBBN_DISABLE_JIT"


@functools.cache
def why_not() -> str | None:
    """Why compiled kernels cannot be used, and what to do; None where they can. Asked once."""
    if os.environ.get(VARIABLE, "0") not in ("", "0"):
        return f"the environment variable {VARIABLE} is set; unset it"
    try:
        # A broken llvmlite is an OSError.
        import numba
    except (ImportError, OSError) as err:
        return f"numba cannot be imported ({err}); install it: python -m pip install numba"
    if numba.config.DISABLE_JIT:
        return "the environment variable NUMBA_DISABLE_JIT is set; unset it"
    return None


def available() -> bool:
    """Whether compiled kernels can be used."""
    return why_not() is None


def require() -> None:
    """Raise ImportError where compiled kernels cannot be used."""
    if (reason := why_not()) is not None:
        raise ImportError("this needs compiled kernels (loading, predicting, "
                          f"folding and saving do not), but {reason}")
