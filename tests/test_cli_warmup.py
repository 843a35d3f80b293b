"""The command warmup: which kernels each purpose takes."""

from __future__ import annotations

import re
from contextlib import nullcontext

import graph_networks
import numpy as np
import pytest
from command_line import fails, works
from test_csource import CASES, MORE, drawn

import nbbn
from nbbn.commands import warmup
from nbbn.kernels import KERNELS
from nbbn.program.inference import InferenceProgram

INFERENCE = {name for name, kernel in KERNELS.items() if kernel.inference}
pytestmark = pytest.mark.usefixtures("command_name")


def kernels_of(network):
    """Names of the kernels that a network in inference is lowered to."""
    lowered = InferenceProgram(network.computation(), network.dtype)
    programs = [lowered, lowered.of_stored_elements() or lowered]
    return {operation.kernel for one in programs for operation in one.program.operations}


def test_inference_is_what_networks_are_lowered_to():
    networks = [drawn((6, 6, 1), [nbbn.layers.Conv2D(2, 3), nbbn.layers.MaxPooling2D()]),
                drawn((6, 6, 64), [nbbn.layers.Conv2D(64, 3)])]
    networks += [drawn(*MORE[name]) for name in MORE]
    networks += [drawn(case.input_shape, case.built(nbbn)[0]) for name, case in CASES.items()]
    networks += [graph_networks.network(name, np.float32) for name in graph_networks.NAMES]
    assert set().union({"scan_finite"}, *map(kernels_of, networks)) == INFERENCE


@pytest.mark.parametrize("purpose", ["inference", "training", "all"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "both"])
def test_which_kernels_are_compiled(capsys, monkeypatch, purpose, dtype):
    asked, ran = [], []
    monkeypatch.setattr(
        type(KERNELS["copy_rows"]),
        "address",
        lambda self, d, source=None: asked.append((self.name, d.name)),
    )
    monkeypatch.setattr(warmup, "_run_once", lambda purpose, dtype: ran.append(dtype.name))
    text = works(capsys, "warmup", "--for", purpose, "--dtype", dtype)
    wanted = INFERENCE if purpose == "inference" else set(KERNELS)
    dtypes = ["float32", "float64"] if dtype == "both" else [dtype]
    assert set(asked) == {(name, d) for name in wanted for d in dtypes}
    assert ran == dtypes and re.match(rf"{len(asked)} kernels ready after [\d.]+ s, kept in ", text)


@pytest.mark.parametrize("purpose", ["inference", "training"])
def test_a_run_of_each_purpose(monkeypatch, purpose):
    fits = []
    fit = nbbn.MLPClassifier.fit
    monkeypatch.setattr(
        nbbn.MLPClassifier, "fit", lambda *args, **kwargs: fits.append(1) or fit(*args, **kwargs)
    )
    with pytest.warns() if purpose == "training" else nullcontext():
        warmup._run_once(purpose, np.dtype("f4"))
    assert len(fits) == (purpose == "training")


def test_no_place_to_keep_kernels(capsys, monkeypatch):
    monkeypatch.setattr("nbbn.kernels.cache.cache_folder", lambda: None)
    assert "set NUMBA_CACHE_DIR" in fails(capsys, 1, "warmup")
    assert "choose from" in fails(capsys, 2, "warmup", "--for", "nothing")
