"""MPI's ranks on Dask's workers: `mpiexec` here, whose proxies the workers run.

Whatever dies, the job ends: ranks are killed with their proxies, proxies with their workers,
`mpiexec` with this process, and it is the one thing that is waited for.
"""

from __future__ import annotations

import functools
import os
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from nbbn.dask import tasks

# Seconds that `mpiexec` has to end by itself after a worker or a proxy has gone.
GRACE = 10.0
# Seconds in which Dask notices that a worker has gone.
NOTICED = 2.0
_LAUNCH, _END = "HYDRA_LAUNCH: ", "HYDRA_LAUNCH_END"


class Job:
    """What a fit keeps on the workers, and asks of them.

    Parameters
    ----------
    client : distributed.Client
    """

    def __init__(self, client: Any):
        self.client = client

    def check_alive(self, workers: list[str]) -> None:
        """RuntimeError where a worker has gone."""
        there = self.client.nthreads()
        gone = [worker for worker in workers if worker not in there]
        if gone:
            raise RuntimeError(f"Dask's worker {', '.join(gone)} has gone, with its rows: call fit "
                               "again")

    def results(self, function: Callable[..., Any], arguments: dict[str, tuple[Any, ...]]
                ) -> dict[str, Any]:
        """What a function gives on each worker; never waits for a worker that has gone."""
        from distributed import TimeoutError as Later

        futures = {worker: self.on(worker, function, *given) for worker, given in arguments.items()}
        found: dict[str, Any] = {}
        while len(found) < len(futures):
            for worker in futures.keys() - found.keys():
                try:
                    found[worker] = futures[worker].result(timeout=1)
                except Later:
                    if futures[worker].status == "error":
                        raise
                    self.check_alive(list(futures))
        return {worker: found[worker] for worker in futures}

    def on(self, worker: str, function: Callable[..., Any], *given: Any) -> Any:
        """A task on a worker and no other."""
        return self.client.submit(function, *given, workers=[worker], allow_other_workers=False,
                                  pure=False)


@functools.cache
def mpiexec() -> str:
    """MPICH's; RuntimeError where there is none."""
    beside = Path(sys.executable).with_name("mpiexec")
    found = str(beside) if beside.exists() else shutil.which("mpiexec")
    if sys.platform != "linux":
        raise RuntimeError("nbbn.dask.fit needs Linux, where processes can be tied to others; "
                           "elsewhere use nbbn.distributed.fit in a script of ranks")
    if found is None:
        raise RuntimeError("there is no mpiexec: pip install mpi4py mpich, here and on the workers")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False)
    if "HYDRA" not in said.stdout:
        raise RuntimeError(f"{found} is not MPICH's, whose ranks others can start: pip install "
                           "mpich, here and on the workers")
    return found


def host(worker: str) -> str:
    """The host in a worker's address."""
    return urlparse(worker).hostname or worker


def run(job: Job, hosts: dict[str, list[str]], program: list[str], *, shown: bool) -> str:
    """Run a Python program as a rank for each worker; what its ranks have printed.

    Parameters
    ----------
    job : Job
    hosts : dict
        The workers of each host: the first one runs the host's proxy.
    program : list of str
        Arguments of Python.
    shown : bool
        Print what the ranks print.

    Raises
    ------
    RuntimeError
        Where the job ends otherwise than well.
    """
    ranks = sum(map(len, hosts.values()))
    names = ",".join(f"{name}:{len(workers)}" for name, workers in hosts.items())
    # Ranks begin with what ties them to their proxies.
    rank = [sys.executable, tasks.TIED, "0", sys.executable, "-m", "mpi4py", *program]
    command = [mpiexec(), "-launcher", "manual", "-hosts", names, "-n", str(ranks), *rank]
    tied = [sys.executable, tasks.TIED, str(os.getpid()), *command]
    process = subprocess.Popen(tied, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, text=True, errors="replace",
                               start_new_session=True)
    proxies: list[Any] = []
    text: deque[str] = deque(maxlen=200)
    reader = threading.Thread(target=_read, args=(process, text, shown), daemon=True)
    try:
        firsts = [workers[0] for workers in hosts.values()]
        for worker, words in zip(firsts, _proxies(process, len(firsts))):
            proxies.append(job.on(worker, tasks.run_proxy, words))
        reader.start()
        why = _wait(job, process, proxies, firsts)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        if reader.ident is not None:
            reader.join()  # nobody holds the other end any more
        assert process.stdout is not None
        process.stdout.close()
        if proxies:
            job.client.cancel(proxies, force=True)
    if process.returncode or why:
        raise RuntimeError(f"{why or 'the ranks have failed'} (mpiexec ended with "
                           f"{process.returncode}):\n{''.join(text)[-4000:]}")
    return "".join(text)


def _proxies(process: subprocess.Popen[str], hosts: int) -> list[list[str]]:
    """The commands that `mpiexec` wants to be run, host by host."""
    found, other = {}, []
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith(_END):
            break
        if line.startswith(_LAUNCH):
            words = shlex.split(line.removeprefix(_LAUNCH))
            found[int(words[words.index("--proxy-id") + 1])] = words
        else:
            other.append(line)
    if sorted(found) != list(range(hosts)):
        raise RuntimeError(f"mpiexec has started {len(found)} of {hosts} proxies:\n"
                           + "".join(other))
    return [found[number] for number in range(hosts)]


def _read(process: subprocess.Popen[str], text: deque[str], shown: bool) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        text.append(line)
        if shown:
            print(line, end="", flush=True)


def _wait(job: Job, process: subprocess.Popen[str], proxies: list[Any], workers: list[str]) -> str:
    """Wait for `mpiexec` alone: what was amiss, where it did not end by itself."""
    until, why = float("inf"), ""
    asked = time.monotonic()
    while process.poll() is None:
        time.sleep(0.05)
        now = time.monotonic()
        if not why and now > asked + 1:
            asked, why = now, _amiss(job, proxies, workers)
            until = now + GRACE if why else until
        if now > until:
            process.kill()
            process.wait()
            return why
    if not process.returncode:
        return ""
    until = time.monotonic() + NOTICED
    while not why and time.monotonic() < until:  # Dask learns later that a worker has gone
        time.sleep(0.2)
        why = _gone(job, workers)
    return why


def _gone(job: Job, workers: list[str]) -> str:
    try:
        job.check_alive(workers)
    except RuntimeError as error:
        return str(error)
    return ""


def _amiss(job: Job, proxies: list[Any], workers: list[str]) -> str:
    if why := _gone(job, workers):
        return why
    states = [future.status for future in proxies]
    failed = [future for future, state in zip(proxies, states) if state == "error"]
    if failed:
        return str(failed[0].exception())
    return "" if "pending" in states else "all proxies of mpiexec have ended"
