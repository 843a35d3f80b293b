"""Progress bars of the commands, on stderr; nothing at all in a log."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from typing import Any

from nbbn.progress import Bar
from nbbn.terminal import console


@contextmanager
def epoch_bar(title: str, epochs: int) -> Iterator[Callable[[object, dict[str, Any]], None]]:
    """A bar of `epochs` epochs; gives the callback for an estimator's `callbacks`."""
    with _bar(title, epochs, "title bar count figures left") as move:
        yield lambda estimator, logs: move(logs["epoch"], _figures(logs))


def _figures(logs: dict[str, Any]) -> str:
    shown = {"loss": logs.get("loss"), "validation": logs.get("val_score")}
    return "  ".join(f"{name} {value:.4f}" for name, value in shown.items() if value is not None)


@contextmanager
def fraction_bar(title: str) -> Iterator[Callable[[float], None]]:
    """A bar; gives the function that takes the fraction done."""
    with _bar(title, 1.0, "title bar percent left") as move:
        yield move


@contextmanager
def _bar(title: str, total: float, columns: str) -> Iterator[Callable[..., None]]:
    """A bar that goes when it is done; gives the function that moves it."""
    if not sys.stderr.isatty() or find_spec("rich") is None:
        yield lambda *moved: None
        return
    with closing(Bar(console(sys.stderr), total, columns, title=title, transient=True)) as bar:
        yield bar.move
