"""Time series, and texts by TF-IDF."""

from __future__ import annotations

import numpy as np

from keras_programs.common import curve, program, start, waves

TEXTS = ["good film great cast", "bad film poor cast", "great fun good music", "poor plot bad music",
         "good plot", "bad fun"] * 10
LIKED = np.array([1, 0, 1, 0, 1, 0] * 10, "float32")


def tf_idf():
    words = sorted({word for text in TEXTS for word in text.split()})
    counts = np.array([[text.split().count(word) for word in words] for text in TEXTS], "float32")
    return counts * np.log(len(TEXTS) / (counts > 0).sum(0)).astype("float32")


@program("the next number of a series, by dense layers on windows")
def windows(keras):
    x, y = waves()
    model = start(keras.Sequential([keras.Input((16,)), keras.layers.Dense(8, activation="relu"),
                                    keras.layers.Dense(1)]))
    model.compile(keras.optimizers.Adam(0.01), "mse")
    history = model.fit(x[:72], y[:72], epochs=4, validation_data=(x[72:], y[72:]), shuffle=False,
                        verbose=0)
    return curve(history), curve(history, "val_loss")


@program("the next number of a series, by convolutions over steps")
def convolutions_over_steps(keras):
    x, y = waves()
    model = start(keras.Sequential([
        keras.Input((16, 1)), keras.layers.Conv1D(4, 3, padding="causal", activation="relu"),
        keras.layers.MaxPooling1D(2), keras.layers.Conv1D(4, 3, activation="relu"),
        keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(1)]))
    model.compile("adam", "mae")
    return curve(model.fit(x[..., None], y, epochs=3, shuffle=False, verbose=0))


@program("several steps ahead, batch by batch from a generator", same=False)
def several_steps(keras):
    x, _ = waves()

    def batches():
        while True:
            for first in range(0, 96, 24):
                yield x[first : first + 24, :12], x[first : first + 24, 12:]

    model = start(keras.Sequential([keras.Input((12,)), keras.layers.Dense(4)]))
    model.compile("adam", "mse")
    history = model.fit(batches(), steps_per_epoch=4, epochs=3, validation_data=batches(),
                        validation_steps=2, verbose=0)
    return curve(history), curve(history, "val_loss")


@program("texts by TF-IDF, liked or not")
def texts(keras):
    x = tf_idf()
    model = start(keras.Sequential([
        keras.Input((x.shape[1],)), keras.layers.Dense(8, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid")]))
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
    history = model.fit(x, LIKED, epochs=4, batch_size=10, shuffle=False, verbose=0)
    return curve(history), curve(history, "accuracy")


@program("several labels of a text at once")
def labels_of_texts(keras):
    x, draw = tf_idf(), np.random.default_rng(0)
    y = np.stack([LIKED, 1 - LIKED, draw.integers(0, 2, 60)], 1).astype("float32")
    model = start(keras.Sequential([keras.Input((x.shape[1],)),
                                    keras.layers.Dense(3, activation="sigmoid")]))
    model.compile("adam", "binary_crossentropy", metrics=["binary_accuracy"])
    model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    return model.evaluate(x, y, verbose=0)
