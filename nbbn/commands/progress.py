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
    columns = (MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn())
    with _bar(title, epochs, columns, figures="") as update:
        yield lambda estimator, logs: update(completed=logs["epoch"], figures=_figures(logs))


def _figures(logs: dict) -> str:
    shown = {"loss": logs.get("loss"), "validation": logs.get("val_score")}
    return "  ".join(f"{name} {value:.4f}" for name, value in shown.items() if value is not None)


@contextmanager
def fraction_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar on stderr; gives the function that takes the fraction done."""
    with _bar(title, 1.0, (TaskProgressColumn(), TimeRemainingColumn())) as update:
        yield lambda fraction: update(completed=fraction)


@contextmanager
def _bar(title: str, total: float, columns: tuple, **fields) -> Iterator[Callable[..., None]]:
    """A bar that goes when it is done; gives the function that updates it. Nothing at all where stderr is a log."""
    err = console(sys.stderr)
    if not err.is_terminal:
        yield lambda **changes: None
        return
    with Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=err, transient=True) as bar:
        task = bar.add_task(title, total=total, **fields)
        yield lambda **changes: bar.update(task, **changes)
