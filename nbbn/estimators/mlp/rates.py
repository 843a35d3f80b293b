"""Solvers as the engine's optimisers, and their learning rates in the course of a fit."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn import optimizers, schedules
from nbbn.estimators.mlp.defaults import value_of
from nbbn.estimators.mlp.fit_state import FitState
from nbbn.estimators.mlp.parameters import Parameters
from nbbn.optimizers import Optimizer

# A learning rate below this ends an adaptive schedule (scikit-learn's).
SMALLEST_RATE = 1e-6


@dataclass(frozen=True)
class OptimizerView:
    """What the fit's optimiser came to, as scikit-learn shows it."""

    learning_rate: float  # of the next step; of Adam the last one's, bias corrections included


def optimizer_of(estimator: Parameters, steps: int) -> Optimizer:
    """The optimiser that the parameters describe; `steps` of the whole fit, for schedules."""
    rate = _learning_rate(estimator, steps)
    clip = None if estimator.clip_norm is None else float(estimator.clip_norm)
    epsilon = float(estimator.epsilon)
    if estimator.solver == "sgd":
        momentum, nesterov = float(estimator.momentum), bool(estimator.nesterovs_momentum)
        return optimizers.SGD(rate, momentum, nesterov, global_clipnorm=clip)
    if estimator.solver == "rmsprop":
        return optimizers.RMSprop(rate, 0.9, epsilon=epsilon, global_clipnorm=clip)
    moments = float(estimator.beta_1), float(estimator.beta_2), epsilon
    if estimator.solver == "adamw":
        decay = value_of(estimator, "alpha")
        return optimizers.AdamW(rate, decay, *moments, global_clipnorm=clip)
    return optimizers.Adam(rate, *moments, global_clipnorm=clip)


def _learning_rate(estimator: Parameters, steps: int) -> Any:
    """A number, a schedule, or a function of the step."""
    given, initial = estimator.learning_rate, value_of(estimator, "learning_rate_init")
    if callable(given):  # asked once for each step, by rates and by weight decay together
        return given if isinstance(given, schedules.Schedule) else functools.cache(given)
    if given == "cosine":
        return schedules.CosineDecay(initial, steps)
    if given == "one_cycle":
        return schedules.OneCycle(initial, steps)
    return initial


class Rates:
    """The learning rates of a fit; its state keeps what the schedule has come to."""

    def __init__(self, estimator: Parameters, optimizer: Any, state: FitState):
        self.state, self._optimizer = state, optimizer
        self._power = estimator.power_t if estimator.learning_rate == "invscaling" else None
        self.adaptive = estimator.learning_rate == "adaptive"
        self._scheduled = callable(optimizer.learning_rate)
        self._last = 0.0
        initial = value_of(estimator, "learning_rate_init")
        if state.rate is None or state.rate_init != initial:
            state.rate = state.rate_init = initial

    def of(self, optimizer: Any, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """What the kernels multiply by in some steps: rates, and shares that weights shrink by."""
        if not self._scheduled:
            optimizer.learning_rate = self.state.rate
        rates, shrinks = optimizer.rates(steps), optimizer.shrinks(steps)
        if hasattr(optimizer.learning_rate, "cache_clear"):
            optimizer.learning_rate.cache_clear()
        self._last = float(rates[-1])
        return rates, shrinks

    def epoch_ends(self) -> None:
        """An epoch is over, its rows are counted."""
        state = self.state
        if self._power is not None and state.rate_init is not None:
            state.rate = state.rate_init / (state.rows_seen + 1) ** self._power

    def slow_down(self) -> bool:
        """Take a fifth of the rate, where the schedule is adaptive and it is not yet too small."""
        rate = self.state.rate
        if not self.adaptive or rate is None or rate <= SMALLEST_RATE:
            return False
        self.state.rate = rate / 5.0
        return True

    def view(self, step: int) -> OptimizerView:
        """The optimiser after so many steps."""
        if self._scheduled:
            return OptimizerView(self._last)
        rates, _ = self.of(self._optimizer, np.arange(max(step - 1, 0), max(step, 1)))
        return OptimizerView(float(rates[0]))
