"""The terminal: tables and bars with colours there, plain lines in a log.

Where rich is not installed tables are plain text.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console


def console(stream: TextIO | None = None) -> Console:
    """A console on the stream, stdout by default; colours go to a terminal only."""
    from rich.console import Console

    stream = stream or sys.stdout
    terminal = stream.isatty()
    # rich would take FORCE_COLOR for a terminal; a log stays a log. 100 columns hold every table.
    width = None if terminal else 100
    return Console(file=stream, force_terminal=terminal, width=width, highlight=False)


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *,
                right: Sequence[int] = ()) -> None:
    """Print a table on stdout; the columns `right` are aligned to the right."""
    if find_spec("rich") is None:
        print(f"{title}\n{plain_table(columns, rows)}")
        return
    from rich.table import Table

    table = Table(*columns, title=title, title_justify="left")
    for column in right:
        table.columns[column].justify = "right"
    for row in rows:
        table.add_row(*row)
    console().print(table)


def plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in columns of their widest cells."""
    lines = [columns, *rows]
    widths = [max(map(len, cells)) for cells in zip(*lines)]
    padded = ("  ".join(c.ljust(w) for c, w in zip(line, widths)).rstrip() for line in lines)
    return "\n".join(padded)
