"""Score a table with a saved model on Spark.

    pip install nbbn pyspark pandas pyarrow        # and a Java that this Spark takes
    python spark_map_in_pandas.py                  # or: spark-submit spark_map_in_pandas.py

`addFile` sends the model to every machine. Each of Spark's Python processes loads it once, for all
partitions that it gets, and a task uses one thread: Spark runs one for each core.
"""

from __future__ import annotations

import functools
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from pyspark import SparkFiles
from pyspark.sql import SparkSession

import nbbn

COLUMNS = ["length", "width", "weight"]
FILE = "model.safetensors"


@functools.cache
def model() -> nbbn.FoldedModel:
    """The model of this process."""
    nbbn.set_num_threads(1)
    return nbbn.load(SparkFiles.get(FILE))


def score(batches: Iterator[pd.DataFrame]) -> Iterator[pd.DataFrame]:
    """The rows of a partition, batch by batch, with what the model says of them."""
    for rows in batches:
        yield rows.assign(kind=model().predict(rows[COLUMNS].to_numpy()))


def main(rows: int = 20_000) -> None:
    """Fit and save a model, score a table by it, and compare with one process."""
    # Of the module by its name: what is of __main__ each task gets anew, and loads the model again.
    from spark_map_in_pandas import score

    X = np.random.default_rng(0).normal(size=(rows, len(COLUMNS))).astype(np.float32)
    y = np.where(X[:, 0] > X[:, 1], "long", "wide")
    fitted = nbbn.MLPClassifier((16, 8), tol=0.01, random_state=0).fit(X[:2000], y[:2000]).fold()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.appName("score").getOrCreate()
    try:
        with tempfile.TemporaryDirectory() as folder:
            fitted.save(Path(folder, FILE))
            spark.sparkContext.addFile(str(Path(folder, FILE)))
            spark.sparkContext.addPyFile(__file__)
            frame = pd.DataFrame(X, columns=COLUMNS).assign(row=range(rows))
            table = spark.createDataFrame(frame).repartition(8)
            scored = table.mapInPandas(
                score, "length float, width float, weight float, row long, kind string")
            found = scored.toPandas().sort_values("row")
    finally:
        spark.stop()
    assert found["kind"].tolist() == fitted.predict(X).tolist()
    print(f"{rows} rows scored: {found['kind'].value_counts().to_dict()}")


if __name__ == "__main__":
    main()
