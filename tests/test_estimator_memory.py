"""The memory that a fit takes, and what it leaves behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import textwrap
import tracemalloc
import weakref
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


WAYS = [
    "",
    "early_stopping=True, dtype='float32', class_weight='balanced'",
    "batch_norm=False, solver='lbfgs', max_fun=2",
]


@pytest.mark.slow
@pytest.mark.skipif(
    not os.path.exists("/proc/self/clear_refs"), reason="reads and resets Linux's account of memory"
)
@pytest.mark.parametrize("where", ["mapped", "in memory"])
def test_bytes_are_converted_by_the_batch(where, tmp_path):
    """Fitting 60 MB of bytes and all that follows takes less than twice that, they included.

    As float32 they would take 300.
    """
    code = f"""
        import warnings
        import numpy as np
        import nbbn
        warnings.simplefilter("ignore")

        def account(name):
            return int(open("/proc/self/status").read().split(name + ":")[1].split()[0]) / 1024

        def use(X, y, **params):
            model = nbbn.MLPClassifier((32,), batch_size=512, max_iter=1, **params).fit(X, y)
            model.predict(X), model.recalibrate(X)
            return model if params else model.partial_fit(X, y)

        rng = np.random.default_rng(0)
        y = rng.integers(0, 10, 80_000)
        few = rng.integers(0, 256, (600, 784), dtype=np.uint8)
        ways = [{", ".join(f"dict({way})" for way in WAYS)}]
        for way in ways:  # compiles, and starts threads
            use(few, y[:600], **way)
        before = account("VmRSS")
        X = np.lib.format.open_memmap({str(tmp_path / "x.npy")!r}, "w+", np.uint8, (80_000, 784))
        for first in range(0, 80_000, 600):
            X[first : first + 600] = few[: 80_000 - first]
        X.flush()
        X = np.load({str(tmp_path / "x.npy")!r}, mmap_mode={"r" if where == "mapped" else None!r})
        open("/proc/self/clear_refs", "w").write("5")
        for way in ways:
            use(X, y, **way)
        print(account("VmHWM") - before)
    """
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], env=env, capture_output=True, text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 120


class Watched(np.ndarray):
    """Rows that a weak reference can watch."""


@pytest.mark.parametrize(
    "params",
    [{}, {"early_stopping": True}, {"solver": "lbfgs"}, {"callbacks": lambda *_: None}],
    ids=["defaults", "early stopping", "lbfgs", "callback"],
)
def test_rows_are_free_after_a_fit(params):
    """No cycle of objects keeps them until the collector comes by."""
    X, y = data()
    rows = X.view(Watched)
    alive = weakref.ref(rows)
    gc.disable()
    try:
        fitted = make(**params).fit(rows, y)
        fitted.predict(rows)
        del rows
        assert alive() is None
    finally:
        gc.enable()
