"""BatchNormalization."""

from __future__ import annotations

from dataclasses import dataclass

from nbbn.layers.base import Layer, LayerError, Shape, register


@register
@dataclass(frozen=True)
class BatchNormalization(Layer):
    """`y = gamma * (x - mean) / sqrt(var + epsilon) + beta`, per channel (Ioffe and Szegedy, 2015, algorithm 1).

    Training takes mean and (biased) variance from the batch, inference takes the running ones.

    Parameters
    ----------
    axis : int
        The channel axis, counted with the batch axis in front; -1 is the last.
    momentum : float
        Weight of the old running value: `new = momentum * old + (1 - momentum) * batch`.
    epsilon : float
        Added to the variance inside the root, above 0.
    center, scale : bool
        Whether beta, gamma exist; 0 and 1 where they do not.
    """

    axis: int = -1
    momentum: float = 0.99
    epsilon: float = 1e-3
    center: bool = True
    scale: bool = True

    def __post_init__(self):
        if not self.epsilon > 0:
            raise LayerError(f"BatchNormalization: epsilon must be above 0, got {self.epsilon}")
        if not 0 <= self.momentum <= 1:
            raise LayerError(f"BatchNormalization: momentum must lie in [0, 1], got {self.momentum}")

    def channels(self, input_shape: Shape) -> int:
        """Length of the channel axis."""
        rank = len(input_shape) + 1
        axis = self.axis + rank if self.axis < 0 else self.axis
        if not 1 <= axis < rank:
            raise LayerError(f"BatchNormalization: axis {self.axis} is not an axis of rows of shape {input_shape}")
        return input_shape[axis - 1]

    def weight_shapes(self, input_shape: Shape) -> dict[str, Shape]:
        c = (self.channels(input_shape),)
        present = {"gamma": self.scale, "beta": self.center, "mean": True, "var": True}
        return {name: c for name, there in present.items() if there}
