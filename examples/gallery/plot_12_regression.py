"""
Regression over seeds
=====================

A network's figure depends on its seed. Ten seeds show how much, and their mean is better than each
of them.
"""

# %%
# Friedman's first function with noise. Columns and targets are standardised: the network's initial
# weights suit numbers around 1.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import make_friedman1
from sklearn.metrics import r2_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import nbbn

X, y = make_friedman1(2000, noise=1.0, random_state=0)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)


def fitted(seed: int, **settings) -> TransformedTargetRegressor:
    network = nbbn.MLPRegressor(
        hidden_layer_sizes=(64, 32), early_stopping=True, random_state=seed, **settings
    )
    model = make_pipeline(StandardScaler(), network)
    return TransformedTargetRegressor(model, transformer=StandardScaler()).fit(X_train, y_train)


# %%
# The same with batch norm, at two rates, and without.

ways = {
    "none, rate 0.001": {"batch_norm": False},
    "batch norm, rate 0.002": {},
    "batch norm, rate 0.01": {"learning_rate_init": 0.01},
}
answers = {
    name: np.array([fitted(seed, **settings).predict(X_test) for seed in range(10)])
    for name, settings in ways.items()
}

# %%
# Points are seeds, the line is their mean's score: the mean of ten answers.

fig, ax = plt.subplots(figsize=(7, 3), layout="constrained")
for i, (name, of) in enumerate(answers.items()):
    scores = [r2_score(y_test, answer) for answer in of]
    together = r2_score(y_test, of.mean(0))
    print(f"{name:23} one seed {np.mean(scores):.3f} +- {np.std(scores):.3f}, ten {together:.3f}")
    ax.plot(scores, np.full(10, i), "o", alpha=0.6)
    ax.vlines(together, i - 0.3, i + 0.3, color="k")
ax.set(yticks=range(len(ways)), yticklabels=ways, xlabel="R2 on the test rows", ylim=(-0.6, 2.6))
plt.show()

# %%
# The spread of the ten answers says where the ensemble is unsure: the mean error of the rows with
# the smallest spread, and so on to those with the largest.

of = answers["batch norm, rate 0.01"]
spread, error = of.std(0), np.abs(of.mean(0) - y_test)
fifths = np.array_split(np.argsort(spread), 5)
for rows in fifths:
    print(f"spread {spread[rows].mean():.2f}: mean error {error[rows].mean():.2f}")
