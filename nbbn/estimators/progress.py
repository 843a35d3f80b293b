"""What `verbose` shows of a fit: a bar on a terminal, scikit-learn's lines in a log."""

from __future__ import annotations


class Silence:
    """Shows nothing."""

    # Whether it wants to hear of an epoch before it is over.
    moves = False

    def advance(self, share: float) -> None:
        """So much of the epoch is done."""

    def epoch(self, logs: dict) -> None:
        """An epoch is over, validation included."""

    def say(self, message: str) -> None:
        """Something has been decided."""

    def close(self) -> None:
        """Nothing more comes."""


class Lines(Silence):
    """scikit-learn's lines."""

    def epoch(self, logs):
        print(f"Iteration {logs['epoch']}, loss = {logs['loss']:.8f}")
        if "val_score" in logs:
            print(f"Validation score: {logs['val_score']:f}")

    def say(self, message):
        print(message)


class Bar(Silence):
    """A bar of all epochs: the last one's loss and score, rows a second, time left.

    Parameters
    ----------
    epochs : int
    rows : int
        Of an epoch.
    console : rich.console.Console
    """

    moves = True

    def __init__(self, epochs: int, rows: int, console):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self._rows, self._done = rows, 0
        columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[figures]}"),
                   TimeRemainingColumn())
        self._bar = Progress(*columns, console=console)
        self._task = self._bar.add_task("", total=epochs, figures="")
        self._bar.start()

    def advance(self, share):
        self._bar.update(self._task, completed=self._done + share)

    def epoch(self, logs):
        self._done = logs["epoch"]
        shown = [f"loss {logs['loss']:.4g}"]
        if "val_score" in logs:
            shown.append(f"validation {logs['val_score']:.4f}")
        shown.append(f"{self._rows / max(logs['seconds'], 1e-9):,.0f} rows/s")
        self._bar.update(self._task, completed=self._done, figures=", ".join(shown))

    def say(self, message):
        self._bar.console.print(message)

    def close(self):
        self._bar.stop()


def reporter(verbose, epochs: int, rows: int) -> Silence:
    """What shows the progress of a fit of so many epochs."""
    if not verbose:
        return Silence()
    from nbbn.commands.progress import console

    screen = console()
    return Bar(epochs, rows, screen) if screen.is_terminal else Lines()
