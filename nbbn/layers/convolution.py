"""Convolutions over height and width: Conv2D, DepthwiseConv2D, Conv2DTranspose."""

from dataclasses import dataclass
from typing import ClassVar

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
from nbbn.layers.base import Layer, Shape, register


class _Convolution(Layer):
    """What convolutions have in common; the fields stand in each layer, in Keras's order."""

    def __post_init__(self):
        super().__post_init__()
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise self._error(
                f"strides and dilation_rate cannot both be above 1, got {self.strides} and {self.dilation_rate}"
            )

    @property
    def window(self) -> tuple[int, int]:
        """Height and width that the kernel spans, the holes of its dilation included."""
        return tuple(windows.window(k, d) for k, d in zip(self.kernel_size, self.dilation_rate))

    def _with_bias(self, kernel: Shape, channels: int) -> dict[str, Shape]:
        return {"kernel": kernel, "bias": (channels,)} if self.use_bias else {"kernel": kernel}


class _Sliding(_Convolution):
    """Conv2D and DepthwiseConv2D."""

    def pads(self, input_shape: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
        """Zeros around a row: `((top, bottom), (left, right))`; an odd one goes to the bottom or right, as in TensorFlow."""
        shape = self._row(input_shape, 3)
        return tuple(windows.pads(n, k, s, self.padding) for n, k, s in zip(shape, self.window, self.strides))

    def _image(self, input_shape: Shape) -> tuple[int, int]:
        """Height and width of the output."""
        shape = self._row(input_shape, 3)
        image = tuple(windows.count(n, k, s, self.padding) for n, k, s in zip(shape, self.window, self.strides))
        if min(image) < 1:
            height, width = self.window
            raise self._error(
                f"needs rows of height {height} and width {width} at least, got rows of shape {shape}; use padding='same'"
            )
        return image


@register
@dataclass(frozen=True, repr=False)
class Conv2D(_Sliding):
    """Cross-correlation of `(height, width, in)` rows with a kernel `(kh, kw, in / groups, filters)`, plus a bias `(filters,)`.

    Parameters
    ----------
    filters : int
        Channels that come out, a multiple of `groups`.
    kernel_size : int or tuple of two ints
        Height and width of the window.
    strides : int or tuple of two ints
        Steps down and to the right. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        `valid`: `(n - window) // stride + 1` outputs along an axis of n; `same`: zeros around, `ceil(n / stride)` outputs.
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

    def __post_init__(self):
        super().__post_init__()
        if self.filters % self.groups:
            raise self._error(
                f"filters must be a multiple of groups, got filters {self.filters} and groups {self.groups}"
            )

    def output_shape(self, input_shape: Shape) -> Shape:
        self._depth(input_shape)
        return (*self._image(input_shape), self.filters)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return self._with_bias((*self.kernel_size, self._depth(input_shape), self.filters), self.filters)

    def _depth(self, input_shape: Shape) -> int:
        """Channels that one filter sees."""
        channels = self._row(input_shape, 3)[2]
        if channels % self.groups:
            raise self._error(
                f"needs a number of channels that is a multiple of groups {self.groups}, got rows of shape {input_shape}"
            )
        return channels // self.groups


@register
@dataclass(frozen=True, repr=False)
class DepthwiseConv2D(_Sliding):
    """Each channel convolved on its own: kernel `(kh, kw, in, depth_multiplier)`, bias `(in * depth_multiplier,)`.

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

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*self._image(input_shape), input_shape[2] * self.depth_multiplier)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        channels = self._row(input_shape, 3)[2]
        return self._with_bias((*self.kernel_size, channels, self.depth_multiplier), channels * self.depth_multiplier)


@register
@dataclass(frozen=True, repr=False)
class Conv2DTranspose(_Convolution):
    """The transpose of a convolution: each input value adds its multiple of the kernel to the output (Zeiler et al., 2010).

    Kernel `(kh, kw, filters, in)`, bias `(filters,)`.

    Parameters
    ----------
    filters : int
        Channels that come out.
    kernel_size : int or tuple of two ints
        Height and width of the window.
    strides : int or tuple of two ints
        Steps down and to the right, in the output. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        `valid`: `(n - 1) * stride + max(window, stride)` outputs along an axis of n; `same`: `n * stride`.
    output_padding : int, tuple of two ints or None
        Below the strides. Given, the outputs are `(n - 1) * stride + window + output_padding` (`valid`) or
        `(n - 1) * stride + window % 2 + output_padding` (`same`).
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

    def __post_init__(self):
        super().__post_init__()
        if self.output_padding and any(p >= s for p, s in zip(self.output_padding, self.strides)):
            raise self._error(f"output_padding must lie below strides, got {self.output_padding} and {self.strides}")

    def crops(self, input_shape: Shape) -> tuple[tuple[int, int], tuple[int, int]]:
        """`((top, bottom), (left, right))` that falls away of all that the kernel writes; negative: zeros are appended.

        What the kernel writes is `(n - 1) * stride + window` long along an axis of n.
        """
        return tuple(windows.crops(*axis) for axis in self._axes(input_shape))

    def output_shape(self, input_shape: Shape) -> Shape:
        image = tuple(windows.transposed_count(*axis) for axis in self._axes(input_shape))
        if min(image) < 1:
            raise self._error(
                f"rows of shape {tuple(input_shape)} leave no output; needs more of them, or output_padding"
            )
        return (*image, self.filters)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        return self._with_bias((*self.kernel_size, self.filters, self._row(input_shape, 3)[2]), self.filters)

    def _axes(self, input_shape: Shape) -> list[tuple]:
        """What `windows` wants to know, of height and of width."""
        image = self._row(input_shape, 3)[:2]
        extra = self.output_padding or (None, None)
        return [(n, k, s, self.padding, e) for n, k, s, e in zip(image, self.window, self.strides, extra)]
