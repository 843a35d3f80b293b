"""One model on the rows of several processes, by MPI."""

from nbbn.distributed.fit import fit, recalibrate

__all__ = ["fit", "recalibrate"]


def __dir__() -> list[str]:
    return __all__
