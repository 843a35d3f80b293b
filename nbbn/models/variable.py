"""An array of a model by its name, to be read and set."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin

from nbbn.models.layer_list import Entry

# What Keras calls the arrays that have another name here.
KERAS_NAMES = {"mean": "moving_mean", "var": "moving_variance"}


class Owner(Protocol):
    """What a variable asks of its model."""

    def _pull(self) -> None: ...
    def _take(self, given: Any) -> None: ...
    def _name_of(self, entry: Entry) -> str | None: ...


class Variable(NDArrayOperatorsMixin):
    """An array of a layer of a model: reads as an array, and can be set.

    Attributes
    ----------
    name, path : str
        `kernel`, and `dense/kernel`: Keras's.
    shape : tuple of int
    dtype : str
    trainable : bool
        Whether training changes it by gradients.
    """

    def __init__(self, model: Owner, entry: Entry, array: str, *, trainable: bool):
        self._model, self._entry, self._array = model, entry, array
        self.name = KERAS_NAMES.get(array, array)
        self.trainable = trainable

    @property
    def path(self) -> str:
        """The layer's name and its own."""
        return f"{self._model._name_of(self._entry)}/{self.name}"

    @property
    def _value(self) -> np.ndarray:
        self._model._pull()
        return self._entry.known_arrays()[self._array]

    @property
    def shape(self) -> tuple[int, ...]:
        return self._entry.known_arrays()[self._array].shape

    @property
    def dtype(self) -> str:
        return self._entry.known_arrays()[self._array].dtype.name

    @property
    def ndim(self) -> int:
        """Its number of axes."""
        return len(self.shape)

    def numpy(self) -> np.ndarray:
        """A copy of its numbers."""
        return self._value.copy()

    @property
    def value(self) -> np.ndarray:
        """The same."""
        return self.numpy()

    def assign(self, value: Any) -> Variable:
        """Take other numbers.

        Parameters
        ----------
        value : array-like
            Of the same shape.
        """
        self._model._pull()
        arrays = {**self._entry.known_arrays(), self._array: np.asarray(value)}
        self._model._take([(self._entry, arrays.values())])
        return self

    def assign_add(self, value: Any) -> Variable:
        """Add to its numbers."""
        return self.assign(self._value + np.asarray(value))

    def assign_sub(self, value: Any) -> Variable:
        """Take from its numbers."""
        return self.assign(self._value - np.asarray(value))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.array(self._value, dtype)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **given: Any) -> Any:
        arrays = (np.asarray(one) if isinstance(one, Variable) else one for one in inputs)
        return getattr(ufunc, method)(*arrays, **given)

    def __getitem__(self, key: Any) -> Any:
        return self.numpy()[key]

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"<Variable path={self.path}, shape={self.shape}, dtype={self.dtype}>"


def variables_of(model: Owner, entry: Entry, trained: tuple[str, ...]) -> list[Variable]:
    """The variables of a layer, in Keras's order; none before it is built."""
    return [Variable(model, entry, array, trainable=array in trained)
            for array in entry.arrays or {}]
