"""
Fine-tuning with frozen batch norm
==================================

A network learns the digits 0 to 4, then the digits 5 to 9 from a few rows. Three ways to treat its
batch norms on the way.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nbbn

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
old, new = y < 5, y >= 5


def network(norms: dict) -> nbbn.Sequential:
    layers = nbbn.layers
    hidden = []
    for units in (128, 64):
        hidden += [layers.Dense(units, use_bias=False),
                   layers.BatchNormalization(momentum=0.9, **norms),
                   layers.Activation("relu")]  # fmt: skip
    model = nbbn.Sequential([nbbn.Input((64,)), *hidden, layers.Dense(5, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


nbbn.set_random_seed(0)
first = network({})
first.fit(X[old], y[old], epochs=20, batch_size=32, verbose=0)
print(f"on the old digits: {first.evaluate(X[old], y[old], verbose=0)[1]:.3f}")

# %%
# The three ways:
#
# - *trained on*: batch statistics, as in any training;
# - *frozen*: ``trainable=False``: the old digits' statistics, gamma and beta stay;
# - *fixed statistics*: ``use_running=True, update_running=False``: the old statistics, but gamma
#   and beta learn.
#
# A few rows of each new class, small batches, five draws of the rows.

ways = {
    "trained on": {},
    "frozen": {"trainable": False},
    "fixed statistics": {"use_running": True, "update_running": False},
}
rows_each = (2, 5, 20)
scores = np.zeros((len(ways), len(rows_each), 5))
for draw in range(5):
    rng = np.random.default_rng(draw)
    for j, count in enumerate(rows_each):
        picked = np.concatenate([
            rng.choice(np.flatnonzero(y == digit), count, replace=False) for digit in range(5, 10)
        ])
        kept = np.setdiff1d(np.flatnonzero(new), picked)
        for i, norms in enumerate(ways.values()):
            nbbn.set_random_seed(draw)
            model = network(norms)
            fresh = model.get_weights()
            model.set_weights([*first.get_weights()[:-2], *fresh[-2:]])  # a new output layer
            model.fit(X[picked], y[picked] - 5, epochs=40, batch_size=5, verbose=0)
            scores[i, j, draw] = model.evaluate(X[kept], y[kept] - 5, verbose=0)[1]

# %%

fig, ax = plt.subplots(figsize=(6.5, 3.6), layout="constrained")
for name, of in zip(ways, scores):
    print(f"{name:17}", of.mean(1).round(3))
    ax.errorbar(range(len(rows_each)), of.mean(1), of.std(1), marker="o", capsize=4, label=name)
ax.set(xticks=range(len(rows_each)), xticklabels=rows_each, xlabel="rows of each new digit",
       ylabel="accuracy on the others")  # fmt: skip
ax.legend(frameon=False, loc="lower right")
plt.show()
