"""The memory that a fit takes, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
from estimator_helpers import three_classes

import nbbn

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def data(count=150, features=11):
    X, y = three_classes(count, features, 7)
    return np.where(np.abs(X) > 0.7, X, 0).round(3), y


def make(kind="MLPClassifier", **params):
    defaults = {"hidden_layer_sizes": (9,), "max_iter": 4, "batch_size": 32, "random_state": 1}
    return getattr(nbbn, kind)(**{**defaults, **params})


def test_sparse_rows_are_not_dense_at_once():
    """20,000 rows of 2,000 columns would be 320 MB."""
    rng = np.random.default_rng(0)
    X = scipy.sparse.random_array((20_000, 2000), density=0.002, format="csr", rng=rng)
    y = rng.integers(0, 2, 20_000)
    model = make(batch_size=200, max_iter=1)
    tracemalloc.start()
    try:
        model.fit(X, y).predict(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 120 << 20


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="reads Linux's account of memory")
@pytest.mark.parametrize("params", ["", "early_stopping=True", "class_weight='balanced'"])
def test_300_megabytes_of_bytes(params):
    """Less than 500 MB above the import, the rows included."""
    code = f"""
        import warnings
        import numpy as np
        import nbbn
        warnings.simplefilter("ignore")

        def peak():
            return int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024

        before, rng = peak(), np.random.default_rng(0)
        X = rng.integers(0, 256, (300 * 2**20 // 784, 784), dtype=np.uint8)
        y = rng.integers(0, 10, len(X))
        nbbn.MLPClassifier((32,), batch_size=1024, max_iter=1, dtype="float32", {params}).fit(X, y).predict(X)
        print(peak() - before)
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True, timeout=300)
    assert float(done.stdout) < 500, done.stderr
