"""Layers that move values without changing them: Flatten, Reshape, ZeroPadding2D, UpSampling2D."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any

from nbbn import operations as op
from nbbn.layers.arguments import DataFormat, Pair, Rule, sequence, whole
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape


@register
@dataclass(frozen=True, repr=False)
class Flatten(Layer):
    """Rows of any shape as rows of one axis, in C order.

    Parameters
    ----------
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Flatten
    >>> Flatten().output_shape((7, 7, 64))
    (3136,)
    """

    data_format: DataFormat = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return op.reshaped(input_shape, (math.prod(input_shape),))


def _target(value: Any) -> tuple[int, ...]:
    sizes = (value,) if isinstance(value, Integral) else sequence(value)
    sizes = tuple(-1 if n == -1 else whole(n, 1) for n in sizes)
    if sizes.count(-1) > 1:
        raise ValueError
    return sizes


@register
@dataclass(frozen=True, repr=False)
class Reshape(Layer):
    """Rows in another shape, in C order.

    Parameters
    ----------
    target_shape : tuple of int
        Shape of one row, without the batch axis; one size may be -1 and follows from the others.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Reshape
    >>> Reshape((28, 28, 1)).output_shape((784,))
    (28, 28, 1)
    """

    target_shape: Annotated[
        tuple[int, ...],
        Rule(_target, "a list of whole numbers of at least 1, at most one of them -1"),
    ]

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        values, known = math.prod(input_shape), math.prod(n for n in self.target_shape if n != -1)
        if values % known or (values != known and -1 not in self.target_shape):
            raise self.error(f"needs rows that fill {self.target_shape}, "
                             f"got rows of shape {tuple(input_shape)} with {values} values")
        shape = tuple(values // known if n == -1 else n for n in self.target_shape)
        return op.reshaped(input_shape, shape)


def _sides(value: Any) -> tuple[tuple[int, int], tuple[int, int]]:
    height, width = (value, value) if isinstance(value, Integral) else sequence(value)
    return _side(height), _side(width)


def _side(value: Any) -> tuple[int, int]:
    before, after = (value, value) if isinstance(value, Integral) else sequence(value)
    return whole(before, 0), whole(after, 0)


@register
@dataclass(frozen=True, repr=False)
class ZeroPadding2D(Layer):
    """Zeros around height and width.

    Parameters
    ----------
    padding : int, tuple of two ints, or tuple of two tuples of two ints
        Everywhere; `(height, width)`, on both sides of each; or `((top, bottom), (left, right))`,
        as which it is kept.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import ZeroPadding2D
    >>> ZeroPadding2D(((1, 0), (1, 0))).output_shape((28, 28, 3))
    (29, 29, 3)
    """

    padding: Annotated[
        Any,
        Rule(_sides,
             "a whole number of at least 0, (height, width) or ((top, bottom), (left, right))"),
    ] = (1, 1)
    data_format: DataFormat = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape, 3)
        return [] if self.padding == op.NO_SIDES else [op.Pad(self.padding)]


def _nearest(value: Any) -> str:
    if value != "nearest":
        raise ValueError
    return value


@register
@dataclass(frozen=True, repr=False)
class UpSampling2D(Layer):
    """Each pixel as a block of equal ones: rows of `(height * size[0], width * size[1], channels)`.

    Parameters
    ----------
    size : int or tuple of two ints
        Height and width of the block.
    data_format : {None, "channels_last"}
    interpolation : {"nearest"}
        Keras's other kinds are not supported.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import UpSampling2D
    >>> UpSampling2D((2, 2)).output_shape((14, 14, 8))
    (28, 28, 8)
    """

    size: Pair = (2, 2)
    data_format: DataFormat = None
    interpolation: Annotated[
        str, Rule(_nearest, "'nearest' (other interpolations are not supported)")
    ] = "nearest"

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape, 3)
        return [] if self.size == (1, 1) else [op.Repeat((*self.size, 1))]
