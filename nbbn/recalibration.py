"""Exact population statistics for every batch norm of a network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nbbn.layers import BatchNormalization
from nbbn.network import Network
from nbbn.partitions.many_parts import ManyParts
from nbbn.predictor import Predictor
from nbbn.sparse_rows import SparseRows

# Rows whose inputs to a batch norm are in memory at once.
_CHUNK = 4096


Rows = np.ndarray | SparseRows | ManyParts


def recalibrated(network: Network, x: Rows) -> dict[int, dict[str, np.ndarray]]:
    """New `mean` and `var` of each batch norm for checked rows, by the layer's index.

    Layer by layer, so that each norm sees rows normalised by the new statistics of those before it.
    float64; the chunks of rows have a fixed length and are merged in order (Chan, Golub and
    LeVeque, 1983, equation 2.1).
    """
    weights, found = [dict(arrays) for arrays in network.weights], {}
    for i, layer in enumerate(network.layers):
        if not isinstance(layer, BatchNormalization):
            continue
        before = Network(network.layers[:i], network.input_shape, weights[:i], network.dtype)
        mean, var = _statistics(before, layer.axis, x)
        found[i] = {"mean": mean.astype(network.dtype), "var": var.astype(network.dtype)}
        weights[i].update(found[i])
    return found


def _chunks(x: Rows) -> Iterator[np.ndarray | SparseRows]:
    if isinstance(x, ManyParts):
        yield from x.chunks(_CHUNK)
        return
    for first in range(0, len(x), _CHUNK):
        yield x[first : first + _CHUNK]


def _statistics(network: Network, axis: int, x: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over all axes but `axis` of what the network makes of the rows."""
    shape = network.output_shape
    sparse = isinstance(x, SparseRows)
    predict: Any = Predictor(network, sparse=sparse) if network.layers else np.asarray
    count, mean, squares = 0, np.zeros(()), np.zeros(())
    for chunk in _chunks(x):
        outputs = np.asarray(predict(chunk), np.float64).reshape(-1, *shape)
        part = np.moveaxis(outputs, axis, -1).reshape(-1, outputs.shape[axis])
        rows, centre = len(part), part.mean(0)
        slip = centre - mean
        within = np.square(part - centre).sum(0)
        squares = squares + within + slip * slip * (count * rows / (count + rows))
        mean = mean + slip * (rows / (count + rows))
        count += rows
    return mean, squares / count
