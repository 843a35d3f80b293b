"""Convolutions over steps, and over height and width; and their transposes."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from nbbn import operations as op
from nbbn.layers import windows
from nbbn.layers.arguments import (
    ActivationName,
    CausalPadding,
    Constraint,
    Count,
    DataFormat,
    Flag,
    Initializer,
    NotSupported,
    OutputPadding,
    OutputPaddingOfSteps,
    Padding,
    Pair,
    Regularizer,
    Single,
)
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape, Sides


def with_bias(kernel: Shape, channels: int, use_bias: bool) -> dict[str, Shape]:
    """Shapes of a kernel and of the bias, where there is one."""
    return {"kernel": kernel, "bias": (channels,)} if use_bias else {"kernel": kernel}


@dataclass(frozen=True, repr=False)
class _Convolution(windows.Sliding):
    filters: Count
    kernel_size: Any
    strides: Any = 1
    padding: Any = "valid"
    data_format: DataFormat = None
    dilation_rate: Any = 1
    groups: Count = 1
    activation: ActivationName = None
    use_bias: Flag = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.filters % self.groups:
            raise self.error("filters must be a multiple of groups, "
                             f"got filters {self.filters} and groups {self.groups}")

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._depth(input_shape)
        convolve = op.Convolve(self._window(input_shape), self.filters, self.groups)
        return [*windows.on_images(input_shape, [convolve]), *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        size = windows.size_of(self.kernel_size)
        kernel = (*size, self._depth(input_shape), self.filters)
        return with_bias(kernel, self.filters, self.use_bias)

    def _depth(self, input_shape: Shape) -> int:
        """Channels that one filter sees."""
        channels = self._row(input_shape, self.rank)[-1]
        if channels % self.groups:
            raise self.error("needs a number of channels that is a multiple of groups "
                             f"{self.groups}, got rows of shape {input_shape}")
        return channels // self.groups


@register
@dataclass(frozen=True, repr=False)
class Conv2D(_Convolution):
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
    activity_regularizer : None
        Not supported.
    kernel_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Conv2D
    >>> layer = Conv2D(32, (3, 3), padding="same", strides=2)
    >>> layer.output_shape((28, 28, 1)), layer.weight_shapes((28, 28, 1))["kernel"]
    ((14, 14, 32), (3, 3, 1, 32))
    """

    kernel_size: Pair
    strides: Pair = (1, 1)
    padding: Padding = "valid"
    dilation_rate: Pair = (1, 1)

    rank = 3


@register
@dataclass(frozen=True, repr=False)
class Conv1D(_Convolution):
    """Cross-correlation of `(steps, in)` rows with a kernel, plus a bias `(filters,)`.

    Kernel `(k, in / groups, filters)`.

    Parameters
    ----------
    filters : int
        Channels that come out, a multiple of `groups`.
    kernel_size : int
        Length of the window.
    strides : int
        Steps from window to window. Not above 1 where the dilation is.
    padding : {"valid", "same", "causal"}
        `valid`: `(n - window) // stride + 1` outputs of n steps; `same`: zeros around, `ceil(n /
        stride)` outputs; `causal`: as many zeros in front as make an output depend on no later
        step.
    data_format : {None, "channels_last"}
    dilation_rate : int
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
    activity_regularizer : None
        Not supported.
    kernel_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Conv1D
    >>> layer = Conv1D(32, 3, padding="causal")
    >>> layer.output_shape((128, 6)), layer.weight_shapes((128, 6))["kernel"]
    ((128, 32), (3, 6, 32))
    """

    kernel_size: Single
    strides: Single = 1
    padding: CausalPadding = "valid"
    dilation_rate: Single = 1

    rank = 2


@dataclass(frozen=True, repr=False)
class _Transposed(Layer):
    filters: Count
    kernel_size: Any
    strides: Any = 1
    padding: Padding = "valid"
    output_padding: Any = None
    data_format: DataFormat = None
    dilation_rate: Any = 1
    activation: ActivationName = None
    use_bias: Flag = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None

    # Axes of a row.
    rank: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        windows.check_steps(self, self.strides, self.dilation_rate)
        if self.output_padding is not None:
            extra, strides = map(windows.size_of, (self.output_padding, self.strides))
            if any(p >= s for p, s in zip(extra, strides)):
                raise self.error("output_padding must lie below strides, "
                                 f"got {self.output_padding} and {self.strides}")

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        convolve = op.ConvolveTransposed(self._window(input_shape), self.filters)
        return [*windows.on_images(input_shape, [convolve]), *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        channels = self._row(input_shape, self.rank)[-1]
        kernel = (*windows.size_of(self.kernel_size), self.filters, channels)
        return with_bias(kernel, self.filters, self.use_bias)

    def crops(self, input_shape: Shape) -> Sides:
        """What falls away of all that the kernel writes; negative: zeros are appended.

        What the kernel writes is `(n - 1) * stride + window` long along an axis of n.
        """
        return self._window(input_shape).sides

    def _window(self, input_shape: Shape) -> op.Window:
        shape = self._row(input_shape, self.rank)
        image, strides = windows.as_image(shape), windows.of_image(self.strides)
        window = op.Window(windows.of_image(self.kernel_size), strides,
                           windows.of_image(self.dilation_rate))
        given = (None,) * 2 if self.output_padding is None else windows.size_of(self.output_padding)
        extra = (None, *given)[-2:]
        top_bottom, left_right = (
            windows.crops(n, k, s, self.padding, e)
            for n, k, s, e in zip(image, window.span, strides, extra)
        )
        window = replace(window, sides=(top_bottom, left_right))
        if min(window.written(image)) < 1:
            raise self.error(f"rows of shape {shape} leave no output; needs more of them, "
                             "or output_padding")
        return window


@register
@dataclass(frozen=True, repr=False)
class Conv2DTranspose(_Transposed):
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
    activity_regularizer : None
        Not supported.
    kernel_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Conv2DTranspose
    >>> Conv2DTranspose(8, (2, 2), strides=2).output_shape((14, 14, 16))
    (28, 28, 8)
    """

    kernel_size: Pair
    strides: Pair = (1, 1)
    output_padding: OutputPadding = None
    dilation_rate: Pair = (1, 1)

    rank = 3


@register
@dataclass(frozen=True, repr=False)
class Conv1DTranspose(_Transposed):
    """The transpose of a convolution over steps (Zeiler et al., 2010).

    Each input value adds its multiple of the kernel to the output. Kernel `(k, filters, in)`, bias
    `(filters,)`.

    Parameters
    ----------
    filters : int
        Channels that come out.
    kernel_size : int
        Length of the window.
    strides : int
        Steps from window to window, in the output. Not above 1 where the dilation is.
    padding : {"valid", "same"}
        `valid`: `(n - 1) * stride + max(window, stride)` outputs of n steps; `same`: `n * stride`.
    output_padding : int or None
        Below the strides. Given, the outputs are `(n - 1) * stride + window + output_padding`
        (`valid`) or `(n - 1) * stride + window % 2 + output_padding` (`same`).
    data_format : {None, "channels_last"}
    dilation_rate : int
        Distance between the kernel's taps.
    activation : str or None
        Name of the activation (`ACTIVATIONS`); None is the identity.
    use_bias : bool
        Whether a bias is added.
    kernel_initializer, bias_initializer : str or Initializer
        Of `nbbn.initializers`.
    kernel_regularizer, bias_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    activity_regularizer : None
        Not supported.
    kernel_constraint, bias_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import Conv1DTranspose
    >>> Conv1DTranspose(8, 2, strides=2).output_shape((14, 16))
    (28, 8)
    """

    kernel_size: Single
    strides: Single = 1
    output_padding: OutputPaddingOfSteps = None
    dilation_rate: Single = 1

    rank = 2
