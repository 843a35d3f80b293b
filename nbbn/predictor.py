"""The shortest way from an array to an answer: a network compiled for inference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nbbn import compiler
from nbbn.fallback import NumpyBlocks
from nbbn.network import Network, Weights
from nbbn.sparse_rows import SparseRows

if TYPE_CHECKING:
    from nbbn.program.runnable import InferenceRun


class Predictor:
    """A network ready for inference; callable on rows, safe from many threads at once.

    On compiled kernels, or on NumPy where there is no compiler.
    """

    def __init__(self, network: Network):
        load = _compiled(network) if compiler.available() else NumpyBlocks(network).with_weights
        self._load, self._blocks = load, load(network.weights)

    def with_weights(self, weights: Weights) -> Predictor:
        """The same network with other weights; nothing but these is made ready anew."""
        other = copy.copy(self)
        other._blocks = self._load(weights)
        return other

    def __call__(self, x: np.ndarray | SparseRows) -> np.ndarray:
        """Outputs, `(rows, numbers of an output)` of the network's dtype, for numeric rows.

        Others than writeable C-contiguous ones of that dtype are converted a few thousand at a
        time. Rows of stored elements never become dense where a dense layer begins the network.
        """
        return self._blocks.run(x)


def _compiled(network: Network) -> Callable[[Weights], InferenceRun]:
    """What makes the network, lowered once, ready to run with any weights."""
    # Here, not above: these import numba.
    from nbbn.program.inference import InferenceProgram
    from nbbn.program.runnable import InferenceRun

    lowered = InferenceProgram(network.computation(), network.dtype)
    ready, parameters = InferenceRun(lowered, np.empty(0, np.uint8)), lowered.parameters

    def load(weights: Weights) -> InferenceRun:
        run = copy.copy(ready)
        run.params = parameters.memory()
        parameters.upload(run.params, weights)
        return run

    return load
