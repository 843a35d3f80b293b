"""What `fit` shows: a bar that moves on a terminal, one line per epoch in a log."""

from __future__ import annotations

import time

# Seconds between two movements of a bar.
REFRESH_SECONDS = 0.1


def figures(logs: dict) -> str:
    """Figures by name, as Keras writes them."""
    return " - ".join(f"{name}: {_number(value)}" for name, value in logs.items())


def _number(value: float) -> str:
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def per_step(seconds: float, steps: int) -> str:
    """Time of one step, in a unit that fits."""
    each = seconds / max(steps, 1)
    if each >= 1:
        return f"{each:.0f}s/step"
    return f"{each * 1e3:.0f}ms/step" if each >= 1e-3 else f"{each * 1e6:.0f}us/step"


class Silence:
    """Shows nothing."""

    moves = False

    def begin(self, epoch: int) -> None:
        """An epoch begins."""

    def advance(self, steps: int, logs: dict) -> None:
        """So many steps of the epoch are done."""

    def end(self, logs: dict) -> None:
        """The epoch is over, validation included."""

    def close(self) -> None:
        """Nothing more comes."""


class Lines(Silence):
    """One line per epoch.

    Parameters
    ----------
    epochs, steps : int
        Epochs in all, and steps of each.
    """

    def __init__(self, epochs: int, steps: int):
        self.epochs, self.steps = epochs, steps

    def begin(self, epoch):
        self._epoch, self._start = epoch, time.perf_counter()

    def end(self, logs):
        seconds = time.perf_counter() - self._start
        times = f"{seconds:.1f}s - {per_step(seconds, self.steps)}"
        print(f"Epoch {self._epoch + 1}/{self.epochs} - {times} - {figures(logs)}", flush=True)


class Bars(Silence):
    """A bar for each epoch, in whose place a line stands when the epoch is over; for a terminal."""

    moves = True

    def __init__(self, epochs: int, steps: int, console):
        self.epochs, self.steps, self._console = epochs, steps, console
        self._bar = None

    def begin(self, epoch):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

        self._console.print(f"Epoch {epoch + 1}/{self.epochs}")
        columns = (MofNCompleteColumn(), BarColumn(bar_width=20), TextColumn("{task.fields[figures]}"))
        self._bar = Progress(*columns, console=self._console, refresh_per_second=1 / REFRESH_SECONDS, transient=True)
        self._task = self._bar.add_task("", total=self.steps, figures="")
        self._bar.start()
        self._start = time.perf_counter()

    def advance(self, steps, logs):
        seconds = time.perf_counter() - self._start
        text = f"{per_step(seconds, steps)} - {figures(logs)}"
        self._bar.update(self._task, completed=steps, figures=text)

    def end(self, logs):
        seconds = time.perf_counter() - self._start
        self.close()
        print(f"{self.steps}/{self.steps} - {seconds:.1f}s - {per_step(seconds, self.steps)} - {figures(logs)}")

    def close(self):
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


def reporter(verbose, epochs: int, steps: int) -> Silence:
    """What shows the progress.

    Parameters
    ----------
    verbose : {"auto", 0, 1, 2}
        0: nothing; 1 and auto: bars on a terminal, else lines; 2: lines.
    epochs, steps : int
    """
    if verbose == 0:
        return Silence()
    if verbose != 2:
        from nbbn.terminal import console

        screen = console()
        if screen.is_terminal:
            return Bars(epochs, steps, screen)
    return Lines(epochs, steps)


def check_verbose(verbose) -> int | str:
    """`verbose`, checked.

    Raises
    ------
    ValueError
        For anything but "auto", 0, 1, 2, True and False.
    """
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose must be 'auto', 0, 1 or 2, got {verbose!r}")
    return "auto" if isinstance(verbose, str) else int(verbose)
