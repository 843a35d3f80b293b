"""Progress bars and tables on the terminal; in a log, plain lines and no control characters."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn


def console(stream=None) -> Console:
    """A console on the stream, stdout by default, that sends colours and control characters to a terminal only."""
    stream = stream or sys.stdout
    terminal = stream.isatty()
    # rich would take FORCE_COLOR for a terminal; a log stays a log. 100 columns hold every table.
    return Console(file=stream, force_terminal=terminal, width=None if terminal else 100, highlight=False)


@contextmanager
def epoch_bar(title: str, epochs: int) -> Iterator[Callable]:
    """A bar of `epochs` epochs on stderr; gives the callback for an estimator's `callbacks`."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[figures]}"),
    )
    err = console(sys.stderr)
    with Progress(*columns, TimeRemainingColumn(), console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=epochs, figures="")

        def epoch_done(estimator, logs):
            bar.update(task, completed=logs["epoch"], figures=_figures(logs))

        yield epoch_done


def _figures(logs: dict) -> str:
    shown = {"loss": logs.get("loss"), "validation": logs.get("val_score")}
    return "  ".join(f"{name} {value:.4f}" for name, value in shown.items() if value is not None)


@contextmanager
def fraction_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr; gives the function that takes the fraction done."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    err = console(sys.stderr)
    with Progress(*columns, console=err, transient=True, disable=not err.is_terminal) as bar:
        task = bar.add_task(title, total=1.0)
        yield lambda fraction: bar.update(task, completed=fraction)
