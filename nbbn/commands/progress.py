"""Progress bars on the terminal; nothing at all in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from nbbn.terminal import console


@contextmanager
def epoch_bar(title: str, epochs: int) -> Iterator[Callable[[object, dict], None]]:
    """A bar of `epochs` epochs on stderr; gives the callback for an estimator's `callbacks`."""
    columns = MofNCompleteColumn(), TextColumn("{task.fields[figures]}"), TimeRemainingColumn()
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
def _bar(
    title: str, total: float, columns: tuple[ProgressColumn, ...], **fields: Any
) -> Iterator[Callable[..., None]]:
    """A bar that goes when it is done; gives the function that updates it."""
    err = console(sys.stderr)
    if not err.is_terminal:
        yield lambda **changes: None
        return
    described = TextColumn("{task.description}"), BarColumn(), *columns
    with Progress(*described, console=err, transient=True) as bar:
        task = bar.add_task(title, total=total, **fields)
        yield lambda **changes: bar.update(task, **changes)
