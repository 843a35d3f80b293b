"""Normalisation: BatchNormalization, LayerNormalization, GroupNormalization."""

import math
import sys
import warnings
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

from nbbn import operations as op
from nbbn.layers.arguments import (
    Axes,
    Axis,
    Constraint,
    Flag,
    Initializer,
    Momentum,
    NotSupportedFlag,
    Positive,
    Regularizer,
    Rule,
    Switch,
    whole,
)
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape


@register
@dataclass(frozen=True, repr=False)
class BatchNormalization(Layer):
    """`y = gamma * (x - mean) / sqrt(var + epsilon) + beta`, per channel.

    Ioffe and Szegedy (2015), algorithm 1.

    Training takes mean and (biased) variance from the batch, inference takes the running ones.

    Parameters
    ----------
    axis : int
        The channel axis, counted with the batch axis in front; -1 is the last. Also a list of one.
    momentum : float or None
        Weight of the old running value: `new = momentum * old + (1 - momentum) * batch`; PyTorch's
        0.1 is 0.9 here. None: the running values are the mean over all batches so far, each of the
        same weight, as PyTorch's None.
    epsilon : float
        Added to the variance inside the root, above 0.
    center, scale : bool
        Whether beta, gamma exist; 0 and 1 where they do not.
    beta_initializer, gamma_initializer : str or Initializer
        Of `nbbn.initializers`.
    moving_mean_initializer, moving_variance_initializer : str or Initializer
        Of `nbbn.initializers`.
    beta_regularizer, gamma_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    beta_constraint, gamma_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    renorm, synchronized
        Not supported.
    use_running : bool or None
        Keyword only. Whether training, too, normalises with the running values. None: where
        `trainable` is False, as in Keras.
    update_running : bool or None
        Keyword only. Whether training updates the running values. None: where `trainable` is True,
        as in Keras.
    **base
        `name`, `trainable` (whether gamma and beta are trained), `input_shape`, `dtype`: see
        `Layer`.

    Warns
    -----
    UserWarning
        For a momentum below 0.5, which most likely is meant as the weight of the new value.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> norm = nbbn.layers.BatchNormalization(input_shape=(2,))
    >>> model = nbbn.Sequential([norm])
    >>> rows = np.array([[1.0, 10.0], [3.0, 30.0]])
    >>> model.recalibrate(rows)
    >>> model.predict(rows, verbose=0).round(3)
    array([[-1., -1.],
           [ 1.,  1.]], dtype=float32)
    """

    axis: Axis = -1
    momentum: Momentum = 0.99
    epsilon: Positive = 1e-3
    center: Flag = True
    scale: Flag = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    moving_mean_initializer: Initializer = "zeros"
    moving_variance_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None
    renorm: NotSupportedFlag = False
    synchronized: NotSupportedFlag = field(default=False, kw_only=True)
    use_running: Switch = field(default=None, kw_only=True)
    update_running: Switch = field(default=None, kw_only=True)

    written: ClassVar = ("axis", "momentum", "epsilon", "center", "scale")
    argument_names: ClassVar = {"mean": "moving_mean", "var": "moving_variance"}
    statistics: ClassVar = ("mean", "var")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.momentum is not None and self.momentum < 0.5 and (level := _users_level()):
            warnings.warn(
                "BatchNormalization: momentum is the weight of the old running value, got "
                f"{self.momentum:g}; PyTorch's momentum of {self.momentum:g} is "
                f"momentum={1 - self.momentum:g} here (its 0.1 is 0.9)",
                UserWarning,
                stacklevel=level,
            )

    @property
    def uses_running(self) -> bool:
        """Whether training normalises with the running values."""
        return not self.trainable if self.use_running is None else self.use_running

    @property
    def updates_running(self) -> bool:
        """Whether training updates the running values."""
        return self.trainable if self.update_running is None else self.update_running

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        axis = self._row_axis(self.axis, input_shape)
        norm = op.BatchNorm(self.epsilon, self.momentum, self.uses_running, self.updates_running)
        return op.over_last(input_shape, (axis,), lambda shape: [norm])

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        c = (input_shape[self._row_axis(self.axis, input_shape)],)
        present = {"gamma": self.scale, "beta": self.center, "mean": True, "var": True}
        return _present(present, c)


def _present(names: dict[str, bool], shape: Shape) -> dict[str, Shape]:
    return {name: shape for name, there in names.items() if there}


# Modules between `__post_init__` and whoever makes a layer.
_MAKERS = (__name__, "dataclasses", "nbbn.names")


def _users_level() -> int:
    """The `stacklevel` at which `BatchNormalization.__post_init__` warns.

    0 where the package itself makes the layer.

    It makes them anew in files that are read, in folds and in estimators, each of which has warned
    at its own door.
    """
    frame, level = sys._getframe(1), 1
    while frame.f_back and frame.f_globals.get("__name__") in _MAKERS:
        frame, level = frame.f_back, level + 1
    return 0 if str(frame.f_globals.get("__name__")).startswith("nbbn.") else level


@register
@dataclass(frozen=True, repr=False)
class LayerNormalization(Layer):
    """`y = gamma * (x - mean) / sqrt(var + epsilon) + beta`, within each row [1]_.

    Mean and (biased) variance are those over `axis`.

    gamma and beta have the shape of the axes that are normalised over.

    Parameters
    ----------
    axis : int or tuple of int
        What is normalised over, counted with the batch axis in front, which it cannot be; -1 is the
        last.
    epsilon : float
        Added to the variance inside the root, above 0.
    center, scale : bool
        Whether beta, gamma exist; 0 and 1 where they do not.
    beta_initializer, gamma_initializer : str or Initializer
        Of `nbbn.initializers`.
    beta_regularizer, gamma_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    beta_constraint, gamma_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    References
    ----------
    .. [1] Ba, Kiros and Hinton (2016), Layer normalization, equation 3.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.LayerNormalization(input_shape=(2,))])
    >>> model.predict([[1.0, 3.0], [10.0, 30.0]], verbose=0).round(2)
    array([[-1.,  1.],
           [-1.,  1.]], dtype=float32)
    """

    axis: Axes = -1
    epsilon: Positive = 1e-3
    center: Flag = True
    scale: Flag = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return op.over_last(input_shape, self.axes(input_shape),
                            lambda shape: [op.RowNorm(1, shape[-1], self.epsilon)])

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        shape = tuple(input_shape[axis] for axis in self.axes(input_shape))
        return _present({"gamma": self.scale, "beta": self.center}, shape)

    def axes(self, input_shape: Shape) -> tuple[int, ...]:
        """Indices into a row's shape of the axes that are normalised over, ascending."""
        return self._row_axes(self.axis, input_shape)


def _groups(value: Any) -> int:
    return -1 if value == -1 else whole(value, 1)


@register
@dataclass(frozen=True, repr=False)
class GroupNormalization(Layer):
    """`y = gamma * (x - mean) / sqrt(var + epsilon) + beta`, within each group [1]_.

    Mean and (biased) variance are those of each row and group.

    A group is a run of neighbouring channels with all other axes of the row; gamma and beta have
    one entry per channel.

    Parameters
    ----------
    groups : int
        Divides the number of channels; 1 normalises over the whole row, -1 each channel on its own
        (instance norm [2]_).
    axis : int
        The channel axis, counted with the batch axis in front; -1 is the last.
    epsilon : float
        Added to the variance inside the root, above 0.
    center, scale : bool
        Whether beta, gamma exist; 0 and 1 where they do not.
    beta_initializer, gamma_initializer : str or Initializer
        Of `nbbn.initializers`.
    beta_regularizer, gamma_regularizer : str, Regularizer or None
        Of `nbbn.regularizers`.
    beta_constraint, gamma_constraint : str, Constraint, callable or None
        Of `nbbn.constraints`.
    **base
        `name`, `trainable`, `input_shape`, `dtype`: see `Layer`.

    References
    ----------
    .. [1] Wu and He (2018), Group normalization, equations 1, 2 and 7.
    .. [2] Ulyanov, Vedaldi and Lempitsky (2016), Instance normalization.

    Examples
    --------
    >>> from nbbn.layers import GroupNormalization
    >>> GroupNormalization(groups=4).weight_shapes((8, 8, 16))
    {'gamma': (16,), 'beta': (16,)}
    """

    groups: Annotated[
        int, Rule(_groups, "a whole number of at least 1, or -1 for one group per channel")
    ] = 32
    axis: Axis = -1
    epsilon: Positive = 1e-3
    center: Flag = True
    scale: Flag = True
    beta_initializer: Initializer = "zeros"
    gamma_initializer: Initializer = "ones"
    beta_regularizer: Regularizer = None
    gamma_regularizer: Regularizer = None
    beta_constraint: Constraint = None
    gamma_constraint: Constraint = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        axis, groups = self._row_axis(self.axis, input_shape), self.group_count(input_shape)
        return op.over_last(
            input_shape,
            (axis,),
            lambda shape: [op.RowNorm(math.prod(shape[:-1]), shape[-1] // groups, self.epsilon)],
        )

    def weight_shapes(self, input_shape: Shape, *others: Shape) -> dict[str, Shape]:
        self.group_count(input_shape)
        channels = input_shape[self._row_axis(self.axis, input_shape)]
        return _present({"gamma": self.scale, "beta": self.center}, (channels,))

    def group_count(self, input_shape: Shape) -> int:
        """Number of groups, at least 1."""
        channels = input_shape[self._row_axis(self.axis, input_shape)]
        groups = channels if self.groups == -1 else self.groups
        if channels % groups:
            raise self.error(f"needs a number of channels that is a multiple of groups {groups}, "
                             f"got {channels} channels in rows of shape {tuple(input_shape)}")
        return groups
