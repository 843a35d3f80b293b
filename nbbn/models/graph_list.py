"""The layers of a model whose layers read each other in any way, from its inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from nbbn import utils
from nbbn.layers import Input, Layer, LayerError
from nbbn.layers.base import Value, row_shape_of
from nbbn.layers.names import free_name
from nbbn.models.layer_list import Entry, LayerList
from nbbn.models.nested_config import Nesting, Rebuilding
from nbbn.models.nesting import Part, Use, in_turn, parts_of, values_behind, whole_uses
from nbbn.network import Call, Graph, Network
from nbbn.operations import Shape

# Kept until the layers change.
_KEPT = ("_shape_of_answers", "_layer_shapes", "dtype", "computation", "training", "parts")


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


def rebuilt(network: Network, nested: dict[str, Any] | None = None,
            names: Sequence[str] | None = None) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs of a network that a file holds, with its weights.

    `nested` describes the models within, `names` those of the inputs.
    """
    graph, nesting = network.links, None
    if nested is not None:
        nesting = Nesting.from_config(nested, graph, len(network.layers))
    layers = _of_models(network.layers, nesting)
    for layer, arrays in zip(layers, network.weights):
        entry_of(layer).take(dict(arrays))
    return values_of(graph, layers, nesting, names)


def values_of(graph: Graph, layers: Sequence[Layer], nested: Any = None,
              names: Sequence[str] | None = None) -> tuple[list[Any], list[Any]]:
    """Inputs and outputs of layers that read each other so; `nested` as of `rebuilt`."""
    if isinstance(nested, dict):  # of a config
        nested = Nesting.from_config(nested, graph, len(layers))
        layers = _of_models(layers, nested)
    named = names if names and len(names) == len(graph.inputs) else [None] * len(graph.inputs)
    inputs = [Input(shape, name=name) for shape, name in zip(graph.inputs, named)]
    values = Rebuilding(graph, layers, nested, inputs).values()
    return inputs, [values[k] for k in graph.outputs]


def _of_models(layers: Sequence[Layer], nesting: Nesting | None) -> Sequence[Layer]:
    """The layers by the names that they have in their models, which may be taken anew."""
    if nesting is None:
        return layers
    named = nesting.named(layers)
    for i, (_, by_class) in nesting.names.items():
        entry_of(named[i]).named_by_model = by_class
    return named


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
        for value in values_behind(inputs, outputs):
            entry = entry_of(value.layer)
            if id(entry) not in number:
                number[id(entry)] = len(self.entries)
                self.entries.append(entry)
            place[id(value)] = len(calls)
            sources = tuple(place[id(source)] for source in value.sources)
            calls.append(Call(number[id(entry)], sources))
            self.values.append(value)
        self._check_inputs(calls)
        self.within = whole_uses(self.values, outputs)
        shapes = tuple(row_shape_of(source) for source in inputs)
        self.graph = Graph(tuple(calls), shapes, tuple(place[id(output)] for output in outputs))
        self._names = _names(self.entries, self._own, self._homes)
        self._name_models()
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

    @property
    def _own(self) -> set[Entry]:
        """The layers that are called outside of the models within."""
        return {self.entries[call.layer] for call, inner in zip(self.graph.calls, self.within)
                if not inner}

    @property
    def _homes(self) -> dict[Entry, str]:
        """The model within that a layer is of, the innermost."""
        return {self.entries[call.layer]: inner[-1].model.name
                for call, inner in zip(self.graph.calls, self.within) if inner}

    def _name_models(self) -> None:
        """Number the models that are named after their class where the name is taken."""
        parts = [part for part in self.parts if not part.is_input]
        models = [part.what for part in parts if not isinstance(part.what, Entry)]
        if not models:
            return
        own = self._own
        taken = {name for name, entry in zip(self._names, self.entries) if entry in own}
        for model in models:
            if model.name in taken and model._named_by_class:
                others = {other.name for other in models}
                model.name = free_name(model._class_name, taken | others)
            elif model.name in taken:
                raise ValueError(f"Model: two layers are named {model.name!r}; give another name")
            taken.add(model.name)

    def nesting(self, *, described: bool = True) -> Nesting | None:
        """Which calls are those of the models within; None without."""
        place = {id(source): -k for k, source in enumerate(self.inputs, 1)}
        place |= {id(value): i for i, value in enumerate(self.values)}
        found = Nesting.of(self.within, place, described=described)
        if found is not None:
            found.name(self.entries, self._names)
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Without the values, which refer to each other as deep as the model is."""
        kept = {name: value for name, value in self.__dict__.items()
                if name not in ("inputs", "outputs", "values", "within", *_KEPT)}
        names = [getattr(source, "name", None) for source in self.inputs]
        return {**kept, "nesting_kept": self.nesting(described=False), "input_names_kept": names}

    def __setstate__(self, state: dict[str, Any]) -> None:
        nesting, names = (state.pop(f"{name}_kept", None) for name in ("nesting", "input_names"))
        self.__dict__.update(state)
        layers = [layer_of(entry) for entry in self.entries]
        names = names or [None] * len(self.graph.inputs)
        self.inputs = [Input(shape, name=name) for shape, name in zip(self.graph.inputs, names)]
        place = Rebuilding(self.graph, layers, nesting, self.inputs).values()
        self.outputs = [place[k] for k in self.graph.outputs]
        self.values = values_behind(self.inputs, self.outputs)
        self.within = whole_uses(self.values, self.outputs)

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

    def on_values(self, use: Use) -> list[Any]:
        """What the layers make of values in the place of the inputs: of each output a value."""
        return in_turn(self.values, self.within, self.inputs, self.outputs, use)

    @cached_property
    def parts(self) -> list[Part]:
        """The inputs, the layers and the models within, in Keras's order."""
        return parts_of(self.inputs, self.outputs, self.values, self.within, entry_of)

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


def _names(entries: list[Entry], own: set[Entry], homes: dict[Entry, str]) -> list[str]:
    """The layers' names: their own, or Keras's, which another layer of the model may have first.

    Layers of models within may have a name that is taken: their model's comes before it.
    """
    given = [str(entry.spec.name) for entry in entries
             if entry in own and entry.spec.name and not entry.named_by_model]
    if twice := [name for name in given if given.count(name) > 1]:
        raise ValueError(f"Model: two layers are named {twice[0]!r}; give another name")
    known = {*given, *(entry.spec.name for entry in entries
                       if entry.spec.name and not entry.named_by_model)}
    names: dict[Entry, str] = {}
    taken = {*given}
    for entry in entries:
        name, kind = entry.spec.name, type(entry.spec).__name__
        if name is None or (entry.named_by_model and name in taken | known):
            name = free_name(kind, taken | known)
        elif name in taken and entry not in own:
            name = free_name(f"{homes[entry]}_{name}", taken | known)
        if entry.spec.name is None:
            entry.spec, entry.named_by_model = replace(entry.spec, name=name), True
        names[entry] = name
        taken.add(name)
    return [names[entry] for entry in entries]
