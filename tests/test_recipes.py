"""The programs of examples/engines run as they stand, where their engine is installed.

Each compares its answers with those of one process, and fails where they differ.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Seconds that no recipe takes: it hangs.
LIMIT = 300
# A load opens the file for its first bytes, and for all of it.
OPENS = 2
# A module that every Python process imports: notes in a file which process opens a model's file.
NOTE = """
import os, sys
def note(event, given):
    if event == "open" and str(given[0]).endswith("model.safetensors") and given[1] == "r":
        with open(os.environ["NBBN_TEST_NOTES"], "a") as file:
            file.write(f"{os.getpid()}\\n")
sys.addaudithook(note)
"""


def needs(*packages):
    """Skips where a package is missing."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def run(name, folder):
    """Run a program of examples/engines; what it prints, and how often each process has opened the
    model.
    """
    (folder / "sitecustomize.py").write_text(NOTE)
    notes = folder / "notes"
    notes.touch()
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, ROOT / "examples" / "engines" / f"{name}.py"], cwd=folder, text=True,
        env={**os.environ, "PYTHONPATH": path, "NBBN_TEST_NOTES": str(notes)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
    try:
        text, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise AssertionError(f"{name} hangs: {process.communicate()}") from None
    assert process.returncode == 0, errors[-3000:]
    return text, Counter(notes.read_text().split())


def test_ray_scores_and_searches(tmp_path):
    needs("ray", "pandas", "pyarrow")
    text, opened = run("ray_map_batches", tmp_path)
    assert re.search(r"20000 rows scored: .*'long'.*scores of the search: \[", text)
    assert 1 <= len(opened) <= 2 and set(opened.values()) == {OPENS}  # a load an actor


def test_spark_scores(tmp_path):
    needs("pyspark", "pandas", "pyarrow")
    if shutil.which("java") is None:
        pytest.skip("there is no Java, which Spark needs")
    text, opened = run("spark_map_in_pandas", tmp_path)
    assert re.search("20000 rows scored: .*'long'", text)
    assert opened and set(opened.values()) == {OPENS}  # a load a process, for 8 partitions


def test_dask_searches(tmp_path):
    needs("dask", "distributed", "joblib")
    text, _ = run("dask_search", tmp_path)
    assert re.match("4 candidates, the best with ", text)
