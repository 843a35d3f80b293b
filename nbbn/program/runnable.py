"""Programs ready to run: the only way from Python into the executor."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Sequence

import numpy as np

from nbbn import runtime
from nbbn.kernels import executor
from nbbn.kernels.executor import STEP_WORDS
from nbbn.kernels.registry import BASES, CONTEXT_WORDS
from nbbn.kernels.team import TEAM_BYTES
from nbbn.program.costs import step_seconds
from nbbn.program.inference import InferenceProgram
from nbbn.program.layout import aligned_bytes
from nbbn.program.measured import machine
from nbbn.program.program import ALIGNMENT, Program, Segment
from nbbn.program.splits import split
from nbbn.sparse_rows import SparseRows
from nbbn.thread_choice import CallChoice


class TrainingRun:
    """A training program ready to run: its table, its working memory, a context for each thread.

    Parameters
    ----------
    program : Program
    source : numpy.dtype
        Of the caller's rows.
    params : ndarray of uint8
        Its parameter segment.
    rows : int
        The largest batch.
    """

    def __init__(self, program: Program, source: np.dtype, params: np.ndarray, rows: int):
        self._program, self._source, self._rows = program, source, rows
        # By number of threads: each splits matrix products in its own way.
        self._tables: dict[int, np.ndarray] = {}
        self._worth: dict[int, int] = {}
        self.params = params
        self.work = aligned_bytes(program.sizes.get(Segment.WORK, 0))
        self._private_bytes = program.sizes.get(Segment.PRIVATE, 0)
        # One piece a thread, made when a run first asks for so many.
        self._private: list[np.ndarray] = []

    def run(self, steps: np.ndarray, arrays: dict[Segment, np.ndarray], threads: int,
            outside: Sequence[tuple[int, Callable[[np.ndarray], None]]] = ()) -> None:
        """Run one step for each row of `steps`.

        Parameters
        ----------
        steps : ndarray of int64, shape (n, 7)
            Rows, first row, step number; rate, shrink and mass as a float64's bits; rows of the
            whole batch.
        arrays : dict
            The caller's array of each segment that the program does not own, C-contiguous.
        threads : int
            How many to use; fewer where not so many can be had.
        outside : sequence of (int, callable)
            Operations at which each step is left, ascending, and what is called there, with the
            step's row of `steps`.
        """
        threads = runtime.usable_threads(threads)
        contexts = np.zeros((threads, CONTEXT_WORDS), np.int64)
        own = {Segment.PARAMS: self.params, Segment.WORK: self.work}
        for segment, array in {**own, **arrays}.items():
            contexts[:, BASES + segment] = array.ctypes.data
        while len(self._private) < threads:
            self._private.append(aligned_bytes(self._private_bytes))
        contexts[:, BASES + Segment.PRIVATE] = [
            piece.ctypes.data for piece in self._private[:threads]
        ]
        table = self.table(threads)
        if not outside:
            self._run(table, steps, contexts, threads)
            return
        # Whoever leaves a part has done with it, so the barriers of the next one are enough.
        starts = [0, *(operation + 1 for operation, _ in outside)]
        ends = [*(operation for operation, _ in outside), len(table)]
        calls = [*(call for _, call in outside), None]
        for k in range(len(steps)):
            for start, end, call in zip(starts, ends, calls):
                if end > start:
                    self._run(table[start:end], steps[k : k + 1], contexts, threads)
                if call is not None:
                    call(steps[k])

    @staticmethod
    def _run(table: np.ndarray, steps: np.ndarray, contexts: np.ndarray, threads: int) -> None:
        """All operations of a table, in each step."""
        team = aligned_bytes(TEAM_BYTES)
        call = (table.ctypes.data, *table.shape, steps.ctypes.data, len(steps),
                contexts.ctypes.data, team.ctypes.data)
        if threads == 1:
            executor.run_alone(*call)
        else:
            runtime.run_parallel(threads, executor.run_team, *call)

    def compile(self) -> None:
        """Compile what one thread's run takes, which is all but the team's executor."""
        self.run(np.empty((0, STEP_WORDS), np.int64), {}, 1)

    def table(self, threads: int) -> np.ndarray:
        """The program as the executor reads it on a team of threads."""
        if threads not in self._tables:
            program = split(self._program, self._rows, threads, machine(threads))
            self._tables[threads] = program.table(self._source)
        return self._tables[threads]

    def worth(self, threads: int) -> int:
        """As many of `threads` as make a step fast: they, half of them, a quarter and so on."""
        if threads not in self._worth:
            teams = [min(threads, self._program.parallelism(self._rows))]
            while teams[-1] > 3:
                teams.append(teams[-1] // 2)
            self._worth[threads] = min(teams, key=self._predicted) if teams[1:] else teams[0]
        return self._worth[threads]

    def _predicted(self, threads: int) -> float:
        """Seconds of a step, as far as the costs tell."""
        here = machine(threads)
        program = split(self._program, self._rows, threads, here)
        return step_seconds(program, self._rows, threads, here)


# Below so many multiply-adds a second thread costs more than it brings (about 10 us of work).
_WORTH_A_TEAM = 1 << 20
# Rows that are multiplied at once, and how uneven shares of whole rows may be, busiest over mean.
_TILE, _UNEVEN = 8, 1.15
# Rows of another dtype or layout that are converted at a time.
_CONVERTED_ROWS = 4096


class InferenceRun:
    """An inference program ready for any number of rows, from any number of Python threads at once.

    Parameters
    ----------
    lowered : InferenceProgram
    params : ndarray of uint8
        Its parameter segment.
    """

    def __init__(self, lowered: InferenceProgram, params: np.ndarray):
        self.table = lowered.program.table()
        self.dtype = lowered.program.dtype
        self.params = params
        self.outputs, self.block = lowered.outputs, lowered.block
        self._work_per_row, self.in_tiles = lowered.work_per_row, lowered.in_tiles
        self._work = lowered.program.sizes.get(Segment.WORK, 0)
        self._choice = CallChoice()
        # By number of pieces: memory that no call works in just now.
        self._memory: dict[int, list[np.ndarray]] = {}
        self._lowered = lowered
        self._sparse: SparseInferenceRun | None = None  # made when first asked for

    def run(self, x: np.ndarray | SparseRows) -> np.ndarray:
        """Outputs for numeric rows of any shape, a row each."""
        if isinstance(x, SparseRows):
            return self._run_sparse(x)
        rows = len(x)
        if x.ndim != 2:
            x = x.reshape(rows, math.prod(x.shape[1:]))
        out = np.empty((rows, self.outputs), self.dtype)
        if x.dtype == self.dtype and x.flags.c_contiguous and x.flags.aligned:
            self._fill(x, out)
            return out
        for first in range(0, rows, _CONVERTED_ROWS):
            part = slice(first, first + _CONVERTED_ROWS)
            self._fill(np.array(x[part], self.dtype, order="C"), out[part])
        return out

    def _run_sparse(self, x: SparseRows) -> np.ndarray:
        if self._sparse is None and (lowered := self._lowered.of_stored_elements()):
            self._sparse = SparseInferenceRun(lowered, self.params)
        if self._sparse is not None:
            return self._sparse.run(x)
        return np.concatenate([np.empty((0, self.outputs), self.dtype),
                               *(self.run(part) for part in x.dense_parts())])

    def _fill(self, x: np.ndarray, out: np.ndarray) -> None:
        """Outputs into `out`; both of the program's dtype, C-contiguous and aligned."""
        rows, threads = len(x), 1
        work = rows * self._work_per_row
        if work > _WORTH_A_TEAM:
            threads = min(runtime.get_num_threads(), -(-work // _WORTH_A_TEAM))
            threads = runtime.usable_threads(threads)
        if threads == 1:
            self._fill_alone(x, out)
            return
        began = time.perf_counter()
        team = self._choice.next(rows) and self._fill_on_team(x, out, threads)
        if not team:
            self._fill_alone(x, out)
        self._choice.note(rows, team, time.perf_counter() - began)

    def _fill_alone(self, x: np.ndarray, out: np.ndarray) -> None:
        memory = self._memory_for(1)
        executor.run_blocks_alone(*self._arrays(self.table), id(x), x.strides[0], id(out),
                                  out.strides[0], len(x), self._work, id(memory), self.block)
        self._memory[1].append(memory)

    def _memory_for(self, pieces: int) -> np.ndarray:
        """Memory for one call, which gives it back behind it."""
        kept = self._memory.setdefault(pieces, [])
        try:
            return kept.pop()
        except IndexError:
            return np.empty(executor.memory_bytes(self._work, pieces), np.uint8)

    def _arrays(self, table: np.ndarray) -> tuple[int, ...]:
        """The first arguments of the executor."""
        return id(table), *table.shape, id(self.params)

    def _fill_on_team(self, x: np.ndarray, out: np.ndarray, threads: int) -> bool:
        """`_fill` on several threads; whether they were free."""
        rows = len(x)
        if self._shares_rows(rows, threads):
            return self._fill_together(x, out, threads)
        block = -(-rows // threads)
        if self.in_tiles:
            # Two blocks a thread at least, so that all finish together, in whole tiles.
            block = max(_TILE, -(-rows // (2 * threads)) // _TILE * _TILE)
        memory = self._memory_for(threads)
        done = runtime.run_if_free(threads, executor.run_blocks, *self._arrays(self.table), id(x),
                                   x.strides[0], id(out), out.strides[0], rows, self._work,
                                   id(memory), min(self.block, block))
        self._memory[threads].append(memory)
        return done

    def _fill_together(self, x: np.ndarray, out: np.ndarray, threads: int) -> bool:
        """`_fill` with all threads on one block of rows."""
        pieces = threads + 1 if self._lowered.writes_apart else 1
        memory = self._memory_for(pieces)
        done = runtime.run_if_free(threads, executor.run_together,
                                   *self._arrays(self.shared_table), id(x), id(out), len(x),
                                   self._work, id(memory))
        self._memory[pieces].append(memory)
        return done

    def _shares_rows(self, rows: int, threads: int) -> bool:
        """Whether blocks of rows would leave threads without work, of rows that all can share."""
        if rows > self.block:
            return False
        if self.in_tiles:
            return rows <= _TILE * threads // 2
        return -(-rows // threads) * threads > _UNEVEN * rows

    @functools.cached_property
    def shared_table(self) -> np.ndarray:
        """The program as all threads walk it together on one block of rows."""
        return self._lowered.together().table(repeats=False)


class SparseInferenceRun:
    """An inference program of rows of stored elements, ready as `InferenceRun`."""

    def __init__(self, lowered: InferenceProgram, params: np.ndarray):
        self.params = params
        self._table, self._dtype = lowered.program.table(), lowered.program.dtype
        self._outputs, self._block = lowered.outputs, lowered.block
        self._work_per_row, self._work_per_element = lowered.work_per_row, lowered.work_per_element
        self._work = -(-lowered.program.sizes.get(Segment.WORK, 0) // ALIGNMENT) * ALIGNMENT
        self._choice = CallChoice()

    def run(self, x: SparseRows) -> np.ndarray:
        """Outputs for rows."""
        rows, x = len(x), x.astype(self._dtype)
        out = np.empty((rows, self._outputs), self._dtype)
        threads = 1
        if rows * self._work_per_row + x.stored * self._work_per_element > _WORTH_A_TEAM:
            threads = runtime.usable_threads(min(runtime.get_num_threads(), rows))
        order, counter = np.arange(rows), np.zeros(1, np.int64)
        contexts = np.zeros((threads, CONTEXT_WORDS), np.int64)
        for segment, array in ((Segment.X_COLUMNS, x.columns), (Segment.X_STARTS, x.starts),
                               (Segment.ORDER, order)):
            contexts[:, BASES + segment] = array.ctypes.data
        work = aligned_bytes(threads * self._work)
        # Two blocks a thread at least, so that all finish together.
        block = max(1, min(self._block, -(-rows // (2 * threads))))
        call = (self._table.ctypes.data, *self._table.shape, self.params.ctypes.data,
                x.values.ctypes.data, out.ctypes.data, out.strides[0], rows, block,
                work.ctypes.data, self._work, contexts.ctypes.data, counter.ctypes.data)
        began, team = time.perf_counter(), threads > 1 and self._choice.next(rows)
        if team:
            team = runtime.run_if_free(threads, executor.run_sparse_blocks, *call)
        if not team:
            executor.run_sparse_blocks_alone(*call, 1)
        if threads > 1:
            self._choice.note(rows, team, time.perf_counter() - began)
        return out


def call_program(table: np.ndarray, x: np.ndarray, y: np.ndarray, out: np.ndarray,
                 gamma: np.ndarray, beta: np.ndarray, state: np.ndarray, work_bytes: int,
                 choice: CallChoice | None) -> None:
    """Run a program once on arrays of the caller's, C-contiguous and aligned.

    `state` is the program's parameter segment. On several threads where there is a `choice` to ask.
    """
    call = (id(table), *table.shape, id(x), id(y), id(out), id(gamma), id(beta), id(state),
            work_bytes)
    threads = 1 if choice is None else runtime.usable_threads(runtime.get_num_threads())
    if choice is None or threads == 1:
        executor.run_call_alone(*call)
        return
    began, team = time.perf_counter(), choice.next(x.size)
    team = team and runtime.run_if_free(threads, executor.run_call, *call)
    if not team:
        executor.run_call_alone(*call)
    choice.note(x.size, team, time.perf_counter() - began)
