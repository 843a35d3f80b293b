"""What a fit shows of its progress: nothing, lines in a log, a bar on a terminal or a notebook."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import Any

from nbbn import markup

# Seconds between two movements of a bar.
REFRESH_SECONDS = 0.1


class Silence:
    """Shows nothing."""

    # Whether it wants to hear of steps within an epoch.
    moves = False

    def begin(self, epoch: int) -> None:
        """Epoch `epoch` begins, counted from 0."""

    def advance(self, steps: int, logs: dict[str, float]) -> None:
        """So many steps of the epoch are done."""

    def end(self, logs: dict[str, Any]) -> None:
        """The epoch is over, validation included."""

    def say(self, message: str) -> None:
        """Something has been decided."""

    def close(self) -> None:
        """Nothing more comes."""


class Lines(Silence):
    """Some text for every epoch: of its number, seconds and figures."""

    def __init__(self, text: Callable[[int, float, dict[str, Any]], str]):
        self._text, self._epoch, self._began = text, 0, 0.0

    def begin(self, epoch: int) -> None:
        self._epoch, self._began = epoch, time.perf_counter()

    def end(self, logs: dict[str, Any]) -> None:
        print(self._text(self._epoch, time.perf_counter() - self._began, logs), flush=True)

    def say(self, message: str) -> None:
        print(message)


class Bar(Silence):
    """A bar, with text beside it.

    `columns` names what stands in a row: `title`, `count` (`3/7`), `percent`, `bar`, `figures`,
    `left` (time). `watch` says how much is done: the thread that draws the bar asks it. Options are
    those of `rich.progress.Progress`.
    """

    def __init__(self, console: Any, total: float | None, columns: str, *, title: str = "",
                 width: int | None = 40, watch: Callable[[], float] | None = None, **options: Any):
        from rich import progress

        known: dict[str, Callable[[], progress.ProgressColumn]] = {
            "title": lambda: progress.TextColumn("{task.description}"),
            "count": progress.MofNCompleteColumn,
            "percent": progress.TaskProgressColumn,
            "bar": lambda: progress.BarColumn(bar_width=width),
            "figures": lambda: progress.TextColumn("{task.fields[figures]}"),
            "left": progress.TimeRemainingColumn,
        }

        class Watching(progress.Progress):
            """Looks how much is done before it draws."""

            def get_renderables(self) -> Any:
                if watch is not None:
                    for task in self.task_ids:
                        self.update(task, completed=watch())
                return super().get_renderables()

        row = [known[name]() for name in columns.split()]
        self._shown = Watching(*row, console=console, **options)
        self._task = self._shown.add_task(title, total=total, figures="")
        self._shown.start()

    def move(self, completed: float, figures: str = "") -> None:
        """So much is done."""
        self._shown.update(self._task, completed=completed, figures=figures)

    def say(self, message: str) -> None:
        """Print above the bar."""
        self._shown.console.print(message)

    def close(self) -> None:
        """Draw it no more."""
        self._shown.stop()


class NotebookBar:
    """A bar that is drawn anew in its place below a notebook's cell, with text beside it.

    `display` is IPython's. Nothing but HTML is needed: no widgets, no thread.
    """

    def __init__(self, display: Callable[..., Any], total: float | None, text: str):
        self._total, self._completed, self._text, self._drawn = total, 0.0, text, 0.0
        self._handle = display(self._shown(), raw=True, display_id=True)

    def _shown(self) -> dict[str, str]:
        total = self._total or max(1.0, 2 * self._completed)  # not known: half of it, always
        done = f"{self._completed:g}/{self._total:g}" if self._total else f"{self._completed:g}"
        return {"text/plain": f"{done} {self._text}",
                "text/html": markup.progress(self._completed, total, self._text)}

    def move(self, completed: float, text: str) -> None:
        """So much is done; drawn at most ten times a second, and at the end."""
        self._completed, self._text = completed, text
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS or completed >= (self._total or math.inf):
            self.draw(now)

    def finish(self, total: float, text: str) -> None:
        """All is done, and so much it was."""
        self._total = total
        self.move(total, text)

    def draw(self, now: float = 0.0) -> None:
        """Draw what is so."""
        self._drawn = now
        self._handle.update(self._shown(), raw=True)


# -- in scikit-learn's words


class FitBar(Bar):
    """A bar of all epochs: the last one's loss and score, rows a second, time left.

    `rows` and `steps` are those of an epoch; `step` says how many steps are done, so that the bar
    moves within an epoch, too.
    """

    def __init__(self, epochs: int, rows: int, steps: int, step: Callable[[], int], console: Any):
        self._rows, self._done, self._step, self._from = rows, 0, step, step()

        def watch() -> float:
            return self._done + min(1.0, (step() - self._from) / steps) * (self._done < epochs)

        columns = "title count bar figures left"
        super().__init__(console, epochs, columns, title="epoch", watch=watch)

    def end(self, logs: dict[str, Any]) -> None:
        self._done, self._from = logs["epoch"], self._step()
        self.move(self._done, _fit_figures(logs, self._rows))


def _fit_figures(logs: dict[str, Any], rows: int) -> str:
    shown = [f"loss {logs['loss']:.4g}"]
    if "val_score" in logs:
        shown.append(f"validation {logs['val_score']:.4f}")
    shown.append(f"{rows / max(logs['seconds'], 1e-9):,.0f} rows/s")
    return ", ".join(shown)


class NotebookFitBar(Silence):
    """The same below a notebook's cell."""

    def __init__(self, display: Callable[..., Any], epochs: int, rows: int):
        self._epochs, self._rows = epochs, rows
        self._bar = NotebookBar(display, epochs, f"epoch 0/{epochs}")

    def end(self, logs: dict[str, Any]) -> None:
        epoch = logs["epoch"]
        self._bar.move(epoch, f"epoch {epoch}/{self._epochs}  {_fit_figures(logs, self._rows)}")

    def say(self, message: str) -> None:
        print(message)

    def close(self) -> None:
        self._bar.draw()


def iteration_lines(epoch: int, seconds: float, logs: dict[str, Any]) -> str:
    """scikit-learn's lines of an epoch."""
    text = f"Iteration {logs['epoch']}, loss = {logs['loss']:.8f}"
    return f"{text}\nValidation score: {logs['val_score']:f}" if "val_score" in logs else text


def fit_reporter(verbose: bool | int, epochs: int, rows: int, steps: int = 1,
                 step: Callable[[], int] = lambda: 0) -> Silence:
    """What shows a fit of so many epochs with scikit-learn's `verbose`."""
    if not verbose:
        return Silence()
    if (display := _notebook()) is not None:
        return NotebookFitBar(display, epochs, rows)
    from rich.errors import LiveError

    if (screen := _screen()) is not None:
        try:
            return FitBar(epochs, rows, steps, step, screen)
        except LiveError:  # rich before 14.1 draws one bar at a time, and there is one already
            pass
    return Lines(iteration_lines)


# -- in Keras's words


class EpochBars(Silence):
    """A bar for each epoch, in whose place a line stands when the epoch is over."""

    moves = True

    def __init__(self, epochs: int, steps: Callable[[], int | None], console: Any):
        self._console, self._epochs, self._steps = console, epochs, steps
        self._bar: Bar | None = None

    def begin(self, epoch: int) -> None:
        self._console.print(f"Epoch {epoch + 1}/{self._epochs}")
        self._bar = Bar(self._console, self._steps(), "count bar figures", width=20, transient=True,
                        refresh_per_second=1 / REFRESH_SECONDS)
        self._began = time.perf_counter()

    def advance(self, steps: int, logs: dict[str, float]) -> None:
        if self._bar is not None:
            seconds = time.perf_counter() - self._began
            self._bar.move(steps, f"{_per_step(seconds, steps)} - {_figures(logs)}")

    def end(self, logs: dict[str, Any]) -> None:
        seconds = time.perf_counter() - self._began
        self.close()
        print(steps_line(self._steps() or 1, seconds, logs))

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
        self._bar = None


class NotebookEpochs(Silence):
    """The same below a notebook's cell: the bar of an epoch becomes its line."""

    moves = True

    def __init__(self, display: Callable[..., Any], epochs: int,
                 steps: Callable[[], int | None]):
        self._display, self._epochs, self._steps = display, epochs, steps
        self._bar: NotebookBar | None = None

    def begin(self, epoch: int) -> None:
        self._title, self._began = f"Epoch {epoch + 1}/{self._epochs}", time.perf_counter()
        self._bar = NotebookBar(self._display, self._steps(), self._title)

    def advance(self, steps: int, logs: dict[str, float]) -> None:
        if self._bar is not None:
            seconds = time.perf_counter() - self._began
            self._bar.move(steps, f"{self._title} - {_per_step(seconds, steps)} - {_figures(logs)}")

    def end(self, logs: dict[str, Any]) -> None:
        if self._bar is not None:
            seconds = time.perf_counter() - self._began
            steps = self._steps() or 1
            self._bar.finish(steps, f"{self._title} - {_line(steps, seconds, logs)}")
        self._bar = None

    def close(self) -> None:
        if self._bar is not None:
            self._bar.draw()
        self._bar = None


def epoch_reporter(verbose: int | str, epochs: int,
                   steps: Callable[[], int | None]) -> Silence:
    """What shows a fit: 0 nothing, 1 and "auto" bars where there can be, else lines, 2 lines.

    `steps` gives the number of an epoch's steps, None while it is not known.
    """
    if verbose == 0:
        return Silence()
    if verbose != 2 and (display := _notebook()) is not None:
        return NotebookEpochs(display, epochs, steps)
    if verbose != 2 and (screen := _screen()) is not None:
        return EpochBars(epochs, steps, screen)
    return Lines(lambda epoch, seconds, logs:
                 f"Epoch {epoch + 1}/{epochs} - {_line(steps() or 1, seconds, logs)}")


def steps_line(steps: int, seconds: float, logs: dict[str, float]) -> str:
    """Keras's line for steps that are over."""
    return f"{steps}/{steps} - {_line(steps, seconds, logs)}"


def _line(steps: int, seconds: float, logs: dict[str, float]) -> str:
    return f"{seconds:.1f}s - {_per_step(seconds, steps)} - {_figures(logs)}"


def check_verbose(verbose: Any) -> int | str:
    """`verbose`, checked; ValueError for anything but "auto", 0, 1, 2, True and False."""
    if verbose not in ("auto", 0, 1, 2):
        raise ValueError(f"verbose must be 'auto', 0, 1 or 2, got {verbose!r}")
    return "auto" if isinstance(verbose, str) else int(verbose)


def _figures(logs: dict[str, float]) -> str:
    """Figures by name, as Keras writes them."""
    return " - ".join(f"{name}: {_number(value)}" for name, value in logs.items())


def _number(value: float) -> str:
    if getattr(value, "ndim", 0):  # a number for each class
        return " ".join(map(_number, value))  # type: ignore[call-overload]
    return f"{value:.4f}" if abs(value) > 1e-3 or value == 0 else f"{value:.4e}"


def _per_step(seconds: float, steps: int) -> str:
    """Time of one step, in a unit that fits."""
    each = seconds / max(steps, 1)
    if each >= 1:
        return f"{each:.0f}s/step"
    return f"{each * 1e3:.0f}ms/step" if each >= 1e-3 else f"{each * 1e6:.0f}us/step"


def _notebook() -> Callable[..., Any] | None:
    """IPython's `display` where what is printed goes below a notebook's cell; else None."""
    if not type(sys.stdout).__module__.startswith("ipykernel") or "IPython" not in sys.modules:
        return None
    from IPython import get_ipython
    from IPython.display import display

    return display if getattr(get_ipython(), "kernel", None) is not None else None


def _screen() -> Any:
    """The terminal to draw bars on; None where the output is a log."""
    from nbbn.terminal import console

    screen = console()
    return screen if screen.is_terminal else None
