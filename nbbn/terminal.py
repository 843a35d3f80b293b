"""The terminal: tables and bars with colours there, plain lines in a log."""

from __future__ import annotations

import sys
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
