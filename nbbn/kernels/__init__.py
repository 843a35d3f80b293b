"""Kernels: Numba only. A kernel knows pointers and sizes, never a layer; `registry` makes them callable by address."""

from nbbn.kernels import activation, dense, gather, loss, norm, norm_rows, scan, update  # noqa: F401  (each registers its kernels)
from nbbn.kernels.registry import KERNELS

__all__ = ["KERNELS"]
