"""Classifiers of images, segmentation, transfer learning."""

from __future__ import annotations

import numpy as np

from keras_programs.common import curve, pictures, program, rng, start


def small(keras, **norm):
    layers = keras.layers
    return keras.Sequential([
        keras.Input(shape=(8, 8, 1)), layers.Conv2D(4, 3, padding="same", use_bias=False),
        layers.BatchNormalization(**norm), layers.Activation("relu"), layers.MaxPooling2D(2),
        layers.Flatten(), layers.Dense(3, activation="softmax")])


@program("a first network of dense layers on images, softmax put on it afterwards")
def quickstart(keras):
    x, y = pictures()
    model = start(keras.models.Sequential([
        keras.layers.Flatten(input_shape=(8, 8, 1)), keras.layers.Dense(16, activation="relu"),
        keras.layers.Dense(3)]))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer="adam", loss=loss, metrics=["accuracy"])
    history = model.fit(x, y, epochs=3, shuffle=False, verbose=0)
    whole = keras.Sequential([model, keras.layers.Softmax()])
    return curve(history), curve(history, "accuracy"), whole.predict(x[:5], verbose=0)


@program("a convolutional classifier with batch norm, validated and evaluated")
def convolutional_classifier(keras):
    x, y = pictures()
    model = start(small(keras, momentum=0.9))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(x[:72], y[:72], batch_size=24, epochs=4, validation_split=0.25,
                        shuffle=False, verbose=0)
    return curve(history), curve(history, "val_loss"), model.evaluate(x[72:], y[72:], verbose=0)


@program("global average pooling and one-hot targets")
def global_pooling(keras):
    x, y = pictures()
    model = start(keras.Sequential([
        keras.layers.Input((8, 8, 1)), keras.layers.Conv2D(6, 3, activation="relu"),
        keras.layers.Conv2D(6, 3, strides=2), keras.layers.LayerNormalization(),
        keras.layers.ReLU(), keras.layers.GlobalAveragePooling2D(),
        keras.layers.Dense(3, activation="softmax")]))
    model.compile(keras.optimizers.RMSprop(0.01), "categorical_crossentropy")
    return curve(model.fit(x, keras.utils.to_categorical(y, 3), epochs=3, shuffle=False, verbose=0))


@program("images that are turned and shifted in a generator while the network trains")
def augmentation(keras):
    x, y = pictures()
    draw = rng()

    def batches():
        while True:
            rows = draw.integers(0, len(x), 24)
            batch = x[rows]
            yield np.where(draw.random((24, 1, 1, 1)) < 0.5, batch[:, ::-1], batch), y[rows]

    model = start(small(keras, momentum=0.9))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    history = model.fit(batches(), steps_per_epoch=4, epochs=3, validation_data=(x, y), verbose=0)
    return curve(history), curve(history, "val_loss")


@program("a data set of batches by number, with a class of one's own")
def dataset_of_batches(keras):
    x, y = pictures()

    class Batches(keras.utils.PyDataset):
        def __len__(self):
            return 4

        def __getitem__(self, k):
            return x[24 * k : 24 * k + 24], y[24 * k : 24 * k + 24]

    model = start(small(keras, momentum=0.9))
    model.compile("sgd", "sparse_categorical_crossentropy")
    history = model.fit(Batches(), epochs=2, shuffle=False, verbose=0)
    return curve(history), model.evaluate(Batches(), verbose=0), model.predict(Batches(), verbose=0)


@program("a trained base, frozen, with a new head; then all of it at a small rate")
def transfer_learning(keras):
    x, y = pictures()
    base = start(keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, activation="relu"),
        keras.layers.BatchNormalization(momentum=0.9)]))
    base.trainable = False
    model = start(keras.Sequential([
        base, keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3, activation="softmax")]))
    model.compile(keras.optimizers.Adam(0.05), "sparse_categorical_crossentropy")
    first = curve(model.fit(x, y, epochs=2, shuffle=False, verbose=0))
    base.trainable = True
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    return first, curve(model.fit(x, y, epochs=2, shuffle=False, verbose=0))


@program("features of a layer in the midst of a model, by a second model")
def features_of_a_layer(keras):
    x, _ = pictures()
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Conv2D(4, 3, activation="relu", name="hidden")(inputs)
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(hidden))
    model = start(keras.Model(inputs, outputs))
    features = keras.Model(model.input, model.get_layer("hidden").output)
    return features.predict(x, verbose=0)


@program("a block with a way around it")
def residual_block(keras):
    x, y = pictures()
    inputs = keras.Input((8, 8, 1))
    wide = keras.layers.Conv2D(4, 1)(inputs)
    inner = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(wide)
    inner = keras.layers.BatchNormalization(momentum=0.9)(inner)
    out = keras.layers.Activation("relu")(keras.layers.add([wide, inner]))
    out = keras.layers.Dense(3, activation="softmax")(keras.layers.GlobalAveragePooling2D()(out))
    model = start(keras.Model(inputs, out))
    model.compile("adam", "sparse_categorical_crossentropy")
    return curve(model.fit(x, y, epochs=3, shuffle=False, verbose=0))


@program("a class for each pixel: down, up, and softmax over the channels")
def segmentation(keras):
    x, _ = pictures()
    y = (x[..., 0] > 0.5).astype("int64")
    model = start(keras.Sequential([
        keras.Input((8, 8, 1)), keras.layers.Conv2D(4, 3, padding="same", activation="relu"),
        keras.layers.MaxPool2D(), keras.layers.UpSampling2D(),
        keras.layers.Conv2D(2, 3, padding="same", activation="softmax")]))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return curve(model.fit(x, y, epochs=3, shuffle=False, verbose=0))


@program("two heads: which half is bright, and how bright it all is")
def two_heads(keras):
    x, y = pictures()
    inputs = keras.Input((8, 8, 1))
    hidden = keras.layers.Dense(8, activation="relu")(keras.layers.Flatten()(inputs))
    model = start(keras.Model(inputs, [
        keras.layers.Dense(3, activation="softmax", name="half")(hidden),
        keras.layers.Dense(1, name="light")(hidden)]))
    model.compile("adam", {"half": "sparse_categorical_crossentropy", "light": "mse"},
                  loss_weights={"half": 1.0, "light": 0.5})
    light = x.mean((1, 2))
    return curve(model.fit(x, {"half": y, "light": light}, epochs=3, shuffle=False, verbose=0))
