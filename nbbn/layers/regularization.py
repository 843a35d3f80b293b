"""Layers that disturb training and do nothing in inference: dropout and noise."""

from dataclasses import dataclass

from nbbn import operations as op
from nbbn.layers.arguments import DataFormat, Fraction, NoiseShape, NonNegative, Seed
from nbbn.layers.base import Layer, register
from nbbn.operations import Operation, Shape


@register
@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """Sets values to 0 with probability `rate`, in training only [1]_.

    The others are multiplied by `1 / (1 - rate)`.

    Parameters
    ----------
    rate : float
        In [0, 1]; with 1 all values are 0.
    noise_shape : tuple of (int or None), optional
        Shape of the mask with the batch axis in front: 1 where one draw goes for the whole axis,
        None for the axis's length.
    seed : int, optional
        Seed of the layer's own random numbers; None: they follow from the model's.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    References
    ----------
    .. [1] Srivastava, Hinton, Krizhevsky, Sutskever and Salakhutdinov (2014), Dropout.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dropout(0.5, input_shape=(3,))])
    >>> model.predict([[1.0, 2.0, 3.0]], verbose=0)  # in inference it does nothing
    array([[1., 2., 3.]], dtype=float32)
    """

    rate: Fraction
    noise_shape: NoiseShape = None
    seed: Seed = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        shape = tuple(input_shape)
        if self.noise_shape is not None:
            noise = self.noise_shape[1:]
            if len(noise) != len(shape) or any(m not in (None, 1, n) for m, n in zip(noise, shape)):
                raise self.error(f"noise_shape {self.noise_shape} does not fit (rows, *{shape}); "
                                 "use 1, None or the length")
        if self.rate == 0:
            return []
        return [op.Disturb("dropout", self.rate, self.seed, self.noise_shape)]


@register
@dataclass(frozen=True, repr=False)
class SpatialDropout1D(Layer):
    """Sets whole channels to 0 with probability `rate`, in training only (Tompson et al., 2015).

    The others are multiplied by `1 / (1 - rate)`. Rows of `(steps, channels)`.

    Parameters
    ----------
    rate : float
        In [0, 1]; with 1 all values are 0.
    seed : int, optional
        Seed of the layer's own random numbers; None: they follow from the model's.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import SpatialDropout1D
    >>> SpatialDropout1D(0.2).output_shape((10, 8))
    (10, 8)
    """

    rate: Fraction
    seed: Seed = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape, 2)
        noise_shape = (None, 1, None)
        return [op.Disturb("dropout", self.rate, self.seed, noise_shape)] if self.rate else []


@register
@dataclass(frozen=True, repr=False)
class SpatialDropout2D(Layer):
    """Sets whole channels to 0 with probability `rate`, in training only (Tompson et al., 2015).

    The others are multiplied by `1 / (1 - rate)`. Rows of `(height, width, channels)`.

    Parameters
    ----------
    rate : float
        In [0, 1]; with 1 all values are 0.
    data_format : {None, "channels_last"}
    seed : int, optional
        Seed of the layer's own random numbers; None: they follow from the model's.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> from nbbn.layers import SpatialDropout2D
    >>> SpatialDropout2D(0.2).output_shape((7, 7, 8))
    (7, 7, 8)
    """

    rate: Fraction
    data_format: DataFormat = None
    seed: Seed = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        self._row(input_shape, 3)
        noise_shape = (None, 1, 1, None)
        return [op.Disturb("dropout", self.rate, self.seed, noise_shape)] if self.rate else []


@register
@dataclass(frozen=True, repr=False)
class GaussianNoise(Layer):
    """Adds normal noise of mean 0, in training only.

    Bishop (1995), Training with noise is equivalent to Tikhonov regularization.

    Parameters
    ----------
    stddev : float
        Standard deviation of the noise, at least 0.
    seed : int, optional
        Seed of the layer's own random numbers; None: they follow from the model's.
    **base
        `name`, `input_shape`, `dtype`: see `Layer`.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.GaussianNoise(0.1, input_shape=(3,))])
    >>> model.predict([[1.0, 2.0, 3.0]], verbose=0)  # in inference it does nothing
    array([[1., 2., 3.]], dtype=float32)
    """

    stddev: NonNegative
    seed: Seed = None

    def operations(self, input_shape: Shape, *others: Shape) -> list[Operation]:
        return [op.Disturb("noise", self.stddev, self.seed)] if self.stddev else []
