"""Initial values of a layer's arrays: Keras's initializers, drawn with NumPy's generators.

Every initializer draws in float64 and rounds once, so that float32 weights are the rounded float64
ones of the same seed. The names in lower case (`he_normal`, ...) are the same classes, as in
`keras.initializers`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields
from numbers import Integral
from typing import ClassVar

import numpy as np
from numpy.typing import DTypeLike

from nbbn.names import Specification, made_of, suggesting
from nbbn.utils import keras_name

__all__ = [
    "Constant", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "Initializer",
    "LecunNormal", "LecunUniform", "Ones", "Orthogonal", "RandomNormal", "RandomUniform",
    "TruncatedNormal", "VarianceScaling", "Zeros", "constant", "get", "glorot_normal",
    "glorot_uniform", "he_normal", "he_uniform", "lecun_normal", "lecun_uniform", "ones",
    "orthogonal", "random_normal", "random_uniform", "truncated_normal", "variance_scaling",
    "zeros",
]

Shape = tuple[int, ...]

# Standard deviation of a standard normal that is cut off at -2 and 2.
_TRUNCATED_STDDEV = 0.87962566103423978


@dataclass(frozen=True)
class Initializer(Specification):
    """What every initializer does: `initializer(shape, rng, dtype)` is a new C-contiguous array.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.initializers import HeNormal
    >>> kernel = HeNormal()((784, 128), np.random.default_rng(0))
    >>> kernel.shape, kernel.dtype, round(float(kernel.std() ** 2 * 784), 1)
    ((784, 128), dtype('float32'), 2.0)
    """

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if f.name == "seed":
                value = self._checked_seed(value)
            elif isinstance(f.default, float):
                value = self._number(f.name)
            object.__setattr__(self, f.name, value)
        if (stddev := getattr(self, "stddev", 0.0)) < 0:
            raise self._error(f"stddev must be at least 0, got {stddev}")

    def __call__(self, shape: Shape, rng: np.random.Generator | None = None,
                 dtype: "DTypeLike" = "float32") -> np.ndarray:
        """The initial values.

        Parameters
        ----------
        shape : tuple of int
            Shape of the array, in Keras's layout: kernels end in `(..., in, out)`.
        rng : numpy.random.Generator, optional
            Where the random numbers come from; left alone by an initializer with a seed of its own,
            and by one that draws none. None is a fresh generator that the system seeds.
        dtype : dtype
            float32 or float64.

        Returns
        -------
        array of `shape` and `dtype`
        """
        seed = getattr(self, "seed", None)
        rng = np.random.default_rng(seed) if seed is not None or rng is None else rng
        return np.ascontiguousarray(self._draw(tuple(shape), rng), dtype=dtype)

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        raise NotImplementedError

    def _checked_seed(self, seed: object) -> int | None:
        if seed is None:
            return None
        if isinstance(seed, bool) or not isinstance(seed, Integral) or int(seed) < 0:
            raise self._error(f"seed must be None or a whole number of at least 0, got {seed!r}")
        return int(seed)


class Zeros(Initializer):
    """All zeros.

    Examples
    --------
    >>> from nbbn.initializers import Zeros
    >>> Zeros()((3,))
    array([0., 0., 0.], dtype=float32)
    """

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return np.zeros(shape)


class Ones(Initializer):
    """All ones.

    Examples
    --------
    >>> from nbbn.initializers import Ones
    >>> Ones()((2,), dtype="float64")
    array([1., 1.])
    """

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return np.ones(shape)


@dataclass(frozen=True)
class Constant(Initializer):
    """One value everywhere.

    Parameters
    ----------
    value : float

    Examples
    --------
    >>> from nbbn.initializers import Constant
    >>> Constant(0.5)((3,))
    array([0.5, 0.5, 0.5], dtype=float32)
    """

    value: float = 0.0

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return np.full(shape, self.value)


@dataclass(frozen=True)
class RandomNormal(Initializer):
    """Normal values.

    Parameters
    ----------
    mean, stddev : float
        Mean and standard deviation, the latter at least 0.
    seed : int, optional
        Makes every call draw the same values, whatever generator it is given.

    Examples
    --------
    >>> from nbbn.initializers import RandomNormal
    >>> round(float(RandomNormal(stddev=0.01, seed=0)((100_000,)).std()), 4)
    0.01
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return self.mean + self.stddev * rng.standard_normal(shape)


@dataclass(frozen=True)
class RandomUniform(Initializer):
    """Uniform values in `[minval, maxval)`.

    Parameters
    ----------
    minval, maxval : float
    seed : int, optional
        Makes every call draw the same values, whatever generator it is given.

    Examples
    --------
    >>> from nbbn.initializers import RandomUniform
    >>> weights = RandomUniform(-0.1, 0.1, seed=0)((1000,))
    >>> bool(abs(weights).max() <= 0.1)
    True
    """

    minval: float = -0.05
    maxval: float = 0.05
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.minval > self.maxval:
            raise ValueError("RandomUniform: minval must not lie above maxval, "
                             f"got {self.minval} and {self.maxval}")

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.minval, self.maxval, shape)


@dataclass(frozen=True)
class TruncatedNormal(Initializer):
    """Normal values, those farther than two standard deviations from the mean drawn again.

    Parameters
    ----------
    mean, stddev : float
        Of the normal distribution before it is cut: the values' own standard deviation is 0.8796
        times `stddev`.
    seed : int, optional
        Makes every call draw the same values, whatever generator it is given.

    Examples
    --------
    >>> from nbbn.initializers import TruncatedNormal
    >>> weights = TruncatedNormal(stddev=1.0, seed=0)((1000,))
    >>> bool(abs(weights).max() <= 2)
    True
    """

    mean: float = 0.0
    stddev: float = 0.05
    seed: int | None = None

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return self.mean + self.stddev * _truncated_normal(shape, rng)


@dataclass(frozen=True)
class VarianceScaling(Initializer):
    """Values of variance `scale / n`, with `n` taken from the shape.

    Parameters
    ----------
    scale : float
        Above 0.
    mode : str
        What `n` is: `fan_in`, `fan_out`, or `fan_avg`, their mean.
    distribution : str
        `truncated_normal` (`normal`), `untruncated_normal`, or `uniform` in `[-limit, limit)`,
        `limit = sqrt(3 * scale / n)`.
    seed : int, optional
        Makes every call draw the same values, whatever generator it is given.

    Notes
    -----
    `fan_in` and `fan_out` of a `(..., in, out)` kernel are `in` and `out` times the product of the
    axes before them, whatever the kind of layer: those of a depthwise kernel `(kh, kw, in,
    multiplier)` and of a transposed one `(kh, kw, out, in)` follow from their layout, as in Keras.

    Examples
    --------
    >>> from nbbn.initializers import VarianceScaling
    >>> VarianceScaling(scale=2.0, mode="fan_out", distribution="uniform", seed=0)((4, 2)).shape
    (4, 2)
    """

    scale: float = 1.0
    mode: str = "fan_in"
    distribution: str = "truncated_normal"
    seed: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.scale > 0:
            raise self._error(f"scale must be above 0, got {self.scale}")
        if self.distribution == "normal":
            object.__setattr__(self, "distribution", "truncated_normal")
        for name, allowed in (("mode", _MODES), ("distribution", _DISTRIBUTIONS)):
            if (value := getattr(self, name)) not in allowed:
                raise self._error(f"{name} must be one of {', '.join(allowed)}, got {value!r}")

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return _scaled(shape, rng, self.scale, self.mode, self.distribution)


@dataclass(frozen=True)
class _Preset(Initializer):
    """A `VarianceScaling` of which only the seed is free."""

    scale: ClassVar[float] = 1.0
    mode: ClassVar[str] = "fan_in"
    distribution: ClassVar[str] = "uniform"

    seed: int | None = None

    def __init_subclass__(cls) -> None:
        """Document the parameter that all have."""
        cls.__doc__ = f"""{cls.__doc__}
    Parameters
    ----------
    seed : int, optional
        Makes every call draw the same values, whatever generator it is given.
    """

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        return _scaled(shape, rng, self.scale, self.mode, self.distribution)


class GlorotUniform(_Preset):
    """Uniform in `[-limit, limit)`, `limit = sqrt(6 / (fan_in + fan_out))`.

    Glorot and Bengio (2010), Understanding the difficulty of training deep feedforward neural
    networks, equation 16.

    Examples
    --------
    >>> from nbbn.initializers import GlorotUniform
    >>> weights = GlorotUniform(seed=0)((100, 50))
    >>> bool(abs(weights).max() <= (6 / 150) ** 0.5)
    True
    """

    mode = "fan_avg"


class GlorotNormal(_Preset):
    """Truncated normal of standard deviation `sqrt(2 / (fan_in + fan_out))`.

    Glorot and Bengio (2010), equation 12.

    Examples
    --------
    >>> from nbbn.initializers import GlorotNormal
    >>> weights = GlorotNormal(seed=0)((400, 200))
    >>> round(float(weights.var() * 600 / 2), 1)
    1.0
    """

    mode, distribution = "fan_avg", "truncated_normal"


class HeUniform(_Preset):
    """Uniform in `[-limit, limit)`, `limit = sqrt(6 / fan_in)`.

    He, Zhang, Ren and Sun (2015), Delving deep into rectifiers, equation 10.

    Examples
    --------
    >>> from nbbn.initializers import HeUniform
    >>> weights = HeUniform(seed=0)((400, 200))
    >>> round(float(weights.var() * 400 / 2), 1)
    1.0
    """

    scale = 2.0


class HeNormal(_Preset):
    """Truncated normal of standard deviation `sqrt(2 / fan_in)`.

    He, Zhang, Ren and Sun (2015), Delving deep into rectifiers, equation 10.

    Examples
    --------
    >>> from nbbn.initializers import HeNormal
    >>> weights = HeNormal(seed=0)((400, 200))
    >>> round(float(weights.var() * 400 / 2), 1)
    1.0
    """

    scale, distribution = 2.0, "truncated_normal"


class LecunUniform(_Preset):
    """Uniform in `[-limit, limit)`, `limit = sqrt(3 / fan_in)`.

    LeCun, Bottou, Orr and Mueller (1998), Efficient BackProp, equation 16.

    Examples
    --------
    >>> from nbbn.initializers import LecunUniform
    >>> weights = LecunUniform(seed=0)((400, 200))
    >>> round(float(weights.var() * 400), 1)
    1.0
    """


class LecunNormal(_Preset):
    """Truncated normal of standard deviation `sqrt(1 / fan_in)`; SELU is made for it.

    LeCun, Bottou, Orr and Mueller (1998), Efficient BackProp, equation 16; Klambauer, Unterthiner,
    Mayr and Hochreiter (2017), Self-normalizing neural networks.

    Examples
    --------
    >>> from nbbn.initializers import LecunNormal
    >>> weights = LecunNormal(seed=0)((400, 200))
    >>> round(float(weights.var() * 400), 1)
    1.0
    """

    distribution = "truncated_normal"


@dataclass(frozen=True)
class Orthogonal(Initializer):
    """`gain` times a matrix with orthonormal columns; rows, where it has fewer rows than columns.

    An array of more than two axes is one matrix `(product of all axes but the last, last axis)`.
    Saxe, McClelland and Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in
    deep linear networks.

    Parameters
    ----------
    gain : float
    seed : int, optional
        Makes every call draw the same values, whatever generator it is given.

    Raises
    ------
    ValueError
        When called for an array of fewer than two axes.

    Examples
    --------
    >>> import numpy as np
    >>> from nbbn.initializers import Orthogonal
    >>> weights = Orthogonal(seed=0)((4, 4), dtype="float64")
    >>> bool(np.allclose(weights.T @ weights, np.eye(4)))
    True
    """

    gain: float = 1.0
    seed: int | None = None

    def _draw(self, shape: Shape, rng: np.random.Generator) -> np.ndarray:
        from threadpoolctl import threadpool_limits

        if len(shape) < 2:
            raise ValueError(f"Orthogonal: needs an array of at least two axes, got shape {shape}")
        rows, columns = math.prod(shape[:-1]), shape[-1]
        normal = rng.standard_normal((max(rows, columns), min(rows, columns)))
        # On one thread: the last bits of a factorisation depend on how BLAS divides it.
        with threadpool_limits(1, user_api="blas"):
            q, r = np.linalg.qr(normal)
        # With the signs of R's diagonal Q is uniform among all such matrices.
        q *= np.where(np.diagonal(r) < 0, -1.0, 1.0)
        return self.gain * (q.T if rows < columns else q).reshape(shape)


_MODES = ("fan_in", "fan_out", "fan_avg")


def _scaled(shape: Shape, rng: np.random.Generator, scale: float, mode: str,
            distribution: str) -> np.ndarray:
    if len(shape) < 2:
        fan_in = fan_out = math.prod(shape)
    else:
        fan_in, fan_out = (math.prod(shape[:-2]) * n for n in shape[-2:])
    n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[mode]
    return math.sqrt(scale / max(1.0, n)) * _DISTRIBUTIONS[distribution](shape, rng)


def _truncated_normal(shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Standard normal values, those outside [-2, 2] drawn again."""
    values = np.atleast_1d(rng.standard_normal(shape))
    while (outside := np.abs(values) > 2.0).any():
        values[outside] = rng.standard_normal(np.count_nonzero(outside))
    return values.reshape(shape)


# Values of variance 1.
_DISTRIBUTIONS: dict[str, Callable[[Shape, np.random.Generator], np.ndarray]] = {
    "uniform": lambda shape, rng: rng.uniform(-math.sqrt(3.0), math.sqrt(3.0), shape),
    "truncated_normal": lambda shape, rng: _truncated_normal(shape, rng) / _TRUNCATED_STDDEV,
    "untruncated_normal": lambda shape, rng: rng.standard_normal(shape),
}


zeros, ones, constant = Zeros, Ones, Constant
random_normal, random_uniform, truncated_normal = RandomNormal, RandomUniform, TruncatedNormal
variance_scaling, orthogonal = VarianceScaling, Orthogonal
glorot_uniform, glorot_normal = GlorotUniform, GlorotNormal
he_uniform, he_normal = HeUniform, HeNormal
lecun_uniform, lecun_normal = LecunUniform, LecunNormal

_CLASSES: tuple[type[Initializer], ...] = (
    Zeros, Ones, Constant, RandomNormal, RandomUniform, TruncatedNormal, VarianceScaling,
    GlorotUniform, GlorotNormal, HeUniform, HeNormal, LecunUniform, LecunNormal, Orthogonal,
)  # fmt: skip
for _each in _CLASSES:
    suggesting(_each)
_NAMES = {keras_name(cls.__name__): cls for cls in _CLASSES}
_ALIASES = {cls.__name__: cls for cls in _CLASSES} | {
    "zero": Zeros, "one": Ones, "normal": RandomNormal, "uniform": RandomUniform
}  # fmt: skip


def get(identifier: str | Initializer | type | dict | None) -> Initializer | None:
    """The initializer that a name, a class, an object or a config stands for.

    Parameters
    ----------
    identifier : str, Initializer, type, dict or None
        A name as in `"he_normal"` or `"HeNormal"`; what `Initializer.config` gave; None stays None.

    Returns
    -------
    Initializer or None

    Raises
    ------
    ValueError
        For an unknown name, with the nearest known one, or a config of something else.
    TypeError
        For any other type.

    Examples
    --------
    >>> from nbbn import initializers
    >>> initializers.get("he_normal")
    HeNormal(seed=None)
    """
    return made_of("an initializer", identifier, Initializer, _NAMES, _ALIASES)


def __dir__() -> list[str]:
    return __all__
