"""A layer as part of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, Protocol

import numpy as np

from nbbn.layers import Input, Layer
from nbbn.layers.base import row_shape_of
from nbbn.models.layer_list import Entry
from nbbn.models.variable import Variable

# By which Keras's layers give their arrays.
_ARRAYS = ("kernel", "bias", "gamma", "beta", "moving_mean", "moving_variance", "embeddings",
           "depthwise_kernel", "pointwise_kernel", "alpha")


class Owner(Protocol):
    """What a layer asks of the model that it belongs to."""

    def _pull(self) -> None: ...
    def _value_of(self, entry: Entry) -> Any: ...
    def _name_of(self, entry: Entry) -> str | None: ...
    def _replace(self, entry: Entry, spec: Layer) -> None: ...
    def _take(self, given: list[tuple[Entry, Iterable[Any]]]) -> None: ...
    def _variables_of(self, entry: Entry) -> list[Variable]: ...


class LayerView:
    """A layer of a model: reads as its specification, `isinstance` included, and has arrays.

    `trainable` may be set; it counts from the next step on. Added to another model it brings a copy
    of its arrays along.
    """

    _model: Owner
    _entry: Entry

    def __init__(self, model: Owner, entry: Entry):
        self.__dict__.update(_model=model, _entry=entry)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._entry.spec)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in _ARRAYS and not hasattr(self._entry.spec, name):
            for variable in self.weights:
                if variable.name == name:
                    return variable
        return getattr(self._entry.spec, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name != "trainable":
            raise AttributeError(f"{self._entry.shown}: only trainable can be set; "
                                 "make a new layer instead")
        self._model._replace(self._entry, replace(self._entry.spec, trainable=value))

    def __repr__(self) -> str:
        return repr(self.specification)

    def __reduce__(self) -> tuple[Callable[[Layer], Layer], tuple[Layer]]:
        return _itself, (self._entry.spec,)

    @property
    def built(self) -> bool:
        """Whether its arrays are there."""
        return self._entry.arrays is not None

    @property
    def specification(self) -> Layer:
        """The layer itself, apart from any model, by the name that it has here."""
        spec, name = self._entry.spec, self.name
        return spec if spec.name == name else replace(spec, name=name)

    @property
    def name(self) -> str | None:
        """Its name in its model."""
        return self._model._name_of(self._entry)

    @property
    def output(self) -> Any:
        """What the layer gives in its model, to make further models of."""
        return self._model._value_of(self._entry)

    @property
    def input(self) -> Any:
        """What it takes there: a value, or a list of them."""
        sources = self.output.sources
        return sources[0] if len(sources) == 1 else list(sources)

    def __call__(self, inputs: Any) -> Any:
        """What the layer makes of another value, with the same weights."""
        return self._model._value_of(self._entry).layer(inputs)

    @property
    def weights(self) -> list[Variable]:
        """Its arrays as variables, in Keras's order; none before the model is built."""
        return self._model._variables_of(self._entry)

    @property
    def trainable_weights(self) -> list[Variable]:
        """Those that training changes by gradients."""
        return [variable for variable in self.weights if variable.trainable]

    @property
    def non_trainable_weights(self) -> list[Variable]:
        """The others."""
        return [variable for variable in self.weights if not variable.trainable]

    variables = weights
    trainable_variables = trainable_weights
    non_trainable_variables = non_trainable_weights

    def get_config(self) -> dict[str, Any]:
        """Its arguments, from which `from_config` of its class makes a layer."""
        return self.specification.get_config()

    def copies(self) -> dict[str, np.ndarray] | None:
        """Copies of its arrays by name; None before the model is built."""
        self._model._pull()
        arrays = self._entry.arrays
        return None if arrays is None else {name: array.copy() for name, array in arrays.items()}

    def get_weights(self) -> list[np.ndarray]:
        """Copies of its arrays in Keras's order; empty before the model is built."""
        return list((self.copies() or {}).values())

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Take arrays in the order and of the shapes of `get_weights`.

        Parameters
        ----------
        weights : list of array-like

        Raises
        ------
        ValueError
            For other shapes, another number of arrays, a variance below 0, and before the model is
            built.
        """
        self._model._take([(self._entry, weights)])

    def count_params(self) -> int:
        """Numbers in its arrays.

        Raises
        ------
        ValueError
            Before the model is built.
        """
        return sum(array.size for array in self._entry.known_arrays().values())


class InputView:
    """An input of a model, among its layers: reads as the `Input`; has no arrays."""

    # Keras's; there is nothing that could be trained.
    trainable = True
    built = True

    def __init__(self, source: Any, name: str):
        self.output, self.name = source, name

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return Input

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.specification, name)

    def __repr__(self) -> str:
        return repr(self.specification)

    def __reduce__(self) -> tuple[Callable[[Layer], Layer], tuple[Layer]]:
        return _itself, (self.specification,)

    def __call__(self, inputs: Any) -> Any:
        """Hands on what it is given."""
        return inputs

    @property
    def specification(self) -> Input:
        """The `Input`, by the name that it has here."""
        return Input(row_shape_of(self.output), name=self.name)

    @property
    def input(self) -> Any:
        """What stands for the rows."""
        return self.output

    @property
    def batch_shape(self) -> tuple[int | None, ...]:
        """`(None, ...)`: the shape of the rows."""
        return (None, *row_shape_of(self.output))

    @property
    def weights(self) -> list[Variable]:
        """None."""
        return []

    trainable_weights = non_trainable_weights = weights
    variables = trainable_variables = non_trainable_variables = weights

    def get_config(self) -> dict[str, Any]:
        """Its arguments."""
        return self.specification.get_config()

    def copies(self) -> None:
        """It has no arrays."""
        return

    def get_weights(self) -> list[np.ndarray]:
        """An empty list."""
        return []

    def set_weights(self, weights: Iterable[Any]) -> None:
        """Takes an empty list alone."""
        if list(weights):
            raise ValueError(f"layer {self.name!r} is an Input and has no arrays; leave it out")

    def count_params(self) -> int:
        """0."""
        return 0


def _itself(spec: Layer) -> Layer:
    return spec
