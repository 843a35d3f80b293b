"""Solvers as the engine's optimisers, and their learning rates from step to step and from epoch to epoch."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from nbbn import optimizers, schedules
from nbbn.estimators.mlp.fit_state import FitState
from nbbn.optimizers import Optimizer

# A learning rate below this ends an adaptive schedule (scikit-learn's).
SMALLEST_RATE = 1e-6


@dataclass(frozen=True)
class OptimizerView:
    """What the fit's optimiser came to.

    Attributes
    ----------
    learning_rate : float
        Of the next step; of Adam the last one's, bias corrections included, as in scikit-learn.
    """

    learning_rate: float


def optimizer_of(estimator, steps: int) -> Optimizer:
    """The optimiser that the parameters describe.

    Parameters
    ----------
    estimator
    steps : int
        Of the whole fit, for schedules that need to know.
    """
    rate = _learning_rate(estimator, steps)
    clip = {"global_clipnorm": None if estimator.clip_norm is None else float(estimator.clip_norm)}
    if estimator.solver == "sgd":
        return optimizers.SGD(rate, float(estimator.momentum), bool(estimator.nesterovs_momentum), **clip)
    if estimator.solver == "rmsprop":
        return optimizers.RMSprop(rate, 0.9, epsilon=float(estimator.epsilon), **clip)
    moments = {name: float(getattr(estimator, name)) for name in ("beta_1", "beta_2", "epsilon")}
    if estimator.solver == "adamw":
        return optimizers.AdamW(rate, weight_decay=float(estimator.alpha), **moments, **clip)
    return optimizers.Adam(rate, **moments, **clip)


def _learning_rate(estimator, steps: int):
    """A number, or a function of the step."""
    given, initial = estimator.learning_rate, float(estimator.learning_rate_init)
    if callable(given):  # asked once for each step, by rates and by weight decay together
        return given if isinstance(given, schedules.Schedule) else functools.cache(given)
    if given == "cosine":
        return schedules.CosineDecay(initial, steps)
    if given == "one_cycle":
        return schedules.OneCycle(initial, steps)
    return initial


class Rates:
    """The learning rates of a fit.

    Parameters
    ----------
    estimator
    optimizer : Optimizer
        Its `learning_rate` is set where it is a number.
    record : FitState
        Keeps the rate that the schedule has come to.
    """

    def __init__(self, estimator, optimizer: Optimizer, record: FitState):
        self.optimizer, self.record = optimizer, record
        self._power = estimator.power_t if estimator.learning_rate == "invscaling" else None
        self.adaptive = estimator.learning_rate == "adaptive"
        self._scheduled = callable(optimizer.learning_rate)
        self._last = 0.0
        if record.rate is None or record.rate_init != estimator.learning_rate_init:
            record.rate = record.rate_init = float(estimator.learning_rate_init)

    def of(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray | None]:
        """What the kernels multiply by in steps `first` to `first + count`: rates, and shares that weights shrink by or None."""
        if not self._scheduled:
            self.optimizer.learning_rate = self.record.rate
        steps = np.arange(first, first + count)
        rates, shrinks = self.optimizer.rates(steps), self.optimizer.shrinks(steps)
        if hasattr(self.optimizer.learning_rate, "cache_clear"):
            self.optimizer.learning_rate.cache_clear()
        self._last = float(rates[-1]) if count else self._last
        return rates, shrinks

    def epoch_ends(self) -> None:
        """An epoch is over, its rows are counted."""
        if self._power is not None:
            self.record.rate = self.record.rate_init / (self.record.rows_seen + 1) ** self._power

    def slow_down(self) -> bool:
        """Take a fifth of the rate, where the schedule is adaptive and the rate not yet too small."""
        if not self.adaptive or self.record.rate <= SMALLEST_RATE:
            return False
        self.record.rate /= 5.0
        return True

    def view(self, step: int) -> OptimizerView:
        """The optimiser after so many steps."""
        return OptimizerView(self._last if self._scheduled else float(self.of(max(step - 1, 0), 1)[0][0]))
