"""`Model` and layers called on values, as users have them; `test_graphs` tests the engine."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn.callbacks import Callback, EarlyStopping, ModelCheckpoint, NormMonitor
from nbbn.fallback import NumpyBlocks
from nbbn.fold.network import fold_network
from nbbn.network import Graph, Network
from nbbn.norm_monitor import look
from nbbn.optimizers import SGD

RNG = np.random.default_rng(0)
X, Z = RNG.normal(size=(60, 5)).astype("float32"), RNG.normal(size=(60, 3)).astype("float32")
LABELS, NUMBERS = (X.sum(1) > 0).astype(int), (X[:, 0] * Z[:, 0])[:, None]
BOTH = {"cls": "sparse_categorical_crossentropy", "reg": "mse"}


@pytest.fixture(autouse=True)
def _same_weights():
    nbbn.set_random_seed(0)


def residual(dtype=None):
    inputs = L.Input((5,))
    x = L.Dense(6, activation="relu", dtype=dtype)(inputs)
    y = L.BatchNormalization()(L.Dense(6)(x))
    return nbbn.Model(inputs, L.Dense(2, activation="softmax", name="out")(L.Add()([x, y])))


def pair(**more):
    """Two inputs, two outputs."""
    a, b = L.Input((5,), name="a"), L.Input((3,), name="b")
    x = L.BatchNormalization()(L.Concatenate()([L.Dense(4, activation="relu")(a), b]))
    made = nbbn.Model([a, b], [L.Dense(2, activation="softmax", name="cls")(x),
                               L.Dense(1, name="reg")(x)])
    made.compile("adam", **{"loss": BOTH, "loss_weights": {"cls": 1.0, "reg": 0.5},
                            "metrics": {"cls": "accuracy", "reg": ["mae"]}, **more})
    return made


def fitted(model, *data, epochs=2, **more):
    model.fit(*data, epochs=epochs, verbose=0, **more)
    return model


def alike(one, other):
    """Whether two models have the same bits."""
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


# -- training


def test_a_chain_trains_as_a_sequential():
    made = [L.Dense(7, activation="relu"), L.BatchNormalization(), L.Dropout(0.2),
            L.Dense(2, activation="softmax")]
    chain = nbbn.Sequential([L.Input((5,)), *made])
    inputs = L.Input((5,))
    x = inputs
    for layer in (L.Dense(7, activation="relu"), L.BatchNormalization(), L.Dropout(0.2),
                  L.Dense(2, activation="softmax")):
        x = layer(x)
    model = nbbn.Model(inputs, x)
    model.set_weights(chain.get_weights())
    model._layers.seed = chain._layers.seed  # of the rows' order and of dropout
    for each in (chain, model):
        each.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    histories = [each.fit(X, LABELS, epochs=3, batch_size=16, verbose=0, validation_split=0.2).history
                 for each in (chain, model)]
    assert histories[0] == histories[1]
    assert alike(chain, model)
    assert np.array_equal(chain.predict(X), model.predict(X))
    assert [layer.name for layer in model.layers[1:]] == [layer.name for layer in chain.layers]


def branched_loss(arrays, x, y, epsilon=1e-3):
    """The mean squared error of the network below in training, in NumPy."""
    k1, b1, k2, gamma, beta, k3, b3 = arrays
    h = np.tanh(x @ k1 + b1)
    z = h @ k2
    z = gamma * (z - z.mean(0)) / np.sqrt(z.var(0) + epsilon) + beta
    joined = np.concatenate([h + z, h * z, x], 1)
    return np.square(joined @ k3 + b3 - y).mean()


def test_branches_step_by_central_differences():
    inputs = L.Input((5,), dtype="float64")
    h = L.Dense(4, activation="tanh", dtype="float64")(inputs)
    z = L.BatchNormalization()(L.Dense(4, use_bias=False)(h))
    outputs = L.Dense(2)(L.Concatenate()([L.Add()([h, z]), L.Multiply()([h, z]), inputs]))
    model, x, y = nbbn.Model(inputs, outputs), X.astype(float), RNG.normal(size=(60, 2))
    model.compile(SGD(0.1), "mse")
    for _ in range(2):
        k1, b1, k2, gamma, beta, mean, var, k3, b3 = model.get_weights()
        arrays = [k1, b1, k2, gamma, beta, k3, b3]
        loss = model.train_on_batch(x, y)
        assert loss == pytest.approx(branched_loss(arrays, x, y), rel=1e-10)
        after = model.get_weights()
        del after[5:7]
        for i, (before, now) in enumerate(zip(arrays, after)):
            way, h = RNG.normal(size=before.shape), 1e-6
            ends = [branched_loss([*arrays[:i], before + s * h * way, *arrays[i + 1 :]], x, y)
                    for s in (1, -1)]
            slope = (ends[0] - ends[1]) / (2 * h)
            assert ((before - now) * way).sum() / 0.1 == pytest.approx(slope, rel=1e-5, abs=1e-8)


# -- several inputs


def test_inputs_by_list_and_by_name():
    model = pair()
    by_list = model.predict([X, Z])
    assert [out.shape for out in by_list] == [(60, 2), (60, 1)]
    for given in ({"b": Z, "a": X}, (X, Z)):
        assert all(map(np.array_equal, by_list, model.predict(given)))
    assert all(map(np.array_equal, by_list, model([X, Z])))
    one, other = pair(), pair()
    other.set_weights(one.get_weights())
    other._layers.seed = one._layers.seed
    fitted(one, [X, Z], [LABELS, NUMBERS])
    fitted(other, {"b": Z, "a": X}, {"reg": NUMBERS, "cls": LABELS})
    assert alike(one, other)
    assert model.input_shape == [(None, 5), (None, 3)]
    assert model.output_shape == [(None, 2), (None, 1)]


@pytest.mark.parametrize(("given", "words"), [
    ([X], r"x must be a list of 2 arrays, one for each input, got 1"),
    (X, r"x must be a list of 2 arrays, one for each input, got ndarray"),
    ([X, Z[:5]], r"x: all inputs must have as many rows as each other, got 60, 5"),
    ([Z, X], r"x\[0\] has rows of shape \(3,\).*the model takes rows of shape \(5,\)"),
    ({"a": X}, r"x must have the keys a, b, got a"),
])
def test_inputs_that_do_not_fit(given, words):
    model = pair()
    for call in (model.predict, lambda x: model.fit(x, [LABELS, NUMBERS], verbose=0),
                 lambda x: model.evaluate(x, [LABELS, NUMBERS], verbose=0)):
        with pytest.raises(ValueError, match=words):
            call(given)


def test_inputs_without_names_are_given_by_list():
    a, b = L.Input((5,)), L.Input((5,))
    model = nbbn.Model([a, b], L.Add()([a, b]))
    with pytest.raises(ValueError, match="inputs have no names; give a list, or name them"):
        model.predict({"a": X, "b": X})
    assert np.array_equal(model.predict([X, X]), 2 * X)


def test_the_only_input_and_output_in_lists_and_by_name():
    model = residual()
    model.compile("sgd", {"out": "sparse_categorical_crossentropy"}, metrics={"out": ["accuracy"]})
    assert np.array_equal(model.predict([X]), model.predict(X))
    assert [*model.fit(X, {"out": LABELS}, verbose=0).history] == ["loss", "accuracy"]
    with pytest.raises(ValueError, match=r"loss names 'outt'; the model's output is out"):
        model.compile("sgd", {"outt": "mse"})
    with pytest.raises(ValueError, match=r"y names 'a', 'b'; the model's output is out"):
        model.fit(X, {"a": LABELS, "b": LABELS}, verbose=0)


# -- several outputs


def test_figures_of_several_outputs():
    model = pair()
    names = ["loss", "cls_loss", "reg_loss", "cls_accuracy", "reg_mae"]
    assert model.metrics_names == names
    history = model.fit([X, Z], [LABELS, NUMBERS], epochs=2, verbose=0,
                        validation_data=([X, Z], {"cls": LABELS, "reg": NUMBERS})).history
    assert [*history] == names + [f"val_{name}" for name in names]
    figures = model.evaluate([X, Z], [LABELS, NUMBERS], verbose=0)
    assert figures == [history[f"val_{name}"][-1] for name in names]
    as_dict = model.evaluate([X, Z], [LABELS, NUMBERS], verbose=0, return_dict=True)
    assert as_dict == dict(zip(names, figures))
    cls, reg = model.predict([X, Z])
    assert figures[1] == pytest.approx(-np.log(cls[range(60), LABELS]).mean(), rel=1e-5)
    assert figures[2] == pytest.approx(np.square(reg - NUMBERS).mean(), rel=1e-5)
    assert figures[0] == pytest.approx(figures[1] + 0.5 * figures[2])
    assert figures[3] == (cls.argmax(1) == LABELS).mean()
    assert figures[4] == pytest.approx(np.abs(reg - NUMBERS).mean(), rel=1e-5)
    for key in ("", "val_"):
        assert history[f"{key}loss"] == pytest.approx(
            np.add(history[f"{key}cls_loss"], np.multiply(0.5, history[f"{key}reg_loss"])))
    on_batch = model.train_on_batch([X, Z], [LABELS, NUMBERS], return_dict=True)
    assert [*on_batch] == names
    rising = [name for name, rises in model.metric_directions().items() if rises]
    assert rising == ["cls_accuracy"]


@pytest.mark.parametrize(("more", "names"), [
    ({"loss": list(BOTH.values()), "loss_weights": [1.0, 0.5], "metrics": [["accuracy"], "mae"]},
     ["loss", "cls_loss", "reg_loss", "cls_accuracy", "reg_mae"]),
    ({"loss": ["mse", "mse"], "loss_weights": None, "metrics": None}, ["loss", "cls_loss", "reg_loss"]),
    ({"loss_weights": {"reg": 2.0}, "metrics": {"reg": "mae"}},
     ["loss", "cls_loss", "reg_loss", "reg_mae"]),
])
def test_ways_to_compile(more, names):
    model = pair(**more)
    assert model.metrics_names == names
    targets = [np.eye(2)[LABELS] if more.get("loss") == ["mse", "mse"] else LABELS, NUMBERS]
    assert [*model.fit([X, Z], targets, verbose=0).history] == names


def test_from_logits_of_an_output():
    inputs = L.Input((5,)), L.Input((3,))
    x = L.Concatenate()(list(inputs))
    plain, logit = L.Dense(1, activation="sigmoid", name="p"), L.Dense(1, name="p")
    models = [nbbn.Model(list(inputs), [last(x), L.Dense(1, name="q")(x)])
              for last in (plain, logit)]
    models[1].set_weights(models[0].get_weights())
    models[1]._layers.seed = models[0]._layers.seed
    for model, logits in zip(models, (False, True)):
        loss = nbbn.losses.BinaryCrossentropy(from_logits=logits)
        model.compile("sgd", [loss, "mse"])
        fitted(model, [X, Z], [LABELS, NUMBERS])
    figures = [model.evaluate([X, Z], [LABELS, NUMBERS], verbose=0) for model in models]
    assert figures[0] == pytest.approx(figures[1], rel=1e-5)


@pytest.mark.parametrize(("more", "words"), [
    ({"loss": ["mse"]}, r"loss must have one entry for each of the 2 outputs \(cls, reg\), got 1"),
    ({"loss": {"cls": "mse", "regg": "mse"}}, r"loss names 'regg'; the model's outputs are cls, reg"),
    ({"loss": {"cls": "mse"}}, r"loss lacks the output 'reg'"),
    ({"loss": None}, r"compile: loss must be given: a list, or a dict with cls"),
    ({"loss": "mse"}, r"loss must be a list with one entry for each of the 2 outputs \(cls, reg\), "
     r"or a dict by name, got 'mse'"),
    ({"loss_weights": 2.0}, r"loss_weights must be a list with one entry for each of the 2 outputs"),
    ({"loss_weights": ["1", 1]}, r"loss_weights must be finite numbers, got '1' for 'cls'"),
    ({"loss_weights": [1, np.nan]}, r"loss_weights must be finite numbers, got nan for 'reg'"),
    ({"metrics": ["mae"]}, r"metrics must have one entry for each of the 2 outputs"),
    ({"metrics": [["accuracy", "accuracy"], None]}, r"different names, got 'cls_accuracy' twice"),
])
def test_compile_that_does_not_fit(more, words):
    with pytest.raises(ValueError, match=words):
        pair(**more)


@pytest.mark.parametrize(("loss", "words"), [
    (["mse", "binary_crossentropy"], "loss 'binary_crossentropy' needs an output that ends with "
                                     "sigmoid, output 'reg' ends with linear"),
    ([nbbn.losses.SparseCategoricalCrossentropy(from_logits=True), "mse"],
     "from_logits=True takes outputs before the softmax, but output 'cls' ends with softmax"),
])
def test_losses_that_an_outputs_end_does_not_fit(loss, words):
    with pytest.raises(L.LayerError, match=words):
        pair(loss=loss, metrics=None).fit([X, Z], [LABELS, NUMBERS], verbose=0)


@pytest.mark.parametrize(("y", "words"), [
    (LABELS, r"y must be a list with one entry for each of the 2 outputs \(cls, reg\), .*ndarray"),
    (None, r"y must be a list .*got NoneType"),
    ([LABELS, NUMBERS[:4]], r"x has 60 rows, but y\['reg'\] has 4"),
    ({"cls": LABELS}, r"y lacks the output 'reg'; the model has cls, reg"),
    ([LABELS + 5, NUMBERS], r"y\['cls'\] holds the label"),
])
def test_targets_that_do_not_fit(y, words):
    model = pair()
    before = model.get_weights()
    with pytest.raises(ValueError, match=words):
        model.fit([X, Z], y, verbose=0)
    assert all(map(np.array_equal, before, model.get_weights()))


@pytest.mark.parametrize(("more", "words"), [
    ({"class_weight": {0: 2.0}}, "class_weight is not supported for a model of several outputs"),
    ({"sample_weight": [np.ones(60)] * 2}, "sample_weight must be one array, .*loss_weights"),
    ({"sample_weight": {"cls": np.ones(60)}}, "sample_weight must be one array, .*loss_weights"),
])
def test_weights_by_output_are_refused(more, words):
    with pytest.raises(ValueError, match=words):
        pair().fit([X, Z], [LABELS, NUMBERS], verbose=0, **more)


def test_weights_of_rows_count_for_all_outputs():
    model, weights = pair(), RNG.uniform(0.5, 2, 60)
    got = model.evaluate([X, Z], [LABELS, NUMBERS], sample_weight=weights, verbose=0)
    cls, reg = model.predict([X, Z])
    assert got[1] == pytest.approx((weights * -np.log(cls[range(60), LABELS])).mean(), rel=1e-5)
    step = model.train_on_batch([X, Z], [LABELS, NUMBERS], sample_weight=weights)
    assert step[0] == pytest.approx(step[1] + 0.5 * step[2], rel=1e-6)
    halves = model.fit([X, Z], [LABELS, NUMBERS], sample_weight=list(weights), verbose=0,
                       validation_split=0.5).history
    assert "val_reg_mae" in halves


def test_weights_of_rows_and_classes_of_one_output():
    """Twice a row is the row with weight 2, in a graph as in a chain."""
    one, other, heavy = residual("float64"), residual("float64"), LABELS == 1
    other.set_weights(one.get_weights())
    for model, more in ((one, {"class_weight": {1: 2.0}}),
                        (other, {"sample_weight": 1.0 + heavy})):
        model.compile(SGD(0.1), "sparse_categorical_crossentropy")
        model.train_on_batch(X, LABELS, **more)
    assert alike(one, other)


# -- shared layers, and models of models


def test_a_siamese_model():
    """One set of weights: swapped inputs, swapped outputs."""
    first, second = L.Dense(4, activation="tanh"), L.Dense(3)
    a, b = L.Input((5,), name="a"), L.Input((5,), name="b")
    ends = [second(first(a)), second(first(b))]
    model = nbbn.Model([a, b], ends)
    assert [layer.name for layer in model.layers] == ["a", "b", "dense", "dense_1"]
    assert model.output_names == ["dense_1", "dense_1_1"] == list(dict.fromkeys(model.output_names))
    assert [array.shape for array in model.get_weights()] == [(5, 4), (4,), (4, 3), (3,)]
    model.compile("sgd", ["mse", "mse"], metrics=[["mae"], ["mae"]])
    fitted(model, [X, X[::-1].copy()], [Z, Z])
    one, other = model.predict([X, X[::-1].copy()]), model.predict([X[::-1].copy(), X])
    assert np.array_equal(one[0], other[1])
    assert np.array_equal(one[1], other[0])
    distance = nbbn.Model([a, b], L.Subtract()(ends))
    assert np.array_equal(distance.predict([X, X[::-1].copy()]), one[0] - one[1])


def test_two_sequentials_with_the_same_layers_in_one_model():
    towers = [nbbn.Sequential([L.Dense(4, input_shape=(5,)), L.BatchNormalization()])
              for _ in range(2)]
    inputs = L.Input((5,))
    model = nbbn.Model(inputs, L.Add()([tower(inputs) for tower in towers]))
    names = ["input_layer", "sequential", "sequential_1", "add"]
    assert [layer.name for layer in model.layers] == names
    assert model.layers[1:3] == towers and model.layers[2].name == "sequential_1"
    assert [layer.name for layer in towers[1].layers] == ["dense", "batch_normalization"]
    for name, layer in zip(names, model.layers):
        assert model.get_layer(name) is layer
    assert np.array_equal(model.get_layer("dense_1").get_weights()[0], towers[1].get_weights()[0])
    model.get_layer("dense_1").trainable = False
    before = [tower.get_weights() for tower in towers]
    model.compile("sgd", "mse")
    fitted(model, X, np.ones((60, 4)))
    assert not np.array_equal(before[0][0], towers[0].get_weights()[0])
    assert np.array_equal(before[1][0], towers[1].get_weights()[0])
    assert not towers[1].layers[0].trainable
    np.testing.assert_allclose(model.predict(X), towers[0].predict(X) + towers[1].predict(X),
                               rtol=1e-5, atol=1e-6)


def features_of(base):
    return nbbn.Model(base.input, base.layers[-2].output)


@pytest.mark.parametrize("kind", ["sequential", "model"])
def test_a_part_of_a_model_shares_its_weights(kind, tmp_path):
    base = residual()
    if kind == "sequential":
        base = nbbn.Sequential([L.Dense(6, activation="relu", input_shape=(5,)),
                                L.BatchNormalization(), L.Dense(2, activation="softmax")])
    features = features_of(base)
    before = features.predict(X)
    base.compile("adam", "sparse_categorical_crossentropy")
    fitted(base, X, LABELS)
    after = features.predict(X)
    assert not np.array_equal(before, after)
    kernel, bias = base.layers[-1].get_weights()
    logits = after @ kernel + bias
    np.testing.assert_allclose(base.predict(X)[:, 1], 1 / (1 + np.exp(logits[:, 0] - logits[:, 1])),
                               rtol=1e-4)
    features.save(tmp_path / "f.st")
    assert np.array_equal(nbbn.load(tmp_path / "f.st").predict(X), after)
    features.compile("sgd", "mse")
    fitted(base, X, LABELS, epochs=1)  # newer ones are with the trainer of another
    shown = features.evaluate(X, np.zeros((60, 6)), verbose=0)
    assert shown == pytest.approx(np.square(features.predict(X)).mean(), rel=1e-5)
    ahead = base.predict(X)
    fitted(features, X, np.zeros((60, 6)), epochs=1)
    assert not np.array_equal(base.predict(X), ahead)
    text = []
    features.summary(print_fn=text.append)
    assert any("Total params" in line for line in text)


def test_fits_in_turn_go_on_from_each_others_weights():
    """As one model that is compiled anew: no step is lost, nor taken twice."""
    base = residual()
    twin = copy.deepcopy(base)
    features = features_of(base)
    zeros = np.zeros((60, 6))
    base.compile(SGD(0.1), "sparse_categorical_crossentropy")
    features.compile(SGD(0.1), "mse")
    for _ in range(2):
        base.train_on_batch(X, LABELS)
        features.train_on_batch(X, zeros)
    for _ in range(2):
        twin.compile(SGD(0.1), "sparse_categorical_crossentropy")
        twin.train_on_batch(X, LABELS)
        part = features_of(twin)
        part.compile(SGD(0.1), "mse")
        part.train_on_batch(X, zeros)
    for one, other in zip(base.get_weights(), twin.get_weights()):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_a_callback_that_trains_another_model_loses_no_step():
    base = residual()
    features = features_of(base)
    features.compile(SGD(0.0), "mse")

    class Other(Callback):
        def on_epoch_end(self, epoch, logs=None):
            features.layers[1].set_weights([np.full((5, 6), 0.5), np.zeros(6)])
            features.train_on_batch(X, np.zeros((60, 6)))

    base.compile(SGD(0.0), "sparse_categorical_crossentropy")
    base.fit(X, LABELS, epochs=2, verbose=0, callbacks=[Other()])
    assert (base.layers[1].get_weights()[0] == 0.5).all()
    base.fit(X, LABELS, epochs=1, verbose=0)
    assert (base.layers[1].get_weights()[0] == 0.5).all()


def test_an_autoencoder_of_two_models():
    encoder = nbbn.Sequential([L.Dense(2, activation="tanh", input_shape=(5,))])
    code = L.Input((2,))
    decoder = nbbn.Model(code, L.Dense(5)(L.Dense(4, activation="tanh")(code)), name="decoder")
    rows = L.Input((5,))
    whole = nbbn.Model(rows, decoder(encoder(rows)))
    whole.compile("adam", "mse")
    before = whole.evaluate(X, X, verbose=0)
    assert fitted(whole, X, X, epochs=20).evaluate(X, X, verbose=0) < before
    np.testing.assert_allclose(decoder.predict(encoder.predict(X)), whole.predict(X), atol=1e-6)
    assert decoder(code).shape == (None, 5)
    with pytest.raises(ValueError, match="the model has 1 inputs, got 2 values"):
        decoder([code, code])


def test_an_adversary_is_frozen_in_turn():
    maker = nbbn.Sequential([L.Dense(5, input_shape=(3,)), L.BatchNormalization()])
    judge = nbbn.Sequential([L.Dense(4, activation="relu", input_shape=(5,)),
                             L.Dense(1, activation="sigmoid")])
    judge.compile("sgd", "binary_crossentropy")
    noise = L.Input((3,))
    both = nbbn.Model(noise, judge(maker(noise)))
    both.compile("sgd", "binary_crossentropy")
    for _ in range(2):
        made, judged = maker.get_weights(), judge.get_weights()
        judge.trainable = True
        judge.train_on_batch(np.concatenate([X, maker.predict(Z)]), np.repeat([1, 0], 60))
        assert all(map(np.array_equal, made, maker.get_weights()))
        assert not np.array_equal(judged[0], judge.get_weights()[0])
        judge.trainable, judged = False, judge.get_weights()
        both.train_on_batch(Z, np.ones(60))
        assert all(map(np.array_equal, judged, judge.get_weights()))
        assert not np.array_equal(made[0], maker.get_weights()[0])


def test_what_a_model_is_made_of_stays_when_layers_are_frozen():
    base = nbbn.Sequential([L.Dense(4, input_shape=(5,)), L.BatchNormalization()])
    head = L.Dense(1)(base.output)
    base.trainable = False
    model = nbbn.Model(base.input, head)
    assert [layer.trainable for layer in model.layers[1:]] == [False, False, True]
    frozen = base.get_weights()
    model.compile("sgd", "mse")
    fitted(model, X, NUMBERS)
    assert all(map(np.array_equal, frozen, base.get_weights()))
    base.layers[0].trainable = True
    fitted(model, X, NUMBERS)
    same = list(map(np.array_equal, frozen, base.get_weights()))
    assert same == [False, False, True, True, True, True]
    base.add(L.ReLU())
    assert nbbn.Model(base.input, [base.output, head]).output_shape == [(None, 4), (None, 1)]


def test_frozen_from_the_start():
    inputs = L.Input((5,))
    model = nbbn.Model(inputs, L.Dense(2)(L.Dense(3)(inputs)), trainable=False)
    before = model.get_weights()
    model.compile("sgd", "mse")
    fitted(model, X, Z[:, :2])
    assert all(map(np.array_equal, before, model.get_weights()))


def test_a_sequential_shares_what_a_model_freezes():
    base = nbbn.Sequential([L.Dense(4, input_shape=(5,)), L.Dense(1)])
    base.compile("sgd", "mse")
    fitted(base, X, NUMBERS)
    nbbn.Model(base.input, base.output).layers[1].trainable = False
    before = base.get_weights()
    fitted(base, X, NUMBERS)
    assert list(map(np.array_equal, before, base.get_weights())) == [True, True, False, False]


def test_a_sequential_is_built_by_the_value_that_it_is_called_on():
    tail = nbbn.Sequential([L.Dense(3), L.ReLU()])
    inputs = L.Input((5,))
    model = nbbn.Model(inputs, tail(L.Dense(4)(inputs)))
    assert tail.input_shape == (None, 4)
    assert model.output_shape == (None, 3)
    with pytest.raises(L.LayerError, match=r"Dense 'dense': has weights of shapes .*'kernel': "
                       r"\(4, 3\).*needs .*\(7, 3\).*; it is called on Input with rows of shape "
                       r"\(7,\)"):
        tail(L.Input((7,)))


def test_layers_of_a_model_called_on_other_values():
    base = residual()
    other = L.Input((5,))
    copied = nbbn.Model(other, base.layers[1](other))
    assert np.array_equal(copied.get_weights()[0], base.get_weights()[0])
    assert base.get_layer("add").input == [base.get_layer("dense").output,
                                           base.get_layer("batch_normalization").output]


def test_sums_of_values():
    inputs = L.Input((5,))
    x, y = L.Dense(3)(inputs), L.Dense(3)(inputs)
    model = nbbn.Model(inputs, [x + y, x - y, x * y])
    added, less, product = model.predict(X)
    a, b = (nbbn.Model(inputs, value).predict(X) for value in (x, y))
    for got, ref in ((added, a + b), (less, a - b), (product, a * b)):
        np.testing.assert_allclose(got, ref, rtol=1e-6)


def test_a_model_begins_in_the_midst_of_another():
    base = residual()
    middle = base.get_layer("add").output
    tail = nbbn.Model(middle, base.output)
    np.testing.assert_allclose(tail.predict(nbbn.Model(base.input, middle).predict(X)),
                               base.predict(X), rtol=1e-5)
    assert [layer.name for layer in tail.layers] == ["input_layer", "out"]


# -- files, copies


@pytest.mark.parametrize("make", [residual, pair])
def test_a_saved_model_goes_on_bit_for_bit(make, tmp_path):
    model, data = make(), ([X, Z], [LABELS, NUMBERS])
    if make is residual:
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        data = X, LABELS
    fitted(model, *data)
    model.save(tmp_path / "m.st")
    again = [nbbn.load(tmp_path / "m.st"), pickle.loads(pickle.dumps(model)), copy.deepcopy(model)]
    fitted(model, *data)
    for other in again:
        assert other.loss == model.loss
        assert other.metrics_names == model.metrics_names
        assert repr(other) == repr(model)
        fitted(other, *data)
        assert alike(model, other)
        assert other.evaluate(*data, verbose=0) == model.evaluate(*data, verbose=0)
        first = next(layer for layer in other.layers if layer.get_weights())
        part = nbbn.Model(other.inputs[0], first.output)
        first.set_weights([np.zeros((5, n := len(first.get_weights()[1]))), np.ones(n)])
        assert (part.predict(X) == 1).all()


def test_names_of_rows_are_in_the_file(tmp_path):
    dense, a, b = L.Dense(3), L.Input((5,)), L.Input((5,))
    model = nbbn.Model({"u": a, "v": b}, {"p": dense(a), "q": dense(b)})
    model.compile("sgd", {"q": "mae", "p": "mse"}, loss_weights={"q": 3.0})
    fitted(model, {"v": X, "u": X}, {"q": Z, "p": Z})
    model.save(tmp_path / "m.st")
    model.save_weights(tmp_path / "w.st")
    for path in ("m.st", "w.st"):
        other = nbbn.load(tmp_path / path)
        assert other.output_names == ["p", "q"]
        assert np.array_equal(other.predict({"v": X, "u": X})["p"],
                              model.predict([X, X])["p"])
    assert nbbn.load(tmp_path / "m.st").loss == model.loss


def test_weights_alone(tmp_path):
    model, other = pair(), pair()
    fitted(model, [X, Z], [LABELS, NUMBERS])
    model.save_weights(tmp_path / "w.st")
    other.load_weights(tmp_path / "w.st")
    assert alike(model, other)
    with pytest.raises(ValueError, match=r"kernel must have shape \(5, 6\), got \(5, 4\)"):
        residual().load_weights(tmp_path / "w.st")
    nbbn.Sequential([L.Dense(3, input_shape=(5,))]).save_weights(tmp_path / "s.st")
    with pytest.raises(ValueError, match="holds a Sequential, no Model's weights"):
        other.load_weights(tmp_path / "s.st")


def test_models_pickled_together_share_their_weights():
    base = residual()
    features = features_of(base)
    base, features = pickle.loads(pickle.dumps((base, features)))
    base.layers[1].set_weights([np.zeros((5, 6)), np.ones(6)])
    assert np.array_equal(features.get_weights()[1], np.ones(6))


def test_a_deep_model_is_copied_and_saved(tmp_path):
    inputs = x = L.Input((2,))
    for _ in range(400):
        x = L.ReLU()(x)
    model = nbbn.Model(inputs, x)
    model.save(tmp_path / "deep.st")
    for other in (nbbn.load(tmp_path / "deep.st"), pickle.loads(pickle.dumps(model)),
                  copy.deepcopy(model)):
        assert other.predict([[-1.0, 2.0]]).tolist() == [[0.0, 2.0]]


# -- folding, other programs, exact statistics


def test_a_folded_model():
    model = residual()
    model.compile("adam", "sparse_categorical_crossentropy")
    folded = fitted(model, X, LABELS).fold()
    assert folded.report.n_folded == folded.report.n_total == 1
    assert [type(layer).__name__ for layer in folded.network.layers] == [
        "Dense", "Dense", "Add", "Dense"]
    np.testing.assert_allclose(folded.predict(X), model.predict(X), rtol=1e-4, atol=1e-6)
    assert "dense_1" in folded._repr_html_()


def test_a_folded_model_of_several_inputs_and_outputs(tmp_path):
    model = fitted(pair(), [X, Z], [LABELS, NUMBERS])
    folded = model.fold(strict=True, check=[X, Z])
    assert folded.report.rows_checked == 124
    assert nbbn.fold(model, check=[X, Z]).report.rows_checked == 124
    folded.save(tmp_path / "f.st")
    flat = np.concatenate([X, Z], 1)
    for each in (folded, nbbn.load(tmp_path / "f.st")):
        for given in ([X, Z], (X.tolist(), Z), flat):
            for got, ref in zip(each.predict(given), model.predict([X, Z]), strict=True):
                np.testing.assert_allclose(got, ref, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="X has 4 features, but the model expects 3"):
        folded.predict([X, np.zeros((60, 4))])
    with pytest.raises(ValueError, match="as many rows as each other, got 60, 5"):
        folded.predict([X, Z[:5]])


def test_c_and_onnx_have_inputs_and_outputs_by_name(tmp_path):
    pytest.importorskip("onnx")
    model = pair()
    source = model.fold().to_c(tmp_path / "net.c")
    for name, numbers in (("X_A", 5), ("X_B", 3), ("OUT_CLS", 2), ("OUT_REG", 1)):
        assert f"#define NET_{name} {numbers}" in source
    written = nbbn.interop.to_onnx(model, tmp_path / "net.onnx")
    assert [(value.name, value.type.tensor_type.shape.dim[1].dim_value) for value in
            (*written.graph.input, *written.graph.output)] == [
                ("a", 5), ("b", 3), ("cls", 2), ("reg", 1)]
    runtime = pytest.importorskip("onnxruntime")
    session = runtime.InferenceSession(str(tmp_path / "net.onnx"))
    for got, ref in zip(session.run(None, {"a": X, "b": Z}), model.predict([X, Z])):
        np.testing.assert_allclose(got, ref, rtol=1e-4, atol=1e-6)


def exact(values):
    return [values.mean(tuple(range(values.ndim - 1))), values.var(tuple(range(values.ndim - 1)))]


def test_recalibrate_goes_along_the_branches():
    inputs = L.Input((5,))
    a = L.BatchNormalization(name="first")(inputs)
    b = L.BatchNormalization(name="second")(L.Dense(5, activation="tanh")(inputs))
    c = L.BatchNormalization(name="third")(L.Multiply()([a, b]))
    model = nbbn.Model(inputs, L.Add()([c, a]))
    model.recalibrate(X)
    for name in ("first", "second", "third"):
        layer = model.get_layer(name)
        given = X if name == "first" else nbbn.Model(inputs, layer.input).predict(X)
        for got, ref in zip(layer.get_weights()[2:], exact(given.astype(float))):
            np.testing.assert_allclose(got, ref, rtol=1e-5, atol=1e-6)


def test_recalibrate_of_several_inputs_and_a_shared_norm():
    a, b = L.Input((5,), name="a"), L.Input((2, 5), name="b")
    norm, dense = L.BatchNormalization(), L.Dense(4)
    ends = [L.BatchNormalization(name="last")(dense(norm(a))), dense(norm(b))]
    model, images = nbbn.Model([a, b], ends), RNG.normal(size=(60, 2, 5)).astype("float32")
    model.recalibrate({"b": images, "a": X})
    whole = np.concatenate([X, images.reshape(-1, 5)]).astype(float)
    mean, var = model.get_layer("batch_normalization").get_weights()[2:]
    np.testing.assert_allclose(mean, whole.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(var, whole.var(0), rtol=1e-5)
    given = nbbn.Model(a, model.get_layer("last").input).predict(X).astype(float)
    for got, ref in zip(model.get_layer("last").get_weights()[2:], exact(given)):
        np.testing.assert_allclose(got, ref, rtol=1e-5, atol=1e-6)


def test_recalibrate_refuses_a_norm_of_its_own_results():
    inputs, norm = L.Input((5,)), L.BatchNormalization(name="again")
    model = nbbn.Model(inputs, norm(L.ReLU()(norm(inputs))))
    with pytest.raises(ValueError, match=r"depends on its own results.*: again"):
        model.recalibrate(X)


def test_the_command_line_has_rows_and_outputs_flat(tmp_path, capsys):
    from nbbn.cli import main

    model, flat = pair(), np.concatenate([X, Z], 1)
    model.save(tmp_path / "m.safetensors")
    np.save(tmp_path / "x.npy", flat)
    made, folded, out = (str(tmp_path / name) for name in ("m.safetensors", "f.safetensors", "y.npy"))
    assert main(["fold", made, folded, "--check", str(tmp_path / "x.npy")]) == 0
    for each in (made, folded):
        assert main(["predict", each, str(tmp_path / "x.npy"), out]) == 0
        ref = np.concatenate(model.predict([X, Z]), 1)
        np.testing.assert_allclose(np.load(out), ref, rtol=1e-4, atol=1e-6)
        assert main(["inspect", each]) == 0
    assert main(["verify", made, folded]) == 0
    assert "Concatenate" in capsys.readouterr().out
    assert all(map(np.array_equal, model.predict(flat), model.predict([X, Z])))


@pytest.mark.parametrize(("calls", "words"), [
    ([(0, -1)], r"the graph calls layers \[0\] of 2"), ([(0, -1), (1, 0), (2, 1)], r"\[0, 1, 2\] of 2"),
    ([(0, -1), (1, 0, -1)], "gives 2 rows to a Dense, which takes one"),
])
def test_a_file_of_a_graph_that_does_not_hold(calls, words):
    model = nbbn.Sequential([L.Dense(5, input_shape=(5,)), L.Dense(3)])
    config = model.network().config()
    config["graph"] = {"calls": calls, "inputs": [[5]], "outputs": [len(calls) - 1]}
    with pytest.raises(L.LayerError, match=words):
        Network.from_config(config, model.network().weights)


# -- around a model


def test_what_is_shown(capsys):
    model = residual()
    assert repr(model).startswith("<Model 'functional': Dense(units=6, activation='relu', ")
    assert repr(model.inputs) == "[Input(shape=(5,))]"
    assert repr(model.output).startswith("<Value of shape (None, 2), of Dense(units=2")
    model.summary()
    text, html = capsys.readouterr().out, model._repr_html_()
    for shown in ("dense_1 (Dense)", "add (Add)", "(None, 6)", "Total params: 116"):
        assert shown in text
    assert "add (Add)" in html
    assert "Connected to" in text and "dense[0][0]" in text
    shared = L.Dense(5)
    a = L.Input((5,), name="a")
    nbbn.Model(a, shared(shared(a))).summary(line_length=120)
    assert "a[0][0], dense[0][0]" in capsys.readouterr().out
    nbbn.Model(a, L.Dense(2)(a)).summary()
    assert "Connected" not in capsys.readouterr().out
    assert model.count_params() == 116
    assert model.get_layer(index=-1).name == "out"
    with pytest.raises(ValueError, match="no layer is named 'x'; the names are input_layer, dense, "
                       "dense_1"):
        model.get_layer("x")


def test_callbacks(tmp_path):
    model, path = pair(), tmp_path / "best.st"
    stop = EarlyStopping("val_reg_loss", patience=1, restore_best_weights=True)
    kept = ModelCheckpoint(path, monitor="val_reg_loss", save_best_only=True)
    rows = [X[:9], Z[:9]]
    given = rows, [LABELS[:9], model.predict(rows)[1]]  # further and further from the first
    history = model.fit([X, Z], [LABELS, NUMBERS], epochs=30, verbose=0, callbacks=[stop, kept],
                        validation_data=given).history
    assert len(history["loss"]) < 30
    best = min(history["val_reg_loss"])
    for each in (model, nbbn.load(path)):
        assert each.evaluate(*given, verbose=0, return_dict=True)["reg_loss"] == best


def test_the_norm_monitor_follows_the_branches():
    inputs = L.Input((5,), name="a"), L.Input((5,), name="b")
    dense = L.Dense(5, name="dense")
    norm = L.BatchNormalization(name="norm")(L.Add()([dense(inputs[0]), dense(inputs[1])]))
    model = nbbn.Model(list(inputs), L.Dense(1)(L.Concatenate()([norm, inputs[0]])))
    model.compile(SGD(0.0), "mse")
    monitor = NormMonitor([X, X], max_lag=9)
    fitted(model, [X, X], NUMBERS, epochs=1, callbacks=[monitor])
    kernel, bias = model.get_layer("dense").get_weights()
    ref = (2 * (X @ kernel + bias)).std(0)
    spread = look(model.network(), np.concatenate([X, X], 1)).spread
    np.testing.assert_allclose(spread["norm"], ref, rtol=1e-4)


def test_partitions():
    parts = nbbn.Partitions([(X[:40], LABELS[:40]), (X[40:], LABELS[40:])])
    model = residual()
    model.compile("sgd", "sparse_categorical_crossentropy")
    assert fitted(model, parts).predict(nbbn.Partitions([(X,)])).shape == (60, 2)
    for call in (pair().predict, pair().recalibrate, pair().fit, pair().evaluate):
        with pytest.raises(TypeError, match="Partitions, which a model of several inputs does not"):
            call(parts)
    inputs = L.Input((5,))
    two = nbbn.Model(inputs, [L.Dense(2)(inputs), L.Dense(1)(inputs)])
    two.compile("sgd", ["mse", "mse"])
    with pytest.raises(TypeError, match="Partitions, which a model of several outputs does not"):
        two.fit(parts)
    assert [out.shape for out in two.predict(parts)] == [(60, 2), (60, 1)]


def test_estimators_take_lists_of_layers():
    with pytest.raises(ValueError, match="'layers' parameter of SequentialClassifier must be"):
        nbbn.SequentialClassifier(residual()).fit(X, LABELS)


def test_ranks_have_the_same_links_and_one_input():
    from nbbn.distributed.fit import _check_model, _facts

    inputs = L.Input((5,))
    a = L.Dense(5)(inputs)
    models = [nbbn.Model(inputs, L.Subtract()([a, L.Dense(5)(value)])) for value in (a, inputs)]
    assert _facts(models[0])["layers"] == _facts(models[1])["layers"]
    assert _facts(models[0])["links"] != _facts(models[1])["links"]
    _check_model(models[0])
    with pytest.raises(TypeError, match=r"several inputs or outputs, which nbbn\.distributed does"):
        _check_model(pair())


# -- what is refused


def unlisted():
    a, b = L.Input((5,)), L.Input((3,), name="other")
    nbbn.Model(a, L.Concatenate()([a, b]))


def unused():
    a, b = L.Input((5,)), L.Input((3,), name="other")
    nbbn.Model([a, b], L.ReLU()(a))


def input_that_is_an_output():
    x = L.Dense(3)(L.Input((5,)))
    nbbn.Model(x, [x, L.ReLU()(x)])


def twice():
    a = L.Input((5,))
    nbbn.Model([a, a], L.ReLU()(a))


def inputs_of_one_name():
    a, b = L.Input((5,), name="a"), L.Input((5,), name="a")
    nbbn.Model([a, b], L.Add()([a, b]))


def layers_of_one_name():
    a = L.Input((5,))
    nbbn.Model(a, L.Dense(3, name="x")(L.Dense(3, name="x")(a)))


def two_dtypes():
    a = L.Input((5,))
    nbbn.Model(a, L.Dense(3, dtype="float64")(L.Dense(3, dtype="float32")(a)))


def shapes_that_do_not_meet():
    a = L.Input((5,))
    L.Add()([L.Dense(3, name="p")(a), L.Dense(4, name="q")(a)])


def rows_that_are_no_images():
    L.Conv2D(3, 3)(L.Dense(3, name="p")(L.Input((5,))))


def weights_for_other_rows():
    dense = L.Dense(3)
    dense(L.Input((5,)))
    dense(L.Input((4,)))


def weights_of_another_dtype():
    single = nbbn.Sequential([L.Dense(3, input_shape=(5,))])
    nbbn.Model(a := L.Input((5,)), L.Dense(3, dtype="float64")(single(a)))


def subclass():
    class Mine(nbbn.Model):
        def call(self, x):
            return x

    Mine()


REFUSED = {
    unlisted: (ValueError, r"an output depends on Input\(.*'other'\), which is not among the inputs; "
                           r"list it"),
    unused: (ValueError, r"no output depends on input 2 of 2, Input\(.*leave it out, or use it"),
    input_that_is_an_output: (ValueError, "an output is one of the inputs"),
    twice: (ValueError, "an input is listed twice"),
    inputs_of_one_name: (ValueError, "inputs need different names, got a, a"),
    layers_of_one_name: (ValueError, "two layers are named 'x'; give another name"),
    two_dtypes: (L.LayerError, "one dtype, got 'dense'.* in float32 and .* in float64"),
    shapes_that_do_not_meet: (
        L.LayerError, r"Add: rows must have the same shape.*got \(3,\) and \(4,\); it is called on "
                      r"Dense 'p' with rows of shape \(3,\) and Dense 'q' with rows of shape \(4,\)"),
    rows_that_are_no_images: (L.LayerError, r"Conv2D: needs rows of shape .*Dense 'p'.*\(3,\)"),
    weights_for_other_rows: (L.LayerError, r"Dense: has weights .*\(5, 3\).* needs .*\(4, 3\)"),
    weights_of_another_dtype: (
        L.LayerError, "one dtype: 'dense'.* has weights in another than float64"),
    subclass: (TypeError, "Model takes inputs and outputs: .*class of its own.*not supported"),
    lambda: L.Dense(3)(L.Input((5,)), training=True): (
        L.LayerError, "training=True is not supported: fit trains, all else is inference"),
    lambda: residual()(L.Input((5,)), training=True): (
        ValueError, "on values with training=True is not supported"),
    lambda: L.Dense(3)([L.Input((3,)), L.Input((3,))]): (L.LayerError, "takes one value, got a list"),
    lambda: L.Add()(L.Input((3,))): (L.LayerError, "a list of at least 2 tensors, got 1"),
    lambda: L.Subtract()([L.Input((3,))] * 3): (L.LayerError, "a list of 2 tensors, got 3"),
    lambda: nbbn.Model(L.Input((3,)), L.Dense(3)): (TypeError, "outputs must be what layers give"),
    lambda: nbbn.Model((3,), L.Dense(3)(L.Input((3,)))): (TypeError, "inputs must be .*got int"),
    lambda: nbbn.Model(L.Input((3,)), []): (ValueError, "there are no outputs"),
    lambda: np.asarray(L.Dense(3)(L.Input((3,)))): (TypeError, "holds no numbers: make a Model"),
    lambda: residual().fit(X, LABELS): (RuntimeError, "fit: call compile"),
    lambda: residual().compile("sgd", "mse", loss_weights=[2.0]): (
        ValueError, "loss_weights is not supported for a model of one output"),
}


@pytest.mark.parametrize("call", REFUSED)
def test_refused(call):
    kind, words = REFUSED[call]
    with pytest.raises(kind, match=words):
        call()


def of_a_circle():
    a = L.Input((3,))
    x = L.Dense(3)(a)
    y = L.Add()([x, L.Dense(3)(x)])
    x.sources = (y,)
    return nbbn.Model(a, y)


def of_other_shapes():
    a, b = L.Input((3,)), L.Input((4,))
    return L.Add()([L.Dense(2, name="left")(a), L.Dense(3, name="right")(b)])


def of_an_input_that_nobody_reads():
    a, b = L.Input((3,)), L.Input((4,))
    return nbbn.Model([a, b], L.Dense(2)(a))


def of_an_input_that_is_not_listed():
    a, b = L.Input((3,)), L.Input((4,))
    return nbbn.Model(a, L.Concatenate()([a, b]))


def of_one_loss_in_a_list():
    a = L.Input((3,))
    nbbn.Model(a, [L.Dense(2)(a), L.Dense(3)(a)]).compile("sgd", ["mse"])


def of_a_call_that_nobody_reads():
    return Graph.from_config({"calls": [[0, -1], [1, -1]], "inputs": [[3]], "outputs": [0]})


class OfOnesOwn(nbbn.Model):
    def call(self, x):
        return x


@pytest.mark.parametrize(("make", "words"), [
    (of_a_circle, r"the layers go round in a circle: what Add\(\) gives depends on itself"),
    (of_other_shapes, r"got \(2,\) and \(3,\); it is called on Dense 'left' with rows of shape "
     r"\(2,\) and Dense 'right' with rows of shape \(3,\)"),
    (of_an_input_that_nobody_reads, "no output depends on input 2 of 2"),
    (of_an_input_that_is_not_listed, r"depends on Input\(shape=\(4,\)\), which is not among"),
    (of_one_loss_in_a_list, "loss must have one entry for each of the 2 outputs"),
    (of_a_call_that_nobody_reads, "nobody reads what call 1 of the graph gives"),
    (OfOnesOwn, "A model written as a class of its own"),
], ids=lambda one: getattr(one, "__name__", "words"))
def test_graphs_that_are_none(make, words):
    with pytest.raises((ValueError, TypeError), match=words):
        make()


def test_features_of_a_layer_in_the_midst():
    a = L.Input((3,))
    model = nbbn.Model(a, L.Dense(2)(L.Dense(4, name="hidden")(a)))
    hidden = model.get_layer("hidden")
    assert hidden.input is a and hidden.output.shape == (None, 4)
    features = nbbn.Model(model.inputs, hidden.output)
    kernel, bias = hidden.get_weights()
    x = np.ones((2, 3), np.float32)
    np.testing.assert_allclose(features.predict(x), x @ kernel + bias, rtol=1e-6)


def test_numbers_for_an_embedding_that_are_picked_and_moved():
    """Each of a row's numbers has a table of its own, and the rest is none of any."""
    row = L.Input((4,))
    turned = L.Permute((2, 1))(L.Reshape((2, 2))(row))
    ends = [L.Flatten()(L.Embedding(count, 2)(L.Cropping1D(sides)(turned)))
            for count, sides in ((3, (0, 1)), (5, (1, 0)))]
    model = nbbn.Model(row, L.Dense(1)(L.Concatenate()(ends)))
    assert model.predict([[2, 4, 2, 4]]).shape == (1, 1)
    for x in ([[3, 4, 2, 4]], [[2, 4, 3, 4]], [[2, 5, 2, 4]], [[2, 4, 2, 5]]):
        for call in (model.predict, model.fold().predict):
            with pytest.raises(ValueError, match="which an Embedding reads: it takes whole"):
                call(np.array(x))


def test_numbers_that_an_embedding_does_not_have():
    model = nbbn.Sequential([nbbn.Input((2,)), L.Embedding(3, 2), L.Flatten(), L.Dense(1)])
    model.compile("sgd", "mse")
    before = model.get_weights()
    for x, shown in [([[0, 1], [0, 3]], "3 in row 1"), ([[-1, 0]], "-1 in row 0"),
                     ([[0.5, 1]], "0.5 in row 0"), ([[0, 2**24 + 1]], "16777217 in row 0")]:
        words = f"x holds {shown}, which an Embedding reads: it takes whole numbers from 0 to 2"
        for call in (model.predict, lambda x: model.fit(x, np.zeros((len(x), 1)), verbose=0),
                     lambda x: model.evaluate(x, np.zeros((len(x), 1)), verbose=0)):
            with pytest.raises(ValueError, match=words):
                call(np.array(x))
        with pytest.raises(ValueError, match=words.replace("x holds", "X holds")):
            model.fold().predict(np.array(x))
        with pytest.raises(ValueError, match=r"X holds .* which an Embedding reads"):
            model.fold().predict(np.array(x, np.float32))
    assert all(map(np.array_equal, before, model.get_weights()))
    with pytest.raises(ValueError, match=r"mask_zero: not supported, got True"):
        L.Embedding(3, 2, mask_zero=True)
    with pytest.raises(ValueError, match=r"input_dim must be at most 2\*\*24"):
        L.Embedding(2**24 + 1, 2)
    trained = nbbn.Sequential([nbbn.Input((3,)), L.Dense(3), L.Embedding(4, 2)])
    trained.compile("sgd", "mse")
    with pytest.raises(ValueError, match="which have no gradient by it"):
        trained.fit(np.zeros((4, 3)), np.zeros((4, 3, 2)), verbose=0)


def test_a_normalization_is_adapted_before_it_is_used():
    rows = RNG.normal(3, 5, (50, 4))
    layer = L.Normalization(dtype="float64")
    with pytest.raises(ValueError, match=r"call adapt\(data\) before the model is made"):
        layer(L.Input((4,)))
    layer.adapt(rows)
    batches = L.Normalization(dtype="float64")
    batches.adapt([rows[:7], rows[7:9], rows[9:]])
    for one in (layer, batches):
        model = nbbn.Sequential([L.Input((4,)), one])
        np.testing.assert_allclose(model.predict(rows), (rows - rows.mean(0)) / rows.std(0),
                                   rtol=1e-12, atol=1e-12)
    value = layer(L.Input((4,)))
    assert value.shape == (None, 4)
    with pytest.raises(ValueError, match="a model uses the layer already"):
        layer.adapt(rows)
    with pytest.raises(ValueError, match="must be given both, or none"):
        L.Normalization(mean=0.0)
    with pytest.raises(ValueError, match="do not fit rows of shape"):
        L.Normalization(mean=[0.0, 1.0], variance=1.0).operations((3,))
    with pytest.raises(ValueError, match="data holds NaN or infinity"):
        L.Normalization().adapt([[np.nan, 1.0]])


@pytest.mark.parametrize("padding", ["valid", "same"])
def test_what_numbers_go_through_folds_into_the_first_layer(padding):
    """An offset does not go through zeros around an image, a scale does."""
    of_both, of_scale = L.Rescaling(0.5, [1.0, 2.0, 3.0]), L.Rescaling(1 / 255)
    for before, folds in ((of_both, padding == "valid"), (of_scale, True)):
        model = nbbn.Sequential([L.Input((5, 6, 3)), before, L.Conv2D(4, 3, padding=padding,
                                                                      dtype="float64")])
        folded, report = fold_network(model.network())
        kinds = [type(layer) for layer in folded.layers]
        assert (L.Rescaling in kinds) != folds and report.n_folded == int(folds)
        x = RNG.normal(size=(3, 5, 6, 3))
        np.testing.assert_allclose(NumpyBlocks(folded).run(x), NumpyBlocks(model.network()).run(x),
                                   rtol=1e-11, atol=1e-11)


def test_layers_that_merge_as_functions():
    a, b = L.Input((3,)), L.Input((3,))
    for function, kind in [(L.add, L.Add), (L.subtract, L.Subtract), (L.multiply, L.Multiply),
                           (L.average, L.Average), (L.maximum, L.Maximum), (L.minimum, L.Minimum),
                           (L.concatenate, L.Concatenate), (L.dot, L.Dot)]:
        value = function([a, b], name="merged")
        assert isinstance(value.layer, kind) and value.layer.name == "merged"
    assert L.concatenate([a, b]).shape == (None, 6) and L.dot([a, b], axes=1).shape == (None, 1)
