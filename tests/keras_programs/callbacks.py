"""Callbacks of all kinds."""

from __future__ import annotations

import csv
import tempfile
from pathlib import Path

import numpy as np

from keras_programs.common import curve, program, start, table


def model_of(keras, rate=0.05, metrics=None):
    model = start(keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="tanh"),
                                    keras.layers.Dense(1)]))
    model.compile(keras.optimizers.SGD(rate), "mse", metrics=metrics)
    return model


def fitted(keras, callbacks, model=None, epochs=6, **given):
    x, y, _ = table()
    model = model or model_of(keras)
    history = model.fit(x[:96], y[:96], validation_data=(x[96:], y[96:]), epochs=epochs,
                        callbacks=callbacks, shuffle=False, verbose=0, **given)
    return model, history


@program("stopping early, with the best weights")
def early_stopping(keras):
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=2, restore_best_weights=True)
    model, history = fitted(keras, [stop], model_of(keras, 0.6), epochs=12)
    return curve(history, "val_loss"), model.get_weights()[0], stop.stopped_epoch


@program("the best weights in a file")
def checkpoints(keras):
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "best.weights.h5")
        if keras.__name__ == "nbbn":
            path = path.replace(".h5", ".safetensors")
        keep = keras.callbacks.ModelCheckpoint(path, monitor="val_loss", save_best_only=True,
                                               save_weights_only=True)
        model, history = fitted(keras, [keep])
        model.load_weights(path)
    x, y, _ = table()
    return min(curve(history, "val_loss")), model.evaluate(x[96:], y[96:], verbose=0)


@program("a rate that falls when nothing improves")
def reduce_on_plateau(keras):
    fall = keras.callbacks.ReduceLROnPlateau(monitor="val_loss", factor=0.5, patience=1,
                                             min_delta=0.05)
    model, history = fitted(keras, [fall], model_of(keras, 0.3), epochs=8)
    return curve(history), float(model.optimizer.learning_rate)


@program("a rate for each epoch, from a function")
def rate_of_each_epoch(keras):
    set_rate = keras.callbacks.LearningRateScheduler(lambda epoch, rate: 0.05 * 0.5**epoch)
    return curve(fitted(keras, [set_rate])[1]), curve(fitted(keras, [set_rate])[1], "learning_rate")


@program("schedules of steps given to the optimiser")
def schedules(keras):
    kinds = keras.optimizers.schedules
    found = []
    for rate in (kinds.ExponentialDecay(0.1, 4, 0.5), kinds.CosineDecay(0.1, 12),
                 kinds.PiecewiseConstantDecay([4, 8], [0.1, 0.05, 0.01]),
                 kinds.PolynomialDecay(0.1, 12, 0.01), kinds.InverseTimeDecay(0.1, 4, 0.5)):
        found.append(curve(fitted(keras, None, model_of(keras, rate), epochs=3)[1]))
    return found


@program("figures in a table of comma-separated values")
def csv_log(keras):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        _, history = fitted(keras, [keras.callbacks.CSVLogger(str(path))], epochs=3)
        with open(path, newline="") as file:
            rows = list(csv.DictReader(file))
    return curve(history), [float(row["val_loss"]) for row in rows]


@program("functions of epochs and of training")
def functions_as_callbacks(keras):
    seen: list[float] = []
    tell = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(logs["loss"]),
        on_train_end=lambda logs: seen.append(-1.0))
    fitted(keras, [tell], epochs=3)
    return seen


@program("a callback of one's own that looks at batches and stops")
def own_callback(keras):
    class Stop(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            self.batches = 0

        def on_train_batch_end(self, batch, logs=None):
            self.batches += 1

        def on_epoch_end(self, epoch, logs=None):
            if logs["val_loss"] < 6 or epoch == 3:
                self.model.stop_training = True

    stop = Stop()
    _, history = fitted(keras, [stop])
    return curve(history), stop.batches


@program("an end at the first loss that is no number")
def terminate_on_nan(keras):
    model = model_of(keras, 1e20)
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _, history = fitted(keras, [keras.callbacks.TerminateOnNaN()], model)
    return len(history.epoch)


@program("a finder of learning rates: batch by batch a larger one, the losses kept")
def rate_finder(keras):
    class Finder(keras.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.rates, self.losses = [], []

        def on_train_batch_end(self, batch, logs=None):
            rate = float(self.model.optimizer.learning_rate)
            self.rates.append(rate)
            self.losses.append(float(logs["loss"]))
            self.model.optimizer.learning_rate.assign(rate * 1.5)

    finder = Finder()
    x, y, _ = table()
    model_of(keras, 1e-3).fit(x, y, batch_size=16, epochs=1, callbacks=[finder], shuffle=False,
                              verbose=0)
    return np.array(finder.rates), np.array(finder.losses)


@program("a rate that warms up, set by hand before each epoch")
def warm_up(keras):
    class WarmUp(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            self.model.optimizer.learning_rate = 0.01 * (epoch + 1)

    return curve(fitted(keras, [WarmUp()])[1])
