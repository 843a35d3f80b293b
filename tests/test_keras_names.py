"""Names that programs written for Keras use: variables, configs, copies, other names, data sets."""

from __future__ import annotations

import gzip
import json
import pickle

import numpy as np
import pytest
import sklearn.datasets

import nbbn
from nbbn import layers as L
from nbbn import names_of_keras

RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 6)).astype("float32")
Y = RNG.normal(size=(40, 1)).astype("float32")


def network():
    return nbbn.Sequential([L.Dense(4, input_shape=(6,), name="first"), L.BatchNormalization(),
                            L.ReLU(), L.Dense(1)], name="mine")


def graph():
    one, two = L.Input((6,), name="one"), L.Input((6,), name="two")
    shared = L.Dense(3, name="shared")
    return nbbn.Model([one, two], L.Dense(1)(L.Add()([shared(one), shared(two)])))


# -- variables


def test_weights_are_those_of_get_weights():
    model = network()
    for variable, array in zip(model.weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(variable.numpy(), array)
        assert variable.shape == array.shape and variable.dtype == "float32"
    assert [v.path for v in model.weights] == [
        "first/kernel", "first/bias", "batch_normalization/gamma", "batch_normalization/beta",
        "batch_normalization/moving_mean", "batch_normalization/moving_variance", "dense/kernel",
        "dense/bias"]
    assert [v.name for v in model.non_trainable_weights] == ["moving_mean", "moving_variance"]
    assert len(model.trainable_variables) == 6 and sum(v.value.size for v in model.variables) == (
        model.count_params())
    model.layers[0].trainable = False
    assert len(model.trainable_weights) == 4 and not model.layers[0].trainable_weights


def test_variables_are_assigned_and_computed_with():
    model = network()
    kernel = model.layers[0].kernel
    kernel.assign(np.ones((6, 4)))
    assert (model.get_weights()[0] == 1).all() and (kernel * 2 == 2).all() and kernel[0, 0] == 1
    kernel.assign_sub(np.full((6, 4), 0.5)).assign_add(np.full((6, 4), 2.0))
    assert (np.asarray(kernel) == 2.5).all() and len(kernel) == 6 and np.sqrt(kernel).shape == (6, 4)
    assert (kernel - kernel == 0).all() and kernel.ndim == 2
    assert repr(kernel) == "<Variable path=first/kernel, shape=(6, 4), dtype=float32>"
    model.layers[1].moving_mean.assign([1, 2, 3, 4])
    assert model.layers[1].weights[2].numpy().tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match=r"kernel must have shape \(6, 4\), got \(2,\)"):
        kernel.assign([1, 2])
    with pytest.raises(AttributeError, match=r"moving_mean"):
        _ = model.layers[0].moving_mean
    assert nbbn.Sequential([L.Dense(2)]).weights == []


def test_variables_are_the_newest():
    model = network()
    kernel = model.weights[0]
    before = kernel.numpy()
    model.compile("sgd", "mse")
    model.fit(X, Y, verbose=0)
    np.testing.assert_array_equal(kernel.numpy(), model.get_weights()[0])
    assert (before != kernel.numpy()).any()
    kernel.assign(before)
    model.fit(X, Y, verbose=0)


# -- configs and copies


@pytest.mark.parametrize("make", [network, graph, lambda: nbbn.Sequential([L.Dense(3), L.ReLU()])],
                         ids=["sequential", "graph", "not built"])
def test_configs(make):
    model = make()
    others = [type(model).from_config(model.get_config()), nbbn.models.clone_model(model),
              nbbn.models.model_from_json(model.to_json(indent=1))]
    json.loads(model.to_json())
    for other in others:
        assert other.get_config() == model.get_config() and other.name == model.name
        assert not other.compiled and type(other) is type(model)
        if model.built:
            assert [a.shape for a in other.get_weights()] == [a.shape for a in model.get_weights()]
            assert (other.get_weights()[0] != model.get_weights()[0]).any()


def test_a_copy_takes_weights_and_names_of_inputs():
    model = graph()
    other = nbbn.models.clone_model(model)
    other.set_weights(model.get_weights())
    np.testing.assert_array_equal(other.predict({"one": X, "two": X}), model.predict([X, X]))
    branches = nbbn.Sequential([nbbn.Sequential([L.Dense(6, input_shape=(6,))]), L.Dense(2)])
    assert nbbn.models.clone_model(branches).count_params() == branches.count_params()


def test_configs_of_layers():
    layer = L.Dense(3, activation="relu", kernel_regularizer="l2", name="a")
    config = layer.get_config()
    assert config["units"] == 3 and L.Dense.from_config(config) == layer
    model = network()
    assert model.layers[0].get_config()["name"] == "first"
    with pytest.raises(TypeError, match=r"clone_model takes a Sequential or a Model, got int"):
        nbbn.models.clone_model(3)
    for wrong in ("{}", "no", '{"class_name": "Functional", "config": {}}'):
        with pytest.raises(ValueError, match=r"json_string must be what model.to_json\(\) gave"):
            nbbn.models.model_from_json(wrong)


def test_load_model(tmp_path):
    model = network()
    model.compile("adam", "mse")
    nbbn.models.save_model(model, tmp_path / "model.safetensors")
    path = tmp_path / "model.safetensors"
    assert nbbn.models.load_model(path).compiled
    assert not nbbn.saving.load_model(path, compile=False, custom_objects={"f": abs}).compiled


# -- activations


@pytest.mark.parametrize("given, name", [
    (L.ReLU(), "relu"), (L.Softmax(), "softmax"), (L.LeakyReLU(0.2), "leaky_relu"),
    (L.Activation("tanh"), "tanh"), (nbbn.activations.sigmoid, "sigmoid"), (nbbn.nn.softmax, "softmax"),
    (nbbn.activations.linear, "linear"), (L.ELU(), "elu"), (nbbn.nn.swish, "silu"),
])
def test_objects_and_functions_that_have_a_name(given, name):
    assert L.Dense(3, activation=given) == L.Dense(3, activation=name)


def test_a_layer_with_a_number_of_its_own(tmp_path):
    model = nbbn.Sequential([L.Dense(6, activation=L.LeakyReLU(0.1), input_shape=(6,)),
                             L.Conv2D(2, 1, activation=L.ReLU(max_value=1.0))][:1])
    kernel, bias = model.get_weights()
    raw = X @ kernel + bias
    np.testing.assert_allclose(model.predict(X), np.where(raw > 0, raw, 0.1 * raw), rtol=1e-5,
                               atol=1e-6)
    model.compile("sgd", "mse")
    model.fit(X, X, verbose=0)
    model.save(tmp_path / "model.safetensors")
    other = nbbn.load(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(other.predict(X), model.predict(X))
    assert other.layers[0].activation == L.LeakyReLU(0.1)
    assert nbbn.models.clone_model(model).layers[0].activation == L.LeakyReLU(0.1)
    np.testing.assert_allclose(model.fold().predict(X), model.predict(X), rtol=1e-6)


def test_no_activation():
    for layer in (L.Dense(2), L.Flatten(), L.BatchNormalization(), L.Dropout(0.5)):
        with pytest.raises(L.LayerError, match=r"is no activation: put it behind the layer"):
            L.Dense(3, activation=layer)
    assert nbbn.activations.get("relu")([-1.0, 2.0]).tolist() == [0, 2]
    assert nbbn.activations.get(abs) is abs and nbbn.activations.get(None)([3]).tolist() == [3]
    with pytest.raises(ValueError, match=r"unknown activation 'relo'; choose one of linear"):
        nbbn.activations.get("relo")


# -- learning rates


def test_a_learning_rate_is_set_as_keras_does():
    model = network()
    model.compile("adam", "mse")
    rate = model.optimizer.learning_rate
    assert rate == 0.001 and isinstance(rate, float) and rate.numpy() == 0.001 and repr(rate) == "0.001"
    rate.assign(0.5)
    assert model.optimizer.learning_rate == 0.5 == model.learning_rate
    nbbn.backend.set_value(model.optimizer.learning_rate, 0.25)
    assert nbbn.backend.get_value(model.optimizer.learning_rate) == 0.25
    assert type(pickle.loads(pickle.dumps(rate))) is float
    with pytest.raises(ValueError, match=r"learning_rate"):
        rate.assign(-1.0)
    with pytest.raises(TypeError, match=r"set_value takes an optimiser's learning_rate or a variable"):
        nbbn.backend.set_value(0.5, 1.0)
    nbbn.backend.set_value(model.weights[1], [0, 0, 0, 0])
    assert nbbn.backend.floatx() == "float32" and nbbn.utils.clear_session() is None


# -- other names


@pytest.mark.parametrize("module, name", [
    (module, name) for module, names in names_of_keras.KERAS.items() for name in names.split()])
def test_each_of_keras_names_works_or_says_what_to_use(module, name):
    """Or nothing is known to be like it, which the docs' table says."""
    here = getattr(nbbn, module)
    if not hasattr(here, name):
        with pytest.raises(AttributeError, match=f"nbbn.{module}' has no attribute '{name}'"):
            getattr(here, name)


def test_no_words_about_what_is_here():
    for module, names in names_of_keras.INSTEAD.items():
        here = getattr(nbbn, module) if module else nbbn
        assert [name for name in names if hasattr(here, name)] == []


def test_words_about_what_is_not_here():
    with pytest.raises(AttributeError, match=r"no attribute 'LSTM'; use Conv1D over steps"):
        _ = L.LSTM
    with pytest.raises(ImportError, match=r"no attribute 'GRU'; use Conv1D over steps"):
        exec("from nbbn.layers import GRU")
    with pytest.raises(ImportError, match=r"preprocessing.*; image generators: change images in a gen"):
        exec("from nbbn import preprocessing")
    with pytest.raises(AttributeError, match=r"no attribute 'Nothing'$"):
        _ = L.Nothing
    with pytest.raises(AttributeError, match=r"no attribute 'load_img'; use PIL.Image.open"):
        _ = nbbn.utils.load_img
    with pytest.raises(AttributeError, match=r"no attribute 'imdb'; use sklearn.datasets.fetch_20n"):
        _ = nbbn.datasets.imdb
    assert not hasattr(nbbn, "applications") and nbbn.keras is nbbn


def test_aliases_and_functions():
    assert L.MaxPool2D is L.MaxPooling2D and L.Convolution2D is L.Conv2D
    one, two = L.Input((3,)), L.InputLayer((3,))
    model = nbbn.Model([one, two], [L.add([one, two]), L.concatenate([one, two], axis=-1)])
    assert [out.shape for out in model.predict([X[:, :3], X[:, 3:]])] == [(40, 3), (40, 6)]


@pytest.mark.parametrize("module", names_of_keras.KERAS)
def test_the_names_are_keras_own(module):
    keras = pytest.importorskip("keras")
    theirs = keras.optimizers.schedules if module == "schedules" else getattr(keras, module)
    known = set(names_of_keras.KERAS[module].split())
    assert {name for name in dir(theirs) if not name.startswith("_")
            and callable(getattr(theirs, name))} <= known


# -- arrays


def test_normalize():
    x = RNG.normal(size=(5, 4, 3))
    np.testing.assert_allclose(np.linalg.norm(nbbn.utils.normalize(x), axis=-1), 1)
    np.testing.assert_allclose(np.abs(nbbn.utils.normalize(x, axis=1, order=1)).sum(1), 1)
    assert (nbbn.utils.normalize([[0.0, 0.0]]) == 0).all()


# -- data sets


@pytest.fixture
def nowhere(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NBBN_DATA", raising=False)

    def fetch(*args, **how):
        raise OSError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    return tmp_path


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes())


def clothes(folder):
    folder.mkdir(parents=True)
    found = []
    for part, rows in (("train", 5), ("t10k", 3)):
        x = RNG.integers(0, 256, (rows, 28, 28)).astype("uint8")
        y = RNG.integers(0, 10, rows).astype("uint8")
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(x))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(y))
        found += [x, y]
    return found


def things(folder):
    folder.mkdir(parents=True)
    found = []
    for name in [*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]:
        x, y = RNG.integers(0, 256, (2, 3072)).astype("uint8"), RNG.integers(0, 10, 2).tolist()
        with open(folder / name, "wb") as file:
            pickle.dump({b"data": x, b"labels": y, b"filenames": [b"a", b"b"]}, file, protocol=2)
        found.append((x, y))
    return found


def same(data, x_train, y_train, x_test, y_test):
    for got, ref in zip([*data[0], *data[1]], (x_train, y_train, x_test, y_test)):
        np.testing.assert_array_equal(got, ref)
        assert got.dtype == np.uint8


def test_fashion_mnist(nowhere, monkeypatch):
    load = nbbn.datasets.fashion_mnist.load_data
    with pytest.raises(nbbn.FileError, match=r"copy Keras's four files.*fetched from OpenML \(no netw"):
        load()
    arrays = clothes(nowhere / "home" / ".keras" / "datasets" / "fashion-mnist")
    same(load(), *arrays)
    arrays = clothes(nowhere / "data" / "fashion-mnist")
    same(load(nowhere / "data"), *arrays)
    same(load(nowhere / "data" / "fashion-mnist"), *arrays)
    monkeypatch.setenv("NBBN_DATA", str(nowhere / "data"))
    same(load(), *arrays)
    broken = nowhere / "data" / "fashion-mnist" / "t10k-labels-idx1-ubyte.gz"
    for data in (b"no", gzip.compress(b"\0\0\x08\x01\0\0\0\x09ab"), gzip.compress(b"png")):
        broken.write_bytes(data)
        with pytest.raises(nbbn.FileError, match=r"t10k-labels.* cannot be read"):
            load()
    broken.write_bytes(idx(np.zeros(7, "uint8")))
    with pytest.raises(nbbn.FileError, match=r"labels of shape .*; not this data set"):
        load()
    with pytest.raises(nbbn.FileError, match=r"fashion-mnist is not at .*nowhere"):
        load(nowhere / "nowhere")


def test_cifar10(nowhere):
    load = nbbn.datasets.cifar10.load_data
    with pytest.raises(nbbn.FileError, match=r"copy the unpacked folder of cifar-10-python.tar.gz"):
        load()
    base = nowhere / "home" / ".keras" / "datasets"
    for folder in (base / "cifar-10-batches-py",
                   base / "cifar-10-batches-py-target" / "cifar-10-batches-py"):
        found = things(folder)
        (x_train, y_train), (x_test, y_test) = load()
        assert x_train.shape == (10, 32, 32, 3) and y_train.shape == (10, 1) and len(x_test) == 2
        first = found[0][0][0].reshape(3, 32, 32)
        np.testing.assert_array_equal(x_train[0], first.transpose(1, 2, 0))
        assert y_test[:, 0].tolist() == found[-1][1]
    for bad in (pickle.dumps(print), b"no", pickle.dumps([1]), pickle.dumps({b"data": 1})):
        (folder / "test_batch").write_bytes(bad)
        with pytest.raises(nbbn.FileError, match=r"test_batch: cannot be read|lacks"):
            load()
