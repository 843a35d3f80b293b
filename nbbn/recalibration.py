"""Exact population statistics for every batch norm of a network."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbbn.group import ALONE, Group
from nbbn.layers import BatchNormalization
from nbbn.network import Network
from nbbn.partitions.many_parts import ManyParts
from nbbn.predictor import Predictor
from nbbn.sparse_rows import SparseRows

# Rows whose inputs to a batch norm are in memory at once.
_CHUNK = 4096


Rows = np.ndarray | SparseRows | ManyParts


def recalibrated(network: Network, x: Rows,
                 group: Group = ALONE) -> dict[int, dict[str, np.ndarray]]:
    """New `mean` and `var` of each batch norm for checked rows, by the layer's index.

    Layer by layer, so that each norm sees rows normalised by the new statistics of those before it.
    float64; the chunks of rows have a fixed length and are merged in order (Chan, Golub and
    LeVeque, 1983, equation 2.1); so are those of the processes of a group.
    """
    weights, found = group.from_first([dict(arrays) for arrays in network.weights]), {}
    for i, layer in enumerate(network.layers):
        if not isinstance(layer, BatchNormalization):
            continue
        before = Network(network.layers[:i], network.input_shape, weights[:i], network.dtype)
        mean, var = _statistics(before, layer.axis, x, group)
        found[i] = {"mean": mean.astype(network.dtype), "var": var.astype(network.dtype)}
        weights[i].update(found[i])
    return found


_Moments = tuple[int, np.ndarray, np.ndarray]  # count, mean, sum of squares about it


def _chunks(x: Rows) -> Iterator[np.ndarray | SparseRows]:
    if isinstance(x, ManyParts):
        yield from x.chunks(_CHUNK)
        return
    for first in range(0, len(x), _CHUNK):
        yield x[first : first + _CHUNK]


def _statistics(network: Network, axis: int, x: Rows,
                group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over all axes but `axis` of what the network makes of the rows."""
    shape = network.output_shape
    sparse = isinstance(x, SparseRows)
    predict: Any = Predictor(network, sparse=sparse) if network.layers else np.asarray
    moments: _Moments = 0, np.zeros(()), np.zeros(())
    for chunk in _chunks(x):
        outputs = np.asarray(predict(chunk), np.float64).reshape(-1, *shape)
        part = np.moveaxis(outputs, axis, -1).reshape(-1, outputs.shape[axis])
        centre = part.mean(0)
        moments = _merged(moments, (len(part), centre, np.square(part - centre).sum(0)))
    of_all: list[_Moments] = [found for found in group.gathered(moments) if found[0]]
    count, mean, squares = functools.reduce(_merged, of_all)
    return mean, squares / count


def _merged(one: _Moments, other: _Moments) -> _Moments:
    """The moments of the rows of both."""
    count, mean, squares = one
    rows, centre, within = other
    slip = centre - mean
    squares = squares + within + slip * slip * (count * rows / (count + rows))
    return count + rows, mean + slip * (rows / (count + rows)), squares
