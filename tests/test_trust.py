"""Short runs of what scripts/trust runs for an hour."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import mpi
import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc, limits and signals are Linux's"),
]
ROOT = Path(__file__).resolve().parents[1]
RUNS = {
    "kills": (["--kills", "4"], "4 kills over"),
    "calls": (["--minutes", "0.1"], "no wrong row"),
    "fuzz": (["--files", "300"], "300 damaged files"),
    "stops": (["--stops", "8"], "8 commands stopped or out of disk"),
    "stream_memory": (
        ["--gigabytes", "0.3", "--megabytes", "5", "--kind", "npz", "--limit", "1"],
        "memory does not grow with the rows",
    ),
}


@pytest.mark.parametrize("script", RUNS)
def test_script(script):
    if script in ("fuzz", "stops") and find_spec("onnx") is None:
        pytest.skip("onnx is not installed: pip install 'nbbn[onnx]'")
    arguments, shown = RUNS[script]
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "trust" / f"{script}.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert shown in done.stdout


def test_rank_kills():
    launcher, why = mpi.mpiexec("mpich")
    if launcher is None or (os.cpu_count() or 1) < 2:
        pytest.skip(why or "MPICH's ranks spin: 2 of them need as many cores")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "trust" / "rank_kills.py", "--kills", "4", "--python",
         mpi.PYTHONS["mpich"], "--launcher", launcher],
        capture_output=True, text=True, timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kills of a rank of 2" in done.stdout
