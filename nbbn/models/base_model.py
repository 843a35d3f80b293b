"""A model without its training: layers, weights, shapes, inference."""

from __future__ import annotations

import copy
import json
import math
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from nbbn import inputs
from nbbn.folded_model import FoldedModel
from nbbn.group import ALONE, Group
from nbbn.layers import Layer
from nbbn.models.batches import Batches, in_batches
from nbbn.models.compiled import Compiled
from nbbn.models.fit_data import many_rows, outputs_of
from nbbn.models.layer_list import Entry, LayerList
from nbbn.models.layer_view import LayerView
from nbbn.models.pieces import outputs_of_batches
from nbbn.models.summary import summary_html, summary_text, table_of
from nbbn.models.training_call import TrainingCall
from nbbn.models.variable import Variable, variables_of
from nbbn.network import Network
from nbbn.partitions.partitions import Partitions
from nbbn.predictor import Predictor
from nbbn.progress import check_verbose
from nbbn.recalibration import recalibrated
from nbbn.tensor import tensor
from nbbn.trainer import Trainer
from nbbn.utils import keras_name


class BaseModel:
    """Layers with weights.

    The newest weights are the layers', or the trainer's where `Compiled.ahead` says so.
    """

    def __init__(self, name: str, layers: LayerList):
        self.name = name
        self.stop_training = False
        self._layers = layers
        self._views: dict[Entry, LayerView] = {}
        self._compiled: Compiled | None = None
        self._predictors: dict[bool, tuple[list[int], Predictor]] = {}
        self._trainable = True
        self._calls = 0  # as in training, so far

    # -- layers

    @property
    def layers(self) -> list[Any]:
        """The layers, and the models within; the same objects every time."""
        return [self._shown(part) for part in self._parts()]

    def _parts(self) -> list[Any]:
        """What the model has, in Keras's order: inputs, an `Entry` of a layer, models within."""
        return list(self._layers.entries)

    def _shown(self, part: Any) -> Any:
        return self._view(part) if isinstance(part, Entry) else part

    def _entries(self) -> list[Entry]:
        """The layers of the models within, too, in Keras's order, each once."""
        found: dict[Entry, None] = {}
        for part in self._parts():
            if isinstance(part, Entry):
                found[part] = None
            elif isinstance(part, BaseModel):
                found |= dict.fromkeys(part._entries())
        return list(found)

    @property
    def _kind(self) -> str:
        """The name of the class, of one's own that of what it derives from."""
        return "Model"

    @property
    def _class_name(self) -> str:
        """What Keras calls the class."""
        return {"Model": "Functional"}.get(self._kind, self._kind)

    @property
    def _named_by_class(self) -> bool:
        """Whether the name is that of the class, maybe numbered."""
        return re.fullmatch(rf"{keras_name(self._class_name)}(_\d+)?", self.name) is not None

    def _value_of(self, entry: Entry) -> Any:
        """What a layer gives, as `Model` is made of."""
        raise NotImplementedError

    def _name_of(self, entry: Entry) -> str | None:
        """What the model calls a layer; one that it no longer has keeps its own name."""
        entries = self._layers.entries
        return self._layers.names[entries.index(entry)] if entry in entries else entry.spec.name

    def _view(self, entry: Entry) -> LayerView:
        if entry not in self._views:
            self._views[entry] = LayerView(self, entry)
        return self._views[entry]

    def get_layer(self, name: str | None = None, index: int | None = None) -> Any:
        """The layer, or the model within, of a name or an index.

        Parameters
        ----------
        name : str, optional
        index : int, optional
            Negative ones count from the end.

        Raises
        ------
        ValueError
            Where there is no such layer, or both or neither are given.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, name="head", input_shape=(4,))])
        >>> model.get_layer("head").get_weights()[0].shape
        (4, 3)
        """
        if (name is None) == (index is None):
            raise ValueError("get_layer takes either a name or an index")
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"get_layer: the model has {len(layers)} layers, "
                                 f"got index {index}")
            return layers[index]
        found = next((layer for layer in layers if layer.name == name), None)
        if found is not None:
            return found
        known = self._layers.names  # of the layers of models within, too
        if name in known:
            return self._view(self._layers.entries[known.index(name)])
        names = ", ".join(str(layer.name) for layer in layers)
        raise ValueError(f"get_layer: no layer is named {name!r}; the names are {names}")

    @property
    def trainable(self) -> bool:
        """Whether training may change weights; setting it sets every layer's."""
        return self._trainable

    @trainable.setter
    def trainable(self, value: bool) -> None:
        for layer in self.layers:
            layer.trainable = value
        self._trainable = bool(value)

    def build(self, input_shape: Iterable[Any] | None = None) -> None:
        """Make the weights.

        Parameters
        ----------
        input_shape : tuple, optional
            With the batch axis in front, as in Keras: `(None, 784)`. None: what the first layer
            says.

        Raises
        ------
        ValueError
            Where no shape is known, or layers do not fit it.
        """
        if input_shape is None:
            if self._layers.input_shape is None:
                raise ValueError("build: input_shape must be given, such as (None, 784), "
                                 "since no layer tells it")
            self._layers.build(self._layers.input_shape)
            return
        _, *sizes = input_shape
        if not sizes or not all(isinstance(n, Integral) and int(n) > 0 for n in sizes):
            raise ValueError("build: input_shape must be (None, ...), "
                             f"a row's sizes after the batch axis, got {input_shape}")
        self._layers.build(tuple(int(n) for n in sizes))

    @property
    def built(self) -> bool:
        """Whether the weights are there."""
        return self._layers.built

    @property
    def input_shape(self) -> tuple[int | None, ...]:
        """`(None, ...)`: the shape of the rows that go in."""
        return (None, *self._shapes("input_shape")[0])

    @property
    def output_shape(self) -> tuple[int | None, ...]:
        """`(None, ...)`: the shape of the rows that come out."""
        return (None, *self._shapes("output_shape")[-1])

    def _shapes(self, what: str) -> list[tuple[int, ...]]:
        """Shape of one row before each layer and after the last; ValueError while unknown."""
        if not self.built:
            raise ValueError(f"{what}: the model has no weights yet; give the first layer "
                             "input_shape=, call build((None, ...)), or fit it")
        return self._layers.shapes

    def summary(self, line_length: int | None = None, positions: Any = None,
                print_fn: Callable[[str], Any] | None = None, expand_nested: bool = False,
                show_trainable: bool = False, layer_range: Any = None) -> None:
        """Print the layers, their output shapes and their numbers of parameters.

        Parameters
        ----------
        line_length : int or None
            Columns of the table.
        positions, layer_range
            Keras's; without effect.
        print_fn : callable, optional
            Called with each line; None: the terminal.
        expand_nested : bool
            Show the layers of models within below each.
        show_trainable : bool
            Add a column that says whether a layer is trained.
        """
        table = table_of(self, expand_nested=expand_nested, show_trainable=show_trainable)
        given = (self.name, table, line_length)
        if print_fn is not None:
            for line in summary_text(*given).splitlines():
                print_fn(line)
            return
        print(summary_text(*given, color=sys.stdout.isatty()), end="")

    def _repr_html_(self) -> str:
        """For notebooks: the table of `summary`."""
        return summary_html(self.name, table_of(self), built=self.built)

    def count_params(self) -> int:
        """Numbers in all arrays.

        Raises
        ------
        ValueError
            Before the model is built.

        Examples
        --------
        >>> import nbbn
        >>> nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))]).count_params()
        15
        """
        self._shapes("count_params")
        return sum(array.size for entry in self._entries()
                   for array in entry.known_arrays().values())

    # -- weights

    def get_weights(self) -> list[np.ndarray]:
        """Copies of all arrays, layer by layer.

        Kernel, bias; gamma, beta, running mean, running variance.
        """
        self._pull()
        return [array.copy() for entry in self._entries()
                for array in entry.known_arrays().values()] if self.built else []

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Take arrays in the order and of the shapes of `get_weights`; the optimiser's state stays.

        Parameters
        ----------
        weights : list of array-like

        Raises
        ------
        ValueError
            For another number of arrays, other shapes, and before the model is built.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(2,))])
        >>> model.set_weights([np.array([[1.0], [2.0]]), np.array([0.5])])
        >>> model.get_weights()[1]
        array([0.5], dtype=float32)
        """
        self._shapes("set_weights")
        weights, entries = list(weights), self._entries()
        counts = [len(entry.known_arrays()) for entry in entries]
        if len(weights) != sum(counts):
            raise ValueError(f"set_weights: the model has {sum(counts)} arrays, got {len(weights)}")
        ends = np.cumsum(counts)
        parts = [weights[end - count : end] for count, end in zip(counts, ends)]
        self._take(list(zip(entries, parts)))

    @property
    def weights(self) -> list[Variable]:
        """All arrays as variables, layer by layer, as `get_weights` has them.

        Each has `name`, `path`, `shape`, `dtype`, `numpy()` and `assign(value)`.
        """
        found, trained = dict[tuple[Entry, str], Variable](), self._trained()
        for part in self._parts():
            own = (variables_of(self, part, trained.get(part, ())) if isinstance(part, Entry)
                   else part.weights)
            for variable in own:
                found.setdefault((variable._entry, variable.name), variable)
        return list(found.values())

    def _trained(self) -> dict[Entry, tuple[str, ...]]:
        """Names of each layer's arrays that training changes by gradients."""
        if not self.built:
            return {}
        layers = self._layers
        return {entry: entry.spec.trainable_names(*shapes)
                for entry, shapes in zip(layers.entries, layers.source_shapes)}

    @property
    def trainable_weights(self) -> list[Variable]:
        """Those that training changes by gradients."""
        return [variable for variable in self.weights if variable.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The others: running statistics, and arrays of layers that are not trained."""
        return [variable for variable in self.weights if not variable.trainable]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    def _variables_of(self, entry: Entry) -> list[Variable]:
        return variables_of(self, entry, self._trained().get(entry, ()))

    def get_config(self) -> dict[str, Any]:
        """The layers and how they read each other, JSON-ready; `from_config` reads it.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
        >>> nbbn.Sequential.from_config(model.get_config()).count_params()
        15
        """
        layers = self._layers
        if layers.built:
            return {"name": self.name, **layers.network().config()}
        return {"name": self.name, "layers": [layer.config() for layer in layers.layers]}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Any:
        """A model with initial weights of its own, not compiled.

        Parameters
        ----------
        config : dict
            Of `get_config`.
        custom_objects
            Keras's; without effect.
        """
        raise NotImplementedError

    def to_json(self, **how: Any) -> str:
        """The same as text, which `nbbn.models.model_from_json` reads.

        Parameters
        ----------
        **how
            Of `json.dumps`.
        """
        kind = type(self).__name__
        for layer in self._layers.layers:
            layer.check_written()
        return json.dumps({"class_name": kind, "config": self.get_config()}, **how)

    def _take(self, given: list[tuple[Entry, Iterable[Any]]]) -> None:
        """New arrays for some layers."""
        self._pull()
        checked = [(entry, entry.checked(weights)) for entry, weights in given]
        for entry, arrays in checked:
            entry.take(arrays)
        if self._compiled is not None:
            self._compiled.take(self._layers)
        self._predictors.clear()

    def _pull(self) -> None:
        """Bring trainers' weights here, where they are newer: this model's, and those of models
        that share layers with it."""
        for entry in self._entries():
            if entry.holder is not None and entry.holder is not self:
                entry.holder._pull_own()
        self._pull_own()

    def _others_train(self) -> bool:
        """Whether another model's trainer has newer weights of a layer."""
        return any(entry.holder not in (None, self) for entry in self._layers.entries)

    def _others_changed(self) -> bool:
        """Whether the trainer lacks what has been made of layers that others share."""
        return self._others_train() or (self._compiled is not None
                                        and self._compiled.behind(self._layers))

    def _pull_own(self) -> None:
        if self._compiled is not None:
            self._compiled.pull(self._layers)

    def _trains(self) -> None:
        """The trainer is about to change the weights."""
        if self._compiled is not None:
            self._compiled.ahead = True
        for entry in self._layers.entries:
            entry.holder = self
        self._predictors.clear()

    @property
    def _trainer_in_use(self) -> Trainer | None:
        """The trainer that holds the newest weights; None where layers have changed since."""
        return None if self._compiled is None else self._compiled.trainer

    def _penalty(self) -> float:
        """What the regularisers add to the loss."""
        pairs = zip(self._layers.entries, self._layers.source_shapes)
        found = [(entry, entry.spec.regularizers(*shapes)) for entry, shapes in pairs]
        if any(penalties for _, penalties in found):
            self._pull()
        total = 0.0
        for entry, penalties in found:
            arrays = entry.known_arrays()
            total += sum(penalty(arrays[name]) for name, penalty in penalties.items())
        return total

    def _replace(self, entry: Entry, spec: Layer) -> None:
        """Another specification for a layer, whose arrays it keeps."""
        self._pull()
        self._layers.replace(entry, spec)
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
        self._shapes("network")
        self._pull()
        network = self._layers.network()
        copies = [{n: a.copy() for n, a in arrays.items()} for arrays in network.weights]
        return replace(network, weights=copies).check()

    # -- inference

    def predict(self, x: Any, batch_size: int | None = None, verbose: Any = "auto",
                steps: int | None = None, callbacks: Any = None) -> np.ndarray:
        """Outputs of the model in inference: running statistics, no dropout.

        Parameters
        ----------
        x : array-like of shape (n, ...), Partitions, or batches
            A NaN gives NaN. Of partitions a few are in memory at a time. Of several inputs a list,
            or a dict by the names of `Input`. Batches come from a generator, a
            `nbbn.utils.PyDataset` or any other iterable, with targets or without.
        batch_size, verbose, callbacks
            Keras's; without effect but for `steps`, and nothing is printed.
        steps : int
            Batches to answer, from the first on. None: all.

        Returns
        -------
        ndarray of the model's dtype, shape (n, ...)
            Of several outputs a list of them, or a dict for a model that was made so.

        Raises
        ------
        TypeError, ValueError
            For rows that do not fit the model, and before the model is built.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Activation("relu", input_shape=(2,))])
        >>> model.predict([[1.0, -1.0]], verbose=0)
        array([[1., 0.]], dtype=float32)
        """
        steps = None if steps is None else whole("steps", steps, 1)
        check_verbose(verbose)
        batch_size = 32 if batch_size is None else whole("batch_size", batch_size, 1)
        if in_batches(x):
            with self._layers.unbuilt_on_error():
                return self._answers(outputs_of_batches(
                    Batches(x, "x", steps), self._rows_to_predict, self._outputs,
                    of_lists=self._takes_lists))
        if isinstance(x, Partitions):
            shapes = self._shapes("predict")
            self._takes_partitions()
            many = many_rows(x, x.headers(), shapes[0], self._layers.dtype, finite=False,
                             indices=self._layers.computation.indices)
            return self._answers(outputs_of(self._outputs, many))
        x = self._rows_to_predict(x, "x")
        return self._answers(self._outputs(x if steps is None else x[: steps * batch_size]))

    # Whether a list is one of the arrays of several inputs.
    _takes_lists = False

    def _rows_to_predict(self, x: Any, name: str) -> np.ndarray:
        if not self.built:
            self._layers.build(inputs.row_shape(x, name))
        return self._checked_rows(x, name, finite=False)

    def _rows(self, x: Any, name: str = "x", *, finite: bool = True) -> Any:
        """What is given as rows of the network."""
        return x

    def _checked_rows(self, x: Any, name: str = "x", *, finite: bool = True) -> np.ndarray:
        """What is given, checked, as rows of the network."""
        layers = self._layers
        return inputs.check_rows(self._rows(x, name, finite=finite), layers.shapes[0],
                                 layers.dtype, name, finite=finite,
                                 indices=layers.computation.indices)

    def _takes_partitions(self) -> None:
        """TypeError for a model whose rows partitions do not hold."""

    def _answers(self, out: np.ndarray) -> Any:
        """Outputs of the network as the model's."""
        return out.reshape(len(out), *self._layers.shapes[-1])

    def predict_on_batch(self, x: Any) -> np.ndarray:
        """`predict`."""
        return self.predict(x)

    def __call__(self, x: Any, training: bool | None = False) -> Any:
        """Outputs of some rows, in inference or as in training.

        Parameters
        ----------
        x : array-like of shape (n, ...)
        training : bool, optional
            As in Keras: batch norms take the statistics of these rows and move their running ones,
            `Dropout` and `GaussianNoise` work. On NumPy, and without a gradient: `fit` trains.

        Returns
        -------
        Tensor
            An array, which has `numpy()` besides. Of several outputs a list of them, or a dict for
            a model that was made so.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Activation("relu", input_shape=(2,))])
        >>> model([[1.0, -1.0]]).numpy()
        array([[1., 0.]], dtype=float32)
        """
        out = self._as_in_training(x) if training else self.predict(x)
        if isinstance(out, dict):
            return {name: tensor(part) for name, part in out.items()}
        return [tensor(part) for part in out] if isinstance(out, list) else tensor(out)

    def _as_in_training(self, x: Any) -> Any:
        if not self.built:
            self._layers.build(inputs.row_shape(x))
        x = self._checked_rows(x)
        self._pull()
        network, seed = self._layers.network(), self._layers.seed
        self._calls += 1
        call = TrainingCall(network, np.random.default_rng([seed, self._calls, 2]),
                            self._calls - 1 if self._compiled is None else self._compiled.norm_step)
        out, entries = call.outputs(x), self._layers.entries
        self._take([(entries[i], {**entries[i].known_arrays(), **arrays}.values())
                    for i, arrays in call.moved.items()])
        if call.moved and self._compiled is not None:
            self._compiled.counts_norm_step()
        return self._answers(out)

    @staticmethod
    def _refuse_training(training: Any) -> None:
        if training:
            raise ValueError("calling a model on values with training=True is not supported: fit "
                             "trains, all else is inference")

    def _outputs(self, x: np.ndarray, *, for_loss: bool = False) -> np.ndarray:
        """Outputs `(n, units)` of checked rows; `for_loss` as the loss compares them."""
        versions, predictor = self._predictors.get(for_loss, (None, None))
        if versions is None or versions != self._layers.versions or self._others_train():
            self._pull()
            network = self._layers.network()
            if for_loss and self._compiled is not None:
                network = self._compiled.with_tail(self._layers)
            predictor = Predictor(network)
            self._predictors[for_loss] = self._layers.versions, predictor
        assert predictor is not None
        return predictor(x).reshape(len(x), math.prod(self._layers.shapes[-1]))

    def recalibrate(self, x: Any) -> None:
        """Give every batch norm the exact statistics of these rows, all of them in inference.

        Parameters
        ----------
        x : array-like of shape (n, ...), or Partitions
            As in `fit`: the rows that the model was trained on.

        Raises
        ------
        TypeError, ValueError
            For rows that do not fit the model, and before the model is built.

        Notes
        -----
        Layer by layer, so that each sees rows normalised by the new statistics of those before it;
        sums in float64, the variance about the mean, chunks of rows merged in order.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.BatchNormalization(input_shape=(1,))])
        >>> model.recalibrate(np.array([[1.0], [3.0]]))
        >>> gamma, beta, mean, var = model.get_weights()
        >>> mean, var
        (array([2.], dtype=float32), array([1.], dtype=float32))
        """
        self.recalibrate_in_group(ALONE, x)

    def recalibrate_in_group(self, group: Group, x: Any) -> None:
        """`recalibrate` on the rows of all processes of a group; None for `x`: it has none."""
        with group.together():
            shape, dtype = self._shapes("recalibrate")[0], self._layers.dtype
            if isinstance(x, Partitions):
                self._takes_partitions()
                x = many_rows(x, x.headers(), shape, dtype,
                              indices=self._layers.computation.indices)
            elif x is None and group.world is not None:
                x = np.empty((0, *shape), dtype)
            else:
                x = self._checked_rows(x)
        self._pull()
        entries, found = self._layers.entries, recalibrated(self._layers.network(), x, group)
        new = [(entries[i], {**entries[i].known_arrays(), **arrays}) for i, arrays in found.items()]
        self._take([(entry, arrays.values()) for entry, arrays in new])

    def fold(self, *, strict: bool = False, check: Any = None) -> FoldedModel:
        """A `FoldedModel` with every batch norm folded into its neighbours; `nbbn.fold` says more.

        Parameters
        ----------
        strict : bool
            Raise `nbbn.FoldRefused` where a batch norm cannot be folded.
        check : array-like, optional
            Rows to compare both networks on, besides the random ones always used.

        Examples
        --------
        >>> import nbbn
        >>> dense = nbbn.layers.Dense(3, input_shape=(4,))
        >>> model = nbbn.Sequential([dense, nbbn.layers.BatchNormalization()])
        >>> [type(layer).__name__ for layer in model.fold().network.layers]
        ['Dense']
        """
        rows = None if check is None else self._rows(check, "check")
        return FoldedModel.of(self.network(), strict=strict, check=rows)

    def __getstate__(self) -> dict[str, Any]:
        self._pull()
        compiled = copy.copy(self._compiled)
        if compiled is not None:
            compiled.release()  # the copy alone: a fit may be under way
        return {**self.__dict__, "_views": {}, "_predictors": {}, "_compiled": compiled}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {', '.join(map(repr, self._layers.layers))}>"


def whole(name: str, value: Any, least: int) -> int:
    """`value` as an int of at least `least`; ValueError for anything else."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    return int(value)
