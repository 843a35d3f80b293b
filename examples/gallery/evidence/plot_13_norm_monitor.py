"""
Diagnosis: what NormMonitor sees
================================

``nbbn.callbacks.NormMonitor`` takes some rows through the network after every epoch, as a step of
training would, and compares: running statistics with those of the rows, channels that are 0 for
every row, inputs that have grown since the start, and how far each layer's arrays moved. At the end
it warns once, in words, where something is wrong.

Here the fit is short. The running statistics, of momentum 0.99, have not reached the batch's yet:
the first panel shows it, the warning says what to do, and the test accuracy before and after
``recalibrate`` says what it cost.
"""

# %%

import warnings

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nbbn
from nbbn.callbacks import NormMonitor, NormWarning

nbbn.utils.set_random_seed(0)
x, y = load_digits(return_X_y=True)
x = (x / 16).astype(np.float32)

stack = []
for number in range(3):
    stack += [
        nbbn.layers.Dense(100, name=f"dense {number}"),
        nbbn.layers.BatchNormalization(name=f"norm {number}"),
        nbbn.layers.Activation("relu", name=f"relu {number}"),
    ]
model = nbbn.Sequential([*stack, nbbn.layers.Dense(10, activation="softmax", name="output")])
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

monitor = NormMonitor(x[:200])
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always", NormWarning)
    model.fit(x[:1400], y[:1400], epochs=2, verbose=0, callbacks=[monitor])
print(*(warning.message for warning in caught), sep="\n")

monitor.plot(plt.figure(figsize=(9, 6)))

# %%
# The same weights, with running statistics and with exact ones:

before = model.evaluate(x[1400:], y[1400:], verbose=0, return_dict=True)
model.recalibrate(x[:1400])
after = model.evaluate(x[1400:], y[1400:], verbose=0, return_dict=True)
print(f"test accuracy {before['accuracy']:.3f}, then {after['accuracy']:.3f}")
