"""A model without its training: layers, weights, shapes, inference."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import replace
from numbers import Integral

import numpy as np

from nbbn import utils
from nbbn.layers import Layer
from nbbn.models import inputs
from nbbn.models.compiled import Compiled
from nbbn.models.layer_list import Entry, LayerList
from nbbn.models.layer_view import LayerView
from nbbn.models.progress import check_verbose
from nbbn.models.recalibration import recalibrated
from nbbn.models.summary import summary_text
from nbbn.network import Network
from nbbn.predictor import Predictor


class BaseModel:
    """Layers one after the other, with weights; `Sequential` adds the training.

    The newest weights are the layers's, or the trainer's while the compiled says so.
    """

    _weighting: bool | str = True  # what weights of rows mean in training: as `Trainer`'s `weighted`

    def __init__(self, layers: Iterable[Layer] | None = None, trainable: bool = True, name: str | None = None):
        self.name = name or "sequential"
        self.stop_training = False
        self._layers = LayerList(utils.new_seed())
        self._views: dict[int, LayerView] = {}
        self._compiled: Compiled | None = None
        self._shuffles = 0
        self._predictors: dict[bool, Predictor] = {}
        self._trainable = True
        for layer in layers or ():
            self.add(layer)
        if not trainable:
            self.trainable = False

    # -- layers

    def add(self, layer) -> None:
        """Put a layer at the end.

        Raises
        ------
        TypeError
            For anything but a layer.
        ValueError
            For a name that is taken, or a layer that does not fit.
        """
        if isinstance(layer, BaseModel):
            raise TypeError("a model inside a model is not supported; add its layers: Sequential([*model.layers, ...])")
        arrays = None
        if type(layer) is LayerView:
            arrays, layer = layer.copies(), layer.specification
            if any(layer.name == entry.spec.name for entry in self._layers.entries):
                layer = replace(layer, name=None)
        self._pull()
        self._layers.add(layer if self._trainable else replace(layer, trainable=False), arrays)
        self._restructured()

    def pop(self, rebuild: bool = True) -> None:
        """Take the last layer away; `rebuild` is Keras's and does nothing.

        Raises
        ------
        ValueError
            Where there is none.
        """
        self._pull()
        self._views.pop(self._layers.pop().number, None)
        if self._compiled is not None:
            self._compiled.forget(len(self._layers.entries))
        self._restructured()

    @property
    def layers(self) -> list[LayerView]:
        """The layers; the same objects every time."""
        return [self._view(entry) for entry in self._layers.entries]

    def _view(self, entry: Entry) -> LayerView:
        if entry.number not in self._views:
            self._views[entry.number] = LayerView(self, entry)
        return self._views[entry.number]

    def get_layer(self, name: str | None = None, index: int | None = None) -> LayerView:
        """The layer of a name or an index.

        Raises
        ------
        ValueError
            Where there is no such layer, or both or neither are given.
        """
        if (name is None) == (index is None):
            raise ValueError("get_layer takes either a name or an index")
        entries = self._layers.entries
        if index is not None:
            if not -len(entries) <= index < len(entries):
                raise ValueError(f"get_layer: the model has {len(entries)} layers, got index {index}")
            return self._view(entries[index])
        for entry in entries:
            if entry.spec.name == name:
                return self._view(entry)
        raise ValueError(f"get_layer: no layer is named {name!r}; the names are {', '.join(e.spec.name for e in entries)}")

    @property
    def trainable(self) -> bool:
        """Whether training may change weights; setting it sets every layer's."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value
        self._trainable = bool(value)

    def build(self, input_shape=None) -> None:
        """Make the weights.

        Parameters
        ----------
        input_shape : tuple, optional
            With the batch axis in front, as in Keras: `(None, 784)`. None: what the first layer says.

        Raises
        ------
        ValueError
            Where no shape is known, or layers do not fit it.
        """
        if input_shape is None:
            if self._layers.input_shape is None:
                raise ValueError("build: input_shape must be given, such as (None, 784), since no layer tells it")
            shape = self._layers.input_shape
        else:
            shape = tuple(input_shape)[1:]
            if not shape or not all(isinstance(n, Integral) and n > 0 for n in shape):
                raise ValueError(f"build: input_shape must be (None, ...), a row's sizes after the batch axis, got {input_shape}")
        self._layers.build(tuple(int(n) for n in shape))

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        return self._layers.built

    @property
    def input_shape(self) -> tuple:
        """`(None, ...)`: the shape of the rows that go in."""
        self._require_built("input_shape")
        return (None, *self._layers.input_shape)

    @property
    def output_shape(self) -> tuple:
        """`(None, ...)`: the shape of the rows that come out."""
        self._require_built("output_shape")
        return (None, *self._layers.shapes[-1])

    def summary(self, line_length: int | None = None, positions=None, print_fn=None, expand_nested=False,
                show_trainable: bool = False, layer_range=None) -> None:
        """Print the layers, their output shapes and their numbers of parameters.

        Parameters
        ----------
        line_length : int or None
            Columns of the table.
        positions, expand_nested, layer_range
            Keras's; without effect.
        print_fn : callable, optional
            Called with each line; None: the terminal.
        show_trainable : bool
            Add a column that says whether a layer is trained.
        """
        if print_fn is not None:
            for line in summary_text(self, line_length, show_trainable).splitlines():
                print_fn(line)
            return
        from nbbn.commands.progress import console

        print(summary_text(self, line_length, show_trainable, color=console().is_terminal), end="")

    def count_params(self) -> int:
        """Numbers in all arrays.

        Raises
        ------
        ValueError
            Before the model is built.
        """
        self._require_built("count_params")
        return self._layers.count()

    # -- weights

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all arrays, layer by layer: kernel, bias; gamma, beta, running mean, running variance."""
        self._pull()
        return [array.copy() for array in self._layers.flat()] if self.built else []

    def set_weights(self, weights) -> None:
        """Take arrays in the order and of the shapes of `get_weights`; the optimiser's state stays.

        Raises
        ------
        ValueError
            For another number of arrays, other shapes, and before the model is built.
        """
        self._require_built("set_weights")
        weights = list(weights)
        counts = [len(entry.arrays) for entry in self._layers.entries]
        if len(weights) != sum(counts):
            raise ValueError(f"set_weights: the model has {sum(counts)} arrays, got {len(weights)}")
        ends = np.cumsum(counts)
        self._take([(e, weights[end - count : end]) for e, count, end in zip(self._layers.entries, counts, ends)])

    def _take(self, given: list[tuple[Entry, list]]) -> None:
        """New arrays for some layers."""
        self._pull()
        checked = [(entry, entry.checked(weights)) for entry, weights in given]
        for entry, arrays in checked:
            entry.arrays = arrays
        if self._compiled is not None:
            self._compiled.take(self._layers.network().weights)
        self._predictors.clear()

    def _pull(self) -> None:
        """Bring the trainer's weights here, where they are newer."""
        if self._compiled is not None:
            self._compiled.pull(self._layers)

    def _trains(self) -> None:
        """The trainer is about to change the weights."""
        self._compiled.ahead = True
        self._predictors.clear()

    def _replace(self, entry: Entry, spec: Layer) -> None:
        """Another specification for a layer, whose arrays it keeps."""
        self._pull()
        entry.spec = spec
        self._restructured()

    def _restructured(self) -> None:
        """Layers have changed; the weights are here."""
        if self._compiled is not None:
            self._compiled.release()
        self._predictors.clear()

    def network(self) -> Network:
        """Layers and weights, as folding and files take them.

        Raises
        ------
        ValueError
            Before the model is built, and for weights that are not finite.
        """
        self._require_built("network")
        self._pull()
        network = self._layers.network()
        return replace(network, weights=[{n: a.copy() for n, a in arrays.items()} for arrays in network.weights]).check()

    # -- inference

    def predict(self, x, batch_size: int | None = None, verbose="auto", steps=None, callbacks=None) -> np.ndarray:
        """Outputs of the model in inference: running statistics, no dropout.

        Parameters
        ----------
        x : array-like of shape (n, ...)
            A NaN gives NaN.
        batch_size, verbose, callbacks
            Keras's; without effect, and nothing is printed.
        steps : None
            Not supported.

        Returns
        -------
        ndarray of the model's dtype, shape (n, ...)

        Raises
        ------
        TypeError, ValueError
            For rows that do not fit the model, and before the model is built.
        """
        refuse(steps=steps)
        check_verbose(verbose)
        if batch_size is not None:
            whole("batch_size", batch_size, 1)
        if not self.built:
            self._layers.build(inputs.row_shape(x))
        x = inputs.check_rows(x, self._layers.input_shape, self._layers.dtype, finite=False)
        return self._outputs(x, whole=False).reshape(len(x), *self._layers.shapes[-1])

    def predict_on_batch(self, x) -> np.ndarray:
        """`predict`."""
        return self.predict(x)

    def __call__(self, x, training: bool = False) -> np.ndarray:
        """`predict`.

        Raises
        ------
        ValueError
            With `training`: outputs with batch statistics are not given.
        """
        if training:
            raise ValueError("calling a model with training=True is not supported; train with fit or train_on_batch")
        return self.predict(x)

    def _outputs(self, x: np.ndarray, *, whole: bool) -> np.ndarray:
        """Outputs `(n, units)` of checked rows; `whole`: after the activation that a loss from logits leaves out."""
        predictor = self._predictors.get(whole)
        if predictor is None:
            self._pull()
            network = self._layers.network()
            predictor = self._predictors[whole] = Predictor(self._compiled.whole(network) if whole else network)
        return predictor(x).reshape(len(x), -1)

    def recalibrate(self, x) -> None:
        """Give every batch norm the exact statistics of these rows, as mean and variance of the whole set in inference.

        Parameters
        ----------
        x : array-like of shape (n, ...)
            As in `fit`: the rows that the model was trained on.

        Raises
        ------
        TypeError, ValueError
            For rows that do not fit the model, and before the model is built.

        Notes
        -----
        Layer by layer, so that each sees rows normalised by the new statistics of those before it; sums in float64, the variance
        about the mean, chunks of rows merged in order.
        """
        self._require_built("recalibrate")
        x = inputs.check_rows(x, self._layers.input_shape, self._layers.dtype)
        self._pull()
        found = recalibrated(self._layers.network(), x)
        entries = self._layers.entries
        self._take([(entries[i], list({**entries[i].arrays, **statistics}.values())) for i, statistics in found.items()])

    def fold(self, *, strict: bool = False, check=None):
        """A `FoldedModel` with every batch norm folded into its neighbours; `nbbn.fold` says more."""
        from nbbn.saving import fold

        return fold(self, strict=strict, check=check)

    def __getstate__(self):
        self._pull()
        compiled = copy.copy(self._compiled)
        if compiled is not None:
            compiled.release()  # the copy alone: a fit may be under way
        return {**self.__dict__, "_views": {}, "_predictors": {}, "_compiled": compiled}

    def __repr__(self):
        return f"<Sequential {self.name!r}: {', '.join(repr(layer) for layer in self._layers.layers)}>"

    def _require_built(self, what: str) -> None:
        if not self.built:
            raise ValueError(
                f"{what}: the model has no weights yet; give the first layer input_shape=, call build((None, ...)), or fit it"
            )


def refuse(**given) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is not supported, got {value!r}; leave it out: all rows given are used")


def whole(name: str, value, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
