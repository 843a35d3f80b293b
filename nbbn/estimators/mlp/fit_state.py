"""What a fit leaves behind: its attributes, and the state that the next fit goes on from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nbbn.estimators.mlp.architecture import Architecture
from nbbn.estimators.mlp.mlp_task import MLPTask
from nbbn.estimators.mlp.parameters import Parameters


@dataclass
class FitState:
    """Curves and counts of a fit."""

    # Of each epoch.
    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    # Of the epochs so far; with early stopping, those of the epoch that is kept.
    best_loss: float = np.inf
    best_score: float = -np.inf
    best_validation_loss: float = np.inf
    stale: int = 0  # epochs without improvement
    rows_seen: int = 0
    epochs: int = 0  # of the last fit
    # As `invscaling` and `adaptive` have left it, and the `learning_rate_init` that it comes from;
    # None before the first step of an optimiser.
    rate: float | None = None
    rate_init: float | None = None
    steps: int = 0  # of the running statistics and of dropout, whatever became of the optimiser
    seed: int = 0  # of dropout
    converged: bool = False  # whether the last fit ended because nothing improved

    @classmethod
    def going_on(cls, estimator: Fitted) -> FitState:
        """A copy of the estimator's own, or what its attributes tell."""
        held = getattr(estimator, "_fit_state", None)
        if held is None:
            losses = list(getattr(estimator, "loss_curve_", []))
            return cls(losses, rows_seen=getattr(estimator, "t_", 0))
        curves = ("losses", "validation_losses", "scores")
        return replace(held, **{name: [*getattr(held, name)] for name in curves})

    def attributes(self, early_stopping: bool | str) -> dict[str, Any]:
        """The estimator's attributes that say how the fit went."""
        validated = bool(self.scores) or bool(early_stopping)
        return {"n_iter_": self.epochs, "t_": self.rows_seen, "loss_curve_": self.losses,
                **({"loss_": self.losses[-1]} if self.losses else {}),
                "best_loss_": None if early_stopping else self.best_loss,
                "validation_scores_": self.scores if validated else None,
                "validation_loss_curve_": self.validation_losses if validated else None,
                "best_validation_score_": self.best_score if early_stopping else None,
                "_no_improvement_count": self.stale}


class Fitted(Parameters):
    """What a fit gives an MLP."""

    coefs_: list[np.ndarray]
    intercepts_: list[np.ndarray]
    n_features_in_: int
    n_layers_: int
    n_outputs_: int
    out_activation_: str
    loss_: float

    _architecture: Architecture
    _dtype: np.dtype
    _fit_state: FitState
    _task: MLPTask
    _training: dict[str, Any] | None  # solver, optimiser's state and steps, for `partial_fit`
    # The compiled step of the last `partial_fit`, and what it was compiled for.
    _trainer: tuple[Any, Any] | None
    # The output layer's arrays, and what they were in training on standardised targets.
    _output: tuple[dict[str, np.ndarray], dict[str, np.ndarray]] | None
    # Compiled networks up to a layer, for sparse rows or not, with the arrays they were made from.
    _predictors: dict[tuple[int, bool], tuple[list[np.ndarray], Any]]
