"""How many threads serve best just now: the heuristics that look at the clock.

A team of threads waits for the one that has no core: beside a busy process a call of 50 us takes
the milliseconds until that thread's next time slice. The bits do not depend on the number.
"""

from __future__ import annotations

# Most seconds between two trials within an epoch, those of the first run, and most of a run: then
# Python looks at Ctrl-C, progress and the clock.
CHUNK_SECONDS, FIRST_SECONDS, RUN_SECONDS = 0.3, 0.01, 0.03
# How many times slower a step is than the last run's that calls for a trial at once.
TURN = 1.5
# Seconds of a trial of the other way, and how much faster it must be to be taken.
TRIAL_SECONDS, TRIAL_MARGIN = 1e-3, 0.9
# A trial of one step that takes longer than the first run has so many times its seconds before the
# next: steps of seconds would go on one thread every second time.
LONG_TRIALS_APART = 20


class ThreadChoice:
    """How many steps to run next, and on how many threads.

    On all, or on one where that was faster lately.

    One is faster for a small network, and beside other programs that keep the cores busy: a team
    waits at every barrier for the thread that has no core (three times slower beside one busy
    process on two cores). The bits do not depend on it.

    Runs of one way alternate with short trials of the other; they grow longer while no trial wins,
    and begin short again when one does, since a machine may be busy for a moment only.

    Parameters
    ----------
    alone : bool
        Whether to begin on one thread: for steps that are over before a team has woken.
    """

    def __init__(self, *, alone: bool = False) -> None:
        # Of a step, by number of threads; none until a second run.
        self._seconds: dict[int, float] = {}
        self._started: set[int] = set()
        self._best: int | None = 1 if alone else None
        self._span = FIRST_SECONDS
        self._since = 0.0  # seconds of the best way since the last trial
        self._apart = 0.0  # seconds that must go by after a long trial
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
        span = min(self._span, RUN_SECONDS) if way == self._best else TRIAL_SECONDS
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
        before, self._seconds[threads] = self._seconds.get(threads), seconds / steps
        if threads == self._best:  # where steps come one by one, many make a run
            self._since += seconds
            slower = before is not None and seconds / steps > TURN * before
            self._trial_is_due = slower or self._since >= max(self._span / 2, self._apart)
            return
        self._since, self._trial_is_due = 0.0, False
        self._apart = LONG_TRIALS_APART * seconds if seconds > FIRST_SECONDS else 0.0
        best = self._seconds[threads if self._best is None else self._best]
        if seconds / steps < TRIAL_MARGIN * best:
            self._best, self._span = threads, FIRST_SECONDS
        else:
            self._span = min(2 * self._span, CHUNK_SECONDS)


# Calls from a bad one on a team to the next trial of a team: the first distance, and the longest.
FIRST_CALLS, MOST_CALLS = 4, 4096
# Trials may cost a tenth of all time, and where they are twice as slow or more, fewer than one call
# in a hundred.
TRIAL_SHARE, RARE_CALLS = 0.1, 128
# Calls on a team between two looks at what one thread takes.
CALLS_TO_LOOK = 256
# A call on a team that takes so many times what one thread does has waited for a core.
WAITED = 2.0


class CallChoice:
    """One thread or the team for calls that each take microseconds to milliseconds.

    Calls are on the team while that is no slower than one thread. After one that was, calls are on
    one thread, and the team is tried after 4 calls, 16, 64 and so on, the further apart the slower
    it was, until it wins again. Calls of other sizes are judged apart. Several Python threads may
    ask at once: what they note is of whole calls, in any order.
    """

    def __init__(self) -> None:
        self._sizes: dict[int, _Calls] = {}

    def next(self, rows: int) -> bool:
        """Whether the next call, of so many rows, is on the team."""
        return self._of(rows).next()

    def note(self, rows: int, team: bool, seconds: float) -> None:
        """Take the time of a call."""
        (self._of(rows).note_team if team else self._of(rows).note_alone)(seconds / rows)

    def _of(self, rows: int) -> _Calls:
        return self._sizes.setdefault(rows.bit_length(), _Calls())


class _Calls:
    """Calls of about one size."""

    def __init__(self) -> None:
        # Seconds a row, smoothed; what took long by chance counts as twice as much.
        self._alone: float | None = None
        self._team: float | None = None
        self._on_team, self._distance, self._calls = True, FIRST_CALLS, 0
        # Calls on the team since it won, and their seconds a row together: beside busy processes it
        # is fast between two time slices, so that a trial that wins says little.
        self._stayed, self._spent = 0, 0.0
        # The first call of each way compiles and wakes threads: it does not count.
        self._begun = {True: False, False: False}

    def next(self) -> bool:
        self._calls += 1
        if self._on_team:
            return self._calls < (FIRST_CALLS if self._alone is None else CALLS_TO_LOOK)
        return self._calls >= self._distance

    def note_alone(self, seconds: float) -> None:
        if not self._begun[False]:
            self._begun[False] = True
            return
        self._alone = _smoothed(self._alone, seconds)
        if self._on_team:  # a look
            self._calls = 0
            self._on_team = self._team is None or self._team <= self._alone

    def note_team(self, seconds: float) -> None:
        if not self._begun[True]:
            self._begun[True] = True
            return
        alone = seconds if self._alone is None else self._alone
        if self._on_team:
            self._team = _smoothed(self._team, seconds)
            self._stayed, self._spent = self._stayed + 1, self._spent + seconds
            if seconds > WAITED * alone:
                # It came seldom, and the team was worth it all the same; or it did not.
                worth = self._stayed >= RARE_CALLS and self._spent <= self._stayed * alone
                longer = min(4 * self._distance, MOST_CALLS)
                self._distance = FIRST_CALLS if worth else longer
                self._on_team, self._calls = False, 0
        elif seconds <= alone:
            self._on_team, self._team, self._calls = True, seconds, 0
            self._stayed, self._spent = 0, 0.0
        elif self._calls > self._distance or seconds > WAITED * alone:
            slower = seconds / alone
            least = RARE_CALLS if slower > WAITED else 0
            most = min(MOST_CALLS, max(least, 2 * FIRST_CALLS, int((slower - 1) / TRIAL_SHARE)))
            self._distance, self._calls = max(self._distance, min(4 * self._distance, most)), 0
        # else a second call on the team tells, as its threads are awake now


def _smoothed(before: float | None, seconds: float) -> float:
    """A mean of the last calls, some ten of them."""
    if before is None:
        return seconds
    return before + 0.1 * (min(seconds, WAITED * before) - before)
