"""Kernels as NumPy functions: batch norm forward, backward and in inference, and the forward functions of other layers.

Rows first, channels last; float32 or float64, never mixed. All of them may be called from many threads at once.
"""

from nbbn.functional.affine import conv2d, dense
from nbbn.functional.batch_norm import (
    ACTIVATIONS,
    BatchNormCache,
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_train,
)
from nbbn.functional.norm import group_norm, layer_norm
from nbbn.functional.pool import max_pool2d

__all__ = [
    "ACTIVATIONS",
    "BatchNormCache",
    "batch_norm_backward",
    "batch_norm_inference",
    "batch_norm_train",
    "conv2d",
    "dense",
    "group_norm",
    "layer_norm",
    "max_pool2d",
]
