"""
A grid search
=============

``GridSearchCV`` over rate and batch size, with batch norm and without. The picture shows why a rate
that suits the one does not suit the other.
"""

# %%

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

import nbbn

warnings.simplefilter("ignore", ConvergenceWarning)

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
grid = {
    "batch_norm": [True, False],
    "learning_rate_init": [0.001, 0.005, 0.02, 0.1],
    "batch_size": [32, 128],
}
network = nbbn.MLPClassifier((64, 32), max_iter=10, random_state=0)
search = GridSearchCV(network, grid, cv=3).fit(X, y)
print("best:", search.best_params_)
print(f"accuracy over the three folds {search.best_score_:.4f}")

# %%
# Each point is the mean of three folds, each bar their spread. Both networks see every row ten
# times.

results = search.cv_results_
fig, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
for ax, size in zip(axes, grid["batch_size"]):
    for norm, name in ((True, "batch norm"), (False, "none")):
        chosen = np.flatnonzero([
            p["batch_norm"] == norm and p["batch_size"] == size for p in results["params"]
        ])
        ax.errorbar(
            grid["learning_rate_init"], results["mean_test_score"][chosen],
            results["std_test_score"][chosen], marker="o", capsize=3, label=name,
        )  # fmt: skip
    ax.set(xscale="log", xlabel="learning rate", title=f"batches of {size}")
axes[0].set(ylabel="accuracy")
axes[0].legend(frameon=False)
plt.show()
