"""Activations with arguments: ReLU, LeakyReLU, PReLU, ELU, Softmax."""

import math
from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any

from nbbn import operations as op
from nbbn.layers.arguments import (
    Axes,
    Constraint,
    Initializer,
    Limit,
    NonNegative,
    Regularizer,
    Rule,
    sequence,
    whole,
)
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


def _shared(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    return tuple(whole(axis, 1) for axis in ((value,) if isinstance(value, int) else
                                             sequence(value)))


@register
@dataclass(frozen=True, repr=False)
class PReLU(Layer):
    """`x` where `x >= 0`, else `alpha * x`, where alpha is trained (He et al., 2015).

    alpha has the shape of a row.

    Parameters
    ----------
    alpha_initializer : str or Initializer
        Of `nbbn.initializers`.
    alpha_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    alpha_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    shared_axes : list of int, optional
        Axes along which there is one alpha for all, counted with the batch axis in front: `[1, 2]`
        for one a channel of an image.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> layer = nbbn.layers.PReLU(alpha_initializer=nbbn.initializers.Constant(0.25))
    >>> model = nbbn.Sequential([nbbn.Input((2,)), layer])
    >>> model.predict([[-1.0, 3.0]])
    array([[-0.25,  3.  ]], dtype=float32)
    """

    alpha_initializer: Initializer = "zeros"
    alpha_regularizer: Regularizer = None
    alpha_constraint: Constraint = None
    shared_axes: Annotated[
        tuple[int, ...] | None,
        Rule(_shared, "None, a whole number of at least 1, or a list of them",
             given=int | list[int] | None),
    ] = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        shared = self._row(input_shape) != self._alpha(input_shape)
        if len(input_shape) > 3 and shared:
            raise self.error("shares alpha on rows of at most three axes, got rows of shape "
                             f"{tuple(input_shape)}")
        return [op.PRelu()]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        return {"alpha": self._alpha(input_shape)}

    def _alpha(self, input_shape: Shape) -> Shape:
        shared = () if self.shared_axes is None else self._row_axes(self.shared_axes, input_shape)
        return tuple(1 if k in shared else n for k, n in enumerate(self._row(input_shape)))


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
