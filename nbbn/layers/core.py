"""Dense and Activation."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral

from nbbn.layers.base import Layer, LayerError, Shape, register

ACTIVATIONS = ("linear", "relu", "sigmoid", "tanh", "softmax")
_SYNONYMS = {None: "linear", "identity": "linear", "logistic": "sigmoid"}


def activation_name(activation: str | None) -> str:
    """The canonical name of an activation: Keras's, or scikit-learn's `identity` and `logistic`.

    Raises
    ------
    LayerError
        For a name that is none of these.
    """
    name = _SYNONYMS.get(activation, activation)
    if name not in ACTIVATIONS:
        raise LayerError(f"unknown activation {activation!r}; choose one of {', '.join(ACTIVATIONS)}")
    return name


@register
@dataclass(frozen=True)
class Dense(Layer):
    """`y = activation(x @ kernel + bias)`; kernel `(in, units)`, bias `(units,)`.

    Parameters
    ----------
    units : int
        Number of outputs, at least 1.
    activation : str or None
        Name of the activation; None is the identity.
    use_bias : bool
        Whether a bias is added.
    """

    units: int
    activation: str | None = None
    use_bias: bool = True

    def __post_init__(self):
        if isinstance(self.units, bool) or not isinstance(self.units, Integral) or self.units < 1:
            raise LayerError(f"Dense: units must be a whole number of at least 1, got {self.units!r}")
        object.__setattr__(self, "activation", activation_name(self.activation))

    def output_shape(self, input_shape: Shape) -> Shape:
        return (*input_shape[:-1], self.units)

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        shapes = {"kernel": (input_shape[-1], self.units)}
        return {**shapes, "bias": (self.units,)} if self.use_bias else shapes


@register
@dataclass(frozen=True)
class Activation(Layer):
    """An activation on its own.

    Parameters
    ----------
    activation : str
        `linear` (`identity`), `relu`, `sigmoid` (`logistic`), `tanh` or `softmax`.
    """

    activation: str

    def __post_init__(self):
        object.__setattr__(self, "activation", activation_name(self.activation))
