"""
Exact statistics after a short fit
==================================

Running averages lag behind weights that still move. ``recalibrate`` takes the statistics that
belong to the final weights, in one pass without training.
"""

# %%
# A Keras-style network with Keras's momentum of 0.99, trained for a single epoch: 42 steps. After
# those, two thirds of the running values are still their start, mean 0 and variance 1.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import nbbn

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X.astype("float32"), y, random_state=0)
print(f"weight of the start after 42 steps: {0.99**42:.2f}")


def network(momentum: float) -> nbbn.Sequential:
    layers = nbbn.layers
    hidden = []
    for units in (128, 64, 32):
        hidden += [layers.Dense(units), layers.BatchNormalization(momentum=momentum),
                   layers.Activation("relu")]  # fmt: skip
    model = nbbn.Sequential([nbbn.Input((64,)), *hidden, layers.Dense(10, activation="softmax")])
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


# %%
# Five seeds, three lengths of the fit, test accuracy before and after.

lengths = (1, 3, 10)
before, after = np.zeros((2, len(lengths), 5))
for seed in range(5):
    for i, epochs in enumerate(lengths):
        nbbn.set_random_seed(seed)
        model = network(0.99)
        model.fit(X_train, y_train, epochs=epochs, batch_size=32, verbose=0)
        before[i, seed] = model.evaluate(X_test, y_test, verbose=0)[1]
        model.recalibrate(X_train)
        after[i, seed] = model.evaluate(X_test, y_test, verbose=0)[1]
for i, epochs in enumerate(lengths):
    print(f"{epochs:2} epochs: {before[i].mean():.3f} with running averages, "
          f"{after[i].mean():.3f} with exact statistics")  # fmt: skip

# %%

fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
for values, name in ((before, "running averages"), (after, "recalibrate")):
    ax.errorbar(range(len(lengths)), values.mean(1), values.std(1), marker="o", capsize=4,
                label=name)  # fmt: skip
ax.set(xticks=range(len(lengths)), xticklabels=lengths, xlabel="epochs", ylabel="test accuracy")
ax.legend(frameon=False, loc="lower right")
plt.show()
