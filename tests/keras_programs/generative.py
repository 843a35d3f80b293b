"""Autoencoders, adversaries, twins."""

from __future__ import annotations

import numpy as np

from keras_programs.common import curve, pictures, program, rng, start, table


@program("an autoencoder of two models, each used on its own")
def autoencoder(keras):
    x, _, _ = table()
    encoder = keras.Sequential([keras.Input((6,)), keras.layers.Dense(3, activation="relu")])
    decoder = keras.Sequential([keras.Input((3,)), keras.layers.Dense(6)])
    both = start(keras.Sequential([encoder, decoder]))
    both.compile("adam", "mse")
    history = both.fit(x, x, epochs=3, shuffle=False, verbose=0)
    return curve(history), encoder.predict(x, verbose=0), decoder.predict(np.eye(3), verbose=0)


@program("an autoencoder of images that takes noise away")
def denoising(keras):
    x, _ = pictures()
    noisy = x + 0.1 * rng().normal(size=x.shape).astype("float32")
    inputs = keras.Input((8, 8, 1))
    h = keras.layers.Conv2D(4, 3, activation="relu", padding="same")(inputs)
    h = keras.layers.MaxPooling2D(padding="same")(h)
    h = keras.layers.Conv2DTranspose(4, 3, strides=2, activation="relu", padding="same")(h)
    outputs = keras.layers.Conv2D(1, 3, activation="sigmoid", padding="same")(h)
    model = start(keras.Model(inputs, outputs))
    model.compile("adam", "binary_crossentropy")
    return curve(model.fit(noisy, np.clip(x, 0, 1), epochs=2, shuffle=False, verbose=0))


@program("a generator and a discriminator that train in turn by train_on_batch")
def adversaries(keras):
    x, _, _ = table()
    draw = rng()
    discriminator = start(keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8), keras.layers.LeakyReLU(),
        keras.layers.Dense(1, activation="sigmoid")]))
    discriminator.compile(keras.optimizers.Adam(1e-3), "binary_crossentropy")
    generator = start(keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(6)]), 1)
    losses = []
    for step in range(4):
        real = x[16 * step : 16 * step + 16]
        made = generator.predict(draw.normal(size=(16, 2)), verbose=0)
        rows, truth = np.concatenate([real, made]), np.repeat([1.0, 0.0], 16)[:, None]
        losses.append(discriminator.train_on_batch(rows, truth))
    return losses, discriminator.predict(x, verbose=0)


@program("a generator that is trained through a frozen discriminator", same=False)
def through_a_frozen_model(keras):
    draw = rng()
    discriminator = start(keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8, activation="relu"),
        keras.layers.Dense(1, activation="sigmoid")]))
    generator = start(keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(6)]), 1)
    discriminator.trainable = False
    inputs = keras.Input((2,))
    both = keras.Model(inputs, discriminator(generator(inputs)))
    both.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
    before = [array.copy() for array in discriminator.get_weights()]
    losses = [both.train_on_batch(draw.normal(size=(16, 2)), np.ones((16, 1))) for _ in range(8)]
    assert all((a == b).all() for a, b in zip(before, discriminator.get_weights()))
    return [float(np.ravel(loss)[0]) for loss in losses]


@program("twins: one network on two inputs, and how far apart they are")
def twins(keras):
    x, _, y = table()
    one, two = keras.Input((6,)), keras.Input((6,))
    shared = keras.Sequential([keras.Input((6,)), keras.layers.Dense(4, activation="relu")])
    apart = keras.layers.Subtract()([shared(one), shared(two)])
    outputs = keras.layers.Dense(1, activation="sigmoid")(keras.layers.Multiply()([apart, apart]))
    model = start(keras.Model([one, two], outputs))
    model.compile("adam", "binary_crossentropy")
    alike = (y == y[::-1]).astype("float32")
    history = model.fit([x, x[::-1].copy()], alike, epochs=3, shuffle=False, verbose=0)
    return curve(history), shared.predict(x, verbose=0)


@program("uncertainty by dropout that stays at work", same=False)
def dropout_at_work(keras):
    x, y, _ = table()
    model = keras.Sequential([keras.Input((6,)), keras.layers.Dense(32, activation="relu"),
                              keras.layers.Dropout(0.3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    drawn = np.stack([np.asarray(model(x[:8], training=True)) for _ in range(20)])
    assert (drawn.std(0) > 0).all()
    return drawn.mean(0)
