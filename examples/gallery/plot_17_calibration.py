"""
Are the probabilities right?
============================

Of the rows that a classifier gives 80 %, are 80 % of that class? Curves with batch norm and
without, and after calibration.
"""

# %%

import warnings

import matplotlib.pyplot as plt
from sklearn.calibration import CalibratedClassifierCV, calibration_curve
from sklearn.datasets import make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import brier_score_loss
from sklearn.model_selection import train_test_split

import nbbn

warnings.simplefilter("ignore", ConvergenceWarning)  # some need more than 200 epochs, and say so

X, y = make_classification(
    6000, 20, n_informative=8, n_redundant=4, flip_y=0.1, class_sep=0.7, random_state=0
)
X_train, X_test, y_train, y_test = train_test_split(X, y, train_size=2000, random_state=0)
shared = {"hidden_layer_sizes": (64, 32), "tol": 1e-3, "random_state": 0}

# %%
# A network that is trained until its loss stands still knows its training rows by heart and is too
# sure of itself. Early stopping helps, and so does scikit-learn's calibration, which takes nbbn's
# estimators as they are.

models = {
    "none": nbbn.MLPClassifier(batch_norm=False, **shared),
    "batch norm": nbbn.MLPClassifier(**shared),
    "batch norm, early stopping": nbbn.MLPClassifier(early_stopping="loss", **shared),
    "batch norm, calibrated": CalibratedClassifierCV(
        nbbn.MLPClassifier(early_stopping="loss", **shared), cv=3
    ),
}
fig, ax = plt.subplots(figsize=(5.5, 4.6), layout="constrained")
ax.plot([0, 1], [0, 1], color="0.7")
for name, model in models.items():
    shares = model.fit(X_train, y_train).predict_proba(X_test)[:, 1]
    right, given = calibration_curve(y_test, shares, n_bins=10)
    ax.plot(given, right, marker="o", label=name)
    score = brier_score_loss(y_test, shares)
    print(f"{name:27} accuracy {model.score(X_test, y_test):.3f}, Brier score {score:.3f}")
ax.set(xlabel="probability given", ylabel="share of the class")
ax.legend(frameon=False, loc="upper left")
plt.show()
