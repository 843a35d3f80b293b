"""What a fit leaves behind for the attributes, and for the fit that goes on from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace

import numpy as np


@dataclass
class FitState:
    """Curves and counts of a fit.

    Attributes
    ----------
    losses, validation_losses, scores : list of float
        Of each epoch.
    best_loss, best_score, best_validation_loss : float
        Of the epochs so far; with early stopping, those of the epoch that is kept.
    stale : int
        Epochs without improvement.
    rows_seen : int
    epochs : int
        Of the last fit.
    rate : float or None
        The learning rate as `invscaling` and `adaptive` have left it; None before the first step of an optimiser.
    rate_init : float or None
        The `learning_rate_init` that it comes from.
    steps : int
        Of the running statistics and of dropout, whatever became of the optimiser.
    seed : int
        Of dropout.
    converged : bool
        Whether the last fit ended because nothing improved.
    """

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    best_validation_loss: float = np.inf
    stale: int = 0
    rows_seen: int = 0
    epochs: int = 0
    rate: float | None = None
    rate_init: float | None = None
    steps: int = 0
    seed: int = 0
    converged: bool = False

    @classmethod
    def of(cls, estimator) -> FitState:
        """A copy of the estimator's own, or what its attributes tell."""
        held = getattr(estimator, "_record", None)
        if held is None:
            return cls(list(getattr(estimator, "loss_curve_", [])), rows_seen=getattr(estimator, "t_", 0))
        return replace(held, losses=[*held.losses], validation_losses=[*held.validation_losses], scores=[*held.scores])

    def to_dict(self) -> dict:
        """JSON-ready values; `from_dict` reads them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> FitState:
        """What `to_dict` gave."""
        return cls(**values)


def attributes(record: FitState, early_stopping) -> dict:
    """The estimator's attributes that say how the fit went."""
    validated = bool(record.scores) or bool(early_stopping)
    return {
        "n_iter_": record.epochs,
        "t_": record.rows_seen,
        "loss_curve_": record.losses,
        **({"loss_": record.losses[-1]} if record.losses else {}),
        "best_loss_": None if early_stopping else record.best_loss,
        "validation_scores_": record.scores if validated else None,
        "validation_loss_curve_": record.validation_losses if validated else None,
        "best_validation_score_": record.best_score if early_stopping else None,
        "_no_improvement_count": record.stale,
    }
