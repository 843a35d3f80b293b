"""Layers that move values without changing them: other shapes and orders, zeros around, repeats."""

import math
from dataclasses import dataclass
from numbers import Integral
from typing import Annotated, Any

from nbbn import operations as op
from nbbn.layers import windows
from nbbn.layers.arguments import (
    Count,
    DataFormat,
    Pair,
    Rule,
    SidesOfSteps,
    Single,
    sequence,
    side,
    whole,
)
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape, Sides


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
    return side(height), side(width)


_SidesOfImages = Annotated[
    Any,
    Rule(_sides, "a whole number of at least 0, (height, width) or ((top, bottom), (left, right))"),
]


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

    padding: _SidesOfImages = (1, 1)
    data_format: DataFormat = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape, 3)
        return [] if self.padding == op.NO_SIDES else [op.Pad(self.padding)]


@register
@dataclass(frozen=True, repr=False)
class ZeroPadding1D(Layer):
    """Zeros before and after the steps.

    Parameters
    ----------
    padding : int or tuple of two ints
        On both sides, or `(before, after)`, as which it is kept.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import ZeroPadding1D
    >>> ZeroPadding1D((1, 0)).output_shape((28, 3))
    (29, 3)
    """

    padding: SidesOfSteps = (1, 1)
    data_format: DataFormat = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        shape = self._row(input_shape, 2)
        pad = op.Pad(((0, 0), self.padding))
        return windows.on_images(shape, [pad]) if any(self.padding) else []


def _cropped(layer: Layer, shape: Shape, cropping: Sides) -> list[Operation]:
    """The inner part of rows, as padding of less than nothing."""
    (top, bottom), (left, right) = cropping
    if cropping == op.NO_SIDES:
        return []
    crop = op.Pad(((-top, -bottom), (-left, -right)))
    if min(crop.output_shape(windows.as_image(shape))) < 1:
        raise layer.error(f"cropping {cropping if len(shape) == 3 else cropping[1]} leaves nothing "
                          f"of rows of shape {shape}")
    return windows.on_images(shape, [crop])


@register
@dataclass(frozen=True, repr=False)
class Cropping2D(Layer):
    """The inner part of images.

    Parameters
    ----------
    cropping : int, tuple of two ints, or tuple of two tuples of two ints
        What falls away everywhere; `(height, width)`, on both sides of each; or `((top, bottom),
        (left, right))`, as which it is kept.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Cropping2D
    >>> Cropping2D(((2, 2), (4, 3))).output_shape((28, 28, 3))
    (24, 21, 3)
    """

    cropping: _SidesOfImages = ((0, 0), (0, 0))
    data_format: DataFormat = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return _cropped(self, self._row(input_shape, 3), self.cropping)


@register
@dataclass(frozen=True, repr=False)
class Cropping1D(Layer):
    """Steps without the first and the last.

    Parameters
    ----------
    cropping : int or tuple of two ints
        How many fall away on both sides, or `(before, after)`, as which it is kept.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Cropping1D
    >>> Cropping1D((0, 3)).output_shape((28, 3))
    (25, 3)
    """

    cropping: SidesOfSteps = (1, 1)

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return _cropped(self, self._row(input_shape, 2), ((0, 0), self.cropping))


def _order(value: Any) -> tuple[int, ...]:
    dims = tuple(whole(n, 1) for n in sequence(value))
    if not dims or sorted(dims) != list(range(1, len(dims) + 1)):
        raise ValueError
    return dims


@register
@dataclass(frozen=True, repr=False)
class Permute(Layer):
    """Axes of a row in another order.

    Parameters
    ----------
    dims : tuple of int
        Axis `k` of what comes out is axis `dims[k]` of a row, counted from 1.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Permute
    >>> Permute((2, 1)).output_shape((10, 64))
    (64, 10)
    """

    dims: Annotated[
        tuple[int, ...], Rule(_order, "the whole numbers from 1 on, each once, in any order")
    ]

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        if len(input_shape) != len(self.dims):
            raise self.error(f"dims {self.dims} are of rows of {len(self.dims)} axes, "
                             f"got rows of shape {tuple(input_shape)}")
        return op.permuted(input_shape, tuple(k - 1 for k in self.dims))


@register
@dataclass(frozen=True, repr=False)
class RepeatVector(Layer):
    """Rows of one axis, `n` times as steps: `(features,)` to `(n, features)`.

    Parameters
    ----------
    n : int
        How often.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import RepeatVector
    >>> RepeatVector(3).output_shape((32,))
    (3, 32)
    """

    n: Count

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        (features,) = self._row(input_shape, 1)
        repeat = [op.Repeat((self.n, 1))] if self.n > 1 else []
        return [op.Reshape((1, features)), *repeat]


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


@register
@dataclass(frozen=True, repr=False)
class UpSampling1D(Layer):
    """Each step several times in a row.

    Parameters
    ----------
    size : int
        How often.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import UpSampling1D
    >>> UpSampling1D(2).output_shape((14, 8))
    (28, 8)
    """

    size: Single = 2

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape, 2)
        return [] if self.size == 1 else [op.Repeat((self.size, 1))]
