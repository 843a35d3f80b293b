"""The loop over epochs: shuffling, validation, stopping, callbacks. It follows scikit-learn's, number for number."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import shuffle

from nbbn.trainer import Trainer, batches

# A learning rate below this ends an adaptive schedule (scikit-learn's).
SMALLEST_RATE = 1e-6
NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


@dataclass
class Plan:
    """What a fit runs by; everything validated.

    Attributes
    ----------
    x, y
        The training rows and targets, as `Trainer.epoch` reads them.
    validate : callable or None
        `() -> (loss, score)` of the validation rows at this moment.
    publish : callable
        Makes the estimator's attributes those of this moment, for callbacks that look at them.
    stop_by_score : bool
        Whether the validation score, not the training loss, decides when to stop and which epoch is kept.
    """

    x: np.ndarray
    y: np.ndarray
    epochs: int
    batch_size: int
    merge_tail: bool
    shuffle: bool
    tol: float
    patience: float
    adaptive: bool
    random_state: np.random.RandomState
    validate: Callable[[], tuple[float, float]] | None = None
    stop_by_score: bool = False
    callbacks: tuple[Callable, ...] = ()
    publish: Callable[[], None] = lambda: None
    classifies: bool = False
    verbose: bool = False
    incremental: bool = False


@dataclass
class Record:
    """What a fit leaves behind; continued by `partial_fit` and `warm_start`."""

    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    best_loss: float = np.inf
    best_score: float = -np.inf
    stale: int = 0
    rows_seen: int = 0
    epochs: int = 0
    rate_factor: float = 1.0
    steps: int = 0  # of the running statistics, whatever became of the optimiser


def run(estimator, trainer: Trainer, plan: Plan, record: Record, rates: Callable[[np.ndarray], np.ndarray]) -> None:
    """Train until the plan's epochs are over or a figure has stopped improving.

    `rates` gives the learning rate of each step number. The trainer ends with the last epoch's parameters, or with the best
    epoch's where the validation score decides.
    """
    rows = len(plan.x)
    order = np.arange(rows)
    edges = batches(rows, plan.batch_size, merge_tail=plan.merge_tail)
    best = trainer.snapshot() if plan.stop_by_score and record.best_score > -np.inf else None
    record.epochs = 0
    try:
        for _ in range(plan.epochs):
            if plan.shuffle:
                order = shuffle(order, random_state=plan.random_state)
            steps = np.arange(trainer.step, trainer.step + len(edges) - 1)
            epoch = trainer.epoch(plan.x, plan.y, order, edges, record.rate_factor * rates(steps))
            record.epochs += 1
            record.rows_seen += rows
            record.losses.append(epoch.mean_loss)
            if not np.isfinite(epoch.mean_loss):
                raise ValueError(NOT_FINITE)
            logs = {"epoch": record.epochs, "epochs": plan.epochs, "loss": epoch.mean_loss, "seconds": epoch.seconds}
            if plan.classifies:
                logs["accuracy"] = epoch.accuracy
            if plan.validate is not None:
                logs["val_loss"], logs["val_score"] = plan.validate()
                record.validation_losses.append(logs["val_loss"])
                record.scores.append(logs["val_score"])
            if _improved(plan, record):
                best = trainer.snapshot()
            if plan.verbose:
                _say(logs)
            if plan.callbacks:
                plan.publish()
            wanted_stop = [callback(estimator, dict(logs)) for callback in plan.callbacks]
            if any(stop is True for stop in wanted_stop):
                break
            if record.stale > plan.patience:
                if not _slowed_down(plan, record, rates, trainer.step):
                    break
            if plan.incremental:
                break
        else:
            warnings.warn(
                f"Stochastic Optimizer: Maximum iterations ({plan.epochs}) reached and the optimization hasn't converged yet.",
                ConvergenceWarning,
                stacklevel=4,
            )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=4)
    if best is not None:
        trainer.restore(best)
    if not trainer.is_finite():
        raise ValueError(NOT_FINITE)


def _improved(plan: Plan, record: Record) -> bool:
    """Update the count of epochs without improvement; return whether this epoch's parameters are to be kept."""
    if plan.stop_by_score:
        score = record.scores[-1]
        record.stale = record.stale + 1 if score < record.best_score + plan.tol else 0
        if score > record.best_score:
            record.best_score = score
            return True
        return False
    loss = record.losses[-1]
    record.stale = record.stale + 1 if loss > record.best_loss - plan.tol else 0
    record.best_loss = min(record.best_loss, loss)
    return False


def _slowed_down(plan: Plan, record: Record, rates, step: int) -> bool:
    """Take a fifth of the learning rate for an adaptive schedule; False to stop."""
    what = "Validation score" if plan.stop_by_score else "Training loss"
    message = f"{what} did not improve more than tol={plan.tol:f} for {plan.patience} consecutive epochs."
    rate = record.rate_factor * rates(np.array([step]))[0]
    if plan.adaptive and rate > SMALLEST_RATE:
        record.stale = 0
        record.rate_factor /= 5
        if plan.verbose:
            print(f"{message} Setting learning rate to {rate / 5:f}")
        return True
    if plan.verbose:
        print(f"{message} Stopping.")
    return False


def _say(logs: dict) -> None:
    print(f"Iteration {logs['epoch']}, loss = {logs['loss']:.8f}")
    if "val_score" in logs:
        print(f"Validation score: {logs['val_score']:f}")
