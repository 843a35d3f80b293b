"""The base of every timed benchmark: prepared once a process, called many times a sample."""

from __future__ import annotations

import time
from collections.abc import Callable

Call = Callable[[], object]
SAMPLE_SECONDS = 0.01


class Timed:
    """A benchmark whose `prepare(*params)` returns the call to be timed.

    asv runs `setup` again before every timed call, and makes a sample of one call unless `number`
    says of how many. Here a second `setup` with the same parameters does nothing, so that no timed
    call finds cold caches, and the first one, which also compiles, chooses `number`.
    """

    prepare: Callable[..., Call]
    _prepared: tuple[object, ...] | None = None

    def setup(self, *params: object) -> None:
        if self._prepared == (params,):
            return
        self.call = self.prepare(*params)
        self.number = calls_a_sample(self.call)
        self._prepared = (params,)


def calls_a_sample(call: Call, seconds: float = SAMPLE_SECONDS) -> int:
    """How many calls last about `seconds`, after two calls that compile and warm."""
    call()
    call()
    best = float("inf")
    for _ in range(3):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
        if best > seconds:
            break
    return max(1, min(10_000, round(seconds / best)))
