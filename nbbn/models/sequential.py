"""`Sequential`: layers one after the other, trained and used as in Keras."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import replace
from numbers import Integral, Real

import numpy as np

from nbbn.callbacks import CallbackList, History
from nbbn.interop.files import FileError
from nbbn.models import inputs
from nbbn.models.base_model import BaseModel, refuse, whole
from nbbn.models.compiled import Compiled, needs_batches, penalty_of
from nbbn.models.loop import Loop, Measure, Rows, batch_edges
from nbbn.models.progress import check_verbose, figures, per_step, reporter
from nbbn.network import Network
from nbbn.trainer import Trainer

_BATCH_SIZE = 32


class Sequential(BaseModel):
    """A model of layers, one after the other.

    Parameters
    ----------
    layers : list of Layer, optional
        Of `nbbn.layers`, or of another model (`*other.layers`): those bring a copy of their weights along.
    trainable : bool
        Whether training changes any weights.
    name : str, optional

    Attributes
    ----------
    layers : list
        The layers, an `Input` left out. Each reads as its specification (`isinstance` included); `trainable` can be set, and it
        has `get_weights`, `set_weights` and `count_params`.
    optimizer : Optimizer
        Of the last `compile`; its `learning_rate` can be set.
    stop_training : bool
        Set by a callback: training ends after the epoch, or the batch where callbacks look at batches.

    Notes
    -----
    As in Keras, but for this: data are arrays, computed in float32 unless the layers say `dtype="float64"`; where a layer takes
    statistics over the batch, a last batch of one row joins the batch before; metrics that the training step does not count
    (all but the accuracy of a cross-entropy) are measured on the training rows when the epoch is over, by inference.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> nbbn.utils.set_random_seed(0)
    >>> x = np.random.rand(200, 4)
    >>> y = (x.sum(1) > 2).astype(int)
    >>> model = nbbn.Sequential([
    ...     nbbn.layers.Dense(16), nbbn.layers.BatchNormalization(), nbbn.layers.Activation("relu"),
    ...     nbbn.layers.Dense(2, activation="softmax"),
    ... ])
    >>> model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    >>> history = model.fit(x, y, epochs=5, verbose=0)
    >>> sorted(history.history)
    ['accuracy', 'loss']
    """

    # -- training

    def compile(self, optimizer="rmsprop", loss=None, loss_weights=None, metrics=None, weighted_metrics=None, run_eagerly=False,
                steps_per_execution=1, jit_compile="auto", auto_scale_loss=True) -> None:
        """Say how to train. The optimiser starts afresh; the weights stay.

        Parameters
        ----------
        optimizer : str or Optimizer
            Of `nbbn.optimizers`.
        loss : str or Loss
            Of `nbbn.losses`.
        loss_weights, weighted_metrics : None
            Not supported.
        metrics : list of (str or Metric), optional
            Of `nbbn.metrics`; `"accuracy"` follows the loss.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Keras's; without effect.

        Raises
        ------
        TypeError, ValueError
            For unknown names, objects of other kinds, and arguments that are not supported.
        """
        for name, value in (("loss_weights", loss_weights), ("weighted_metrics", weighted_metrics)):
            if value is not None:
                raise ValueError(f"compile: {name} is not supported, got {value!r}; leave it out")
        compiled = Compiled.of(optimizer, loss, metrics, self._compiled.norm_step if self._compiled else 0)
        self._pull()
        self._compiled = compiled
        self._predictors.clear()

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    @property
    def optimizer(self):
        """The optimiser of the last `compile`."""
        return self._require_compiled("optimizer").optimizer

    @property
    def loss(self):
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
        return ["loss", *(metric.name for metric in self._require_compiled("metrics_names").metrics(None))]

    def metric_directions(self) -> dict[str, bool]:
        """For each metric whether larger is better."""
        return {metric.name: metric.rises for metric in self._require_compiled("metric_directions").metrics(self._units())}

    def _units(self) -> int | None:
        return int(np.prod(self._layers.shapes[-1])) if self.built else None

    def fit(self, x=None, y=None, batch_size: int | None = None, epochs: int = 1, verbose="auto", callbacks=None,
            validation_split: float = 0.0, validation_data=None, shuffle: bool = True, class_weight: dict | None = None,
            sample_weight=None, initial_epoch: int = 0, steps_per_epoch=None, validation_steps=None, validation_batch_size=None,
            validation_freq=1) -> History:
        """Train for some epochs; a further call goes on, the optimiser included.

        Parameters
        ----------
        x : array-like of shape (n, ...)
            Rows. Integers (images of uint8) are converted batch by batch; float64 becomes float32 where the model computes in it.
        y : array-like
            Class indices `(n,)` or `(n, 1)` for `sparse_categorical_crossentropy`, else rows like the outputs.
        batch_size : int
            Rows of a batch, 32 by default; the last one has what is left.
        epochs : int
            The epoch to end with, counted from `initial_epoch`.
        verbose : {"auto", 0, 1, 2}
            1 and auto: a bar for each epoch on a terminal, a line in a log; 2: a line; 0: nothing.
        callbacks : list of Callback
            Of `nbbn.callbacks`.
        validation_split : float
            Share of the rows, the last ones before any shuffle, to validate on instead of training.
        validation_data : tuple
            `(x, y)` or `(x, y, sample_weight)` to validate on after every epoch.
        shuffle : bool
            Whether every epoch takes the rows in an order of its own.
        class_weight : dict
            From class index to weight of the loss; 1 where left out. Not beside `sample_weight`.
        sample_weight : array-like of shape (n,)
            Weight of each row's loss; a batch's loss is the sum of weight times loss, over its number of rows.
        initial_epoch : int
            The first epoch's number, counted from 0.
        steps_per_epoch, validation_steps : None
            Not supported.
        validation_batch_size
            Keras's; without effect.
        validation_freq : int or collection of int
            Validate after every so many epochs, or after these, counted from 1.

        Returns
        -------
        History
            `.history` holds `loss`, the metrics and, with `val_` in front, those of the validation, a float for each epoch.

        Raises
        ------
        RuntimeError
            Before `compile`.
        TypeError, ValueError
            For data that do not fit the model or each other, before any step is taken.

        Notes
        -----
        The loss of an epoch is the mean over its rows of what each batch had before its update, penalties included. Interrupted
        (Ctrl-C), the model keeps the weights so far.
        """
        compiled = self._require_compiled("fit")
        refuse(steps_per_epoch=steps_per_epoch, validation_steps=validation_steps)
        verbose = check_verbose(verbose)
        batch_size = whole("batch_size", _BATCH_SIZE if batch_size is None else batch_size, 1)
        epochs, initial_epoch = whole("epochs", epochs, 0), whole("initial_epoch", initial_epoch, 0)
        if not isinstance(shuffle, (bool, np.bool_)):
            raise ValueError(f"shuffle must be True or False, got {shuffle!r}")
        frequency = _frequency(validation_freq)
        with self._layers.unbuilt_on_error():
            data = self._rows(x, y, sample_weight, class_weight)
            validation = None
            if validation_data is not None:
                validation = self._rows(*inputs.split_validation(validation_data), prefix="validation ")
            elif validation_split:
                data, validation = _split(data, validation_split)
                if class_weight is not None:
                    validation = replace(validation, weights=None)
            single = needs_batches(self._layers.layers)
            batch_size = min(batch_size * (compiled.optimizer.gradient_accumulation_steps or 1), len(data))
            if single and batch_size == 1:
                self._check_batch(len(data))
                raise ValueError("batch_size=1 has no batch statistics: use at least 2 rows a batch")
            edges = batch_edges(len(data), batch_size, merge_single=single)
            largest = int(np.diff(edges).max())
            self._trainer(data, largest, exactly=True)
        params = {"verbose": verbose, "epochs": epochs, "steps": len(edges) - 1}
        history = History()
        history.set_model(self)
        history.set_params(params)
        loop = Loop(
            self, lambda: self._trainer(data, largest, exactly=True), data, compiled.loss.prepare(data.y), edges,
            lambda: self._order(len(data), shuffle), Measure(compiled.loss, compiled.metrics(self._units())),
            CallbackList(callbacks, self, params), history, reporter(verbose, epochs, len(edges) - 1), validation, frequency,
        )  # fmt: skip
        self.stop_training = False
        loop.run(initial_epoch, epochs)
        return history

    def train_on_batch(self, x, y=None, sample_weight=None, class_weight=None, return_dict: bool = False):
        """Take one step on these rows.

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
        `gradient_accumulation_steps` plays no part: the rows given are one step. Metrics are this batch's own.
        """
        compiled = self._require_compiled("train_on_batch")
        with self._layers.unbuilt_on_error():
            data = self._rows(x, y, sample_weight, class_weight)
            self._check_batch(len(data))
        measure = Measure(compiled.loss, compiled.metrics(self._units()))
        loop = Loop(
            self, lambda: self._trainer(data, len(data), exactly=False), data, compiled.loss.prepare(data.y),
            np.array([0, len(data)]), lambda: np.arange(len(data)), measure, CallbackList(None, self, {}), History(),
            reporter(0, 1, 1),
        )  # fmt: skip
        logs = loop.epoch()
        return logs if return_dict else _flat(logs)

    def _check_batch(self, rows: int) -> None:
        if rows == 1 and needs_batches(self._layers.layers):
            raise ValueError("batch norm needs at least 2 rows to train on, got 1 sample: its variance would be 0")

    def _trainer(self, data: Rows, rows: int, *, exactly: bool) -> Trainer:
        weighted = self._weighting if data.weights is not None else False
        return self._compiled.trainer(self._layers, data.x.dtype, rows, weighted=weighted, exactly=exactly)

    def _order(self, rows: int, shuffle: bool) -> np.ndarray:
        """The next epoch's order: it follows from the model's seed and the number of shuffles so far, so that a resumed fit goes
        on as if it had never stopped."""
        if not shuffle:
            return np.arange(rows)
        self._shuffles += 1
        return np.random.default_rng([self._layers.seed, self._shuffles, 1]).permutation(rows)

    def _rows(self, x, y, sample_weight=None, class_weight=None, prefix: str = "") -> Rows:
        """Checked data; builds the model where the rows tell its shape."""
        compiled = self._compiled
        name_x, name_y = f"{prefix}x", f"{prefix}y"
        if not self.built:
            self._layers.build(inputs.row_shape(x, name_x))
        compiled.tail(self._layers.layers)
        shape = self._layers.shapes[-1]
        x = inputs.check_rows(x, self._layers.input_shape, self._layers.dtype, name_x)
        y = inputs.check_targets(y, compiled.loss, shape, len(x), self._layers.dtype, name_y, name_x)
        return Rows(x, y, inputs.check_weights(sample_weight, class_weight, y, self._units(), f"{prefix}sample_weight"))

    # -- measuring

    def evaluate(self, x=None, y=None, batch_size: int | None = None, verbose="auto", sample_weight=None, steps=None,
                 callbacks=None, return_dict: bool = False):
        """Loss, penalties included, and metrics of some rows.

        Parameters
        ----------
        x, y, sample_weight
            As in `fit`; the weights count in the loss alone.
        batch_size
            Keras's; without effect on the figures.
        verbose : {"auto", 0, 1, 2}
            0: print nothing; else a line.
        steps : None
            Not supported.
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
        """
        compiled = self._require_compiled("evaluate")
        refuse(steps=steps)
        verbose = check_verbose(verbose)
        batch_size = whole("batch_size", _BATCH_SIZE if batch_size is None else batch_size, 1)
        with self._layers.unbuilt_on_error():
            rows = self._rows(x, y, sample_weight)
        called = CallbackList(callbacks, self, {"verbose": verbose})
        called.call("on_test_begin", {})
        start = time.perf_counter()
        measure = Measure(compiled.loss, compiled.metrics(self._units()))
        logs = measure(rows, self._outputs(rows.x, whole=True), self._penalty())
        called.call("on_test_end", logs)
        if verbose:
            seconds, steps = time.perf_counter() - start, -(-len(rows) // batch_size)
            print(f"{steps}/{steps} - {seconds:.1f}s - {per_step(seconds, steps)} - {figures(logs)}")
        return logs if return_dict else _flat(logs)

    def test_on_batch(self, x, y=None, sample_weight=None, return_dict: bool = False):
        """`evaluate`, silent."""
        return self.evaluate(x, y, sample_weight=sample_weight, verbose=0, return_dict=return_dict)

    def _penalty(self) -> float:
        if not any(e.spec.regularizers(shape) for e, shape in zip(self._layers.entries, self._layers.shapes)):
            return 0.0
        self._pull()
        return penalty_of(self._layers.network())

    # -- files and folding

    def save(self, filepath, overwrite: bool = True) -> None:
        """Write the model to one file: layers, weights, `compile`'s arguments and the optimiser's state.

        Parameters
        ----------
        filepath : path-like
            Of any ending; the file is nbbn's own, and `nbbn.load` opens it. A `fit` of the loaded model goes on bit for bit.
        overwrite : bool
            Whether an existing file may be replaced.

        Raises
        ------
        FileError
            Where it cannot be written.
        ValueError
            Before the model is built, and for weights that are not finite.
        """
        from nbbn.saving import save_sequential

        _may_write(filepath, overwrite)
        save_sequential(self, filepath)

    def save_weights(self, filepath, overwrite: bool = True) -> None:
        """Write layers and weights alone; `load_weights` and `nbbn.load` read the file."""
        from nbbn.saving import save_sequential

        _may_write(filepath, overwrite)
        save_sequential(self, filepath, training=False)

    def load_weights(self, filepath) -> None:
        """Take the weights of a file that `save` or `save_weights` wrote for a model of the same shapes.

        Raises
        ------
        FileError
            For a file of another kind.
        ValueError
            For arrays of other shapes.
        """
        from nbbn.saving import load

        other = load(filepath)
        if not isinstance(other, Sequential):
            raise ValueError(f"{filepath}: holds a {type(other).__name__}, no Sequential's weights")
        if not self.built:
            self._layers.build(other._layers.input_shape)
        self.set_weights(other.get_weights())

    def training_state(self) -> tuple[dict, dict[str, np.ndarray]]:
        """What a fit goes on from besides layers and weights: JSON-ready values, and the optimiser's arrays.

        Raises
        ------
        ValueError
            For a learning rate that is a function.
        """
        compiled, meta = self._compiled, {"seed": self._layers.seed, "made": self._layers.made, "shuffles": self._shuffles}
        if compiled is None:
            return meta, {}
        counts = {"step": compiled.step, "norm_step": compiled.norm_step}
        return {**meta, **compiled.config(), **counts}, compiled.state()

    def restore(self, network: Network, meta: dict | None = None, slots: dict[str, np.ndarray] | None = None) -> None:
        """Become what a file holds; `nbbn.load` calls it on a new model.

        Parameters
        ----------
        network : Network
        meta : dict or None
            What `training_state` gave first; None: layers and weights alone.
        slots : dict of ndarray, optional
            What it gave second.

        Raises
        ------
        ValueError, TypeError, KeyError
            For anything else.
        """
        self._layers.input_shape = network.input_shape
        for layer, arrays in zip(network.layers, network.weights):
            self._layers.add(layer, arrays)
        if meta is None:
            return
        self._layers.seed, self._layers.made, self._shuffles = (int(meta[name]) for name in ("seed", "made", "shuffles"))
        if "loss" in meta:
            self.compile(meta["optimizer"], meta["loss"], metrics=meta["metrics"])
            self._compiled.resume(slots or {}, int(meta["step"]), int(meta["norm_step"]))

    def _require_compiled(self, what: str) -> Compiled:
        if self._compiled is None:
            raise RuntimeError(f"{what}: call compile(optimizer, loss, metrics) first")
        return self._compiled


def _flat(logs: dict[str, float]):
    values = list(logs.values())
    return values if len(values) > 1 else values[0]


def _frequency(value):
    if isinstance(value, Integral) and not isinstance(value, bool) and value >= 1:
        return int(value)
    if isinstance(value, Iterable) and not isinstance(value, str):
        return frozenset(value)
    raise ValueError(f"validation_freq must be a whole number of at least 1 or a list of epochs, got {value!r}")


def _split(data: Rows, share: float) -> tuple[Rows, Rows]:
    """The rows to train on, and the last ones, to validate on."""
    if isinstance(share, bool) or not isinstance(share, Real) or not 0 < share < 1:
        raise ValueError(f"validation_split must be a number between 0 and 1, got {share!r}")
    at = int(len(data) * (1 - share))
    if not 0 < at < len(data):
        raise ValueError(f"validation_split={share} of {len(data)} rows leaves {at} to train on, {len(data) - at} to validate on")
    first, last = slice(None, at), slice(at, None)
    weights = data.weights
    return tuple(Rows(data.x[part], data.y[part], None if weights is None else weights[part]) for part in (first, last))


def _may_write(path, overwrite: bool) -> None:
    if not overwrite and os.path.exists(path):
        raise FileError(f"{path}: exists already; use overwrite=True, or another name")
