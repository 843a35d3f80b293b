"""
Small batches
=============

Batch statistics of few rows are noisy. What that does to batch norm, and what else there is: group
norm, and several batches taken as one step.
"""

# %%

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbbn

X, y = load_digits(return_X_y=True)
x_train, x_test, y_train, y_test = train_test_split(
    (X / 16).astype("float32"), y, random_state=0
)
layers = nbbn.layers
norms = {
    "batch norm": lambda: layers.BatchNormalization(momentum=0.9),
    "layer norm": layers.LayerNormalization,
    "group norm": lambda: layers.GroupNormalization(groups=8),
    "none": None,
}


def fitted(make, batch: int, seed: int, steps_a_batch: int | None = None) -> float:
    nbbn.set_random_seed(seed)
    hidden = []
    for units in (64, 32):
        hidden += [layers.Dense(units), *([make()] if make else []), layers.Activation("relu")]
    model = nbbn.Sequential([nbbn.Input((64,)), *hidden, layers.Dense(10, activation="softmax")])
    rate = 0.003 * (batch * (steps_a_batch or 1) / 32) ** 0.5
    model.compile(
        nbbn.optimizers.Adam(rate, gradient_accumulation_steps=steps_a_batch),
        "sparse_categorical_crossentropy", metrics=["accuracy"],
    )  # fmt: skip
    model.fit(x_train, y_train, epochs=4, batch_size=batch, verbose=0)
    return 1 - model.evaluate(x_test, y_test, verbose=0)[1]


sizes = (2, 4, 8, 32, 64)
errors = {
    name: [np.mean([fitted(make, size, seed) for seed in range(3)]) for size in sizes]
    for name, make in norms.items()
}

# %%
# With ``gradient_accumulation_steps=k`` a step takes k batches. The rows are in memory, so nbbn
# takes the statistics of all of them: it is the large batch, exactly.

accumulated = np.mean([fitted(norms["batch norm"], 4, seed, 8) for seed in range(3)])

# %%

fig, ax = plt.subplots(figsize=(7, 3.8), layout="constrained")
for name, of in errors.items():
    ax.plot(range(len(sizes)), of, marker="o", label=name)
    print(f"{name:10}", np.round(of, 3))
ax.plot(1, accumulated, "k*", ms=12, label="batch norm, 8 batches of 4 as one step")
ax.set(xticks=range(len(sizes)), xticklabels=sizes, xlabel="rows a batch", ylabel="test error",
       yscale="log")  # fmt: skip
ax.legend(frameon=False)
plt.show()
