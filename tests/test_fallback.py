"""Without a compiler.

The same answers on NumPy, and an error that names the way out where training is asked for.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from naive_layers import NaiveNetwork
from test_csource import CASES, MORE, NOT_IN_ORACLE, drawn, rows

import nbbn
from nbbn import compiler, fallback
from nbbn.fallback import NumpyBlocks
from nbbn.predictor import Predictor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROOT = Path(__file__).resolve().parents[1]
NETWORKS = {
    **MORE,
    **{name: (case.input_shape, case.built(nbbn)[0]) for name, case in CASES.items()},
}
# Roundings of the largest output that another order of sums may take.
ROUNDINGS = 16


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network(name, dtype):
    network = drawn(*NETWORKS[name], dtype)
    x = rows(network)
    got = NumpyBlocks(network).run(x)
    refs = []
    if name not in NOT_IN_ORACLE:
        refs.append(NaiveNetwork(network.layers, network.input_shape, network.weights).forward(x))
    refs.append(Predictor(network)(x))
    assert refs and got.dtype == dtype
    for ref in refs:
        bound = ROUNDINGS * np.finfo(dtype).eps * max(1, np.abs(ref).max())
        np.testing.assert_allclose(got, ref.reshape(len(x), -1), rtol=0, atol=bound)


@pytest.mark.parametrize("block", [1, 3, 100])
def test_blocks_of_rows(monkeypatch, block):
    network = drawn(*MORE["all kinds"], np.float64)
    x = rows(network, 10)
    ref = NumpyBlocks(network).run(x)
    monkeypatch.setattr(fallback, "_BLOCK_ROWS", block)
    # BLAS may sum another number of rows in another order.
    np.testing.assert_allclose(NumpyBlocks(network).run(x), ref, rtol=0, atol=1e-14)
    assert NumpyBlocks(network).run(x[:0]).shape == (0, 3)


def test_rows_of_other_dtypes_and_layouts_stay_as_they_are():
    network = drawn(
        (6,), [nbbn.layers.ReLU(), nbbn.layers.BatchNormalization(), nbbn.layers.Dense(2)]
    )
    x = np.random.default_rng(1).integers(0, 9, (20, 6)).astype(np.float32)
    ref, before = NumpyBlocks(network).run(x), x.copy()
    np.testing.assert_array_equal(x, before)
    for other in (x.astype(np.uint8), np.asfortranarray(x), x.astype(np.float64)):
        other.setflags(write=False)
        np.testing.assert_array_equal(NumpyBlocks(network).run(other), ref)


# -- a process without numba

HIDE = """
import sys
class NoNumba:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("numba", "llvmlite"):
            raise ImportError(f"there is no {name}")
sys.meta_path.insert(0, NoNumba())
"""
WAYS = {
    "variable": ({"NBBN_DISABLE_JIT": "1"}, "", "NBBN_DISABLE_JIT is set; unset it"),
    "numba's variable": ({"NUMBA_DISABLE_JIT": "1"}, "", "NUMBA_DISABLE_JIT is set; unset it"),
    "no numba": ({}, HIDE, "numba cannot be imported .*there is no numba.*pip install numba"),
}
CODE = """
import re, warnings
import numpy as np
import nbbn
from nbbn.cli import main

folder, message = sys.argv[1], sys.argv[2]
at = lambda name: f"{folder}/{name}"
x, y = np.load(at("x.npy")), np.load(at("y.npy"))
close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-6)

for name in ("mlp", "regressor", "sequential", "classifier"):
    model, rows = nbbn.load(at(f"{name}.safetensors")), x.reshape(-1, 8, 8, 1) if name in ("sequential", "classifier") else x
    close(model.predict(rows), np.load(at(f"{name}.npy")))
    folded = nbbn.fold(model, strict=True, check=rows)
    assert folded.report.n_folded == folded.report.n_total >= 1 and folded.report.rows_checked == len(x) + 64
    close(folded.predict(rows), np.load(at(f"{name}.npy")))
    folded.save(at("folded.safetensors"))
    close(nbbn.load(at("folded.safetensors")).predict(rows[:5]), np.load(at(f"{name}.npy"))[:5])
    assert "predict_with" in folded.to_c()
    if name == "mlp":
        close(folded.predict_proba(rows), np.load(at("proba.npy")))
        assert model.score(rows, y) == (np.load(at("mlp.npy")) == y).mean()
        for argv in (
            ["fold", at("mlp.safetensors"), at("f.safetensors")],
            ["verify", at("mlp.safetensors"), at("f.safetensors"), "--data", at("x.npy")],
            ["predict", at("f.safetensors"), at("x.npy"), at("p.npy")],
            ["inspect", at("mlp.safetensors")],
        ):
            assert main(argv) == 0
        assert main(["warmup"]) == 2

def refused(work):
    try:
        work()
    except ImportError as error:
        assert re.search(message, str(error)), error
    else:
        raise AssertionError("worked")

refused(lambda: nbbn.MLPClassifier().fit(x, y))
refused(lambda: nbbn.load(at("mlp.safetensors")).partial_fit(x, y))
model = nbbn.load(at("sequential.safetensors"))
model.compile("adam", "sparse_categorical_crossentropy")
refused(lambda: model.fit(x.reshape(-1, 8, 8, 1), y))
refused(lambda: nbbn.functional.dense)
with nbbn.num_threads(2):
    assert nbbn.get_num_threads() == 1
assert re.search(message, nbbn.show_config())
assert "nbbn.kernels.simd" not in sys.modules
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, digits):
    """Models of the digits with their predictions, made with numba."""
    folder = tmp_path_factory.mktemp("fallback")
    X, y = digits
    X, y = X[:200].astype(np.float32), y[:200]
    options = {"max_iter": 3, "random_state": 0, "batch_size": 32}
    layers = nbbn.layers
    body = [
        layers.Conv2D(6, 3), layers.BatchNormalization(), layers.ReLU(), layers.MaxPooling2D(),
        layers.Flatten(), layers.Dense(10, "softmax"),
    ]
    sequential = nbbn.Sequential([layers.Input((8, 8, 1)), *body])
    sequential.compile("adam", "sparse_categorical_crossentropy")
    sequential.fit(X.reshape(-1, 8, 8, 1), y, epochs=1, verbose=0)
    models = {
        "mlp": nbbn.MLPClassifier((16, 8), **options).fit(X, y),
        "regressor": nbbn.MLPRegressor(hidden_layer_sizes=(16,), **options).fit(X, X[:, 20]),
        "sequential": sequential,
        "classifier": nbbn.SequentialClassifier(
            [layers.Input((8, 8, 1)), *body], epochs=1, batch_size=32, random_state=0
        ).fit(X.reshape(-1, 8, 8, 1), y),
    }
    for name, model in models.items():
        model.save(folder / f"{name}.safetensors")
        rows = X.reshape(-1, 8, 8, 1) if name in ("sequential", "classifier") else X
        np.save(folder / f"{name}.npy", model.predict(rows))
    np.save(folder / "proba.npy", models["mlp"].predict_proba(X))
    np.save(folder / "x.npy", X)
    np.save(folder / "y.npy", y)
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
def test_a_process_without_a_compiler(folder, way):
    variables, before, message = WAYS[way]
    env = {**os.environ, "PYTHONPATH": str(ROOT), **variables}
    command = [
        sys.executable, "-W", "error", "-c", f"import sys\n{before}\n{CODE}", str(folder), message,
    ]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_import_is_without_numba():
    code = "import sys, nbbn, nbbn.cli; sys.exit('numba' in sys.modules)"
    assert (
        subprocess.run(
            [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}
        ).returncode
        == 0
    )


def test_here_there_is_a_compiler():
    assert compiler.available() and compiler.why_not() is None
    compiler.require()


def test_functional_has_its_names():
    import nbbn.functional as functional

    assert set(functional.__all__) <= set(dir(functional))
    with pytest.raises(AttributeError, match="has no attribute 'dens'"):
        functional.dens  # noqa: B018
