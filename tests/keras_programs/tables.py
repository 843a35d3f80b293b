"""Tables: regression, classification, weights, regularisers, k folds."""

from __future__ import annotations

import numpy as np

from keras_programs.common import curve, program, rng, start, table


def dense(keras, units=1, activation=None, **first):
    return start(keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, activation="relu", **first),
        keras.layers.Dense(units, activation=activation)]))


@program("regression of a number, with the mean absolute error")
def regression(keras):
    x, y, _ = table()
    model = dense(keras)
    model.compile(keras.optimizers.Adam(0.01), "mse")
    history = model.fit(x, y, epochs=4, batch_size=16, shuffle=False, verbose=0)
    return curve(history), model.predict(x, verbose=0), model.evaluate(x, y, verbose=0)


@program("one line by gradient descent")
def linear_regression(keras):
    x, y, _ = table()
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(1, kernel_initializer="zeros")])
    model.compile(keras.optimizers.SGD(0.1), "mean_squared_error")
    history = model.fit(x, y, batch_size=128, epochs=5, shuffle=False, verbose=0)
    return curve(history), *model.layers[0].get_weights()


@program("two classes, one sigmoid, precision and recall")
def two_classes(keras):
    x, y, _ = table()
    y = (y > 0).astype("float32")
    model = dense(keras, activation="sigmoid")
    model.compile("adam", "binary_crossentropy",
                  metrics=["accuracy", keras.metrics.Precision(), keras.metrics.Recall()])
    model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    return model.evaluate(x, y, verbose=0)


@program("three classes of unlike frequency, with class_weight")
def class_weights(keras):
    x, _, y = table()
    model = dense(keras, 3, "softmax")
    model.compile("sgd", "sparse_categorical_crossentropy")
    weights = {0: 1.0, 1: 3.0, 2: 0.5}
    return curve(model.fit(x, y, epochs=3, class_weight=weights, shuffle=False, verbose=0))


@program("weights of rows")
def sample_weights(keras):
    x, y, _ = table()
    model = dense(keras)
    model.compile("sgd", "mae")
    weights = rng().random(len(x))
    return curve(model.fit(x, y, epochs=3, sample_weight=weights, shuffle=False, verbose=0))


@program("penalties on kernels, and Huber's loss")
def penalties(keras):
    x, y, _ = table()
    model = dense(keras, kernel_regularizer=keras.regularizers.L1L2(0.01, 0.02))
    model.compile("adam", keras.losses.Huber(0.5))
    return curve(model.fit(x, y, epochs=3, shuffle=False, verbose=0))


@program("k folds in a loop, a new model for each")
def k_folds(keras):
    x, y, _ = table()
    scores = []
    for k in range(4):
        held = np.arange(len(x)) % 4 == k
        model = dense(keras)
        model.compile("rmsprop", "mse", metrics=["mae"])
        model.fit(x[~held], y[~held], epochs=2, batch_size=16, shuffle=False, verbose=0)
        scores.append(model.evaluate(x[held], y[held], verbose=0)[1])
    return scores


@program("a wide and a deep way, of two inputs by name")
def wide_and_deep(keras):
    x, y, _ = table()
    wide, deep = keras.Input((3,), name="wide"), keras.Input((3,), name="deep")
    hidden = keras.layers.Dense(8, activation="relu")(deep)
    model = start(keras.Model(inputs=[wide, deep], outputs=keras.layers.Dense(1)(
        keras.layers.concatenate([wide, hidden]))))
    model.compile("adam", "mse")
    given = {"wide": x[:, :3], "deep": x[:, 3:]}
    return curve(model.fit(given, y, epochs=3, shuffle=False, verbose=0)), model.predict(
        given, verbose=0)


@program("activations of all kinds, by name, as layers and as arguments")
def activations(keras):
    x, y, _ = table()
    names = ["elu", "selu", "gelu", "swish", "tanh", "softplus", "softsign", "mish"]
    model = start(keras.Sequential([
        keras.Input((6,)), *(keras.layers.Dense(6, activation=name) for name in names),
        keras.layers.Dense(6), keras.layers.LeakyReLU(),
        keras.layers.Dense(6, activation=keras.activations.relu), keras.layers.Dense(1)]))
    model.compile("adam", "mse")
    return curve(model.fit(x, y, epochs=2, shuffle=False, verbose=0))


@program("weights of bounded norm and of one sign, by constraints")
def constraints(keras):
    x, y, _ = table()
    most, steps = keras.constraints.MaxNorm(0.8), keras.constraints.MinMaxNorm(0.5, 1.0, rate=0.5)
    model = start(keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, activation="relu", kernel_constraint=most),
        keras.layers.Dense(6, activation="relu", kernel_constraint=steps, bias_constraint="max_norm"),
        keras.layers.Dense(1, kernel_constraint="non_neg")]))
    model.compile("adam", "mse")
    losses = curve(model.fit(x, y, epochs=3, shuffle=False, verbose=0))
    return losses, model.get_weights()


@program("layers written as a loop, saved, loaded and trained on", same=False)
def saved_and_loaded(keras):
    import tempfile
    from pathlib import Path

    x, y, _ = table()
    model = keras.Sequential()
    model.add(keras.Input((6,)))
    for units in (8, 8):
        model.add(keras.layers.Dense(units, activation="relu"))
        model.add(keras.layers.Dropout(0.1))
    model.add(keras.layers.Dense(1))
    model.compile("adam", "mse")
    model.fit(x, y, epochs=1, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        ending = "keras" if keras.__name__ == "keras" else "safetensors"
        path = str(Path(folder) / f"model.{ending}")
        model.save(path)
        other = keras.models.load_model(path)
    assert np.allclose(other.predict(x, verbose=0), model.predict(x, verbose=0))
    return curve(other.fit(x, y, epochs=1, verbose=0))


@program("a copy of a model, its config, and weights handed over")
def copies(keras):
    x, _, _ = table()
    model = dense(keras)
    copy = keras.models.clone_model(model)
    copy.set_weights(model.get_weights())
    made = keras.Sequential.from_config(model.get_config())
    made.layers[0].set_weights(model.layers[0].get_weights())
    made.layers[1].set_weights(model.layers[1].get_weights())
    return copy.predict(x, verbose=0), made.predict(x, verbose=0), model.count_params()
