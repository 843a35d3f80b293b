"""`Sequential`: layers one after the other, trained and used as in Keras."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import utils
from nbbn.layers import Input, Layer, layer_from_config
from nbbn.layers.base import Value, row_shape_of
from nbbn.layers.names import free_name
from nbbn.models.graph_list import GraphList, entry_of, layer_of, rebuilt, values_of
from nbbn.models.layer_list import Entry, LayerList
from nbbn.models.layer_view import LayerView
from nbbn.models.nested_config import KINDS, Nesting
from nbbn.models.nesting import Part, Use, in_turn, parts_of, values_behind, whole_uses
from nbbn.models.trained_model import TrainedModel
from nbbn.network import Call, Graph, Network


class Sequential(TrainedModel):
    """A model of layers, one after the other.

    Parameters
    ----------
    layers : list of Layer, optional
        Of `nbbn.layers`, or of another model (`*other.layers`): those bring a copy of their weights
        along. Or models, whose layers both models have from then on, with one set of weights.
    trainable : bool
        Whether training changes any weights.
    name : str, optional

    Attributes
    ----------
    layers : list
        The layers, an `Input` left out, and the models within. Each layer reads as its
        specification (`isinstance` included); `trainable` can be set, and it has `get_weights`,
        `set_weights` and `count_params`.
    optimizer : Optimizer
        Of the last `compile`; its `learning_rate` can be set.
    stop_training : bool
        Set by a callback: training ends after the epoch, or the batch where callbacks look at
        batches.

    Notes
    -----
    As in Keras, but for this: data are arrays, computed in float32 unless the layers say
    `dtype="float64"`; where a layer takes statistics over the batch, a last batch of one row joins
    the batch before.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> nbbn.utils.set_random_seed(0)
    >>> x = np.random.rand(200, 4)
    >>> y = (x.sum(1) > 2).astype(int)
    >>> model = nbbn.Sequential([
    ...     nbbn.layers.Dense(16), nbbn.layers.BatchNormalization(), nbbn.layers.Activation("relu"),
    ...     nbbn.layers.Dense(2, activation="softmax"),
    ... ])
    >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> history = model.fit(x, y, epochs=5, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    """

    def __init__(self, layers: Iterable[Layer] | None = None, trainable: bool = True,
                 name: str | None = None):
        super().__init__(name or "sequential", LayerList(utils.new_seed()))
        self._values: list[Any] = []
        # The layers and the models within, where all follow one another.
        self._own: list[Entry | TrainedModel] = []
        if isinstance(layers, Layer):
            kind = type(layers).__name__
            raise TypeError(f"layers must be a list of layers, got one {kind}; write "
                            f"Sequential([{kind}(...), ...])")
        for layer in layers or ():
            self.add(layer)
        if not trainable:
            self.trainable = False

    def add(self, layer: Any) -> None:
        """Put a layer at the end.

        Parameters
        ----------
        layer : Layer or model
            Of `nbbn.layers`, or of another model: it brings a copy of its weights along. The layers
            of a model are shared, with one set of weights.

        Raises
        ------
        TypeError
            For anything else.
        ValueError
            For a name that is taken, or a layer that does not fit.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential()
        >>> model.add(nbbn.layers.Dense(3, input_shape=(4,)))
        >>> model.add(nbbn.layers.BatchNormalization())
        >>> [layer.name for layer in model.layers]
        ['dense', 'batch_normalization']
        """
        if isinstance(layer, TrainedModel):
            self._add_model(layer)
            return
        arrays = None
        if type(layer) is LayerView:
            arrays, layer = layer.copies(), layer.specification
            if any(layer.name == entry.spec.name for entry in self._layers.entries):
                layer = replace(layer, name=None)
        self._pull()
        layer = layer if self._trainable else replace(layer, trainable=False)
        if isinstance(self._layers, GraphList):
            layer = replace(layer)  # the user's own object may be in other models
            if arrays is not None:
                entry_of(layer).take(arrays)
            self._take_graph([*self._layers.inputs], [layer(self._layers.outputs[0])])
        elif (entry := self._layers.add(layer, arrays)) is not None:
            self._own.append(entry)
        self._restructured()

    def _add_model(self, model: TrainedModel) -> None:
        """Share a model's layers; LayerError where they do not fit."""
        if model is self:
            raise ValueError("add: a model cannot be within itself")
        self._pull()
        model._pull()
        own, theirs = self._layers, model._layers
        chain = theirs.chain if isinstance(theirs, GraphList) else theirs.entries
        if not self._trainable:
            model.trainable = False
        if chain is not None and not isinstance(own, GraphList):
            own.share(theirs, chain)
            self._own.append(model)
        else:
            inner: Any = model
            if len(inner.inputs) != 1 or len(inner.outputs) != 1:
                raise ValueError(f"add: a Sequential takes models of one input and one output, "
                                 f"{model.name!r} has {len(inner.inputs)} and "
                                 f"{len(inner.outputs)}; call it on values")
            if own.entries and own.input_shape is None:
                raise ValueError("add: a model with branches needs the shape of its rows: give the "
                                 "first layer of the Sequential an input_shape")
            first = Input(own.input_shape or theirs.input_shape)
            if own.entries:
                first = self._chain()[0]
            found = inner._use([self._chain()[-1] if own.entries else first])
            self._take_graph([first], found)
        self._number_models()
        self._restructured()

    def _number_models(self) -> None:
        """Number the models that are named after their class where the name is taken."""
        taken = set[str]()
        for part in self._own:
            if isinstance(part, Entry):
                taken.add(str(self._name_of(part)))
                continue
            if part.name in taken and part._named_by_class:
                part.name = free_name(part._class_name, taken)
            elif part.name in taken:
                raise ValueError(f"add: two layers are named {part.name!r}; give another name")
            taken.add(part.name)

    def _take_graph(self, inputs: list[Any], outputs: list[Any]) -> None:
        graph = GraphList(inputs, outputs)
        graph.seed, graph.made = self._layers.seed, self._layers.made + 1
        self._layers, self._values, self._own = graph, [], []

    def _take_chain(self, inputs: list[Any], outputs: list[Any]) -> None:
        """Become what values say; of models within that are there already."""
        graph = GraphList(inputs, outputs)
        if graph.chain is None:
            self._take_graph(inputs, outputs)
            return
        layers = self._layers
        layers.input_shape = graph.input_shape
        for part in graph.parts[1:]:
            found: Any = part.what
            if isinstance(found, Entry):
                layers.attach(found)
            else:
                layers.share(found._layers, found._layers.entries)
            self._own.append(found)
        layers.made = len(layers.entries)
        layers.build(graph.graph.input_shape)

    def _parts(self) -> list[Any]:
        if isinstance(self._layers, GraphList):
            return [part.what for part in self._layers.parts if not part.is_input]
        return list(self._own)

    def _outline(self) -> list[Part]:
        if isinstance(self._layers, GraphList):
            return self._layers.parts
        self._chain()
        inputs, outputs = self._values[:1], self._values[-1:]
        values = values_behind(inputs, outputs)
        return parts_of(inputs, outputs, values, whole_uses(values, outputs), entry_of)

    def pop(self, rebuild: bool = True) -> None:
        """Take the last layer away.

        Parameters
        ----------
        rebuild : bool
            Keras's; without effect.

        Raises
        ------
        ValueError
            Where there is none.
        """
        self._pull()
        if isinstance(self._layers, GraphList):
            raise ValueError("pop: the model has branches; make another")
        last = self._own[-1] if self._own else None
        for _ in range(len(last._entries()) if isinstance(last, TrainedModel) else 1):
            self._views.pop(self._layers.pop(), None)
            if self._compiled is not None:
                self._compiled.forget(len(self._layers.entries))
        self._own.pop()
        self._restructured()

    # -- as part of a `Model`

    @property
    def inputs(self) -> list[Any]:
        """What the model is given: one `Input`."""
        return [self._chain()[0]]

    @property
    def outputs(self) -> list[Any]:
        """What it gives: one value."""
        return [self._chain()[-1]]

    @property
    def input(self) -> Any:
        """What the model is given, to make a `Model` of."""
        return self._chain()[0]

    @property
    def output(self) -> Any:
        """What it gives, to make a `Model` of."""
        return self._chain()[-1]

    def _chain(self) -> list[Any]:
        """The input, and what each layer gives; ValueError before the model is built."""
        shape = self._shapes("output")[0]
        if isinstance(self._layers, GraphList):
            return [self._layers.inputs[0], *self._layers.outputs]
        if not self._values or self._values[0].shape != shape:
            self._values = [Input(shape)]
        values, kept = self._values, 0
        # What other models have been made of stays, whatever has been set of a layer since.
        for part, value in zip(self._own, values[1:]):
            whose = value.within[0].model if value.within else entry_of(value.layer)
            if whose is not part:
                break
            kept += 1
        del values[kept + 1 :]
        for part in self._own[kept:]:
            behind: Any = values[-1]
            values.append(layer_of(part)(behind) if isinstance(part, Entry) else
                          part._use([behind])[0])
        return values

    def _value_of(self, entry: Entry) -> Any:
        if isinstance(self._layers, GraphList):
            return self._layers.value_of(entry)
        chain = self._chain()
        if entry in self._own:
            return chain[1 + self._own.index(entry)]
        return next(value for value in values_behind(chain[:1], chain[-1:])
                    if entry_of(value.layer) is entry)

    def __call__(self, x: Any, training: bool | None = False) -> Any:
        """Outputs of arrays; of a value what the model's layers make of it.

        Parameters
        ----------
        x : array-like, Input or Value
        training : bool, optional
            Of arrays, as in Keras: batch norms take the statistics of these rows and move their
            running ones, `Dropout` and `GaussianNoise` work; on NumPy, and without a gradient. Of a
            value it must not be True.

        Raises
        ------
        ValueError
            With `training` on a value.
        """
        if not (isinstance(x, Value) or isinstance(x, Input)):
            return super().__call__(x, training)
        self._refuse_training(training)
        return self._use([x])[0]

    def _use(self, given: list[Any]) -> list[Any]:
        if not self.built:
            self.build((None, *row_shape_of(given[0])))
        use = Use(self, tuple(given))
        if isinstance(self._layers, GraphList):
            return self._layers.on_values(use)
        inputs, outputs = self.inputs, self.outputs
        values = values_behind(inputs, outputs)
        return in_turn(values, [value.within for value in values], inputs, outputs, use)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_values": []}

    # -- files

    @property
    def _kind(self) -> str:
        return "Sequential"

    def get_config(self) -> dict[str, Any]:
        if self.built:
            return {**super().get_config(), **self._nested()}
        parts = [part.spec.config() if isinstance(part, Entry) else
                 {"model": part._kind, "config": part.get_config()} for part in self._own]
        return {"name": self.name, "layers": parts}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Sequential:
        model = cls(name=config.get("name"))
        layers: list[Any] = [KINDS[layer["model"]].from_config(layer["config"])
                             if "model" in layer else layer_from_config(layer)
                             for layer in config["layers"]]
        if "graph" in config:
            graph = Graph.from_config(config["graph"])
            model._take_graph(*values_of(graph, layers, config.get("nested")))
            return model
        if "nested" in config:
            model._take_chain(*values_of(_links(layers, config["input_shape"]), layers,
                                         config["nested"]))
            return model
        for layer in layers:
            model.add(layer)
        if "input_shape" in config and not model.built:
            model.build((None, *config["input_shape"]))
        return model

    @classmethod
    def _of_values(cls, inputs: list[Any], outputs: list[Any],
                   words: dict[str, Any]) -> Sequential:
        """A model within another, of a file."""
        model = cls(name=words.get("name"))
        model._take_chain(inputs, outputs)
        model._trainable = bool(words.get("trainable", True))
        return model

    def _nested(self) -> dict[str, Any]:
        """What a file says of the models within."""
        if isinstance(self._layers, GraphList):
            nesting = self._layers.nesting()
        elif all(isinstance(part, Entry) for part in self._own):
            return {}
        else:
            inputs, outputs = self.inputs, self.outputs
            values = values_behind(inputs, outputs)
            place = {id(value): i for i, value in enumerate(values)} | {id(inputs[0]): -1}
            nesting = Nesting.of([value.within for value in values], place, described=True)
            if nesting is not None:
                nesting.name(self._layers.entries, self._layers.names)
        return {"nested": nesting.config()} if nesting else {}

    def _own_words(self) -> dict[str, Any]:
        return {"model": "Sequential", **self._nested()}  # one with branches, too

    @classmethod
    def _empty(cls) -> Sequential:
        return cls()

    def restore(self, network: Network, meta: dict[str, Any] | None = None,
                slots: dict[str, np.ndarray] | None = None,
                words: dict[str, Any] | None = None) -> None:
        nested = (words or {}).get("nested")
        if network.graph is not None:
            self._take_graph(*rebuilt(network, nested))
        elif nested is not None:
            self._take_chain(*rebuilt(network, nested))
        else:
            self._layers.input_shape = network.input_shape
            for layer, arrays in zip(network.layers, network.weights):
                entry = self._layers.add(layer, arrays)
                self._own += [] if entry is None else [entry]
        self._resume(meta, slots)


def _links(layers: Iterable[Layer], input_shape: Iterable[int]) -> Graph:
    """How layers read each other that follow one another."""
    calls = tuple(Call(i, (i - 1,)) for i, _ in enumerate(layers))
    return Graph(calls, (tuple(input_shape),), (len(calls) - 1,))


KINDS["Sequential"] = Sequential
