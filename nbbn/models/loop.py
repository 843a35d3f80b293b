"""The loop over epochs of `Sequential.fit`: shuffles, callbacks, validation, figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nbbn import losses
from nbbn.callbacks import CallbackList, History
from nbbn.losses import Loss
from nbbn.metrics import Metric, accuracy_of
from nbbn.models.progress import REFRESH_SECONDS, Silence
from nbbn.trainer import Trainer, batches


@dataclass(frozen=True)
class Rows:
    """Checked data: rows, targets as given, and weights of the rows or None."""

    x: np.ndarray
    y: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self):
        return len(self.x)


@dataclass(frozen=True)
class Measure:
    """What is measured: the loss and the metrics."""

    loss: Loss
    metrics: list[Metric]

    def __call__(self, rows: Rows, outputs: np.ndarray, penalty: float) -> dict[str, float]:
        """The figures of outputs `(n, units)`, by name; weights count in the loss alone, as in Keras."""
        loss = losses.mean_of(self.loss.rows(self.loss.prepare(rows.y), outputs), rows.weights)
        return {"loss": loss + penalty, **{metric.name: metric(rows.y, outputs) for metric in self.metrics}}

    def counted(self) -> list[str]:
        """Names of the metrics that the engine counts while it trains."""
        cls = accuracy_of(self.loss) if self.loss.record.counts_hits else None
        return [m.name for m in self.metrics if type(m) is cls and getattr(m, "threshold", 0.5) == 0.5]

    def others(self) -> list[Metric]:
        """The metrics that are measured by inference once the epoch is over."""
        counted = self.counted()
        return [metric for metric in self.metrics if metric.name not in counted]


def batch_edges(rows: int, batch_size: int, *, merge_single: bool) -> np.ndarray:
    """First row of each batch and, at the end, `rows`. The last batch is as long as the rows that are left.

    With `merge_single` a last batch of one row joins the one before: batch statistics of one row do not exist.
    """
    edges = batches(rows, batch_size, merge_tail=False)
    if merge_single and len(edges) > 2 and edges[-1] - edges[-2] == 1:
        edges = np.delete(edges, -2)
    return edges


@dataclass
class Loop:
    """A fit that is ready to run.

    Attributes
    ----------
    model : Sequential
        Gets `stop_training` from callbacks; told when the trainer's weights are newer than its own.
    trainer : callable
        `() -> Trainer`: the model's at this moment, since a callback may change layers.
    data : Rows
    targets : ndarray
        Those of `data` as the engine takes them.
    edges : ndarray
        Of `batch_edges`.
    order : callable
        `() -> ndarray of int64`: the next epoch's order.
    measure : Measure
    validation : Rows or None
    validation_epochs : int or collection of int
        Validate after every so many epochs, or after these, counted from 1.
    """

    model: object
    trainer: Callable[[], Trainer]
    data: Rows
    targets: np.ndarray
    edges: np.ndarray
    order: Callable[[], np.ndarray]
    measure: Measure
    callbacks: CallbackList
    history: History
    progress: Silence
    validation: Rows | None = None
    validation_epochs: object = 1
    _pace: int = 1  # steps between two movements of the bar

    def run(self, first: int, last: int) -> None:
        """Train epochs `first` to `last`, counted from 0; an exception leaves the weights so far in the model."""
        logs: dict[str, float] = {}
        self.callbacks.call("on_train_begin", {})
        self.history.on_train_begin()
        try:
            for epoch in range(first, last):
                self.callbacks.call("on_epoch_begin", epoch, {})
                self.progress.begin(epoch)
                logs = self.epoch()
                if self._validates(epoch):
                    logs.update({f"val_{name}": value for name, value in self._validate().items()})
                self.callbacks.call("on_epoch_end", epoch, logs)
                self.progress.end(logs)
                self.history.on_epoch_end(epoch, logs)
                if self.model.stop_training:
                    break
        finally:
            self.progress.close()
        self.callbacks.call("on_train_end", logs)

    def _validates(self, epoch: int) -> bool:
        if self.validation is None:
            return False
        if isinstance(self.validation_epochs, int):
            return (epoch + 1) % self.validation_epochs == 0
        return epoch + 1 in self.validation_epochs

    def _validate(self) -> dict[str, float]:
        self.callbacks.call("on_test_begin", {})
        figures = self.measure(self.validation, self.trainer().outputs(self.validation.x), self.model._penalty())
        self.callbacks.call("on_test_end", figures)
        return figures

    def epoch(self) -> dict[str, float]:
        """Train one epoch; its figures."""
        order, steps = self.order(), len(self.edges) - 1
        by_batch, moves = self.callbacks.by_batch, self.progress.moves
        counted, loss, hits, done = self.measure.counted(), 0.0, 0.0, 0
        while done < steps:
            chunk = min(1 if by_batch else self._pace if moves else steps, steps - done)
            if by_batch:
                self.callbacks.batch_begin(done)
            start = time.perf_counter()
            part = self._train(order, done, done + chunk)
            seconds = time.perf_counter() - start
            done += chunk
            loss, hits = loss + part.loss, hits + part.hits
            rows = int(self.edges[done])
            logs = {"loss": loss / rows, **dict.fromkeys(counted, hits / rows)}
            if by_batch:
                self.callbacks.batch_end(done - 1, logs)
                if self.model.stop_training:
                    break
            elif moves and done < steps:
                self._pace = max(1, int(chunk * min(REFRESH_SECONDS / max(seconds, 1e-9), 8)))
            self.progress.advance(done, logs)
        # In the order that the metrics were given.
        if others := self.measure.others():
            outputs = self.trainer().outputs(self.data.x)
            logs |= {metric.name: metric(self.data.y, outputs) for metric in others}
        return {name: logs[name] for name in ("loss", *(metric.name for metric in self.measure.metrics))}

    def _train(self, order: np.ndarray, first: int, last: int):
        """Train steps `first` to `last` of an epoch."""
        trainer, edges = self.trainer(), self.edges[first : last + 1]
        optimizer, steps = trainer.optimizer, np.arange(trainer.step, trainer.step + last - first)
        more = {} if self.data.weights is None else {"weights": self.data.weights}
        if (shrink := optimizer.shrinks(steps)) is not None:
            more["shrink"] = shrink
        self.model._trains()
        part = order[edges[0] : edges[-1]]
        return trainer.epoch(self.data.x, self.targets, part, edges - edges[0], optimizer.rates(steps), **more)
