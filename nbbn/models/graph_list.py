"""The layers of a model whose layers read each other in any way, from its inputs and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from nbbn import utils
from nbbn.layers import Input, Layer, LayerError
from nbbn.layers.base import Value, row_shape_of
from nbbn.layers.names import free_name
from nbbn.models.layer_list import Entry, LayerList
from nbbn.network import Call, Graph, Network
from nbbn.operations import Shape

# Kept until the layers change.
_KEPT = ("_shape_of_answers", "_layer_shapes", "dtype", "computation", "training")


def entry_of(layer: Layer) -> Entry:
    """The weights that all models share which call this layer object."""
    found = layer.__dict__.get("_entry")
    if found is None:
        found = Entry(layer, utils.new_seed())
        object.__setattr__(layer, "_entry", found)
    return found


def layer_of(entry: Entry) -> Layer:
    """The layer object of an entry, to be called on values; its weights are the entry's."""
    if entry.spec.__dict__.get("_entry") is not entry:
        entry.spec = replace(entry.spec)  # the user's own object may be in other models
        object.__setattr__(entry.spec, "_entry", entry)
    return entry.spec


def on_values(model: Any, given: list[Any]) -> bool:
    """Whether a model is called on values, and not on arrays; ValueError for too few."""
    if not all(isinstance(one, Value) or getattr(one, "gives_rows", False) for one in given):
        return False
    if len(given) != len(model.inputs):
        raise ValueError(f"the model has {len(model.inputs)} inputs, got {len(given)} values")
    return True


def rebuilt(network: Network) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs of a graph that a file holds, with its weights."""
    assert network.graph is not None
    found = values_of(network.graph, network.layers)
    for layer, arrays in zip(network.layers, network.weights):
        entry_of(layer).take(dict(arrays))
    return found


def values_of(graph: Graph, layers: Sequence[Layer]) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs of layers that read each other so."""
    values: dict[int, Any] = {-k: Input(shape) for k, shape in enumerate(graph.inputs, 1)}
    for i, call in enumerate(graph.calls):
        layer, sources = layers[call.layer], [values[k] for k in call.sources]
        values[i] = layer(sources if layer.merges else sources[0])
    return ([values[-k] for k in range(1, len(graph.inputs) + 1)],
            [values[k] for k in graph.outputs])


class GraphList(LayerList):
    """Layers between the inputs and the outputs of a model, each once.

    Parameters
    ----------
    inputs : list of Input or Value
        What the rows stand for; a value in the midst of a model cuts it there.
    outputs : list of Value

    Raises
    ------
    ValueError
        For an input that no output depends on, and an output that depends on one not listed.
    LayerError
        Where layers compute in different dtypes.
    """

    def __init__(self, inputs: list[Any], outputs: list[Any]):
        super().__init__(utils.new_seed())
        self.inputs, self.outputs = inputs, outputs
        self.values: list[Value] = []  # what each call gives
        place = {id(source): -k for k, source in enumerate(inputs, 1)}
        if len(place) < len(inputs):
            raise ValueError("Model: an input is listed twice; list it once")
        if any(id(output) in place for output in outputs):
            raise ValueError("Model: an output is one of the inputs: nothing is computed")
        number: dict[int, int] = {}
        calls: list[Call] = []
        for value in _in_order(outputs, place):
            entry = entry_of(value.layer)
            if id(entry) not in number:
                number[id(entry)] = len(self.entries)
                self.entries.append(entry)
            place[id(value)] = len(calls)
            sources = tuple(place[id(source)] for source in value.sources)
            calls.append(Call(number[id(entry)], sources))
            self.values.append(value)
        self._check_inputs(calls)
        shapes = tuple(row_shape_of(source) for source in inputs)
        self.graph = Graph(tuple(calls), shapes, tuple(place[id(output)] for output in outputs))
        self._names = _names(self.entries)
        self._input_shape, self.made = self.graph.input_shape, len(self.entries)
        self._complete()

    def _check_inputs(self, calls: list[Call]) -> None:
        read = {source for call in calls for source in call.sources}
        for k, source in enumerate(self.inputs, 1):
            if -k not in read:
                raise ValueError(f"Model: no output depends on input {k} of {len(self.inputs)}, "
                                 f"{source!r}; leave it out, or use it")

    def _complete(self) -> None:
        """Make the arrays of layers that no model has had before."""
        dtype = self.dtype
        for entry, shapes in zip(self.entries, self.source_shapes):
            if entry.arrays is None:
                rng = np.random.default_rng([entry.number, 0])
                entry.take(entry.spec.initial_weights(shapes[0], rng, dtype))
                continue
            if any(array.dtype != dtype for array in entry.arrays.values()):
                raise LayerError(f"all layers must compute in one dtype: {entry.shown} has weights "
                                 f"in another than {dtype}, in which the model computes")
            wanted = entry.spec.weight_shapes(*shapes)
            found = {name: array.shape for name, array in entry.arrays.items()}
            if wanted != found:
                raise LayerError(f"layer {entry.shown} has weights of shapes {found}; "
                                 f"rows of shape {shapes[0]} need {wanted}")
            # In the order that the layer declares: a file gives them in another.
            if [*found] != [*wanted]:
                entry.arrays = {name: entry.arrays[name] for name in wanted}

    def __getstate__(self) -> dict[str, Any]:
        """Without the values, which refer to each other as deep as the model is."""
        return {name: value for name, value in self.__dict__.items()
                if name not in ("inputs", "outputs", "values", *_KEPT)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.inputs = [Input(shape) for shape in self.graph.inputs]
        place: dict[int, Any] = {-k: source for k, source in enumerate(self.inputs, 1)}
        for i, call in enumerate(self.graph.calls):
            layer, sources = layer_of(self.entries[call.layer]), [place[k] for k in call.sources]
            place[i] = layer(sources if layer.merges else sources[0])
        self.values = [place[i] for i in range(len(self.graph.calls))]
        self.outputs = [place[k] for k in self.graph.outputs]

    # -- what a list of layers has

    @property
    def names(self) -> list[str]:
        return self._names

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The specifications as they are now, under the names that they have here."""
        return tuple(entry.spec if entry.spec.name == name else replace(entry.spec, name=name)
                     for entry, name in zip(self.entries, self.names))

    @property
    def shapes(self) -> list[Shape]:
        """Of a row that goes in, and of one that comes out; several stand beside each other."""
        return [self.graph.input_shape, self._shape_of_answers]

    @cached_property
    def _shape_of_answers(self) -> Shape:
        shapes = self.answer_shapes
        return shapes[0] if len(shapes) == 1 else (sum(int(np.prod(s)) for s in shapes),)

    @property
    def answer_shapes(self) -> list[Shape]:
        """Of a row of each output."""
        return [row_shape_of(output) for output in self.outputs]

    @cached_property
    def _layer_shapes(self) -> list[tuple[tuple[Shape, ...], Shape]]:
        return self.graph.layer_shapes([entry.spec for entry in self.entries])

    @property
    def source_shapes(self) -> list[tuple[Shape, ...]]:
        return [sources for sources, _ in self._layer_shapes]

    @property
    def output_shapes(self) -> list[Shape]:
        return [shape for _, shape in self._layer_shapes]

    @property
    def call_order(self) -> list[int]:
        pairs = sorted((value.number, call.layer)
                       for value, call in zip(self.values, self.graph.calls))
        return list(dict.fromkeys(layer for _, layer in pairs))

    def network(self) -> Network:
        arrays = [entry.known_arrays() for entry in self.entries]
        return Network(self.layers, self.graph.input_shape, arrays, self.dtype, self.graph)

    def add(self, layer: Layer, arrays: dict[str, np.ndarray] | None = None) -> Entry | None:
        raise TypeError("add: only a Sequential takes further layers; make another Model")

    def on_values(self, given: list[Any]) -> list[Any]:
        """What the layers make of values in the place of the inputs: of each output a value."""
        place: dict[int, Any] = {id(own): value for own, value in zip(self.inputs, given)}
        for value in self.values:
            sources = [place[id(source)] for source in value.sources]
            place[id(value)] = value.layer(sources if value.layer.merges else sources[0])
        return [place[id(output)] for output in self.outputs]

    @property
    def chain(self) -> list[Entry] | None:
        """The layers one after the other; None where they do not follow each other so."""
        calls = self.graph.calls
        if len(self.inputs) > 1 or self.graph.outputs != (len(calls) - 1,):
            return None
        if any(call.sources != (i - 1,) for i, call in enumerate(calls)):
            return None
        return self.entries if len(calls) == len(self.entries) else None

    @property
    def sources_told(self) -> list[str]:
        """Of each layer what it takes, call by call, as Keras tells it; empty of a chain."""
        if self.chain is not None:
            return []
        calls_of, places = dict[int, int](), dict[int, str]()
        for k, source in enumerate(self.inputs, 1):
            layer = source.layer if isinstance(source, Value) else source
            name = layer.name or ("input" if len(self.inputs) == 1 else f"input {k}")
            places[-k] = f"{name}[0][0]"
        told: list[list[str]] = [[] for _ in self.entries]
        for i, call in enumerate(self.graph.calls):
            number = calls_of.get(call.layer, 0)
            calls_of[call.layer] = number + 1
            places[i] = f"{self.names[call.layer]}[{number}][0]"
            told[call.layer] += [places[source] for source in call.sources]
        return [", ".join(one) for one in told]

    @property
    def output_names(self) -> list[str]:
        """The names of the layers that give the outputs; numbered where one gives several."""
        found: list[str] = []
        for output in self.graph.outputs:
            name = self.names[self.graph.calls[output].layer]
            found.append(name if name not in found else free_name(name, {*found, *self.names}))
        return found

    def value_of(self, entry: Entry) -> Value:
        """What a layer gives where it is called first."""
        at = self.entries.index(entry)
        return next(value for value, call in zip(self.values, self.graph.calls)
                    if call.layer == at)


def _in_order(outputs: Iterable[Any], known: dict[int, int]) -> list[Value]:
    """The values that lead to the outputs, each behind its sources.

    Without recursion: networks are deep.
    """
    order: list[Value] = []
    seen, open_ones = set(known), set[int]()
    for output in outputs:
        stack = [(output, iter(getattr(output, "sources", ())))]
        while stack:
            value, sources = stack[-1]
            if id(value) in seen:
                stack.pop()
                continue
            open_ones.add(id(value))
            if not isinstance(value, Value):
                raise ValueError(f"Model: an output depends on {value!r}, which is not among the "
                                 "inputs; list it")
            source = next(sources, None)
            if source is not None:
                if id(source) in open_ones:
                    raise ValueError("Model: the layers go round in a circle: what "
                                     f"{source.layer!r} gives depends on itself")
                stack.append((source, iter(getattr(source, "sources", ()))))
                continue
            seen.add(id(value))
            open_ones.discard(id(value))
            order.append(value)
            stack.pop()
    return order


def _names(entries: list[Entry]) -> list[str]:
    """The layers' names: their own, or Keras's, which another layer of the model may have first."""
    own = [entry.spec.name for entry in entries if entry.spec.name and not entry.named_by_model]
    if twice := [name for name in own if own.count(name) > 1]:
        raise ValueError(f"Model: two layers are named {twice[0]!r}; give another name")
    names: list[str] = []
    for entry in entries:
        name, taken = entry.spec.name, {*names, *own}
        if name is None or (entry.named_by_model and name in taken):
            name = free_name(type(entry.spec).__name__, taken)
        if entry.spec.name is None:
            entry.spec, entry.named_by_model = replace(entry.spec, name=name), True
        names.append(name)
    return names
