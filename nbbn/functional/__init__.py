"""Kernels as NumPy functions: batch norm, and the forward functions of other layers.

Rows first, channels last; float32 or float64, never mixed. All of them may be called from many
threads at once.
"""

import importlib
from typing import Any

# Each name and its module, imported when the name is first used: they import numba.
_MODULES = dict.fromkeys(("BATCH_NORM_ACTIVATIONS", "BatchNormCache", "batch_norm_backward",
                          "batch_norm_inference", "batch_norm_train"), "batch_norm")
_MODULES |= dict.fromkeys(("conv2d", "dense", "group_norm", "layer_norm", "max_pool2d"), "layers")

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
