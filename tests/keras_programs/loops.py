"""Loops of one's own, optimisers, weights by hand."""

from __future__ import annotations

import numpy as np

from keras_programs.common import curve, program, rng, start, table


def model_of(keras):
    return start(keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"),
                                   keras.layers.Dense(1)]))


@program("a loop of epochs and batches by train_on_batch and test_on_batch")
def loop_of_batches(keras):
    x, y, _ = table()
    model = model_of(keras)
    model.compile("adam", "mse")
    losses = [model.train_on_batch(x[first : first + 32], y[first : first + 32])
              for _ in range(2) for first in range(0, 128, 32)]
    one = model.predict_on_batch(x[:4])
    return float(np.ravel(losses[0])[0]), model.test_on_batch(x, y), one


@program("optimisers side by side")
def optimisers(keras):
    x, y, _ = table()
    found = []
    for optimizer in (keras.optimizers.SGD(0.01, momentum=0.9, nesterov=True),
                      keras.optimizers.RMSprop(0.01), keras.optimizers.Adam(0.01, amsgrad=True),
                      keras.optimizers.AdamW(0.01, weight_decay=0.1),
                      keras.optimizers.Adam(0.01, clipnorm=0.5)):
        model = model_of(keras)
        model.compile(optimizer, "mse")
        found.append(curve(model.fit(x, y, epochs=2, shuffle=False, verbose=0)))
    return found


@program("weights read and set layer by layer, means of several models")
def mean_of_models(keras):
    x, y, _ = table()
    models = [model_of(keras) for _ in range(3)]
    for k, model in enumerate(models):
        model.compile("sgd", "mse")
        model.fit(x[k::3], y[k::3], epochs=1, shuffle=False, verbose=0)
    mean = model_of(keras)
    mean.set_weights([np.mean(arrays, 0) for arrays in
                      zip(*(model.get_weights() for model in models))])
    return mean.predict(x, verbose=0)


@program("variables of a model: numbers of parameters, names, assignment")
def variables(keras):
    x, _, _ = table()
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4),
                              keras.layers.BatchNormalization()])
    trained = sum(int(np.prod(w.shape)) for w in model.trainable_weights)
    still = sum(int(np.prod(w.shape)) for w in model.non_trainable_weights)
    model.layers[0].kernel.assign(np.full((6, 4), 0.5))
    assert [w.name for w in model.weights][:2] == ["kernel", "bias"]
    return trained, still, model.predict(x, verbose=0)


@program("a model that goes on where it was, twice the epochs by initial_epoch")
def initial_epoch(keras):
    x, y, _ = table()
    model = model_of(keras)
    model.compile("adam", "mse")
    first = model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    second = model.fit(x, y, epochs=4, initial_epoch=2, shuffle=False, verbose=0)
    return curve(first), curve(second), second.epoch


@program("a search over widths and rates")
def search(keras):
    x, y, _ = table()
    found = {}
    for units in (2, 8):
        for rate in (0.001, 0.05):
            model = start(keras.Sequential([keras.Input((6,)), keras.layers.Dense(
                units, activation="relu"), keras.layers.Dense(1)]))
            model.compile(keras.optimizers.Adam(rate), "mse")
            history = model.fit(x, y, epochs=2, validation_split=0.2, shuffle=False, verbose=0)
            found[units, rate] = curve(history, "val_loss")[-1]
    return list(found.values())


@program("seeds: the same program twice", same=False)
def seeds(keras):
    x, y, _ = table()
    found = []
    for _ in range(2):
        keras.utils.set_random_seed(3)
        model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"),
                                  keras.layers.Dropout(0.2), keras.layers.Dense(1)])
        model.compile("adam", "mse")
        found.append(curve(model.fit(x, y, epochs=2, verbose=0)))
    assert found[0] == found[1]
    return found


@program("noise on inputs, and rows that are normalised one by one", same=False)
def noise(keras):
    x, y, _ = table()
    model = keras.Sequential([keras.Input((6,)), keras.layers.GaussianNoise(0.1),
                              keras.layers.Dense(8), keras.layers.LayerNormalization(),
                              keras.layers.ReLU(), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return curve(model.fit(keras.utils.normalize(x), y, epochs=2, verbose=0))


@program("targets of a rule that a network is to find: exclusive or")
def exclusive_or(keras):
    x = rng().integers(0, 2, (64, 2)).astype("float32")
    y = (x[:, :1] != x[:, 1:]).astype("float32")
    model = start(keras.Sequential([keras.Input((2,)), keras.layers.Dense(8, activation="tanh"),
                                    keras.layers.Dense(1, activation="sigmoid")]))
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(x, y, epochs=5, batch_size=16, shuffle=False, verbose=0)
    return curve(history), curve(history, "accuracy")
