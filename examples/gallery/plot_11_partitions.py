"""
A stream of partitions
======================

Rows that need not fit into memory: ``Partitions`` reads a window of them at a time, and the fit is
the one of the same rows in memory.
"""

# %%
# Twelve made files of 2,000 rows each. Anything that gives rows will do: Parquet or NumPy files,
# functions, arrays.

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import make_classification

import nbbn

folder = Path(tempfile.mkdtemp())
X, y = make_classification(
    24_000, 20, n_informative=12, n_classes=4, n_clusters_per_class=2, random_state=0
)
X = X.astype("float32")
for i, rows in enumerate(np.split(np.arange(len(X)), 12)):
    np.savez(folder / f"part{i:02}.npz", X=X[rows], y=y[rows])
parts = nbbn.Partitions.from_files(str(folder / "*.npz"))
print(len(parts), "partitions")

# %%
# With ``shuffle=False`` the weights are those of the fit in memory, bit for bit.

settings = {"batch_size": 256, "max_iter": 4, "tol": 0, "random_state": 0, "n_iter_no_change": 100}


def fit(*data, **more):
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # four epochs are few, and are said to be
        return nbbn.MLPClassifier((64, 32), **settings, **more).fit(*data)


streamed, whole = fit(parts, shuffle=False), fit(X, y, shuffle=False)
same = all((a == b).all() for a, b in zip(streamed.coefs_, whole.coefs_))
print("the same bits as in memory:", same)

# %%
# With shuffling, rows are mixed within a window of partitions. What does that cost? Here nothing to
# be seen, as each file is a fair sample of all rows; where files are sorted, take a larger window.

fig, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
ax.plot(fit(X, y).loss_curve_, lw=4, alpha=0.4, label="in memory")
for window in (1, 4):
    of_window = nbbn.Partitions.from_files(str(folder / "*.npz"), window=window)
    ax.plot(fit(of_window).loss_curve_, marker="o", label=f"window of {window}")
ax.set(xlabel="epoch", ylabel="training loss", xticks=range(4))
ax.legend(frameon=False)
plt.show()

# %%
# Answers come from partitions too, read ahead while the network works.

print(f"accuracy on all partitions {streamed.score(parts):.3f}")
