"""
Deep networks for tables
========================

``residual=True`` puts a shortcut around each hidden layer of an MLP. Without, a table's network
soon answers worse the deeper it is.
"""

# %%
# Friedman's (1991) table: five of ten columns count, by a sine of a product, a square and a line.

import warnings
from itertools import pairwise

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_friedman1
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nbbn

warnings.filterwarnings("ignore", message="Stochastic Optimizer")  # the number of epochs is chosen
X, y = make_friedman1(n_samples=700, noise=1.0, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
depths = [1, 2, 4, 8, 16]


def network(depth: int, residual: bool, seed: int):
    return make_pipeline(StandardScaler(), nbbn.MLPRegressor(
        hidden_layer_sizes=(48,) * depth, residual=residual, max_iter=80, tol=0,
        random_state=seed, n_iter_no_change=100,
    ))


# %%
# Each depth with and without shortcuts, from three seeds.

fig, ax = plt.subplots(figsize=(6, 3.5), layout="constrained")
for residual in (False, True):
    scores = np.array([[network(depth, residual, seed).fit(X_train, y_train).score(X_test, y_test)
                        for depth in depths] for seed in range(3)])
    label = "residual=True" if residual else "residual=False"
    line = ax.plot(depths, scores.mean(0), marker="o", label=label)[0]
    ax.fill_between(depths, scores.min(0), scores.max(0), alpha=0.2, color=line.get_color())
    print(label, " ".join(f"{depth}: {score:.3f}" for depth, score in zip(depths, scores.mean(0))))
ax.set(xlabel="hidden layers", ylabel="$R^2$ on the test rows", xscale="log")
ax.set_xticks(depths, depths)
ax.legend()
plt.show()

# %%
# A layer's answer is what it read and a share of its own, which starts small. How much each layer
# of the deepest network adds after training:

model = network(16, True, 0).fit(X_train, y_train)
rows, mlp = model[0].transform(X_test), model[-1]
layers = [mlp.transform(rows, layer=k) for k in range(1, 17)]
added = [np.linalg.norm(after - before) / np.linalg.norm(before)
         for before, after in pairwise(layers)]
print("added, in parts of what was read:", " ".join(f"{part:.2f}" for part in added))

# %%
# All batch norms fold.

folded = mlp.fold(check=rows)
print(f"{folded.report.n_folded} of {folded.report.n_total} batch norms folded")
print(f"largest difference {np.abs(folded.predict(rows) - mlp.predict(rows)).max():.1e}")
