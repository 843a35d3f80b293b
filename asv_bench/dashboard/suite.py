"""Running the suite on one tree with one Python.

asv keeps the results under the commit's name.
"""

from __future__ import annotations

import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from .paths import DashboardError


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    asv's attributes, rounds and seconds of a contest with a peer, a pattern of what is left out.
    """

    attributes: dict[str, str] = field(default_factory=dict)
    rounds: int = 15
    seconds: float = 60
    left_out: str | None = None


# What the quick profile does without, by name and parameters: the full one measures all.
QUICK_LEAVES_OUT = (
    r"torch\.compile",
    "float64",
    "Solvers",
    r"OverPlain.*\((32|256), ",
    r"growth\..*\((80000|512|8)\)",
    r"load\.OneThread",
    r"load\..*\((1|6), ",
    r"load\..*, 16\)",
    r"scaling\.Threads",  # the speed-ups stay
    r"scaling\..*batch (1024|2048)",
    r"versus\.(Taps|ConvolutionalTraining.*JAX)",
    r"graphs\.Inference.*, 32\)",
    r"versus\.GraphInference.*MobileNetV2.*32,",
    r"versus\.(WithinRows|Convolution|MaxPool)\..*\(\((1|32, 28|256|8192|65536), ",
    r"versus\.Convolution\..*valid",
    r"versus\.MaxPool\..*\), 3, ",
    r"versus\.BatchNorm\..*\(\((256|65536|32, 28), ",
    r"versus\.SparseRows.*fit",
)
PROFILES = {
    "quick": Effort(
        {"rounds": "1", "repeat": "(2,5,0.3)"},
        rounds=5,
        seconds=2,
        left_out="|".join(QUICK_LEAVES_OUT),
    ),
    "full": Effort(),
}
# Tells what is measured, from within: the package in use, versions, threads.
CONTEXT = """
import importlib.metadata as m, json, os, platform
import nbbn, numpy, scipy.linalg, threadpoolctl
def version(name):
    try:
        return m.version(name)
    except m.PackageNotFoundError:
        return None
names = ["numba", "numpy", "scikit-learn", "onnxruntime", "torch", "jax"]
found = {name: version(name) for name in names}
print(json.dumps({"nbbn": nbbn.__version__, "python": platform.python_version(),
    "threads": nbbn.get_num_threads(), "packages": found,
    "blas": sorted({" ".join(filter(None, [p["internal_api"], p["version"],
                    "with kernels for " + p["architecture"] if p.get("architecture") else None,
                    "on %d threads" % p["num_threads"]]))
                    for p in threadpoolctl.threadpool_info() if p["user_api"] == "blas"}),
    "pinned": {n: os.environ[n] for n in sorted(os.environ) if n.startswith(
               ("OPENBLAS_", "OMP_", "MKL_", "NUMBA_NUM_THREADS", "BLIS_"))}}))
"""


def asv(*arguments: str, env: dict | None = None, quiet: bool = False) -> int:
    """Run asv with this very Python; its exit status. `quiet`: it speaks only where it fails."""
    command = [sys.executable, "-m", "asv", *arguments]
    with subprocess.Popen(
        command,
        env=env,
        text=True,
        errors="replace",
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    ) as process:
        lines = without_remarks(process.stdout or ())
        if quiet:
            said = "".join(lines)
        else:
            for line in lines:
                print(line, end="", flush=True)
    if process.returncode and quiet:
        print(said, file=sys.stderr)
    return process.returncode


def without_remarks(lines: Iterable[str]) -> Iterator[str]:
    """asv's lines without its remark that `setup` runs between calls, which `Timed` wants.

    The head above the remark goes with it.
    """
    head = ""
    for line in lines:
        if "setup hooks re-run between" in line:
            head = ""
        elif "For parameters: " in line:
            yield head
            head = line
        else:
            yield head + line
            head = ""
    yield head


def require_asv() -> None:
    """asv is asked for with the extra that brings it."""
    try:
        import asv  # noqa: F401
    except ImportError as error:
        raise DashboardError(
            f"{sys.executable} has no asv: install nbbn with the extra bench, nbbn[bench]"
        ) from error


def environment(tree: Path, **more: str) -> dict:
    """Variables of the benchmarks' processes: asv puts ASV_PYTHONPATH in PYTHONPATH's place."""
    return {
        **os.environ,
        "ASV_PYTHONPATH": str(tree),
        "PYTHONPATH": str(tree),
        "PYTHONWARNINGS": "ignore",
        **more,
    }


def check_source(python: str, tree: Path) -> None:
    """Refuse a Python that would import the project from elsewhere than from the tree."""
    if shutil.which(python) is None:
        raise DashboardError(f"--python must name a Python that can be run, got {python!r}")
    name = json.loads((tree / "asv_bench" / "asv.conf.json").read_text())["project"]
    code = f"import {name}; print({name}.__file__)"
    done = subprocess.run(
        [python, "-c", code], env=environment(tree), cwd=tree, capture_output=True, text=True
    )
    if done.returncode:
        raise DashboardError(
            f"{python} cannot import {name} from {tree}: {done.stderr.strip().splitlines()[-1]}"
        )
    if not Path(done.stdout.strip()).resolve().is_relative_to(tree.resolve()):
        raise DashboardError(
            f"{python} imports {done.stdout.strip()}, not {name} from {tree}: "
            "figures of another version"
        )


def context_of(python: str, tree: Path, profile: str) -> dict:
    """Versions, threads and load under which `python` measures `tree`."""
    check_source(python, tree)
    done = subprocess.run(
        [python, "-c", CONTEXT],
        env=environment(tree),
        cwd=tree,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout)
    found["load"] = round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None
    found["started"] = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    found["profile"] = profile
    return found


def selection(bench: str | None, left_out: str | None) -> list[str]:
    """asv's arguments for the benchmarks that match `bench` and not `left_out`.

    Their names with their parameters are what is matched.
    """
    pattern = f"(?:{bench})" if bench else ""
    if left_out:
        pattern = f"^(?!.*(?:{left_out})).*{pattern}"
    return ["--bench", pattern] if pattern else []


def run(
    conf: Path,
    tree: Path,
    commit: str,
    python: str,
    effort: Effort,
    bench: str | None,
    machine: str | None = None,
    quiet: bool = False,
    details: Path | None = None,
) -> int:
    """Run the suite on a tree; asv's exit status (0; 2 where a benchmark failed).

    Contests add their times to the file `details`, a line each.
    """
    arguments = [
        "run",
        "--config",
        str(conf),
        "--environment",
        f"existing:{python}",
        "--set-commit-hash",
        commit,
    ]
    arguments += [
        "--show-stderr",
        "--launch-method",
        "forkserver" if hasattr(os, "fork") else "spawn",
    ]
    for name, value in effort.attributes.items():
        arguments += ["--attribute", f"{name}={value}"]
    if machine:
        arguments += ["--machine", machine]
    more = {} if details is None else {"NBBN_BENCH_DETAILS": str(details)}
    env = environment(
        tree, NBBN_BENCH_ROUNDS=str(effort.rounds), NBBN_BENCH_SECONDS=str(effort.seconds), **more
    )
    return asv(*arguments, *selection(bench, effort.left_out), env=env, quiet=quiet)
