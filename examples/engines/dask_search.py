"""Search for the best parameters on a Dask cluster, by joblib's backend.

    pip install nbbn 'dask[array]' distributed
    python dask_search.py

A fit is a task on one thread: `n_jobs=1` of the model. `scatter` sends the rows to each worker
once. On a cluster of your own, `Client(address)`.
"""

from __future__ import annotations

from typing import Any

import joblib
import numpy as np
from distributed import Client
from sklearn.model_selection import GridSearchCV

import nbbn

GRID = {"alpha": [1e-4, 1.0], "hidden_layer_sizes": [(8,), (8, 4)]}


def search(X: np.ndarray, y: np.ndarray) -> GridSearchCV:
    """The search, on whatever runs joblib's tasks."""
    model = nbbn.MLPClassifier(tol=0.01, n_iter_no_change=2, random_state=0, n_jobs=1)
    return GridSearchCV(model, GRID, cv=2).fit(X, y)


def main(client: Any = None, rows: int = 600) -> None:
    """Search on the cluster, and compare with one process."""
    X = np.random.default_rng(0).normal(size=(rows, 3)).astype(np.float32)
    y = np.where(X[:, 0] > X[:, 1], "long", "wide")
    with client or Client(n_workers=2, threads_per_worker=1, host="127.0.0.1",
                          dashboard_address=":0"):
        with joblib.parallel_config(backend="dask", scatter=[X, y]):
            found = search(X, y)
    alone = search(X, y)
    scores = found.cv_results_["mean_test_score"]
    assert scores.tolist() == alone.cv_results_["mean_test_score"].tolist()
    print(f"{len(scores)} candidates, the best with {found.best_params_}: {scores.max():.3f}")


if __name__ == "__main__":
    main()
