"""Activations with arguments: ReLU, LeakyReLU, ELU, Softmax."""

import math
from dataclasses import InitVar, dataclass, field

from nbbn import operations as op
from nbbn.layers.arguments import Axes, Limit, NonNegative
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape


@register
@dataclass(frozen=True, repr=False)
class ReLU(Layer):
    """`min(x, max_value)` where `x > threshold`, else `negative_slope * (x - threshold)`.

    `ReLU(max_value=6)` is ReLU6 (Krizhevsky, 2010).

    Parameters
    ----------
    max_value : float or None
        Largest output, at least 0; None: no bound.
    negative_slope : float
        Slope below the threshold, at least 0.
    threshold : float
        At least 0.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.ReLU(max_value=6.0, input_shape=(3,))])
    >>> model.predict([[-1.0, 3.0, 9.0]], verbose=0)
    array([[0., 3., 6.]], dtype=float32)
    """

    max_value: Limit = None
    negative_slope: NonNegative = 0.0
    threshold: NonNegative = 0.0

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        slope = self.negative_slope
        if self.max_value is None and self.threshold == 0:
            return [op.Elementwise("leaky_relu", (slope,)) if slope else op.Elementwise("relu")]
        top = math.inf if self.max_value is None else self.max_value
        return [op.Elementwise("clipped_relu", (slope, top, self.threshold))]


@register
@dataclass(frozen=True, repr=False)
class LeakyReLU(Layer):
    """`x` where `x >= 0`, else `negative_slope * x` (Maas, Hannun and Ng, 2013).

    Parameters
    ----------
    negative_slope : float
        At least 0.
    alpha : float, optional
        Keyword only; the older name of `negative_slope`.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.LeakyReLU(negative_slope=0.5, input_shape=(2,))])
    >>> model.predict([[-1.0, 3.0]], verbose=0)
    array([[-0.5,  3. ]], dtype=float32)
    """

    negative_slope: NonNegative = 0.3
    alpha: InitVar[float | None] = field(default=None, kw_only=True)

    def __post_init__(self, alpha: float | None) -> None:
        if alpha is not None:
            object.__setattr__(self, "negative_slope", alpha)
        super().__post_init__()

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return [op.Elementwise("leaky_relu", (self.negative_slope,))]


@register
@dataclass(frozen=True, repr=False)
class ELU(Layer):
    """`x` where `x >= 0`, else `alpha * (exp(x) - 1)` (Clevert, Unterthiner and Hochreiter, 2016).

    Parameters
    ----------
    alpha : float
        Minus the limit for large negative inputs, at least 0.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.ELU(input_shape=(2,))])
    >>> model.predict([[-1.0, 3.0]], verbose=0).round(3)
    array([[-0.632,  3.   ]], dtype=float32)
    """

    alpha: NonNegative = 1.0

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return [op.Elementwise("elu", (self.alpha,))]


@register
@dataclass(frozen=True, repr=False)
class Softmax(Layer):
    """`exp(x - max(x)) / sum(exp(x - max(x)))` over an axis.

    Parameters
    ----------
    axis : int or tuple of int
        Counted with the batch axis in front, which it cannot be; -1 is the last.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Softmax(input_shape=(2,))])
    >>> model.predict([[0.0, 0.0]], verbose=0)
    array([[0.5, 0.5]], dtype=float32)
    """

    axis: Axes = -1

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return op.over_last(input_shape, self.axes(input_shape), lambda shape: [op.Softmax()])

    def axes(self, input_shape: Shape) -> tuple[int, ...]:
        """Indices into a row's shape of the axes that are summed over, ascending."""
        return self._row_axes(self.axis, input_shape)
