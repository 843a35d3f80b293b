"""The machine as it is: what a meeting of so many threads takes, measured once."""

from __future__ import annotations

import functools
import time
from dataclasses import replace

import numba
import numpy as np

from nbbn import runtime
from nbbn.kernels import executor
from nbbn.kernels.registry import CONTEXT_WORDS
from nbbn.kernels.team import TEAM_BYTES
from nbbn.program.costs import HERE, Machine
from nbbn.program.layout import aligned_bytes
from nbbn.program.program import Program

# Meetings of a run, and runs, the fastest of which counts: others may have had to wait for a core.
_MEETINGS, _RUNS = 100, 5
# Seconds that are believed. Where a thread has no core of its own no run says what a meeting takes.
_MOST = 5e-6


@functools.cache
def machine(threads: int) -> Machine:
    """This machine for a team of threads."""
    if threads == 1 or threads > numba.config.NUMBA_NUM_THREADS:
        return HERE
    seconds = _seconds(threads)
    return replace(HERE, barrier=seconds, arrival=0.0) if seconds < _MOST else HERE


def _seconds(threads: int) -> float:
    """Of one meeting."""
    program = Program(np.dtype(np.float32), in_step=True)
    program.add("meet")
    table = program.table()
    steps = np.zeros((_MEETINGS, executor.STEP_WORDS), np.int64)
    contexts = np.zeros((threads, CONTEXT_WORDS), np.int64)
    best = np.inf
    for run in range(_RUNS):
        team = aligned_bytes(TEAM_BYTES)
        began = time.perf_counter()
        runtime.run_parallel(threads, executor.run_team, table.ctypes.data, *table.shape,
                             steps[run % 2 :].ctypes.data, _MEETINGS - run % 2,
                             contexts.ctypes.data, team.ctypes.data)
        best = min(best, time.perf_counter() - began)
    return best / _MEETINGS
