"""The shortest way from an array to an answer: a network compiled for inference, and the folded model around it."""

from __future__ import annotations

import numpy as np

from nbbn.layers import Dense
from nbbn.network import Network
from nbbn.program.inference import BLOCK_ROWS, InferenceProgram
from nbbn.runtime import Blocks


class Predictor:
    """A network ready for inference; callable on rows, safe from many threads at once.

    Parameters
    ----------
    network : Network
    """

    def __init__(self, network: Network):
        self.features, self.outputs = network.input_shape[0], network.output_shape[0]
        self.dtype = network.dtype
        lowered = InferenceProgram(network.layers, network.shapes, network.dtype)
        memory = lowered.parameters.memory()
        lowered.parameters.upload(memory, network.weights)
        self._blocks = blocks_of(lowered, memory, network)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Outputs, `(rows, outputs)` of the network's dtype, for C-contiguous rows of that dtype."""
        return self._blocks.run(x)


def blocks_of(lowered: InferenceProgram, memory: np.ndarray, network: Network) -> Blocks:
    """The runnable form of an inference program over a parameter segment."""
    shapes = network.shapes
    work = sum(shape[-1] * layer.units for layer, shape in zip(network.layers, shapes) if isinstance(layer, Dense))
    return Blocks(lowered.program, memory, lowered.outputs, BLOCK_ROWS, work + 16 * shapes[0][0])
