"""The shortest way from an array to an answer: a network compiled for inference."""

from __future__ import annotations

import numpy as np

from nbbn import compiler
from nbbn.fallback import NumpyBlocks
from nbbn.network import Network


class Predictor:
    """A network ready for inference; callable on rows, safe from many threads at once.

    On compiled kernels, or on NumPy where there is no compiler.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network):
        self._blocks = _compiled(network) if compiler.available() else NumpyBlocks(network)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs, `(rows, numbers of an output)` of the network's dtype, for numeric rows.

        Others than writeable C-contiguous ones of that dtype are converted a few thousand at a time.
        """
        return self._blocks.run(x)


def _compiled(network: Network):
    # Here, not above: these import numba.
    from nbbn.program.inference import InferenceProgram
    from nbbn.program.runnable import InferenceRun

    lowered = InferenceProgram(network.computation(), network.dtype)
    memory = lowered.parameters.memory()
    lowered.parameters.upload(memory, network.weights)
    return InferenceRun(lowered, memory)
