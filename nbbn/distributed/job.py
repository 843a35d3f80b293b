"""Whether this process is one of a job's, as `mpirun` starts them."""

from __future__ import annotations

import os

from nbbn.distributed import comm as words
from nbbn.distributed.ranks import Ranks

# What launchers say of the number of ranks: Open MPI and its kin, MPICH and its, Slurm.
_SIZES = ("OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS")


def ranks_of_job() -> Ranks | None:
    """The ranks of this job; None where this process is alone. ImportError without mpi4py."""
    sizes = [os.environ.get(name, "1") for name in _SIZES]
    if all(size == "1" for size in sizes):
        return None
    comm = words.mpi().COMM_WORLD
    return Ranks(comm.Dup()) if comm.size > 1 else None
