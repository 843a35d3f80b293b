"""
Folding, and its proof
======================

What happens to the weights when a batch norm is folded, and how the check decides that the folded
network is the same function.
"""

# %%
# A network that was trained for a moment, so that its running statistics are not trivial.

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

import nbbn

X, y = load_digits(return_X_y=True)
X = (X / 16).astype("float32")
clf = nbbn.MLPClassifier((64, 32), batch_size=32, tol=1e-2, random_state=0).fit(X, y)
folded = clf.fold(check=X)
print(folded.report)

# %%
# By hand: in inference a batch norm multiplies a channel by a gain and adds a shift. The gain goes
# into the columns of the kernel before it, the shift into a bias.

source = clf.network()
kernel, norm = source.weights[0]["kernel"], source.weights[1]
gain = norm["gamma"] / np.sqrt(norm["var"] + 1e-5)
by_hand = kernel * gain
apart = np.abs(by_hand - folded.network.weights[0]["kernel"]).max()
print(f"largest difference to the folded kernel: {apart:.1e}")
print("layers before:", [type(layer).__name__ for layer in source.layers])
print("layers after: ", [type(layer).__name__ for layer in folded.network.layers])

# %%
# The check: each output of each row through both networks. The bound is what rounding may explain
# on these rows; the guide tells how it is measured.

difference = np.abs(folded.predict_proba(X) - clf.predict_proba(X)).max(axis=1)
fig, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
ax.hist(np.log10(np.maximum(difference, 1e-10)), bins=40)
ax.axvline(np.log10(folded.report.bound), color="C3", label="bound of the check")
ax.set(xlabel="log10 of the largest difference of a row", ylabel="rows")
ax.legend(frameon=False)
plt.show()

# %%
# Now a wrong fold: the gain of one channel in 64 is off by 1 %. Such things the check is made to
# find.

wrong = [dict(arrays) for arrays in folded.network.weights]
wrong[0]["kernel"] = wrong[0]["kernel"].copy()
wrong[0]["kernel"][:, 3] *= 1.01
network = nbbn.Network(
    folded.network.layers, folded.network.input_shape, wrong, folded.network.dtype
)
moved = np.abs(nbbn.FoldedModel(network).predict(X) - folded.predict_proba(X)).max()
bound = folded.report.bound
print(f"moved by {moved:.1e}, the bound is {bound:.1e}: found", bool(moved > bound))
