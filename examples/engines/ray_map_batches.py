"""Score a table with a saved model on Ray Data, and search on Ray's workers.

    pip install nbbn 'ray[data]' pandas
    python ray_map_batches.py

Each actor loads the model once and uses one thread, so that Ray can run one for each core. On a
cluster the model's file lies where every machine sees it, and `ray.init(address="auto")` joins it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import ray
from ray.util.joblib import register_ray
from sklearn.model_selection import GridSearchCV

import nbbn

COLUMNS = ["length", "width", "weight"]


class Scorer:
    """An actor: the model, and what it says of each batch of rows."""

    def __init__(self, path: str):
        nbbn.set_num_threads(1)
        self.model = nbbn.load(path)

    def __call__(self, rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(kind=self.model.predict(rows[COLUMNS].to_numpy()))


def scores(X: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The mean scores of a search; each fit uses one thread."""
    model = nbbn.MLPClassifier((8,), tol=0.01, n_iter_no_change=2, random_state=0, n_jobs=1)
    search = GridSearchCV(model, {"alpha": [1e-4, 1.0]}, cv=2)
    return search.fit(X, y).cv_results_["mean_test_score"]


def main(rows: int = 20_000, workers: int = 2) -> None:
    """Fit and save a model, score a table by it, search; compare each with one process."""
    X = np.random.default_rng(0).normal(size=(rows, len(COLUMNS))).astype(np.float32)
    y = np.where(X[:, 0] > X[:, 1], "long", "wide")
    model = nbbn.MLPClassifier((16, 8), tol=0.01, random_state=0).fit(X[:2000], y[:2000]).fold()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        model.save(path)
        ray.init(num_cpus=workers, include_dashboard=False)
        try:
            frame = pd.DataFrame(X, columns=COLUMNS).assign(row=range(rows))
            table = ray.data.from_pandas([frame[i::8] for i in range(8)])
            scored = table.map_batches(
                Scorer, fn_constructor_args=(str(path),), batch_format="pandas", batch_size=4096,
                # Not all cores from the start: reading would wait for one for ever.
                num_cpus=1, compute=ray.data.ActorPoolStrategy(min_size=1, max_size=workers))
            found = scored.to_pandas().sort_values("row")  # batches come as they are ready
            register_ray()
            with joblib.parallel_config(backend="ray", n_jobs=workers):
                searched = scores(X[:2000], y[:2000])
        finally:
            ray.shutdown()
    assert found["kind"].tolist() == model.predict(X).tolist()
    assert searched.tolist() == scores(X[:2000], y[:2000]).tolist()
    print(f"{rows} rows scored: {found['kind'].value_counts().to_dict()}; "
          f"scores of the search: {searched.round(3).tolist()}")


if __name__ == "__main__":
    main()
