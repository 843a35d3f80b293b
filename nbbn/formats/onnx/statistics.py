"""What a batch norm normalises with, read in one way for networks and for folding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbbn.formats.onnx.graph import OnnxNode


class Statistics(NamedTuple):
    """Four float64 arrays of shape (channels,), and epsilon."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    epsilon: float


def statistics(node: OnnxNode, arrays: Sequence[np.ndarray]) -> Statistics:
    """Those of a BatchNormalization with this scale, bias, mean and variance, of one shape each.

    The operator's epsilon is a float32, and what that loses of the number that was meant may stand
    in the variances: that of a dead channel is a little below 0 then. It is given back to epsilon,
    which leaves `var + epsilon` as it is; a variance that epsilon does not make positive stays.
    """
    gamma, beta, mean, var = (array.astype(np.float64) for array in arrays)
    epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
    lowest = float(var.min(initial=0.0))
    if -epsilon < lowest < 0:
        epsilon, var = epsilon + lowest, var - lowest
    return Statistics(gamma, beta, mean, var, epsilon)
