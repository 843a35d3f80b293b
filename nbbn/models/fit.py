"""What `Sequential.fit` does around the steps: callbacks, validation, figures, progress."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn import losses
from nbbn.callbacks import CallbackList, History
from nbbn.group import ALONE, Group
from nbbn.losses import Loss
from nbbn.metrics.base import Metric
from nbbn.metrics.names import counted_accuracy
from nbbn.models.base_model import BaseModel
from nbbn.models.batches import Batches, OutOfData
from nbbn.models.fit_data import outputs_of
from nbbn.models.joint_loss import JointLoss
from nbbn.models.pieces import read
from nbbn.progress import REFRESH_SECONDS, Silence
from nbbn.trainer import Epoch, Kept, Trainer
from nbbn.training_loop import Loop, Samples, Watcher
from nbbn.warning import warn


@dataclass(frozen=True)
class Measure:
    """What is measured: the loss and the metrics."""

    loss: Loss | JointLoss
    metrics: list[Metric]

    def __call__(self, samples: Samples, outputs: np.ndarray, penalty: float,
                 sizes: np.ndarray | None = None) -> dict[str, float]:
        """The figures of outputs `(n, units)`; weights count in the loss alone, as in Keras.

        `sizes` are the rows of each batch.
        """
        outputs = _like_targets(outputs, samples.y, self.loss)
        targets = self.loss.prepare(samples.y)
        rows = self.loss.rows(targets, outputs)
        loss = losses.mean_of(rows, samples.row_weights) + penalty
        own = {}
        if isinstance(self.loss, JointLoss):
            own = self.loss.figures(targets, outputs, samples.row_weights)
        return {"loss": loss, **own, **self._metrics(self.metrics, samples.y, outputs, sizes)}

    @staticmethod
    def _metrics(given: list[Metric], y: np.ndarray, outputs: np.ndarray,
                 sizes: np.ndarray | None) -> dict[str, float]:
        found: dict[str, float] = {}
        for metric in given:
            value = metric.measured(y, outputs, sizes)
            found |= value if isinstance(value, dict) else {str(metric.name): value}
        return found

    @property
    def _counted(self) -> list[str]:
        """The metrics that training counts in passing."""
        cls = None
        if isinstance(self.loss, Loss) and self.loss.record.counts_hits:
            cls = counted_accuracy(self.loss)
        alike = [m for m in self.metrics if type(m) is cls]
        return [str(m.name) for m in alike if getattr(m, "threshold", 0.5) == 0.5]

    @property
    def needs_outputs(self) -> bool:
        """Whether there are metrics that training does not count."""
        return any(str(m.name) not in self._counted for m in self.metrics)

    def passing(self, sums: Epoch) -> dict[str, float]:
        """The figures that training counts in passing, of the rows so far."""
        names = self._counted
        own = self.loss.passed(sums) if isinstance(self.loss, JointLoss) else {}
        return {"loss": sums.loss / sums.rows, **own, **dict.fromkeys(names, sums.hits / sums.rows)}

    def trained(self, sums: Epoch, kept: list[Kept], group: Group = ALONE) -> dict[str, float]:
        """The figures of an epoch; what was not counted is measured on the outputs that it had."""
        figures = self.passing(sums)
        if others := [m for m in self.metrics if m.name not in figures]:
            sizes = np.concatenate([part.sizes for part in kept])

            def measure(y: np.ndarray, found: np.ndarray) -> dict[str, float]:
                # A batch of several processes is in no order.
                own = sizes if group.world is None else None
                return self._metrics(others, y, _like_targets(found, y, self.loss), own)

            targets = np.concatenate([np.asarray(part.targets) for part in kept])
            outputs = np.concatenate([part.outputs for part in kept])
            figures |= group.measured(measure, targets, outputs)
        # In the order that the metrics were given.
        own = self.loss.own_names if isinstance(self.loss, JointLoss) else []
        names = ["loss", *own, *(str(m.name) for m in self.metrics)]
        # A metric of one's own may give several figures, by name.
        return {name: figures[name] for name in names if name in figures} | figures


def sizes_of_batches(rows: int, batch_size: int) -> np.ndarray:
    """Rows of each batch, the last one's what is left."""
    return np.diff(np.append(np.arange(0, rows, batch_size), rows))


def _like_targets(outputs: np.ndarray, y: np.ndarray, loss: Loss | JointLoss) -> np.ndarray:
    """Outputs `(n, units)` as rows of several axes, where the targets are."""
    if loss.takes_labels:
        return outputs.reshape(*y.shape, -1)
    return outputs.reshape(y.shape) if y.ndim > 2 else outputs


class Outputs(Watcher):
    """Looks on, and has what training kept of its outputs."""

    def __init__(self) -> None:
        self.kept: list[Kept] = []

    def part_ends(self, done: int, part: Epoch, so_far: Epoch) -> bool:
        if part.kept is not None:
            self.kept.append(part.kept)
        return False


@dataclass
class Fit(Watcher):
    """A fit that is ready to run."""

    # Gets `stop_training` from callbacks; told when the trainer's weights are newer than its own.
    model: BaseModel
    loop: Loop
    make_trainer: Callable[[], Trainer]  # for the model's layers at this moment
    data: Any  # what is trained on, whose batches may grow
    measure: Measure
    callbacks: CallbackList
    history: History
    progress: Silence
    validation: Samples | Batches | None
    validation_batch: int  # rows of a batch of it
    # Validate after every so many epochs, or after these, counted from 1.
    validation_epochs: int | Collection[int]
    group: Group  # whose process this is; its first one's callbacks are called

    def run(self, first: int, last: int) -> None:
        """Train epochs `first` to `last`; an exception leaves the weights so far in the model."""
        self._pace, self._last = 1, False  # steps between two movements of the bar
        self._logs: dict[str, float] = {}
        self._kept: list[Kept] = []  # of the epoch
        self._by_batch = self.group.from_first(self.callbacks.by_batch)
        self._moves = self.group.from_first(self.progress.moves)
        self._call(self.callbacks.call, "on_train_begin", {})
        self.history.on_train_begin()
        try:
            self.loop.run(first, last, self)
        except OutOfData as error:
            warn(str(error))
        finally:
            self.progress.close()
        self._call(self.callbacks.call, "on_train_end", self._logs)

    def _call(self, function: Callable[..., None], *args: Any) -> None:
        """Call the callbacks; what the first process's have changed is everybody's."""
        group, model = self.group, self.model
        if group.world is None:
            function(*args)
            return

        def call() -> tuple[Any, ...]:
            trainer = self.loop.trainer
            before = trainer.params.copy()
            function(*args)
            if model._trainer_in_use is not trainer:
                raise RuntimeError("a callback has changed layers, or trained by itself: callbacks "
                                   "of a fit on several ranks must not")
            weights = None if np.array_equal(before, trainer.params) else model.get_weights()
            rate = getattr(trainer.optimizer, "learning_rate", None)
            logs = args[-1] if args and isinstance(args[-1], dict) else None
            return model.stop_training, rate if isinstance(rate, float) else None, weights, logs

        model.stop_training, rate, weights, logs = group.at_first(call)
        if group.rank == 0:
            return
        if weights is not None:
            model.set_weights(weights)
        if rate is not None:
            self.loop.trainer.optimizer.learning_rate = rate
        if logs is not None:
            args[-1].update(logs)

    def _trainer(self) -> Trainer:
        """The loop's; a new one where a callback has changed layers, or taken steps by another.

        One with newer weights where it has changed those of layers that models share.
        """
        trainer = self.loop.trainer
        grown = self.data.largest > trainer.rows
        if grown or self.model._trainer_in_use is not trainer or self.model._others_changed():
            self.loop.trainer = self.make_trainer()
        return self.loop.trainer

    def _outputs(self, x: Any) -> np.ndarray:
        return outputs_of(self._trainer().outputs, x)

    # -- the rungs

    def epoch_begins(self, epoch: int) -> None:
        self._call(self.callbacks.call, "on_epoch_begin", epoch, {})
        self.progress.begin(epoch)
        self._kept = []

    def part_begins(self, done: int, left: int) -> int:
        if self._by_batch:
            self._call(self.callbacks.call_batch, "begin", done, {})
        self._trainer()
        self.model._trains()
        count = 1 if self._by_batch else self._pace if self._moves else left
        count = self.group.from_first(count)
        self._last = count >= left
        return min(count, left)

    def part_ends(self, done: int, part: Epoch, so_far: Epoch) -> bool:
        logs = self.measure.passing(so_far)
        if part.kept is not None:
            self._kept.append(part.kept)
        if self._by_batch:
            self._call(self.callbacks.call_batch, "end", done - 1, logs)
            if self.model.stop_training:
                return True
        elif self._moves and not self._last:
            faster = min(REFRESH_SECONDS / max(part.seconds, 1e-9), 8)
            self._pace = max(1, int(self._pace * faster))
        self.progress.advance(done, logs)
        return False

    def epoch_ends(self, epoch: int, whole: Epoch) -> bool:
        logs = self._logs = self.measure.trained(whole, self._kept, self.group)
        self._kept = []
        if self._validates(epoch):
            logs.update({f"val_{name}": value for name, value in self._validate().items()})
        self._call(self.callbacks.call, "on_epoch_end", epoch, logs)
        self.progress.end(logs)
        self.history.on_epoch_end(epoch, logs)
        return self.model.stop_training

    def _validates(self, epoch: int) -> bool:
        if self.validation is None:
            return False
        if isinstance(self.validation_epochs, int):
            return (epoch + 1) % self.validation_epochs == 0
        return epoch + 1 in self.validation_epochs

    def _validate(self) -> dict[str, float]:
        assert self.validation is not None
        self._call(self.callbacks.call, "on_test_begin", {})
        held, penalty = self.validation, self.model._penalty()
        if isinstance(held, Batches):
            samples, found, sizes = read(self.model, held, self._outputs)
            figures = self.measure(samples, found, penalty, sizes)
            self._call(self.callbacks.call, "on_test_end", figures)
            return figures

        def measure(y: np.ndarray, weights: np.ndarray | None,
                    outputs: np.ndarray) -> dict[str, float]:
            return self.measure(Samples(y, y, weights), outputs, penalty,
                                sizes_of_batches(len(y), self.validation_batch))

        figures = self.group.measured(measure, held.y, held.row_weights, self._outputs(held.x))
        self._call(self.callbacks.call, "on_test_end", figures)
        return figures
