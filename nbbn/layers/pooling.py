"""Pooling over height and width: MaxPooling2D, AveragePooling2D, GlobalAveragePooling2D, GlobalMaxPooling2D."""

from dataclasses import dataclass

from nbbn.layers import windows
from nbbn.layers.arguments import DataFormat, Flag, OptionalPair, Padding, Pair
from nbbn.layers.base import Layer, Shape, register


@dataclass(frozen=True, repr=False)
class _Pooling(Layer):
    pool_size: Pair = (2, 2)
    strides: OptionalPair = None
    padding: Padding = "valid"
    data_format: DataFormat = None

    def __post_init__(self):
        super().__post_init__()
        if self.strides is None:
            object.__setattr__(self, "strides", self.pool_size)

    def pads(self, input_shape: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
        """Values around a row that no window counts: `((top, bottom), (left, right))`, an odd one at the bottom or right."""
        shape = self._row(input_shape, 3)
        return tuple(windows.pads(n, k, s, self.padding) for n, k, s in zip(shape, self.pool_size, self.strides))

    def output_shape(self, input_shape: Shape) -> Shape:
        shape = self._row(input_shape, 3)
        image = tuple(windows.count(n, k, s, self.padding) for n, k, s in zip(shape, self.pool_size, self.strides))
        if min(image) < 1:
            height, width = self.pool_size
            raise self._error(
                f"needs rows of height {height} and width {width} at least, got rows of shape {shape}; use padding='same'"
            )
        return (*image, shape[2])


@register
@dataclass(frozen=True, repr=False)
class MaxPooling2D(_Pooling):
    """The largest value of each window, per channel.

    Parameters
    ----------
    pool_size : int or tuple of two ints
        Height and width of the window.
    strides : int, tuple of two ints or None
        Steps down and to the right; None: the pool size.
    padding : {"valid", "same"}
        `valid`: `(n - pool) // stride + 1` outputs along an axis of n; `same`: windows reach over the border, where there is
        nothing, `ceil(n / stride)` outputs.
    data_format : {None, "channels_last"}
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.
    """


@register
@dataclass(frozen=True, repr=False)
class AveragePooling2D(_Pooling):
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
    """


@dataclass(frozen=True, repr=False)
class _GlobalPooling(Layer):
    data_format: DataFormat = None
    keepdims: Flag = False

    def output_shape(self, input_shape: Shape) -> Shape:
        channels = self._row(input_shape, 3)[2]
        return (1, 1, channels) if self.keepdims else (channels,)


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
    """


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
    """
