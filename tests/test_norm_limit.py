"""The script that sets batch norm beside what the memory allows."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[1] / "scripts" / "norm_limit.py"


@pytest.fixture(scope="module")
def limit():
    spec = importlib.util.spec_from_file_location("norm_limit", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_plain_function_reads_all_and_writes_all(limit):
    a, b = np.arange(10, dtype="f4"), np.ones(10, "f4")
    for function, parts in ((limit.moved, 1), (limit.moved_by_all, 2)):
        out, sums = np.zeros(10, "f4"), np.zeros(parts, "f4")
        function(a, b, out, sums)
        np.testing.assert_array_equal(out, a + 1)
        assert sums.sum() == 45


@pytest.mark.parametrize("threads", [1, 2])
def test_every_call_runs_and_is_timed(limit, threads):
    calls = limit.calls_of((6, 4), threads)
    took = limit.medians(calls, 0.0)
    assert took.keys() == calls.keys() and len(calls) == 2 * (threads + 1)
    assert min(took.values()) > 0


def test_the_script(limit, monkeypatch, capsys):
    words = ["norm_limit.py", "--shapes", "6x4", "3x2x2x5", "--threads", "1", "--seconds", "0"]
    monkeypatch.setattr(sys, "argv", words)
    assert limit.main() == 0
    first, head, *lines = capsys.readouterr().out.splitlines()
    assert first.startswith("1 threads") and "share" in head
    assert [line.split()[0] for line in lines] == ["6x4", "3x2x2x5"]
    assert all(len(line.split()) == len(limit.HEAD) for line in lines)
