"""What `verbose` shows of a fit: a bar on a terminal, scikit-learn's lines in a log."""

from __future__ import annotations

from collections.abc import Callable


class Silence:
    """Shows nothing."""

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

    It moves within an epoch, too: the thread that draws it asks for the steps done.

    Parameters
    ----------
    epochs : int
    rows : int
        Of an epoch.
    steps : int
        Of an epoch.
    step : callable
        `() -> int`: steps done.
    console : rich.console.Console
    """

    def __init__(self, epochs: int, rows: int, steps: int, step: Callable[[], int], console):
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        class Watching(Progress):
            """Looks at the steps before it draws."""

            def get_renderables(self):
                for task in self.task_ids:
                    self.update(task, completed=watch())
                return super().get_renderables()

        def watch() -> float:
            return self._done + min(1.0, (step() - self._from) / steps) * (self._done < epochs)

        self._rows, self._done, self._step, self._from = rows, 0, step, step()
        columns = (TextColumn("epoch"), MofNCompleteColumn(), BarColumn(), TextColumn("{task.fields[figures]}"),
                   TimeRemainingColumn())
        self._bar = Watching(*columns, console=console)
        self._task = self._bar.add_task("", total=epochs, figures="")
        self._bar.start()

    def epoch(self, logs):
        shown = [f"loss {logs['loss']:.4g}"]
        if "val_score" in logs:
            shown.append(f"validation {logs['val_score']:.4f}")
        shown.append(f"{self._rows / max(logs['seconds'], 1e-9):,.0f} rows/s")
        self._done, self._from = logs["epoch"], self._step()
        self._bar.update(self._task, completed=self._done, figures=", ".join(shown))

    def say(self, message):
        self._bar.console.print(message)

    def close(self):
        self._bar.stop()


def reporter(verbose, epochs: int, rows: int, steps: int = 1, step: Callable[[], int] = lambda: 0) -> Silence:
    """What shows the progress of a fit of so many epochs."""
    if not verbose:
        return Silence()
    from rich.errors import LiveError

    from nbbn.commands.progress import console

    screen = console()
    if not screen.is_terminal:
        return Lines()
    try:
        return Bar(epochs, rows, steps, step, screen)
    except LiveError:  # rich before 14.1 draws one bar at a time, and there is one already
        return Lines()
