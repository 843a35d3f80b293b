"""MPI by mpi4py, and its functions and handles as words of a program's row."""

from __future__ import annotations

import ctypes
from typing import Any

from nbbn.program.shards import Calls


def mpi() -> Any:
    """mpi4py's MPI; ImportError that says what to install."""
    try:
        from mpi4py import MPI
    except ImportError as err:
        raise ImportError("nbbn.distributed needs mpi4py and an MPI: pip install mpi4py mpich, or "
                          f"mpi4py alone where the system has an MPI ({err})") from err
    if MPI.Query_thread() < MPI.THREAD_SERIALIZED:
        raise RuntimeError("MPI was started for one thread, but the thread that calls it changes: "
                           "start it with mpi4py.rc.thread_level = 'multiple'")
    return MPI


def _handle(thing: Any) -> int:
    """What C calls an object of mpi4py's: an int, or a pointer."""
    MPI = mpi()
    word = ctypes.c_int32 if MPI._sizeof(type(thing)) == 4 else ctypes.c_int64
    return int(word.from_address(MPI._addressof(thing)).value)


def calls(comm: Any) -> Calls:
    """What a step calls, of the very library that mpi4py has loaded."""
    MPI = mpi()
    library = ctypes.CDLL(MPI.__file__)

    def address(name: str) -> int:
        return int(ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0)

    kinds = {"float32": _handle(MPI.FLOAT), "float64": _handle(MPI.DOUBLE)}
    return Calls(address("MPI_Allgather"), address("MPI_Alltoall"), int(MPI.IN_PLACE),
                 _handle(comm), kinds)
