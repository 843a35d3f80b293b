"""Convolutions over height and width: Conv2D, DepthwiseConv2D, Conv2DTranspose."""

from dataclasses import dataclass, replace
from typing import ClassVar

from nbbn import operations as op
from nbbn.layers import windows
from nbbn.layers.arguments import (
    ActivationName,
    Count,
    DataFormat,
    Flag,
    Initializer,
    NotSupported,
    OutputPadding,
    Padding,
    Pair,
    Regularizer,
)
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape, Sides


def _check_steps(layer: Layer, strides: Pair, dilation_rate: Pair) -> None:
    if max(strides) > 1 and max(dilation_rate) > 1:
        raise layer.error("strides and dilation_rate cannot both be above 1, "
                          f"got {strides} and {dilation_rate}")


def _with_bias(kernel: Shape, channels: int, use_bias: bool) -> dict[str, Shape]:
    return {"kernel": kernel, "bias": (channels,)} if use_bias else {"kernel": kernel}


@register
@dataclass(frozen=True, repr=False)
class Conv2D(Layer):
    """Cross-correlation of `(height, width, in)` rows with a kernel, plus a bias `(filters,)`.

    Kernel `(kh, kw, in / groups, filters)`.

    Parameters
    ----------
    filters : int
        Channels that come out, a multiple of `groups`.
    kernel_size : int or tuple of two ints
        Height and width of the window.
    strides : int or tuple of two ints
        Steps down and to the right. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        `valid`: `(n - window) // stride + 1` outputs along an axis of n; `same`: zeros around,
        `ceil(n / stride)` outputs.
    data_format : {None, "channels_last"}
    dilation_rate : int or tuple of two ints
        Distance between the kernel's taps.
    groups : int
        Groups of channels that do not mix; divides the channels that come in.
    activation : str or None
        Name of the activation (`ACTIVATIONS`); None is the identity.
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : str or Initializer
        Of `nbbn.initializers`.
    kernel_regularizer, bias_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    activity_regularizer, kernel_constraint, bias_constraint : None
        Not supported.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Conv2D
    >>> layer = Conv2D(32, (3, 3), padding="same", strides=2)
    >>> layer.output_shape((28, 28, 1)), layer.weight_shapes((28, 28, 1))["kernel"]
    ((14, 14, 32), (3, 3, 1, 32))
    """

    filters: Count
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "valid"
    data_format: DataFormat = None
    dilation_rate: Pair = (1, 1)
    groups: Count = 1
    activation: ActivationName = None
    use_bias: Flag = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    kernel_constraint: NotSupported = None
    bias_constraint: NotSupported = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self, self.strides, self.dilation_rate)
        if self.filters % self.groups:
            raise self.error("filters must be a multiple of groups, "
                             f"got filters {self.filters} and groups {self.groups}")

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._depth(input_shape)
        convolve = op.Convolve(self._window(input_shape), self.filters, self.groups)
        return [convolve, *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        kernel = (*self.kernel_size, self._depth(input_shape), self.filters)
        return _with_bias(kernel, self.filters, self.use_bias)

    def pads(self, input_shape: Shape) -> Sides:
        """Zeros around a row, ((top, bottom), (left, right)); an odd one at the bottom or right."""
        return self._window(input_shape).sides

    def _window(self, input_shape: Shape) -> op.Window:
        shape = self._row(input_shape, 3)
        return windows.sliding(self, shape, self.kernel_size, self.strides, self.dilation_rate,
                               self.padding)

    def _depth(self, input_shape: Shape) -> int:
        """Channels that one filter sees."""
        channels = self._row(input_shape, 3)[2]
        if channels % self.groups:
            raise self.error("needs a number of channels that is a multiple of groups "
                             f"{self.groups}, got rows of shape {input_shape}")
        return channels // self.groups


@register
@dataclass(frozen=True, repr=False)
class DepthwiseConv2D(Layer):
    """Each channel convolved on its own.

    Kernel `(kh, kw, in, depth_multiplier)`, bias `(in * depth_multiplier,)`.

    Output channel `i * depth_multiplier + m` is input channel `i` with filter `m`.

    Parameters
    ----------
    kernel_size : int or tuple of two ints
        Height and width of the window.
    strides : int or tuple of two ints
        Steps down and to the right. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        As in `Conv2D`.
    depth_multiplier : int
        Filters per channel.
    data_format : {None, "channels_last"}
    dilation_rate : int or tuple of two ints
        Distance between the kernel's taps.
    activation : str or None
        Name of the activation (`ACTIVATIONS`); None is the identity.
    use_bias : bool
        Whether a bias is added.
    depthwise_initializer, bias_initializer : str or Initializer
        Of `nbbn.initializers`.
    depthwise_regularizer, bias_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    activity_regularizer, depthwise_constraint, bias_constraint : None
        Not supported.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import DepthwiseConv2D
    >>> DepthwiseConv2D((3, 3), depth_multiplier=2).output_shape((28, 28, 8))
    (26, 26, 16)
    """

    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "valid"
    depth_multiplier: Count = 1
    data_format: DataFormat = None
    dilation_rate: Pair = (1, 1)
    activation: ActivationName = None
    use_bias: Flag = True
    depthwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    depthwise_constraint: NotSupported = None
    bias_constraint: NotSupported = None

    argument_names: ClassVar = {"kernel": "depthwise"}

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self, self.strides, self.dilation_rate)

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        convolve = op.ConvolveDepthwise(self._window(input_shape), self.depth_multiplier)
        return [convolve, *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        channels, times = self._row(input_shape, 3)[2], self.depth_multiplier
        return _with_bias((*self.kernel_size, channels, times), channels * times, self.use_bias)

    def pads(self, input_shape: Shape) -> Sides:
        """Zeros around a row, ((top, bottom), (left, right)); an odd one at the bottom or right."""
        return self._window(input_shape).sides

    def _window(self, input_shape: Shape) -> op.Window:
        shape = self._row(input_shape, 3)
        return windows.sliding(self, shape, self.kernel_size, self.strides, self.dilation_rate,
                               self.padding)


@register
@dataclass(frozen=True, repr=False)
class Conv2DTranspose(Layer):
    """The transpose of a convolution (Zeiler et al., 2010).

    Each input value adds its multiple of the kernel to the output. Kernel `(kh, kw, filters, in)`,
    bias `(filters,)`.

    Parameters
    ----------
    filters : int
        Channels that come out.
    kernel_size : int or tuple of two ints
        Height and width of the window.
    strides : int or tuple of two ints
        Steps down and to the right, in the output. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        `valid`: `(n - 1) * stride + max(window, stride)` outputs along an axis of n; `same`:
        `n * stride`.
    output_padding : int, tuple of two ints or None
        Below the strides. Given, the outputs are `(n - 1) * stride + window + output_padding`
        (`valid`) or `(n - 1) * stride + window % 2 + output_padding` (`same`).
    data_format : {None, "channels_last"}
    dilation_rate : int or tuple of two ints
        Distance between the kernel's taps.
    activation : str or None
        Name of the activation (`ACTIVATIONS`); None is the identity.
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : str or Initializer
        Of `nbbn.initializers`.
    kernel_regularizer, bias_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    activity_regularizer, kernel_constraint, bias_constraint : None
        Not supported.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Conv2DTranspose
    >>> Conv2DTranspose(8, (2, 2), strides=2).output_shape((14, 14, 16))
    (28, 28, 8)
    """

    filters: Count
    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "valid"
    output_padding: OutputPadding = None
    data_format: DataFormat = None
    dilation_rate: Pair = (1, 1)
    activation: ActivationName = None
    use_bias: Flag = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    kernel_constraint: NotSupported = None
    bias_constraint: NotSupported = None

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_steps(self, self.strides, self.dilation_rate)
        if self.output_padding and any(p >= s for p, s in zip(self.output_padding, self.strides)):
            raise self.error("output_padding must lie below strides, "
                             f"got {self.output_padding} and {self.strides}")

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        convolve = op.ConvolveTransposed(self._window(input_shape), self.filters)
        return [convolve, *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        kernel = (*self.kernel_size, self.filters, self._row(input_shape, 3)[2])
        return _with_bias(kernel, self.filters, self.use_bias)

    def crops(self, input_shape: Shape) -> Sides:
        """What falls away of all that the kernel writes; negative: zeros are appended.

        What the kernel writes is `(n - 1) * stride + window` long along an axis of n.
        """
        return self._window(input_shape).sides

    def _window(self, input_shape: Shape) -> op.Window:
        shape = self._row(input_shape, 3)
        window = op.Window(self.kernel_size, self.strides, self.dilation_rate)
        extra = self.output_padding or (None, None)
        top_bottom, left_right = (
            windows.crops(n, k, s, self.padding, e)
            for n, k, s, e in zip(shape, window.span, self.strides, extra)
        )
        window = replace(window, sides=(top_bottom, left_right))
        if min(window.written(shape)) < 1:
            raise self.error(f"rows of shape {shape} leave no output; needs more of them, "
                             "or output_padding")
        return window
