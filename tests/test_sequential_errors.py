"""What `Sequential` refuses, and how it says so: the rule, what came, what to do."""

from __future__ import annotations

import numpy as np
import pandas
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from scipy.sparse import csr_matrix

import nbbn
from nbbn import Input, Sequential
from nbbn.layers import Activation, BatchNormalization, Dense, Dropout, LayerError

SPARSE = "sparse_categorical_crossentropy"
X, Y = np.zeros((8, 6), np.float32), np.arange(8) % 3
NAN = np.where(np.arange(48).reshape(8, 6) == 13, np.nan, 0.0)


def network(end="softmax", **first):
    nbbn.set_random_seed(1)
    return Sequential(
        [Dense(8, **first), BatchNormalization(), Activation("relu"), Dense(3, activation=end)]
    )


def compiled(loss=SPARSE, end="softmax", **first):
    model = network(end, **first)
    model.compile("adam", loss)
    return model


FIT = {
    "before compile": (
        lambda m: network().fit(X, Y),
        RuntimeError,
        r"fit: call compile\(optimizer, loss, metrics\) first",
    ),
    "no x": (lambda m: m.fit(), ValueError, r"x must be given"),
    "no y": (lambda m: m.fit(X), ValueError, r"y must be given"),
    "lengths": (lambda m: m.fit(X, Y[:7]), ValueError, r"x has 8 rows, but y has 7"),
    "no rows": (lambda m: m.fit(X[:0], Y[:0]), ValueError, r"x has no rows \(shape \(0, 6\)\)"),
    "rows of another shape": (
        lambda m: m.fit(X[:, :5], Y),
        ValueError,
        r"x has rows of shape \(5,\) \(x\.shape is \(8, 5\)\), but the model takes rows of shape \(6,\)",
    ),
    "rows to reshape": (
        lambda m: m.fit(X.reshape(8, 3, 2), Y), ValueError, r"reshape it: x\.reshape\(-1, 6\)",
    ),
    "NaN": (
        lambda m: m.fit(NAN, Y),
        ValueError,
        r"x holds nan at \(2, 1\); remove or replace NaN and infinity",
    ),
    "too large": (
        lambda m: m.fit(np.full((8, 6), 1e300), Y),
        ValueError,
        r"x holds 1e\+300 at \(0, 0\), too large for float32",
    ),
    "strings": (lambda m: m.fit(X.astype(str), Y), TypeError, r"x must be numeric, got dtype <U32"),
    "objects": (
        lambda m: m.fit(np.full((8, 6), "a", object), Y),
        TypeError,
        r"x must be numeric, got objects such as 'a'",
    ),
    "ragged": (
        lambda m: m.fit([[1], [1, 2]], Y), ValueError, r"x is no array: its rows differ in length",
    ),
    "a number": (
        lambda m: m.fit(1.0, Y), ValueError, r"x must be an array of rows, got the number 1\.0",
    ),
    "sparse": (lambda m: m.fit(csr_matrix(X), Y), TypeError, r"x is sparse, .*x.toarray\(\), or use MLP"),
    "missing": (
        lambda m: m.fit(pandas.DataFrame(X + 0.5).convert_dtypes().mask(X == 0), Y), ValueError,
        r"x holds missing values \(<NA>\); fill them in, as x.fillna\(0\) does",
    ),
    "generator": (lambda m: m.fit(iter([1])), TypeError, r"x, batch 1: must be \(x, y\) or"),
    "string labels": (
        lambda m: m.fit(X, Y.astype(str)),
        TypeError,
        r"y must be numeric, got dtype <U21; encode labels",
    ),
    "label outside": (
        lambda m: m.fit(X, Y + 1),
        ValueError,
        r"y holds the label 3, but the model has 3 outputs.* in 0 to 2",
    ),
    "negative label": (
        lambda m: m.fit(X, Y - 1), ValueError, r"y holds the label -1.*number the classes from 0",
    ),
    "broken label": (
        lambda m: m.fit(X, Y / 2), ValueError, r"class indices, whole numbers, got 0\.5 in y",
    ),
    "NaN label": (
        lambda m: m.fit(X, np.where(Y == 1, np.nan, Y)), ValueError, r"y holds nan at \(1,\)",
    ),
    "one-hot labels": (
        lambda m: m.fit(X, np.eye(3)[Y]),
        ValueError,
        r"use loss='categorical_crossentropy', or give y\.argmax\(1\)",
    ),
    "validation labels": (
        lambda m: m.fit(X, Y, validation_data=(X, Y + 5)),
        ValueError,
        r"validation y holds the label 7",
    ),
    "validation rows": (
        lambda m: m.fit(X, Y, validation_data=(X[:, 1:], Y)),
        ValueError,
        r"validation x has rows of shape \(5,\)",
    ),
    "validation tuple": (
        lambda m: m.fit(X, Y, validation_data=X),
        TypeError,
        r"validation_data must be a tuple \(x, y\)",
    ),
    "validation of one": (
        lambda m: m.fit(X, Y, validation_data=(X,)), ValueError, r"got 1 entries",
    ),
    "validation share": (
        lambda m: m.fit(X, Y, validation_split=1.5),
        ValueError,
        r"validation_split must be a number between 0",
    ),
    "validation of nothing": (
        lambda m: m.fit(X, Y, validation_split=0.999), ValueError, r"leaves 0 to train on",
    ),
    "validation freq": (
        lambda m: m.fit(X, Y, validation_freq=0),
        ValueError,
        r"validation_freq must be a whole number",
    ),
    "batch size": (
        lambda m: m.fit(X, Y, batch_size=0),
        ValueError,
        r"batch_size must be a whole number of at least 1, got 0",
    ),
    "epochs": (
        lambda m: m.fit(X, Y, epochs=1.5),
        ValueError,
        r"epochs must be a whole number of at least 0, got 1\.5",
    ),
    "verbose": (
        lambda m: m.fit(X, Y, verbose="loud"),
        ValueError,
        r"verbose must be 'auto', 0, 1 or 2, got 'loud'",
    ),
    "shuffle": (
        lambda m: m.fit(X, Y, shuffle="batch"),
        ValueError,
        r"shuffle must be True or False, got 'batch'",
    ),
    "steps": (
        lambda m: m.fit(X, Y, steps_per_epoch=0.5),
        ValueError,
        r"steps_per_epoch must be a whole number of at least 1, got 0.5",
    ),
    "callback class": (
        lambda m: m.fit(X, Y, callbacks=[nbbn.callbacks.EarlyStopping]),
        TypeError,
        r"make an object of it",
    ),
    "one row": (lambda m: m.fit(X[:1], Y[:1]), ValueError, r"got 1 sample"),
    "batches of one row": (
        lambda m: m.fit(X, Y, batch_size=1), ValueError, r"batch_size=1 has no batch statistics",
    ),
    "a batch of one row": (lambda m: m.train_on_batch(X[:1], Y[:1]), ValueError, r"got 1 sample"),
    "weights' length": (
        lambda m: m.fit(X, Y, sample_weight=np.ones(7)),
        ValueError,
        r"sample_weight must have one weight for each",
    ),
    "NaN weight": (
        lambda m: m.fit(X, Y, sample_weight=NAN[:, 1]), ValueError, r"sample_weight holds nan",
    ),
    "both weights": (
        lambda m: m.fit(X, Y, sample_weight=Y, class_weight={0: 1}),
        ValueError,
        r"cannot be given together",
    ),
    "class weights": (
        lambda m: m.fit(X, Y, class_weight=[1, 2, 3]), TypeError, r"class_weight must be a dict",
    ),
    "class outside": (
        lambda m: m.fit(X, Y, class_weight={3: 1.0}),
        ValueError,
        r"names class 3, but the classes are 0 to 2",
    ),
    "class weight NaN": (
        lambda m: m.fit(X, Y, class_weight={0: np.nan}),
        ValueError,
        r"class_weight must hold finite numbers",
    ),
    "class weight below 0": (
        lambda m: m.fit(X, Y, class_weight={0: -1.0}), ValueError, "finite numbers of 0 or more",
    ),
    "class weight of no number": (
        lambda m: m.fit(X, Y, class_weight={0: [1.0, 2.0]}), ValueError,
        "finite numbers of 0 or more",
    ),
    "class between": (
        lambda m: m.fit(X, Y, class_weight={0.5: 1.0}), ValueError, r"names class 0\.5, but",
    ),
    "evaluate": (lambda m: m.evaluate(X, Y + 9), ValueError, r"y holds the label 11"),
    "predict": (lambda m: m.predict(X[:, :2]), ValueError, r"the model takes rows of shape \(6,\)"),
    "predict in batches": (
        lambda m: m.predict(X, batch_size=-1), ValueError, r"batch_size must be a whole number",
    ),
    "predict steps": (
        lambda m: m.predict(X, steps=0), ValueError, r"steps must be a whole number of at least 1",
    ),
    "training call": (
        lambda m: m(nbbn.Input((6,)), training=True), ValueError, r"training=True is not supported"
    ),
    "recalibrate": (lambda m: m.recalibrate(NAN), ValueError, r"x holds nan"),
}


@pytest.mark.parametrize("call, error, match", FIT.values(), ids=FIT)
def test_refused_before_any_step(call, error, match):
    model = compiled(input_shape=(6,))
    before = model.get_weights()
    with pytest.raises(error, match=match):
        call(model)
    for got, ref in zip(model.get_weights(), before):
        np.testing.assert_array_equal(got, ref)


def test_a_refused_first_fit_does_not_fix_the_shape():
    model = compiled()
    images = np.zeros((8, 3, 2))
    for call in (model.fit, model.train_on_batch, model.evaluate):
        with pytest.raises(ValueError, match=r"needs a model whose outputs have one axis|y has 7"):
            call(images, Y[:7])
        with pytest.raises(ValueError, match=r"needs a model whose outputs have one axis"):
            call(images, Y)
    assert not model.built
    model.fit(X, Y, verbose=0)


def test_what_the_engine_cannot_train_is_refused_before_callbacks():
    called = []
    model = Sequential([Dense(4), Dropout(0.5, noise_shape=(1, 4)), Dense(3, activation="softmax")])
    model.compile("sgd", SPARSE)
    with pytest.raises(
        LayerError, match=r"layer 1 \(Dropout\): noise_shape is not supported in training"
    ):
        model.fit(
            X, Y, callbacks=[nbbn.callbacks.LambdaCallback(on_train_begin=called.append)], verbose=0
        )
    assert not called and not model.built


COMPILE = {
    "no loss": ({}, ValueError, r"compile: loss must be given"),
    "loss": (
        {"loss": "mean_sqared_error"},
        ValueError,
        r"unknown loss 'mean_sqared_error'; did you mean 'mean_squared_error'\?",
    ),
    "odd loss": (
        {"loss": "xyz"}, ValueError, r"unknown loss 'xyz'; choose one of sparse_categorical",
    ),
    "loss function": ({"loss": len}, TypeError, r"functions are not supported"),
    "loss class": (
        {"loss": nbbn.losses.Huber}, TypeError, r"loss is the class Huber; make an object",
    ),
    "optimizer": (
        {"optimizer": "xyz", "loss": SPARSE},
        ValueError,
        r"unknown optimizer 'xyz'; choose one of sgd",
    ),
    "near optimizer": (
        {"optimizer": "adamx", "loss": SPARSE},
        ValueError,
        r"unknown optimizer 'adamx'; did you mean 'adamax'\?",
    ),
    "other optimizer": (
        {"optimizer": "muon", "loss": SPARSE}, ValueError, r"'muon' is not supported: use AdamW",
    ),
    "metric": (
        {"loss": SPARSE, "metrics": ["acuracy"]},
        ValueError,
        r"unknown metric 'acuracy'; did you mean 'accuracy'\?",
    ),
    "odd metric": (
        {"loss": SPARSE, "metrics": ["xyz"]},
        ValueError,
        r"unknown metric 'xyz'; choose one of accuracy",
    ),
    "metric function": (
        {"loss": SPARSE, "metrics": [len]}, TypeError, r"a metric must be a name or an object",
    ),
    "metric class": (
        {"loss": SPARSE, "metrics": [nbbn.metrics.BinaryAccuracy]},
        TypeError,
        r"a metric is the class",
    ),
    "metric of other targets": (
        {"loss": SPARSE, "metrics": ["mse"]}, ValueError, r"metric 'mse' takes a row of numbers",
    ),
    "metric twice": (
        {"loss": SPARSE, "metrics": ["acc", "acc"]},
        ValueError,
        r"metrics need different names, got acc, acc",
    ),
    "metrics by output": (
        {"loss": SPARSE, "metrics": {"a": "acc"}}, TypeError, r"metrics must be a list",
    ),
    "loss weights": (
        {"loss": SPARSE, "loss_weights": [1]}, ValueError, r"loss_weights is not supported",
    ),
    "weighted metrics": (
        {"loss": SPARSE, "weighted_metrics": ["acc"]},
        ValueError,
        r"weighted_metrics is not supported",
    ),
}


@pytest.mark.parametrize("arguments, error, match", COMPILE.values(), ids=COMPILE)
def test_refused_by_compile(arguments, error, match):
    with pytest.raises(error, match=match):
        network().compile(**arguments)


LOSSES = {
    "end": (
        "relu", SPARSE, Y, LayerError,
        r"needs a model that ends with softmax, this one ends with relu; end it with",
    ),
    "logits": (
        "softmax", nbbn.losses.SparseCategoricalCrossentropy(from_logits=True), Y, LayerError,
        r"from_logits=True takes outputs before the softmax, but the model ends with softmax",
    ),
    "labels": (
        "softmax", "categorical_crossentropy", Y, ValueError,
        r"use 'sparse_categorical_crossentropy', or nbbn.utils",
    ),
    "shape": (
        None, "mse", X, ValueError,
        r"outputs of shape \(3,\) for each row, got y of shape \(8, 6\)",
    ),
    "range": (
        "sigmoid", "binary_crossentropy", np.eye(3)[Y] * 2, ValueError,
        r"takes targets from 0 to 1, got y from 0 to 2",
    ),
    "NaN": (None, "mse", np.full((8, 3), np.inf), ValueError, r"y holds inf at \(0, 0\)"),
}


@pytest.mark.parametrize("end, loss, y, error, match", LOSSES.values(), ids=LOSSES)
def test_refused_with_a_loss(end, loss, y, error, match):
    model = compiled(loss, end)
    with pytest.raises(error, match=match):
        model.fit(X, y, verbose=0)


def test_outputs_of_more_axes_take_no_labels():
    model = Sequential([Dense(3, activation="softmax")])
    model.compile("sgd", SPARSE)
    with pytest.raises(
        ValueError,
        match=r"needs a model whose outputs have one axis, got outputs of shape \(2, 3\)",
    ):
        model.fit(np.zeros((4, 2, 5)), np.zeros(4), verbose=0)


LAYERS = {
    "class": (lambda: Sequential([Dense]), TypeError, r"add takes a layer, got the class Dense"),
    "no layer": (
        lambda: Sequential(["dense"]), TypeError, r"add takes a layer of nbbn.layers, got str",
    ),
    "name": (
        lambda: Sequential([Dense(1, name="a"), Dense(1, name="a")]),
        ValueError,
        r"'a' is there already",
    ),
    "late input": (
        lambda: Sequential([Dense(1), Input((2,))]),
        ValueError,
        r"an Input must be the first layer",
    ),
    "two shapes": (
        lambda: Sequential([Input((2,)), Dense(1, input_shape=(3,))]),
        LayerError,
        r"rows have shape \(2,\), but its first",
    ),
    "fit": (
        lambda: Sequential([Input((4,)), Dense(3, name="a"), nbbn.layers.MaxPooling2D(name="b")]),
        LayerError,
        r"layer 'b' \(MaxPooling2D\) does not fit after layer 'a' \(Dense\), whose rows have shape \(3,\): .*height, width",
    ),
    "first": (
        lambda: Sequential([Input((4,)), nbbn.layers.Conv2D(2, 3)]),
        LayerError,
        r"layer 'conv2d' \(Conv2D\) does not fit the model's rows of shape \(4,\)",
    ),
    "dtypes": (
        lambda: Sequential([Dense(1, dtype="float32"), Dense(1, dtype="float64")]),
        LayerError,
        r"in one dtype",
    ),
    "brought along": (
        lambda: Sequential([Input((4,)), network(input_shape=(6,)).layers[0]]),
        LayerError,
        r"rows have shape \(4,\)",
    ),
    "weights that do not fit": (
        lambda: Sequential([Input((4,)), network(input_shape=(6,)).layers[3]]),
        LayerError,
        r"has weights of shapes .*; rows of shape \(4,\) need",
    ),
    "pop": (lambda: Sequential().pop(), ValueError, r"pop: the model has no layers"),
    "empty": (
        lambda: Sequential().build((None, 2)), ValueError, r"the model has no layers; add some",
    ),
    "build": (lambda: network().build(), ValueError, r"build: input_shape must be given"),
    "build without batch axis": (
        lambda: network().build((784,)), ValueError, r"input_shape must be \(None, \.\.\.\)",
    ),
    "build again": (
        lambda: network(input_shape=(6,)).build((None, 7)),
        LayerError,
        r"rows have shape \(6,\), got \(7,\)",
    ),
    "shape": (
        lambda: network().output_shape, ValueError, r"output_shape: the model has no weights yet",
    ),
    "count": (
        lambda: network().count_params(), ValueError, r"count_params: the model has no weights yet",
    ),
    "layer's count": (
        lambda: network().layers[0].count_params(),
        ValueError,
        r"layer 'dense' \(Dense\) has no weights yet",
    ),
    "save": (lambda: network().save("x"), ValueError, r"network: the model has no weights yet"),
    "layer's field": (
        lambda: setattr(network().layers[0], "units", 3),
        AttributeError,
        r"only trainable can be set",
    ),
    "layer's field missing": (lambda: network().layers[0].unit, AttributeError, r"unit"),
    "no such layer": (
        lambda: network().get_layer("x"),
        ValueError,
        r"no layer is named 'x'; the names are dense, batch_norm",
    ),
    "no such index": (
        lambda: network().get_layer(index=9), ValueError, r"the model has 4 layers, got index 9",
    ),
    "name and index": (
        lambda: network().get_layer("a", 1), ValueError, r"either a name or an index",
    ),
    "number of weights": (
        lambda: network(input_shape=(6,)).set_weights([X]),
        ValueError,
        r"the model has 8 arrays, got 1",
    ),
    "layer's weights": (
        lambda: network(input_shape=(6,)).layers[0].set_weights([X]),
        ValueError,
        r"has 2 arrays \(kernel, bias\), got 1",
    ),
    "weights' shape": (
        lambda: network(input_shape=(6,)).layers[0].set_weights([X, X]),
        ValueError,
        r"layer 'dense' \(Dense\): kernel must have shape \(6, 8\), got \(8, 6\)",
    ),
    "variance": (
        lambda: network(input_shape=(6,)).layers[1].set_weights([-np.ones(8)] * 4),
        ValueError,
        r"var is a variance",
    ),
    "optimizer": (lambda: network().optimizer, RuntimeError, r"optimizer: call compile"),
}


@pytest.mark.parametrize("make, error, match", LAYERS.values(), ids=LAYERS)
def test_layers_that_do_not_fit(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_a_layer_that_does_not_fit_is_not_added():
    model = Sequential([Dense(3, input_shape=(4,))])
    with pytest.raises(LayerError):
        model.add(nbbn.layers.MaxPooling2D())
    model.add(Dense(2))
    assert [layer.name for layer in model.layers] == ["dense", "dense_1"]


def test_a_foreign_optimizer_state_is_refused(tmp_path):
    model = compiled(input_shape=(6,))
    model.fit(X, Y, verbose=0)
    path = tmp_path / "model.nbbn"
    model.save(path)
    tensors = load_file(path)
    with safe_open(path, "np") as file:
        header = file.metadata()
    kernel = tensors["optimizer.0.kernel.0"]
    for name, array, match in (
        (
            "optimizer.0.kernel.0",
            kernel[:-1],
            r"tensor optimizer\.0\.kernel\.0 must be F32 of shape \[6, \d+\], got F32",
        ),
        (
            "optimizer.0.kernel.0",
            kernel.astype(float),
            r"tensor optimizer\.0\.kernel\.0 must be F32 of shape .*, got F64",
        ),
        ("optimizer.90.kernel.0", kernel, r"tensor optimizer\.90\.kernel\.0 belongs to no layer"),
        ("optimizer.0.kernel.x", kernel, r"tensor optimizer\.0\.kernel\.x belongs to no layer"),
        ("optimizer.0.kernel.9", kernel, r"its numbers are damaged \(the checksum differs\)"),
        ("optimizer.0.kernel.0", kernel + 1, r"its numbers are damaged \(the checksum differs\)"),
    ):
        save_file({**tensors, name: np.ascontiguousarray(array)}, path, header)
        with pytest.raises(nbbn.FileError, match=match):
            nbbn.load(path)


def test_class_weight_needs_classes():
    for units, targets in ((1, np.full(len(X), 0.3)), (2, np.ones((len(X), 2)))):
        model = nbbn.Sequential([nbbn.layers.Dense(units)])
        model.compile("sgd", "mse")
        with pytest.raises(ValueError, match="class_weight needs one class a row"):
            model.fit(X, targets, class_weight={0: 2.0}, verbose=0)
