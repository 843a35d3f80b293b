"""
Learning rates over steps
=========================

The schedules of ``nbbn.schedules``, one of one's own, and what they do to a fit.
"""

# %%

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split

import nbbn
from nbbn.schedules import CosineDecay, OneCycle

warnings.simplefilter("ignore", ConvergenceWarning)  # twelve epochs are what is compared

X, y = load_digits(return_X_y=True)
X_train, X_test, y_train, y_test = train_test_split(
    (X / 16).astype("float32"), y, random_state=0
)
epochs, batch = 12, 32
steps = epochs * -(-len(X_train) // batch)

# %%
# A schedule maps steps to rates. One's own is a function of the step, counted from 0.


def warm_up_and_hold(step):
    return 0.02 * min(1.0, (step + 1) / 100)


rates = {
    "constant 0.001": 0.001,
    "constant 0.02": 0.02,
    "cosine": CosineDecay(0.02, steps),
    "one cycle": OneCycle(0.05, steps),
    "own": warm_up_and_hold,
}
fig, (left, right) = plt.subplots(1, 2, figsize=(10, 3.6), layout="constrained")
for name, rate in rates.items():
    shown = [rate(step) if callable(rate) else rate for step in range(steps)]
    left.plot(shown, label=name)
    given = {"learning_rate": rate} if callable(rate) else {"learning_rate_init": rate}
    losses = []
    for seed in range(3):
        clf = nbbn.MLPClassifier(
            (64, 32), batch_size=batch, max_iter=epochs, random_state=seed, **given
        )
        clf.fit(X_train, y_train, X_val=X_test, y_val=y_test)
        losses.append(clf.validation_loss_curve_)
    right.semilogy(np.mean(losses, 0), label=name)
    print(f"{name:15} loss of the test rows {np.mean(losses, 0)[-1]:.4f}")
left.set(xlabel="step", ylabel="learning rate")
left.legend(frameon=False)
right.set(xlabel="epoch", ylabel="loss of the test rows")
plt.show()
