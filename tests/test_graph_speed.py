"""The script that sets networks with branches beside their peers."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[1] / "scripts" / "graph_speed.py"


@pytest.fixture(scope="module")
def speed():
    spec = importlib.util.spec_from_file_location("graph_speed", PATH)
    module = sys.modules["graph_speed"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["graph_speed"]


def test_operations_are_those_of_the_papers(speed):
    """He et al. (2016, Table 1): 1.8e9 multiply-adds; Sandler et al. (2018, Table 4): 300e6."""
    by_name = {case.name: case for case in speed.CASES}
    assert by_name["resnet18-224-1"].operations() == pytest.approx(2 * 1.8e9, rel=0.02)
    assert by_name["mobilenet_v2-224-1"].operations() == pytest.approx(2 * 300e6, rel=0.02)
    one, many = by_name["resnet18-32-1"].operations(), by_name["train-resnet18-32-64"].operations()
    assert many == 3 * 64 * one


def test_chains_of_fma_come_to_their_fixed_point(speed):
    out = np.zeros(10 * speed.simd.lanes_of(4), "f4")
    speed.chains(out.ctypes.data, 30)
    np.testing.assert_allclose(out, 2)
    assert speed.peak(2, 1000) > 0


def test_each_operation_of_a_profile_has_its_node(speed, capsys):
    for case in (speed.Case("mobilenet_v2", 224, 1, short=True),
                 speed.Case("resnet18", 32, 2, training=True, short=True)):
        parts_of = speed.training_parts if case.training else speed.inference_parts
        whole, parts = parts_of(case, 2, 0.0)
        work = [part for part in parts if speed._MULTIPLIES.match(part.kernel)]
        assert whole > 0 and work and all(part.node.has_kernel for part in work)
        kinds = {type(part.node.operation).__name__ for part in work if "conv" in part.kernel}
        assert kinds == {"Convolve"}
        speed.print_profile(case, 2, 0.0, 1e11)
    lines = capsys.readouterr().out
    assert "conv_gradient 32x32x8 -> 16x16x16, 3x3/2" in lines and "by kernel" in lines


@pytest.mark.slow
def test_a_case_is_measured_in_processes_of_its_own():
    words = [sys.executable, str(PATH), "--short", "--rounds", "1", "resnet18-32-1"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    last = done.stdout.splitlines()[-1]
    assert last.startswith("resnet18-32-1 ") and "nbbn" in last and "of the peak" in last


def test_an_unknown_case_is_refused(speed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["graph_speed.py", "vgg"])
    with pytest.raises(SystemExit, match="2"):
        speed.main()
    assert "no case is called vgg" in capsys.readouterr().err
