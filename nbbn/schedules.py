"""Learning rates as functions of the step: Keras's schedules, and the one-cycle policy.

A schedule is called with step numbers, counted from 0: an array, or one number. It answers in
float64.
"""

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nbbn import names_of_keras
from nbbn.names import Specification, suggesting

__all__ = [
    "CosineDecay", "CosineDecayRestarts", "ExponentialDecay", "InverseTimeDecay", "OneCycle",
    "PiecewiseConstantDecay", "PolynomialDecay", "Schedule", "from_config",
]


@dataclass(frozen=True)
class Schedule(Specification):
    """What every schedule does: `schedule(steps)` are the learning rates of these steps.

    Examples
    --------
    >>> from nbbn.schedules import ExponentialDecay
    >>> schedule = ExponentialDecay(0.1, decay_steps=10, decay_rate=0.5)
    >>> schedule(0), schedule(10)
    (0.1, 0.05)
    >>> schedule([0, 10, 20])
    array([0.1  , 0.05 , 0.025])

    A schedule of one's own, as Keras's programs have them, is called step by step:

    >>> from nbbn.schedules import LearningRateSchedule
    >>> class Halved(LearningRateSchedule):
    ...     def __call__(self, step):
    ...         return 0.1 if step < 10 else 0.05
    >>> from nbbn.optimizers import SGD
    >>> SGD(Halved()).learning_rates([9, 10])
    array([0.1 , 0.05])
    """

    @property
    def takes_one_step(self) -> bool:
        """Whether it is one's own, called with one step number at a time."""
        return type(self).__call__ is not Schedule.__call__

    def __post_init__(self) -> None:
        for f in fields(self):
            if f.type is float:
                object.__setattr__(self, f.name, self._number(f.name))
            value = getattr(self, f.name)
            if f.name in ("decay_steps", "total_steps") and value <= 0:
                raise self._error(f"{f.name} must be above 0, got {value}")

    def __call__(self, step: "ArrayLike") -> np.ndarray | float:
        """Learning rates of the steps.

        Parameters
        ----------
        step : int or array of int
            Counted from 0.

        Returns
        -------
        float or ndarray of float64
            As many as there are steps.
        """
        rates = self._rates(np.asarray(step, np.float64))
        return rates if np.ndim(step) else float(rates)

    def _rates(self, step: np.ndarray) -> np.ndarray:
        raise NotImplementedError


@dataclass(frozen=True)
class _Decay(Schedule):
    """What the decays by a rate share."""

    initial_learning_rate: float
    decay_steps: float
    decay_rate: float
    staircase: bool = False
    name: str = ""

    def _done(self, step: np.ndarray) -> np.ndarray:
        p = step / self.decay_steps
        return np.floor(p) if self.staircase else p


@dataclass(frozen=True)
class ExponentialDecay(_Decay):
    """`initial_learning_rate * decay_rate ** (step / decay_steps)`.

    Parameters
    ----------
    initial_learning_rate, decay_steps, decay_rate : float
    staircase : bool
        Round `step / decay_steps` down.
    name : str

    Examples
    --------
    >>> from nbbn.schedules import ExponentialDecay
    >>> ExponentialDecay(0.1, 10, 0.5, staircase=True)([0, 9, 10])
    array([0.1 , 0.1 , 0.05])
    """

    name: str = "ExponentialDecay"

    def _rates(self, step: np.ndarray) -> np.ndarray:
        return self.initial_learning_rate * self.decay_rate ** self._done(step)


@dataclass(frozen=True)
class InverseTimeDecay(_Decay):
    """`initial_learning_rate / (1 + decay_rate * step / decay_steps)`.

    Parameters
    ----------
    initial_learning_rate, decay_steps, decay_rate : float
    staircase : bool
        Round `step / decay_steps` down.
    name : str

    Examples
    --------
    >>> from nbbn.schedules import InverseTimeDecay
    >>> InverseTimeDecay(0.1, 10, 1.0)([0, 10, 30])
    array([0.1  , 0.05 , 0.025])
    """

    name: str = "InverseTimeDecay"

    def _rates(self, step: np.ndarray) -> np.ndarray:
        return self.initial_learning_rate / (1 + self.decay_rate * self._done(step))


@dataclass(frozen=True)
class PolynomialDecay(Schedule):
    """`(initial - end) * (1 - step / decay_steps) ** power + end`.

    From `decay_steps` on it is `end_learning_rate`.

    Parameters
    ----------
    initial_learning_rate, decay_steps, end_learning_rate, power : float
    cycle : bool
        Beyond `decay_steps` use the next multiple of it instead.
    name : str

    Examples
    --------
    >>> from nbbn.schedules import PolynomialDecay
    >>> PolynomialDecay(0.1, 100, end_learning_rate=0.0)([0, 50, 100])
    array([0.1 , 0.05, 0.  ])
    """

    initial_learning_rate: float
    decay_steps: float
    end_learning_rate: float = 0.0001
    power: float = 1.0
    cycle: bool = False
    name: str = "PolynomialDecay"

    def _rates(self, step: np.ndarray) -> np.ndarray:
        steps = np.asarray(self.decay_steps)
        if self.cycle:
            steps = steps * np.maximum(1, np.ceil(step / steps))
        span = self.initial_learning_rate - self.end_learning_rate
        return span * (1 - np.minimum(step, steps) / steps) ** self.power + self.end_learning_rate


@dataclass(frozen=True)
class CosineDecay(Schedule):
    """Half a cosine from a rate down to `alpha` times it, after a linear warm-up.

    Loshchilov and Hutter (2017).

    Parameters
    ----------
    initial_learning_rate, decay_steps : float
        The warm-up's steps are not counted among `decay_steps`.
    alpha : float
        Last rate as a share of the first.
    name : str
    warmup_target : float or None
        Where the warm-up from `initial_learning_rate` ends and the decay begins; None: no warm-up.
    warmup_steps : float

    Examples
    --------
    >>> from nbbn.schedules import CosineDecay
    >>> CosineDecay(0.1, 100)([0, 50, 100]).round(6)
    array([0.1 , 0.05, 0.  ])
    >>> CosineDecay(0.0, 100, warmup_target=0.1, warmup_steps=10)([0, 5, 10]).round(6)
    array([0.  , 0.05, 0.1 ])
    """

    initial_learning_rate: float
    decay_steps: float
    alpha: float = 0.0
    name: str = "CosineDecay"
    warmup_target: float | None = None
    warmup_steps: float = 0

    def _rates(self, step: np.ndarray) -> np.ndarray:
        if self.warmup_target is None:
            return self.initial_learning_rate * self._share(step)
        rise = self.warmup_target - self.initial_learning_rate
        warm = self.initial_learning_rate + rise * step / max(self.warmup_steps, 1)
        return np.where(step < self.warmup_steps, warm,
                        self.warmup_target * self._share(step - self.warmup_steps))

    def _share(self, step: np.ndarray) -> np.ndarray:
        done = np.clip(step / self.decay_steps, 0, 1)
        return (1 - self.alpha) * 0.5 * (1 + np.cos(np.pi * done)) + self.alpha


@dataclass(frozen=True)
class CosineDecayRestarts(Schedule):
    """Half cosines down to `alpha` times the first rate, one after the other.

    Loshchilov and Hutter (2017).

    Parameters
    ----------
    initial_learning_rate : float
    first_decay_steps : float
        Steps of the first.
    t_mul, m_mul : float
        How much longer, and how much as high, each is than the one before.
    alpha : float
        Last rate of the first as a share of `initial_learning_rate`.
    name : str

    Examples
    --------
    >>> from nbbn.schedules import CosineDecayRestarts
    >>> CosineDecayRestarts(0.1, 10, m_mul=0.5)([0, 5, 10, 20]).round(6)
    array([0.1  , 0.05 , 0.05 , 0.025])
    """

    initial_learning_rate: float
    first_decay_steps: float
    t_mul: float = 2.0
    m_mul: float = 1.0
    alpha: float = 0.0
    name: str = "SGDRDecay"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("first_decay_steps", "t_mul"):
            if getattr(self, name) <= 0:
                raise self._error(f"{name} must be above 0, got {getattr(self, name)}")

    def _rates(self, step: np.ndarray) -> np.ndarray:
        done = step / self.first_decay_steps
        if self.t_mul == 1:
            turn = np.floor(done)
            done = done - turn
        else:
            turn = np.floor(np.log(1 - done * (1 - self.t_mul)) / np.log(self.t_mul))
            begun = (1 - self.t_mul**turn) / (1 - self.t_mul)
            done = (done - begun) / self.t_mul**turn
        height = 0.5 * self.m_mul**turn * (1 + np.cos(np.pi * done))
        return self.initial_learning_rate * ((1 - self.alpha) * height + self.alpha)


@dataclass(frozen=True)
class PiecewiseConstantDecay(Schedule):
    """`values[0]` up to and with step `boundaries[0]`, then `values[1]`, and so on.

    Parameters
    ----------
    boundaries : sequence of float
        Ascending.
    values : sequence of float
        One more than boundaries.
    name : str

    Examples
    --------
    >>> from nbbn.schedules import PiecewiseConstantDecay
    >>> PiecewiseConstantDecay([100, 200], [0.1, 0.01, 0.001])([0, 150, 250])
    array([0.1  , 0.01 , 0.001])
    """

    boundaries: tuple[float, ...]
    values: tuple[float, ...]
    name: str = "PiecewiseConstant"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("boundaries", "values"):
            object.__setattr__(self, name, tuple(float(v) for v in getattr(self, name)))
        if len(self.boundaries) != len(self.values) - 1:
            raise ValueError("PiecewiseConstantDecay: needs one value more than boundaries, "
                             f"got {len(self.values)} values for {len(self.boundaries)} boundaries")
        if any(a >= b for a, b in zip(self.boundaries, self.boundaries[1:])):
            raise ValueError("PiecewiseConstantDecay: boundaries must ascend, "
                             f"got {self.boundaries}")

    def _rates(self, step: np.ndarray) -> np.ndarray:
        return np.asarray(self.values)[np.searchsorted(self.boundaries, step, side="left")]


@dataclass(frozen=True)
class OneCycle(Schedule):
    """Up to `max_learning_rate` and down to almost nothing, along half cosines [1]_.

    Parameters
    ----------
    max_learning_rate, total_steps : float
    warmup_share : float
        Share of the steps that the rise takes, in (0, 1).
    start_factor, end_factor : float
        First and last rate as a share of the largest; PyTorch's `div_factor=25` and
        `final_div_factor=1e4` are 1/25 and 1/25e4.
    name : str

    References
    ----------
    .. [1] Smith and Topin (2018), Super-convergence.

    Examples
    --------
    >>> from nbbn.schedules import OneCycle
    >>> OneCycle(0.1, total_steps=101)([0, 30, 100]).round(4)
    array([0.004, 0.1  , 0.   ])
    """

    max_learning_rate: float
    total_steps: float
    warmup_share: float = 0.3
    start_factor: float = 0.04
    end_factor: float = 4e-6
    name: str = "OneCycle"

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.warmup_share < 1:
            raise ValueError("OneCycle: warmup_share must lie between 0 and 1, "
                             f"got {self.warmup_share}")

    def _rates(self, step: np.ndarray) -> np.ndarray:
        last = max(self.total_steps - 1, 1)
        top = self.warmup_share * last
        up = np.clip(step / top, 0, 1)
        down = np.clip((step - top) / (last - top), 0, 1)
        share = np.where(step < top, _cosine(self.start_factor, 1.0, up),
                         _cosine(1.0, self.end_factor, down))
        return self.max_learning_rate * share


def _cosine(first: float, last: float, done: np.ndarray) -> np.ndarray:
    return last + (first - last) * 0.5 * (1 + np.cos(np.pi * done))


_CLASSES: tuple[type[Schedule], ...] = (
    ExponentialDecay, InverseTimeDecay, PolynomialDecay, CosineDecay, PiecewiseConstantDecay,
    OneCycle, CosineDecayRestarts,
)  # fmt: skip
for _each in _CLASSES:
    suggesting(_each)
_SCHEDULES = {cls.__name__: cls for cls in _CLASSES}


def from_config(config: dict) -> Schedule:
    """The schedule that `Schedule.config` described.

    Raises
    ------
    ValueError
        For an unknown schedule.

    Examples
    --------
    >>> from nbbn import schedules
    >>> schedules.from_config(schedules.CosineDecay(0.1, 100).config())(0)
    0.1
    """
    name = config.get("class_name")
    if name not in _SCHEDULES:
        raise ValueError(f"unknown schedule {name!r}; known schedules: {', '.join(_SCHEDULES)}")
    return _SCHEDULES[name](**config["config"])


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
