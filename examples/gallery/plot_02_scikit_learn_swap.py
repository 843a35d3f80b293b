"""
The scikit-learn swap
=====================

A program written for ``sklearn.neural_network`` runs with its import changed. Here both run side by
side, nbbn's with batch norm and without.
"""

# %%
# With ``batch_norm=False`` the network, its initial weights, its shuffles and its steps are
# scikit-learn's. The losses of all epochs agree to rounding.

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn import neural_network
from sklearn.datasets import load_breast_cancer
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import nbbn

warnings.simplefilter("ignore", ConvergenceWarning)  # fits of 60 epochs are compared, not finished

X, y = load_breast_cancer(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)
scaler = StandardScaler().fit(X_train)
X_train, X_test = scaler.transform(X_train), scaler.transform(X_test)

settings = {"hidden_layer_sizes": (32, 16), "batch_size": 32, "max_iter": 60, "random_state": 0}
theirs = neural_network.MLPClassifier(**settings).fit(X_train, y_train)
same = nbbn.MLPClassifier(**settings, batch_norm=False).fit(X_train, y_train)

apart = np.abs(np.subtract(theirs.loss_curve_, same.loss_curve_)).max()
print(f"largest difference of a loss over {same.n_iter_} epochs: {apart:.1e}")
print("same answers:", (theirs.predict(X_test) == same.predict(X_test)).all())

# %%
# The default is batch norm. It has one more parameter to think of, ``learning_rate_init``: with
# batch norm a network stands higher rates.

normed = nbbn.MLPClassifier(**settings, learning_rate_init=0.01).fit(X_train, y_train)
for name, model in {"scikit-learn": theirs, "nbbn, none": same, "nbbn": normed}.items():
    print(f"{name:13} training loss {model.loss_:.4f}, test {model.score(X_test, y_test):.3f}")

# %%

fig, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
ax.semilogy(theirs.loss_curve_, lw=4, alpha=0.4, label="scikit-learn")
ax.semilogy(same.loss_curve_, ls="--", label="nbbn, batch_norm=False")
ax.semilogy(normed.loss_curve_, label="nbbn, batch norm, rate 0.01")
ax.set(xlabel="epoch", ylabel="training loss")
ax.legend(frameon=False)
plt.show()
