"""Working memory that holds no number until an operation writes one.

A training program's buffers share memory, so none may count on what it finds. Here each step is run
operation by operation, on one thread, and what an operation is the first to use is filled with bytes
that are NaN to floats of every size.
"""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from nbbn.kernels.executor import ARRIVAL, BARRIER
from nbbn.program import kept
from nbbn.program.program import Segment
from nbbn.program.runnable import TrainingRun
from nbbn.program.training import lower_training


@contextlib.contextmanager
def places_of_their_own():
    """Training programs whose buffers share no memory."""
    def lower(*args, **settings):
        return lower_training(*args, **settings, share=False)

    with pytest.MonkeyPatch.context() as patch:
        kept._made.cache_clear()
        patch.setattr(kept, "lower_training", lower)
        yield
    kept._made.cache_clear()


@contextlib.contextmanager
def poison():
    """Steps of training programs on memory without numbers; yields how many bytes were filled."""
    whole, part, current, filled = TrainingRun.run, TrainingRun._run, [], [0]

    def run(self, steps, arrays, threads, outside=()):
        current[:] = [self]
        whole(self, steps, arrays, 1, outside)

    def one_by_one(table, steps, contexts, threads):
        (own,) = current
        program = own._program
        first = (table.ctypes.data - own.table(1).ctypes.data) // table.strides[0]
        begins = {}
        for name, (_, begin, _) in program.uses(Segment.WORK).items():
            start, size = program.pieces[name]
            # What shares its place with nobody may hold something from step to step.
            if name in program.overlaps:
                begins.setdefault(begin, []).append((start, start + size))
        for k in range(len(steps)):
            for i in range(len(table)):
                for start, end in begins.get(first + i, ()):
                    own.work[start:end] = 0xFF
                    filled[0] += end - start
                row = table[i : i + 1].copy()
                row[0, 1] &= BARRIER | ARRIVAL  # no group
                part(row, steps[k : k + 1], contexts, 1)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainingRun, "run", run)
        patch.setattr(TrainingRun, "_run", staticmethod(one_by_one))
        yield filled


def same_bytes(one, other):
    """Whether two lists of arrays are equal bit by bit."""
    return len(one) == len(other) and all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, other))
