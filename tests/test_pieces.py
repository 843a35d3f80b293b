"""Data that come in batches: generators, datasets of batches, any iterable of them."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
import warnings
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn.models.batches import in_batches

RNG = np.random.default_rng(0)
X = RNG.normal(size=(205, 6)).astype("float32")
Y = RNG.integers(0, 3, 205)
ONE_HOT = np.eye(3)[Y]


class Dataset(nbbn.utils.PyDataset):
    """Batches of arrays by number."""

    def __init__(self, arrays, size):
        super().__init__(workers=2)
        self.arrays, self.size, self.ends = arrays, size, 0

    def __len__(self):
        return -(-len(self.arrays[0]) // self.size)

    def __getitem__(self, k):
        rows = slice(k * self.size, (k + 1) * self.size)
        return tuple(array[rows] for array in self.arrays)

    def on_epoch_end(self):
        self.ends += 1


class NotOurs:
    """The same without a base class."""

    def __init__(self, arrays, size):
        self.within = Dataset(arrays, size)

    def __len__(self):
        return len(self.within)

    def __getitem__(self, k):
        return self.within[k]


class Loader:
    """As PyTorch's: lists, gone over again each time."""

    def __init__(self, arrays, size):
        self.within = Dataset(arrays, size)

    def __iter__(self):
        for k in range(len(self.within)):
            yield list(self.within[k])

    def __len__(self):
        return len(self.within)


def generated(arrays, size, passes=10**9):
    """An iterator of them."""
    batches = Dataset(arrays, size)
    for _ in range(passes):
        for k in range(len(batches)):
            yield batches[k]


def refilled(arrays, size):
    """The same by a generator that uses its own arrays again."""
    given = None
    for batch in generated(arrays, size):
        if given is None:
            given = [np.empty((size, *part.shape[1:]), part.dtype) for part in batch]
        for mine, part in zip(given, batch):
            mine[: len(part)] = part
        yield tuple(mine[: len(part)] for mine, part in zip(given, batch))


SOURCES = {"dataset": Dataset, "not ours": NotOurs, "loader": Loader, "generator": generated,
           "refilled": refilled, "list": lambda *given: list(generated(*given, passes=1))}


def network(loss="sparse_categorical_crossentropy", optimizer="adam", metrics=("accuracy",), **first):
    nbbn.set_random_seed(0)
    model = nbbn.Sequential([L.Dense(8, **first), L.BatchNormalization(), L.ReLU(), L.Dropout(0.2),
                             L.Dense(3, activation="softmax")])
    model.compile(optimizer, loss, metrics=list(metrics))
    return model


def same_weights(one, other):
    return all((a == b).all() for a, b in zip(one.get_weights(), other.get_weights()))


def fitted_on(source, arrays, size, model=None, **given):
    steps = {"steps_per_epoch": -(-len(arrays[0]) // size)} if hasattr(source, "__next__") else {}
    model = model or network()
    return model, model.fit(source, epochs=3, shuffle=False, verbose=0, **steps, **given).history


# -- the same bits as in memory


# 204 leaves one row, which joins the batch before.
@pytest.mark.parametrize("size", [10, 32, 68, 204])
@pytest.mark.parametrize("source", SOURCES)
def test_the_bits_of_the_fit_in_memory(source, size):
    ref = network()
    history = ref.fit(X, Y, batch_size=size, epochs=3, shuffle=False, verbose=0).history
    got, found = fitted_on(SOURCES[source]((X, Y), size), (X, Y), size)
    assert same_weights(ref, got) and history == found


@pytest.mark.parametrize("x, y, loss", [
    (X.astype("float64"), Y[:, None], "sparse_categorical_crossentropy"),
    ((X * 100).astype("int16"), ONE_HOT, "categorical_crossentropy"),
    (np.abs(X * 50).astype("uint8"), ONE_HOT.astype("float32"), "categorical_crossentropy"),
])
def test_other_dtypes_and_targets(x, y, loss):
    ref = network(loss)
    history = ref.fit(x, y, batch_size=32, epochs=3, shuffle=False, verbose=0).history
    got, found = fitted_on(generated((x, y), 32), (x, y), 32, network(loss))
    assert same_weights(ref, got) and history == found


def test_a_functional_model():
    def make():
        nbbn.set_random_seed(0)
        x = L.Input((6,))
        model = nbbn.Model(x, L.Dense(3, activation="softmax")(L.Dense(8)(x)))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    ref = make()
    history = ref.fit(X, Y, batch_size=32, epochs=3, shuffle=False, verbose=0).history
    got, found = fitted_on(generated((X, Y), 32), (X, Y), 32, make())
    assert same_weights(ref, got) and history == found


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("rows", [100, 900])
def test_large_batches(dtype, rows):
    """Copied by all threads, and looked over on the way; also those that fill a room."""
    width = 1500
    x = RNG.integers(0, 200, (2500, width)).astype(dtype)
    y = RNG.integers(0, 3, 2500)
    ref = network()
    history = ref.fit(x, y, batch_size=rows, epochs=3, shuffle=False, verbose=0).history
    got, found = fitted_on(refilled((x, y), rows), (x, y), rows)
    assert same_weights(ref, got) and history == found
    if dtype != "uint8":
        x[2300, 1400] = np.inf
        number = 2300 // rows + 1
        with pytest.raises(ValueError, match=rf"x, batch {number}: x holds inf at \({2300 % rows}, 1400"):
            got.fit(generated((x, y), rows, passes=1), verbose=0)


def test_weights_of_rows_and_of_classes():
    weights = RNG.random(205)
    ref = network()
    ref.fit(X, Y, batch_size=32, sample_weight=weights, epochs=3, shuffle=False, verbose=0)
    got, _ = fitted_on(Dataset((X, Y, weights), 32), (X, Y), 32)
    assert same_weights(ref, got)
    ref = network()
    ref.fit(X, Y, batch_size=32, class_weight={0: 3.0}, epochs=3, shuffle=False, verbose=0)
    got, _ = fitted_on(Dataset((X, Y), 32), (X, Y), 32, class_weight={0: 3.0})
    assert same_weights(ref, got)


def test_several_inputs_and_outputs():
    def make():
        nbbn.set_random_seed(0)
        one, two = L.Input((6,), name="one"), L.Input((6,), name="two")
        x = L.Concatenate()([L.Dense(4)(one), L.Dense(4)(two)])
        model = nbbn.Model([one, two], [L.Dense(3, activation="softmax", name="a")(x),
                                        L.Dense(1, name="b")(x)])
        model.compile("adam", ["sparse_categorical_crossentropy", "mse"])
        return model

    def batches(named):
        for first in range(0, 205, 32):
            rows = slice(first, first + 32)
            x, y = (X[rows], -X[rows]), (Y[rows], X[rows, :1])
            yield (dict(zip(("one", "two"), x)), dict(zip("ab", y))) if named else (x, y)

    ref = make()
    history = ref.fit([X, -X], [Y, X[:, :1]], batch_size=32, shuffle=False, verbose=0).history
    for named in (False, True):
        got = make()
        found = got.fit(batches(named), verbose=0).history
        assert same_weights(ref, got) and found["loss"] == history["loss"]
        assert got.evaluate(batches(named), verbose=0) == ref.evaluate([X, -X], [Y, X[:, :1]],
                                                                       verbose=0)
    outputs = ref.predict(([part, -part],) for part in (X[:100], X[100:]))
    for one, other in zip(outputs, ref.predict([X, -X])):
        np.testing.assert_array_equal(one, other)


def test_accumulated_gradients():
    ref = network(optimizer=nbbn.optimizers.Adam(gradient_accumulation_steps=3))
    ref.fit(X, Y, batch_size=20, epochs=3, shuffle=False, verbose=0)
    model = network(optimizer=nbbn.optimizers.Adam(gradient_accumulation_steps=3))
    got, _ = fitted_on(generated((X, Y), 20), (X, Y), 20, model)
    assert same_weights(ref, got)


def test_batches_of_growing_sizes():
    edges = [0, 3, 9, 30, 90, 205]

    def batches():
        for first, last in pairwise(edges):
            yield X[first:last], Y[first:last]

    ref, got = network(input_shape=(6,)), network(input_shape=(6,))
    for first, last in pairwise(edges):
        ref.train_on_batch(X[first:last], Y[first:last])
    got.fit(batches(), verbose=0)
    assert same_weights(ref, got)


def test_a_slow_source_is_asked_by_a_thread():
    names = set()

    def slow():
        for batch in generated((X, Y), 32, passes=2):
            names.add(threading.current_thread().name)
            time.sleep(0.01)
            yield batch

    ref = network()
    ref.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    got = network()
    got.fit(slow(), epochs=2, steps_per_epoch=7, verbose=0)
    assert same_weights(ref, got) and "nbbn read-ahead" in names
    assert not [t for t in threading.enumerate() if t.name == "nbbn read-ahead"]


# -- measuring


@pytest.mark.parametrize("source", SOURCES)
def test_evaluate_and_predict(source):
    model = network()
    model.fit(X, Y, verbose=0)
    given = {"steps": 21} if source in ("generator", "refilled") else {}
    make = SOURCES[source]
    assert model.evaluate(make((X, Y), 10), verbose=0, **given) == model.evaluate(X, Y, verbose=0)
    np.testing.assert_array_equal(model.predict(make((X, Y), 10), **given), model.predict(X))
    weights = RNG.random(205)
    assert model.evaluate(make((X, Y, weights), 10), verbose=0, **given) == model.evaluate(
        X, Y, sample_weight=weights, verbose=0)


def test_predict_of_rows_alone():
    model = network(input_shape=(6,))
    np.testing.assert_array_equal(model.predict(X[i : i + 7] for i in range(0, 205, 7)),
                                  model.predict(X))
    np.testing.assert_array_equal(model.predict(X, steps=2, batch_size=10), model.predict(X[:20]))


def test_validation_data():
    held = X[:50], Y[:50]
    given = {"epochs": 2, "verbose": 0, "shuffle": False}
    ref = network().fit(X, Y, validation_data=held, **given).history
    for data, more in ((Dataset(held, 7), {}), (generated(held, 25), {"validation_steps": 2}),
                       (list(generated(held, 7, passes=1)), {})):
        found = network().fit(X, Y, validation_data=data, **given, **more).history
        assert found == ref
    ref = network().fit(X, Y, validation_data=(X[:32], Y[:32]), **given).history
    for more in ({"batch_size": 32, "validation_steps": 1},
                 {"validation_steps": 4, "validation_batch_size": 8}):
        assert network().fit(X, Y, validation_data=held, **given, **more).history == ref
    assert network().fit(Dataset((X, Y), 32), validation_data=(X[:32], Y[:32]),
                         **given).history == ref


def spread(y_true, y_pred):
    """A number for all rows, which depends on which they are."""
    return np.ptp(np.asarray(y_pred))


class Batches(nbbn.metrics.Metric):
    """How many there were, and their largest output."""

    def __init__(self):
        super().__init__(name="batches")
        self.count = self.add_weight()
        self.most = self.add_weight()

    def update_state(self, y_true, y_pred, sample_weight=None):
        self.count.assign_add(1)
        self.most.assign(max(self.most, np.max(y_pred)))

    def result(self):
        return {"batches": float(self.count), "most": float(self.most)}


def uncounted():
    return [nbbn.metrics.SparseTopKCategoricalAccuracy(2), spread, Batches()]


@pytest.mark.parametrize("source", SOURCES)
def test_metrics_that_training_does_not_count(source):
    """Of what training gave, batch by batch: the figures of the fit in memory."""
    ref = network(metrics=uncounted()).fit(X, Y, batch_size=10, epochs=3, shuffle=False, verbose=0,
                                           validation_data=(X, Y)).history
    _, found = fitted_on(SOURCES[source]((X, Y), 10), (X, Y), 10, network(metrics=uncounted()),
                         validation_data=Dataset((X, Y), 10))
    assert found == ref and ref["batches"] == [21, 21, 21]
    assert 0.5 < ref["sparse_top_k_categorical_accuracy"][0] < 1
    model = network(metrics=uncounted(), input_shape=(6,))
    given = {"steps": 21} if source in ("generator", "refilled") else {}
    got = model.evaluate(SOURCES[source]((X, Y), 10), verbose=0, return_dict=True, **given)
    assert got == model.evaluate(X, Y, batch_size=10, verbose=0, return_dict=True)


# -- epochs and their steps


def test_a_dataset_is_shuffled_by_batches_and_told_of_epochs():
    data = Dataset((X, Y), 32)
    got, _ = network(), None
    got.fit(data, epochs=2, verbose=0)
    assert data.ends == 2
    ref = network()
    ref.fit(data, epochs=2, shuffle=False, verbose=0)
    assert not same_weights(ref, got)
    again = network()
    again.fit(Dataset((X, Y), 32), epochs=2, verbose=0)
    assert same_weights(again, got)


def test_steps_per_epoch_go_on_where_the_last_epoch_stopped():
    seen = []

    def numbered():
        for k, batch in enumerate(generated((X, Y), 32)):
            seen.append(k)
            yield batch

    model = network()
    history = model.fit(numbered(), epochs=3, steps_per_epoch=5, verbose=0)
    assert seen == list(range(15)) and len(history.epoch) == 3
    assert model.optimizer is not None and model._compiled.step == 15
    ref = network()
    batches = generated((X, Y), 32)
    for _ in range(15):
        ref.train_on_batch(*next(batches))
    assert same_weights(ref, model)


@pytest.mark.parametrize("data", [(X, Y), (Dataset((X, Y), 32), None)], ids=["arrays", "dataset"])
def test_steps_of_what_begins_anew(data):
    """7 batches by 3: 3, 3, and the one that is left."""
    model, steps = network(), []
    count = nbbn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: steps.append(
        model._compiled.step))
    with contextlib.ExitStack() as told:
        if data[1] is None:
            told.enter_context(pytest.warns(UserWarning, match="x ran out of data: 1 batches"))
        model.fit(*data, epochs=5, steps_per_epoch=3, verbose=0, shuffle=False, callbacks=[count])
    assert steps == [3, 6, 7, 10, 13]


def test_what_ends_too_early_is_said():
    model = network()
    with pytest.warns(UserWarning, match=r"x has no batches left: an iterator .* epoch 1 of 3"):
        history = model.fit(generated((X, Y), 32, passes=1), epochs=3, verbose=0)
    assert history.epoch == [0]
    with pytest.warns(UserWarning, match="x ran out of data: 7 batches, steps_per_epoch asked for 9"):
        model.fit(Dataset((X, Y), 32), steps_per_epoch=9, verbose=0)
    with pytest.warns(UserWarning, match="x ran out of data: 7 batches, 8 steps were asked for"):
        model.evaluate(Dataset((X, Y), 32), steps=8, verbose=0)


def test_callbacks_of_batches_and_logs(capsys):
    batches, params = [], []

    class Watch(nbbn.callbacks.Callback):
        def on_train_begin(self, logs=None):
            params.append(self.params["steps"])

        def on_train_batch_end(self, batch, logs=None):
            batches.append(batch)

    network().fit(Dataset((X, Y), 32), callbacks=[Watch()], verbose=2)
    network().fit(generated((X, Y), 32, passes=1), callbacks=[Watch()], verbose=2)
    assert batches == [*range(7)] * 2 and params == [7, None]
    assert capsys.readouterr().out.count("s/step") == 2


def test_stopping_within_an_epoch():
    class Stop(nbbn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            self.model.stop_training = batch == 4

    model = network(metrics=["accuracy", nbbn.metrics.SparseTopKCategoricalAccuracy(2)])
    history = model.fit(generated((X, Y), 10), epochs=3, steps_per_epoch=20, verbose=0,
                        callbacks=[Stop()])
    assert history.epoch == [0] and model._compiled.step == 5


# -- errors


def test_an_error_of_the_source_comes_out_as_it_is():
    def broken():
        yield X[:32], Y[:32]
        raise KeyError("mine")

    model = network()
    with pytest.raises(KeyError, match="mine") as info:
        model.fit(broken(), verbose=0)
    assert "in broken" in "".join(traceback.format_exception(info.value))


@contextlib.contextmanager
def no_thread_left():
    yield
    assert not [t for t in threading.enumerate() if t.name == "nbbn read-ahead"]


@pytest.mark.parametrize("seconds", [0, 0.004])
def test_what_came_before_an_error_has_been_trained_on(seconds):
    """Also in a later epoch, and with the thread; the model goes on afterwards."""
    def broken():
        for k, batch in enumerate(generated((X, Y), 32)):
            if k == 12:
                raise KeyError("mine")
            time.sleep(seconds)
            yield batch

    model, epochs = network(), []
    with pytest.raises(KeyError, match="mine"), no_thread_left():
        model.fit(broken(), steps_per_epoch=7, epochs=3, verbose=0, callbacks=[
            nbbn.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: epochs.append(epoch))])
    assert model._compiled.step == 12 and epochs == [0]
    ref = network()
    for _, batch in zip(range(12), generated((X, Y), 32)):
        ref.train_on_batch(*batch)
    assert same_weights(ref, model)
    for one in (ref, model):
        one.fit(Dataset((X, Y), 32), verbose=0, shuffle=False)
    assert same_weights(ref, model)
    for call in (model.evaluate, model.predict):
        with pytest.raises(KeyError, match="mine"), no_thread_left():
            call(broken(), verbose=0)


@pytest.mark.parametrize("seconds", [0, 0.004])
def test_a_source_that_is_interrupted(seconds):
    def interrupted():
        for k, batch in enumerate(generated((X, Y), 32)):
            if k == 12:
                raise KeyboardInterrupt
            time.sleep(seconds)
            yield batch

    model = network()
    with pytest.raises(KeyboardInterrupt), no_thread_left():
        model.fit(interrupted(), verbose=0)
    assert np.isfinite(model.predict(X)).all()
    model.fit(X, Y, verbose=0)


def test_ctrl_c_while_a_source_hangs(monkeypatch):
    """The fit ends although the thread cannot; nothing waits for it."""
    monkeypatch.setattr("nbbn.models.reader.PATIENCE", 0.1)
    goes_on = threading.Event()

    def hanging():
        for k, batch in enumerate(generated((X, Y), 32)):
            if k > 5:
                threading.Timer(0.2, signal.raise_signal, [signal.SIGINT]).start()
                goes_on.wait(20)
                return
            time.sleep(0.01)
            yield batch

    model, began = network(), time.perf_counter()
    with pytest.raises(KeyboardInterrupt):
        model.fit(hanging(), verbose=0)
    assert not goes_on.is_set() and time.perf_counter() - began < 10
    assert np.isfinite(model.predict(X)).all()
    goes_on.set()
    for thread in threading.enumerate():
        if thread.name == "nbbn read-ahead":
            thread.join(5)


@pytest.mark.parametrize("call, argument", [
    ("fit", "steps_per_epoch"), ("evaluate", "steps"), ("predict", "steps")])
def test_a_source_without_end(monkeypatch, call, argument):
    for module in ("batches", "reader"):
        monkeypatch.setattr(f"nbbn.models.{module}.MANY", 30, raising=False)

    class Enough(Exception):
        pass

    def endless(batches):
        for k, batch in enumerate(generated((X, Y), 8)):
            if k == batches:
                raise Enough
            yield batch

    model = network(input_shape=(6,))
    with pytest.warns(UserWarning, match=f"x has given 30 batches .* needs {argument}$"):
        with pytest.raises(Enough):
            getattr(model, call)(endless(40), verbose=0)
    with pytest.raises(Enough):
        getattr(model, call)(endless(20), verbose=0)
    getattr(model, call)(endless(50), verbose=0, **{argument: 40})  # no warning
    model.fit(list(generated((X, Y), 5, passes=1)), verbose=0)  # 41 batches: it is known


def test_hints_name_validation_steps(monkeypatch):
    for module in ("batches", "reader"):
        monkeypatch.setattr(f"nbbn.models.{module}.MANY", 10, raising=False)
    with pytest.warns(UserWarning, match="validation_data has given 10 batches .* validation_steps$"):
        network().fit(X, Y, verbose=0, validation_data=generated((X, Y), 20, passes=1))


def test_figures_of_batches_are_those_in_memory():
    """What callbacks get after each batch."""
    class Watch(nbbn.callbacks.Callback):
        def __init__(self):
            super().__init__()
            self.seen = []

        def on_train_batch_begin(self, batch, logs=None):
            self.seen.append(batch)

        def on_train_batch_end(self, batch, logs=None):
            self.seen.append((batch, dict(logs), self.model._compiled.step))

    seen = []
    for data, given in (((X, Y), {"batch_size": 32}), ((generated((X, Y), 32),), {}),
                        ((Dataset((X, Y), 32),), {})):
        watch = Watch()
        steps = {"steps_per_epoch": 7} if len(data) == 1 else {}
        network().fit(*data, epochs=2, shuffle=False, verbose=0, callbacks=[watch], **given, **steps)
        seen.append(watch.seen)
    assert len(seen[0]) == 28
    # The losses of a piece are summed in another order.
    for other in seen[1:]:
        for one, two in zip(seen[0], other, strict=True):
            if isinstance(one, tuple):
                assert one[::2] == two[::2] and one[1] == pytest.approx(two[1], rel=1e-12)
            else:
                assert one == two


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_in_a_forked_process():
    """Which has no threads of Numba's, but may ask a slow source by one of its own."""
    def slow():
        for batch in generated((X, Y), 32, passes=1):
            time.sleep(0.005)
            yield batch

    def weights():
        model = network()
        model.fit(slow(), verbose=0)
        model.fit(generated((X, Y), 32, passes=1), verbose=0)
        return [float(np.abs(a).sum()) for a in model.get_weights()]

    ref = weights()
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()

    def work():
        warnings.simplefilter("ignore")
        theirs.send(weights())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = context.Process(target=work)
        child.start()
    assert ours.poll(60)
    assert ours.recv() == ref
    child.join(20)


@pytest.mark.parametrize("error", [KeyError, KeyboardInterrupt])
def test_no_thread_is_left(error):
    class Raise(nbbn.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == 8:
                raise error

    def slow():
        for batch in generated((X, Y), 10):
            time.sleep(0.002)
            yield batch

    model = network()
    with pytest.raises(error):
        model.fit(slow(), steps_per_epoch=100, verbose=0, callbacks=[Raise()])
    assert not [t for t in threading.enumerate() if t.name == "nbbn read-ahead"]
    assert np.isfinite(model.predict(X)).all()


def batches_with(k, x=None, y=None, weights=None):
    found = list(generated((X, Y), 32, passes=1))
    of = found[k]
    found[k] = tuple(part for part in (of[0] if x is None else x, of[1] if y is None else y, weights)
                     if part is not None)
    return found


NAN = X[:32].copy()
NAN[3, 2] = np.nan
REFUSED = {
    "nan": (batches_with(5, NAN), r"x, batch 6: x holds nan at \(3, 2\)"),
    "labels": (batches_with(5, y=Y[:32] + 5), "x, batch 6: y holds the label 7"),
    "lengths": (batches_with(5, X[:30]), "x, batch 6: x has 30 rows, but x, batch 6: y has 32"),
    "shape": (batches_with(3, X[:32, :4]), r"x, batch 4: x has rows of shape \(4,\)"),
    "first": (batches_with(0, NAN), "x, batch 1: x holds nan"),
    "dtype": (batches_with(4, np.zeros((32, 6), int)),
              "x, batch 5: x is of dtype int64, unlike the first batch's float32"),
    "weights": (batches_with(4, weights=np.ones(32)),
                "x, batch 5: has a sample_weight, unlike the first"),
    "no weights": ([(X, Y, np.ones(205)), (X, Y)], "x, batch 2: has no sample_weight"),
    "one row": ([(X[:1], Y[:1]), (X, Y)], "batch 1: one row has no batch statistics"),
    "none": (iter([]), "x has no batches: an iterator can be gone over once"),
    "no tuple": (iter([X]), r"x, batch 1: must be \(x, y\) or \(x, y, sample_weight\), got ndarray"),
    "four": (iter([(X, Y, Y, Y)]), "x, batch 1: must be .* got tuple of 4"),
}


@pytest.mark.parametrize("source, match", REFUSED.values(), ids=REFUSED)
def test_refused_by_the_batch(source, match):
    with pytest.raises((ValueError, TypeError), match=match):
        network().fit(source, shuffle=False, verbose=0)


@pytest.mark.parametrize("call, match", [
    (lambda m: m.fit(Dataset((X, Y), 32), Y), "y is given beside x, which gives batches"),
    (lambda m: m.fit(generated((X, Y), 32), sample_weight=Y), "sample_weight is given beside x"),
    (lambda m: m.fit(Dataset((X, Y), 32), validation_split=0.5), "x gives batches: give validation"),
    (lambda m: m.evaluate(Dataset((X, Y), 32), Y), "y is given beside x, which gives batches"),
    (lambda m: m.fit(X, Y, steps_per_epoch=0), "steps_per_epoch must be a whole number of at least 1"),
    (lambda m: m.fit(X, Y, validation_steps=-1), "validation_steps must be a whole number"),
    (lambda m: m.fit(nbbn.Partitions([(X, Y)]), steps_per_epoch=2), "not supported for Partitions"),
    (lambda m: m.evaluate(iter([])), "x has no batches"),
    (lambda m: m.predict(iter([])), "x has no batches"),
    (lambda m: m.predict(iter([X, X[:, :4]])), r"x, batch 2 has rows of shape \(4,\)"),
])
def test_refused(call, match):
    model = network(input_shape=(6,))
    with pytest.raises(ValueError, match=match):
        call(model)


def test_a_dataset_says_what_it_lacks():
    class Empty(nbbn.utils.Sequence):
        def __len__(self):
            return 2

    with pytest.raises(NotImplementedError, match=r"Empty needs a method __getitem__"):
        network().fit(Empty())
    with pytest.raises(NotImplementedError, match=r"needs a method __len__"):
        len(nbbn.utils.PyDataset())


def test_what_gives_batches_and_what_does_not():
    one = X[:3], Y[:3]
    assert all(map(in_batches, ([one, one], iter([]), Dataset((X, Y), 2), Loader((X, Y), 2), zip(X, Y))))
    arrays = (X, X.tolist(), [X, X], (one, one), range(5), [(1, 2), (3, 4)], {"a": X}, "ab", None, [],
              nbbn.Partitions([one]))
    assert not any(map(in_batches, arrays)) and not in_batches([one, one], Y)


def test_torch_loaders():
    torch = pytest.importorskip("torch")
    data = torch.utils.data.TensorDataset(torch.tensor(X), torch.tensor(Y))
    loader = torch.utils.data.DataLoader(data, batch_size=32)
    ref = network()
    ref.fit(X, Y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    got = network()
    got.fit(loader, epochs=2, verbose=0)
    assert same_weights(ref, got)


def test_augmentation_within_a_fit():
    """Images turned at random, as tutorials do."""
    rng = np.random.default_rng(0)
    images = rng.random((96, 8, 8, 1)).astype("float32")
    labels = (images.mean((1, 2, 3)) > images.mean()).astype(int)

    def turned():
        while True:
            chosen = rng.integers(0, 96, 24)
            batch = images[chosen]
            yield np.where(rng.random((24, 1, 1, 1)) < 0.5, batch[:, :, ::-1], batch), labels[chosen]

    nbbn.set_random_seed(0)
    model = nbbn.Sequential([L.Conv2D(4, 3, input_shape=(8, 8, 1)), L.BatchNormalization(), L.ReLU(),
                             L.Flatten(), L.Dense(2, activation="softmax")])
    model.compile(nbbn.optimizers.Adam(0.01), "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(turned(), steps_per_epoch=8, epochs=4, verbose=0,
                        validation_data=(images, labels)).history
    assert history["loss"][-1] < history["loss"][0] and len(history["val_accuracy"]) == 4


def test_the_script_that_measures_feeding(monkeypatch, capsys):
    """It runs, and both ways give the same weights."""
    scripts = Path(__file__).resolve().parents[1] / "scripts"
    monkeypatch.syspath_prepend(str(scripts))
    import pieces_speed

    monkeypatch.setattr("sys.argv", ["pieces_speed.py", "--short", "mlp-32-float32"])
    pieces_speed.main()
    assert capsys.readouterr().out.splitlines()[1].startswith("mlp-32-float32")
