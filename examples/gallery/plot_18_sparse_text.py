"""
Sparse text
===========

TF-IDF rows are mostly zeros. nbbn trains on their stored elements alone, to the same bits as on the
dense rows.
"""

# %%
# Made messages of two kinds that share most of their words.

import time

import matplotlib.pyplot as plt
import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.model_selection import train_test_split

import nbbn

rng = np.random.default_rng(0)
vocabulary = np.array([f"word{i}" for i in range(5000)])
common = 1 / np.arange(1, 5001)
chances = []
for _ in range(4):
    own = common.copy()
    own[rng.choice(5000, 300, replace=False)] *= 4
    chances.append(own / own.sum())
kinds = rng.integers(0, 4, 3000)
texts = [" ".join(rng.choice(vocabulary, 60, p=chances[kind])) for kind in kinds]
print(texts[0][:70], "...")

# %%

X = TfidfVectorizer(dtype=np.float32).fit_transform(texts)
stored = X.nnz / np.prod(X.shape)
print(f"{X.shape[0]} rows of {X.shape[1]} columns, {100 * stored:.2f} % of the elements stored")
train, test = train_test_split(np.arange(3000), random_state=0)
settings = {"hidden_layer_sizes": (64,), "tol": 1e-2, "batch_size": 64, "random_state": 0}
clf = nbbn.MLPClassifier(**settings).fit(X[train], kinds[train])
print(f"test accuracy {clf.score(X[test], kinds[test]):.3f} after {clf.n_iter_} epochs")

# %%
# The dense rows give the same weights, and take longer. (Times of one run on the machine that built
# this page.)

seconds = {}
for name, rows in {"sparse": X[train], "dense": X[train].toarray()}.items():
    start = time.perf_counter()
    fit = nbbn.MLPClassifier(**settings).fit(rows, kinds[train])
    seconds[name] = (time.perf_counter() - start) / fit.n_iter_
    print(f"{name:6} the same bits:", all((a == b).all() for a, b in zip(fit.coefs_, clf.coefs_)))

fig, ax = plt.subplots(figsize=(5.5, 2), layout="constrained")
ax.barh(list(seconds), list(seconds.values()))
ax.set(xlabel="seconds an epoch")
plt.show()
