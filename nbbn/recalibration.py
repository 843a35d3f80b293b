"""Exact population statistics for every batch norm of a network."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from nbbn.group import ALONE, Group
from nbbn.layers import BatchNormalization
from nbbn.network import Call, Graph, Network, Weights, apart, beside
from nbbn.operations import Shape
from nbbn.partitions.many_parts import ManyParts
from nbbn.predictor import Predictor
from nbbn.sparse_rows import SparseRows

# Rows whose inputs to a batch norm are in memory at once.
_CHUNK = 4096
# Numbers that norms read of all rows, up to which they are kept: 512 MB of float32.
_CARRIED = 1 << 27


Rows = np.ndarray | SparseRows | ManyParts


def recalibrated(network: Network, x: Rows,
                 group: Group = ALONE) -> dict[int, dict[str, np.ndarray]]:
    """New `mean` and `var` of each batch norm for checked rows, by the layer's index.

    Layer by layer, so that each norm sees rows normalised by the new statistics of those before it.
    float64; the chunks of rows have a fixed length and are merged in order (Chan, Golub and
    LeVeque, 1983, equation 2.1); so are those of the processes of a group.
    """
    weights, found = group.from_first([dict(arrays) for arrays in network.weights]), {}
    order = _order(network)
    carried = (_Carried(network, weights, x)
               if isinstance(x, np.ndarray) and _few(network, len(x)) else None)
    for k, (i, sources) in enumerate(order):
        layer: Any = network.layers[i]
        if carried is not None:
            befores = [carried.before(source) for source in sources]
            carried.keep([source for _, after in order[k + 1 :] for source in after])
        else:
            befores = [_before(network, weights, i, source) for source in sources]
        mean, var = _statistics(befores, layer.axis, x, group)
        found[i] = {"mean": mean.astype(network.dtype), "var": var.astype(network.dtype)}
        weights[i].update(found[i])
    return found


def _order(network: Network) -> list[tuple[int, list[int]]]:
    """The batch norms, each behind those that it depends on, and what each normalises.

    ValueError for a norm that is called again on what it has normalised.
    """
    norms = [i for i, layer in enumerate(network.layers) if isinstance(layer, BatchNormalization)]
    graph = network.graph
    if graph is None:
        return [(i, [i - 1]) for i in norms]
    read = {i: [call.sources[0] for call in graph.calls if call.layer == i] for i in norms}
    needs = {i: {layer for source in read[i] if source >= 0
                 for layer in graph.ending_at(source)[0] if layer in read} for i in norms}
    done: list[tuple[int, list[int]]] = []
    while len(done) < len(norms):
        ready = [i for i in norms if i in needs and not needs[i]]
        if not ready:
            names = ", ".join(str(network.layers[i].name) for i in needs)
            raise ValueError("recalibrate: a batch norm that is called several times depends on "
                             f"its own results, so that there are no exact statistics: {names}")
        done += [(i, read[i]) for i in ready]
        needs = {i: own.difference(ready) for i, own in needs.items() if i not in ready}
    return done


_Before = Callable[[Any], np.ndarray]


def _before(network: Network, weights: Weights, norm: int, source: int) -> tuple[_Before, Shape]:
    """What a norm's rows are computed by from the network's, and their shape."""
    graph = network.graph
    if graph is not None and source < 0 and len(graph.inputs) > 1:
        ends = np.cumsum([0, *map(math.prod, graph.inputs)])
        columns = slice(ends[-source - 1], ends[-source])
        return lambda x: x[:, columns], graph.inputs[-source - 1]
    kept = list(range(norm)) if graph is None else []
    if graph is not None and source >= 0:
        kept, graph = graph.ending_at(source)
    if not kept:
        return np.asarray, network.input_shape
    before = Network(tuple(network.layers[i] for i in kept), network.input_shape,
                     [weights[i] for i in kept], network.dtype, graph)
    dense, sparse = (functools.cache(partial(Predictor, before, sparse=way))
                     for way in (False, True))
    return (lambda x: (sparse() if isinstance(x, SparseRows) else dense())(x)), before.output_shape


def _few(network: Network, rows: int) -> bool:
    """Whether what all norms read of so many rows has room in memory."""
    norms = [shapes[0] for layer, (shapes, _) in zip(network.layers, network.layer_shapes)
             if isinstance(layer, BatchNormalization)]
    return rows <= _CHUNK and rows * sum(map(math.prod, norms)) <= _CARRIED


class _Carried:
    """What calls give for all rows, kept as long as norms follow from it.

    Each norm's rows are computed from those of norms before it, so that no layer is made ready, or
    run, for all norms behind it anew.
    """

    def __init__(self, network: Network, weights: Weights, x: np.ndarray):
        self._network, self._weights, self._graph = network, weights, network.links
        inputs = apart(x, self._graph.inputs) if len(self._graph.inputs) > 1 else [
            x.reshape(len(x), *network.input_shape)]
        self._known = {-k: part for k, part in enumerate(inputs, 1)}

    def before(self, source: int) -> tuple[_Before, Shape]:
        """As the function `_before`, of all rows."""
        if source not in self._known:
            self._known[source] = self._computed(source)
        rows = self._known[source]
        return lambda _: rows, rows.shape[1:]

    def keep(self, sources: list[int]) -> None:
        """Forget what these calls do not follow from."""
        read = self._between(sources)[1]
        self._known = {at: rows for at, rows in self._known.items() if at in read}

    def _between(self, sources: list[int]) -> tuple[list[int], list[int]]:
        """The calls that others follow from and that are not known, and the known ones before."""
        needed, known, ahead = set[int](), set[int](), [*sources]
        while ahead:
            at = ahead.pop()
            if at in self._known:
                known.add(at)
            elif at not in needed:
                needed.add(at)
                ahead += self._graph.calls[at].sources
        return sorted(needed), sorted(known)

    def _computed(self, source: int) -> np.ndarray:
        needed, known = self._between([source])
        layers = sorted({self._graph.calls[at].layer for at in needed})
        number = {layer: k for k, layer in enumerate(layers)}
        place = {at: -k for k, at in enumerate(known, 1)} | {at: k for k, at in enumerate(needed)}
        calls = tuple(Call(number[call.layer], tuple(place[at] for at in call.sources))
                      for call in (self._graph.calls[at] for at in needed))
        given = [self._known[at] for at in known]
        graph = Graph(calls, tuple(rows.shape[1:] for rows in given), (place[source],))
        part = Network(tuple(self._network.layers[i] for i in layers), graph.input_shape,
                       [self._weights[i] for i in layers], self._network.dtype, graph)
        rows = given[0] if len(given) == 1 else beside(given, self._network.dtype)
        return Predictor(part)(rows).reshape(len(rows), *part.output_shape)


_Moments = tuple[int, np.ndarray, np.ndarray]  # count, mean, sum of squares about it


def _chunks(x: Rows) -> Iterator[np.ndarray | SparseRows]:
    if isinstance(x, ManyParts):
        yield from x.chunks(_CHUNK)
        return
    for first in range(0, len(x), _CHUNK):
        yield x[first : first + _CHUNK]


def _statistics(befores: list[tuple[_Before, Shape]], axis: int, x: Rows,
                group: Group) -> tuple[np.ndarray, np.ndarray]:
    """Mean and biased variance over all axes but `axis` of what is made of the rows."""
    moments: _Moments = 0, np.zeros(()), np.zeros(())
    for chunk in _chunks(x):
        for before, shape in befores:
            outputs = np.asarray(before(chunk), np.float64).reshape(-1, *shape)
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
