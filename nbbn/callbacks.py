"""Callbacks of `Sequential.fit`: Keras's, with Keras's names, arguments and defaults."""

import copy
import csv
import inspect
import math
import os
import threading
import warnings
from collections.abc import Callable, Iterable
from numbers import Real
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from nbbn import markup, names_of_keras
from nbbn.callback import Callback, Logs
from nbbn.names import suggesting
from nbbn.norm_monitor import NormMonitor, NormWarning

__all__ = [
    "CSVLogger", "Callback", "EarlyStopping", "History", "LambdaCallback", "LearningRateScheduler",
    "ModelCheckpoint", "NormMonitor", "NormWarning", "ReduceLROnPlateau", "TerminateOnNaN",
]

_Method = Callable[..., None] | None
_BY_BATCH = ("on_train_batch_begin", "on_train_batch_end", "on_batch_begin", "on_batch_end")
# Callbacks at work and the thread that each works in.
_OWNERS: dict[int, int] = {}
_OWNERS_LOCK = threading.Lock()


class CallbackList:
    """Callbacks called one after the other, in the order given, within a `with`.

    They get to see `model` and `params`; TypeError for anything that is no callback. One that works
    in another thread already, as clones share it, stays there: here works a shallow copy, so that
    neither fit sees the other's state, and lists fill together.
    """

    def __init__(self, callbacks: Callback | Iterable[Callback] | None, model: object,
                 params: dict[str, Any]):
        given = [] if callbacks is None else callbacks
        self.callbacks = list(given) if isinstance(given, Iterable) else [given]
        for callback in self.callbacks:
            if not isinstance(callback, Callback):
                named = isinstance(callback, type)
                hint = f"; make an object of it: {callback.__name__}(...)" if named else ""
                raise TypeError("callbacks must be objects of nbbn.callbacks.Callback, "
                                f"got {callback!r}{hint}")
        self._model, self._params, self._owned = model, params, set[int]()

    def __enter__(self) -> "CallbackList":
        here = threading.get_ident()
        with _OWNERS_LOCK:
            for place, callback in enumerate(self.callbacks):
                if _OWNERS.get(id(callback), here) != here:
                    self.callbacks[place] = copy.copy(callback)
                elif id(callback) not in _OWNERS:
                    _OWNERS[id(callback)] = here
                    self._owned.add(id(callback))
        self.call("set_params", self._params)
        self.call("set_model", self._model)
        return self

    def __exit__(self, *raised: object) -> None:
        with _OWNERS_LOCK:
            for owned in self._owned:
                del _OWNERS[owned]

    @property
    def by_batch(self) -> bool:
        """Whether any wants to be called for every batch."""
        return any(name in vars(given) or getattr(type(given), name) is not getattr(Callback, name)
                   for given in self.callbacks for name in _BY_BATCH)

    def call(self, name: str, *args: object) -> None:
        """Call the method `name` of each."""
        for callback in self.callbacks:
            getattr(callback, name)(*args)

    def call_batch(self, when: str, batch: int, logs: Logs) -> None:
        """Call what looks at the `begin` or the `end` of a training batch, by both of its names."""
        for callback in self.callbacks:
            for name in (f"on_batch_{when}", f"on_train_batch_{when}"):
                getattr(callback, name)(batch, logs)


class History(Callback):
    """Records every epoch; what `fit` returns.

    Attributes
    ----------
    history : dict of list of float
        `loss`, the metrics, and the same of the validation rows with `val_` in front.
    epoch : list of int
        Counted from 0.
    params : dict

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse", metrics=["mae"])
    >>> history = model.fit([[0.0], [1.0]], [[0.0], [1.0]], epochs=3, verbose=0)
    >>> history.epoch, sorted(history.history)
    ([0, 1, 2], ['loss', 'mae'])
    """

    def __init__(self) -> None:
        super().__init__()
        self.history: dict[str, list[float]] = {}
        self.epoch: list[int] = []

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.history, self.epoch = {}, []

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        self.epoch.append(epoch)
        for name, value in (logs or {}).items():
            self.history.setdefault(name, []).append(value)

    def __repr__(self) -> str:
        if not self.epoch:
            return "<History of no epoch>"
        ends = [f"{name} {curve[0]:.4g} -> {curve[-1]:.4g}" for name, curve in self.history.items()]
        count = len(self.epoch)
        return f"<History of {count} epoch{'s' * (count > 1)}: {', '.join(ends)}>"

    def _repr_html_(self) -> str:
        """For notebooks: first, best and last figures, and a picture of those that belong together.

        The figures of validation rows are drawn beside those of the training rows.
        """
        if not self.epoch:
            return markup.line("History of no epoch")
        rows = [(name, f"{curve[0]:.4g}", f"{curve[-1]:.4g}", f"{np.nanmin(curve):.4g}",
                 f"{np.nanmax(curve):.4g}") if np.isfinite(curve).any() else (name, *["nan"] * 4)
                for name, curve in self.history.items()]
        heads = ("figure", "first epoch", "last epoch", "smallest", "largest")
        groups: dict[str, dict[str, list[float]]] = {}
        for name, curve in self.history.items():
            groups.setdefault(name.removeprefix("val_"), {})[name] = curve
        first = self.epoch[0] + 1
        pictures = [markup.curves(title, first, named) for title, named in groups.items()]
        count = len(self.epoch)
        return markup.block(markup.heading(f"History of {count} epoch{'s' * (count > 1)}"),
                            markup.table(heads, rows, (1, 2, 3, 4)), markup.beside(*pictures))


class _Monitor(Callback):
    """A callback that looks whether a figure improves."""

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0, best: float | None = None):
        super().__init__()
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be 'auto', 'min' or 'max', "
                             f"got {mode!r}")
        if not isinstance(monitor, str):
            raise TypeError(f"{type(self).__name__}: monitor must be the name of a figure, "
                            f"got {monitor!r}")
        self.monitor, self.mode, self.min_delta, self.best = monitor, mode, abs(min_delta), best

    def _rises(self) -> bool:
        if self.mode != "auto":
            return self.mode == "max"
        name = self.monitor.removeprefix("val_")
        if name in ("loss", "learning_rate"):
            return False
        directions = self.model.metric_directions()
        if name not in directions:
            raise ValueError(f"{type(self).__name__}: whether {self.monitor!r} should rise or fall "
                             "is not known; give mode='min' or mode='max'")
        return directions[name]

    def _improves(self, value: float, than: float | None) -> bool:
        if math.isnan(value):
            return False
        if than is None:
            return True
        if self._rises():
            return value - self.min_delta > than
        return value + self.min_delta < than

    def _value(self, logs: Logs | None) -> float | None:
        logs = logs or {}
        if self.monitor not in logs:
            warnings.warn(f"{type(self).__name__}: {self.monitor!r} is not among the figures "
                          f"({', '.join(logs)}); it does nothing", stacklevel=3)
        value: Any = logs.get(self.monitor)
        if np.ndim(value):
            raise ValueError(f"{type(self).__name__}: {self.monitor!r} is {np.size(value)} numbers "
                             "an epoch, and one is monitored; give a metric of one number, such as "
                             "F1Score(average='macro')")
        return value


class EarlyStopping(_Monitor):
    """Stops when a figure has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        Name of a figure, as in `History.history`.
    min_delta : float
        Smaller changes are no improvement.
    patience : int
        Epochs without improvement after which training stops.
    verbose : {0, 1}
        Whether to say so.
    mode : {"auto", "min", "max"}
        Which way is better; auto: the loss and errors fall, accuracies rise.
    baseline : float or None
        An epoch counts as improved only where the figure beats this, too.
    restore_best_weights : bool
        End with the weights of the best epoch, the running statistics of batch norms included.
    start_from_epoch : int
        Epochs to wait before looking.

    Attributes
    ----------
    stopped_epoch : int
        Counted from 0; 0 where it did not stop.
    best_epoch : int

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> nbbn.set_random_seed(0)
    >>> x = np.linspace(-1, 1, 64)[:, None]
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile(nbbn.optimizers.SGD(0.5), "mse")
    >>> stop = nbbn.callbacks.EarlyStopping("loss", min_delta=1e-3, patience=2)
    >>> history = model.fit(x, 3 * x, epochs=100, callbacks=[stop], verbose=0)
    >>> len(history.epoch) < 100
    True
    """

    def __init__(self, monitor: str = "val_loss", min_delta: float = 0, patience: int = 0,
                 verbose: int = 0, mode: str = "auto", baseline: float | None = None,
                 restore_best_weights: bool = False, start_from_epoch: int = 0):
        super().__init__(monitor, mode, min_delta)
        self.patience, self.verbose, self.baseline = patience, verbose, baseline
        self.restore_best_weights, self.start_from_epoch = restore_best_weights, start_from_epoch
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best_weights: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.wait = self.stopped_epoch = self.best_epoch = 0
        self.best = self.best_weights = None

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        value = self._value(logs)
        if value is None or epoch < self.start_from_epoch:
            return
        self.wait += 1
        improved = self._improves(value, self.best)
        if self.restore_best_weights and (improved or self.best_weights is None):
            self.best_weights, self.best_epoch = self.model.get_weights(), epoch
        if improved:
            self.best, self.best_epoch = value, epoch
            if self.baseline is None or self._improves(value, self.baseline):
                self.wait = 0
            return
        if self.wait >= self.patience and epoch > 0:
            self.stopped_epoch = epoch
            self.model.stop_training = True

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self.stopped_epoch > 0:
            self._say(f"Epoch {self.stopped_epoch + 1}: early stopping")
        if self.restore_best_weights and self.best_weights is not None:
            best = self.best_epoch + 1
            self._say(f"Restoring model weights from the end of the best epoch: {best}.")
            self.model.set_weights(self.best_weights)


class ModelCheckpoint(_Monitor):
    """Saves the model after every epoch, or after every best one.

    A file appears whole or not at all.

    Parameters
    ----------
    filepath : path-like
        Of any ending; `{epoch:02d}` (counted from 1), `{val_loss:.2f}` and the other figures are
        filled in. Missing folders are made. The file is nbbn's own, whatever its name; `nbbn.load`
        opens it.
    monitor : str
        Name of a figure.
    verbose : {0, 1}
        Whether to say so.
    save_best_only : bool
        Save only where the figure has improved.
    save_weights_only : bool
        Leave optimiser and `compile`'s arguments out; `load_weights` reads the file.
    mode : {"auto", "min", "max"}
        Which way is better.
    save_freq : "epoch"
        A number of batches is not supported.
    initial_value_threshold : float or None
        What the first best must beat.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> keep = nbbn.callbacks.ModelCheckpoint("{epoch}.safetensors", monitor="loss")
    >>> history = model.fit([[0.0], [1.0]], [[0.0], [1.0]], epochs=2, callbacks=[keep], verbose=0)
    >>> nbbn.load("2.safetensors").output_shape
    (None, 1)
    """

    def __init__(self, filepath: str | os.PathLike[str], monitor: str = "val_loss",
                 verbose: int = 0, save_best_only: bool = False, save_weights_only: bool = False,
                 mode: str = "auto", save_freq: str = "epoch",
                 initial_value_threshold: float | None = None):
        super().__init__(monitor, mode, best=initial_value_threshold)
        if save_freq != "epoch":
            raise ValueError(f"ModelCheckpoint: save_freq must be 'epoch', got {save_freq!r}; "
                             "batches are not supported")
        self.filepath, self.verbose = os.fspath(filepath), verbose
        self.save_best_only, self.save_weights_only = save_best_only, save_weights_only

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        path = self._path(epoch, logs)
        if not self._wanted(epoch, logs, path):
            return
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        (self.model.save_weights if self.save_weights_only else self.model.save)(path)

    def _path(self, epoch: int, logs: Logs) -> str:
        try:
            return self.filepath.format(epoch=epoch + 1, **logs)
        except KeyError as err:
            raise ValueError(f"ModelCheckpoint: filepath {self.filepath!r} names {err.args[0]!r}, "
                             f"which is not among the figures: epoch, {', '.join(logs)}") from None

    def _wanted(self, epoch: int, logs: Logs, path: str) -> bool:
        if not self.save_best_only:
            self._say(f"Epoch {epoch + 1}: saving model to {path}")
            return True
        value = self._value(logs)
        if value is None:
            return False
        best = "None" if self.best is None else f"{self.best:.5f}"
        if not self._improves(value, self.best):
            self._say(f"Epoch {epoch + 1}: {self.monitor} did not improve from {best}")
            return False
        self._say(f"Epoch {epoch + 1}: {self.monitor} improved from {best} to {value:.5f}, "
                  f"saving model to {path}")
        self.best = value
        return True


class ReduceLROnPlateau(_Monitor):
    """Lowers the learning rate when a figure has not improved for some epochs.

    Parameters
    ----------
    monitor : str
        Name of a figure.
    factor : float
        Below 1; `new = rate * factor`.
    patience : int
        Epochs without improvement after which the rate falls.
    verbose : {0, 1}
        Whether to say so.
    mode : {"auto", "min", "max"}
        Which way is better.
    min_delta : float
        Smaller changes are no improvement.
    cooldown : int
        Epochs to wait after the rate has fallen.
    min_lr : float
        The rate does not fall below.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile(nbbn.optimizers.SGD(0.1), "mse")
    >>> reduce = nbbn.callbacks.ReduceLROnPlateau("loss", factor=0.5, patience=1, min_delta=10)
    >>> history = model.fit([[0.0], [1.0]], [[0.0], [1.0]], epochs=3, callbacks=[reduce], verbose=0)
    >>> model.optimizer.learning_rate
    0.025
    """

    def __init__(self, monitor: str = "val_loss", factor: float = 0.1, patience: int = 10,
                 verbose: int = 0, mode: str = "auto", min_delta: float = 1e-4, cooldown: int = 0,
                 min_lr: float = 0.0):
        super().__init__(monitor, mode, min_delta)
        given: object = factor
        if not isinstance(given, Real) or not 0 <= factor < 1:
            raise ValueError("ReduceLROnPlateau: factor must be a number in [0, 1), "
                             f"got {factor!r}")
        self.factor, self.patience, self.verbose = factor, patience, verbose
        self.cooldown, self.min_lr = cooldown, min_lr
        self.wait = self.cooldown_counter = 0

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.best, self.wait, self.cooldown_counter = None, 0, 0

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = {} if logs is None else logs
        logs["learning_rate"] = self.model.learning_rate
        value = self._value(logs)
        if value is None:
            return
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.wait = 0
        if self._improves(value, self.best):
            self.best, self.wait = value, 0
        elif self.cooldown_counter == 0:
            self.wait += 1
            if self.wait >= self.patience:
                self._reduce(epoch)

    def _reduce(self, epoch: int) -> None:
        rate = self.model.learning_rate
        if rate <= self.min_lr:
            return
        self.model.optimizer.learning_rate = max(rate * self.factor, self.min_lr)
        rate = self.model.learning_rate
        self._say(f"Epoch {epoch + 1}: ReduceLROnPlateau reducing learning rate to {rate}.")
        self.cooldown_counter, self.wait = self.cooldown, 0


class LearningRateScheduler(Callback):
    """Sets the learning rate before every epoch.

    Parameters
    ----------
    schedule : callable
        `schedule(epoch, rate)` or `schedule(epoch)`, epochs counted from 0, is the new rate.
    verbose : {0, 1}
        Whether to say so.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> halve = nbbn.callbacks.LearningRateScheduler(lambda epoch: 0.1 / 2**epoch)
    >>> history = model.fit([[0.0], [1.0]], [[0.0], [1.0]], epochs=3, callbacks=[halve], verbose=0)
    >>> model.optimizer.learning_rate
    0.025
    """

    def __init__(self, schedule: Callable[..., float], verbose: int = 0):
        super().__init__()
        if not callable(schedule):
            raise TypeError("LearningRateScheduler: schedule must be a function of the epoch and "
                            f"the rate, got {schedule!r}")
        self.schedule, self.verbose = schedule, verbose
        self._takes_rate = _takes_two(schedule)

    def on_epoch_begin(self, epoch: int, logs: Logs | None = None) -> None:
        more = (self.model.learning_rate,) if self._takes_rate else ()
        rate: Any = self.schedule(epoch, *more)
        one = isinstance(rate, Real) and not isinstance(rate, bool)
        if not one and not (isinstance(rate, np.ndarray) and rate.ndim == 0):
            raise ValueError(f"LearningRateScheduler: schedule must give a number, got {rate!r}")
        self.model.optimizer.learning_rate = rate = float(rate)
        self._say(f"Epoch {epoch + 1}: LearningRateScheduler setting learning rate to {rate}.")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        if logs is not None:
            logs["learning_rate"] = self.model.learning_rate


def _takes_two(function: Callable[..., float]) -> bool:
    try:
        inspect.signature(function).bind(0, 0.0)
    except TypeError:
        return False
    except ValueError:  # a builtin without a signature
        pass
    return True


class CSVLogger(Callback):
    """Writes a line of figures for every epoch.

    A figure of several numbers, as `F1Score(average=None)` has, is written as Keras does: quoted,
    `"[0.5, 1.0]"`.

    Parameters
    ----------
    filename : path-like
    separator : str
    append : bool
        Go on at the end of an existing file.

    Examples
    --------
    >>> from pathlib import Path
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> log = nbbn.callbacks.CSVLogger("log.csv")
    >>> history = model.fit([[0.0], [1.0]], [[0.0], [1.0]], epochs=2, callbacks=[log], verbose=0)
    >>> Path("log.csv").read_text().splitlines()[0]
    'epoch,loss,val_loss'
    """

    def __init__(self, filename: str | os.PathLike[str], separator: str = ",",
                 append: bool = False):
        super().__init__()
        self.filename, self.separator, self.append = os.fspath(filename), separator, append
        self._file: TextIO | None = None
        self._writer: csv.DictWriter[str] | None = None

    def on_train_begin(self, logs: Logs | None = None) -> None:
        self.on_train_end()
        held = os.path.getsize(self.filename) if os.path.exists(self.filename) else 0
        self._header = not (self.append and held)
        self._file = open(self.filename, "a" if self.append else "w", newline="", encoding="utf-8")

    def on_epoch_end(self, epoch: int, logs: Logs | None = None) -> None:
        logs = logs or {}
        assert self._file is not None
        if self._writer is None:
            names = sorted(logs)
            if not any(name.startswith("val_") for name in names):
                names += [f"val_{name}" for name in names]
            self._writer = csv.DictWriter(self._file, ["epoch", *names], restval="NA",
                                          extrasaction="ignore", delimiter=self.separator,
                                          lineterminator="\n")
            if self._header:
                self._writer.writeheader()
        self._writer.writerow({"epoch": epoch, **{k: _in_a_cell(v) for k, v in logs.items()}})
        self._file.flush()

    def on_train_end(self, logs: Logs | None = None) -> None:
        if self._file is not None:
            self._file.close()
        self._file = self._writer = None


def _in_a_cell(value: Any) -> Any:
    """A figure as a table's cell takes it."""
    return f'"[{", ".join(map(str, value))}]"' if np.ndim(value) else value


class LambdaCallback(Callback):
    """A callback of functions.

    Parameters
    ----------
    on_epoch_begin, on_epoch_end : callable, optional
        Of `epoch, logs`.
    on_train_begin, on_train_end : callable, optional
        Of `logs`.
    on_train_batch_begin, on_train_batch_end : callable, optional
        Of `batch, logs`.
    **methods
        Other methods of `Callback`, by name.

    Examples
    --------
    >>> import nbbn
    >>> said = nbbn.callbacks.LambdaCallback(on_train_end=lambda logs: print("done"))
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> history = model.fit([[0.0], [1.0]], [[0.0], [1.0]], callbacks=[said], verbose=0)
    done
    """

    def __init__(self, on_epoch_begin: _Method = None, on_epoch_end: _Method = None,
                 on_train_begin: _Method = None, on_train_end: _Method = None,
                 on_train_batch_begin: _Method = None, on_train_batch_end: _Method = None,
                 **methods: _Method):
        super().__init__()
        methods |= {
            "on_epoch_begin": on_epoch_begin, "on_epoch_end": on_epoch_end,
            "on_train_begin": on_train_begin, "on_train_end": on_train_end,
            "on_train_batch_begin": on_train_batch_begin, "on_train_batch_end": on_train_batch_end,
        }  # fmt: skip
        for name, function in methods.items():
            if not name.startswith("on_") or not hasattr(Callback, name):
                raise TypeError(f"LambdaCallback: unknown argument {name!r}; "
                                "see the methods of Callback")
            if function is not None:
                setattr(self, name, function)


class TerminateOnNaN(Callback):
    """Stops as soon as the loss is NaN or infinite; looks after every batch.

    Parameters
    ----------
    raise_error : bool
        Raise RuntimeError instead of stopping.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> stop = nbbn.callbacks.TerminateOnNaN()
    >>> history = model.fit([[0.0], [1.0]], [[0.0], [1.0]], callbacks=[stop], verbose=0)
    """

    def __init__(self, raise_error: bool = False):
        super().__init__()
        self.raise_error = raise_error

    def on_train_batch_end(self, batch: int, logs: Logs | None = None) -> None:
        loss = (logs or {}).get("loss", 0.0)
        if math.isfinite(loss):
            return
        if self.raise_error:
            raise RuntimeError(f"the loss is {loss} at batch {batch}; lower the learning rate, "
                               "or scale the data")
        print(f"Batch {batch}: the loss is {loss}, training stops")
        self.model.stop_training = True


for _each in (EarlyStopping, ModelCheckpoint, ReduceLROnPlateau, LearningRateScheduler, CSVLogger,
              TerminateOnNaN, NormMonitor):
    suggesting(_each)


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
