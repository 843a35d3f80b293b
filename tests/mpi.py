"""Starts jobs of several ranks, by MPICH or by Open MPI, whatever there is."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
# Interpreters that have mpi4py and an MPI: this one's wheel is MPICH, and beside it there may be an
# environment with Open MPI, which alone goes well with more ranks than cores.
PYTHONS = {
    "mpich": os.environ.get("NBBN_MPICH_PYTHON", sys.executable),
    "openmpi": os.environ.get("NBBN_OPENMPI_PYTHON",
                              str(HERE.parent / ".venv-openmpi" / "bin" / "python")),
}
LIBRARIES = {"mpich": "MPICH", "openmpi": "Open MPI"}
FLAGS = {"mpich": [], "openmpi": ["--oversubscribe", "--bind-to", "none",
                                "--allow-run-as-root"]}
# Seconds that no job takes: it hangs.
LIMIT = 300
# Ranks that stay for one job after another.
STAYING = {"mpich": 2, "openmpi": 8}


@dataclass(frozen=True)
class Done:
    """A job that is over."""

    status: int
    text: str  # what the ranks have printed
    errors: str

    @functools.cached_property
    def results(self):
        """What the ranks have reported, in their order."""
        assert self.status == 0, self.errors[-3000:]
        found = [json.loads(line[7:]) for line in self.text.splitlines()
                 if line.startswith("RESULT ")]
        return [value for _, value in sorted(found, key=lambda pair: pair[0])]


@functools.cache
def mpiexec(kind):
    """How jobs are started, or why they cannot be."""
    python = PYTHONS[kind]
    if shutil.which(python) is None:
        return None, f"no Python for {LIBRARIES[kind]} at {python}"
    show = "from mpi4py import MPI; print(MPI.Get_library_version())"
    asked = subprocess.run([python, "-c", show], capture_output=True, text=True)
    if LIBRARIES[kind] not in asked.stdout:
        return None, f"{python} has no mpi4py with {LIBRARIES[kind]}"
    beside = Path(python).with_name("mpiexec")
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    return (launcher, "") if launcher else (None, "there is no mpiexec")


def check_there(kind, ranks):
    """How jobs are started; skips the test where there is no such MPI, or too few cores."""
    launcher, why = mpiexec(kind)
    if launcher is None:
        pytest.skip(why)
    if kind == "mpich" and ranks > (os.cpu_count() or 1):
        pytest.skip(f"MPICH's ranks spin: {ranks} of them need as many cores")
    return launcher


def start(kind, ranks, *arguments, env=None, before=(), flags=(), **streams):
    """Start Python on several ranks; skips the test where there is no such MPI.

    `before` is a command that runs `mpiexec`, `flags` are more of its own; `streams` are Popen's.
    """
    command = [*before, check_there(kind, ranks), *FLAGS[kind], *flags, "-n", str(ranks), PYTHONS[kind],
               *map(str, arguments)]
    # The sources under test, also where the interpreter has others.
    path = os.pathsep.join([str(HERE.parent), str(HERE), os.environ.get("PYTHONPATH", "")])
    return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path, **(env or {})},
                            text=True, **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE,
                                          **streams})


def run(kind, ranks, job, *arguments, **more):
    """Run a job of `rank_jobs.py` to its end; `more` as of `start`."""
    words = map(json.dumps, arguments)
    return ended(start(kind, ranks, HERE / "rank_jobs.py", job, *words, **more))


def run_command(kind, ranks, *arguments):
    """Run a command of nbbn on several ranks to its end."""
    return ended(start(kind, ranks, "-m", "nbbn", *arguments))


def ended(process):
    """What a job has left."""
    try:
        text, errors = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(f"the job hangs: {process.args} {process.communicate()}") from None
    return Done(process.returncode, text, errors)


class Ranks:
    """Ranks that do one job after another: to start them takes longer than most jobs."""

    def __init__(self, kind):
        check_there(kind, STAYING[kind])
        self.errors = tempfile.TemporaryFile("w+")
        # Nothing stays behind where the tests are killed.
        tied = [sys.executable, HERE.parent / "nbbn" / "dask" / "tied.py", str(os.getpid())]
        self.process = start(kind, STAYING[kind], HERE / "rank_jobs.py", "serve",
                             before=tied if sys.platform == "linux" else (),
                             stdin=subprocess.PIPE, stderr=self.errors)
        self.lines = queue.SimpleQueue()
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put(None)

    def do(self, ranks, job, *arguments):
        """Do a job of `rank_jobs.py` on the first so many of them."""
        self.process.stdin.write(json.dumps([ranks, job, *arguments]) + "\n")
        self.process.stdin.flush()
        text = []
        while True:
            try:
                line = self.lines.get(timeout=LIMIT)
            except queue.Empty:
                self.process.kill()
                line = None
            if line is None:
                status = self.process.wait()
                self.errors.seek(0)
                raise AssertionError(f"{job} has ended the ranks, with {status}, or hangs: "
                                     f"{self.errors.read()[-3000:]}")
            if line.startswith("DONE "):
                errors = json.loads(line[5:])
                return Done(int(bool(errors)), "".join(text), errors)
            text.append(line)

    def close(self):
        """End them."""
        with contextlib.suppress(BrokenPipeError):  # Open MPI does not pass the end of input on
            self.process.stdin.write("[]\n")
            self.process.stdin.close()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.reader.join()
        self.process.stdout.close()
        self.errors.close()


_staying = {}


def do(kind, ranks, job, *arguments):
    """`run`, on ranks that stay for the next one; not for jobs that kill or change their rank."""
    if kind in _staying and _staying[kind].process.poll() is not None:
        _staying.pop(kind).close()
    if kind not in _staying:
        _staying[kind] = Ranks(kind)
    return _staying[kind].do(ranks, job, *arguments)


def end_all():
    """End all ranks that stay."""
    while _staying:
        _staying.popitem()[1].close()
