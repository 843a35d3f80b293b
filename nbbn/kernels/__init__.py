"""Kernels: Numba only. A kernel knows pointers and sizes, never a layer; `registry` makes them callable by address."""

from nbbn.kernels import (  # noqa: F401  (each registers its kernels)
    activation,
    dense,
    gather,
    loss,
    norm,
    norm_rows,
    norm_rows_backward,
    scan,
    update,
)
from nbbn.kernels.registry import KERNELS

__all__ = ["KERNELS"]
