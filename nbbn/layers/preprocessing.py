"""What numbers go through before a network: Rescaling, Normalization."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any, ClassVar

import numpy as np

from nbbn import operations as op
from nbbn.layers.arguments import Flag, Rule, sequence
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape

# Keras's epsilon: the least standard deviation.
_LEAST_DEVIATION = 1e-7


def _kept(value: Any) -> Any:
    """Numbers as a float, or as tuples of floats."""
    array = np.asarray(value, np.float64)
    if array.dtype.kind != "f" or not np.isfinite(array).all() or not array.size:
        raise ValueError
    return _tuples(array.tolist())


def _tuples(value: Any) -> Any:
    return tuple(_tuples(one) for one in value) if isinstance(value, list) else value


def _variances(value: Any) -> Any:
    if value is not None and np.min(np.asarray(value, np.float64)) < 0:
        raise ValueError
    return None if value is None else _kept(value)


_NUMBERS = "a finite number, or an array of them"
Numbers = Annotated[Any, Rule(_kept, _NUMBERS, given=float | tuple)]
OptionalNumbers = Annotated[Any, Rule(lambda v: None if v is None else _kept(v),
                                      f"None, {_NUMBERS}", given=float | tuple | None)]
Variances = Annotated[Any, Rule(_variances, "None, a finite number of at least 0, or an array of "
                                "them", given=float | tuple | None)]


@register
@dataclass(frozen=True, repr=False)
class Rescaling(Layer):
    """`x * scale + offset`; folding puts it into the first layer that takes it in.

    Parameters
    ----------
    scale, offset : float or array-like
        One number, or one for each number of the last axis.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Rescaling(0.5, 1.0, input_shape=(2,))])
    >>> model.predict([[0.0, 4.0]])
    array([[1., 3.]], dtype=float32)
    """

    scale: Numbers
    offset: Numbers = 0.0

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        channels = self._row(input_shape)[-1]
        scale, offset = (np.ravel(numbers) for numbers in (self.scale, self.offset))
        for name, numbers in (("scale", scale), ("offset", offset)):
            if len(numbers) not in (1, channels):
                raise self.error(f"{name} has {len(numbers)} numbers, rows of shape "
                                 f"{tuple(input_shape)} have {channels} channels")
        return [op.Affine(tuple(scale.tolist()), tuple(offset.tolist()))]


def _axes_or_none(value: Any) -> Any:
    if value is None:
        return None
    axes = (value,) if isinstance(value, Integral) else sequence(value)
    if any(isinstance(axis, bool) or not isinstance(axis, Integral) for axis in axes):
        raise ValueError
    return int(value) if isinstance(value, Integral) else tuple(int(axis) for axis in axes)


@register
@dataclass(frozen=True, repr=False)
class Normalization(Layer):
    """`(x - mean) / sqrt(variance)`, of numbers that are known beforehand.

    Parameters
    ----------
    axis : int, tuple of int, or None
        Axes whose places have a mean and a variance each, counted with the batch axis in front;
        None: one mean and variance for all numbers.
    mean, variance : float or array-like, optional
        Both or none; without them `adapt` finds them.
    invert : bool
        Whether the layer does the opposite: `mean + sqrt(variance) * x`.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Notes
    -----
    The standard deviation is at least 1e-7, as in Keras. The numbers are part of the layer, and no
    weights; a model is made after `adapt`. Folding puts them into the first layer that takes them
    in.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> rows = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> norm = nbbn.layers.Normalization(input_shape=(2,))
    >>> norm.adapt(rows)
    >>> nbbn.Sequential([norm]).predict(rows)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """

    axis: Annotated[Any, Rule(_axes_or_none, "None, a whole number or a list of them",
                              given=int | tuple[int, ...] | None)] = -1
    mean: OptionalNumbers = None
    variance: Variances = None
    invert: Flag = False

    written: ClassVar = ("axis",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.mean is None) != (self.variance is None):
            raise self.error("mean and variance must be given both, or none of them")

    def adapt(self, data: Any) -> None:
        """Take mean and variance of data; before the layer is used in a model.

        Parameters
        ----------
        data : array-like of shape (n, ...), or an iterable of such batches
            Summed in float64.

        Raises
        ------
        LayerError
            For no rows, for NaN and infinity, and where a model uses the layer already.
        """
        used = "_shapes" in self.__dict__ or "_entry" in self.__dict__
        if used and self.mean is not None:
            raise self.error("a model uses the layer already: adapt it before, or make a new one")
        rows, mean, variance = 0, np.zeros(()), np.zeros(())
        for batch in _batches(data):
            if not np.isfinite(batch).all():
                raise self.error("data holds NaN or infinity; remove or replace them first")
            kept = self._kept_axes(batch.shape[1:])
            over = tuple(k for k in range(batch.ndim) if k - 1 not in kept)
            count = math.prod(batch.shape[k] for k in over)
            own, spread = batch.mean(over), batch.var(over)
            if rows and own.shape != mean.shape:
                raise self.error(f"data has batches of different shapes, {mean.shape} and "
                                 f"{own.shape} along axis {self.axis}")
            # Chan, Golub and LeVeque (1983), equation 2.1.
            part = count / (rows + count)
            variance = (1 - part) * variance + part * spread + part * (1 - part) * (own - mean) ** 2
            mean, rows = mean + part * (own - mean), rows + count
        if not rows:
            raise self.error("data has no rows to take a mean of")
        object.__setattr__(self, "mean", _kept(mean))
        object.__setattr__(self, "variance", _kept(variance))

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        if self.mean is None:
            raise self.error("has no mean and variance yet: call adapt(data) before the model is "
                             "made, or give both")
        kept = self._kept_axes(input_shape)
        shape = tuple(input_shape[axis] for axis in kept)
        try:
            mean, variance = (np.broadcast_to(np.asarray(numbers), shape).ravel()
                              for numbers in (self.mean, self.variance))
        except ValueError:
            raise self.error(f"mean of shape {np.shape(self.mean)} and variance of shape "
                             f"{np.shape(self.variance)} do not fit rows of shape "
                             f"{tuple(input_shape)} along axis {self.axis}, {shape}") from None
        deviation = np.maximum(np.sqrt(variance), _LEAST_DEVIATION)
        zero = (0.0,)
        affine = (op.Affine(_floats(deviation), _floats(mean), zero) if self.invert else
                  op.Affine(_floats(1 / deviation), zero, _floats(mean)))
        if not kept:
            return [affine]
        return op.over_last(input_shape, kept, lambda inner: [affine])

    def _kept_axes(self, input_shape: Shape) -> tuple[int, ...]:
        self._row(input_shape)
        return () if self.axis is None else self._row_axes(self.axis, input_shape)


def _floats(values: np.ndarray) -> tuple[float, ...]:
    return tuple(values.tolist())


def _batches(data: Any) -> Iterator[np.ndarray]:
    """Rows as arrays of float64: one, or as many as are given."""
    several = hasattr(data, "__next__") or (
        isinstance(data, list | tuple) and len(data) > 0
        and all(isinstance(part, np.ndarray) and part.ndim > 1 for part in data))
    parts: Iterable[Any] = data if several else [data]
    for part in parts:
        rows = np.asarray(part, np.float64)
        if rows.ndim == 0:
            raise TypeError(f"adapt takes rows, an array of shape (n, ...), got {part!r}")
        if len(rows):
            yield rows[:, None] if rows.ndim == 1 else rows
