"""Threads, forks, and running programs: the only way from Python into the executor."""

from __future__ import annotations

import contextlib
import os
import threading
import warnings

import numba
import numpy as np

from nbbn.kernels import executor, registry
from nbbn.kernels.registry import BASES, CONTEXT_WORDS
from nbbn.kernels.team import TEAM_BYTES
from nbbn.program.layout import aligned_bytes
from nbbn.program.program import Segment

_LIMIT = numba.config.NUMBA_NUM_THREADS
_local = threading.local()
_default: int | None = None
# One parallel region at a time: two teams at once on the same cores wait for each other's time slices (ten times slower), and
# Numba's workqueue layer aborts.
_parallel = threading.Lock()
_used_threads = False
_serial_only = False


def _positive(n) -> int:
    if isinstance(n, bool) or not isinstance(n, (int, np.integer)):
        raise TypeError(f"the number of threads must be an int, got {n!r}")
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, got {n}")
    return int(n)


def set_num_threads(n: int) -> None:
    """Set how many threads every later call may use; more than Numba's own limit (`NUMBA_NUM_THREADS`) are not started.

    Parameters
    ----------
    n : int
        At least 1. Results do not depend on it.
    """
    global _default
    _default = _positive(n)


def get_num_threads() -> int:
    """How many threads a call from this thread uses."""
    wanted = getattr(_local, "threads", None) or _default
    if wanted is None and not _serial_only and _started():
        # Asking Numba starts its threads, and so does changing their number: before either there is nothing to ask.
        wanted = numba.get_num_threads()
    return min(wanted or _LIMIT, _LIMIT)


@contextlib.contextmanager
def num_threads(n: int | None):
    """Within the block, calls from this thread use `n` threads; None changes nothing."""
    before = getattr(_local, "threads", None)
    _local.threads = before if n is None else _positive(n)
    try:
        yield
    finally:
        _local.threads = before


def _run_on(threads: int, function, *args) -> None:
    """Call a parallel function with `threads` of Numba's threads; Numba's own setting is restored."""
    global _used_threads
    with _parallel:
        _used_threads = True
        before = numba.get_num_threads()
        if before == threads:
            function(*args, threads)
            return
        numba.set_num_threads(threads)
        try:
            function(*args, threads)
        finally:
            numba.set_num_threads(before)


def _started() -> bool:
    """Whether Numba's threads run, whoever started them."""
    from numba.np.ufunc import parallel

    return _used_threads or bool(parallel._is_initialized)


def _after_fork_in_child() -> None:
    global _parallel, _serial_only
    _parallel = threading.Lock()
    registry.renew_lock()
    _serial_only = _started()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def usable_threads(threads: int) -> int:
    """1 in a child forked after threads were started: they did not come along, and OpenMP would abort."""
    global _serial_only
    if not _serial_only:
        return threads
    if _serial_only is True and threads > 1:
        warnings.warn("this process was forked from one that ran nbbn on several threads: it uses one thread", stacklevel=3)
        _serial_only = "warned"
    return 1


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
        threads = usable_threads(threads)
        contexts = np.zeros((threads, CONTEXT_WORDS), np.int64)
        for segment, array in {Segment.PARAMS: self.params, Segment.WORK: self.work, **arrays}.items():
            contexts[:, BASES + segment] = array.ctypes.data
        while len(self._private) < threads:
            self._private.append(aligned_bytes(self._private_bytes))
        contexts[:, BASES + Segment.PRIVATE] = [piece.ctypes.data for piece in self._private[:threads]]
        team = aligned_bytes(TEAM_BYTES)
        call = (self.table.ctypes.data, *self.table.shape, steps.ctypes.data, len(steps), contexts.ctypes.data, team.ctypes.data)
        if threads == 1:
            executor.run_alone(*call)
        else:
            _run_on(threads, executor.run_team, *call)


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
            threads = usable_threads(min(get_num_threads(), rows))
        if threads == 1:
            executor.run_blocks_alone(self.table, self.params, x, out, self._work, self.block)
        else:
            # Two blocks a thread at least, so that all finish together, in whole tiles; of few images one.
            block = max(8, -(-rows // (2 * threads)) // 8 * 8) if self.in_tiles else -(-rows // threads)
            block = min(self.block, block)
            _run_on(threads, executor.run_blocks, self.table, self.params, x, out, self._work, block)


def blocks_of(lowered, memory: np.ndarray) -> Blocks:
    """The runnable form of an `InferenceProgram` over a parameter segment."""
    return Blocks(lowered.program, memory, lowered.outputs, lowered.block, lowered.work_per_row, lowered.in_tiles)


def call_program(table: np.ndarray, x, y, out, gamma, beta, state, work_bytes: int, parallel: bool) -> None:
    """Run a program once on flat arrays of the caller's; `state` is its parameter segment."""
    threads = usable_threads(get_num_threads()) if parallel else 1
    if threads == 1:
        executor.run_call_alone(table, x, y, out, gamma, beta, state, work_bytes)
    else:
        _run_on(threads, executor.run_call, table, x, y, out, gamma, beta, state, work_bytes)


def show_config() -> str:
    """Print and return versions, threads, SIMD width and the kernel cache's folder, a line each."""
    import llvmlite
    import sklearn

    from nbbn import __version__
    from nbbn.kernels import cache, simd

    layer = numba.threading_layer() if _used_threads else f"not started (NUMBA_THREADING_LAYER={numba.config.THREADING_LAYER})"
    lines = [
        f"nbbn {__version__}, numba {numba.__version__}, llvmlite {llvmlite.__version__}, "
        f"numpy {np.__version__}, scikit-learn {sklearn.__version__}",
        f"threads: {get_num_threads()}, threading layer: {layer}",
        f"SIMD: {8 * simd.VECTOR_BYTES}-bit vectors, {simd.REGISTERS} registers",
        f"kernel cache: {cache.cache_folder() or 'none'}",
    ]
    text = "\n".join(lines)
    print(text)
    return text
