"""Running the suite on one tree with one Python, so that asv keeps the results under the commit's name."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from pathlib import Path

from .places import DashboardError

# What a profile changes: asv's attributes, rounds of a contest with a peer, and what is left out (None: nothing).
PROFILES = {
    "quick": ({"rounds": "1", "repeat": "(2,5,0.3)", "warmup_time": "0"}, 5, r"torch\.compile"),
    "full": ({}, 15, None),
}
# Tells what is measured, from within: the package in use, versions, threads.
CONTEXT = """
import importlib.metadata as m, json, os, platform, sys
import nbbn, numba, numpy
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
names = ["numba", "numpy", "scikit-learn", "onnxruntime", "torch", "jax"]
found = {name: version(name) for name in names}
print(json.dumps({"source": os.path.dirname(os.path.dirname(os.path.abspath(nbbn.__file__))), "nbbn": nbbn.__version__,
    "python": platform.python_version(), "threads": nbbn.get_num_threads(), "packages": found}))
"""


def asv(*arguments: str, env: dict | None = None, quiet: bool = False) -> int:
    """Run asv with this very Python; its exit status."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if quiet else {}
    done = subprocess.run(
        [sys.executable, "-m", "asv", *arguments], env=env, stdin=subprocess.DEVNULL, text=True, **streams
    )
    if done.returncode and quiet:
        print(done.stdout, file=sys.stderr)
    return done.returncode


def require_asv() -> None:
    """asv is asked for with the extra that brings it."""
    try:
        import asv  # noqa: F401
    except ImportError as error:
        raise DashboardError(f"{sys.executable} has no asv: install nbbn with the extra bench, nbbn[bench]") from error


def environment(tree: Path, **more: str) -> dict:
    """Variables of the benchmarks' processes: asv removes PYTHONPATH and puts ASV_PYTHONPATH in its place."""
    return {**os.environ, "ASV_PYTHONPATH": str(tree), "PYTHONPATH": str(tree), "PYTHONWARNINGS": "ignore", **more}


def context_of(python: str, tree: Path, profile: str) -> dict:
    """Versions, threads and load under which `python` measures `tree`."""
    done = subprocess.run([python, "-c", CONTEXT], env=environment(tree), cwd=tree, capture_output=True, text=True)
    if done.returncode:
        raise DashboardError(f"{python} cannot import nbbn from {tree}: {done.stderr.strip().splitlines()[-1]}")
    found = json.loads(done.stdout)
    if Path(found["source"]).resolve() != tree.resolve():
        raise DashboardError(
            f"{python} imports nbbn from {found['source']}, not from {tree}: the figures would be another version's"
        )
    found["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    found["started"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    found["profile"] = profile
    del found["source"]
    return found


def selection(bench: str | None, left_out: str | None) -> list[str]:
    """asv's arguments for the benchmarks whose name and parameters match `bench` and not `left_out`."""
    pattern = f"(?:{bench})" if bench else ""
    if left_out:
        pattern = f"^(?!.*{left_out}).*{pattern}"
    return ["--bench", pattern] if pattern else []


def run(conf: Path, tree: Path, commit: str, python: str, profile: str, bench: str | None, machine: str | None) -> int:
    """Run the suite on a tree; asv's exit status (0; 2 where a benchmark failed)."""
    attributes, rounds, left_out = PROFILES[profile]
    arguments = ["run", "--config", str(conf), "--environment", f"existing:{python}", "--set-commit-hash", commit]
    arguments += ["--show-stderr", "--launch-method", "forkserver" if hasattr(os, "fork") else "spawn"]
    for name, value in attributes.items():
        arguments += ["--attribute", f"{name}={value}"]
    if machine:
        arguments += ["--machine", machine]
    env = environment(tree, NBBN_BENCH_ROUNDS=str(rounds))
    return asv(*arguments, *selection(bench, left_out), env=env)
