"""`Model`: layers that read each other in any way, put together by calling them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import inputs as checks
from nbbn.layers import Layer, layer_from_config
from nbbn.layers.base import Value
from nbbn.layers.names import free_name
from nbbn.models.compiled import Compiled
from nbbn.models.graph_list import GraphList, on_values, rebuilt, values_of
from nbbn.models.joint_loss import JointLoss
from nbbn.models.layer_list import Entry
from nbbn.models.layer_view import InputView
from nbbn.models.nested_config import KINDS
from nbbn.models.nesting import Part, Use
from nbbn.models.trained_model import TrainedModel
from nbbn.network import Graph, Network, apart
from nbbn.training_loop import Samples


class Model(TrainedModel):
    """A model of layers that were called on each other's values.

    Parameters
    ----------
    inputs : Input or Value, or a list or dict of them
        What the model is given. A value in the midst of another model begins the model there.
    outputs : Value, or a list or dict of them
        What it gives.
    name : str, optional
    trainable : bool
        Whether training changes any weights.

    Raises
    ------
    TypeError
        For anything else, such as a subclass of one's own that is called without them.
    ValueError
        For an input that no output depends on, and one that is not listed.

    Notes
    -----
    A layer that is called several times, in one model or in several, has one set of weights, and a
    fit of one model is seen by all. A model may be called on values: it is one of the other's
    `layers` then, by its name.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> from nbbn import layers
    >>> inputs = layers.Input((4,))
    >>> x = layers.Dense(8, activation="relu")(inputs)
    >>> residual = layers.BatchNormalization()(layers.Dense(8)(x))
    >>> outputs = layers.Dense(2, activation="softmax")(layers.Add()([x, residual]))
    >>> model = nbbn.Model(inputs, outputs)
    >>> model.compile("adam", "sparse_categorical_crossentropy")
    >>> model.predict(np.zeros((3, 4))).shape
    (3, 2)
    """

    _layers: GraphList
    _input_views: list[InputView] | None = None

    def __init__(self, inputs: Any = None, outputs: Any = None, name: str | None = None,
                 trainable: bool = True):
        if inputs is None or outputs is None:
            raise TypeError("Model takes inputs and outputs: values of layers. A model written as "
                            "a class of its own, with a method call, is not supported")
        self._of_inputs, self._of_outputs = _form(inputs), _form(outputs)
        super().__init__(name or "functional", GraphList(_listed("inputs", inputs),
                                                         _listed("outputs", outputs)))
        if not trainable:
            self.trainable = False

    def _parts(self) -> list[Any]:
        rows = iter(self._rows_shown())
        return [next(rows) if part.is_input else part.what for part in self._layers.parts]

    def _outline(self) -> list[Part]:
        return self._layers.parts

    def _rows_shown(self) -> list[InputView]:
        """The inputs as they are among the layers."""
        if self._input_views is None:
            own = [part.what for part in self._layers.parts if part.is_input]
            taken = {*self._layers.names, *(getattr(one, "name", None) for one in own)}
            self._input_views = []
            for one in own:
                name = getattr(one, "name", None) or free_name("InputLayer", taken)
                taken.add(name)
                self._input_views.append(InputView(one, name))
        return self._input_views

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "_input_views": None}

    # -- values

    @property
    def inputs(self) -> list[Any]:
        """What the model is given: `Input` or `Value`, one each."""
        return list(self._layers.inputs)

    @property
    def outputs(self) -> list[Value]:
        """What it gives."""
        return list(self._layers.outputs)

    @property
    def input(self) -> Any:
        """The input, or a list or dict of them, as the model was made."""
        return self._of_inputs.like_given(self.inputs)

    @property
    def output(self) -> Any:
        """The output, or a list or dict of them, as the model was made."""
        return self._of_outputs.like_given(self.outputs)

    def __call__(self, x: Any, training: bool | None = False) -> Any:
        """Outputs of arrays; of values what the model's layers make of them.

        Parameters
        ----------
        x : array-like, Input or Value, or a list of them
        training : bool, optional
            Of arrays: as in training, see `Sequential`. Of values it must not be True.

        Raises
        ------
        ValueError
            With `training` on values; and for another number of values than the model has inputs.
        """
        given = list(x.values()) if isinstance(x, dict) else x
        given = list(given) if isinstance(given, list | tuple) else [given]
        if not on_values(self, given):
            return super().__call__(x, training)
        self._refuse_training(training)
        if isinstance(x, dict):
            given = list(self._of_inputs.picked(x, "x", len(self.inputs)))
        return self._on_values(given)

    def _on_values(self, given: list[Any]) -> Any:
        return self._of_outputs.like_given(self._use(given))

    def _use(self, given: list[Any]) -> list[Value]:
        return self._layers.on_values(Use(self, tuple(given)))

    def _value_of(self, entry: Entry) -> Value:
        return self._layers.value_of(entry)

    @property
    def input_shape(self) -> Any:
        """`(None, ...)`: the shape of the rows that go in, or a list of them."""
        shapes = [(None, *shape) for shape in self._layers.graph.inputs]
        return shapes[0] if len(shapes) == 1 else shapes

    @property
    def output_shape(self) -> Any:
        """`(None, ...)`: the shape of the rows that come out, or a list of them."""
        shapes = [(None, *shape) for shape in self._layers.answer_shapes]
        return shapes[0] if len(shapes) == 1 else shapes

    # -- rows

    @property
    def _takes_lists(self) -> bool:  # type: ignore[override]
        return len(self.inputs) > 1

    def _rows(self, x: Any, name: str = "x", *, finite: bool = True) -> Any:
        """Rows of several inputs beside each other, as the network has them."""
        shapes = self._layers.graph.inputs
        if len(shapes) == 1:
            alone = isinstance(x, list | tuple) and len(x) == 1
            if alone and getattr(x[0], "ndim", 0) == len(shapes[0]) + 1:
                return x[0]
            return self._of_inputs.picked(x, name, 1)[0] if isinstance(x, dict) else x
        if isinstance(x, np.ndarray) and x.shape[1:] == self._layers.graph.input_shape:
            return x  # flat, as other programs' files have them
        given = self._of_inputs.picked(x, name, len(shapes))
        return checks.check_rows_of_inputs(given, shapes, self._layers.dtype, name, finite=finite)

    def _samples(self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None,
                 prefix: str = "", *, finite: bool = True) -> Samples:
        if len(self.outputs) > 1:
            if class_weight is not None:
                raise ValueError("class_weight is not supported for a model of several outputs; "
                                 "give sample_weight")
            by_output = isinstance(sample_weight, list | tuple) and np.ndim(sample_weight[:1]) > 1
            if by_output or isinstance(sample_weight, dict):
                raise ValueError("sample_weight must be one array, of a weight for each row that "
                                 "counts for all outputs; outputs have loss_weights in compile")
        return super()._samples(x, y, sample_weight, class_weight, prefix, finite=finite)

    def _answers(self, out: np.ndarray) -> Any:
        shapes = self._layers.answer_shapes
        one = len(shapes) == 1
        parts = [out.reshape(len(out), *shapes[0])] if one else apart(out, shapes)
        return self._of_outputs.like_given(parts)

    def _takes_partitions(self) -> None:
        if len(self.inputs) > 1:
            raise TypeError("x is Partitions, which a model of several inputs does not take: give "
                            "arrays")

    # -- losses

    @property
    def output_names(self) -> list[str]:
        """What losses, weights, metrics and figures of several outputs are called."""
        return self._of_outputs.names or self._layers.output_names

    def _made_of(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any,
                 norm_step: int) -> Compiled:
        if len(self.outputs) == 1:
            given = {"loss": loss, "loss_weights": loss_weights, "metrics": metrics}
            loss, loss_weights, metrics = (self._only(name, one) for name, one in given.items())
            return super()._made_of(optimizer, loss, loss_weights, metrics, norm_step)
        if loss is None:
            raise ValueError("compile: loss must be given: a list, or a dict with "
                             f"{', '.join(self.output_names)}")
        joint = JointLoss.of(loss, loss_weights, self.output_names, self._layers.answer_shapes)
        return Compiled.of_outputs(optimizer, joint, metrics, norm_step)

    def _made_again(self, meta: dict[str, Any]) -> Compiled:
        if len(self.outputs) == 1:
            return super()._made_again(meta)
        losses, weights = meta["loss"]["losses"], meta["loss"]["weights"]
        return self._made_of(meta["optimizer"], losses, weights, meta["metrics"], 0)

    def _only(self, name: str, given: Any) -> Any:
        """What is given for the only output, by its name or without."""
        if not isinstance(given, dict):
            return given
        (output,) = self.output_names
        if [*given] != [output]:
            raise ValueError(f"{name} names {', '.join(map(repr, given))}; the model's output is "
                             f"{output}")
        return given[output]

    def _targets(self, y: Any, shape: tuple[int, ...], rows: int, name: str,
                 x: str) -> np.ndarray:
        given = self._only(name, y) if len(self.outputs) == 1 else y
        return super()._targets(given, shape, rows, name, x)

    # -- files

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), **self._own_words()}

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Model:
        layers = [layer_from_config(layer) for layer in config["layers"]]
        graph = Graph.from_config(config["graph"])
        inputs, outputs = values_of(graph, layers, config.get("nested"), config.get("inputs"))
        model = cls(inputs, outputs, name=config.get("name"))
        model._name_rows(config)
        return model

    @classmethod
    def _of_values(cls, inputs: list[Any], outputs: list[Any], words: dict[str, Any]) -> Model:
        """A model within another, of a file."""
        model = cls(inputs, outputs, name=words.get("name"))
        model._name_rows(words)
        model._trainable = bool(words.get("trainable", True))
        return model

    def _name_rows(self, words: dict[str, Any]) -> None:
        inputs, outputs = words.get("inputs"), words.get("outputs")
        self._of_inputs = _Form(inputs and _all_of(inputs, self.inputs), words.get("given"))
        self._of_outputs = _Form(outputs and _all_of(outputs, self.outputs), words.get("gives"))

    def network(self) -> Network:
        network, inputs = super().network(), self._of_inputs.names
        assert network.graph is not None
        named: dict[str, Any] = {}
        if inputs and len(inputs) > 1:
            named["input_names"] = tuple(inputs)
        if len(self.outputs) > 1:
            named["output_names"] = tuple(self.output_names)
        return replace(network, graph=replace(network.graph, **named))

    @classmethod
    def _empty(cls) -> Model:
        return cls.__new__(cls)

    def _row_names(self) -> dict[str, Any]:
        return {"inputs": self._of_inputs.names, "outputs": self._of_outputs.names,
                **({"given": "dict"} if self._of_inputs.kind == "dict" else {}),
                **({"gives": "dict"} if self._of_outputs.kind == "dict" else {})}

    def _own_words(self) -> dict[str, Any]:
        nesting = self._layers.nesting()
        return {**self._row_names(), **({"nested": nesting.config()} if nesting else {})}

    def restore(self, network: Network, meta: dict[str, Any] | None = None,
                slots: dict[str, np.ndarray] | None = None,
                words: dict[str, Any] | None = None) -> None:
        """See `TrainedModel.restore`; `words` are those of `_own_words`, if a file has any."""
        words = words or {}
        rows, values = rebuilt(network, words.get("nested"), words.get("inputs"))
        Model.__init__(self, rows, values)
        self._name_rows(words)
        self._resume(meta, slots)


class _Form:
    """How a user gives several things: one, a list, or a dict by name.

    `kind` is `"dict"` where it was a dict, and `"list"` for a list, of one too.
    """

    def __init__(self, names: list[str] | None, kind: str | None = None):
        self.names, self.kind = names, kind

    def like_given(self, things: list[Any]) -> Any:
        """Things in the model's order as the user gave theirs."""
        if self.kind == "dict" and self.names is not None:
            return dict(zip(self.names, things))
        return things[0] if len(things) == 1 else things

    def picked(self, given: Any, name: str, count: int) -> Sequence[Any]:
        """The things in the model's order; ValueError where there are others."""
        if isinstance(given, dict):
            if self.names is None:
                raise ValueError(f"{name}: the model's inputs have no names; give a list, or name "
                                 "them, Input(..., name='a')")
            if given.keys() != {*self.names}:
                raise ValueError(f"{name} must have the keys {', '.join(self.names)}, got "
                                 f"{', '.join(map(str, given))}")
            return [given[key] for key in self.names]
        if not isinstance(given, list | tuple) or len(given) != count:
            got = f"{len(given)}" if isinstance(given, list | tuple) else type(given).__name__
            raise ValueError(f"{name} must be a list of {count} arrays, one for each input, "
                             f"got {got}")
        return given


def _form(given: Any) -> _Form:
    if isinstance(given, dict):
        return _Form(list(given), "dict")
    listed = given if isinstance(given, list | tuple) else [given]
    names = [one.name for one in listed if isinstance(one, Layer) and one.name]
    if len({*names}) < len(names):
        raise ValueError(f"Model: inputs need different names, got {', '.join(names)}")
    return _Form(names if len(names) == len(listed) else None)


def _all_of(names: list[str], rows: Sequence[Any]) -> list[str]:
    """Names of rows, from a file; ValueError for other than a name each."""
    if len({*map(str, names)}) != len(rows):
        raise ValueError(f"{names} are no names of {len(rows)} inputs or outputs")
    return list(map(str, names))


def _listed(name: str, given: Any) -> list[Any]:
    found = list(given.values()) if isinstance(given, dict) else given
    found = list(found) if isinstance(found, list | tuple) else [found]
    for one in found:
        rows = name == "inputs" and getattr(one, "gives_rows", False)
        if not (rows or isinstance(one, Value)):
            raise TypeError(f"{name} must be what layers give, got {type(one).__name__}")
    if not found:
        raise ValueError(f"Model: there are no {name}")
    return found


KINDS["Model"] = Model
