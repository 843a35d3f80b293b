"""Training and measuring of models, as in Keras."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable
from contextlib import ExitStack
from dataclasses import replace
from numbers import Integral
from typing import Any

import numpy as np

from nbbn import inputs
from nbbn.callbacks import CallbackList, History
from nbbn.group import ALONE, Group
from nbbn.models.base_model import whole
from nbbn.models.batches import Batches, in_batches
from nbbn.models.checked_data import Data, first_rows, refuse_beside, split
from nbbn.models.compiled import needs_batches
from nbbn.models.fit import Fit, Measure, Outputs, sizes_of_batches
from nbbn.models.fit_data import InMemory, outputs_of
from nbbn.models.grouped_model import GroupedModel
from nbbn.models.pieces import InPieces, read
from nbbn.models.short_fit import running_statistics, tell
from nbbn.names import suggested
from nbbn.partitions.partitions import Partitions
from nbbn.progress import check_verbose, epoch_reporter, steps_line
from nbbn.training_loop import Loop, Samples, in_memory

_BATCH_SIZE = 32

Figures = float | list[float] | dict[str, float]


class TrainedModel(GroupedModel):
    """Training of a model's layers, however they read each other."""

    # -- training

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
        penalties included, and so are metrics: of the outputs that training had, dropout and the
        batches' own statistics included, as in Keras. Interrupted (Ctrl-C), the model keeps the
        weights so far. Where a generator raises an error, what it gave before has been trained on.

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
                    refuse_beside("batches", y=y, sample_weight=sample_weight)
                    given = Batches(x, "x", steps, "steps_per_epoch")
                    data = InPieces(self, given, class_weight, shuffle)
                    opened.callback(data.close)
                else:
                    data = self._fit_data(group, x, y, sample_weight, class_weight, steps)
                if validation_data is not None:
                    validation = self._validation(group, validation_data, held_steps, held_size)
                elif validation_split:
                    data, validation = split(data, validation_split)
                    if class_weight is not None:
                        validation = replace(validation, row_weights=None)
                    validation = first_rows(validation, held_steps, held_size)
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
                      data, Measure(compiled.loss, compiled.metrics(self._units())), called,
                      history, epoch_reporter(verbose if first else 0, epochs, count),
                      validation, held_size, frequency, group)
            before = running_statistics(self._layers.network()) if validation is not None else {}
            began = compiled.norm_step
            fit.run(initial_epoch, epochs)
        if before and group.world is None:
            self._pull()
            tell(compiled.with_tail(self._layers), before, compiled.norm_step - began,
                 compiled.loss, validation, history.history)
        return history

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
        targets = replace(samples, y=compiled.loss.prepare(samples.y), given=samples.y)
        trainer = self._trainer(InMemory(samples, len(samples)), len(samples))
        self._trains()
        edges = np.array([0, len(samples)])
        plans = in_memory(targets, self._plans(edges, shuffle=False))
        seen = Outputs()
        logs = measure.trained(Loop(trainer, plans).epoch(seen), seen.kept)
        return logs if return_dict else _flat(logs)

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
            Rows of a batch, 32 by default: what `steps` counts, and what metrics of one's own take
            at a time.
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
                refuse_beside("batches", y=y, sample_weight=sample_weight)
            elif isinstance(x, Partitions):
                refuse_beside("Partitions", y=y, sample_weight=sample_weight)
                samples = self._many_samples(x)
            else:
                samples = first_rows(self._samples(x, y, sample_weight), steps, batch_size)
        with CallbackList(callbacks, self, {"verbose": verbose}) as called:
            called.call("on_test_begin", {})
            start = time.perf_counter()
            measure = Measure(compiled.loss, compiled.metrics(self._units()))
            if batched:
                with self._layers.unbuilt_on_error():
                    samples, outputs, sizes = read(self, Batches(x, "x", steps),
                                                   self._outputs_for_loss)
            else:
                outputs = outputs_of(self._outputs_for_loss, samples.x)
                sizes = sizes_of_batches(len(outputs), batch_size)
            logs = measure(samples, outputs, self._penalty(), sizes)
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
