"""`Sequential`: layers one after the other, trained and used as in Keras."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import utils
from nbbn.layers import Input, Layer
from nbbn.layers.base import Value, row_shape_of
from nbbn.models.base_model import BaseModel
from nbbn.models.graph_list import entry_of, layer_of
from nbbn.models.layer_list import Entry, LayerList
from nbbn.models.layer_view import LayerView
from nbbn.models.trained_model import TrainedModel
from nbbn.network import Network


class Sequential(TrainedModel):
    """A model of layers, one after the other.

    Parameters
    ----------
    layers : list of Layer, optional
        Of `nbbn.layers`, or of another model (`*other.layers`): those bring a copy of their weights
        along.
    trainable : bool
        Whether training changes any weights.
    name : str, optional

    Attributes
    ----------
    layers : list
        The layers, an `Input` left out. Each reads as its specification (`isinstance` included);
        `trainable` can be set, and it has `get_weights`, `set_weights` and `count_params`.
    optimizer : Optimizer
        Of the last `compile`; its `learning_rate` can be set.
    stop_training : bool
        Set by a callback: training ends after the epoch, or the batch where callbacks look at
        batches.

    Notes
    -----
    As in Keras, but for this: data are arrays, computed in float32 unless the layers say
    `dtype="float64"`; where a layer takes statistics over the batch, a last batch of one row joins
    the batch before; metrics that the training step does not count (all but the accuracy of a
    cross-entropy) are measured on the training rows when the epoch is over, by inference.

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
        layer : Layer
            Of `nbbn.layers`, or of another model: it brings a copy of its weights along.

        Raises
        ------
        TypeError
            For anything but a layer.
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
        if isinstance(layer, BaseModel):
            raise TypeError("a model inside a model is not supported; add its layers: "
                            "Sequential([*model.layers, ...]), or call it on a value and make a "
                            "Model of that")
        arrays = None
        if type(layer) is LayerView:
            arrays, layer = layer.copies(), layer.specification
            if any(layer.name == entry.spec.name for entry in self._layers.entries):
                layer = replace(layer, name=None)
        self._pull()
        self._layers.add(layer if self._trainable else replace(layer, trainable=False), arrays)
        self._restructured()

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
        self._views.pop(self._layers.pop(), None)
        if self._compiled is not None:
            self._compiled.forget(len(self._layers.entries))
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
        return self._chain()[1 + self._layers.entries.index(entry)]

    def __call__(self, x: Any, training: bool = False) -> Any:
        """`predict` of arrays; of a value what the model's layers make of it.

        Parameters
        ----------
        x : array-like, Input or Value
        training : False

        Raises
        ------
        ValueError
            With `training`.
        """
        if not (isinstance(x, Value) or isinstance(x, Input)):
            return super().__call__(x, training)
        self._refuse_training(training)
        if not self.built:
            self.build((None, *row_shape_of(x)))
        for value in self._chain()[1:]:
            x = value.layer(x)
        return x

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_values": []}

    # -- files

    @classmethod
    def _empty(cls) -> Sequential:
        return cls()

    def restore(self, network: Network, meta: dict[str, Any] | None = None,
                slots: dict[str, np.ndarray] | None = None) -> None:
        layers = self._layers
        layers.input_shape = network.input_shape
        for layer, arrays in zip(network.layers, network.weights):
            layers.add(layer, arrays)
        self._resume(meta, slots)
