"""Models within models stay what they are: as layers, in files, in tables and pictures."""

from __future__ import annotations

import copy
import pickle
import re

import numpy as np
import pytest

import nbbn
from nbbn import layers as L
from nbbn.models import clone_model, model_from_json
from nbbn.utils import plot_model

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 4)).astype("float32")
Y = RNG.normal(size=(40, 2)).astype("float32")


def encoder(name="encoder"):
    inputs = nbbn.Input((4,), name="rows")
    x = L.BatchNormalization(name="norm")(L.Dense(3, name="dense")(inputs))
    return nbbn.Model(inputs, L.Add(name="add")([x, L.ReLU(name="relu")(x)]), name=name)


def whole(base=None):
    """A branched model, a Sequential and layers of the same names beside each other."""
    inputs = nbbn.Input((4,))
    head = nbbn.Sequential([L.Dense(5, name="dense"), L.BatchNormalization()], name="head")
    x = (base or encoder())(inputs)
    x = L.Concatenate(name="add")([head(x), L.Dense(2, name="dense")(x)])
    return nbbn.Model(inputs, L.Dense(2, name="out")(x))


def twins():
    """A tower that is called twice, itself with a model within."""
    inner, inputs = encoder(), nbbn.Input((4,))
    tower = nbbn.Model(inputs, L.Dense(2)(inner(inputs)), name="tower")
    a, b = nbbn.Input((4,), name="a"), nbbn.Input((4,), name="b")
    return nbbn.Model([a, b], L.Subtract()([tower(a), tower(b)]))


def branched_sequential():
    return nbbn.Sequential([L.Dense(4, input_shape=(4,)), encoder(), L.Dense(2)])


def chain():
    inner = nbbn.Sequential([L.Dense(3), nbbn.Sequential([L.ReLU(), L.Dense(3)], name="deep")],
                            name="inner")
    return nbbn.Sequential([inner, L.Dense(2), nbbn.Sequential([L.ReLU()])])


MAKERS = {"whole": whole, "twins": twins, "branched_sequential": branched_sequential,
          "chain": chain}


def outline(model):
    """Names and classes of layers, models within as what they have."""
    return [(layer.name, type(layer).__name__, outline(layer) if hasattr(layer, "layers") else
             layer.__class__.__name__) for layer in model.layers]


def rows(model):
    return [X, X[::-1].copy()] if len(model.layers) > 1 and model.layers[1].name == "b" else X


def test_a_model_is_one_layer():
    base = encoder()
    model = whole(base)
    assert [layer.name for layer in model.layers] == [
        "input_layer", "encoder", "head", "dense", "add", "out"]
    assert model.layers[1] is base and model.get_layer("encoder") is base
    assert [layer.name for layer in model.get_layer("head").layers] == [
        "dense", "batch_normalization"]
    assert [layer.name for layer in base.layers] == ["rows", "dense", "norm", "relu", "add"]
    assert [weight.path for weight in model.weights] == [
        "dense/kernel", "dense/bias", "norm/gamma", "norm/beta", "norm/moving_mean",
        "norm/moving_variance", "dense/kernel", "dense/bias", "batch_normalization/gamma",
        "batch_normalization/beta", "batch_normalization/moving_mean",
        "batch_normalization/moving_variance", "dense/kernel", "dense/bias", "out/kernel",
        "out/bias"]
    assert [weight.shape for weight in model.weights] == [w.shape for w in model.get_weights()]
    assert len(model.trainable_weights) == 12 and len(base.trainable_weights) == 4
    assert model.count_params() == sum(array.size for array in model.get_weights())
    names = [layer.name for layer in model.network().layers]
    assert len({*names}) == len(names)


def test_freezing_a_model_freezes_all_of_it():
    model = whole()
    base, before = model.layers[1], model.get_weights()
    base.trainable = False
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=2, verbose=0)
    assert len(model.trainable_weights) == 8
    same = [np.array_equal(a, b) for a, b in zip(before, model.get_weights())]
    assert same[:6] == [True] * 6 and not any(same[8:])
    base.trainable = True
    model.compile("adam", "mse")
    model.fit(X, Y, epochs=1, verbose=0)
    # A bias before a batch norm has no gradient.
    assert not any(np.array_equal(before[i], model.get_weights()[i]) for i in (0, 2, 3, 4, 5, 6))


def test_weights_are_in_the_order_that_keras_has():
    """By depth: the shorter branch later."""
    inputs = nbbn.Input((4,))
    long = L.Dense(6, name="c")(L.Dense(5, name="b")(inputs))
    model = nbbn.Model(inputs, L.Concatenate()([L.Dense(3, name="a")(inputs), long]))
    assert [layer.name for layer in model.layers] == [
        "input_layer", "b", "a", "c", "concatenate"]
    assert [array.shape[-1] for array in model.get_weights()] == [5, 5, 3, 3, 6, 6]


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_files_and_copies_are_nested_as_they_were(make, tmp_path):
    model = make()
    model.compile("adam", "mse")
    model.fit(rows(model), Y, epochs=1, verbose=0)
    model.save(tmp_path / "m.st")
    model.save_weights(tmp_path / "w.st")
    others = [nbbn.load(tmp_path / "m.st"), pickle.loads(pickle.dumps(model)),
              copy.deepcopy(model)]
    for other in (*others, nbbn.load(tmp_path / "w.st"), clone_model(model),
                  model_from_json(model.to_json())):
        assert outline(other) == outline(model)
        assert [w.path for w in other.weights] == [w.path for w in model.weights]
        assert [layer.name for layer in other.network().layers] == [
            layer.name for layer in model.network().layers]
        other.load_weights(tmp_path / "w.st")
        np.testing.assert_array_equal(other.predict(rows(model)), model.predict(rows(model)))
    model.fit(rows(model), Y, epochs=1, verbose=0)
    for other in others:
        other.fit(rows(model), Y, epochs=1, verbose=0)
        for one, same in zip(other.get_weights(), model.get_weights(), strict=True):
            np.testing.assert_array_equal(one, same)
        within = next(layer for layer in other.layers if hasattr(layer, "layers"))
        kept = [array.copy() for array in within.get_weights()]
        within.trainable = False
        other.fit(rows(model), Y, epochs=1, verbose=0)
        assert all(map(np.array_equal, kept, within.get_weights()))
        other.save(tmp_path / "again.st")
        assert outline(nbbn.load(tmp_path / "again.st")) == outline(model)


def test_an_unbuilt_sequential_is_described_with_its_models():
    model = chain()
    again = nbbn.Sequential.from_config(model.get_config())
    assert not again.built and outline(again) == outline(model)
    again.build((None, 4))
    assert again.layers[0].built and again.layers[0].layers[1].output_shape == (None, 3)
    again.summary()


def test_a_model_of_which_a_part_is_used():
    """In memory it is whole, with what the outer model does not compute; a file has the rest."""
    inputs = nbbn.Input((4,))
    x = L.Dense(3, name="first")(inputs)
    base = nbbn.Model(inputs, [x, L.Dense(2, name="unused")(x)], name="base")
    rows = nbbn.Input((4,))
    model = nbbn.Model(rows, L.Dense(2)(base(rows)[0]))
    assert [layer.name for layer in model.layers] == ["input_layer", "base", "dense"]
    assert len(model.get_weights()) == 6 and len(model.network().layers) == 2
    model.set_weights([array + 1 for array in model.get_weights()])
    again = pickle.loads(pickle.dumps(model))
    assert outline(again) == outline(model)
    np.testing.assert_array_equal(again.predict(X), model.predict(X))
    config = model.get_config()
    assert [layer.name for layer in nbbn.Model.from_config(config).layers] == [
        "input_layer", "first", "dense"]


def test_a_model_that_is_cut_shows_its_layers():
    model = whole()
    cut = nbbn.Model(model.input, model.get_layer("relu").output)
    assert [layer.name for layer in cut.layers] == ["input_layer", "dense", "norm", "relu"]
    parts = nbbn.Model(model.input, model.get_layer("add").output)
    assert [layer.name for layer in parts.layers] == [
        "input_layer", "encoder", "head", "dense", "add"]


def test_names_of_models():
    inputs = nbbn.Input((4,))
    towers = [nbbn.Sequential([L.Dense(3)]) for _ in range(3)]
    model = nbbn.Model(inputs, L.Add()([tower(inputs) for tower in towers]))
    assert [layer.name for layer in model.layers] == [
        "input_layer", "sequential", "sequential_1", "sequential_2", "add"]
    assert model.get_layer("sequential_1") is towers[1]
    same = [encoder(), encoder()]
    with pytest.raises(ValueError, match="two layers are named 'encoder'; give another name"):
        nbbn.Model(inputs, L.Add()([one(inputs) for one in same]))
    with pytest.raises(ValueError, match="two layers are named 'encoder'; give another name"):
        nbbn.Sequential([encoder(), L.Dense(4), encoder()])
    with pytest.raises(ValueError, match="two layers are named 'same'; give another name"):
        nbbn.Model(inputs, L.Dense(2, name="same")(L.Dense(3, name="same")(inputs)))


def test_the_input_among_the_layers():
    model = encoder()
    first = model.layers[0]
    assert first is model.layers[0] is model.get_layer("rows") is model.get_layer(index=0)
    assert isinstance(first, L.Input) and first.output is model.input
    assert first.batch_shape == (None, 4) and first.shape == (4,) and repr(first) == (
        "Input(shape=(4,), name='rows')")
    assert first.get_weights() == first.weights == [] and first.count_params() == 0
    first.set_weights([])
    with pytest.raises(ValueError, match="'rows' is an Input and has no arrays"):
        first.set_weights([1.0])
    first.trainable = False
    again = nbbn.Sequential(model.layers[:3])
    assert again.input_shape == (None, 4)
    np.testing.assert_array_equal(again.layers[0].get_weights()[0],
                                  model.layers[1].get_weights()[0])
    assert pickle.loads(pickle.dumps(first)) == L.Input((4,), name="rows")


def test_summary_has_a_row_for_a_model(capsys):
    model = whole()
    model.summary(line_length=100)
    text = capsys.readouterr().out
    for shown in ("encoder (Functional)", "head (Sequential)", "encoder[0][0]", "(InputLayer)"):
        assert shown in text
    assert "norm" not in text and "Total params: 91" in text
    model.summary(line_length=100, expand_nested=True, show_trainable=True)
    text = capsys.readouterr().out
    assert re.search("\u2514 norm", text) and re.search("encoder.*Y", text)
    model.layers[1].trainable = False
    model.summary(line_length=100, show_trainable=True)
    text = capsys.readouterr().out
    assert re.search("encoder.*N", text) and "Non-trainable params: 37" in text


def test_dicts_of_inputs_and_outputs(tmp_path):
    a, b = nbbn.Input((4,), name="a"), nbbn.Input((4,), name="b")
    model = nbbn.Model(inputs={"a": a, "b": b},
                       outputs={"x": L.Dense(2)(a), "y": L.Dense(2)(L.Add()([a, b]))})
    assert model.input == {"a": a, "b": b} and list(model.output) == ["x", "y"]
    model.compile("sgd", {"x": "mse", "y": "mae"}, metrics={"x": ["mae"]})
    given = {"b": X[::-1].copy(), "a": X}
    figures = model.fit(given, {"y": Y, "x": Y}, verbose=0).history
    assert {"loss", "x_loss", "y_loss", "x_mae"} <= figures.keys()
    model.save(tmp_path / "m.st")
    found = nbbn.load(tmp_path / "m.st").predict(given)
    assert list(found) == ["x", "y"]
    np.testing.assert_array_equal(found["y"], model(given)["y"].numpy())
    inputs = nbbn.Input((4,))
    inner = model({"a": inputs, "b": inputs})
    outer = nbbn.Model(inputs, L.Subtract()([inner["x"], inner["y"]]))
    np.testing.assert_allclose(outer.predict(X), model.predict({"a": X, "b": X})["x"]
                               - model.predict({"a": X, "b": X})["y"], rtol=1e-5, atol=1e-6)
    assert [layer.name for layer in outer.layers] == ["input_layer", "functional", "subtract"]


def test_pictures_have_a_box_for_a_model(tmp_path):
    def boxes(**more):
        text = plot_model(whole(), tmp_path / "m.dot", show_layer_names=True, **more).read_text()
        return [label.split("\\n")[0] for label in
                re.findall(r'^ +\w+ \[label="(.*)"\];$', text, flags=re.M)], text

    found, text = boxes()
    assert found == ["Input", "encoder (Functional)", "head (Sequential)",
                     "dense (Dense)", "add (Concatenate)", "out (Dense)"]
    found, text = boxes(expand_nested=True)
    assert len(found) == 10 and 'label="encoder"' in text and text.count("subgraph") == 2
    assert "head_dense (Dense)" not in found
