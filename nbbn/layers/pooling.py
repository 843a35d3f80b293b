"""Pooling over steps, and over height and width: maxima and means of windows, and of whole rows."""

from dataclasses import dataclass
from typing import Any, ClassVar

from nbbn import operations as op
from nbbn.layers import windows
from nbbn.layers.arguments import (
    DataFormat,
    Flag,
    OptionalPair,
    OptionalSingle,
    Padding,
    Pair,
    Single,
)
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape, Sides


@dataclass(frozen=True, repr=False)
class _Pooling(Layer):
    pool_size: Any
    strides: Any = None
    padding: Padding = "valid"
    data_format: DataFormat = None

    kind: ClassVar[str]
    # Axes of a row.
    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.strides is None:
            object.__setattr__(self, "strides", self.pool_size)

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return windows.on_images(input_shape, [op.Pool(self.kind, self._window(input_shape))])

    def pads(self, input_shape: Shape) -> Sides:
        """What windows reach over and do not count: ((top, bottom), (left, right))."""
        return self._window(input_shape).sides

    def _window(self, input_shape: Shape) -> op.Window:
        shape = self._row(input_shape, self.rank)
        strides = self.strides or self.pool_size
        return windows.sliding(self, shape, self.pool_size, strides,
                               1 if self.rank == 2 else (1, 1), self.padding)


@dataclass(frozen=True, repr=False)
class _Pooling2D(_Pooling):
    pool_size: Pair = (2, 2)
    strides: OptionalPair = None

    rank = 3


@register
@dataclass(frozen=True, repr=False)
class MaxPooling2D(_Pooling2D):
    """The largest value of each window, per channel.

    Parameters
    ----------
    pool_size : int or tuple of two ints
        Height and width of the window.
    strides : int, tuple of two ints or None
        Steps down and to the right; None: the pool size.
    padding : {"valid", "same"}
        `valid`: `(n - pool) // stride + 1` outputs along an axis of n; `same`: windows reach over
        the border, where there is nothing, `ceil(n / stride)` outputs.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import MaxPooling2D
    >>> MaxPooling2D((2, 2)).output_shape((28, 28, 8))
    (14, 14, 8)
    """

    kind = "max"


@register
@dataclass(frozen=True, repr=False)
class AveragePooling2D(_Pooling2D):
    """The mean of each window, per channel; over a border, of the values that are there.

    Parameters
    ----------
    pool_size : int or tuple of two ints
        Height and width of the window.
    strides : int, tuple of two ints or None
        Steps down and to the right; None: the pool size.
    padding : {"valid", "same"}
        As in `MaxPooling2D`.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import AveragePooling2D
    >>> AveragePooling2D((2, 2), padding="same").output_shape((7, 7, 8))
    (4, 4, 8)
    """

    kind = "mean"


@register
@dataclass(frozen=True, repr=False)
class MaxPooling1D(_Pooling):
    """The largest value of each window of steps, per channel.

    Parameters
    ----------
    pool_size : int
        Length of the window.
    strides : int or None
        Steps from window to window; None: the pool size.
    padding : {"valid", "same"}
        `valid`: `(n - pool) // stride + 1` outputs of n steps; `same`: windows reach over the ends,
        where there is nothing, `ceil(n / stride)` outputs.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import MaxPooling1D
    >>> MaxPooling1D(2).output_shape((28, 8))
    (14, 8)
    """

    pool_size: Single = 2
    strides: OptionalSingle = None

    kind = "max"
    rank = 2


@register
@dataclass(frozen=True, repr=False)
class AveragePooling1D(_Pooling):
    """The mean of each window of steps, per channel; over an end, of the values that are there.

    Parameters
    ----------
    pool_size : int
        Length of the window.
    strides : int or None
        Steps from window to window; None: the pool size.
    padding : {"valid", "same"}
        As in `MaxPooling1D`.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import AveragePooling1D
    >>> AveragePooling1D(2, padding="same").output_shape((7, 8))
    (4, 8)
    """

    pool_size: Single
    strides: OptionalSingle = None

    kind = "mean"
    rank = 2


@dataclass(frozen=True, repr=False)
class _GlobalPooling(Layer):
    data_format: DataFormat = None
    keepdims: Flag = False

    kind: ClassVar[str]
    # Axes of a row.
    rank: ClassVar[int] = 3

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        shape = self._row(input_shape, self.rank)
        height, width, channels = image = windows.as_image(shape)
        pool = op.Pool(self.kind, op.Window((height, width)))
        if self.keepdims:
            return windows.on_images(shape, [pool])
        return [*op.reshaped(shape, image), pool, op.Reshape((channels,))]


@register
@dataclass(frozen=True, repr=False)
class GlobalAveragePooling2D(_GlobalPooling):
    """The mean over height and width, per channel (Lin, Chen and Yan, 2014).

    Parameters
    ----------
    data_format : {None, "channels_last"}
    keepdims : bool
        Whether height and width stay, as 1.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import GlobalAveragePooling2D
    >>> GlobalAveragePooling2D().output_shape((7, 7, 64))
    (64,)
    """

    kind = "mean"


@register
@dataclass(frozen=True, repr=False)
class GlobalMaxPooling2D(_GlobalPooling):
    """The largest value over height and width, per channel.

    Parameters
    ----------
    data_format : {None, "channels_last"}
    keepdims : bool
        Whether height and width stay, as 1.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import GlobalMaxPooling2D
    >>> GlobalMaxPooling2D(keepdims=True).output_shape((7, 7, 64))
    (1, 1, 64)
    """

    kind = "max"


@register
@dataclass(frozen=True, repr=False)
class GlobalAveragePooling1D(_GlobalPooling):
    """The mean over the steps, per channel.

    Parameters
    ----------
    data_format : {None, "channels_last"}
    keepdims : bool
        Whether the steps stay, as 1.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import GlobalAveragePooling1D
    >>> GlobalAveragePooling1D().output_shape((49, 64))
    (64,)
    """

    kind = "mean"
    rank = 2


@register
@dataclass(frozen=True, repr=False)
class GlobalMaxPooling1D(_GlobalPooling):
    """The largest value over the steps, per channel.

    Parameters
    ----------
    data_format : {None, "channels_last"}
    keepdims : bool
        Whether the steps stay, as 1.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import GlobalMaxPooling1D
    >>> GlobalMaxPooling1D(keepdims=True).output_shape((49, 64))
    (1, 64)
    """

    kind = "max"
    rank = 2
