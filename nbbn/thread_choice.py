"""How many threads train best just now: the one heuristic that looks at the clock."""

from __future__ import annotations

# Most seconds between two returns to Python within an epoch (Ctrl-C and progress), and seconds of
# the first run.
CHUNK_SECONDS, FIRST_SECONDS = 0.3, 0.01
# Seconds of a trial of the other way, and how much faster it must be to be taken.
TRIAL_SECONDS, TRIAL_MARGIN = 1e-3, 0.9


class ThreadChoice:
    """How many steps to run next, and on how many threads.

    On all, or on one where that was faster lately.

    One is faster for a small network, and beside other programs that keep the cores busy: a team
    waits at every barrier for the thread that has no core (three times slower beside one busy
    process on two cores). The bits do not depend on it.

    Runs of one way alternate with short trials of the other; they grow longer while no trial wins,
    and begin short again when one does, since a machine may be busy for a moment only."""

    def __init__(self) -> None:
        # Of a step, by number of threads; none until a second run.
        self._seconds: dict[int, float] = {}
        self._started: set[int] = set()
        self._best: int | None = None
        self._span = FIRST_SECONDS
        self._since = 0.0  # seconds of the best way since the last trial
        self._trial_is_due = False

    def next(self, threads: int, left: int) -> tuple[int, int]:
        """Threads and steps of the next run."""
        if self._best not in (1, threads):
            self._best, self._trial_is_due = threads, False
        way = self._best
        if threads > 1 and self._trial_is_due:
            way = threads if way == 1 else 1
        if way not in self._seconds:
            return way, 1 if way not in self._started else min(
                left, self._steps(TRIAL_SECONDS, self._best)
            )
        span = TRIAL_SECONDS if way != self._best else CHUNK_SECONDS if threads == 1 else self._span
        return way, min(left, self._steps(span, way))

    def _steps(self, span: float, way: int) -> int:
        return max(1, int(span / self._seconds[way])) if way in self._seconds else 1

    def note(self, threads: int, steps: int, seconds: float) -> None:
        """Take the time of a run.

        The first of each way does not count: it compiles, wakes threads and fills caches.
        """
        if threads not in self._started:
            self._started.add(threads)
            return
        self._seconds[threads] = seconds / steps
        if threads == self._best:  # where steps come one by one, many make a run
            self._since += seconds
            self._trial_is_due = 2 * self._since >= self._span
            return
        self._since, self._trial_is_due = 0.0, False
        best = self._seconds[threads if self._best is None else self._best]
        if seconds / steps < TRIAL_MARGIN * best:
            self._best, self._span = threads, FIRST_SECONDS
        else:
            self._span = min(2 * self._span, CHUNK_SECONDS)
