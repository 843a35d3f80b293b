"""Threads and forks: how many threads a call uses, and the one parallel region at a time.

Nothing here imports numba before a call needs it.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbbn import compiler, quota
from nbbn.version import __version__

_local = threading.local()
_default: int | None = None
# One parallel region at a time: two teams at once on the same cores wait for each other's time
# slices (ten times slower), and Numba's workqueue layer aborts.
_parallel = threading.Lock()
_used_threads = False
_serial_only = False
_warned = False


@functools.cache
def _limit() -> int:
    """The most threads: Numba's, or one without it, as NumPy's are not ours to count."""
    if not compiler.available():
        return 1
    import numba
    return numba.config.NUMBA_NUM_THREADS


def _positive(n: object) -> int:
    if isinstance(n, bool) or not isinstance(n, int | np.integer):
        raise TypeError(f"the number of threads must be an int, got {n!r}")
    if n < 1:
        raise ValueError(f"the number of threads must be at least 1, got {n}")
    return int(n)


def set_num_threads(n: int) -> None:
    """Set how many threads every later call may use.

    Parameters
    ----------
    n : int
        At least 1. Results do not depend on it. More than Numba's own limit are not started: that
        is NUMBA_NUM_THREADS, by default one for each core.

    Warns
    -----
    UserWarning
        For more than that.

    Examples
    --------
    >>> import nbbn
    >>> nbbn.set_num_threads(1)
    >>> nbbn.get_num_threads()
    1
    """
    global _default
    _default = _positive(n)
    if n > (most := _most()):
        warnings.warn(f"set_num_threads({n}): calls use {most}, as many as there are cores, or as "
                      "the environment variable NUMBA_NUM_THREADS said when Python started",
                      stacklevel=2)


def _most() -> int:
    """`_limit`, without importing numba for it."""
    if "numba" in sys.modules and compiler.available():
        return _limit()
    told = os.environ.get("NUMBA_NUM_THREADS", "")
    if told.isdigit() and int(told):
        return int(told)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@functools.cache
def _cores() -> int:
    """Threads where nobody says how many: no more than a CPU quota gives cores."""
    return min(_limit(), quota.cores() or _limit())


def get_num_threads() -> int:
    """How many threads a call from this thread uses.

    Examples
    --------
    >>> import nbbn
    >>> nbbn.get_num_threads() >= 1
    True
    """
    wanted = getattr(_local, "threads", None) or _default
    if wanted is not None:
        return min(wanted, _limit())
    if _serial_only or not _started():
        # Asking Numba starts its threads, and so does changing their number: before either there is
        # nothing to ask.
        return _cores()
    from numba import get_num_threads as numbas_own
    return min(numbas_own(), _cores())


@contextlib.contextmanager
def num_threads(n: int | None) -> Iterator[None]:
    """Within the block, calls from this thread use `n` threads; None changes nothing.

    Examples
    --------
    >>> import nbbn
    >>> with nbbn.num_threads(1):
    ...     nbbn.get_num_threads()
    ...
    1
    """
    before = getattr(_local, "threads", None)
    _local.threads = before if n is None else _positive(n)
    try:
        yield
    finally:
        _local.threads = before


def run_parallel(threads: int, function: Callable[..., Any], *args: Any) -> None:
    """Call a parallel function with `threads` of Numba's; its own setting is restored."""
    with _parallel:
        _run(threads, function, args)


def run_if_free(threads: int, function: Callable[..., Any], *args: Any) -> bool:
    """`run_parallel`, unless another call's region is running; whether it was run."""
    if not _parallel.acquire(blocking=False):
        return False
    try:
        _run(threads, function, args)
    finally:
        _parallel.release()
    return True


def _run(threads: int, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    import numba
    global _used_threads
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
    if "numba" not in sys.modules:
        return False
    from numba.np.ufunc import parallel
    return _used_threads or bool(parallel._is_initialized)


def _after_fork_in_child() -> None:
    global _parallel, _serial_only, _warned
    _parallel = threading.Lock()
    if (registry := sys.modules.get("nbbn.kernels.registry")) is not None:
        registry.renew_lock()
    _serial_only, _warned = _started(), False


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def usable_threads(threads: int) -> int:
    """1 in a child forked after threads started: they did not come along; OpenMP would abort."""
    global _warned
    if not _serial_only:
        return threads
    if not _warned and threads > 1:
        warnings.warn("this process was forked from one that ran nbbn on several threads: it uses "
                      "one thread", stacklevel=3)
        _warned = True
    return 1


class Config(str):
    """Lines of text that a notebook, where they are printed already, does not show once more."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "<the lines above>"

    def _ipython_display_(self) -> None:
        """Nothing."""


def show_config() -> str:
    """Print and return versions, threads, SIMD width and the kernel cache's folder, a line each.

    Examples
    --------
    >>> import nbbn
    >>> text = nbbn.show_config()                            # doctest: +ELLIPSIS
    nbbn ..., numpy ..., scikit-learn ...
    """
    import sklearn
    versions = f"nbbn {__version__}, numpy {np.__version__}, scikit-learn {sklearn.__version__}"
    text = "\n".join([versions, *_compiler_config()])
    print(text)
    return Config(text)


def _compiler_config() -> list[str]:
    if (reason := compiler.why_not()) is not None:
        return [f"no compiled kernels: {reason}", "inference runs on NumPy, training does not"]
    import llvmlite
    import numba

    from nbbn.kernels import cache, simd
    idle = f"not started (NUMBA_THREADING_LAYER={numba.config.THREADING_LAYER})"
    layer = numba.threading_layer() if _used_threads else idle
    return [
        f"numba {numba.__version__}, llvmlite {llvmlite.__version__}",
        f"threads: {get_num_threads()}, threading layer: {layer}",
        f"SIMD: {8 * simd.VECTOR_BYTES}-bit vectors, {simd.REGISTERS} registers",
        f"kernel cache: {cache.cache_folder() or 'none'}",
    ]
