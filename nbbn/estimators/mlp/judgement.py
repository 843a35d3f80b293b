"""When a fit ends, and which epoch is kept. It follows scikit-learn's, number for number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nbbn.estimators.mlp.callbacks import FitCallbacks
from nbbn.estimators.mlp.checkpoint import Checkpoint
from nbbn.estimators.mlp.fit_state import FitState
from nbbn.estimators.mlp.rates import Rates
from nbbn.progress import Silence
from nbbn.trainer import Epoch, Trainer
from nbbn.training_loop import Loop, Watcher, diverged
from nbbn.warning import warn

# What decides when to stop, in words.
_DECIDES = {"loss": "Training loss", "val_score": "Validation score", "val_loss": "Validation loss"}


def check_finite(finite: bool) -> None:
    """ValueError for weights or outputs that are not finite."""
    if not finite:
        raise ValueError("Solver produced non-finite parameter weights. The input data may contain "
                         "large values and need to be preprocessed.")


@dataclass
class Course:
    """What is noted of every epoch, or iteration, and who hears of it."""

    state: FitState
    epochs: int  # the most
    report: Silence
    callbacks: FitCallbacks
    # Loss and score of the validation rows at this moment.
    validate: Callable[[], tuple[float, float]] | None

    def note(self, loss: float, seconds: float, **more: float) -> dict[str, Any]:
        """Note an epoch; its figures, those of the validation rows included."""
        state = self.state
        state.epochs += 1
        state.losses.append(loss)
        logs: dict[str, Any] = {"epoch": state.epochs, "epochs": self.epochs, "loss": loss}
        logs |= {"seconds": seconds, **more}
        if self.validate is not None:
            logs["val_loss"], logs["val_score"] = self.validate()
            state.validation_losses.append(logs["val_loss"])
            state.scores.append(logs["val_score"])
        self.report.end(logs)
        return logs


@dataclass
class Judgement(Watcher):
    """A fit by epochs."""

    course: Course
    trainer: Trainer
    rates: Rates
    rows: int  # how many are trained on
    tol: float  # more epochs than `patience` without an improvement by `tol` end the fit
    patience: float
    # What decides when to stop and, for the latter two, which epoch is kept: the training `loss`,
    # or the validation rows' `val_score` or `val_loss`.
    stop_by: str
    classifies: bool  # whether hits are counted
    incremental: bool  # whether there is one epoch
    checkpoint: Checkpoint | None  # written after every epoch
    best: np.ndarray | None  # snapshot of the best epoch, where one is kept

    def run(self, loop: Loop) -> None:
        """Train until the epochs are over or nothing improves.

        The trainer ends with the last epoch's parameters, or with the best epoch's where the
        validation rows decide; ValueError where they are not finite.
        """
        state, most = self.course.state, self.course.epochs
        if self.stop_by != "loss" and self.best is None:
            self.best = self.trainer.snapshot()
        try:
            ended = state.converged or loop.run(state.epochs, most, self)
            if self.best is None and (what := diverged(state.losses[-state.epochs:])):
                warn(f"Training diverged: {what}; lower learning_rate_init, scale X, or set "
                     "clip_norm.", ConvergenceWarning)
            elif not ended:
                warn(f"Stochastic Optimizer: Maximum iterations ({most}) reached and the "
                     "optimization hasn't converged yet.", ConvergenceWarning)
        except KeyboardInterrupt:
            warn("Training interrupted by user.")
        finally:
            self.course.report.close()
        if self.best is not None:
            self.trainer.restore(self.best)
        check_finite(self.trainer.is_finite())

    def epoch_begins(self, epoch: int) -> None:
        self.course.callbacks.epoch_begins()

    def epoch_ends(self, epoch: int, whole: Epoch) -> bool:
        state, loss = self.course.state, whole.loss / self.rows
        if self.best is None and not np.isfinite(loss):
            check_finite(self.trainer.is_finite())
        state.rows_seen += self.rows
        hits = {"accuracy": whole.hits / self.rows} if self.classifies else {}
        logs = self.course.note(loss, whole.seconds, **hits)
        if self._improved():
            self.best = self.trainer.snapshot()
        self.rates.epoch_ends()
        if state.stale > self.patience:
            self._slow_down()
        if self.checkpoint is not None:
            self.checkpoint.save(self.trainer, state, self.best)
        stops = self.course.callbacks.epoch_ends(logs)
        return stops or state.converged or self.incremental

    def _improved(self) -> bool:
        """Count epochs without improvement; whether this epoch's parameters are to be kept."""
        state, tol = self.course.state, self.tol
        if self.stop_by == "loss":
            loss, best = state.losses[-1], state.best_loss
            state.stale = state.stale + 1 if loss > best - tol else 0
            state.best_loss = loss if loss < best else best
            return False
        if self.stop_by == "val_score":
            score, best = state.scores[-1], state.best_score
            stale, better = score < best + tol, score > best
        else:
            loss, best = state.validation_losses[-1], state.best_validation_loss
            stale, better = not loss <= best - tol, loss < best
            state.best_validation_loss = loss if better else best
        state.stale = state.stale + 1 if stale else 0
        state.best_score = state.scores[-1] if better else state.best_score
        return better

    def _slow_down(self) -> None:
        """Lower the rate of an adaptive schedule, or end the fit."""
        state, say = self.course.state, self.course.report.say
        message = (f"{_DECIDES[self.stop_by]} did not improve more than tol={self.tol:f} for "
                   f"{self.patience} consecutive epochs.")
        if self.rates.slow_down():
            state.stale = 0
            say(f"{message} Setting learning rate to {state.rate:f}")
            return
        say(f"{message} {'Learning rate too small. ' if self.rates.adaptive else ''}Stopping.")
        state.converged = True
