"""The shortest way from an array to an answer: a network compiled for inference."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np

from nbbn import compiler
from nbbn.fallback import NumpyBlocks
from nbbn.network import Network, Weights
from nbbn.sparse_rows import SparseRows


class Predictor:
    """A network ready for inference; callable on rows, safe from many threads at once.

    On compiled kernels, or on NumPy where there is no compiler. With `sparse` it takes `SparseRows`
    alone.
    """

    def __init__(self, network: Network, *, sparse: bool = False):
        compiled = compiler.available()
        load = _compiled(network, sparse) if compiled else NumpyBlocks(network).with_weights
        self._load, self._blocks = load, load(network.weights)

    def with_weights(self, weights: Weights) -> Predictor:
        """The same network with other weights; nothing but these is made ready anew."""
        other = copy.copy(self)
        other._blocks = self._load(weights)
        return other

    def __call__(self, x: np.ndarray | SparseRows) -> np.ndarray:
        """Outputs, `(rows, numbers of an output)` of the network's dtype, for numeric rows.

        Others than aligned C-contiguous ones of that dtype are converted a few thousand at a time.
        Rows of stored elements never become dense where a dense layer begins the network.
        """
        return self._blocks.run(x)


def _compiled(network: Network, sparse: bool) -> Callable[[Weights], Any]:
    """What makes the network, lowered once, ready to run with any weights."""
    # Here, not above: these import numba.
    from nbbn.program.kept import inference_program
    from nbbn.program.runnable import InferenceRun, SparseInferenceRun

    lowered, none = inference_program(network.computation(), network.dtype), np.empty(0, np.uint8)
    if sparse and lowered.may_be_sparse:
        lowered = inference_program(network.computation(), network.dtype, sparse=True)
        ready: Any = SparseInferenceRun(lowered, none)
    else:
        ready = InferenceRun(lowered, none)
    parameters = lowered.parameters

    def load(weights: Weights) -> Any:
        run = copy.copy(ready)
        run.params = parameters.memory()
        parameters.upload(run.params, weights)
        return run

    return load
