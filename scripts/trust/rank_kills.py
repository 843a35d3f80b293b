"""Kill ranks of a job at random moments, start it again, and compare the bits with those of a job
that nothing disturbed.

Run: python scripts/trust/rank_kills.py --kills 20
"""

from __future__ import annotations

import argparse
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Of each kind of fit the shards, if it is given any. All write a checkpoint every epoch, go on from
# it where there is one, and end with a hash.
KINDS = {"ranks": 0, "shards": 8}
# Every rank leaves its process's number before it begins.
JOB = """
import hashlib, os, sys, warnings
from pathlib import Path
import numpy as np, nbbn, nbbn.distributed
from mpi4py import MPI
warnings.simplefilter("ignore")
comm, folder, shards = MPI.COMM_WORLD, Path(sys.argv[1]), int(sys.argv[2]) or None
rng = np.random.default_rng(0)
X, y = rng.normal(size=(4000, 30)), rng.integers(0, 3, 4000)
model = nbbn.MLPClassifier((40, 20), max_iter=150, tol=0, random_state=0, dropout=0.1,
                           n_iter_no_change=199, checkpoint=folder / "checkpoint")
edges = [0, *(4000 * (3 * k + 1) // (3 * comm.size) for k in range(1, comm.size)), 4000]
mine = slice(edges[comm.rank], edges[comm.rank + 1])
own = folder / f"process.{comm.rank}"
own.with_suffix(".new").write_text(str(os.getpid()))
os.replace(own.with_suffix(".new"), own)
nbbn.distributed.fit(model, X[mine], y[mine], shards=shards)
arrays = [*model.coefs_, *model.running_means_, model.predict_proba(X)]
words = repr(model.loss_curve_).encode() + b"".join(a.tobytes() for a in arrays if a is not None)
found = comm.gather(hashlib.sha256(words).hexdigest())
if comm.rank == 0:
    print("HASH", *sorted(set(found)), flush=True)
"""
# Seconds after which a job that has lost a rank hangs, and one that has not.
ENDS, LASTS = 30, 300


class Job:
    """A job of ranks that fit one model."""

    def __init__(self, launcher: list[str], ranks: int, kind: str, folder: Path):
        self.folder, self.ranks = folder, ranks
        for old in folder.glob("process*"):
            old.unlink()
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        command = [*launcher, "-c", JOB, str(folder), str(KINDS[kind])]
        self._child = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path},
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._found: tuple[int, str] | None = None

    def processes(self) -> list[int]:
        """The ranks' processes, when all have begun."""
        files = [self.folder / f"process.{rank}" for rank in range(self.ranks)]
        until = time.monotonic() + LASTS
        while not all(file.exists() for file in files):
            if self._child.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"the ranks did not begin: {self.ended(0)[1]}")
            time.sleep(0.01)
        return [int(file.read_text()) for file in files]

    def runs(self, seconds: float) -> bool:
        """Whether it still runs after some seconds."""
        try:
            self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    def ended(self, seconds: float) -> tuple[int, str]:
        """Its status, and what it has said; SystemExit where it hangs."""
        if self._found is None:
            try:
                out, errors = self._child.communicate(timeout=seconds)
            except subprocess.TimeoutExpired:
                self._child.kill()
                raise SystemExit(f"a job hangs for {seconds} s") from None
            status = self._child.returncode
            self._found = status, out if status == 0 else errors
        return self._found

    def hash(self) -> str:
        """What it prints at its end."""
        status, said = self.ended(LASTS)
        hashes = [line.split()[1:] for line in said.splitlines() if line.startswith("HASH")]
        if status != 0 or len(hashes) != 1 or len(hashes[0]) != 1:
            raise SystemExit(f"the job failed with status {status}: {said[-2000:]}")
        return hashes[0][0]


def disturbed(job: Job, longest: float, rng: random.Random) -> bool:
    """Whether a rank of a job was killed: the job may have ended before."""
    processes = job.processes()
    if not job.runs(rng.uniform(0.1, 1.0) * longest):
        return False
    try:
        os.kill(rng.choice(processes), signal.SIGKILL)
    except ProcessLookupError:  # it has ended a moment ago
        return False
    status, _ = job.ended(ENDS)
    return status != 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=20, help="how often to kill, in all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="with mpi4py")
    parser.add_argument("--launcher", default="mpiexec", help="what starts it, with its options")
    args = parser.parse_args()
    program, *more = shlex.split(args.launcher)
    beside = Path(args.python).with_name(Path(program).name)
    program = str(beside) if beside.exists() else program
    if shutil.which(program) is None:
        raise SystemExit(f"there is no {program}: pip install mpi4py mpich, or say --launcher")
    launcher = [program, *more, "-n", str(args.ranks), args.python]
    rng, done, fits, kept = random.Random(args.seed), 0, 0, 0
    for number, kind in enumerate(KINDS, 1):
        for _ in ("warm", "whole"):  # the first compiles kernels
            with tempfile.TemporaryDirectory() as folder:
                job = Job(launcher, args.ranks, kind, Path(folder))
                job.processes()
                began = time.perf_counter()
                ref = job.hash()
                longest = time.perf_counter() - began
        while done < args.kills * number // len(KINDS):
            with tempfile.TemporaryDirectory() as folder:
                for _ in range(min(4, args.kills * number // len(KINDS) - done)):
                    job = Job(launcher, args.ranks, kind, Path(folder))
                    if not disturbed(job, longest, rng):
                        break
                    done, kept = done + 1, kept + (Path(folder) / "checkpoint").exists()
                else:
                    job = Job(launcher, args.ranks, kind, Path(folder))
                if job.hash() != ref:
                    raise SystemExit("a fit that was started again gave other bits")
            fits += 1
    print(f"{done} kills of a rank of {args.ranks} over {fits} fits, {kept} of them after "
          "a checkpoint: every fit ended with the bits of an undisturbed one")


if __name__ == "__main__":
    main()
