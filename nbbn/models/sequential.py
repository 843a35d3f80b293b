"""`Sequential`: layers one after the other, trained and used as in Keras."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import utils
from nbbn.layers import Input, Layer, layer_from_config
from nbbn.layers.base import Value, row_shape_of
from nbbn.models.graph_list import GraphList, entry_of, layer_of, rebuilt, values_of
from nbbn.models.layer_list import Entry, LayerList
from nbbn.models.layer_view import LayerView
from nbbn.models.trained_model import TrainedModel
from nbbn.network import Graph, Network


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
        self._models: list[TrainedModel] = []  # models within
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
        else:
            self._layers.add(layer, arrays)
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
            own.share(chain, theirs.input_shape)
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
                first = self.input
            self._take_graph([first], [inner(self.output if own.entries else first)])
        self._models.append(model)
        self._restructured()

    def _take_graph(self, inputs: list[Any], outputs: list[Any]) -> None:
        graph = GraphList(inputs, outputs)
        graph.seed, graph.made = self._layers.seed, self._layers.made + 1
        self._layers, self._values = graph, []

    @property
    def layers(self) -> list[Any]:
        """The layers and models; the same objects every time."""
        found: list[Any] = []
        for entry in self._layers.entries:
            within = (model for model in self._models if entry in model._layers.entries)
            one = next(within, None) or self._view(entry)
            if not any(one is known for known in found):
                found.append(one)
        return found

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
        last = self._models[-1] if self._models and self.layers[-1] is self._models[-1] else None
        for _ in range(1 if last is None else len(last._layers.entries)):
            if isinstance(self._layers, GraphList):
                raise ValueError("pop: the model has branches; make another")
            self._views.pop(self._layers.pop(), None)
            if self._compiled is not None:
                self._compiled.forget(len(self._layers.entries))
        if last is not None:
            self._models.pop()
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
        shape, entries = self._shapes("output")[0], self._layers.entries
        if isinstance(self._layers, GraphList):
            return [self._layers.inputs[0], *self._layers.outputs]
        if not self._values or self._values[0].shape != shape:
            self._values = [Input(shape)]
        values, kept = self._values, 0
        # What other models have been made of stays, whatever has been set of a layer since.
        for entry, value in zip(entries, values[1:]):
            if entry_of(value.layer) is not entry:
                break
            kept += 1
        del values[kept + 1 :]
        for entry in entries[kept:]:
            values.append(layer_of(entry)(values[-1]))
        return values

    def _value_of(self, entry: Entry) -> Any:
        if isinstance(self._layers, GraphList):
            return self._layers.value_of(entry)
        return self._chain()[1 + self._layers.entries.index(entry)]

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
        if not self.built:
            self.build((None, *row_shape_of(x)))
        if isinstance(self._layers, GraphList):
            return self._layers.on_values([x])[0]
        for value in self._chain()[1:]:
            x = value.layer(x)
        return x

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_values": []}

    # -- files

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Sequential:
        model = cls(name=config.get("name"))
        layers = [layer_from_config(layer) for layer in config["layers"]]
        if "graph" in config:
            model._take_graph(*values_of(Graph.from_config(config["graph"]), layers))
            return model
        for layer in layers:
            model.add(layer)
        if "input_shape" in config and not model.built:
            model.build((None, *config["input_shape"]))
        return model

    def _own_words(self) -> dict[str, Any]:
        return {"model": "Sequential"}  # one with branches, too

    @classmethod
    def _empty(cls) -> Sequential:
        return cls()

    def restore(self, network: Network, meta: dict[str, Any] | None = None,
                slots: dict[str, np.ndarray] | None = None) -> None:
        layers = self._layers
        if network.graph is not None:
            self._take_graph(*rebuilt(network))
            self._resume(meta, slots)
            return
        layers.input_shape = network.input_shape
        for layer, arrays in zip(network.layers, network.weights):
            layers.add(layer, arrays)
        self._resume(meta, slots)
