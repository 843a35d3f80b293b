"""
Transfer learning
=================

A network that has seen one kind of images is a good start for another, of which there are few. Its
layers are cut off before the last, get a new last layer, and learn in two stages.
"""

# %%
# The first task: handwritten digits 0 to 6, a residual network of two blocks.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nbbn
from nbbn import layers

X, y = load_digits(return_X_y=True)
images, first = (X / 16).reshape(-1, 8, 8, 1).astype("float32"), y < 7


def normed(x, filters, strides=1):
    x = layers.Conv2D(filters, 3, strides, "same", use_bias=False)(x)
    return layers.BatchNormalization(momentum=0.9)(x)


def residual(shape, classes):
    inputs = layers.Input(shape)
    x = layers.ReLU()(normed(inputs, 16))
    for filters, strides in ((16, 1), (32, 2)):
        y = layers.ReLU()(normed(x, filters, strides))
        y = normed(y, filters)
        x = x if strides == 1 else normed(x, filters, strides)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return nbbn.Model(inputs, layers.Dense(classes, activation="softmax")(x))


nbbn.set_random_seed(0)
base = residual((8, 8, 1), 7)
base.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
base.fit(images[first], y[first], batch_size=32, epochs=15, verbose=0)
print(f"first task: {base.evaluate(images[first], y[first], verbose=0)[1]:.3f}")

# %%
# The second task: digits 7, 8 and 9, five images of each. All other images are for testing.

rng = np.random.default_rng(0)
few = np.concatenate([rng.choice(np.flatnonzero(y == digit), 5, replace=False)
                      for digit in (7, 8, 9)])
rest = np.setdiff1d(np.flatnonzero(~first), few)


def compiled(model, rate):
    model.compile(nbbn.optimizers.Adam(rate), "sparse_categorical_crossentropy",
                  metrics=["accuracy"])
    return model


def tested(model):
    return model.evaluate(images[rest], y[rest] - 7, verbose=0)[1]


# %%
# Cut: what comes out of the layer before the last is a model, with the layers' own weights. New
# head: a dense layer called on it. In the first stage the head alone learns; frozen batch norms
# (``trainable = False``) normalise by what they know of the first task.

features = nbbn.Model(base.input, base.layers[-2].output)
for layer in features.layers:
    layer.trainable = False
model = nbbn.Model(features.input, layers.Dense(3, activation="softmax")(features.output))

compiled(model, 0.01).fit(images[few], y[few] - 7, batch_size=5, epochs=60, verbose=0)
stages = {"new head": tested(model)}

# %%
# In the second stage all layers but the batch norms learn, at a small rate. Batch statistics of
# five images would be noise.

for layer in features.layers:
    layer.trainable = not isinstance(layer, layers.BatchNormalization)
compiled(model, 0.0005).fit(images[few], y[few] - 7, batch_size=5, epochs=60, verbose=0)
stages["fine-tuned"] = tested(model)

# %%
# Beside it, the same network from random weights, on the same fifteen images.

nbbn.set_random_seed(0)
fresh = compiled(residual((8, 8, 1), 3), 0.002)
fresh.fit(images[few], y[few] - 7, batch_size=5, epochs=60, verbose=0)
stages["from random weights"] = tested(fresh)

fig, ax = plt.subplots(figsize=(6, 2.2), layout="constrained")
bars = ax.barh(list(stages), list(stages.values()), color=["C0", "C0", "C7"])
ax.bar_label(bars, fmt="{:.3f}", padding=3)
ax.set(xlabel="accuracy on the other images of 7, 8 and 9", xlim=(0, 1.1))
ax.invert_yaxis()
plt.show()

# %%
# A frozen batch norm folds as any other.

folded = model.fold(check=images[rest])
print(f"{folded.report.n_folded} of {folded.report.n_total} batch norms folded, "
      f"{folded.report.max_abs_error:.0e} the largest difference")
