"""
A residual network
==================

Layers called on values make networks with branches. In a deep network without them, what the first
layers learn from fades; a shortcut around each pair of layers hands it on.
"""

# %%
# Twelve blocks of two dense layers with batch norm, each with a shortcut around it or without.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbbn
from nbbn import layers

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X / 16, y, random_state=0)


def deep(shortcuts: bool, blocks: int = 12, units: int = 32) -> nbbn.Model:
    inputs = layers.Input((64,))
    x = layers.Dense(units)(inputs)
    for _ in range(blocks):
        y = layers.ReLU()(layers.BatchNormalization()(layers.Dense(units)(x)))
        y = layers.BatchNormalization()(layers.Dense(units)(y))
        x = layers.ReLU()(layers.Add()([x, y]) if shortcuts else y)
    return nbbn.Model(inputs, layers.Dense(10, activation="softmax")(x))


# %%
# Both are trained alike, from the same seed. Of 1347 rows the last batch of 50 has 47; one of 32
# would have 3, of which 24 batch norms would take the statistics.

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
models = {}
for name, shortcuts in {"with shortcuts": True, "without": False}.items():
    nbbn.set_random_seed(0)
    model = models[name] = deep(shortcuts)
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    history = model.fit(X_train, y_train, batch_size=50, epochs=30, verbose=0,
                        validation_data=(X_test, y_test))
    ax.plot(history.history["loss"], label=name)
    print(f"{name:14} accuracy on the test rows {history.history['val_accuracy'][-1]:.3f}")
ax.set(xlabel="epoch", ylabel="training loss", yscale="log")
ax.legend()
plt.show()

# %%
# All batch norms fold away: into the dense layer before them, beside the shortcuts.

model = models["with shortcuts"]
folded = model.fold(check=X_test)
print(f"{folded.report.n_folded} of {folded.report.n_total} batch norms folded")
difference = np.abs(folded.predict(X_test) - model.predict(X_test)).max()
print(f"largest difference of a probability {difference:.1e}")

# %%
# A part of the network is a model of its own, with the same weights: here the numbers before the
# last layer, of which two principal components are drawn.

features = nbbn.Model(model.input, model.layers[-2].output).predict(X_test)
centred = features - features.mean(0)
across = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
fig, ax = plt.subplots(figsize=(5, 4), layout="constrained")
dots = ax.scatter(*across.T, c=y_test, cmap="tab10", s=12)
ax.legend(*dots.legend_elements(), title="digit", fontsize="x-small", ncols=2)
ax.set(xlabel="first component", ylabel="second component")
plt.show()
