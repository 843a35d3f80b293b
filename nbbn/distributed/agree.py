"""What all ranks must have alike before they begin."""

from __future__ import annotations

import platform
from typing import Any

from nbbn.distributed.ranks import Ranks
from nbbn.version import __version__


def environment() -> dict[str, Any]:
    """What makes programs, layouts and bits."""
    import numba
    import numpy as np

    from nbbn.kernels.cache import SOURCES
    from nbbn.kernels.simd import VECTOR_BYTES

    return {"nbbn": __version__, "kernels": SOURCES, "vectors of bytes": VECTOR_BYTES,
            "machine": platform.machine(), "numpy": np.__version__, "numba": numba.__version__}


def check_alike(group: Ranks, what: str, own: dict[str, Any]) -> None:
    """ValueError that says which rank differs from the first, and in what."""
    found = group.gathered(own)
    for rank, other in enumerate(found):
        for name in {**found[0], **other}:
            mine, its = found[0].get(name), other.get(name)
            if its != mine:
                raise ValueError(f"{what}: rank {rank} has {name} {its}, rank 0 has {mine}; all "
                                 "ranks need the same")
