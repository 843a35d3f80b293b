"""Whole numbers as trained vectors."""

from dataclasses import dataclass
from typing import ClassVar

from nbbn import operations as op
from nbbn.layers.arguments import (
    Constraint,
    Count,
    Initializer,
    NotSupported,
    NotSupportedFlag,
    Regularizer,
)
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape

# Whole numbers up to here are exact in float32, in which rows may stand.
_MOST = 1 << 24


@register
@dataclass(frozen=True, repr=False)
class Embedding(Layer):
    """Each whole number of a row as a row of the table `embeddings`, `(input_dim, output_dim)`.

    Rows of shape `(...)` become rows of shape `(..., output_dim)`. `fit`, `predict` and folded
    models refuse numbers of their rows that are not whole, or not in 0 to `input_dim - 1`: what
    Keras does with these depends on its backend (an error, NaN, zeros, rows from the end). Of
    numbers that other layers compute, the nearest row is taken.

    Parameters
    ----------
    input_dim : int
        How many numbers there are, at most 2**24.
    output_dim : int
        Length of a vector.
    embeddings_initializer : str or Initializer
        Of `nbbn.initializers`.
    embeddings_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    embeddings_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    mask_zero, weights, lora_rank, lora_alpha, quantization_config
        Not supported: there are no masks; `set_weights` takes a table that is there.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.Input((2,)), nbbn.layers.Embedding(3, 2)])
    >>> model.set_weights([np.array([[0.0, 0.0], [1.0, 10.0], [2.0, 20.0]])])
    >>> model.predict([[2, 1]])
    array([[[ 2., 20.],
            [ 1., 10.]]], dtype=float32)
    """

    input_dim: Count
    output_dim: Count
    embeddings_initializer: Initializer = "uniform"
    embeddings_regularizer: Regularizer = None
    embeddings_constraint: Constraint = None
    mask_zero: NotSupportedFlag = False
    weights: NotSupported = None
    lora_rank: NotSupported = None
    lora_alpha: NotSupported = None
    quantization_config: NotSupported = None

    written: ClassVar = ("input_dim", "output_dim")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.input_dim > _MOST:
            raise self.error(f"input_dim must be at most 2**24, got {self.input_dim}: larger "
                             "numbers are not exact in float32")

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape)
        return [op.Embed(self.input_dim, self.output_dim)]

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        return {"embeddings": (self.input_dim, self.output_dim)}
