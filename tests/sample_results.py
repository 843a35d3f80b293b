"""Results in asv's stored layout, made up.

Three commits of a small repository, two benchmarks against peers, four of its own.
"""

from __future__ import annotations

import json
import subprocess

COLUMNS = [
    "result", "params", "version", "started_at", "duration", "stats_ci_99_a", "stats_ci_99_b",
]
PEERS = ["'PyTorch'", "'JAX'"]
ROWS = ["1", "1000"]
BENCHMARKS = {
    "versus.Inference.track_ratio": (
        "track", "peer's time / nbbn's", ["rows", "peer"], [ROWS, PEERS],
    ),
    "versus.ConvolutionalTraining.track_ratio": (
        "track", "peer's time / nbbn's", ["peer"], [["'PyTorch'"]],
    ),
    "norm.Forward.time_nbbn": ("time", "seconds", ["shape"], [["(32, 128)", "(256, 512)"]]),
    "start.Import.track_import": ("track", "s", ["module"], [["'nbbn'"]]),
    "load.Predict.track_mean": ("track", "us", ["busy processes"], [["2"]]),
    "load.Predict.track_99th_percentile": ("track", "us", ["busy processes"], [["2"]]),
}
# Of the three commits, oldest first; NaN: skipped, None: failed.
NAN = float("nan")
RESULTS = {
    "versus.Inference.track_ratio": (
        [2.0, 4.0, 3.0, NAN], [2.2, 4.4, 3.3, NAN], [4.0, 8.0, 0.5, NAN],
    ),
    "versus.ConvolutionalTraining.track_ratio": ([3.0], [2.5], [None]),
    "norm.Forward.time_nbbn": ([8e-6, 4e-5], [6e-6, 3e-5], [5e-6, 3e-5]),
    "start.Import.track_import": ([0.75], None, None),
    "load.Predict.track_mean": (None, None, [150.0]),
    "load.Predict.track_99th_percentile": (None, None, [900.0]),
}
# asv's intervals of 99 % confidence, lower ends and upper ends: from the second commit to the third
# the first shape's time falls beyond them, the second's within.
INTERVALS = {
    "norm.Forward.time_nbbn": (
        ([7e-6, 3.5e-5], [9e-6, 4.5e-5]), ([5.5e-6, 2.5e-5], [6.5e-6, 3.5e-5]),
        ([4.5e-6, 2.5e-5], [5.4e-6, 3.5e-5]),
    ),
}
# What contests have written at the third commit.
DETAILS = [
    {"benchmark": "versus.Inference.track_ratio", "parameters": ["1", "'PyTorch'"], "ratio": 4.0,
     "own": [9e-6, 1e-5, 1.1e-5], "peer": [3.9e-5, 4e-5, 4.2e-5], "ratios": [3.8, 4.0, 4.3],
     "sure": True, "rounds": 5},
    {"benchmark": "versus.Inference.track_ratio", "parameters": ["1000", "'PyTorch'"],
     "ratio": 0.5, "own": [1e-3, 2e-3, 3e-3], "peer": [9e-4, 1e-3, 1.1e-3],
     "ratios": [0.4, 0.5, 1.2], "sure": False, "rounds": 5},
]


def git(folder, *arguments):
    own = [
        "-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false",
    ]
    done = subprocess.run(
        ["git", "-C", str(folder), *own, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def make_repository(folder):
    """Three commits; their hashes, oldest first."""
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch", "main")
    hashes = []
    for i in range(3):
        (folder / "file").write_text(str(i))
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", f"Change {i} <of three>")
        hashes.append(git(folder, "rev-parse", "HEAD"))
    return hashes


def describe():
    """benchmarks.json."""
    described = {}
    for name, (kind, unit, names, params) in BENCHMARKS.items():
        described[name] = {
            "code": "", "name": name, "param_names": names, "params": params, "timeout": 60.0,
        }
        described[name] |= {"type": kind, "unit": unit, "version": "1"}
    return described | {"version": 2}


def write_results(data, hashes, machine="bench-box", packages=None):
    """Fill a data folder as runs of the suite would."""
    folder = data.results / machine
    folder.mkdir(parents=True)
    (data.results / "benchmarks.json").write_text(json.dumps(describe()))
    facts = {
        "arch": "x86_64", "cpu": "Some CPU", "machine": machine, "num_cpu": "2", "os": "Linux",
        "ram": str(8 * 2**30),
    }
    (folder / "machine.json").write_text(json.dumps({**facts, "version": 1}))
    for i, commit in enumerate(hashes):
        rows = {}
        for name, values in RESULTS.items():
            if values[i] is not None:
                started = 1_700_000_000_000 + i * 86_400_000
                rows[name] = [
                    None if values[i] == [None] else values[i], BENCHMARKS[name][3], "1", started,
                    1.0, *INTERVALS.get(name, ([],) * 3)[i],
                ]
        stored = {
            "commit_hash": commit, "env_name": "existing-py",
            "date": 1_700_000_000_000 + i * 86_400_000, "params": {**facts, "python": "3.11"},
            "python": "3.11", "requirements": {}, "env_vars": {}, "result_columns": COLUMNS,
            "results": rows, "durations": {}, "version": 2,
        }
        (folder / f"{commit[:8]}-existing-py.json").write_text(json.dumps(stored))
    context = {
        "nbbn": "0.1.0", "python": "3.11.7", "threads": 2, "load": 0.1,
        "started": "2026-11-21T08:25:04+00:00",
    }
    context |= {
        "profile": "quick",
        "packages": packages or {"numba": "0.68.1", "torch": "2.13.0", "jax": None},
    }
    context["blas"] = ["openblas 0.3.30 with kernels for Haswell on 2 threads"]
    context["pinned"] = {"OPENBLAS_CORETYPE": "Haswell"}
    for commit in hashes:
        path = data.context / machine / f"{commit}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(context))


def make_sample(folder):
    """A data folder with three commits' results, their repository, and their hashes."""
    from asv_bench.dashboard.paths import Data
    from asv_bench.dashboard.records import save_details

    hashes, data = make_repository(folder / "repository"), Data(folder / "data")
    write_results(data, hashes)
    lines = folder / "lines"
    lines.write_text("".join(json.dumps(each) + "\n" for each in DETAILS))
    save_details(data, "bench-box", hashes[2], lines)
    return data, folder / "repository", hashes
