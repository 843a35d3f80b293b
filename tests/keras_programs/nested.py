"""Functional models: models within models, cut, joined, frozen, named."""

from __future__ import annotations

import numpy as np

from keras_programs.common import curve, pictures, program, rng, start, table


def small_base(keras):
    """A network of images, as if trained before."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False)(inputs)
    x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    y = keras.layers.Conv2D(4, 3, padding="same")(x)
    x = keras.layers.add([x, y])
    return keras.Model(inputs, x, name="base")


@program("transfer learning: a frozen base, a new head, then all of it at a small rate")
def transfer(keras):
    x, y = pictures()
    base = small_base(keras)
    base.trainable = False
    inputs = keras.Input(shape=(8, 8, 1))
    h = keras.layers.Rescaling(2.0, offset=-1)(inputs)
    h = base(h, training=False)
    h = keras.layers.GlobalAveragePooling2D()(h)
    h = keras.layers.Dropout(0.0)(h)
    model = start(keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(h)))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    kept = base.get_weights()
    head = model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    assert all((a == b).all() for a, b in zip(kept, base.get_weights()))
    assert len(model.trainable_weights) == 2 and model.layers[2] is base
    base.trainable = True
    for layer in base.layers[:2]:
        layer.trainable = False
    model.compile(keras.optimizers.Adam(1e-3), "sparse_categorical_crossentropy")
    tuned = model.fit(x, y, batch_size=32, epochs=2, shuffle=False, verbose=0)
    return curve(head), curve(tuned), *(np.ravel(array) for array in base.get_weights())


@program("a Sequential that begins with another model, frozen by its place")
def on_top(keras):
    x, y = pictures()
    model = keras.Sequential([
        small_base(keras), keras.layers.Flatten(), keras.layers.Dense(3, activation="softmax")])
    model.layers[0].trainable = False
    start(model)
    model.compile("rmsprop", "sparse_categorical_crossentropy")
    history = model.fit(x, y, epochs=2, shuffle=False, verbose=0)
    return curve(history), len(model.layers), len(model.trainable_weights), model.count_params()


@program("an ensemble: models of one architecture, and the mean of what they say")
def ensemble(keras):
    x, _, y = table()
    inputs = keras.Input((6,))

    def member():
        hidden = keras.layers.Dense(8, activation="relu")(inputs)
        return keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(hidden))

    members = [start(member(), seed) for seed in range(3)]
    for model in members:
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(x, y, epochs=1, shuffle=False, verbose=0)
    given = keras.Input((6,))
    both = keras.Model(given, keras.layers.Average()([model(given) for model in members]))
    both.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
    assert len(both.layers) == 5 and both.layers[1] is members[0]
    return both.evaluate(x, y, verbose=0), both.predict(x, verbose=0)


@program("an encoder and a decoder as models, joined, and each used alone")
def halves(keras):
    x, _ = pictures()
    image = keras.Input((8, 8, 1), name="image")
    h = keras.layers.Conv2D(4, 3, strides=2, padding="same", activation="relu")(image)
    encoder = keras.Model(image, keras.layers.Dense(3)(keras.layers.Flatten()(h)), name="encoder")
    code = keras.Input((3,), name="code")
    h = keras.layers.Reshape((4, 4, 4))(keras.layers.Dense(64, activation="relu")(code))
    h = keras.layers.Conv2DTranspose(1, 3, strides=2, padding="same", activation="sigmoid")(h)
    decoder = keras.Model(code, h, name="decoder")
    both = keras.Model(image, decoder(encoder(image)), name="autoencoder")
    start(both)
    both.compile("adam", "mse")
    history = both.fit(x, x, epochs=2, batch_size=32, shuffle=False, verbose=0)
    assert [layer.name for layer in both.layers] == ["image", "encoder", "decoder"]
    seen = encoder.predict(x, verbose=0)
    assert np.allclose(decoder.predict(seen, verbose=0), both.predict(x, verbose=0), atol=1e-5)
    return curve(history), seen, both.get_layer("decoder").count_params()


@program("a generator trained through a discriminator, a model of both, frozen by turns")
def by_turns(keras):
    x, _, _ = table()
    judge = keras.Sequential([
        keras.Input((6,)), keras.layers.Dense(8), keras.layers.LeakyReLU(),
        keras.layers.Dense(1, activation="sigmoid")], name="judge")
    maker = keras.Sequential([
        keras.Input((2,)), keras.layers.Dense(8, activation="relu"), keras.layers.Dense(6)],
        name="maker")
    start(judge), start(maker, 1)
    judge.trainable = False
    noise = keras.Input((2,))
    both = keras.Model(noise, judge(maker(noise)))
    both.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
    draw, kept, losses = rng(), judge.get_weights(), []
    for _ in range(4):
        loss = both.train_on_batch(draw.normal(size=(16, 2)), np.ones((16, 1)))
        losses.append(float(np.ravel(loss)[0]))
    assert all((a == b).all() for a, b in zip(kept, judge.get_weights()))
    # The first arrays are those of the model that is called first.
    assert both.get_weights()[0].shape == (2, 8)
    return losses, maker.predict(draw.normal(size=(4, 2)), verbose=0)


@program("tickets: three inputs and two outputs by name, losses weighted")
def tickets(keras):
    x, numbers, y = table()
    title = keras.Input(shape=(2,), name="title")
    body = keras.Input(shape=(3,), name="body")
    tags = keras.Input(shape=(1,), name="tags")
    a = keras.layers.Dense(4, activation="relu")(title)
    b = keras.layers.Dense(6, activation="relu")(body)
    joined = keras.layers.concatenate([a, b, tags])
    priority = keras.layers.Dense(1, name="priority")(joined)
    department = keras.layers.Dense(3, activation="softmax", name="department")(joined)
    model = keras.Model(inputs=[title, body, tags],
                        outputs={"priority": priority, "department": department})
    start(model)
    model.compile("adam", loss={"priority": "mse", "department": "sparse_categorical_crossentropy"},
                  loss_weights={"priority": 0.2, "department": 1.0})
    rows = {"title": x[:, :2], "body": x[:, 2:5], "tags": x[:, 5:]}
    history = model.fit(rows, {"priority": numbers, "department": y}, epochs=2, batch_size=32,
                        shuffle=False, verbose=0)
    found = model.predict(rows, verbose=0)
    assert [layer.name for layer in model.layers if "input" in layer.name] == []
    return curve(history), found["priority"], found["department"]


@program("features of all layers at once")
def all_features(keras):
    x, _ = pictures()
    model = start(small_base(keras))
    features = keras.Model(inputs=model.inputs, outputs=[layer.output for layer in model.layers])
    found = features.predict(x, verbose=0)
    return [np.asarray(one) for one in found]


@program("what a convolution sees, beside the answer, as maps of attention take it")
def seen_and_said(keras):
    x, y = pictures()
    base = small_base(keras)
    h = keras.layers.GlobalAveragePooling2D()(base.output)
    model = start(keras.Model(base.input, keras.layers.Dense(3, activation="softmax")(h)))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=1, shuffle=False, verbose=0)
    last = [layer for layer in model.layers if isinstance(layer, keras.layers.Conv2D)][-1]
    both = keras.Model([model.inputs], [model.get_layer(last.name).output, model.output])
    maps, said = both.predict(x, verbose=0)
    weights = model.layers[-1].get_weights()[0][:, said.argmax(1)].T
    return np.einsum("nhwc,nc->nhw", maps, weights), said


@program("a shared text tower on two inputs, and the cosine between what it gives")
def cosine(keras):
    draw = rng()
    one, two = draw.integers(0, 20, (64, 5)), draw.integers(0, 20, (64, 5))
    words = keras.Input((5,))
    h = keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(20, 6)(words))
    tower = keras.Model(words, keras.layers.Dense(4, activation="tanh")(h), name="tower")
    a, b = keras.Input((5,), name="a"), keras.Input((5,), name="b")
    alike = keras.layers.Dot(axes=-1, normalize=True)([tower(a), tower(b)])
    model = start(keras.Model([a, b], keras.layers.Dense(
        1, activation="sigmoid", kernel_initializer="ones")(alike)))
    model.compile("adam", "binary_crossentropy")
    y = (one[:, 0] > two[:, 0]).astype("float32")
    history = model.fit([one, two], y, epochs=2, batch_size=32, shuffle=False, verbose=0)
    assert len(model.layers) == 5 and len(model.get_weights()) == 5
    return curve(history), tower.predict(one, verbose=0)


@program("blocks in a loop, a copy of the model, and its weights put into it")
def blocks(keras):
    x, numbers, _ = table()

    def block(units, name):
        inputs = keras.Input((units,))
        h = keras.layers.Dense(units, activation="relu")(inputs)
        h = keras.layers.Dense(units)(keras.layers.BatchNormalization()(h))
        return keras.Model(inputs, keras.layers.Add()([inputs, h]), name=name)

    inputs = keras.Input(batch_shape=(None, 6), name="rows")
    h = keras.layers.Dense(5)(inputs)
    for k in range(3):
        h = block(5, f"block_{k}")(h)
    model = start(keras.Model(inputs=inputs, outputs=keras.layers.Dense(1)(h), name="residual"))
    model.compile("adam", "mse")
    history = model.fit(x, numbers, epochs=2, batch_size=32, shuffle=False, verbose=0)
    copied = keras.models.clone_model(model)
    copied.set_weights(model.get_weights())
    assert [layer.name for layer in copied.layers] == [layer.name for layer in model.layers]
    assert copied.get_layer("block_1").count_params() == model.get_layer("block_1").count_params()
    lines = []
    model.summary(print_fn=lambda line, *more, **other: lines.append(line))
    assert any("block_1 (Functional)" in line for line in "\n".join(lines).split("\n"))
    return curve(history), copied.predict(x, verbose=0)


@program("two models in one row, cut behind the first, and a new end")
def another_end(keras):
    x, numbers, y = table()
    first = keras.Sequential([keras.Input((6,)), keras.layers.Dense(8, activation="relu"),
                              keras.layers.Dense(4, activation="relu", name="code")], name="first")
    model = start(keras.Sequential([first, keras.layers.Dense(3, activation="softmax")]))
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=1, shuffle=False, verbose=0)
    new = keras.Sequential(model.layers[:-1])
    new.add(keras.layers.Dense(1, name="size"))
    new.layers[-1].set_weights([np.full((4, 1), 0.3), np.zeros(1)])
    new.layers[0].trainable = False
    new.compile("sgd", "mse")
    history = new.fit(x, numbers, epochs=1, shuffle=False, verbose=0)
    code = keras.Model(first.inputs, first.get_layer("code").output)
    return curve(history), code.predict(x, verbose=0), new.predict(x, verbose=0)


@program("wide and deep, with the end of one model the input of the next")
def trunk_and_end(keras):
    x, numbers, _ = table()
    wide, deep = keras.layers.Input((3,), name="wide"), keras.layers.Input((3,), name="deep")
    h = deep
    for units in (8, 4):
        h = keras.layers.Dense(units, activation="elu")(h)
    trunk = keras.Model(inputs={"wide": wide, "deep": deep},
                        outputs=keras.layers.concatenate([h, wide]), name="trunk")
    a, b = keras.Input((3,), name="wide"), keras.Input((3,), name="deep")
    out = keras.layers.Dense(1)(trunk({"deep": b, "wide": a}))
    model = start(keras.Model({"wide": a, "deep": b}, out))
    model.compile(keras.optimizers.SGD(0.01, momentum=0.9), "mse", metrics=["mae"])
    rows = {"deep": x[:, 3:], "wide": x[:, :3]}
    history = model.fit(rows, numbers, epochs=2, shuffle=False, verbose=0, validation_split=0.25)
    return curve(history), curve(history, "val_mae"), model.predict(rows, verbose=0)
