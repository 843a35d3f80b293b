"""With NumPy and safetensors alone: models are loaded, predict, are folded, saved and looked at."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import nbbn

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]
ROOT = Path(__file__).resolve().parents[1]
MISSING = ("numba", "llvmlite", "sklearn", "scipy", "joblib", "rich", "pandas", "onnx")
# A module that hides packages, as if they were not installed.
HIDE = f"""
import importlib.abc, sys
class Hide(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {MISSING}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name.partition(".")[0])
sys.meta_path.insert(0, Hide())
import importlib.util
known = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in {MISSING} else known(name, package)
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("light")
    x = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    np.save(path / "x.npy", x)
    model = nbbn.MLPClassifier((7,), max_iter=1, random_state=0).fit(x, np.arange(60) % 3)
    model.save(path / "estimator.safetensors")
    model.fold().save(path / "folded.safetensors")
    layers = [
        nbbn.layers.Input((5,)), nbbn.layers.Dense(4), nbbn.layers.BatchNormalization(),
        nbbn.layers.ReLU(), nbbn.layers.Dense(2),
    ]
    nbbn.Sequential(layers).save(path / "sequential.safetensors")
    np.save(path / "ref.npy", model.fold().predict_proba(x))
    (path / "sitecustomize.py").write_text(HIDE)
    return path


def light(folder, *argv):
    """Run Python without these packages; returns status and text."""
    path = f"{folder}{os.pathsep}{ROOT}"
    done = subprocess.run(
        [sys.executable, *argv], env={**os.environ, "PYTHONPATH": path}, capture_output=True,
        text=True, cwd=folder, timeout=200,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_library(folder):
    code = """
        import sys, numpy as np, nbbn
        x, ref = np.load("x.npy"), np.load("ref.npy")
        model = nbbn.load("folded.safetensors")
        np.testing.assert_allclose(model.predict_proba(x), ref, atol=2e-6)
        net = nbbn.load("sequential.safetensors")
        net.summary()
        folded = net.fold()
        print(folded.report)
        np.testing.assert_allclose(folded.predict(x), net.predict(x, verbose=0), atol=1e-5)
        folded.to_c("net.c")
        folded.save("again.safetensors")
        loaded = {name.partition(".")[0] for name in sys.modules}
        print("ok", sorted(loaded & {"numba", "sklearn", "scipy", "rich"}))
    """
    status, text = light(folder, "-c", textwrap.dedent(code))
    assert status == 0, text
    assert "ok []" in text and "Total params: 50" in text and "1 of 1 batch norms folded" in text


@pytest.mark.parametrize(
    "argv, shown",
    [
        (["fold", "sequential.safetensors", "f.safetensors"], "1 of 1 batch norms folded"),
        (["fold", "sequential.safetensors", "f.c"], "written to f.c"),
        (["verify", "sequential.safetensors", "sequential.safetensors"], "same: the models agree"),
        (["inspect", "sequential.safetensors"], "batch norms (suspicious"),
        (["predict", "folded.safetensors", "x.npy", "out.csv"], "60 rows predicted"),
        (["--version"], "nbbn "), (["--help"], "fold the batch norms"),
    ],
)
def test_commands_that_work(folder, argv, shown):
    status, text = light(folder, "-m", "nbbn", *argv)
    assert status == 0 and shown in text, text


@pytest.mark.parametrize(
    "argv, package",
    [
        (["train", "x.npy", "out.safetensors"], "scikit-learn"), (["compare", "x.npy"], "rich"),
        (["demo"], "rich"), (["warmup"], "numba"),
        (["predict", "estimator.safetensors", "x.npy", "out.csv"], "scikit-learn"),
        (["fold", "sequential.safetensors", "f.onnx"], "onnx"),
    ],
)
def test_commands_that_take_more_say_what(folder, argv, package):
    status, text = light(folder, "-m", "nbbn", *argv)
    assert status == 2 and package in text and "install" in text, text
    assert len(text.strip().splitlines()) == 1
