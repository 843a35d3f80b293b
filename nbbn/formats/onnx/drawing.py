"""The layers of a network in the making, and which of them read each other."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import count

import numpy as np

from nbbn.formats.assembly import MAX_LAYERS, assembled
from nbbn.formats.files import Refused
from nbbn.formats.onnx.builder import Affine, Centred, NetworkBuilder, OfLengthOne, Origin
from nbbn.layers import Activation, Layer
from nbbn.network import Call, Graph, Network, Weights
from nbbn.operations import Shape


class Drawing:
    """Layers, their arrays, and the calls of them; a layer is called once until `network`."""

    def __init__(self) -> None:
        self._layers: list[Layer] = []
        self._weights: Weights = []
        self._sources: list[tuple[int, ...]] = []

    def __len__(self) -> int:
        return len(self._layers)

    def call(self, layer: Layer, arrays: dict[str, np.ndarray], sources: Sequence[int]) -> int:
        """A layer on what calls gave; its own number. Below 0 are the inputs, -1 the first."""
        self.check_number(1)
        self._layers.append(layer)
        self._weights.append(arrays)
        self._sources.append(tuple(sources))
        return len(self._layers) - 1

    def check_number(self, more: int) -> None:
        """Raise Refused where there are too many layers with so many more."""
        if len(self) + more > MAX_LAYERS:
            raise Refused(f"has more than {MAX_LAYERS} layers")

    def settled(self, net: NetworkBuilder, *, of_length_one: bool = False) -> Origin:
        """What a row of layers ends in: they are called, and what stood for a layer is made one.

        `of_length_one`: its readers may have vectors of length 1 to make of it yet.
        """
        if net.split is not None or isinstance(net.last, Centred):
            raise Refused("ends within a norm or a softmax")
        last = net.last if isinstance(net.last, OfLengthOne) else None
        if last is not None and not of_length_one:
            raise Refused("ends in vectors of length 1, which nbbn has in a Dot of two values "
                          "alone")
        at, not_negative = net.origin.call, net.not_negative
        for step in net.steps:
            layer, arrays = step.layer, step.arrays
            if isinstance(layer, Affine):
                if layer.nothing:
                    continue
                layer, arrays = layer.layer(step.before)
            if isinstance(layer, Layer):  # all others stand at the end alone
                at = self.call(layer, arrays, (at,))
        return Origin(at, net.shape, net.perm, net.dtype, net.order, not_negative, last)

    def network(self, inputs: dict[str, Shape], ends: dict[str, int], dtype: np.dtype) -> Network:
        """The network that gives what these calls give, as a chain where it is one."""
        given: list[int] = []
        for end in ends.values():  # an input as it is, and the same value twice, take a layer each
            alone = end >= 0 and end not in given
            given.append(end if alone else self.call(Activation("linear"), {}, (end,)))
        if not self._is_chain(inputs, given):
            number, kept = self._numbers()
            names = (tuple(of) if len(of) > 1 else () for of in (inputs, ends))
            calls = tuple(map(Call, number, self._sources))
            graph = Graph(calls, tuple(inputs.values()), tuple(given), *names)
            layers, weights = zip(*((self._layers[i], self._weights[i]) for i in kept))
            return assembled(layers, graph.input_shape, list(weights), dtype, graph)
        return assembled(self._layers, next(iter(inputs.values())), self._weights, dtype)

    def _is_chain(self, inputs: dict[str, Shape], ends: Sequence[int]) -> bool:
        chain = [(i - 1,) for i in range(len(self))]
        return len(inputs) == 1 and self._sources == chain and [*ends] == [len(self) - 1]

    def _numbers(self) -> tuple[list[int], list[int]]:
        """The layer of each call, and the calls that each layer is made of: layers of the same
        weights are one.

        Weights of one number repeated are not told apart by it: those of new norms are all alike.
        """
        known: dict[tuple, int] = {}
        numbers, kept, new = [], [], count()
        for i, (layer, arrays) in enumerate(zip(self._layers, self._weights)):
            own = any(array.size > 1 and np.any(array != array.flat[0])
                      for array in arrays.values())
            key = (repr(layer), *(_content(name, array) for name, array in arrays.items())
                   ) if own else (i,)
            if key not in known:
                known[key] = next(new)
                kept.append(i)
            numbers.append(known[key])
        return numbers, kept


def _content(name: str, array: np.ndarray) -> tuple:
    """What tells an array from others."""
    bits = np.ascontiguousarray(array, np.float64).tobytes()
    return name, array.shape, hashlib.sha256(bits).digest()
