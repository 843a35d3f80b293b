"""Keras's files: what they hold, written by h5py and json in Keras's layout, against NumPy in
float64.
"""

import copy
import importlib.util
import io
import itertools
import json
import warnings
import zipfile

import numpy as np
import pytest
from architectures import (
    ARCHITECTURES,
    NAMES,
    Named,
    alone_or_all,
    draw_weights,
    rows_of,
    weights_by_name,
)
from keras_files import (
    config_of,
    functional_config,
    graph_config,
    graph_h5,
    graph_weights,
    h5_file,
    input_config,
    keras_file,
    layer_config,
    names_of,
    node,
    sequential_config,
    snake,
    use,
    weights_file,
    within,
    write_layers,
)
from naive_layers import NaiveNetwork, describe

import nbbn
from nbbn.interop import from_keras

h5py = pytest.importorskip(
    "h5py", reason="h5py, which writes these files, is not installed: pip install h5py"
)

IMAGE = (7, 9, 4)
MOBILE = [
    describe(
        "Conv2D", filters=6, kernel_size=[3, 3], strides=[2, 2], padding="same", use_bias=False
    ),
    describe("BatchNormalization", momentum=0.9, epsilon=1e-5),
    describe("ReLU", max_value=6.0),
    describe("DepthwiseConv2D", kernel_size=[2, 2], depth_multiplier=2),
    describe("BatchNormalization", scale=False),
    describe("Activation", activation="silu"),
    describe("Conv2DTranspose", filters=3, kernel_size=[3, 3], strides=[2, 2]),
    describe("GroupNormalization", groups=3),
    describe("MaxPooling2D", pool_size=[2, 2]),
    describe("Flatten"),
    describe("Dense", units=5, activation="gelu"),
    describe("LayerNormalization", axis=[-1]),
    describe("Dropout", rate=0.2),
    describe("BatchNormalization", center=False),
    describe("Dense", units=3, activation="softmax"),
]
OTHERS = [
    describe("ZeroPadding2D", padding=[[1, 0], [2, 3]]),
    describe("Conv2D", filters=6, kernel_size=[1, 2], groups=2),
    describe("LeakyReLU", negative_slope=0.4),
    describe("AveragePooling2D", pool_size=[2, 3], strides=[1, 2], padding="same"),
    describe("UpSampling2D", size=[2, 1], interpolation="nearest"), describe("ELU", alpha=0.7),
    describe("GaussianNoise", stddev=0.1), describe("GlobalAveragePooling2D", keepdims=True),
    describe("Reshape", target_shape=[3, 2]), describe("Dense", units=4), describe("Flatten"),
    describe("Softmax", axis=-1),
]
TWINS = [
    describe("Dense", units=5),
    describe("Dense", units=5, activation="tanh"),
    describe("Dense", units=5),
]
STEPS = [
    describe("Conv1D", filters=6, kernel_size=[3], padding="causal", dilation_rate=[2]),
    describe("BatchNormalization"),
    describe("SpatialDropout1D", rate=0.2),
    describe("SeparableConv1D", filters=5, kernel_size=[2], strides=[2], padding="same"),
    describe("DepthwiseConv1D", kernel_size=[2], depth_multiplier=2, activation="relu"),
    describe("ZeroPadding1D", padding=[1, 0]),
    describe("Conv1DTranspose", filters=4, kernel_size=[3], strides=[2], output_padding=[1]),
    describe("Cropping1D", cropping=[0, 1]), describe("UpSampling1D", size=2),
    describe("MaxPooling1D", pool_size=[2], strides=[2]),
    describe("AveragePooling1D", pool_size=[2], strides=[1], padding="same"),
    describe("Permute", dims=[2, 1]), describe("GlobalMaxPooling1D"),
    describe("RepeatVector", n=3), describe("GlobalAveragePooling1D", keepdims=True),
    describe("Flatten"), describe("Dense", units=3),
]
SEPARABLE = [
    describe("SeparableConv2D", filters=5, kernel_size=[3, 3], depth_multiplier=2, use_bias=False),
    describe("SpatialDropout2D", rate=0.2), describe("Cropping2D", cropping=[[1, 0], [0, 2]]),
]
NETWORKS = {
    "mobile": (IMAGE, MOBILE), "others": (IMAGE, OTHERS), "twins": ((5,), TWINS),
    "steps": ((12, 4), STEPS), "separable": (IMAGE, SEPARABLE),
}


def drawn(name="mobile"):
    shape, layers = NETWORKS[name]
    return shape, NaiveNetwork(layers, shape).draw(np.random.default_rng(3))


def written(tmp_path, data, name="model.keras"):
    path = tmp_path / name
    path.write_bytes(data)
    return path


def check(model, network, shape):
    x = np.random.default_rng(4).normal(size=(5, *shape)).astype(np.float32)
    ref = network.forward(x)
    np.testing.assert_allclose(model.predict(x), ref, rtol=0, atol=3e-6 * max(1, np.abs(ref).max()))
    for got, array in zip(model.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(got, array)


# What is read


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("config", [sequential_config, functional_config])
@pytest.mark.parametrize("say_names", [True, False])
def test_keras_file(tmp_path, name, config, say_names):
    shape, network = drawn(name)
    data = keras_file(config(network, shape), weights_file(network, say_names=say_names))
    model = from_keras(written(tmp_path, data))
    check(model, network, shape)
    assert model.name == "small"
    assert [layer.name for layer in model.layers] == names_of(network)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("suffix", ["", ":0"])
def test_h5_file(tmp_path, name, suffix):
    shape, network = drawn(name)
    model = from_keras(
        written(
            tmp_path, h5_file(sequential_config(network, shape), network, suffix=suffix), "m.h5"
        )
    )
    check(model, network, shape)


def test_the_content_counts_and_not_the_name(tmp_path):
    shape, network = drawn("twins")
    check(
        from_keras(
            written(tmp_path, h5_file(sequential_config(network, shape), network), "m.keras")
        ),
        network,
        shape,
    )


def test_compressed_archives_are_read(tmp_path):
    shape, network = drawn()
    data = keras_file(
        sequential_config(network, shape), weights_file(network), zipfile.ZIP_DEFLATED
    )
    check(from_keras(written(tmp_path, data)), network, shape)


def test_names_count_and_not_positions(tmp_path):
    """In a `.keras` the name beside the weights, in a `.h5` the arrays' own names.

    Those of a frozen batch norm come in another
    order."""
    shape, network = drawn("twins")
    names = names_of(network)
    turned = NaiveNetwork(TWINS, shape, network.weights[::-1])
    data = keras_file(sequential_config(network, shape), weights_file(turned, names[::-1]))
    check(from_keras(written(tmp_path, data)), network, shape)

    def reorder(file):
        group = file["model_weights/batch_normalization_of_1"]
        group.attrs["weight_names"] = group.attrs["weight_names"][[2, 0, 3, 1]]

    shape, network = drawn()
    data = h5_file(sequential_config(network, shape), network, change=reorder)
    check(from_keras(written(tmp_path, data)), network, shape)


def test_long_lists_of_names_in_pieces(tmp_path):
    def cut(file):
        attributes = file["model_weights/dense_of_0"].attrs
        names = attributes["weight_names"]
        del attributes["weight_names"]
        attributes["weight_names0"], attributes["weight_names1"] = names[:1], names[1:]

    shape, network = drawn("twins")
    check(
        from_keras(
            written(tmp_path, h5_file(sequential_config(network, shape), network, change=cut))
        ),
        network,
        shape,
    )


def test_arguments_of_layers(tmp_path):
    shape, network = drawn("twins")
    config = sequential_config(network, shape)
    l2 = {
        "module": "keras.regularizers", "class_name": "L2", "config": {"l2": 0.25},
        "registered_name": None,
    }
    normal = {
        "module": "keras.initializers",
        "class_name": "HeNormal",
        "config": {"seed": 3, "input_axes": None},
    }
    own = {"module": "mine", "class_name": "Mine", "config": {}, "registered_name": "p>Mine"}
    for layer, changes in zip(config["config"]["layers"][1:], [
        {"kernel_regularizer": l2, "kernel_initializer": normal, "quantization_config": None},
        {"trainable": False, "kernel_initializer": own, "kernel_constraint": None},
        {"bias_regularizer": "l1", "dtype": "mixed_float16"},
    ]):  # fmt: skip
        layer["config"].update(changes)
    first, second, third = from_keras(
        written(tmp_path, keras_file(config, weights_file(network)))
    ).layers
    assert first.kernel_regularizer == nbbn.regularizers.L2(0.25)
    assert first.kernel_initializer == nbbn.initializers.HeNormal(3)
    assert not second.trainable
    assert second.kernel_initializer == nbbn.initializers.GlorotUniform()
    assert third.bias_regularizer == nbbn.regularizers.L1()
    assert third.dtype is None


def test_relu6(tmp_path):
    shape, network = drawn("twins")
    config = sequential_config(network, shape)
    config["config"]["layers"].append(a_layer("Activation", {"activation": "relu6"}))
    last = from_keras(written(tmp_path, keras_file(config, weights_file(network)))).layers[-1]
    assert (last.__class__, last.max_value, last.name) == (nbbn.layers.ReLU, 6.0, "odd")


def test_a_keras_momentum_stays_what_it_is(tmp_path):
    shape, network = drawn()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = from_keras(
            written(tmp_path, keras_file(sequential_config(network, shape), weights_file(network)))
        )
    assert [
        layer.momentum
        for layer in model.layers
        if isinstance(layer, nbbn.layers.BatchNormalization)
    ] == [
        0.9, 0.99, 0.99,
    ]
    assert [
        layer.epsilon for layer in model.layers if isinstance(layer, nbbn.layers.BatchNormalization)
    ] == [
        1e-5, 1e-3, 1e-3,
    ]


def test_float64(tmp_path):
    shape, network = drawn()
    network.weights[0]["kernel"] += 1e-12
    config = sequential_config(network, shape)
    for layer in config["config"]["layers"]:
        layer["config"]["dtype"] = "float64"
    model = from_keras(
        written(tmp_path, keras_file(config, weights_file(network, dtype="float64")))
    )
    x = np.random.default_rng(4).normal(size=(5, *shape))
    got = model.predict(x)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, network.forward(x), rtol=0, atol=1e-13)


def test_training_goes_on(tmp_path):
    """The running statistics of one more step follow from the file's."""
    shape, network = drawn()
    model = from_keras(
        written(tmp_path, keras_file(sequential_config(network, shape), weights_file(network)))
    )
    model.compile("sgd", "sparse_categorical_crossentropy")
    before, x = (
        model.get_weights()[4],
        np.random.default_rng(4).normal(size=(8, *shape)).astype(np.float32),
    )
    model.train_on_batch(x, np.arange(8) % 3)
    z = NaiveNetwork(MOBILE[:1], shape, network.weights[:1]).forward(x)
    np.testing.assert_allclose(
        model.get_weights()[4], 0.9 * before + 0.1 * z.var(axis=(0, 1, 2)), rtol=1e-5
    )

    if importlib.util.find_spec("onnx"):
        back = nbbn.interop.from_onnx(nbbn.interop.to_onnx(model, fold=False))
        np.testing.assert_allclose(back.predict(x), model.predict(x), rtol=0, atol=2e-6)
        np.testing.assert_array_equal(back.get_weights()[4], model.get_weights()[4])


@pytest.mark.parametrize("place", ["batch_input_shape", "build_input_shape", "build_config"])
def test_where_the_shape_of_rows_stands(tmp_path, place):
    shape, network = drawn("twins")
    config = sequential_config(network, shape)
    layers = config["config"]["layers"]
    del layers[0], config["config"]["build_input_shape"]
    if place == "batch_input_shape":
        layers[0]["config"][place] = [None, *shape]
    elif place == "build_config":
        config[place] = {"input_shape": [None, *shape]}
    else:
        config["config"][place] = [None, *shape]
    check(from_keras(written(tmp_path, keras_file(config, weights_file(network)))), network, shape)


def test_nodes_of_keras_2(tmp_path):
    shape, network = drawn("twins")
    config = functional_config(network, shape)
    layers = config["config"]["layers"]
    for before, layer in itertools.pairwise(layers):
        layer["inbound_nodes"] = [[[before["name"], 0, 0, {}]]]
    config["config"]["input_layers"] = [config["config"]["input_layers"]]
    config["config"]["layers"] = layers[::-1]
    check(from_keras(written(tmp_path, h5_file(config, network))), network, shape)


# Graphs


def drawn_model(name):
    model = ARCHITECTURES[name].make(Named(nbbn))
    draw_weights(model)
    return model


def check_graph(got, model):
    """The same arrays by name, and the same numbers."""
    arrays, ref = weights_by_name(got), weights_by_name(model)
    assert arrays.keys() == ref.keys()
    for name in ref:
        for one, other in zip(arrays[name], ref[name], strict=True):
            np.testing.assert_array_equal(one, other)
    x = alone_or_all(rows_of(model, dtype="float32"))
    for one, other in zip(as_list(got.predict(x)), as_list(model.predict(x)), strict=True):
        np.testing.assert_array_equal(one, other)


def as_list(given):
    return given if isinstance(given, list) else [given]


@pytest.mark.parametrize("name", NAMES)
def test_graphs(tmp_path, name):
    """With names beside the weights and without, nodes as Keras 3 and as Keras 2 have them."""
    model = drawn_model(name)
    for old in (False, True):
        config = graph_config(model, old=old)
        weights = graph_weights(model, say_names=not old)
        got = from_keras(written(tmp_path, keras_file(config, weights)))
        check_graph(got, model)
        assert (type(got), got.name) == (nbbn.Model, "small")
    data = graph_h5(config, {None: model}, suffix=":0")
    check_graph(from_keras(written(tmp_path, data, "model.h5")), model)


def nested(old=False):
    """An encoder, called twice, and a Sequential, whose layers have names of the encoder's; the
    models within, and what the whole makes of rows.
    """
    layers = nbbn.layers
    image, code = nbbn.Input((6, 6, 1)), nbbn.Input((4,))
    x = layers.BatchNormalization(name="norm")(layers.Conv2D(2, 3, name="conv")(image))
    x = layers.Dense(4, name="dense")(layers.Flatten(name="flat")(x))
    encoder = nbbn.Model(image, [x, layers.Activation("tanh", name="tanh")(x)])
    bend = nbbn.Sequential([layers.Dense(3, name="dense", input_shape=(4,)),
                            layers.BatchNormalization(name="norm")])
    for k, model in enumerate((encoder, bend)):
        rng = np.random.default_rng(k)
        model.set_weights([rng.uniform(0.1, 1, array.shape) for array in model.get_weights()])

    def whole(first, second):
        return bend.predict(encoder.predict(first)[0]) - bend.predict(encoder.predict(second)[1])

    inside = graph_config(nbbn.Model(code, bend(code)))["config"]["layers"]
    sequential = {"module": "keras", "class_name": "Sequential", "registered_name": None, "config": {
        "name": "bend", "trainable": True, "layers": inside}}
    shift = int(old)  # Keras counted the use that a model was made by
    sequential = within(sequential, "bend", use([["encoder", shift, 0]], old=old),
                        use([["encoder", shift + 1, 1]], old=old))
    less = {**config_of(layers.Subtract(name="less")), "name": "less", "inbound_nodes": [
        use([["bend", shift, 0], ["bend", shift + 1, 0]], True, old=old)]}
    inputs = [{**input_config((6, 6, 1), name), "name": name, "inbound_nodes": []}
              for name in ("a", "b")]
    uses = [use([[name, 0, 0]], old=old) for name in ("a", "b")]
    config = {"name": "whole", "trainable": True, "layers": [
        *inputs, within(graph_config(encoder, old=old), "encoder", *uses), sequential, less],
        "input_layers": [["a", 0, 0], ["b", 0, 0]], "output_layers": [["less", 0, 0]]}
    config = {"module": "keras", "class_name": "Functional", "config": config,
              "registered_name": None}
    return config, {"encoder": encoder, "bend": bend}, whole


def nested_weights(models, *, say_names=True):
    """`model.weights.h5` of models within a model."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        top = file.create_group("layers")
        for name, model in models.items():
            kind = "Functional" if isinstance(model, nbbn.Model) else "Sequential"
            group = top.create_group(snake(kind))
            write_layers(group, model, say_names=say_names)
            if say_names:
                group.create_group("vars").attrs["name"] = name
    return buffer.getvalue()


@pytest.mark.parametrize("say_names", [True, False])
@pytest.mark.parametrize("old", [True, False])
def test_models_within_models(tmp_path, old, say_names):
    """The engine has their layers under names of their own; of the encoder no use gives all."""
    config, models, whole = nested(old)
    weights = nested_weights(models, say_names=say_names)
    got = from_keras(written(tmp_path, keras_file(config, weights)))
    rows = [np.random.default_rng(k).normal(size=(5, 6, 6, 1)).astype("float32") for k in (1, 2)]
    np.testing.assert_array_equal(got.predict({"a": rows[0], "b": rows[1]}), whole(*rows))
    network = got.network()
    assert [layer.name for layer, arrays in zip(network.layers, network.weights) if arrays] == [
        "conv", "norm", "dense", "bend_dense", "bend_norm"]
    assert [layer.name for layer in got.layers if layer.get_weights()] == [
        "conv", "norm", "dense", "bend"]
    assert [layer.name for layer in got.get_layer("bend").layers] == ["dense", "norm"]
    h5 = from_keras(written(tmp_path, graph_h5(config, models), "m.h5"))
    np.testing.assert_array_equal(h5.predict(rows), whole(*rows))


def test_calls_with_training_false_are_read(tmp_path):
    """Keras 3 sets it aside in `fit`, and inference is what it asks for."""
    shape, network = drawn("twins")
    config = functional_config(network, shape)
    config["config"]["layers"][2]["inbound_nodes"][0]["kwargs"]["training"] = False
    check(from_keras(written(tmp_path, keras_file(config, weights_file(network)))), network, shape)


def test_frozen_models_within_models(tmp_path):
    config, models, _ = nested()
    config["config"]["layers"][2]["config"]["trainable"] = False
    got = from_keras(written(tmp_path, keras_file(config, nested_weights(models))))
    assert [layer.trainable for layer in got.layers if layer.get_weights()] == [
        False, False, False, True]
    assert [layer.trainable for layer in got.get_layer("bend").layers] == [True, True]


def test_models_in_a_row_are_a_sequential(tmp_path):
    shape, network = drawn("twins")
    inside = within(functional_config(network, shape), "inside")
    config = sequential_config(network, shape)
    config["config"]["layers"] = [input_config(shape), inside]
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file, h5py.File(io.BytesIO(weights_file(network))) as own:
        own.copy("layers", file.create_group("layers/functional"), "layers")
        file.create_group("layers/functional/vars").attrs["name"] = "inside"
    got = from_keras(written(tmp_path, keras_file(config, buffer.getvalue())))
    assert isinstance(got, nbbn.Sequential)
    check(got, network, shape)


def test_names_of_several_outputs(tmp_path):
    """Those of a dict, which losses go by; else the layers'."""
    model = drawn_model("two_outputs")
    config = graph_config(model)
    kind, number = config["config"]["output_layers"]
    assert from_keras(written(tmp_path, keras_file(config, graph_weights(model)))).output_names == [
        kind[0], number[0]]
    config["config"]["output_layers"] = {"kind": kind, "number": number}
    got = from_keras(written(tmp_path, keras_file(config, graph_weights(model))))
    assert got.output_names == ["kind", "number"]
    got.compile("adam", {"number": "mse", "kind": "sparse_categorical_crossentropy"})
    x, y = rows_of(model)[0], {"kind": np.arange(12) % 3, "number": np.zeros((12, 2))}
    assert len(got.train_on_batch(x, y)) == 3


def operator(kind, sources, name=None, module="keras.src.ops.numpy", **config):
    return {"module": module, "class_name": kind, "config": {"name": name or kind, **config},
            "registered_name": kind, "name": name or kind,
            "inbound_nodes": [use(sources, merges=kind == "Concatenate")]}


def with_operators(*entries):
    """Two inputs, and what operators make of them."""
    inputs = [{**input_config((3,), name), "name": name, "inbound_nodes": []} for name in "ab"]
    config = {"name": "m", "layers": [*inputs, *entries],
              "input_layers": [["a", 0, 0], ["b", 0, 0]],
              "output_layers": [entries[-1]["name"], 0, 0]}
    return {"module": "keras", "class_name": "Functional", "config": config,
            "registered_name": None}


def test_operators(tmp_path):
    """Those that Python's operators and `keras.ops` leave in a file."""
    a, b = ["a", 0, 0], ["b", 0, 0]
    config = with_operators(
        operator("Add", [a, b]), operator("Multiply", [["Add", 0, 0], b]),
        operator("Subtract", [["Multiply", 0, 0], a]),
        operator("Relu", [["Subtract", 0, 0]], module="keras.src.ops.nn"),
        operator("Maximum", [["Relu", 0, 0], a]),
        operator("Concatenate", [["Maximum", 0, 0], ["Add", 0, 0]], axis=-1))
    x, y = (np.random.default_rng(k).normal(size=(4, 3)).astype("float32") for k in (1, 2))
    ref = np.concatenate([np.maximum(np.maximum((x + y) * y - x, 0), x), x + y], 1)
    buffer = io.BytesIO()
    h5py.File(buffer, "w").close()
    got = from_keras(written(tmp_path, keras_file(config, buffer.getvalue())))
    np.testing.assert_allclose(got.predict([x, y]), ref, rtol=1e-6)
    config = with_operators({
        "class_name": "TFOpLambda", "name": "plus", "config": {
            "name": "plus", "function": "__operators__.add"},
        "inbound_nodes": [["a", 0, 0, {"y": ["b", 0, 0], "name": None}]]})
    got = from_keras(written(tmp_path, keras_file(config, buffer.getvalue())))
    np.testing.assert_array_equal(got.predict([x, y]), x + y)


rescales = pytest.mark.skipif("Rescaling" not in nbbn.layers.__all__, reason="has no such layers")


@rescales
@pytest.mark.parametrize("say_module", [True, False])
def test_operators_with_numbers(tmp_path, say_module):
    """A number on either side; HDF5 files do not say the module."""
    a = ["a", 0, 0]
    entries = [operator("Add", [a]), operator("Multiply", [["Add", 0, 0]]),
               operator("Subtract", [["Multiply", 0, 0]]),
               operator("Subtract", [["Subtract", 0, 0]], "less"),
               operator("TrueDivide", [["less", 0, 0]]),
               operator("Negative", [["TrueDivide", 0, 0]]),
               operator("Multiply", [["Negative", 0, 0], ["b", 0, 0]], "last")]
    for entry, numbers in zip(entries, ([3], [0.5], [2.0], [5.0], [4.0])):
        entry["inbound_nodes"][0]["args"] += numbers
    entries[3]["inbound_nodes"][0]["args"].reverse()
    if not say_module:
        for entry in entries:
            del entry["module"]
    x, y = (np.random.default_rng(k).normal(size=(4, 3)).astype("float32") for k in (1, 2))
    buffer = io.BytesIO()
    h5py.File(buffer, "w").close()
    got = from_keras(written(tmp_path, keras_file(with_operators(*entries), buffer.getvalue())))
    np.testing.assert_allclose(got.predict([x, y]), -(5 - ((x + 3) * 0.5 - 2)) / 4 * y, rtol=1e-6)
    entries[4]["inbound_nodes"][0]["args"].reverse()
    refused(tmp_path, keras_file(with_operators(*entries), buffer.getvalue()),
            r"layer 'TrueDivide' \(TrueDivide\) is an operation that nbbn does not read")


@rescales
@pytest.mark.parametrize("axis", [[-1], None])
def test_what_a_layer_has_adapted_to(tmp_path, axis):
    """Mean and variance are arrays in the file, and part of the layer here."""
    entry = a_layer("Normalization", {"axis": axis, "mean": None, "variance": None})
    config = {"name": "m", "layers": [input_config((3,)), entry]}
    config = {"module": "keras", "class_name": "Sequential", "config": config,
              "registered_name": None}
    mean, var = (np.array([1.0, 2.0, 3.0]), np.array([4.0, 9.0, 16.0]))
    mean, var = (mean, var) if axis else (mean[0], var[0])
    keras, h5 = io.BytesIO(), io.BytesIO()
    for buffer, place, names in ((keras, "layers/normalization/vars", "012"),
                                 (h5, "model_weights/odd/odd", ("mean", "variance", "count"))):
        with h5py.File(buffer, "w") as file:
            group = file.create_group(place)
            for name, array in zip(names, (mean, var, np.int32(5))):
                group.create_dataset(name, data=array)
            if buffer is h5:
                file.attrs["model_config"] = json.dumps(config)
                file["model_weights/odd"].attrs["weight_names"] = np.array(
                    [f"odd/{name}" for name in names], "S")
    x = np.random.default_rng(4).normal(size=(5, 3)).astype("float32")
    for data in (keras_file(config, keras.getvalue()), h5.getvalue()):
        got = from_keras(written(tmp_path, data))
        np.testing.assert_allclose(got.predict(x), (x - mean) / np.sqrt(var), atol=1e-6)


@pytest.mark.parametrize(("entry", "message"), [
    (operator("Sort", [["a", 0, 0]]), r"layer 'Sort' \(Sort\) is an operation that nbbn does not"),
    (operator("Softmax", [["a", 0, 0]], axis=0), r"'Softmax' \(Softmax\) is an operation that"),
    (operator("Concatenate", [["a", 0, 0], ["b", 0, 0]], axis=0), "axis 0 is not an axis of rows"),
])
def test_refuses_operators(tmp_path, entry, message):
    buffer = io.BytesIO()
    h5py.File(buffer, "w").close()
    refused(tmp_path, keras_file(with_operators(entry), buffer.getvalue()), message)


def test_refuses_models_within_models_without_end(tmp_path):
    config, shape = sequential_config(drawn("twins")[1], (5,)), (5,)
    for _ in range(20):
        outer = sequential_config(drawn("twins")[1], shape)
        outer["config"]["layers"] = [input_config(shape), config]
        config = outer
    refused(tmp_path, keras_file(config, weights_file(drawn("twins")[1])),
            "models within models, 17 deep; at most 16")


# What is refused


def refused(tmp_path, data, message):
    path = written(tmp_path, data)
    with pytest.raises(nbbn.FileError, match=message) as error:
        from_keras(path)
    assert str(error.value).startswith(f"{path}: ")
    assert "\n" not in str(error.value)


def a_layer(kind, config=None, **entry):
    entry = {
        "module": "keras.layers", "class_name": kind, "config": {"name": "odd", **(config or {})},
        **entry,
    }
    return {"registered_name": None, **entry}


LAYERS = [
    (a_layer("Lambda", {"function": "x"}), r"layer 'odd' \(Lambda\) holds code, which is not run"),
    (a_layer("LSTM", {"units": 3}), r"layer 'odd' \(LSTM\) is not known; nbbn has .*Dense"),
    (
        a_layer("Dense", {"units": 3}, module="mine", registered_name="p>Dense"),
        r"layer 'odd' \(Dense\) is not known",
    ),
    (a_layer("Dense", {"units": 3}, module="mine"), r"layer 'odd' \(Dense\) is not known"),
    (
        a_layer("RandomFlip", {"mode": "horizontal"}),
        r"'odd' \(RandomFlip\) is not known; .*; augmentation has no effect in inference: save",
    ),
    (
        a_layer("Dense", {"units": 0}),
        r"layer 'odd' \(Dense\): Dense: units must be a whole number of at least 1, got 0",
    ),
    (a_layer("Dense", {"units": 2**70, "use_bias": 3}), "use_bias must be True or False"),
    (a_layer("Dense", {"units": 3, "rms": 3}), r"layer 'odd' \(Dense\): rms=3 is not supported"),
    (a_layer("LayerNormalization", {"rms_scaling": True}), "rms_scaling=True is not supported"),
    (a_layer("Dense", {"units": 3, "activation": "sparsemax"}), "unknown activation 'sparsemax'"),
    (
        a_layer("Dense", {"units": 3, "activation": {"class_name": "function", "config": "mine"}}),
        "activation is the function mine, which nbbn does not have",
    ),
    (
        a_layer("Dense", {"units": 3, "dtype": "bfloat16"}),
        "dtype bfloat16 is not supported; nbbn computes in float32 and",
    ),
    (
        a_layer(
            "Dense",
            {
                "units": 3,
                "kernel_regularizer": {"module": "mine", "class_name": "Mine", "config": {}},
            },
        ),
        "kernel_regularizer is the Mine {}, which nbbn does not have; save the model without it",
    ),
    (
        a_layer("Dense", {"units": 3, "kernel_constraint": "maximum"}),
        "kernel_constraint: unknown constraint 'maximum'",
    ),
    (
        a_layer("Conv2D", {"filters": 3, "kernel_size": 2, "data_format": "channels_first"}),
        "data_format must be None or 'chan",
    ),
    (a_layer("Dense", {"units": 3, "name": 3}), "a layer must have a name and a class"),
    (
        a_layer("Conv2D", {"filters": 3, "kernel_size": 2}),
        r"layer 'odd' does not fit rows of shape \(5,\)",
    ),
    (
        a_layer("Dense", {"units": 3, "dtype": "float64"}),
        "layer 'odd' computes in float64, others in float32",
    ),
    (a_layer("Dense", {"units": 3}), r"layer 'odd' \(Dense\): its weights are missing"),
    (3, "its config describes no Keras model"),
]


@pytest.mark.parametrize(("layer", "message"), LAYERS)
def test_refuses_layers(tmp_path, layer, message):
    shape, network = drawn("twins")
    config = sequential_config(network, shape)
    config["config"]["layers"].insert(1, layer)
    refused(tmp_path, keras_file(config, weights_file(network)), message)


def changed(change, make=functional_config):
    shape, network = drawn("twins")
    config = make(network, shape)
    result = change(config, config["config"], config["config"]["layers"])
    return result if isinstance(result, list) else config


def nodes(*at):
    """The second layer used on the outputs of these layers."""
    return lambda c, inner, layers: layers[2].update(
        inbound_nodes=[node(layers[i]["name"]) for i in at]
    )


def two_inputs(c, inner, layers):
    both = node(layers[0]["name"])
    both["args"] *= 2
    layers[2].update(inbound_nodes=[both])


MODELS = [
    (nodes(3), "layer 'dense_of_1' takes output 0 of use 0 of 'dense_of_2', which does not come"),
    (nodes(2), "layer 'dense_of_1' takes output 0 of use 0 of 'dense_of_1', which does not come"),
    (two_inputs, "layer 'dense_of_1' is called on 2 values; it takes one"),
    (
        lambda c, i, layers: layers[2].update(inbound_nodes=[node("dense_of_0", training=True)]),
        "layer 'dense_of_1' is called with training=True",
    ),
    (
        lambda c, i, layers: layers[2]["inbound_nodes"][0]["args"][0]["config"].update(
            keras_history=["dense_of_0", 1, 0]
        ),
        "layer 'dense_of_1' takes output 0 of use 1 of 'dense_of_0', which does not come before it",
    ),
    (
        lambda c, i, layers: layers[2]["inbound_nodes"][0]["args"][0]["config"].update(
            keras_history=["dense_of_0", 0, 1]
        ),
        "layer 'dense_of_1' takes output 1 of use 0 of 'dense_of_0', which there is not",
    ),
    (
        lambda c, i, layers: layers[2]["inbound_nodes"][0].update(args=["dense_of_0"]),
        "a layer is called on dense_of_0, which is no value of a layer",
    ),
    (
        lambda c, i, layers: layers[2]["inbound_nodes"][0]["args"].append(3.0),
        r"layer 'dense_of_1' \(Dense\) is called on a number, which it does not take",
    ),
    (
        lambda c, i, layers: layers[2]["inbound_nodes"][0].update(
            args=[{"a": layers[2]["inbound_nodes"][0]["args"][0]}]
        ),
        r"layer 'dense_of_1' \(Dense\) is called on a dict",
    ),
    (
        lambda c, i, layers: i.update(input_layers=[["a", 0, 0], ["b", 0, 0]]),
        "its input_layers name 'a', which is no layer of it",
    ),
    (lambda c, i, layers: i.update(output_layers=[]), "its output_layers name no layer"),
    (
        lambda c, i, layers: i.update(output_layers=["input_layer", 0, 0]),
        "gives out one of its inputs as it is",
    ),
    (
        lambda c, i, layers: i.update(output_layers=["dense_of_1", 1, 0]),
        "the model gives out output 0 of use 1 of 'dense_of_1', which there is not",
    ),
    (
        lambda c, i, layers: i.update(output_layers=["dense_of_1", "a", 0]),
        "where an output of a layer must stand",
    ),
    (
        lambda c, i, layers: (
            layers.append({**input_config((5,), "other"), "name": "other", "inbound_nodes": []}),
            i.update(input_layers=[["input_layer", 0, 0], ["other", 0, 0]]),
        )[:0],
        "no output depends on its input 'other'; leave it out",
    ),
    (lambda c, i, layers: layers.append(layers[1]), "need different names, 'dense_of_0' is there"),
    (
        lambda c, i, layers: layers.append(within(sequential_config(drawn("twins")[1], (5,)), "s",
                                                  use([["dense_of_0", 0, 0], [
                                                      "dense_of_1", 0, 0]], True))),
        "layer 'dense_of_0' is called on 2 values; it takes one",
    ),
    (
        lambda c, i, layers: layers.append(within(functional_config(drawn("twins")[1], (5,)), "f",
                                                  use([["dense_of_0", 0, 0], [
                                                      "dense_of_1", 0, 0]], True))),
        "model 'f' is called on 2 values; it takes 1",
    ),
    (
        lambda c, i, layers: c.update(class_name="Mine"),
        "holds a Mine; only Sequential models and functional ones",
    ),
    (lambda c, i, layers: c.update(module="mine"), "holds a Functional; only Sequential models"),
    (lambda c, i, layers: c.pop("config"), "its config describes no Keras model"),
    (lambda c, i, layers: [], "its config describes no Keras model"),
]
SEQUENTIALS = [
    (lambda c, i, layers: layers.clear(), "has no layers"),
    (
        lambda c, i, layers: (layers.pop(0), i.pop("build_input_shape"))[:0],
        "was saved before it was built",
    ),
    (
        lambda c, i, layers: layers[0]["config"].update(batch_shape=[None, None, 5]),
        "every size but the batch's must be known",
    ),
    (
        lambda c, i, layers: layers.extend([layers[-1]] * 1000),
        "has 1004 layers; at most 1000 are read",
    ),
    (
        lambda c, i, layers: layers[2]["config"].update(name="dense_of_0"),
        "need different names, 'dense_of_0' is there already",
    ),
    (
        lambda c, i, layers: layers[1]["config"].update(units=2**62),
        r"layer 'dense_of_0' \(Dense\): has shape \(5, 5\), the",
    ),
]


@pytest.mark.parametrize(
    ("make", "change", "message"),
    [
        *((functional_config, *case) for case in MODELS),
        *((sequential_config, *case) for case in SEQUENTIALS),
    ],
)
def test_refuses_models(tmp_path, make, change, message):
    _, network = drawn("twins")
    config = copy.deepcopy(changed(change, make))
    refused(tmp_path, keras_file(config, weights_file(network)), message)


def test_refuses_weights_that_do_not_fit(tmp_path):
    shape, network = drawn("twins")
    config = sequential_config(network, shape)
    bare = [{"kernel": network.weights[1]["kernel"]}]
    more = NaiveNetwork(
        [TWINS[0], describe("Dense", units=5, use_bias=False)], shape, network.weights[:1] + bare
    )
    refused(
        tmp_path,
        keras_file(config, weights_file(more)),
        r"layer 'dense_of_1' \(Dense\): has 1 arrays, needs kernel, bias",
    )
    refused(
        tmp_path,
        h5_file(config, more),
        r"layer 'dense_of_1' \(Dense\): has arrays \['kernel'\], needs kernel, bias",
    )
    twice = weights_file(network, ["dense_of_0", "dense_of_0", "dense_of_2"])
    refused(tmp_path, keras_file(config, twice), "has weights of two layers named 'dense_of_0'")
    refused(tmp_path, h5_file(None, network), "holds weights without layers; save the whole model")
    network.weights[1]["bias"][2] = np.nan
    refused(tmp_path, keras_file(config, weights_file(network)), "bias holds NaN or infinity")
    network.weights[1]["bias"][2] = 1e300
    refused(
        tmp_path,
        keras_file(config, weights_file(network, dtype="float64")),
        "bias holds NaN or infinity",
    )


def dataset(**arguments):
    """Replace a kernel by one that is made differently."""

    def change(file):
        path = "model_weights/dense_of_1/dense_of_1/kernel"
        kernel = file[path][()]
        del file[path]
        file.create_dataset(path, **{"data": kernel, **arguments})

    return change


def link(what):
    def change(file):
        path = "model_weights/dense_of_1/dense_of_1/kernel"
        del file[path]
        file[path] = what

    return change


def virtual(file):
    path = "model_weights/dense_of_1/dense_of_1/kernel"
    del file[path]
    layout = h5py.VirtualLayout((5, 5), "f4")
    layout[:] = h5py.VirtualSource("elsewhere.h5", "kernel", shape=(5, 5))
    file.create_virtual_dataset(path, layout)


def attribute(name, value):
    def change(file):
        file["model_weights/dense_of_1"].attrs[name] = value

    return change


WHERE = r"layer 'dense_of_1' \(Dense\): "
CONTENTS = [
    (
        dataset(data=None, shape=(5, 5), dtype="f4", chunks=(5, 5)),
        WHERE + "kernel holds no numbers",
    ),
    (dataset(data=None, shape=(5, 5), dtype="f4"), WHERE + "kernel holds no numbers"),
    (dataset(data=np.ones((5, 4), "f4")), WHERE + r"has shape \(5, 4\), the layer needs \(5, 5\)"),
    (dataset(data=None, shape=(2**30, 2**30), dtype="f4"), WHERE + "kernel holds no numbers"),
    (
        dataset(data=np.zeros((2500, 2500), "f4"), compression="gzip"),
        WHERE + "kernel promises more numbers than the file can",
    ),
    (
        dataset(data=None, shape=(5, 5), dtype="f4", external=[("/etc/hostname", 0, 100)]),
        WHERE + "kernel lies in another file",
    ),
    (dataset(data=np.ones((5, 5), "i4")), WHERE + "kernel holds no floats"),
    (dataset(data=np.ones((5, 5), "S4")), WHERE + "kernel holds no floats"),
    (virtual, WHERE + "kernel lies in another file"),
    (
        link(h5py.ExternalLink("/etc/hostname", "/x")),
        WHERE + "kernel is a link to another place; only what the file holds",
    ),
    (link(h5py.SoftLink("/model_weights")), WHERE + "kernel is a link to another place"),
    (attribute("weight_names", 3), WHERE + r"has arrays \[\], needs kernel, bias"),
    (
        attribute("weight_names", np.array([b"a/b/c/d"])),
        WHERE + r"has arrays \['d'\], needs kernel, bias",
    ),
    (
        attribute("weight_names", np.array([b"no/kernel", b"dense_of_1/bias"])),
        WHERE + "no is missing",
    ),
    (lambda file: file.pop("model_weights/dense_of_1"), WHERE + "dense_of_1 is missing"),
    (lambda file: file.pop("model_weights"), "model_weights is missing"),
]


@pytest.mark.parametrize(("change", "message"), CONTENTS)
def test_refuses_contents(tmp_path, change, message):
    shape, network = drawn("twins")
    refused(tmp_path, h5_file(sequential_config(network, shape), network, change=change), message)


def test_refuses_files(tmp_path):
    shape, network = drawn("twins")
    config, weights = sequential_config(network, shape), weights_file(network)
    whole = keras_file(config, weights)
    refused(tmp_path, b"", "is no Keras model, or broken; give a .keras or .h5 file")
    refused(tmp_path, b"x" * 100, "is no Keras model")
    refused(tmp_path, whole[: len(whole) // 2], "broken .*; save the model again")
    refused(tmp_path, keras_file(config, weights[:1000]), "broken")
    refused(tmp_path, keras_file(config, b""), "broken")
    refused(tmp_path, keras_file("{", weights), "broken")
    refused(tmp_path, keras_file("[" * 100_000, weights), "broken")
    refused(tmp_path, keras_file(b"\xff\xfe\xfa", weights), "broken")
    refused(tmp_path, h5_file(b"\xff\xfe", network), "broken")
    only = io.BytesIO()
    with zipfile.ZipFile(only, "w") as archive:
        archive.writestr("metadata.json", "{}")
    refused(tmp_path, only.getvalue(), "has no config.json: not a whole model")
    with pytest.raises(nbbn.FileError, match="does not exist; check the path"):
        from_keras(tmp_path / "none.keras")
    with pytest.raises(nbbn.FileError, match="is a folder"):
        from_keras(tmp_path)


def patched(old, new, network="twins"):
    """A file with some bytes replaced, where they first stand."""
    shape, network = drawn(network)
    data = h5_file(sequential_config(network, shape), network)
    assert old in data
    return data.replace(old, new, 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b"\x89HDF\r\n\x1a\n\0", b"\x89HDF\r\n\x1a\n\2", "broken .*; save the model again"),
        (b"HEAP", b"heap", "broken .*bad local heap signature"),
        (b"SNOD", b"snod", "broken .*bad symbol table node signature"),
        (b"TREE\0\0", b"TREE\1\0", "broken .*B-tree"),
        (b"GCOL", b"gcol", "holds weights without layers"),
        (b"model_weights\0", b"model_weightz\0", "model_weights is missing"),
    ],
)
def test_refuses_broken_structures(tmp_path, old, new, message):
    refused(tmp_path, patched(old, new), message)


PIECES = {
    "gzip": {"compression": "gzip"},
    "chunks": {"chunks": (5, 1)},
    "growing": {"maxshape": (None, 5)},
}


@pytest.mark.parametrize("change", [dataset(**options) for options in PIECES.values()], ids=PIECES)
def test_arrays_in_pieces(tmp_path, change):
    shape, network = drawn("twins")
    check(
        from_keras(
            written(tmp_path, h5_file(sequential_config(network, shape), network, change=change))
        ),
        network,
        shape,
    )


@pytest.mark.parametrize("crash", ["os.abort()", "os.kill(os.getpid(), 11)"])
def test_a_crash_of_the_library_is_an_error(tmp_path, monkeypatch, crash):
    child = tmp_path / "child.py"
    child.write_text(f"import os\n{crash}")
    monkeypatch.setattr("nbbn.formats.keras.hdf5._CHILD", child)
    shape, network = drawn("twins")
    refused(
        tmp_path,
        h5_file(sequential_config(network, shape), network),
        "broken .makes the HDF5 library crash",
    )


def test_a_file_without_end_is_an_error(tmp_path, monkeypatch):
    child = tmp_path / "child.py"
    child.write_text("while True: pass")
    monkeypatch.setattr("nbbn.formats.keras.hdf5._CHILD", child)
    monkeypatch.setattr("nbbn.formats.keras.hdf5._SECONDS", 0.2)
    shape, network = drawn("twins")
    refused(
        tmp_path,
        h5_file(sequential_config(network, shape), network),
        "broken .keeps the HDF5 library busy without end",
    )


@pytest.mark.slow
def test_groups_of_many_entries(tmp_path):
    """A group's names stand in a tree: of several levels where there are many."""
    shape, layers = (3,), [describe("Dense", units=3) for _ in range(400)]
    network = NaiveNetwork(layers, shape).draw(np.random.default_rng(3))
    config = sequential_config(network, shape)
    for data in (keras_file(config, weights_file(network)), h5_file(config, network)):
        for got, array in zip(
            from_keras(written(tmp_path, data)).get_weights(), network.get_weights(), strict=True
        ):
            np.testing.assert_array_equal(got, array)


@pytest.mark.parametrize("dtype", [">f4", "<f8", "<f2", ">f8"])
def test_floats_of_other_widths_and_orders(tmp_path, dtype):
    shape, network = drawn("twins")
    config, data = sequential_config(network, shape), weights_file(network, dtype=dtype)
    for got, array in zip(
        from_keras(written(tmp_path, keras_file(config, data))).get_weights(), network.get_weights()
    ):
        np.testing.assert_array_equal(got, array.astype(dtype).astype(np.float32))


def test_refuses_archives_that_grow(tmp_path):
    shape, network = drawn("twins")
    config = sequential_config(network, shape)
    bomb = keras_file(config, bytes(2**26), zipfile.ZIP_DEFLATED)
    assert len(bomb) < 2**17
    refused(
        tmp_path, bomb, r"model.weights.h5 unpacks to more than \d+ bytes, which no model's does"
    )
    refused(
        tmp_path,
        keras_file(b" " * 2**25, b"", zipfile.ZIP_DEFLATED),
        "config.json unpacks to more than",
    )


def test_refuses_other_compressions(tmp_path):
    """LZMA's files say themselves how much memory it is to take."""
    shape, network = drawn("twins")
    data = keras_file(sequential_config(network, shape), weights_file(network), zipfile.ZIP_LZMA)
    refused(
        tmp_path,
        data,
        "config.json is compressed in a way that Keras does not use; save the model again",
    )


def test_refuses_long_configs(tmp_path, monkeypatch):
    shape, network = drawn("twins")
    monkeypatch.setattr("nbbn.formats.keras.reading._MAX_CONFIG", 100)
    refused(
        tmp_path,
        h5_file(sequential_config(network, shape), network),
        "its config is longer than 100 bytes",
    )


def test_h5py_is_missing(monkeypatch, tmp_path):
    shape, network = drawn("twins")
    path = written(tmp_path, h5_file(sequential_config(network, shape), network))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs the package h5py: pip install 'nbbn\[keras\]'"):
        from_keras(path)


def test_what_the_interop_package_offers():
    import nbbn.interop

    assert dir(nbbn.interop) == sorted(nbbn.interop.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'from_caffe'"):
        nbbn.interop.from_caffe  # noqa: B018


def test_the_writer_writes_what_json_holds():
    """The files of these tests have no tuples or arrays in their JSON, as Keras's have none."""
    shape, network = drawn()
    config = sequential_config(network, shape)
    assert json.loads(json.dumps(config)) == config
    assert layer_config(network.layers[0], "n")["config"]["name"] == "n"
