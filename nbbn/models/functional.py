"""`Model`: layers that read each other in any way, put together by calling them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from nbbn import inputs as checks
from nbbn.layers import Layer
from nbbn.layers.base import Value
from nbbn.models.compiled import Compiled
from nbbn.models.graph_list import GraphList, entry_of, on_values
from nbbn.models.joint_loss import JointLoss
from nbbn.models.layer_list import Entry
from nbbn.models.trained_model import TrainedModel
from nbbn.network import Network


class Model(TrainedModel):
    """A model of layers that were called on each other's values.

    Parameters
    ----------
    inputs : Input or Value, or a list or dict of them
        What the model is given. A value in the midst of another model begins the model there.
    outputs : Value, or a list of them
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
    fit of one model is seen by all. A model may be called on values: its layers become part of the
    other.

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
        """The input, or a list of them."""
        return self.inputs[0] if len(self.inputs) == 1 else self.inputs

    @property
    def output(self) -> Any:
        """The output, or a list of them."""
        return self.outputs[0] if len(self.outputs) == 1 else self.outputs

    def __call__(self, x: Any, training: bool = False) -> Any:
        """`predict` of arrays; of values what the model's layers make of them.

        Parameters
        ----------
        x : array-like, Input or Value, or a list of them
        training : False

        Raises
        ------
        ValueError
            With `training`; and for another number of values than the model has inputs.
        """
        given = list(x) if isinstance(x, list | tuple) else [x]
        return self._on_values(given) if on_values(self, given) else super().__call__(x, training)

    def _on_values(self, given: list[Any]) -> Any:
        place: dict[int, Any] = {id(own): value for own, value in zip(self.inputs, given)}
        for value in self._layers.values:
            sources = [place[id(source)] for source in value.sources]
            place[id(value)] = value.layer(sources if value.layer.merges else sources[0])
        found = [place[id(output)] for output in self.outputs]
        return found[0] if len(found) == 1 else found

    def _value_of(self, entry: Entry) -> Value:
        return self._layers.value_of(entry)

    # -- rows

    def _rows(self, x: Any, name: str = "x", *, finite: bool = True) -> Any:
        """Rows of several inputs beside each other, as the network has them."""
        shapes = self._layers.graph.inputs
        if len(shapes) == 1:
            (one,) = self._of_inputs.picked(x, name, 1) if isinstance(x, dict) else (x,)
            return one
        given = self._of_inputs.picked(x, name, len(shapes))
        parts = [checks.check_rows(part, shape, self._layers.dtype, f"{name}[{k}]", finite=finite)
                 for k, (part, shape) in enumerate(zip(given, shapes))]
        if len({len(part) for part in parts}) > 1:
            raise ValueError(f"{name}: all inputs must have as many rows as each other, got "
                             f"{', '.join(str(len(part)) for part in parts)}")
        flat = [np.asarray(part, self._layers.dtype).reshape(len(part), -1) for part in parts]
        return np.concatenate(flat, 1)

    def _answers(self, out: np.ndarray) -> Any:
        shapes = self._layers.answer_shapes
        if len(shapes) == 1:
            return out.reshape(len(out), *shapes[0])
        ends = np.cumsum([int(np.prod(shape)) for shape in shapes])
        parts = np.split(out.reshape(len(out), -1), ends[:-1], 1)
        return [np.ascontiguousarray(part).reshape(len(part), *shape)
                for part, shape in zip(parts, shapes)]

    # -- losses

    @property
    def output_names(self) -> list[str]:
        """What losses, weights, metrics and figures of several outputs are called."""
        return self._of_outputs.names or [self._layers.name_of(output) for output in self.outputs]

    def _made_of(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any,
                 norm_step: int) -> Compiled:
        if len(self.outputs) == 1:
            loss, loss_weights, metrics = _only(loss, loss_weights, metrics)
            return super()._made_of(optimizer, loss, loss_weights, metrics, norm_step)
        if loss is None:
            raise ValueError("compile: loss must be given: one for all outputs, a list, or a dict "
                             f"with {', '.join(self.output_names)}")
        if isinstance(loss, dict) and loss.keys() == {"losses", "weights"}:  # from a file
            loss, loss_weights = loss["losses"], loss["weights"]
        joint = JointLoss.of(loss, loss_weights, self.output_names, self._layers.answer_shapes)
        return Compiled.of_outputs(optimizer, joint, metrics, norm_step)

    # -- files

    @classmethod
    def _empty(cls) -> Model:
        return cls.__new__(cls)

    def restore(self, network: Network, meta: dict[str, Any] | None = None,
                slots: dict[str, np.ndarray] | None = None) -> None:
        graph = network.graph
        assert graph is not None
        from nbbn.layers import Input

        values: dict[int, Any] = {-k: Input(shape) for k, shape in enumerate(graph.inputs, 1)}
        for i, call in enumerate(graph.calls):
            layer, sources = network.layers[call.layer], [values[k] for k in call.sources]
            values[i] = layer(sources if layer.merges else sources[0])
        for layer, arrays in zip(network.layers, network.weights):
            entry_of(layer).take(dict(arrays))
        inputs = [values[-k] for k in range(1, len(graph.inputs) + 1)]
        Model.__init__(self, inputs, [values[k] for k in graph.outputs])
        self._resume(meta, slots)


class _Form:
    """How a user gives several things: one, a list, or a dict by name."""

    def __init__(self, names: list[str] | None):
        self.names = names

    def picked(self, given: Any, name: str, count: int) -> Sequence[Any]:
        """The things in the model's order; ValueError where there are others."""
        if isinstance(given, dict):
            if self.names is None:
                raise ValueError(f"{name}: the model's inputs have no names; give a list")
            if given.keys() != {*self.names}:
                raise ValueError(f"{name} must have the keys {', '.join(self.names)}, got "
                                 f"{', '.join(map(str, given))}")
            return [given[key] for key in self.names]
        if not isinstance(given, list | tuple) or len(given) != count:
            got = f"{len(given)}" if isinstance(given, list | tuple) else type(given).__name__
            raise ValueError(f"{name} must be a list of {count} arrays, one for each input, "
                             f"got {got}")
        return given


def _only(*given: Any) -> list[Any]:
    """Of lists and dicts with one entry, which is the only output's."""
    found = []
    for one in given:
        if isinstance(one, dict) and len(one) == 1:
            (one,) = one.values()
        found.append(one)
    return found


def _form(given: Any) -> _Form:
    if isinstance(given, dict):
        return _Form(list(given))
    listed = given if isinstance(given, list | tuple) else [given]
    names = [one.name for one in listed if isinstance(one, Layer) and one.name]
    return _Form(names if len(names) == len(listed) else None)


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
