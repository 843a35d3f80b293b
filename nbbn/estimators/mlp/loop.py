"""The loop over epochs: shuffling, validation, stopping, callbacks. It follows scikit-learn's, number for number."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from sklearn.exceptions import ConvergenceWarning

from nbbn.estimators.lazy_rows import LazyRows, Rows
from nbbn.estimators.mlp.fit_state import FitState
from nbbn.estimators.mlp.progress import Silence
from nbbn.estimators.mlp.rates import Rates
from nbbn.trainer import Epoch, Trainer, batches

NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


@dataclass(frozen=True)
class Samples:
    """Training rows, as the trainer reads them.

    Attributes
    ----------
    x : Rows
    y : ndarray
    weights : ndarray or None
    chosen : ndarray of int64 or None
        Which of the rows are trained on; None for all.
    """

    x: Rows
    y: np.ndarray
    weights: np.ndarray | None = None
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.x) if self.chosen is None else len(self.chosen)


@dataclass(frozen=True)
class Plan:
    """What a fit runs by; everything validated.

    Attributes
    ----------
    stop_by : str
        What decides when to stop and, for the latter two, which epoch is kept: the training `loss`, or the validation rows'
        `val_score` or `val_loss`.
    patience : float
        Epochs without improvement by `tol` that are put up with.
    """

    epochs: int
    batch_size: int
    merge_tail: bool
    shuffle: bool
    tol: float
    patience: float
    random_state: np.random.RandomState
    stop_by: str = "loss"
    classifies: bool = False
    incremental: bool = False


@dataclass
class Loop:
    """A fit by epochs that is ready to run.

    Attributes
    ----------
    validate : callable or None
        `() -> (loss, score)` of the validation rows at this moment.
    epoch_begins, epoch_ends : callable
        For callbacks; the latter takes the epoch's figures and says whether to stop.
    save : callable
        `save(best)`: for a checkpoint, with the snapshot of the best epoch or None.
    best : ndarray or None
        Snapshot of the best epoch, where one is kept.
    """

    trainer: Trainer
    samples: Samples
    plan: Plan
    record: FitState
    rates: Rates
    report: Silence
    validate: Callable[[], tuple[float, float]] | None = None
    epoch_begins: Callable[[], None] = lambda: None
    epoch_ends: Callable[[dict], bool] = lambda logs: False
    save: Callable[[np.ndarray | None], None] = lambda best: None
    best: np.ndarray | None = None

    def run(self) -> None:
        """Train until the plan's epochs are over or nothing improves.

        The trainer ends with the last epoch's parameters, or with the best epoch's where the validation rows decide.

        Raises
        ------
        ValueError
            For weights that are not finite.
        """
        plan, record = self.plan, self.record
        if plan.stop_by != "loss" and self.best is None:
            self.best = self.trainer.snapshot()
        orders = self._orders()
        for _ in range(record.epochs):  # a resumed fit has had these
            next(orders)
        try:
            while record.epochs < plan.epochs and not record.converged:
                self.epoch_begins()
                logs = self._epoch(next(orders))
                stops = self.epoch_ends(logs)
                if stops or record.converged or plan.incremental:
                    break
            else:
                self._warn_of_the_end()
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=6)
        finally:
            self.report.close()
        if self.best is not None:
            self.trainer.restore(self.best)
        if not self.trainer.is_finite():
            raise ValueError(NOT_FINITE)

    def _warn_of_the_end(self) -> None:
        if self.record.converged:
            return
        warnings.warn(
            f"Stochastic Optimizer: Maximum iterations ({self.plan.epochs}) reached and the optimization hasn't converged yet.",
            ConvergenceWarning,
            stacklevel=7,
        )

    def _orders(self) -> Iterator[np.ndarray]:
        """The order of the rows in each epoch."""
        order = np.arange(len(self.samples))
        while True:
            if self.plan.shuffle:  # as sklearn.utils.shuffle does, without its 0.2 ms of checks
                moved = np.arange(len(order))
                self.plan.random_state.shuffle(moved)
                order = order[moved]
            yield order if self.samples.chosen is None else self.samples.chosen[order]

    # -- an epoch

    def _epoch(self, order: np.ndarray) -> dict:
        """Train, measure and judge; the figures."""
        record, rows = self.record, len(self.samples)
        epoch = self._train(order, batches(rows, self.plan.batch_size, merge_tail=self.plan.merge_tail))
        record.epochs += 1
        record.rows_seen += rows
        loss = epoch.loss / rows
        record.losses.append(loss)
        if self.best is None and not np.isfinite(loss) and not self.trainer.is_finite():
            raise ValueError(NOT_FINITE)
        logs = {"epoch": record.epochs, "epochs": self.plan.epochs, "loss": loss, "seconds": epoch.seconds}
        if self.plan.classifies:
            logs["accuracy"] = epoch.hits / rows
        if self.validate is not None:
            logs["val_loss"], logs["val_score"] = self.validate()
            record.validation_losses.append(logs["val_loss"])
            record.scores.append(logs["val_score"])
        self.report.epoch(logs)
        if self._improved():
            self.best = self.trainer.snapshot()
        self.rates.epoch_ends()
        if record.stale > self.plan.patience:
            self._slow_down()
        self.save(self.best)
        return logs

    def _train(self, order: np.ndarray, edges: np.ndarray) -> Epoch:
        order, edges = self._with_weight(order, edges)
        rates, shrinks = self.rates.of(self.trainer.step, len(edges) - 1)
        whole = Epoch(0, 0.0, 0.0, 0.0)
        for first, end in self._parts(edges):
            shrink = None if shrinks is None else shrinks[first:end]
            part = self._train_part(order[edges[first] : edges[end]], edges[first : end + 1] - edges[first], rates[first:end],
                                    shrink)
            whole = Epoch(whole.rows + part.rows, whole.loss + part.loss, whole.hits + part.hits, whole.seconds + part.seconds)
        return whole

    def _train_part(self, order: np.ndarray, edges: np.ndarray, rates: np.ndarray, shrink: np.ndarray | None) -> Epoch:
        x, y, weights = self.samples.x, self.samples.y, self.samples.weights
        if isinstance(x, LazyRows):
            x, y, weights = x[order], y[order], None if weights is None else weights[order]
            order = np.arange(len(order))
        return self.trainer.epoch(x, y, order, edges, rates, weights, shrink)

    def _with_weight(self, order: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Without the batches whose weights sum to 0, which have no mean."""
        if self.samples.weights is None:
            return order, edges
        empty = np.add.reduceat(self.samples.weights[order], edges[:-1]) == 0
        if not empty.any():
            return order, edges
        sizes = np.diff(edges)
        return order[np.repeat(~empty, sizes)], np.append(0, np.cumsum(sizes[~empty]))

    def _parts(self, edges: np.ndarray) -> list[tuple[int, int]]:
        """First and last batch of what is trained in one go: all, unless the rows become dense a part at a time."""
        steps = size = len(edges) - 1
        if isinstance(self.samples.x, LazyRows) and steps:
            size = max(1, self.samples.x.rows_of_a_part // int(np.diff(edges).max()))
        return [(first, min(first + size, steps)) for first in range(0, steps, max(1, size))]

    # -- judgement

    def _improved(self) -> bool:
        """Update the count of epochs without improvement; whether this epoch's parameters are to be kept."""
        record, tol = self.record, self.plan.tol
        if self.plan.stop_by == "val_score":
            score = record.scores[-1]
            record.stale = record.stale + 1 if score < record.best_score + tol else 0
            if score > record.best_score:
                record.best_score = score
                return True
            return False
        if self.plan.stop_by == "val_loss":
            loss = record.validation_losses[-1]
            record.stale = 0 if loss <= record.best_validation_loss - tol else record.stale + 1
            if loss < record.best_validation_loss:
                record.best_validation_loss, record.best_score = loss, record.scores[-1]
                return True
            return False
        loss = record.losses[-1]
        record.stale = record.stale + 1 if loss > record.best_loss - tol else 0
        record.best_loss = loss if loss < record.best_loss else record.best_loss
        return False

    def _slow_down(self) -> None:
        """Lower the rate of an adaptive schedule, or end the fit."""
        record, plan = self.record, self.plan
        what = {"loss": "Training loss", "val_score": "Validation score", "val_loss": "Validation loss"}[plan.stop_by]
        message = f"{what} did not improve more than tol={plan.tol:f} for {plan.patience} consecutive epochs."
        if self.rates.slow_down():
            record.stale = 0
            self.report.say(f"{message} Setting learning rate to {record.rate:f}")
            return
        self.report.say(f"{message} {'Learning rate too small. ' if self.rates.adaptive else ''}Stopping.")
        record.converged = True
