"""Kernels: Numba only. A kernel knows pointers and sizes, never a layer; `registry` makes them callable by address."""

from nbbn.kernels import (  # noqa: F401  (each registers its kernels)
    activation,
    activation_images,
    conv,
    dense,
    gather,
    gradient,
    loss,
    noise,
    norm,
    norm_groups,
    norm_images,
    norm_pool,
    norm_rows,
    norm_rows_backward,
    norm_weighted,
    pool,
    scan,
    update,
)
from nbbn.kernels.registry import KERNELS

__all__ = ["KERNELS"]
