"""Callbacks of `Sequential.fit`: when they act, and what they leave behind."""

from __future__ import annotations

import csv
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import numpy as np
import pytest

import nbbn
from nbbn import Sequential
from nbbn.callbacks import (
    Callback,
    CSVLogger,
    EarlyStopping,
    LambdaCallback,
    LearningRateScheduler,
    ModelCheckpoint,
    ReduceLROnPlateau,
    TerminateOnNaN,
)
from nbbn.layers import Activation, BatchNormalization, Dense

SPARSE = "sparse_categorical_crossentropy"


@pytest.fixture
def data(rng):
    y = rng.integers(0, 3, 96)
    return (rng.normal(size=(96, 5)) + np.eye(3, 5)[y]).astype(np.float32), y


@pytest.fixture
def model():
    nbbn.set_random_seed(1)
    model = Sequential(
        [Dense(6), BatchNormalization(), Activation("relu"), Dense(3, activation="softmax")]
    )
    model.compile("adam", SPARSE, metrics=["accuracy"])
    return model


class Scripted(Callback):
    """Puts figures of its own into the logs, and keeps each epoch's weights."""

    def __init__(self, name, values):
        super().__init__()
        self.name, self.values, self.weights, self.rates = name, values, [], []

    def on_epoch_end(self, epoch, logs=None):
        logs[self.name] = self.values[epoch]
        self.weights.append(self.model.get_weights())
        self.rates.append(self.model.learning_rate)


def run(model, data, values, *callbacks, name="val_loss"):
    script = Scripted(name, values)
    history = model.fit(*data, epochs=len(values), callbacks=[script, *callbacks], verbose=0)
    return script, history


def assert_same(got, ref):
    for g, r in zip(got, ref, strict=True):
        np.testing.assert_array_equal(g, r)


# -- when they are called


def test_order_of_the_calls(model, data):
    calls = []

    class Recorder(Callback):
        pass

    def recorder(name):
        return lambda self, *args: calls.append((name, *args[:-1]))

    for name in (
        "train_begin", "train_end", "epoch_begin", "epoch_end", "train_batch_begin",
        "train_batch_end", "test_begin", "test_end", "batch_begin", "batch_end",
    ):
        setattr(Recorder, f"on_{name}", recorder(name))
    model.fit(*data, batch_size=48, callbacks=Recorder(), validation_data=data, verbose=0)
    batch = [("batch_begin", 0), ("train_batch_begin", 0), ("batch_end", 0), ("train_batch_end", 0)]
    second = [(name, 1) for name, _ in batch]
    assert calls == [
        ("train_begin",), ("epoch_begin", 0), *batch, *second, ("test_begin",), ("test_end",),
        ("epoch_end", 0), ("train_end",),
    ]


def test_what_they_see(model, data):
    seen = {}

    class Looks(Callback):
        def on_train_begin(self, logs=None):
            seen.update(self.params)

        def on_train_batch_end(self, batch, logs=None):
            seen[batch] = dict(logs)

        def on_epoch_end(self, epoch, logs=None):
            seen["epoch"], seen["loss"] = dict(logs), self.model.evaluate(*data, verbose=0)[0]

    history = model.fit(
        *data, batch_size=32, callbacks=[Looks()], validation_data=data, verbose=0
    ).history
    assert (seen["epochs"], seen["steps"], seen["verbose"]) == (1, 3, 0)
    assert seen[2] == {"loss": history["loss"][0], "accuracy": history["accuracy"][0]}
    assert seen["epoch"] == {name: values[0] for name, values in history.items()}
    assert seen["loss"] == pytest.approx(history["val_loss"][0], rel=1e-6)


def test_looking_at_batches_changes_no_bit(data):
    weights = []
    for callbacks in ([], [LambdaCallback(on_train_batch_end=lambda batch, logs: None)]):
        nbbn.set_random_seed(1)
        model = Sequential([Dense(6), BatchNormalization(), Dense(3, activation="softmax")])
        model.compile("adam", SPARSE)
        model.fit(*data, epochs=3, batch_size=10, callbacks=callbacks, verbose=0)
        weights.append(model.get_weights())
    assert_same(*weights)


def test_a_batch_can_stop_the_training(model, data):
    def stop(batch, logs):
        model.stop_training = batch == 1

    history = model.fit(
        *data, batch_size=10, epochs=5, callbacks=[LambdaCallback(on_train_batch_end=stop)],
        verbose=0,
    )
    assert history.epoch == [0] and model.optimizer is not None
    assert np.isfinite(history.history["loss"]).all()
    model.fit(*data, epochs=2, verbose=0)
    assert not model.stop_training


def test_layers_may_change_between_epochs(model, data):
    """A layer is frozen while the model trains."""
    kept = {}

    def freeze(epoch, logs):
        if epoch == 1:
            model.layers[0].trainable = False
            kept["kernel"] = model.layers[0].get_weights()[0]

    model.fit(*data, epochs=4, callbacks=[LambdaCallback(on_epoch_begin=freeze)], verbose=0)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], kept["kernel"])


def test_weights_set_by_a_callback_are_used(model, data):
    """SWA and the like: zeros stay zeros where nothing else is trained."""
    model.build((None, 5))
    zeros = [np.zeros_like(w) for w in model.get_weights()]

    def reset(epoch, logs):
        model.set_weights(zeros)

    model.fit(*data, epochs=2, callbacks=[LambdaCallback(on_epoch_end=reset)], verbose=0)
    assert_same(model.get_weights(), zeros)


def test_lambda_callback(model, data):
    seen = []
    model.fit(
        *data,
        epochs=2,
        verbose=0,
        callbacks=[
            LambdaCallback(
                on_epoch_end=lambda epoch, logs: seen.append((epoch, logs["loss"])),
                on_train_end=lambda logs: seen.append("end"),
                on_test_begin=lambda logs: seen.append("test"),
            )
        ],
        validation_split=0.25,
    )
    assert [s if isinstance(s, str) else s[0] for s in seen] == ["test", 0, "test", 1, "end"]
    with pytest.raises(
        TypeError, match=r"LambdaCallback: unknown argument 'on_epoch'; see the methods of Callback"
    ):
        LambdaCallback(on_epoch=print)


# -- EarlyStopping


@pytest.mark.parametrize(
    "values, how, stopped, best",
    [
        ([3, 2, 1, 2, 3, 0], {"patience": 2}, 4, 2),
        ([3, 2, 1, 2, 3, 0], {"patience": 0}, 3, 2),
        ([3, 2, 1, 2, 3, 0], {"patience": 3}, 0, 5),
        ([1, 2, 3, 2, 1, 0], {"patience": 2, "mode": "max"}, 4, 2),
        ([3.0, 2.9, 2.8, 2.7, 0], {"patience": 2, "min_delta": 0.5}, 2, 0),
        ([5, 9, 9, 9, 9, 9], {"patience": 2, "start_from_epoch": 2}, 4, 2),
        ([5, 4, 3, 2, 1, 0], {"patience": 2, "baseline": 1.5}, 0, 5),
        ([5, 4, 4, 4, 1, 0], {"patience": 2, "baseline": 1.5}, 2, 1),
        ([1, np.nan, np.nan, np.nan], {"patience": 2}, 2, 0),
    ],
)
def test_early_stopping(model, data, values, how, stopped, best):
    stop = EarlyStopping(restore_best_weights=True, **how)
    script, history = run(model, data, values, stop)
    assert stop.stopped_epoch == stopped and len(history.epoch) == (
        stopped + 1 if stopped else len(values)
    )
    assert stop.best_epoch == best
    assert_same(model.get_weights(), script.weights[best])  # running statistics included


def test_early_stopping_keeps_the_last_weights_unless_told(model, data):
    script, _ = run(model, data, [1, 2, 3], EarlyStopping(patience=1))
    assert_same(model.get_weights(), script.weights[-1])


@pytest.mark.parametrize(
    "name, values",
    [("val_accuracy", [0.1, 0.2, 0.1]), ("accuracy", [0.1, 0.2, 0.1]), ("loss", [3, 2, 3])],
)
def test_direction_follows_the_figure(model, data, name, values):
    stop = EarlyStopping(name)
    run(model, data, values, stop, name=name)
    assert stop.best == values[1] and stop.stopped_epoch == 2


def test_early_stopping_says_so(model, data, capsys):
    run(model, data, [1, 2], EarlyStopping(verbose=1, restore_best_weights=True))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 2: early stopping", "Restoring model weights from the end of the best epoch: 1."
    ]  # fmt: skip


def test_a_figure_that_is_not_there(model, data):
    with pytest.warns(
        UserWarning,
        match=r"EarlyStopping: 'val_loss' is not among the figures \(loss, accuracy\); it does",
    ):
        model.fit(*data, callbacks=[EarlyStopping()], verbose=0)
    with pytest.raises(
        ValueError,
        match=r"whether 'mine' should rise or fall is not known; give mode='min' or mode='max'",
    ):
        run(model, data, [1, 2], EarlyStopping("mine"), name="mine")


# -- ModelCheckpoint


@pytest.mark.filterwarnings("ignore:.*nbbn's own format:UserWarning")
def test_checkpoints_of_every_epoch(model, data, tmp_path):
    path = tmp_path / "new" / "{epoch:02d}-{val_loss:.2f}.keras"
    script, _ = run(model, data, [1.5, 0.25], ModelCheckpoint(path))
    files = sorted(p.name for p in path.parent.iterdir())
    assert files == ["01-1.50.keras", "02-0.25.keras"]
    assert_same(nbbn.load(path.parent / files[0]).get_weights(), script.weights[0])


@pytest.mark.filterwarnings("ignore:.*nbbn's own format:UserWarning")
def test_checkpoint_of_the_best_epoch(model, data, tmp_path, capsys):
    path = tmp_path / "best.keras"
    script, _ = run(model, data, [2, 1, 3], ModelCheckpoint(path, save_best_only=True, verbose=1))
    assert_same(nbbn.load(path).get_weights(), script.weights[1])
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("Epoch 1: val_loss improved from None to 2.00000, saving model to ")
    assert said[2] == "Epoch 3: val_loss did not improve from 1.00000"


def test_checkpoint_goes_on_where_it_was_saved(data, tmp_path):
    def make():
        nbbn.set_random_seed(4)
        model = Sequential(
            [
                Dense(6), BatchNormalization(), nbbn.layers.Dropout(0.4),
                Dense(3, activation="softmax"),
            ]
        )
        model.compile("adam", SPARSE)
        return model

    whole = make()
    whole.fit(*data, epochs=4, callbacks=[ModelCheckpoint(tmp_path / "{epoch}.nbbn")], verbose=0)
    resumed = nbbn.load(tmp_path / "2.nbbn")
    resumed.fit(*data, epochs=4, initial_epoch=2, verbose=0)
    assert_same(resumed.get_weights(), whole.get_weights())


def test_checkpoint_of_weights_alone(model, data, tmp_path):
    path = tmp_path / "best.weights.h5"
    checkpoint = ModelCheckpoint(
        path, "val_loss", save_best_only=True, save_weights_only=True, initial_value_threshold=1.0
    )
    run(model, data, [2.0], checkpoint)
    assert not path.exists()
    script, _ = run(model, data, [0.5], checkpoint)
    model.fit(*data, verbose=0)
    model.load_weights(path)
    assert_same(model.get_weights(), script.weights[0])


def test_a_failed_checkpoint_leaves_the_old_file(model, data, tmp_path):
    path = tmp_path / "model.nbbn"
    run(model, data, [1.0], ModelCheckpoint(path))
    before = path.read_bytes()

    def spoil(epoch, logs):
        model.set_weights([w * np.nan for w in model.get_weights()])

    with pytest.raises(ValueError, match=r"holds NaN or infinity"):
        model.fit(
            *data, callbacks=[LambdaCallback(on_epoch_end=spoil), ModelCheckpoint(path)], verbose=0
        )
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_checkpoint_arguments(model, data, tmp_path):
    with pytest.raises(ValueError, match=r"save_freq must be 'epoch', got 10"):
        ModelCheckpoint(tmp_path / "x", save_freq=10)
    with pytest.raises(
        ValueError, match=r"names 'val_los', which is not among the figures: epoch, loss, accuracy"
    ):
        model.fit(*data, callbacks=[ModelCheckpoint(tmp_path / "{val_los:.2f}")], verbose=0)
    with pytest.warns(UserWarning, match=r"ModelCheckpoint: 'val_loss' is not among the figures"):
        model.fit(
            *data, callbacks=[ModelCheckpoint(tmp_path / "x", save_best_only=True)], verbose=0
        )
    assert not (tmp_path / "x").exists()


# -- learning rates


def test_reduce_on_plateau(model, data, capsys):
    values = [3, 2, 2, 2, 2, 2, 1, 1, 1, 1]
    script, history = run(
        model, data, values, ReduceLROnPlateau(factor=0.5, patience=2, verbose=1, min_lr=0.0002)
    )
    # The rate that an epoch trained with.
    assert script.rates == [0.001] * 4 + [0.0005] * 2 + [0.00025] * 3 + [0.0002]
    assert history.history["learning_rate"] == script.rates
    assert (
        capsys.readouterr().out.splitlines()[0]
        == "Epoch 4: ReduceLROnPlateau reducing learning rate to 0.0005."
    )


def test_reduce_on_plateau_cools_down(model, data):
    script, _ = run(model, data, [1] * 8, ReduceLROnPlateau(factor=0.1, patience=1, cooldown=2))
    np.testing.assert_allclose(script.rates, [1e-3, 1e-3, 1e-4, 1e-4, 1e-5, 1e-5, 1e-6, 1e-6])


def test_scheduler(model, data, capsys):
    script, history = run(
        model, data, [1, 1, 1], LearningRateScheduler(lambda epoch, rate: rate / 2, verbose=1)
    )
    assert history.history["learning_rate"] == script.rates == [0.0005, 0.00025, 0.000125]
    assert (
        "Epoch 1: LearningRateScheduler setting learning rate to 0.0005." in capsys.readouterr().out
    )
    script, _ = run(
        model, data, [1, 1], LearningRateScheduler(lambda epoch: np.float32(0.5) / (epoch + 1))
    )
    assert script.rates == [0.5, 0.25]


def test_a_rate_that_is_set_is_used(model, data):
    run(model, data, [1], LearningRateScheduler(lambda epoch: 0.01))
    before = model.get_weights()
    model.fit(*data, callbacks=[LearningRateScheduler(lambda epoch: 0.0)], verbose=0)
    np.testing.assert_array_equal(model.get_weights()[0], before[0])


@pytest.mark.parametrize(
    "make, error, match",
    [
        (
            lambda: LearningRateScheduler(0.1),
            TypeError,
            r"schedule must be a function of the epoch",
        ),
        (
            lambda: ReduceLROnPlateau(factor=1.0),
            ValueError,
            r"factor must be a number in \[0, 1\), got 1\.0",
        ),
        (
            lambda: EarlyStopping(mode="up"),
            ValueError,
            r"EarlyStopping: mode must be 'auto', 'min' or 'max', got 'up'",
        ),
        (
            lambda: EarlyStopping(monitor=3),
            TypeError,
            r"monitor must be the name of a figure, got 3",
        ),
    ],
)
def test_refused(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_a_schedule_that_gives_no_number(model, data):
    with pytest.raises(ValueError, match=r"schedule must give a number, got 'fast'"):
        model.fit(*data, callbacks=[LearningRateScheduler(lambda epoch: "fast")], verbose=0)


def test_a_schedule_object_cannot_be_replaced(model, data):
    model.compile(nbbn.optimizers.SGD(nbbn.schedules.ExponentialDecay(0.1, 10, 0.5)), SPARSE)
    with pytest.raises(
        TypeError, match=r"SGD: its learning_rate is a schedule, which a number cannot replace"
    ):
        model.fit(*data, callbacks=[LearningRateScheduler(lambda epoch: 0.1)], verbose=0)


# -- logs and NaN


def test_csv(model, data, tmp_path):
    path = tmp_path / "log.csv"
    first = model.fit(
        *data, epochs=2, callbacks=[CSVLogger(path)], verbose=0, validation_split=0.25
    ).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert [r["epoch"] for r in rows] == ["0", "1"]
    assert list(rows[0]) == ["epoch", "accuracy", "loss", "val_accuracy", "val_loss"]
    assert [float(r["val_loss"]) for r in rows] == first["val_loss"]
    model.fit(*data, callbacks=[CSVLogger(path, separator=";")], verbose=0)
    assert path.read_text().splitlines()[0] == "epoch;accuracy;loss;val_accuracy;val_loss"
    assert path.read_text().endswith(";NA;NA\n")
    model.fit(*data, callbacks=[CSVLogger(path, separator=";", append=True)], verbose=0)
    assert len(path.read_text().splitlines()) == 3


def test_csv_of_figures_that_are_several_numbers(model, data, tmp_path):
    """Whole, in one cell, however many they are."""
    classes, path = 1100, tmp_path / "log.csv"
    x, y = data[0], np.eye(classes)[data[1]]
    model = Sequential([Dense(classes, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[nbbn.metrics.F1Score(average=None)])
    history = model.fit(x, y, epochs=2, callbacks=[CSVLogger(path)], verbose=0).history
    with open(path, newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["epoch", "f1_score", "loss", "val_f1_score", "val_loss"]
    cell = rows[1]["f1_score"]
    assert cell.startswith('"[0.') and cell.endswith(']"') and ", " in cell
    np.testing.assert_array_equal([float(n) for n in cell[2:-2].split(", ")],
                                  history["f1_score"][1])
    assert rows[1]["val_f1_score"] == "NA" and len(rows) == 2


@pytest.mark.parametrize("make", [
    lambda path: EarlyStopping("f1_score"), lambda path: ReduceLROnPlateau("val_f1_score"),
    lambda path: ModelCheckpoint(path / "m.safetensors", monitor="f1_score", save_best_only=True),
])
def test_figures_that_are_several_numbers_are_not_monitored(make, data, tmp_path):
    x, y = data[0], np.eye(3)[data[1]]
    model = Sequential([Dense(3, activation="softmax")])
    model.compile("sgd", "categorical_crossentropy", metrics=[nbbn.metrics.F1Score(average=None)])
    with pytest.raises(ValueError, match=r"f1_score' is 3 numbers an epoch, and one is monitored"):
        model.fit(x, y, verbose=0, validation_data=(x, y), callbacks=[make(tmp_path)])


def test_terminate_on_nan(model, data, capsys):
    model.compile(nbbn.optimizers.SGD(1e30), "sparse_categorical_crossentropy")
    history = model.fit(*data, epochs=20, batch_size=16, callbacks=[TerminateOnNaN()], verbose=0)
    assert len(history.epoch) < 20 and "training stops" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match=r"the loss is nan at batch"):
        model.fit(*data, callbacks=[TerminateOnNaN(raise_error=True)], verbose=0)


# -- several fits at once


class Together(Callback):
    """Waits for the other fit at the end of every epoch, while there is another."""

    def __init__(self, parties):
        super().__init__()
        self.barrier, self.models = threading.Barrier(parties), []

    def on_epoch_end(self, epoch, logs=None):
        with suppress(threading.BrokenBarrierError):
            self.barrier.wait(5)
        self.models.append(self.model)

    def on_train_end(self, logs=None):
        self.barrier.abort()


def test_fits_in_threads_share_no_state_of_callbacks(data):
    """Each stops where it would alone; what callbacks keep in lists comes together."""
    falling, rising = [9, 8, 7, 6, 5, 4, 3, 2], [1, 2, 3, 4, 5, 6, 7, 8]
    stop, together = EarlyStopping(patience=2, restore_best_weights=True), Together(2)

    def fit(values):
        model = Sequential([Dense(3, activation="softmax")])
        model.compile("adam", SPARSE)
        script, _ = run(model, data, values, together, stop)
        return model, script

    with ThreadPoolExecutor(2) as pool:
        (first, seen), (second, seen_by_second) = pool.map(fit, [falling, rising])
    assert len(seen.weights) == 8 and len(seen_by_second.weights) == 3
    assert_same(first.get_weights(), seen.weights[7])
    assert_same(second.get_weights(), seen_by_second.weights[0])
    assert together.models.count(first) == 8 and together.models.count(second) == 3
    # Alone again, the fit works on the object itself.
    third, _ = fit(rising)
    assert stop.stopped_epoch == 2 and stop.model is third


def test_a_failed_fit_lets_go_of_its_callbacks(model, data):
    class Failing(Callback):
        def on_epoch_end(self, epoch, logs=None):
            raise RuntimeError("told so")

    stop = EarlyStopping(patience=2)
    with ThreadPoolExecutor(1) as pool, pytest.raises(RuntimeError, match="told so"):
        pool.submit(run, model, data, [1.0], stop, Failing()).result()
    run(model, data, [1, 2, 3, 4], stop)
    assert stop.stopped_epoch == 2
