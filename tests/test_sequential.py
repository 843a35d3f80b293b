"""`Sequential` as a program written for Keras uses it.

What it returns, what it keeps, what it refuses.
"""

from __future__ import annotations

import copy
import gc
import io
import pickle
import weakref

import numpy as np
import pytest
from sklearn.metrics import precision_score, recall_score, roc_auc_score

import nbbn
from nbbn import Input, Sequential
from nbbn.layers import Activation, BatchNormalization, Dense, Dropout
from nbbn.progress import EpochBars

SPARSE = "sparse_categorical_crossentropy"


@pytest.fixture
def blobs(rng):
    """Rows (203, 6) float32 and labels (203,) of three classes."""
    y = rng.integers(0, 3, 203)
    return (rng.normal(size=(203, 6)) + 2 * np.eye(3, 6)[y]).astype(np.float32), y


def network(end="softmax", units=3, seed=1, **first):
    nbbn.set_random_seed(seed)
    return Sequential(
        [Dense(8, **first), BatchNormalization(), Activation("relu"), Dense(units, activation=end)]
    )


def compiled(optimizer="adam", loss=SPARSE, metrics=("accuracy",), **how):
    model = network(**how)
    model.compile(optimizer=optimizer, loss=loss, metrics=list(metrics))
    return model


def assert_same(got, ref):
    assert len(got) == len(ref)
    for g, r in zip(got, ref):
        np.testing.assert_array_equal(g, r)


# -- the tutorial's program


def test_tutorial_program(digits, capsys):
    x, y = digits
    x_train, y_train, x_test, y_test = x[:1400], y[:1400], x[1400:], y[1400:]
    nbbn.utils.set_random_seed(0)
    model = Sequential()
    for units in (64, 32, 16):
        model.add(Dense(units))
        model.add(BatchNormalization())
        model.add(Activation("relu"))
    model.add(Dense(10, activation="softmax"))
    model.compile(optimizer="adam", loss=SPARSE, metrics=["accuracy"])
    history = model.fit(x_train, y_train, epochs=8, validation_data=(x_test, y_test), verbose=1)
    assert list(history.history) == ["loss", "accuracy", "val_loss", "val_accuracy"]
    assert all(len(v) == 8 and all(type(f) is float for f in v) for v in history.history.values())
    assert history.epoch == list(range(8))
    assert history.params == {"verbose": 1, "epochs": 8, "steps": 44}
    assert history.history["accuracy"][-1] > 0.97 and history.history["val_accuracy"][-1] > 0.85
    loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
    assert loss == pytest.approx(history.history["val_loss"][-1], rel=1e-6)
    p = model.predict(x_test)
    assert p.shape == (len(x_test), 10) and p.dtype == np.float32
    assert accuracy == np.mean(p.argmax(1) == y_test)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8 and lines[0].startswith("Epoch 1/8 - ") and "val_accuracy: " in lines[0]


def test_real_images(mnist):
    """MNIST as it comes: uint8 images, flattened by the model."""
    nbbn.set_random_seed(0)
    model = Sequential(
        [
            nbbn.layers.Flatten(input_shape=(28, 28)), BatchNormalization(), Dense(64),
            BatchNormalization(), Activation("relu"), Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", SPARSE, metrics=["accuracy"])
    model.fit(
        mnist["x_train"][:10000], mnist["y_train"][:10000], batch_size=64, epochs=3, verbose=0
    )
    assert model.evaluate(mnist["x_test"], mnist["y_test"], verbose=0)[1] > 0.92


def test_progress_on_a_terminal():
    from rich.console import Console

    stream = io.StringIO()
    bars = EpochBars(2, lambda: 4, Console(file=stream, force_terminal=True, width=100, highlight=False))
    bars.begin(0)
    bars.advance(2, {"loss": 0.5})
    bars.end({"loss": 0.25})
    bars.begin(1)
    bars.close()
    assert "Epoch 1/2" in stream.getvalue() and "loss: 0.5000" in stream.getvalue()


@pytest.mark.parametrize("verbose, lines", [(0, 0), (1, 2), (2, 2), ("auto", 2)])
def test_verbose(blobs, capsys, verbose, lines):
    compiled().fit(*blobs, epochs=2, verbose=verbose)
    assert len(capsys.readouterr().out.splitlines()) == lines


def test_evaluate_prints_a_line(blobs, capsys):
    model = compiled(input_shape=(6,))
    model.evaluate(*blobs)
    assert capsys.readouterr().out.startswith("7/7 - ")
    model.evaluate(*blobs, verbose=0)
    assert capsys.readouterr().out == ""


# -- layers and shapes


@pytest.mark.parametrize(
    "layers",
    [
        [Input((6,)), Dense(8), Dense(3)], [Input(shape=6), Dense(8), Dense(3)],
        [Dense(8, input_shape=(6,)), Dense(3)], [Dense(8, input_dim=6), Dense(3)],
    ],
)
def test_shapes_are_known_before_the_fit(layers):
    model = Sequential(layers)
    assert model.built and len(model.layers) == 2
    assert model.input_shape == (None, 6) and model.output_shape == (None, 3)
    assert [w.shape for w in model.get_weights()] == [(6, 8), (8,), (8, 3), (3,)]
    assert model.count_params() == 83


def test_shapes_are_found_by_build_fit_and_predict(blobs):
    built, fitted, used = network(), compiled(), network()
    assert not built.built and built.get_weights() == []
    built.build((None, 6))
    fitted.fit(*blobs, verbose=0)
    used.predict(blobs[0])
    for model in (built, fitted, used):
        assert [w.shape for w in model.get_weights()] == [(6, 8), (8,), *[(8,)] * 4, (8, 3), (3,)]
    assert_same(built.get_weights(), used.get_weights())


def test_names_are_those_of_keras():
    model = Sequential(
        [Dense(2), BatchNormalization(), nbbn.layers.ReLU(), Dense(2), Dense(2, name="out")]
    )
    assert [layer.name for layer in model.layers] == [
        "dense", "batch_normalization", "re_lu", "dense_1", "out",
    ]
    assert (
        model.get_layer("out") is model.layers[-1] and model.get_layer(index=0) is model.layers[0]
    )
    assert model.name == "sequential" and Sequential(name="mine").name == "mine"


def test_summary(capsys):
    model = network(input_shape=(6,))
    model.layers[1].trainable = False
    lines = []
    model.summary(print_fn=lines.append, show_trainable=True)
    text = "\n".join(lines)
    assert 'Model: "sequential"' in lines[0]
    for part in (
        "Layer (type)", "Output Shape", "Param #", "dense_1 (Dense)", "(None, 8)",
        "Total params: 115 (460.00 B)", "Trainable params: 83 ", "Non-trainable params: 32 ",
    ):
        assert part in text
    model.summary(line_length=70)
    assert "Total params: 115" in capsys.readouterr().out
    network().summary(print_fn=lines.append)
    assert any("0 (unbuilt)" in line for line in lines)


def test_shapes_are_computed_once_for_the_layers_there_are(blobs, monkeypatch):
    """A prediction computes none; another layer, or another specification, computes them anew."""
    asked, shape_of = [], Dense.output_shape

    def counted(self, input_shape):
        asked.append(self.name)
        return shape_of(self, input_shape)

    model = compiled(input_shape=(6,))
    model.fit(*blobs, verbose=0)
    model.predict(blobs[0])
    monkeypatch.setattr(Dense, "output_shape", counted)
    for _ in range(3):
        assert model.predict(blobs[0]).shape == (203, 3) and model.output_shape == (None, 3)
    assert asked == []
    model.add(Dense(2))
    assert model.predict(blobs[0]).shape == (203, 2) and "dense_1" in asked
    model.pop()
    assert model.output_shape == (None, 3)
    assert model.count_params() == sum(array.size for array in model.get_weights())
    trained = model._layers.count(True)
    model.layers[0].trainable = False
    assert model._layers.count(True) == trained - model.layers[0].count_params()


def test_a_linear_activation_at_the_end_is_none(blobs):
    """As in Keras: the model ends with the softmax before it."""
    got, ref = network(), network()
    got.add(Activation("linear"))
    for model in (got, ref):
        model.compile("adam", SPARSE, metrics=["accuracy"])
    how = {"epochs": 2, "verbose": 0, "shuffle": False}
    assert got.fit(*blobs, **how).history == ref.fit(*blobs, **how).history
    np.testing.assert_array_equal(got.predict(blobs[0]), ref.predict(blobs[0]))


def test_layers_read_as_their_specifications():
    model = network(input_shape=(6,))
    first = model.layers[0]
    assert isinstance(first, Dense) and first.units == 8 and first is model.layers[0]
    assert repr(first) == repr(first.specification)
    kernel, bias = first.get_weights()
    first.set_weights([kernel + 1, bias + 2])
    np.testing.assert_array_equal(model.get_weights()[0], kernel + 1)
    assert first.count_params() == 56
    assert type(pickle.loads(pickle.dumps(first))) is Dense


def test_frozen_layers_keep_their_weights(blobs):
    model = compiled(input_shape=(6,))
    model.layers[0].trainable = False
    model.layers[1].trainable = False
    before = model.get_weights()
    model.fit(*blobs, epochs=2, verbose=0)
    after = model.get_weights()
    assert_same(after[:6], before[:6])
    assert not np.array_equal(after[6], before[6])
    model.layers[0].trainable = True
    model.fit(*blobs, verbose=0)
    assert not np.array_equal(model.get_weights()[0], before[0])
    assert_same(model.get_weights()[2:6], before[2:6])


def test_a_frozen_model_trains_nothing_that_was_there(blobs):
    base = compiled(input_shape=(6,))
    base.fit(*blobs, verbose=0)
    base.trainable = False
    base.pop()
    model = Sequential([*base.layers, Dense(3, activation="softmax")])
    model.compile("sgd", SPARSE)
    kept = base.get_weights()
    assert_same(model.get_weights()[:6], kept)
    model.fit(*blobs, verbose=0)
    assert_same(model.get_weights()[:6], kept)
    assert_same(base.get_weights(), kept)


def test_layers_brought_along_are_copies(blobs):
    base = compiled(input_shape=(6,))
    model = Sequential(base.layers)
    model.compile("sgd", SPARSE)
    before = base.get_weights()
    model.fit(*blobs, verbose=0)
    assert_same(base.get_weights(), before)
    both = Sequential([base.layers[0], *network(input_shape=(8,), units=8).layers])
    assert [layer.name for layer in both.layers] == [
        "dense", "dense_1", "batch_normalization", "activation", "dense_2",
    ]


def test_pop_and_add_after_a_fit(blobs):
    model = compiled()
    model.fit(*blobs, verbose=0)
    kept = model.get_weights()[:6]
    model.pop()
    model.add(Dense(3, activation="softmax"))
    assert_same(model.get_weights()[:6], kept)
    model.fit(*blobs, verbose=0)
    assert model.get_weights()[6].shape == (8, 3)


def test_float64_layers_compute_in_float64(blobs):
    x, y = blobs
    model = Sequential(
        [Dense(8, dtype="float64"), BatchNormalization(), Dense(3, activation="softmax")]
    )
    model.compile("adam", SPARSE)
    model.fit(x, y, verbose=0)
    assert (
        all(w.dtype == np.float64 for w in model.get_weights())
        and model.predict(x).dtype == np.float64
    )


# -- weights


def test_set_weights_reaches_a_fit_under_way(blobs):
    """After a fit the trainer holds weights of its own; the optimiser's state stays."""
    x, y = blobs
    model = compiled()
    model.fit(x, y, verbose=0)
    weights, loss = model.get_weights(), model.evaluate(x, y, verbose=0)
    model.fit(x, y, verbose=0)
    model.set_weights(weights)
    assert_same(model.get_weights(), weights)
    assert model.evaluate(x, y, verbose=0) == loss
    step = model.optimizer, model.learning_rate
    model.fit(x, y, epochs=1, verbose=0)
    assert (model.optimizer, model.learning_rate) == step


def test_copies_and_pickles_go_on_alike(blobs):
    model = compiled()
    model.fit(*blobs, verbose=0)
    others = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    model.fit(*blobs, verbose=0)
    for other in others:
        other.fit(*blobs, verbose=0)
        assert_same(other.get_weights(), model.get_weights())


def test_rows_of_another_dtype_go_on_with_the_same_state(rng):
    """Each dtype of rows has a program of its own.

    Weights, optimiser and dropout are carried over.
    """
    x, y = rng.integers(0, 256, (64, 6)).astype(np.uint8), rng.integers(0, 3, 64)
    weights = []
    for other in (np.float32, np.uint8):
        model = compiled()
        model.pop()
        model.add(Dropout(0.5))
        model.add(Dense(3, activation="softmax"))
        for rows in (x.astype(np.float32), x.astype(other), x.astype(np.float32)):
            model.fit(rows, y, verbose=0)
        weights.append(model.get_weights())
    assert_same(*weights)


# -- repeatable


def test_seed_decides(blobs):
    def weights(seed):
        model = compiled(seed=seed)
        model.add(Dropout(0.0))
        model.fit(*blobs, epochs=2, verbose=0)
        return model.get_weights()

    one, again, other = weights(1), weights(1), weights(2)
    assert_same(one, again)
    assert not np.array_equal(one[0], other[0])


def test_two_models_of_one_seed_differ():
    nbbn.set_random_seed(5)
    one, other = (Sequential([Dense(4, input_shape=(3,))]) for _ in range(2))
    assert not np.array_equal(one.get_weights()[0], other.get_weights()[0])


def test_threads_change_no_bit(blobs):
    weights = []
    for threads in (1, 2):
        with nbbn.num_threads(threads):
            model = compiled()
            model.fit(*blobs, epochs=3, verbose=0)
            weights.append(model.get_weights())
    assert_same(*weights)


def test_two_fits_are_one(blobs):
    whole, parts = compiled(), compiled()
    whole.fit(*blobs, epochs=4, verbose=0)
    first = parts.fit(*blobs, epochs=2, verbose=0)
    second = parts.fit(*blobs, epochs=4, initial_epoch=2, verbose=0)
    assert first.epoch + second.epoch == [0, 1, 2, 3]
    assert_same(parts.get_weights(), whole.get_weights())


def test_a_loaded_model_goes_on_bit_for_bit(blobs, tmp_path):
    def make():
        nbbn.set_random_seed(3)
        model = Sequential(
            [
                Dense(8), BatchNormalization(), Activation("relu"), Dropout(0.3),
                Dense(3, activation="softmax"),
            ]
        )
        rate = nbbn.optimizers.schedules.CosineDecay(0.05, 20)
        model.compile(nbbn.optimizers.Adam(rate), SPARSE, metrics=["acc"])
        return model

    whole, first = make(), make()
    whole.fit(*blobs, epochs=4, verbose=0)
    first.fit(*blobs, epochs=2, verbose=0)
    with pytest.warns(UserWarning, match=r"model.keras holds nbbn's own format, which nbbn.load"):
        first.save(tmp_path / "model.keras")  # as tutorials call it
    loaded = nbbn.load(tmp_path / "model.keras")
    assert_same(loaded.get_weights(), first.get_weights())
    np.testing.assert_array_equal(loaded.predict(blobs[0]), first.predict(blobs[0]))
    assert loaded.metrics_names == ["loss", "acc"] and [x.name for x in loaded.layers] == [
        x.name for x in first.layers
    ]
    assert loaded.learning_rate == first.learning_rate < 0.05
    loaded.fit(*blobs, epochs=2, verbose=0)
    assert_same(loaded.get_weights(), whole.get_weights())


# -- figures


def numpy_outputs(model, x, training):
    """Softmax outputs of `network` in float64."""
    w = [a.astype(np.float64) for a in model.get_weights()]
    z = x @ w[0] + w[1]
    mean, var = (z.mean(0), z.var(0)) if training else (w[4], w[5])
    h = np.maximum(w[2] * (z - mean) / np.sqrt(var + 1e-3) + w[3], 0)
    z = h @ w[6] + w[7]
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_loss_is_that_of_training_mode_with_the_penalty(blobs):
    x, y = blobs
    model = network(kernel_regularizer=nbbn.regularizers.L2(0.01))
    model.compile(nbbn.optimizers.SGD(0.0), SPARSE, metrics=["accuracy"])
    history = model.fit(x, y, batch_size=len(x), verbose=0).history
    penalty = 0.01 * np.square(model.get_weights()[0].astype(np.float64)).sum()
    p = numpy_outputs(model, x, training=True)
    assert history["loss"][0] == pytest.approx(
        -np.log(p[np.arange(len(y)), y]).mean() + penalty, rel=1e-5
    )
    assert history["accuracy"][0] == pytest.approx(np.mean(p.argmax(1) == y))
    p = numpy_outputs(model, x, training=False)
    loss, accuracy = model.evaluate(x, y, verbose=0)
    assert loss == pytest.approx(-np.log(p[np.arange(len(y)), y]).mean() + penalty, rel=1e-5)
    assert accuracy == np.mean(p.argmax(1) == y)
    assert model.evaluate(x, y, verbose=0, return_dict=True) == {"loss": loss, "accuracy": accuracy}


def test_weights_of_rows(blobs, rng):
    x, y = blobs
    weights = rng.uniform(0, 3, len(x))
    model = compiled(nbbn.optimizers.SGD(0.0))
    history = model.fit(
        x, y, batch_size=len(x), sample_weight=weights, verbose=0, validation_data=(x, y, weights)
    ).history
    p = numpy_outputs(model, x, training=True)
    assert history["loss"][0] == pytest.approx(
        (-np.log(p[np.arange(len(y)), y]) * weights).mean(), rel=1e-5
    )
    # Metrics are not weighted.
    assert history["accuracy"][0] == pytest.approx(np.mean(p.argmax(1) == y))
    p = numpy_outputs(model, x, training=False)
    assert history["val_loss"][0] == pytest.approx(
        (-np.log(p[np.arange(len(y)), y]) * weights).mean(), rel=1e-5
    )
    assert model.evaluate(x, y, sample_weight=weights, verbose=0)[0] == history["val_loss"][0]


def test_class_weight_is_a_weight_of_rows(blobs):
    x, y = blobs
    by_class, by_row = compiled(), compiled()
    by_class.fit(x, y, class_weight={0: 3.0, 2: 0.5}, verbose=0)
    by_row.fit(x, y, sample_weight=np.array([3.0, 1.0, 0.5])[y], verbose=0)
    assert_same(by_class.get_weights(), by_row.get_weights())
    one_hot = compiled(loss="categorical_crossentropy")
    one_hot.fit(x, nbbn.utils.to_categorical(y), class_weight={0: 3.0, 2: 0.5}, verbose=0)
    for got, ref in zip(one_hot.get_weights(), by_row.get_weights()):
        np.testing.assert_allclose(got, ref, atol=1e-3)


def fitted_loss(x, y, weights, loss, units):
    """The loss of one epoch that leaves the weights as they are."""
    end = "sigmoid" if loss == "binary_crossentropy" else "softmax"
    nbbn.set_random_seed(1)
    model = nbbn.Sequential([nbbn.layers.Dense(units, activation=end)])
    model.compile(nbbn.optimizers.SGD(0.0), loss)
    return model.fit(x, y, verbose=0, shuffle=False, **weights).history["loss"][0]


KEYS = [int, bool, np.bool_, np.int8, np.float32, float]


@pytest.mark.parametrize("kind", KEYS)
@pytest.mark.parametrize("dtype", [bool, np.int8, np.float32])
def test_class_weight_by_the_labels_value(blobs, kind, dtype):
    x, y = blobs
    y = (y > 0).astype(dtype)
    by_row = {"sample_weight": np.where(y > 0, 4.0, 0.5)}
    for target in (y, y[:, None]):
        ref = fitted_loss(x, target, by_row, "binary_crossentropy", 1)
        by_class = {"class_weight": {kind(0): 0.5, kind(1): kind(1) * 4.0}}
        assert fitted_loss(x, target, by_class, "binary_crossentropy", 1) == ref


@pytest.mark.parametrize("kind", [int, np.int8, np.float32, float])
def test_class_weight_of_more_than_two_classes(blobs, kind):
    x, y = blobs
    by_row = {"sample_weight": np.array([1.0, 2.0, 5.0])[y]}
    ref = fitted_loss(x, y, by_row, SPARSE, 3)
    by_class = {"class_weight": {kind(2): 5, kind(1): 2}}
    assert fitted_loss(x, y, by_class, SPARSE, 3) == ref
    for smoothing in (0.0, 0.1):
        shares = nbbn.utils.to_categorical(y) * (1 - smoothing) + smoothing / 3
        ref = fitted_loss(x, shares, by_row, "categorical_crossentropy", 3)
        assert fitted_loss(x, shares, by_class, "categorical_crossentropy", 3) == ref


CASES = {
    SPARSE: ("softmax", 3, lambda y: y, lambda t, p: -np.log(p[np.arange(len(t)), t])),
    "categorical_crossentropy": (
        "softmax", 3, lambda y: np.eye(3)[y], lambda t, p: -(t * np.log(p)).sum(1),
    ),
    "binary_crossentropy": (
        "sigmoid", 3, lambda y: np.eye(3)[y],
        lambda t, p: -(t * np.log(p) + (1 - t) * np.log1p(-p)).mean(1),
    ),
    "mse": (None, 2, lambda y: np.c_[y, -y] * 1.0, lambda t, p: np.square(t - p).mean(1)),
    "mae": ("tanh", 1, lambda y: y - 1.0, lambda t, p: np.abs(t.reshape(-1, 1) - p).mean(1)),
    "huber": (
        None, 1, lambda y: (y - 1.0).reshape(-1, 1),
        lambda t, p: np.where(abs(t - p) <= 1, (t - p) ** 2 / 2, abs(t - p) - 0.5).mean(1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_losses(blobs, name):
    x, y = blobs
    end, units, targets, rows = CASES[name]
    model, t = (
        compiled(loss=name, metrics=["mse"] if name == "mae" else [], end=end, units=units),
        targets(y),
    )
    losses = model.fit(x, t, epochs=5, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    got = model.evaluate(x, t, verbose=0)
    p = model.predict(x).astype(np.float64)
    if name == "mae":
        assert got[1] == pytest.approx(np.square(t.reshape(-1, 1) - p).mean(), rel=1e-5)
        got = got[0]
    assert got == pytest.approx(rows(t, p).mean(), rel=1e-5)


@pytest.mark.parametrize(
    "end, loss, encode",
    [
        ("softmax", nbbn.losses.SparseCategoricalCrossentropy, lambda y: y),
        ("softmax", nbbn.losses.CategoricalCrossentropy, lambda y: np.eye(3)[y]),
        ("sigmoid", nbbn.losses.BinaryCrossentropy, lambda y: np.eye(3)[y]),
    ],
)
def test_from_logits_trains_alike(blobs, end, loss, encode):
    x, y = blobs
    ends, logits = compiled(loss=loss(), end=end), compiled(loss=loss(from_logits=True), end=None)
    for model in (ends, logits):
        model.fit(x, encode(y), epochs=2, verbose=0, validation_split=0.2)
    assert_same(logits.get_weights(), ends.get_weights())
    assert logits.evaluate(x, encode(y), verbose=0) == ends.evaluate(x, encode(y), verbose=0)
    z = logits.predict(x).astype(np.float64)
    p = 1 / (1 + np.exp(-z)) if end == "sigmoid" else np.exp(z) / np.exp(z).sum(1, keepdims=True)
    np.testing.assert_allclose(ends.predict(x), p, atol=1e-6)


def test_labels_may_be_a_column_or_floats(blobs):
    x, y = blobs
    weights = []
    for labels in (y, y.reshape(-1, 1), y.astype(np.uint8), y.astype(np.float32)):
        model = compiled()
        model.fit(x, labels, verbose=0)
        weights.append(model.get_weights())
    for other in weights[1:]:
        assert_same(other, weights[0])


def test_rows_of_other_dtypes(rng):
    images, y = rng.integers(0, 256, (64, 6)).astype(np.uint8), rng.integers(0, 3, 64)
    weights = []
    for x in (
        images.astype(np.float32), images, images.astype(np.float64), images.astype(np.int64),
        images.tolist(), np.asfortranarray(images),
    ):
        model = compiled()
        model.fit(x, y, verbose=0)
        weights.append(model.get_weights())
    for other in weights[1:]:
        assert_same(other, weights[0])
    strange = images.astype(">f4"), images.astype(np.float16), images.astype(object)
    for x in strange:
        np.testing.assert_array_equal(model.predict(x), model.predict(images))
    np.testing.assert_array_equal(
        model.predict(images > 100), model.predict((images > 100).astype(np.float32))
    )


def test_predict_hands_nan_on(blobs):
    x = blobs[0].copy()
    x[3] = np.nan
    p = network(input_shape=(6,)).predict(x)
    assert np.isnan(p[3]).all() and np.isfinite(np.delete(p, 3, 0)).all()


def test_last_axis_of_length_one_may_be_missing(rng):
    model = Sequential([Input((4, 4, 1)), nbbn.layers.Flatten(), Dense(2)])
    x = rng.normal(size=(5, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(model.predict(x), model.predict(x[..., None]))


def test_metrics_of_detection():
    targets, outputs = (
        np.array([[1], [1], [1], [0], [0]]),
        np.array([[0.9], [0.6], [0.2], [0.7], [0.1]], np.float32),
    )
    m = nbbn.metrics
    assert m.Precision()(targets, outputs) == pytest.approx(2 / 3) and m.Recall()(
        targets, outputs
    ) == pytest.approx(2 / 3)
    assert m.Precision(thresholds=0.8)(targets, outputs) == 1
    assert m.Recall(thresholds=0.8)(targets, outputs) == pytest.approx(1 / 3)
    assert m.AUC()(targets, outputs) == pytest.approx(4 / 6)  # of six pairs, four are in order
    for metric in (m.Precision(thresholds=1.0), m.Recall(), m.AUC()):
        assert metric(np.zeros((5, 1)), outputs) == 0
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((80, 3)), rng.integers(0, 2, 80)
    model = Sequential([Dense(1, activation="sigmoid")])
    exact = m.AUC(num_thresholds=None, name="exact")
    model.compile("sgd", "binary_crossentropy", metrics=[m.Precision(), m.Recall(), m.AUC(), exact])
    model.fit(x, y, epochs=2, verbose=0)
    p, found = model.predict(x).ravel(), model.evaluate(x, y, verbose=0, return_dict=True)
    assert found["exact"] == pytest.approx(roc_auc_score(y, p))
    assert found["auc"] == pytest.approx(roc_auc_score(y, np.ceil(p * 199)))  # Keras's 200
    assert found["precision"] == pytest.approx(precision_score(y, p > 0.5))
    assert found["recall"] == pytest.approx(recall_score(y, p > 0.5))


def test_metrics_have_the_users_names(blobs):
    x, y = blobs
    accuracy = nbbn.metrics.SparseCategoricalAccuracy(name="right")
    model = compiled(metrics=["acc", accuracy, nbbn.metrics.SparseTopKCategoricalAccuracy(k=2)])
    history = model.fit(x, y, verbose=0, validation_split=0.25).history
    names = ["loss", "acc", "right", "sparse_top_k_categorical_accuracy"]
    assert list(history) == names + [f"val_{name}" for name in names]
    assert history["acc"] == history["right"]
    order = np.argsort(-model.predict(x), 1)[:, :2]
    assert model.evaluate(x, y, verbose=0)[3] == np.mean((order == y[:, None]).any(1))


def test_accuracy_follows_the_loss(blobs):
    x, y = blobs
    binary = compiled(loss="binary_crossentropy", end="sigmoid", units=2,
                      metrics=["accuracy", "binary_accuracy"])
    t = np.c_[y == 0, y == 1].astype(float)
    binary.fit(x, t, verbose=0)
    p = binary.predict(x)
    # As in Keras 3 the outputs decide: several units are classes, whatever the loss.
    figures = np.mean(p.argmax(1) == t.argmax(1)), np.mean((p > 0.5) == (t > 0.5))
    assert tuple(binary.evaluate(x, t, verbose=0)[1:]) == figures
    one = compiled(loss="binary_crossentropy", end="sigmoid", units=1)
    one.fit(x, t[:, :1], verbose=0)
    assert one.evaluate(x, t[:, :1], verbose=0)[1] == np.mean(
        (one.predict(x) > 0.5) == (t[:, :1] > 0.5))
    one_hot = compiled(loss="categorical_crossentropy")
    t = nbbn.utils.to_categorical(y, 3)
    history = one_hot.fit(x, t, verbose=0).history
    assert 0 < history["accuracy"][0] < 1
    assert one_hot.evaluate(x, t, verbose=0)[1] == np.mean(one_hot.predict(x).argmax(1) == y)
    squares = compiled(loss="mse", end="sigmoid", units=1)
    squares.fit(x, y == 0, verbose=0)
    assert squares.evaluate(x, y == 0, verbose=0)[1] == np.mean(
        (squares.predict(x)[:, 0] > 0.5) == (y == 0)
    )


# -- batches


def test_validation_split_takes_the_last_rows(blobs):
    x, y = blobs
    split, given = compiled(), compiled()
    one = split.fit(x, y, epochs=2, validation_split=0.25, verbose=0).history
    at = int(len(x) * 0.75)
    other = given.fit(x[:at], y[:at], epochs=2, validation_data=(x[at:], y[at:]), verbose=0).history
    assert one == other
    assert_same(split.get_weights(), given.get_weights())


def test_class_weights_leave_a_split_off_validation_alone(blobs):
    x, y = blobs
    model = compiled(nbbn.optimizers.SGD(0.0))
    history = model.fit(x, y, validation_split=0.25, class_weight={0: 9.0}, verbose=0).history
    at = int(len(x) * 0.75)
    assert history["val_loss"][0] == pytest.approx(
        model.evaluate(x[at:], y[at:], verbose=0)[0], rel=1e-6
    )


def test_validation_freq(blobs):
    x, y = blobs
    for frequency, validations in ((2, 2), ([1, 2, 5], 3)):
        history = (
            compiled()
            .fit(x, y, epochs=5, validation_split=0.2, validation_freq=frequency, verbose=0)
            .history
        )
        assert len(history["loss"]) == 5 and len(history["val_loss"]) == validations


def test_a_last_batch_of_one_row_joins_the_one_before(blobs):
    """33 rows in batches of 32; without batch norm the row is a batch of its own."""
    x, y = blobs[0][:33], blobs[1][:33]
    assert compiled().fit(x, y, verbose=0).params["steps"] == 1
    plain = Sequential([Dense(3, activation="softmax")])
    plain.compile("sgd", SPARSE)
    assert plain.fit(x, y, verbose=0).params["steps"] == 2
    # A short last batch stays.
    assert compiled().fit(x[:32], y[:32], batch_size=5, verbose=0).params["steps"] == 7


def test_a_frozen_norm_takes_single_rows(blobs):
    x, y = blobs
    model = compiled()
    model.layers[1].trainable = False
    model.fit(x[:3], y[:3], batch_size=1, verbose=0)
    assert np.isfinite(model.train_on_batch(x[:1], y[:1])).all()


def test_order_of_the_rows(blobs):
    x, y = blobs
    fixed, again, shuffled = compiled("sgd"), compiled("sgd"), compiled("sgd")
    fixed.fit(x, y, shuffle=False, verbose=0)
    for first in range(0, len(x), 32):
        again.train_on_batch(x[first : first + 32], y[first : first + 32])
    shuffled.fit(x, y, verbose=0)
    assert_same(again.get_weights(), fixed.get_weights())
    assert not np.array_equal(shuffled.get_weights()[0], fixed.get_weights()[0])


def test_accumulated_gradients_are_one_large_batch(blobs):
    """Statistics included: eight chunks of 16 are a batch of 128."""
    x, y = blobs
    chunks, whole = (
        compiled(nbbn.optimizers.SGD(0.1, gradient_accumulation_steps=8)),
        compiled(nbbn.optimizers.SGD(0.1)),
    )
    chunks.fit(x, y, batch_size=16, verbose=0)
    whole.fit(x, y, batch_size=128, verbose=0)
    assert_same(chunks.get_weights(), whole.get_weights())


def test_batches_by_hand(blobs):
    x, y = blobs
    model = compiled()
    losses = [model.train_on_batch(x, y) for _ in range(20)]
    assert losses[-1][0] < losses[0][0] and losses[-1][1] > losses[0][1]
    assert list(model.train_on_batch(x, y, return_dict=True)) == ["loss", "accuracy"]
    assert model.test_on_batch(x, y) == model.evaluate(x, y, verbose=0)
    np.testing.assert_array_equal(model.predict_on_batch(x), model(x))
    assert type(compiled(metrics=[]).train_on_batch(x, y)) is float


def test_learning_rate_can_be_set(blobs):
    x, y = blobs
    model = compiled()
    model.fit(x, y, verbose=0)
    assert model.learning_rate == 0.001
    model.optimizer.learning_rate = 0.0
    before = model.get_weights()
    model.fit(x, y, verbose=0)
    after = model.get_weights()
    assert_same([after[i] for i in (0, 1, 2, 3, 6, 7)], [before[i] for i in (0, 1, 2, 3, 6, 7)])
    assert not np.array_equal(after[4], before[4])  # running statistics move on


def test_compile_starts_the_optimizer_afresh(blobs):
    x, y = blobs
    model = compiled()
    model.fit(x, y, verbose=0)
    fresh = network()
    fresh.build((None, 6))
    fresh.set_weights(model.get_weights())
    for m in (model, fresh):
        m.compile("adam", SPARSE)
        m.fit(x, y, shuffle=False, verbose=0)
    assert_same(model.get_weights(), fresh.get_weights())


def test_interrupted_fit_keeps_the_weights_so_far(blobs):
    x, y = blobs

    class Interrupts(nbbn.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 2:
                raise KeyboardInterrupt

    stopped, ref = compiled(), compiled()
    with pytest.raises(KeyboardInterrupt):
        stopped.fit(x, y, epochs=9, callbacks=[Interrupts()], verbose=1)
    ref.fit(x, y, epochs=2, verbose=0)
    assert_same(stopped.get_weights(), ref.get_weights())
    assert stopped.evaluate(x, y, verbose=0) == ref.evaluate(x, y, verbose=0)


# -- folding, files, statistics


class Meddling(nbbn.callbacks.Callback):
    """Does something to the model after one batch of the first epoch."""

    def __init__(self, change):
        super().__init__()
        self.change, self.done = change, False

    def on_train_batch_end(self, batch, logs=None):
        if batch == 1 and not self.done:
            self.done = True
            self.change(self.model)


def step(rows):
    return lambda model: model.train_on_batch(
        np.eye(rows, 6, dtype=np.float32), np.arange(rows) % 3
    )


CHANGES = {
    "freezes a layer": lambda model: setattr(model.layers[0], "trainable", False),
    "takes a smaller step": step(5),
    "takes a larger step": step(90),
    "compiles": lambda model: model.compile("sgd", SPARSE),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_callback_that_changes_the_model_counts_at_once(blobs, change):
    """The same bits as batches taken by hand, the change between them."""
    x, y = blobs[0][:192], blobs[1][:192]
    got, ref = compiled(input_shape=(6,)), compiled(input_shape=(6,))
    how = {"batch_size": 64, "shuffle": False, "verbose": 0}
    got.fit(x, y, epochs=2, callbacks=[Meddling(change)], **how)
    for batch in range(6):
        part = slice(64 * (batch % 3), 64 * (batch % 3) + 64)
        ref.fit(x[part], y[part], **how)
        if batch == 1:
            change(ref)
    for a, b in zip(got.get_weights(), ref.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rows_are_free_after_a_fit(blobs):
    """No cycle of objects keeps them until the collector comes by."""
    rows, model = blobs[0].copy(), compiled()
    alive = weakref.ref(rows)
    gc.disable()
    try:
        callbacks = [Meddling(lambda model: None)]
        model.fit(rows, blobs[1], epochs=2, verbose=0, callbacks=callbacks, validation_split=0.1)
        model.train_on_batch(rows, blobs[1])
        del rows
        assert alive() is None
    finally:
        gc.enable()


def test_fold(blobs):
    x, y = blobs
    model = compiled()
    model.fit(x, y, epochs=3, verbose=0)
    before = model.get_weights()
    folded = nbbn.fold(model, strict=True, check=x)
    assert folded.report.n_folded == 1
    np.testing.assert_allclose(folded.predict(x), model.predict(x), atol=1e-5)
    np.testing.assert_array_equal(model.fold().predict(x), folded.predict(x))
    assert_same(model.get_weights(), before)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_recalibrate(rng, dtype):
    """The statistics of all rows, in inference, layer by layer.

    Far from zero and beyond one chunk of rows.
    """
    x = rng.normal(size=(5000, 5)) * [1, 2, 3, 4, 5] + 1000
    model = Sequential(
        [BatchNormalization(dtype=dtype), Dense(4), Activation("tanh"), BatchNormalization()]
    )
    model.build((None, 5))
    model.recalibrate(x)
    w = [a.astype(np.float64) for a in model.get_weights()]
    tolerance = {"float32": 1e-4, "float64": 1e-10}[dtype]
    np.testing.assert_allclose(w[2], x.mean(0), rtol=tolerance)
    np.testing.assert_allclose(w[3], x.var(0), rtol=tolerance)
    h = np.tanh(((x - w[2]) / np.sqrt(w[3] + 1e-3)) @ w[4] + w[5])
    np.testing.assert_allclose(w[8], h.mean(0), atol=10 * tolerance)
    np.testing.assert_allclose(w[9], h.var(0), rtol=10 * tolerance)


def test_save_weights(blobs, tmp_path):
    model, other = compiled(), compiled(seed=2)
    model.fit(*blobs, verbose=0)
    model.save_weights(tmp_path / "model.weights.h5")
    other.load_weights(tmp_path / "model.weights.h5")
    assert_same(other.get_weights(), model.get_weights())
    assert not nbbn.models.load_model(tmp_path / "model.weights.h5").compiled


def test_save_keeps_what_was_compiled(tmp_path):
    model = network(input_shape=(6,))
    model.save(tmp_path / "bare.nbbn")
    assert not nbbn.load(tmp_path / "bare.nbbn").compiled
    optimizer = nbbn.optimizers.AdamW(0.01, weight_decay=0.1, clipnorm=1.0)
    loss = nbbn.losses.CategoricalCrossentropy(label_smoothing=0.1)
    model.compile(optimizer, loss, metrics=["accuracy", nbbn.metrics.TopKCategoricalAccuracy(k=2)])
    model.save(tmp_path / "model.nbbn")
    loaded = nbbn.load(tmp_path / "model.nbbn")
    assert loaded.optimizer == optimizer and loaded.loss == loss
    assert loaded.metrics_names == ["loss", "accuracy", "top_k_categorical_accuracy"]


def test_a_learning_rate_that_is_a_function_is_not_saved(blobs, tmp_path):
    model = compiled(nbbn.optimizers.SGD(lambda step: 0.1 / (step + 1)))
    model.fit(*blobs, verbose=0)
    assert model.learning_rate == pytest.approx(0.1 / 8)
    with pytest.warns(
        UserWarning,
        match=r"saved without the arguments of compile: SGD: a learning_rate that is a function",
    ):
        model.save(tmp_path / "model.nbbn")
    loaded = nbbn.load(tmp_path / "model.nbbn")
    assert_same(loaded.get_weights(), model.get_weights())
    assert not loaded.compiled


def test_existing_files(tmp_path):
    path = tmp_path / "model.nbbn"
    model = network(input_shape=(6,))
    model.save(path)
    model.save(path)
    with pytest.raises(nbbn.FileError, match=r"exists already; use overwrite=True"):
        model.save(path, overwrite=False)


def test_load_weights_of_another_kind(digits, tmp_path):
    model = network(input_shape=(6,))
    network(input_shape=(6,)).fold().save(tmp_path / "folded.nbbn")
    with pytest.raises(ValueError, match=r"holds a FoldedModel, no Sequential's weights"):
        model.load_weights(tmp_path / "folded.nbbn")


# -- helpers of programs


def test_to_categorical():
    np.testing.assert_array_equal(nbbn.utils.to_categorical([0, 2]), [[1, 0, 0], [0, 0, 1]])
    np.testing.assert_array_equal(nbbn.utils.to_categorical([[1.0]], 3), [[0, 1, 0]])
    np.testing.assert_array_equal(
        nbbn.utils.to_categorical(np.array([2, 0], np.uint8)), [[0, 0, 1], [1, 0, 0]]
    )
    assert nbbn.utils.to_categorical(np.zeros((2, 3), int), 4).shape == (2, 3, 4)
    with pytest.raises(TypeError, match=r"class indices, whole numbers, got dtype float64"):
        nbbn.utils.to_categorical([0.5])
    with pytest.raises(ValueError, match=r"from 0 to num_classes - 1 = 1, got 0 to 2"):
        nbbn.utils.to_categorical([0, 2], 2)


def test_set_random_seed():
    nbbn.set_random_seed(7)
    first = np.random.rand(), nbbn.utils.new_seed(), nbbn.utils.new_seed()  # noqa: NPY002
    nbbn.set_random_seed(7)
    assert first == (np.random.rand(), nbbn.utils.new_seed(), nbbn.utils.new_seed())  # noqa: NPY002
    assert first[1] != first[2]
    for seed in (-1, 1.5, True):
        with pytest.raises(ValueError, match=r"seed must be a whole number from 0"):
            nbbn.set_random_seed(seed)
