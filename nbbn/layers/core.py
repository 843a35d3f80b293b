"""Input, Dense and Activation."""

from collections.abc import Iterator
from dataclasses import InitVar, dataclass, field
from textwrap import indent
from typing import ClassVar

from nbbn import activations
from nbbn import operations as op
from nbbn.layers.arguments import (
    ActivationName,
    Constraint,
    Count,
    Flag,
    Initializer,
    NotSupported,
    Regularizer,
    RowShape,
)
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape


@register
@dataclass(frozen=True, repr=False)
class Input(Layer):
    """The shape of a model's rows; hands them on as they are.

    Parameters
    ----------
    shape : tuple of int
        Shape of one row, without the batch axis; the same as `input_shape`.
    batch_size : int, optional
        Taken as in Keras, and ignored: batches are as long as `fit` and `predict` make them.
    **base
        `name`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([nbbn.Input((28, 28, 1)), layers.Flatten(), layers.Dense(10)])
    >>> model.output_shape
    (None, 10)
    """

    shape: RowShape = None
    batch_size: InitVar[int | None] = None

    gives_rows: ClassVar = True

    def __post_init__(self, batch_size: int | None) -> None:
        super().__post_init__()
        shape = self.shape or self.input_shape
        if shape is None:
            raise self.error("shape must be given: the shape of one row without the batch axis")
        if self.input_shape not in (None, shape):
            raise self.error(f"shape {shape} and input_shape {self.input_shape} differ; give one")
        object.__setattr__(self, "shape", shape)
        object.__setattr__(self, "input_shape", shape)

    def _given(self, always: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
        return ((name, value) for name, value in super()._given(always) if name != "input_shape")

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        if tuple(input_shape) != self.shape:
            raise self.error(f"needs rows of shape {self.shape}, "
                             f"got rows of shape {tuple(input_shape)}")
        return []


@register
@dataclass(frozen=True, repr=False)
class Dense(Layer):
    """`y = activation(x @ kernel + bias)`; kernel `(in, units)`, bias `(units,)`.

    Rows of any shape `(..., in)` become `(..., units)`.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
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
    input_dim : int, optional
        Keyword only; `input_dim=n` is `input_shape=(n,)`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(2, input_shape=(3,))])
    >>> model.set_weights([np.ones((3, 2)), np.array([0.0, 10.0])])
    >>> model.predict(np.array([[1.0, 2.0, 3.0]]), verbose=0)
    array([[ 6., 16.]], dtype=float32)
    """

    units: Count
    activation: ActivationName = None
    use_bias: Flag = True
    kernel_initializer: Initializer = "glorot_uniform"
    bias_initializer: Initializer = "zeros"
    kernel_regularizer: Regularizer = None
    bias_regularizer: Regularizer = None
    activity_regularizer: NotSupported = None
    kernel_constraint: Constraint = None
    bias_constraint: Constraint = None
    input_dim: InitVar[int | None] = field(default=None, kw_only=True)

    written: ClassVar = ("units", "activation", "use_bias")

    def __post_init__(self, input_dim: int | None) -> None:
        if input_dim is not None:
            object.__setattr__(self, "input_shape", (input_dim,))
        super().__post_init__()

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape)
        return [op.Dense(self.units), *op.activation(self.activation)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        shapes: dict[str, Shape] = {"kernel": (self._row(input_shape)[-1], self.units)}
        return {**shapes, "bias": (self.units,)} if self.use_bias else shapes


@register
@dataclass(frozen=True, repr=False)
class Activation(Layer):
    """An activation on its own.

    Parameters
    ----------
    activation : str
        One of `ACTIVATIONS`, each as in `keras.activations`, or a synonym.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Notes
    -----
    {table}

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Activation("relu", input_shape=(3,))])
    >>> model.predict([[-1.0, 0.0, 2.0]], verbose=0)
    array([[0., 0., 2.]], dtype=float32)
    """

    activation: ActivationName

    written: ClassVar = ("activation",)

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return op.activation(self.activation)


Activation.__doc__ = str(Activation.__doc__).replace(
    "{table}", indent(activations.table(), " " * 4).lstrip()
)
