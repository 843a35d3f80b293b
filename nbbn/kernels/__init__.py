"""Kernels: Numba only. A kernel knows pointers and sizes, never a layer.

`registry` makes them callable by address.
"""

from nbbn import compiler

compiler.require()  # before anything below imports numba

from nbbn.kernels import (  # noqa: E402, F401  (each registers its kernels)
    activation,
    collective,
    combine,
    conv,
    conv_gradients,
    dense,
    depthwise,
    embedding,
    gather,
    loss,
    moves,
    noise,
    norm,
    norm_groups,
    norm_images,
    norm_rows,
    norm_shards,
    pool,
    prelu,
    products,
    sparse,
    update,
    winograd,
)
from nbbn.kernels.registry import KERNELS  # noqa: E402

__all__ = ["KERNELS"]
