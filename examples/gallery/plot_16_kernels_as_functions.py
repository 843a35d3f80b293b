"""
Batch norm as a function
========================

``nbbn.functional`` is the kernels without layers: forward, backward, inference. Here the gradient
is held against differences, and a network's step is written by hand.
"""

# %%
# Forward: mean and variance of each column over the rows.

import matplotlib.pyplot as plt
import numpy as np

from nbbn.functional import batch_norm_backward, batch_norm_inference, batch_norm_train

rng = np.random.default_rng(0)
x = rng.normal(5, [1, 10, 100], size=(64, 3))
gamma, beta = np.ones(3), np.zeros(3)
y, cache = batch_norm_train(x, gamma, beta)
print("columns before:", x.mean(0).round(1), x.std(0).round(1))
print("columns after: ", np.abs(y.mean(0)).round(6), y.std(0).round(3))

# %%
# Backward against central differences, in float64, for a random gradient of the output.

dy = rng.normal(size=x.shape)
dx, dgamma, dbeta = batch_norm_backward(dy, cache)
h, numeric = 1e-5, np.empty_like(x)
for i in np.ndindex(x.shape):
    up, down = x.copy(), x.copy()
    up[i] += h
    down[i] -= h
    difference = batch_norm_train(up, gamma, beta)[0] - batch_norm_train(down, gamma, beta)[0]
    numeric[i] = (difference * dy).sum() / (2 * h)
print(f"largest difference to the analytic gradient: {np.abs(numeric - dx).max():.1e}")

# %%
# Each column of the gradient sums to zero, and it is orthogonal to the normalised values: batch
# norm lets through neither a shift nor a scale.

print(f"sums {np.abs(dx.sum(0)).max():.1e}, projections {np.abs((dx * y).sum(0)).max():.1e}")
fig, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
ax.scatter(y[:, 0], dy[:, 0], s=12, label="gradient of the output")
ax.scatter(y[:, 0], dx[:, 0] * x[:, 0].std(), s=12, label="of the input, times the spread")
ax.axhline(0, color="k", lw=0.5)
ax.set(xlabel="normalised value", ylabel="gradient")
fig.legend(loc="outside upper center", ncols=2, frameon=False)
plt.show()

# %%
# Inference takes statistics that are given. With those of the batch it is the same function.

again = batch_norm_inference(x, gamma, beta, cache.mean, cache.var)
print(f"inference on the batch's own statistics differs by {np.abs(again - y).max():.1e}")
