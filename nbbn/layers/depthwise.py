"""Convolutions of each channel on its own, alone and with a mix of the channels behind them."""

from dataclasses import dataclass
from typing import Any, ClassVar

from nbbn import operations as op
from nbbn.layers import windows
from nbbn.layers.arguments import (
    ActivationName,
    Constraint,
    Count,
    DataFormat,
    Flag,
    Initializer,
    NotSupported,
    Padding,
    Pair,
    Regularizer,
    Single,
)
from nbbn.layers.base import register
from nbbn.layers.convolution import with_bias
from nbbn.operations import Operation, Shape


@dataclass(frozen=True, repr=False)
class _Depthwise(windows.Sliding):
    kernel_size: Any
    strides: Any = 1
    padding: Padding = "valid"
    depth_multiplier: Count = 1
    data_format: DataFormat = None
    dilation_rate: Any = 1
    activation: ActivationName = None
    use_bias: Flag = True
    depthwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    depthwise_constraint: Constraint = None
    bias_constraint: Constraint = None

    argument_names: ClassVar = {"kernel": "depthwise"}

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        convolve = op.ConvolveDepthwise(self._window(input_shape), self.depth_multiplier)
        return [*windows.on_images(input_shape, [convolve]), *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        channels, times = self._row(input_shape, self.rank)[-1], self.depth_multiplier
        kernel = (*windows.size_of(self.kernel_size), channels, times)
        return with_bias(kernel, channels * times, self.use_bias)


@register
@dataclass(frozen=True, repr=False)
class DepthwiseConv2D(_Depthwise):
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
    activity_regularizer : None
        Not supported.
    depthwise_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
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
    dilation_rate: Pair = (1, 1)

    rank = 3


@register
@dataclass(frozen=True, repr=False)
class DepthwiseConv1D(_Depthwise):
    """Each channel convolved over steps on its own.

    Kernel `(k, in, depth_multiplier)`, bias `(in * depth_multiplier,)`.

    Output channel `i * depth_multiplier + m` is input channel `i` with filter `m`.

    Parameters
    ----------
    kernel_size : int
        Length of the window.
    strides : int
        Steps from window to window. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        As in `Conv1D`.
    depth_multiplier : int
        Filters per channel.
    data_format : {None, "channels_last"}
    dilation_rate : int
        Distance between the kernel's taps.
    activation : str or None
        Name of the activation (`ACTIVATIONS`); None is the identity.
    use_bias : bool
        Whether a bias is added.
    depthwise_initializer, bias_initializer : str or Initializer
        Of `nbbn.initializers`.
    depthwise_regularizer, bias_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    activity_regularizer : None
        Not supported.
    depthwise_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import DepthwiseConv1D
    >>> DepthwiseConv1D(3, depth_multiplier=2).output_shape((28, 8))
    (26, 16)
    """

    kernel_size: Single
    strides: Single = 1
    dilation_rate: Single = 1

    rank = 2


@dataclass(frozen=True, repr=False)
class _Separable(windows.Sliding):
    filters: Count
    kernel_size: Any
    strides: Any = 1
    padding: Padding = "valid"
    data_format: DataFormat = None
    dilation_rate: Any = 1
    depth_multiplier: Count = 1
    activation: ActivationName = None
    use_bias: Flag = True
    depthwise_initializer: Initializer = "glorot_uniform"
    pointwise_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    depthwise_regularizer: Regularizer = None
    pointwise_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    depthwise_constraint: Constraint = None
    pointwise_constraint: Constraint = None
    bias_constraint: Constraint = None

    argument_names: ClassVar = {
        "depthwise_kernel": "depthwise", "pointwise_kernel": "pointwise",
    }

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        shape = self._row(input_shape, self.rank)
        # The bias of the first has no place in the layer: it would do what that of the second does.
        depthwise = op.ConvolveDepthwise(self._window(shape), self.depth_multiplier,
                                         names=("depthwise_kernel", "depthwise_bias"))
        pointwise = op.Convolve(op.Window((1, 1)), self.filters, names=("pointwise_kernel", "bias"))
        return [*windows.on_images(shape, [depthwise, pointwise]),
                *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        channels, size = self._row(input_shape, self.rank)[-1], windows.size_of(self.kernel_size)
        mixed = channels * self.depth_multiplier
        kernels = {
            "depthwise_kernel": (*size, channels, self.depth_multiplier),
            "pointwise_kernel": (*(1 for _ in size), mixed, self.filters),
        }
        return kernels | {"bias": (self.filters,)} if self.use_bias else kernels


@register
@dataclass(frozen=True, repr=False)
class SeparableConv2D(_Separable):
    """Each channel convolved on its own, then a mix of the channels (Chollet, 2017).

    Kernels `(kh, kw, in, depth_multiplier)` and `(1, 1, in * depth_multiplier, filters)`, bias
    `(filters,)`.

    Parameters
    ----------
    filters : int
        Channels that come out.
    kernel_size : int or tuple of two ints
        Height and width of the window.
    strides : int or tuple of two ints
        Steps down and to the right. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        As in `Conv2D`.
    data_format : {None, "channels_last"}
    dilation_rate : int or tuple of two ints
        Distance between the kernel's taps.
    depth_multiplier : int
        Filters per channel.
    activation : str or None
        Name of the activation (`ACTIVATIONS`); None is the identity.
    use_bias : bool
        Whether a bias is added, behind the mix.
    depthwise_initializer, pointwise_initializer, bias_initializer : str or Initializer
        Of `nbbn.initializers`.
    depthwise_regularizer, pointwise_regularizer, bias_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    activity_regularizer : None
        Not supported.
    depthwise_constraint, pointwise_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import SeparableConv2D
    >>> layer = SeparableConv2D(32, (3, 3), depth_multiplier=2)
    >>> layer.output_shape((28, 28, 8)), layer.weight_shapes((28, 28, 8))["pointwise_kernel"]
    ((26, 26, 32), (1, 1, 16, 32))
    """

    kernel_size: Pair
    strides: Pair = (1, 1)
    dilation_rate: Pair = (1, 1)

    rank = 3


@register
@dataclass(frozen=True, repr=False)
class SeparableConv1D(_Separable):
    """Each channel convolved over steps on its own, then a mix of the channels (Chollet, 2017).

    Kernels `(k, in, depth_multiplier)` and `(1, in * depth_multiplier, filters)`, bias
    `(filters,)`.

    Parameters
    ----------
    filters : int
        Channels that come out.
    kernel_size : int
        Length of the window.
    strides : int
        Steps from window to window. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        As in `Conv1D`.
    data_format : {None, "channels_last"}
    dilation_rate : int
        Distance between the kernel's taps.
    depth_multiplier : int
        Filters per channel.
    activation : str or None
        Name of the activation (`ACTIVATIONS`); None is the identity.
    use_bias : bool
        Whether a bias is added, behind the mix.
    depthwise_initializer, pointwise_initializer, bias_initializer : str or Initializer
        Of `nbbn.initializers`.
    depthwise_regularizer, pointwise_regularizer, bias_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    activity_regularizer : None
        Not supported.
    depthwise_constraint, pointwise_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import SeparableConv1D
    >>> layer = SeparableConv1D(32, 3, padding="same")
    >>> layer.output_shape((28, 8)), layer.weight_shapes((28, 8))["depthwise_kernel"]
    ((28, 32), (3, 8, 1))
    """

    kernel_size: Single
    strides: Single = 1
    dilation_rate: Single = 1

    rank = 2
