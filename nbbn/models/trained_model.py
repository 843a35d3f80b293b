"""Training, measuring and saving of models, as in Keras."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from numbers import Integral, Real
from typing import Any

import numpy as np

from nbbn import inputs
from nbbn.callbacks import CallbackList, History
from nbbn.formats import native, of_layers
from nbbn.formats.files import FileError
from nbbn.group import ALONE, KEY_BYTES, Group, Order
from nbbn.losses import Loss
from nbbn.models.base_model import BaseModel, whole
from nbbn.models.compiled import Compiled, needs_batches
from nbbn.models.fit import Fit, Measure
from nbbn.models.fit_data import (
    InMemory,
    Rules,
    Streamed,
    loaded,
    many_rows,
    outputs_of,
    targets_of,
)
from nbbn.models.joint_loss import JointLoss
from nbbn.models.pieces import Batches, InPieces, in_batches, read
from nbbn.models.short_fit import running_statistics, tell
from nbbn.names import suggested
from nbbn.network import Network
from nbbn.optimizers import Optimizer
from nbbn.partitions.partitions import Partitions
from nbbn.partitions.sources import Header
from nbbn.progress import check_verbose, epoch_reporter, steps_line
from nbbn.trainer import Trainer, batches
from nbbn.training_loop import Loop, Samples, Watcher, diverged, in_memory
from nbbn.warning import warn

_BATCH_SIZE = 32

Path = str | os.PathLike[str]
Figures = float | list[float] | dict[str, float]
Data = InMemory | Streamed | InPieces


class TrainedModel(BaseModel):
    """Training of a model's layers, however they read each other."""

    # What weights of rows mean in training: as `Trainer`'s `weighted`.
    _weighting: bool | str = True
    # Orders of rows drawn so far.
    _shuffles = 0

    # -- training

    @suggested
    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None,
                metrics: Any = None, weighted_metrics: None = None, run_eagerly: Any = False,
                steps_per_execution: Any = 1, jit_compile: Any = "auto",
                auto_scale_loss: Any = True) -> None:
        """Say how to train. The optimiser starts afresh; the weights stay.

        Parameters
        ----------
        optimizer : str or Optimizer
            Of `nbbn.optimizers`.
        loss : str or Loss
            Of `nbbn.losses`. For several outputs a list of them, or a dict by the outputs' names.
        loss_weights : list or dict, optional
            For several outputs: what their losses are multiplied by before they are added.
        metrics : list of (str or Metric), optional
            Of `nbbn.metrics`; `"accuracy"` follows the loss. For several outputs a list of lists,
            or a dict.
        weighted_metrics : None
            Not supported.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Keras's; without effect.

        Raises
        ------
        TypeError, ValueError
            For unknown names, objects of other kinds, and arguments that are not supported.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, activation="softmax", input_shape=(4,))])
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> model.optimizer, model.compiled
        (Adam(), True)
        """
        if weighted_metrics is not None:
            raise ValueError("compile: weighted_metrics is not supported, got "
                             f"{weighted_metrics!r}; leave it out")
        norm_step = 0 if self._compiled is None else self._compiled.norm_step
        compiled = self._made_of(optimizer, loss, loss_weights, metrics, norm_step)
        self._pull()
        self._compiled = compiled
        self._predictors.clear()

    def _made_of(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any,
                 norm_step: int) -> Compiled:
        if loss_weights is not None:
            raise ValueError("compile: loss_weights is not supported for a model of one output, "
                             f"got {loss_weights!r}; leave it out")
        return Compiled.of(optimizer, loss, metrics, norm_step)

    def _made_again(self, meta: dict[str, Any]) -> Compiled:
        """What `Compiled.config` described."""
        return Compiled.of(meta["optimizer"], meta["loss"], meta["metrics"])

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    @property
    def optimizer(self) -> Optimizer:
        """The optimiser of the last `compile`."""
        return self._require_compiled("optimizer").optimizer

    @property
    def loss(self) -> Loss | JointLoss:
        """The loss of the last `compile`."""
        return self._require_compiled("loss").loss

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, schedules included."""
        compiled = self._require_compiled("learning_rate")
        return float(compiled.optimizer.learning_rates(np.array([compiled.step]))[0])

    @property
    def metrics_names(self) -> list[str]:
        """`loss` and the metrics' names, in the order that `evaluate` gives them."""
        compiled = self._require_compiled("metrics_names")
        own = compiled.loss.own_names if isinstance(compiled.loss, JointLoss) else []
        metrics = compiled.metrics(None)
        return ["loss", *own, *(str(metric.name) for metric in metrics)]

    def metric_directions(self) -> dict[str, bool]:
        """For each metric, and each loss of several outputs, whether larger is better."""
        compiled = self._require_compiled("metric_directions")
        own = compiled.loss.own_names if isinstance(compiled.loss, JointLoss) else []
        metrics = compiled.metrics(self._units())
        return {**dict.fromkeys(own, False), **{str(metric.name): metric.rises
                                                for metric in metrics}}

    def _units(self) -> int | None:
        return self._layers.shapes[-1][-1] if self.built else None

    @suggested
    def fit(self, x: Any = None, y: Any = None, batch_size: int | None = None, epochs: int = 1,
            verbose: Any = "auto", callbacks: Any = None, validation_split: float = 0.0,
            validation_data: Any = None, shuffle: bool = True,
            class_weight: dict[int, float] | None = None, sample_weight: Any = None,
            initial_epoch: int = 0, steps_per_epoch: int | None = None,
            validation_steps: int | None = None, validation_batch_size: int | None = None,
            validation_freq: int | Collection[int] = 1) -> History:
        """Train for some epochs; a further call goes on, the optimiser included.

        Parameters
        ----------
        x : array-like of shape (n, ...), Partitions, or batches
            Rows. Integers (images of uint8) are converted batch by batch; float64 becomes float32
            where the model computes in it. `nbbn.Partitions` hold targets and weights, too, and
            are read again every epoch. Of several inputs a list, or a dict by the names of `Input`.
            Batches `(x, y)` or `(x, y, sample_weight)` come from a generator, a
            `nbbn.utils.PyDataset`, or anything else that can be gone over; a thread asks for them
            while the network trains.
        y : array-like
            Class indices `(n,)` or `(n, 1)` for `sparse_categorical_crossentropy`, else rows like
            the outputs. None with partitions and batches. For several outputs a list, or a dict by
            name.
        batch_size : int
            Rows of a batch, 32 by default; the last one has what is left. Without effect on
            batches, which are as they come.
        epochs : int
            The epoch to end with, counted from `initial_epoch`.
        verbose : {"auto", 0, 1, 2}
            1 and auto: a bar for each epoch on a terminal or in a notebook, a line in a log; 2: a
            line; 0: nothing.
        callbacks : list of Callback
            Of `nbbn.callbacks`.
        validation_split : float
            Share of the rows, the last ones before any shuffle, to validate on instead of training.
        validation_data : tuple, Partitions, or batches
            `(x, y)` or `(x, y, sample_weight)` to validate on after every epoch.
        shuffle : bool
            Whether every epoch takes the rows in an order of its own; of batches those that are
            asked for by number, as of a `PyDataset`, and the batches alone.
        class_weight : dict
            From class index to weight of the loss; 1 where left out. Not beside `sample_weight`.
        sample_weight : array-like of shape (n,)
            Weight of each row's loss; a batch's loss is the sum of weight times loss, over its
            number of rows.
        initial_epoch : int
            The first epoch's number, counted from 0.
        steps_per_epoch : int
            Batches of an epoch, for an iterator that does not end; the next epoch goes on where
            this one has stopped. None: all.
        validation_steps : int
            Batches to validate on, from the first on. None: all.
        validation_batch_size : int
            What a batch is to `validation_steps`; None: `batch_size`.
        validation_freq : int or collection of int
            Validate after every so many epochs, or after these, counted from 1.

        Returns
        -------
        History
            `.history` holds `loss`, the metrics and, with `val_` in front, those of the validation,
            a float for each epoch.

        Raises
        ------
        RuntimeError
            Before `compile`.
        TypeError, ValueError
            For data that do not fit the model or each other, before any step is taken.

        Warns
        -----
        UserWarning
            Where the loss ends as NaN, or at more than ten times that of the first epoch, and no
            callback has ended the fit.
        nbbn.warning.ShortFitWarning
            Where the validation is bad only because the running statistics of batch norms have not
            left their start yet (momentum 0.99 keeps 15 % of it for 188 batches): `recalibrate`,
            train longer, or take a smaller momentum.

        Notes
        -----
        The loss of an epoch is the mean over its rows of what each batch had before its update,
        penalties included. Interrupted (Ctrl-C), the model keeps the weights so far. Of batches
        that come one after the other, metrics that training does not count are measured in
        inference as soon as each has been trained on.

        Examples
        --------
        >>> import numpy as np
        >>> import nbbn
        >>> nbbn.set_random_seed(0)
        >>> x = np.random.default_rng(0).normal(size=(256, 2)).astype("float32")
        >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(2,))])
        >>> model.compile(nbbn.optimizers.SGD(0.1), "mse")
        >>> history = model.fit(x, x.sum(1), epochs=20, validation_split=0.25, verbose=0)
        >>> history.history["val_loss"][-1] < 1e-3
        True
        """
        history = self._fit(ALONE, x, y, batch_size, epochs, verbose, callbacks, validation_split,
                            validation_data, shuffle, class_weight, sample_weight, initial_epoch,
                            steps_per_epoch, validation_steps, validation_batch_size,
                            validation_freq)
        self._warn_of_divergence(history)
        return history

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

    def _warn_of_divergence(self, history: History) -> None:
        # A callback that has ended the fit has seen the figures.
        if not self.stop_training and (what := diverged(history.history.get("loss", []))):
            warn(f"training diverged: {what}; lower the learning rate, scale x, or clip gradients "
                 "(clipnorm)")

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

    @contextmanager
    def _own_trainer_after(self, group: Group) -> Iterator[None]:
        """Behind it a trainer of several processes is no more."""
        try:
            yield
        finally:
            if self._compiled is not None and group.world is not None:
                self._pull()
                self._compiled.release()

    def _fit(self, group: Group, x: Any, y: Any, batch_size: int | None = None, epochs: int = 1,
             verbose: Any = "auto", callbacks: Any = None, validation_split: float = 0.0,
             validation_data: Any = None, shuffle: bool = True,
             class_weight: dict[int, float] | None = None, sample_weight: Any = None,
             initial_epoch: int = 0, steps_per_epoch: Any = None, validation_steps: Any = None,
             validation_batch_size: Any = None,
             validation_freq: int | Collection[int] = 1) -> History:
        """`fit` on a process's rows; None for `x` says that it has none."""
        compiled = self._require_compiled("fit")
        steps, held_steps = _steps(steps_per_epoch=steps_per_epoch,
                                   validation_steps=validation_steps)
        verbose = check_verbose(verbose)
        batch_size = whole("batch_size", _BATCH_SIZE if batch_size is None else batch_size, 1)
        epochs = whole("epochs", epochs, 0)
        initial_epoch = whole("initial_epoch", initial_epoch, 0)
        if not isinstance(shuffle, (bool, np.bool_)):
            raise ValueError(f"shuffle must be True or False, got {shuffle!r}")
        held_size = batch_size if validation_batch_size is None else whole(
            "validation_batch_size", validation_batch_size, 1)
        frequency = _frequency(validation_freq)
        with ExitStack() as opened:
            with self._layers.unbuilt_on_error():
                self._build_in_group(group, x)
                data: Data
                validation: Samples | Batches | None = None
                if group.world is None and in_batches(x, y):
                    _refuse_beside("batches", y=y, sample_weight=sample_weight)
                    data = InPieces(self, Batches(x, "x", steps), class_weight, shuffle)
                    opened.callback(data.close)
                else:
                    data = self._fit_data(group, x, y, sample_weight, class_weight, steps)
                if validation_data is not None:
                    validation = self._validation(group, validation_data, held_steps, held_size)
                elif validation_split:
                    data, validation = _split(data, validation_split)
                    if class_weight is not None:
                        validation = replace(validation, row_weights=None)
                    validation = _first_rows(validation, held_steps, held_size)
                edges = self._edges(data, batch_size)
                largest = int(np.diff(edges).max())
                trainer = self._trainer(data, largest)
            count = data.steps_of(edges)
            params = {"verbose": verbose, "epochs": epochs, "steps": count()}
            history = History()
            history.set_model(self)
            history.set_params(params)
            self.stop_training = False
            first = group.rank == 0
            called = opened.enter_context(
                CallbackList(callbacks if first else None, self, params))
            planned = opened.enter_context(data.plans(self, compiled.loss, edges, shuffle,
                                                      max(0, epochs - initial_epoch)))
            fit = Fit(self, Loop(trainer, planned),
                      lambda: self._trainer(data, max(largest, data.largest)),
                      data if isinstance(data, InPieces) else data.samples,
                      Measure(compiled.loss, compiled.metrics(self._units())), called, history,
                      epoch_reporter(verbose if first else 0, epochs, count), validation,
                      frequency, group)
            before = running_statistics(self._layers.network()) if validation is not None else {}
            began = compiled.norm_step
            fit.run(initial_epoch, epochs)
        if before and group.world is None:
            self._pull()
            tell(compiled.with_tail(self._layers), before, compiled.norm_step - began,
                 compiled.loss, validation, history.history)
        return history

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

    def train_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None,
                       class_weight: dict[int, float] | None = None,
                       return_dict: bool = False) -> Figures:
        """Take one step on these rows.

        Parameters
        ----------
        x, y, sample_weight, class_weight
            As of `fit`.
        return_dict : bool
            Give the figures by name.

        Returns
        -------
        float, list of float or dict
            The loss, or loss and metrics, of this batch before the update (`metrics_names`).

        Raises
        ------
        RuntimeError, TypeError, ValueError
            As `fit`.

        Notes
        -----
        `gradient_accumulation_steps` plays no part: the rows given are one step. Metrics are this
        batch's own.

        Examples
        --------
        >>> import nbbn
        >>> dense = nbbn.layers.Dense(1, kernel_initializer="zeros", input_shape=(1,))
        >>> model = nbbn.Sequential([dense])
        >>> model.compile(nbbn.optimizers.SGD(0.1), "mse")
        >>> model.train_on_batch([[1.0]], [[2.0]])  # the loss before the step
        4.0
        >>> model.get_weights()[0].round(3)
        array([[0.4]], dtype=float32)
        """
        compiled = self._require_compiled("train_on_batch")
        with self._layers.unbuilt_on_error():
            samples = self._samples(x, y, sample_weight, class_weight)
            inputs.check_enough(len(samples), needs_batches(self._layers.layers))
        measure = Measure(compiled.loss, compiled.metrics(self._units()))
        targets = replace(samples, y=compiled.loss.prepare(samples.y))
        trainer = self._trainer(InMemory(samples, len(samples)), len(samples))
        self._trains()
        edges = np.array([0, len(samples)])
        plans = in_memory(targets, self._plans(edges, shuffle=False))
        sums = Loop(trainer, plans).epoch(Watcher())
        logs = measure.trained(sums, samples, trainer.outputs)
        return logs if return_dict else _flat(logs)

    def _edges(self, data: Data, batch_size: int) -> np.ndarray:
        """First row of each batch of an epoch and, at the end, the rows; of pieces of one batch."""
        if isinstance(data, InPieces):
            return np.array([0, data.largest])
        rows = data.rows
        accumulated = self._require_compiled("fit").optimizer.gradient_accumulation_steps or 1
        batch_size = min(batch_size * accumulated, rows)
        single = needs_batches(self._layers.layers)
        if single and batch_size == 1:
            inputs.check_enough(rows, single)
            raise ValueError("batch_size=1 has no batch statistics: use at least 2 rows a batch")
        edges = batches(rows, batch_size, merge_tail=False)
        if single and len(edges) > 2 and edges[-1] - edges[-2] == 1:
            return np.delete(edges, -2)  # no last batch has one row
        return edges

    def _plans(self, edges: np.ndarray, shuffle: bool,
               group: Group = ALONE) -> Iterator[tuple[Order, np.ndarray]]:
        """The order of the rows in each epoch, and the edges of its batches.

        An order follows from the model's seed and the number of shuffles so far, so that a resumed
        fit goes on as if it had never stopped.
        """
        rows = int(edges[-1])
        as_array = group.has_orders_of(rows)
        while True:
            if not shuffle:
                yield group.in_order(0, rows), edges
                continue
            self._shuffles += 1
            rng = np.random.default_rng([self._layers.seed, self._shuffles, 1])
            if as_array:
                yield rng.permutation(rows), edges
            else:
                yield group.keyed_order(rows, rng.bytes(KEY_BYTES)), edges

    def _trainer(self, data: Data, rows: int) -> Trainer:
        weighted = self._weighting if data.weighted else False
        if self._others_train():
            self._pull()
        return self._require_compiled("fit").trainer_for(
            self._layers, data.source, rows, weighted=weighted, group=data.group)

    def _fit_data(self, group: Group, x: Any, y: Any, sample_weight: Any,
                  class_weight: Any, steps: int | None) -> InMemory | Streamed:
        """Checked data, in memory or in partitions; builds the model where these tell its shape."""
        if not isinstance(x, Partitions):
            samples = self._samples_in_group(group, x, y, sample_weight, class_weight)
            return InMemory(samples, group.count(len(samples)), group, steps)
        if steps is not None:
            raise ValueError("steps_per_epoch is not supported for Partitions, got "
                             f"{steps}; leave it out: all rows are used")
        _refuse_beside("Partitions", y=y, sample_weight=sample_weight)
        if not x.fit_into_window:
            headers = x.headers()
            if not any(header.rows for header in headers):
                raise ValueError("the partitions hold no rows")
            return Streamed(x, headers, self._rules(headers[0], class_weight))
        parts = list(x.with_headers())
        whole = loaded(parts, x, self._rules(parts[0][1], class_weight))
        samples = self._samples(*whole, class_weight)
        return InMemory(samples, len(samples))

    def _rules(self, header: Header, class_weight: Any = None) -> Rules:
        """How partitions are checked; builds the model where it has no weights yet."""
        compiled, layers = self._require_compiled("fit"), self._layers
        if not self.built:
            layers.build(header.shape or (1,))
        compiled.tail(layers)
        self._takes_partitions()
        if isinstance(compiled.loss, JointLoss):
            raise TypeError("x is Partitions, which a model of several outputs does not take: give "
                            "arrays")
        return Rules(compiled.loss, layers.shapes[0], layers.shapes[-1], layers.dtype, class_weight,
                     layers.computation.indices)

    def _many_samples(self, given: Partitions) -> Samples:
        """Partitions whose targets and weights are in memory, and whose rows are read anew."""
        first = next(given.with_headers())[1]
        rules = self._rules(first)
        headers, y, weights = targets_of(given, rules)
        many: Any = many_rows(given, headers, rules.shape, rules.dtype, indices=rules.indices)
        return Samples(many, y, weights)

    def _validation(self, group: Group, given: Any, steps: int | None,
                    batch_size: int) -> Samples | Batches:
        if isinstance(given, Partitions):
            return self._many_samples(given)
        if group.world is None and in_batches(given):
            return Batches(given, "validation_data", steps)
        found = self._samples_in_group(group, *inputs.split_validation(given),
                                       prefix="validation ")
        return _first_rows(found, steps, batch_size)

    def _samples(self, x: Any, y: Any, sample_weight: Any = None, class_weight: Any = None,
                 prefix: str = "") -> Samples:
        """Checked data; builds the model where the rows tell its shape."""
        compiled, layers = self._require_compiled("fit"), self._layers
        name_x, name_y = f"{prefix}x", f"{prefix}y"
        if not self.built:
            layers.build(inputs.row_shape(x, name_x))
        compiled.tail(layers)
        after = layers.shapes[-1]
        x = self._checked_rows(x, name_x)
        y = self._targets(y, after, len(x), name_y, name_x)
        units, name = int(np.prod(after)), f"{prefix}sample_weight"
        softmax = compiled.loss.end == "softmax"
        return Samples(x, y, inputs.check_weights(sample_weight, class_weight, y, units, name,
                                                  softmax=softmax))

    def _targets(self, y: Any, shape: tuple[int, ...], rows: int, name: str,
                 x: str) -> np.ndarray:
        """Checked targets."""
        compiled, dtype = self._require_compiled("fit"), self._layers.dtype
        if isinstance(compiled.loss, JointLoss):
            return compiled.loss.targets(y, rows, dtype, name)
        return inputs.check_targets(y, compiled.loss, shape, rows, dtype, name, x)

    # -- measuring

    @suggested
    def evaluate(self, x: Any = None, y: Any = None, batch_size: int | None = None,
                 verbose: Any = "auto", sample_weight: Any = None, steps: int | None = None,
                 callbacks: Any = None, return_dict: bool = False) -> Figures:
        """Loss, penalties included, and metrics of some rows.

        Parameters
        ----------
        x, y, sample_weight
            As in `fit`, partitions and batches included; the weights count in the loss alone.
        batch_size : int
            Without effect on the figures, but for `steps`; 32 by default.
        verbose : {"auto", 0, 1, 2}
            0: print nothing; else a line.
        steps : int
            Batches to measure, from the first on. None: all.
        callbacks : list of Callback
        return_dict : bool
            Give the figures by name.

        Returns
        -------
        float, list of float or dict
            The loss, or loss and metrics (`metrics_names`).

        Raises
        ------
        RuntimeError, TypeError, ValueError
            As `fit`.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Activation("relu", input_shape=(1,))])
        >>> model.compile("sgd", "mse", metrics=["mae"])
        >>> model.evaluate([[1.0], [-1.0]], [[1.0], [2.0]], verbose=0)
        [2.0, 1.0]
        >>> model.evaluate([[1.0], [-1.0]], [[1.0], [2.0]], verbose=0, return_dict=True)
        {'loss': 2.0, 'mae': 1.0}
        """
        compiled = self._require_compiled("evaluate")
        (steps,) = _steps(steps=steps)
        verbose = check_verbose(verbose)
        batch_size = whole("batch_size", _BATCH_SIZE if batch_size is None else batch_size, 1)
        with self._layers.unbuilt_on_error():
            batched = in_batches(x, y)
            if batched:
                _refuse_beside("batches", y=y, sample_weight=sample_weight)
            elif isinstance(x, Partitions):
                _refuse_beside("Partitions", y=y, sample_weight=sample_weight)
                samples = self._many_samples(x)
            else:
                samples = _first_rows(self._samples(x, y, sample_weight), steps, batch_size)
        with CallbackList(callbacks, self, {"verbose": verbose}) as called:
            called.call("on_test_begin", {})
            start = time.perf_counter()
            measure = Measure(compiled.loss, compiled.metrics(self._units()))
            if batched:
                with self._layers.unbuilt_on_error():
                    samples, outputs = read(self, Batches(x, "x", steps), self._outputs_for_loss)
            else:
                outputs = outputs_of(self._outputs_for_loss, samples.x)
            logs = measure(samples, outputs, self._penalty())
            called.call("on_test_end", logs)
        if verbose:
            seconds, count = time.perf_counter() - start, -(-len(samples) // batch_size)
            print(steps_line(count, seconds, logs))
        return logs if return_dict else _flat(logs)

    def _outputs_for_loss(self, x: np.ndarray) -> np.ndarray:
        return self._outputs(x, for_loss=True)

    def test_on_batch(self, x: Any, y: Any = None, sample_weight: Any = None,
                      return_dict: bool = False) -> Figures:
        """`evaluate`, silent.

        Parameters
        ----------
        x, y, sample_weight, return_dict
            As of `evaluate`.
        """
        return self.evaluate(x, y, sample_weight=sample_weight, verbose=0, return_dict=return_dict)

    # -- files and folding

    def save(self, filepath: Path, overwrite: bool = True) -> None:
        """Write the model to one file: layers, weights, and what training goes on from.

        Parameters
        ----------
        filepath : path-like
            Of any ending; the file is nbbn's own, and `nbbn.load` opens it. A `fit` of the loaded
            model goes on bit for bit.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        FileError
            Where it cannot be written.
        ValueError
            Before the model is built, and for weights that are not finite.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
        >>> model.save("model.safetensors")
        >>> nbbn.load("model.safetensors").count_params()
        15
        """
        _may_write(filepath, overwrite)
        network, meta, slots = of_layers(self.network(), self.name)
        meta |= self._own_words()
        try:
            meta["training"], slots = self.training_state()
        except ValueError as err:
            warn(f"{filepath}: saved without the arguments of compile: {err}")
        native.save(filepath, network, meta, slots)

    def save_weights(self, filepath: Path, overwrite: bool = True) -> None:
        """Write layers and weights alone; `load_weights` and `nbbn.load` read the file.

        Parameters
        ----------
        filepath, overwrite
            As of `save`.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
        >>> model.save_weights("model.weights.h5")
        >>> model.load_weights("model.weights.h5")
        """
        _may_write(filepath, overwrite)
        network, meta, slots = of_layers(self.network(), self.name)
        native.save(filepath, network, meta | self._own_words(), slots)

    def load_weights(self, filepath: Path) -> None:
        """Take the weights of a file that `save` or `save_weights` wrote for the same shapes.

        Parameters
        ----------
        filepath : path-like

        Raises
        ------
        FileError
            For a file of another kind.
        ValueError
            For arrays of other shapes.
        """
        network, meta, _ = native.load(filepath)
        kind = self._kind
        if (name := meta.get("model")) != kind:
            raise ValueError(f"{filepath}: holds a {name}, no {kind}'s weights")
        if not self.built:
            self._layers.build(network.input_shape)
        if self._layers.network().links.calls == network.links.calls and all(
                entry.known_arrays().keys() == arrays.keys()
                for entry, arrays in zip(self._layers.entries, network.weights)):
            self._take([(entry, [arrays[name] for name in entry.known_arrays()])
                        for entry, arrays in zip(self._layers.entries, network.weights)])
            return
        other = type(self)._empty()
        other.restore(network, words=meta)
        self.set_weights(other.get_weights())

    def training_state(self) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """What a fit goes on from: JSON-ready values, and the optimiser's arrays.

        ValueError for a learning rate that is a function.
        """
        compiled, layers = self._compiled, self._layers
        meta = {"seed": layers.seed, "made": layers.made, "shuffles": self._shuffles}
        if compiled is None:
            return meta, {}
        counts = {"step": compiled.step, "norm_step": compiled.norm_step}
        return {**meta, **compiled.config(), **counts}, compiled.state()

    def restore(self, network: Network, meta: dict[str, Any] | None = None,
                slots: dict[str, np.ndarray] | None = None,
                words: dict[str, Any] | None = None) -> None:
        """Become what a file holds; `nbbn.load` calls it on a new model.

        `meta` and `slots` are what `training_state` gave; None: layers and weights alone. `words`
        are what `_own_words` gave.
        ValueError, TypeError or KeyError for anything else.
        """
        raise NotImplementedError

    def _resume(self, meta: dict[str, Any] | None, slots: dict[str, np.ndarray] | None) -> None:
        """Go on as `training_state` had it."""
        if meta is None:
            return
        layers, names = self._layers, ("seed", "made", "shuffles")
        layers.seed, layers.made, self._shuffles = (int(meta[name]) for name in names)
        if "loss" in meta:
            self._compiled = self._made_again(meta)
            counts = (int(meta[name]) for name in ("step", "norm_step"))
            self._require_compiled("restore").resume(slots or {}, *counts)

    def _own_words(self) -> dict[str, Any]:
        """What a file says of the model besides its network."""
        return {}

    def _row_names(self) -> dict[str, Any]:
        """What a file says of the inputs and outputs of a model."""
        return {}

    def _use(self, given: list[Any]) -> list[Any]:
        """What the model makes of values, of which they are within it: of each output one."""
        raise NotImplementedError

    @classmethod
    def _empty(cls) -> TrainedModel:
        """A model to be restored."""
        raise NotImplementedError

    def _require_compiled(self, what: str) -> Compiled:
        if self._compiled is None:
            raise RuntimeError(f"{what}: call compile(optimizer, loss, metrics) first")
        return self._compiled


def _flat(logs: dict[str, float]) -> float | list[float]:
    values = list(logs.values())
    return values if len(values) > 1 else values[0]


def _frequency(value: Any) -> int | frozenset[int]:
    if isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 1:
        return int(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return frozenset(value)
    raise ValueError("validation_freq must be a whole number of at least 1 or a list of epochs, "
                     f"got {value!r}")


def _steps(**given: Any) -> list[int | None]:
    """Numbers of batches, None for all; ValueError for anything else."""
    return [None if value is None else whole(name, value, 1) for name, value in given.items()]


def _refuse_beside(what: str, **given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            is_what = "is Partitions" if what == "Partitions" else "gives batches"
            raise ValueError(f"{name} is given beside x, which {is_what}: targets and weights "
                             "are inside; leave it out")


def _first_rows(samples: Samples, steps: int | None, batch_size: int) -> Samples:
    """The rows of so many batches."""
    return samples if steps is None else samples[: steps * batch_size]


def _split(data: Data, share: float) -> tuple[InMemory, Samples]:
    """The rows to train on, and the last ones, to validate on."""
    if isinstance(data, InPieces):
        raise ValueError("validation_split is only supported for arrays, and x gives batches: give "
                         "validation_data")
    if isinstance(data, Streamed):
        raise ValueError("validation_split is only supported for arrays, and for partitions that "
                         "fit into one window: give validation_data")
    samples, rows, group = data.samples, data.rows, data.group
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(f"validation_split must be a number between 0 and 1, got {share!r}")
    at = int(rows * (1 - share))
    if not 0 < at < rows:
        raise ValueError(f"validation_split={share} of {rows} rows leaves {at} to train on, "
                         f"{rows - at} to validate on")
    cut = len(group.own(np.arange(at)))
    return InMemory(samples[:cut], at, group, data.steps), samples[cut:]


def _may_write(path: Path, overwrite: bool) -> None:
    if not overwrite and os.path.exists(path):
        raise FileError(f"{path}: exists already; use overwrite=True, or another name")
