"""A fit of several processes: what they agree on before a step, and what each has of the rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from nbbn import inputs
from nbbn.callbacks import History
from nbbn.group import Group
from nbbn.models.batches import Batches, in_batches
from nbbn.models.checked_data import CheckingModel, Data, first_rows, refuse_beside
from nbbn.models.fit import Measure
from nbbn.models.fit_data import InMemory, Streamed, loaded
from nbbn.partitions.partitions import Partitions
from nbbn.trainer import Trainer
from nbbn.training_loop import Samples, diverged
from nbbn.warning import warn


class GroupedModel(CheckingModel):
    """A model whose fits may be of several processes, mostly of one."""

    # What weights of rows mean in training: as `Trainer`'s `weighted`.
    _weighting: bool | str = True

    # Of a group, rows, targets and `fit`'s arguments.
    _fit: Callable[..., History]

    def fit_in_group(self, group: Group, x: Any, y: Any, sample_weight: Any, x_val: Any, y_val: Any,
                     **given: Any) -> History:
        """`fit` on the rows of all processes of a group; `nbbn.distributed.fit` calls it."""
        if "validation_data" in given:
            raise TypeError("give each rank's part of validation_data as X_val and y_val")
        held = (x_val, y_val) if group.any_true(x_val is not None) else None
        with self._own_trainer_after(group):
            history = self._fit(group, x, y, sample_weight=sample_weight, validation_data=held,
                                **given)
        self._warn_of_divergence(history)
        return history

    def train_in_group(self, group: Group, samples: Samples, y: np.ndarray, validation: Any,
                       **given: Any) -> History:
        """`fit` on checked rows with the targets `y`; what estimators around it call."""
        x, held = samples.x, validation
        if group.world is not None:
            x = x if len(x) else None
            held = validation and (validation[0] if len(validation[0]) else None, *validation[1:])
        with self._own_trainer_after(group):
            return self._fit(group, x, y, sample_weight=samples.row_weights, validation_data=held,
                             **given)

    def _warn_of_divergence(self, history: History) -> None:
        # A callback that has ended the fit has seen the figures.
        if not self.stop_training and (what := diverged(history.history.get("loss", []))):
            warn(f"training diverged: {what}; lower the learning rate, scale x, or clip gradients "
                 "(clipnorm)")

    @contextmanager
    def _own_trainer_after(self, group: Group) -> Iterator[None]:
        """Behind it a trainer of several processes is no more."""
        try:
            yield
        finally:
            if self._compiled is not None and group.world is not None:
                self._pull()
                self._compiled.release()

    def _build_in_group(self, group: Group, x: Any) -> None:
        """The weights of the group's first process, in all of them."""
        if group.world is None:
            return
        with group.together():
            shape = None if x is None else inputs.row_shape(x)
        if not self.built:
            self._layers.build(group.agreed("rows of shape", shape))
        self._pull()
        compiled, layers = self._require_compiled("fit"), self._layers
        weights, (layers.seed, self._shuffles), training = group.from_first(
            (self.network().weights, (layers.seed, self._shuffles),
             (compiled.state(), compiled.step, compiled.norm_step)))
        if group.rank > 0:
            for entry, arrays in zip(layers.entries, weights):
                entry.take({name: arrays[name] for name in entry.known_arrays()})
            self._predictors.clear()
            compiled.release()
            compiled.resume(*training)

    def _samples_in_group(self, group: Group, x: Any, y: Any, sample_weight: Any = None,
                          class_weight: Any = None, prefix: str = "") -> Samples:
        """As `_samples`; without rows where a process has none."""
        if group.world is None:
            return self._samples(x, y, sample_weight, class_weight, prefix)
        samples = None
        with group.together():
            if x is not None:
                samples = self._samples(x, y, sample_weight, class_weight, prefix)
        weighted = group.agreed(f"{prefix}sample_weight given", None if samples is None
                                   else samples.row_weights is not None)
        if samples is not None:
            return samples
        compiled, layers = self._require_compiled("fit"), self._layers
        (before, *_, after), labels = layers.shapes, compiled.loss.takes_labels
        compiled.tail(layers)
        targets = np.empty((0, *after[:-1]), np.int64) if labels else np.empty((0, *after),
                                                                               layers.dtype)
        return Samples(np.empty((0, *before), layers.dtype), targets,
                       np.empty(0) if weighted else None)

    def _fit_data(self, group: Group, x: Any, y: Any, sample_weight: Any,
                  class_weight: Any, steps: int | None) -> InMemory | Streamed:
        """Checked data, in memory or in partitions; builds the model where these tell its shape."""
        if not isinstance(x, Partitions):
            samples = self._samples_in_group(group, x, y, sample_weight, class_weight)
            return InMemory(samples, group.count(len(samples)), group, steps)
        if steps is not None:
            raise ValueError("steps_per_epoch is not supported for Partitions, got "
                             f"{steps}; leave it out: all rows are used")
        refuse_beside("Partitions", y=y, sample_weight=sample_weight)
        if not x.fit_into_window:
            headers = x.headers()
            if not any(header.rows for header in headers):
                raise ValueError("the partitions hold no rows")
            return Streamed(x, headers, self._rules(headers[0], class_weight))
        parts = list(x.with_headers())
        whole = loaded(parts, x, self._rules(parts[0][1], class_weight))
        samples = self._samples(*whole, class_weight)
        return InMemory(samples, len(samples))

    def _validation(self, group: Group, given: Any, steps: int | None,
                    batch_size: int) -> Samples | Batches:
        if isinstance(given, Partitions):
            return self._many_samples(given)
        if group.world is None and in_batches(given):
            return Batches(given, "validation_data", steps, "validation_steps")
        found = self._samples_in_group(group, *inputs.split_validation(given),
                                       prefix="validation ")
        return first_rows(found, steps, batch_size)

    def _trainer(self, data: Data, rows: int) -> Trainer:
        weighted = self._weighting if data.weighted else False
        if self._others_train():
            self._pull()
        compiled = self._require_compiled("fit")
        keeps = Measure(compiled.loss, compiled.metrics(self._units())).needs_outputs
        return compiled.trainer_for(self._layers, data.source, rows, weighted=weighted,
                                    group=data.group, keeps=keeps)
