"""Commands run in this process, as the tests of the command line do."""

from __future__ import annotations

from pathlib import Path

from nbbn.cli import main


def fails(capsys, status, *argv):
    """Run a command that must fail with this status.

    Return the one line that it wrote to stderr.
    """
    try:
        got = main([str(a) for a in argv])
    except SystemExit as end:  # argparse's own way out
        got = end.code
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert got == status, captured.err
    assert len(lines) == 1, captured.err
    assert captured.err.isascii()
    return lines[0]


def works(capsys, *argv):
    """Run a command that must work without a word on stderr; return what it wrote to stdout."""
    assert main([str(a) for a in argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def read_csv(path):
    names, *rows = Path(path).read_text().splitlines()
    return names, rows
