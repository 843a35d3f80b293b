"""Programs ready to run: the only way from Python into the executor."""

from __future__ import annotations

import numpy as np

from nbbn import runtime
from nbbn.kernels import executor
from nbbn.kernels.registry import BASES, CONTEXT_WORDS
from nbbn.kernels.team import TEAM_BYTES
from nbbn.program.layout import aligned_bytes
from nbbn.program.program import Segment


class Steps:
    """A training program ready to run: its table, its working memory, a context for each thread."""

    def __init__(self, program, source: np.dtype, params: np.ndarray):
        self.table = program.table(source)
        self.parallelism = program.parallelism
        self.params = params
        self.work = aligned_bytes(program.sizes.get(Segment.WORK, 0))
        self._private_bytes = program.sizes.get(Segment.PRIVATE, 0)
        self._private: list[np.ndarray] = []  # one piece a thread, made when a run first asks for so many

    def run(self, steps: np.ndarray, arrays: dict[Segment, np.ndarray], threads: int) -> None:
        """Run one step for each row of `steps`: rows, first row, step number; rate, shrink and mass (a float64's bits).

        Parameters
        ----------
        steps : ndarray of int64, shape (n, 6)
        arrays : dict
            The caller's array of each segment that the program does not own, C-contiguous.
        threads : int
            How many to use; fewer where not so many can be had.
        """
        threads = runtime.usable_threads(threads)
        contexts = np.zeros((threads, CONTEXT_WORDS), np.int64)
        for segment, array in {Segment.PARAMS: self.params, Segment.WORK: self.work, **arrays}.items():
            contexts[:, BASES + segment] = array.ctypes.data
        while len(self._private) < threads:
            self._private.append(aligned_bytes(self._private_bytes))
        contexts[:, BASES + Segment.PRIVATE] = [piece.ctypes.data for piece in self._private[:threads]]
        team = aligned_bytes(TEAM_BYTES)
        call = (
            self.table.ctypes.data,
            *self.table.shape,
            steps.ctypes.data,
            len(steps),
            contexts.ctypes.data,
            team.ctypes.data,
        )
        if threads == 1:
            executor.run_alone(*call)
        else:
            runtime.run_parallel(threads, executor.run_team, *call)


# Below so many multiply-adds a second thread costs more than it brings (about 10 us of work).
_WORTH_A_TEAM = 1 << 20
# Rows of another dtype or layout that are converted at a time.
_CONVERTED_ROWS = 4096


class Blocks:
    """An inference program ready to run on any number of rows, from any number of Python threads at once."""

    def __init__(self, program, params: np.ndarray, outputs: int, block: int, work_per_row: int, in_tiles: bool):
        self.table = program.table()
        self.dtype = program.dtype
        self.params = params
        self.outputs, self.block, self._work_per_row = outputs, block, work_per_row
        self._work, self.in_tiles = program.sizes.get(Segment.WORK, 0), in_tiles

    def run(self, x: np.ndarray) -> np.ndarray:
        """Outputs for numeric rows of any shape, a row each."""
        rows = len(x)
        if x.ndim != 2:
            x = x.reshape(rows, -1)
        out = np.empty((rows, self.outputs), self.dtype)
        if x.dtype == self.dtype and x.flags.carray:
            self._fill(x, out)
            return out
        for first in range(0, rows, _CONVERTED_ROWS):
            part = slice(first, first + _CONVERTED_ROWS)
            self._fill(np.array(x[part], self.dtype, order="C"), out[part])
        return out

    def _fill(self, x: np.ndarray, out: np.ndarray) -> None:
        """Outputs into `out`; both C-contiguous, aligned, writeable (or Numba would compile anew) and of the program's dtype."""
        rows = len(x)
        threads = 1
        if rows * self._work_per_row > _WORTH_A_TEAM:
            threads = runtime.usable_threads(min(runtime.get_num_threads(), rows))
        if threads == 1:
            executor.run_blocks_alone(self.table, self.params, x, out, self._work, self.block)
        else:
            # Two blocks a thread at least, so that all finish together, in whole tiles; of few images one.
            block = max(8, -(-rows // (2 * threads)) // 8 * 8) if self.in_tiles else -(-rows // threads)
            block = min(self.block, block)
            runtime.run_parallel(threads, executor.run_blocks, self.table, self.params, x, out, self._work, block)


def blocks_of(lowered, memory: np.ndarray) -> Blocks:
    """The runnable form of an `InferenceProgram` over a parameter segment."""
    return Blocks(lowered.program, memory, lowered.outputs, lowered.block, lowered.work_per_row, lowered.in_tiles)


def call_program(table: np.ndarray, x, y, out, gamma, beta, state, work_bytes: int, parallel: bool) -> None:
    """Run a program once on flat arrays of the caller's; `state` is its parameter segment."""
    threads = runtime.usable_threads(runtime.get_num_threads()) if parallel else 1
    if threads == 1:
        executor.run_call_alone(table, x, y, out, gamma, beta, state, work_bytes)
    else:
        runtime.run_parallel(threads, executor.run_call, table, x, y, out, gamma, beta, state, work_bytes)
