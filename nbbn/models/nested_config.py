"""Which calls of an engine's graph are those of which model within, as files and copies have it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbbn.errors import LayerError
from nbbn.layers import Input, Layer
from nbbn.layers.base import row_shape_of
from nbbn.models.layer_list import Entry
from nbbn.models.nesting import Within
from nbbn.network import Graph

# The classes of models, which make one from what values its inputs and outputs are.
KINDS: dict[str, Any] = {}
# Models within models, the deepest.
_MAX_DEPTH = 64


@dataclass
class Nesting:
    """Models, their uses in a graph of calls, and of each call the innermost use.

    Places are the graph's: calls from 0 on, inputs from -1 down.
    """

    models: list[Any]  # or what describes them
    # Which model, the use around it or -1, what it is given and what it gives.
    uses: list[tuple[int, int, list[int | None], list[int | None]]]
    within: list[int]  # by call; -1: none
    # Of layers by number, where the engine calls them by another name than their model, and whether
    # a model has named them after their class.
    names: dict[int, tuple[str, bool]] = field(default_factory=dict)

    @classmethod
    def of(cls, within: Sequence[Within], place: Mapping[int, int], *,
           described: bool) -> Nesting | None:
        """That of values of which `place` knows the calls; None without models within.

        To be `described` a model must be there as a whole, see `whole`.
        """
        if not any(within):
            return None
        made, known, models = cls([], [], []), dict[int, int](), dict[int, int]()

        def number(inner: Within) -> int:
            around = -1
            for use in inner:
                if id(use) not in known:
                    known[id(use)] = len(made.uses)
                    model = models.setdefault(id(use.model), len(models))
                    if model == len(made.models):
                        made.models.append(use.model)
                    made.uses.append((model, around, _places(use.given, place),
                                      _places(use.gave, place)))
                around = known[id(use)]
            return around

        made.within = [number(inner) for inner in within]
        return made.whole() if described else made

    def whole(self) -> Nesting | None:
        """Without models that lack some of what they take or give, or take a value twice.

        Their layers stand for themselves. None where no other is left.
        """
        unused = {i for i, (*_, gave) in enumerate(self.uses) if all(one is None for one in gave)}
        partial = {model for i, (model, _, given, gave) in enumerate(self.uses) if i not in unused
                   and (None in given + gave or len({*given}) < len(given))}
        kept = [i for i, (model, *_) in enumerate(self.uses)
                if i not in unused and model not in partial]
        if not kept:
            return None
        models = sorted({self.uses[i][0] for i in kept})

        def around(use: int) -> int:
            while use >= 0 and use not in kept:
                use = self.uses[use][1]
            return kept.index(use) if use >= 0 else -1

        uses = [(models.index(model), around(outer), given, gave)
                for model, outer, given, gave in (self.uses[i] for i in kept)]
        return Nesting([self.models[i] for i in models], uses,
                       [around(use) for use in self.within], self.names)

    def config(self) -> dict[str, Any]:
        """JSON-ready."""
        return {"models": [_described(model) for model in self.models],
                "uses": [list(use) for use in self.uses], "within": self.within,
                "names": [[layer, *name] for layer, name in self.names.items()]}

    @classmethod
    def from_config(cls, config: dict[str, Any], graph: Graph, layers: int) -> Nesting | None:
        """What `config` described; LayerError for what cannot be of this graph."""
        models = [dict(one) for one in config["models"]]
        uses = [(int(model), int(around), _numbers(given), _numbers(gave))
                for model, around, given, gave in config["uses"]]
        made = cls(models, uses, [int(use) for use in config["within"]],
                   {int(layer): (str(name), bool(by_class))
                    for layer, name, by_class in config.get("names", ())})
        made._check(graph, layers)
        return made.whole()

    def _check(self, graph: Graph, layers: int) -> None:
        calls, inputs, depth = len(graph.calls), len(graph.inputs), list[int]()
        for i, (model, around, given, gave) in enumerate(self.uses):
            places = [place for place in given + gave if place is not None]
            depth.append(1 + (depth[around] if 0 <= around < i else 0))
            if not (0 <= model < len(self.models) and -1 <= around < i and depth[i] <= _MAX_DEPTH
                    and all(-inputs <= place < calls for place in places)):
                raise LayerError(f"use {i} of a model within is not of this graph")
        named = all(0 <= layer < layers for layer in self.names)
        fit = len(self.within) == calls and all(-1 <= use < len(self.uses) for use in self.within)
        if not (fit and named and all(one.get("class") in KINDS for one in self.models)):
            raise LayerError("the models within are not of this graph")

    def named(self, layers: Sequence[Layer]) -> list[Layer]:
        """The layers by the names that they have in their models."""
        return [replace(layer, name=self.names[i][0]) if i in self.names else layer
                for i, layer in enumerate(layers)]

    def name(self, entries: Sequence[Entry], names: Sequence[str]) -> None:
        """Take note of layers that the engine calls by other `names` than their models."""
        self.names = {i: (str(entry.spec.name), entry.named_by_model) for i, (entry, name) in
                      enumerate(zip(entries, names)) if entry.spec.name != name}


def _places(values: Sequence[Any], place: Mapping[int, int]) -> list[int | None]:
    return [place.get(id(value)) for value in values]


def _numbers(given: Any) -> list[int | None]:
    return [None if one is None else int(one) for one in given]


def _described(model: Any) -> dict[str, Any]:
    return {"class": model._kind, "name": model.name, "trainable": bool(model.trainable),
            **model._row_names()}


class Rebuilding:
    """Values and models made anew from a graph of calls, bottom up.

    Parameters
    ----------
    graph : Graph
    layers : list of Layer
        With their weights.
    nesting : Nesting, optional
    inputs : list of Input
    """

    def __init__(self, graph: Graph, layers: Sequence[Layer], nesting: Nesting | None,
                 inputs: Sequence[Any]):
        self._graph, self._layers = graph, layers
        self._nesting = nesting or Nesting([], [], [-1] * len(graph.calls))
        self._inputs = inputs
        self._made: dict[int, Any] = {i: one for i, one in enumerate(self._nesting.models)
                                      if not isinstance(one, dict)}
        self._calls: dict[int, list[int]] = {}
        for call, use in enumerate(self._nesting.within):
            self._calls.setdefault(use, []).append(call)
        self._inner: dict[int, list[int]] = {}
        for i, (_, around, *_) in enumerate(self._nesting.uses):
            self._inner.setdefault(around, []).append(i)

    def values(self) -> dict[int, Any]:
        """What stands for the inputs, and what each call at the top and each use gives."""
        return self._level(-1, {-k: one for k, one in enumerate(self._inputs, 1)})

    def _level(self, use: int, values: dict[int, Any]) -> dict[int, Any]:
        """What the calls and the uses directly within a use give, each when its sources are there.
        """
        waiting: list[tuple[int, bool]] = [(call, False) for call in self._calls.get(use, ())]
        waiting += [(inner, True) for inner in self._inner.get(use, ())]
        waiting.sort(key=lambda one: self._last_source(one[0]) if one[1] else one[0])
        while waiting:
            later = [one for one in waiting if not self._step(*one, values)]
            if len(later) == len(waiting):
                raise LayerError("a model within takes what does not come before it")
            waiting = later
        return values

    def _last_source(self, use: int) -> int:
        return max((place for place in self._nesting.uses[use][2] if place is not None),
                   default=0)

    def _step(self, number: int, is_use: bool, values: dict[int, Any]) -> bool:
        """One call or use, if what it takes is there."""
        if not is_use:
            call = self._graph.calls[number]
            if any(source not in values for source in call.sources):
                return False
            layer, sources = self._layers[call.layer], [values[k] for k in call.sources]
            values[number] = layer(sources if layer.merges else sources[0])
            return True
        model, _, given, gave = self._nesting.uses[number]
        if any(place is not None and place not in values for place in given):
            return False
        made = self._model(model, number, values)
        sources = [Input(row_shape_of(own)) if place is None else values[place]
                   for place, own in zip(given, made.inputs)]
        if len(sources) != len(given):
            raise LayerError("a model within is given other values than it has inputs")
        values.update((place, value) for place, value in zip(gave, made._use(sources))
                      if place is not None)
        return True

    def _model(self, number: int, use: int, around: dict[int, Any]) -> Any:
        """The model of a use, which others may have made."""
        if number not in self._made:
            words, (_, _, given, gave) = self._nesting.models[number], self._nesting.uses[use]
            places = [place for place in given if place is not None]
            names = words.get("inputs") or [None] * len(places)
            if len(places) != len(names):
                raise LayerError("a model within is given other values than it has inputs")
            inputs = [Input(row_shape_of(around[place]), name=name)
                      for place, name in zip(places, names)]
            values = self._level(use, dict(zip(places, inputs)))
            if not gave or any(end not in values for end in gave):
                raise LayerError("a model within gives out what it does not have")
            self._made[number] = KINDS[words["class"]]._of_values(
                inputs, [values[end] for end in gave if end is not None], words)
        return self._made[number]
