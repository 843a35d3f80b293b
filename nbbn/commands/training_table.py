"""Rows with targets to train on: a table with a target column, or the arrays of an `.npz` file."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nbbn.commands import tables
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_suffix
from nbbn.formats.files import read_npz
from nbbn.partitions import parquet

_PARQUET_ROWS = 1 << 16
# Lines of a text table, with their numbers.
_Lines = list[tuple[int, bytes]]


SUFFIXES = (*tables.DELIMITERS, ".parquet", ".npz")


def add_data(parser: argparse.ArgumentParser, *, several: bool = False) -> None:
    """Add the arguments that say what to train on: a file, or `several`."""
    add = parser.add_argument
    text = "a .csv, .tsv or .parquet table, or an .npz with arrays X and y"
    if several:
        add("data", nargs="+", metavar="DATA",
            help=f"{text}; several files, a folder or a quoted pattern: read a few at a time")
    else:
        add("data", type=Path, metavar="DATA", help=text)
    add("--target", metavar="COLUMN",
        help="name of the table's column to predict (default: the last)")  # fmt: skip
    add("--regression", action="store_true", help="predict a number instead of a class")


def read(args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray]:
    """Rows and targets as the arguments of `add_data` say.

    UnusableInput says which file, column or line cannot be used, and why.
    """
    path, target = args.data, args.target
    check_suffix(path, SUFFIXES)
    if path.suffix.lower() == ".parquet":
        return read_parquet(path, target, float if args.regression else str)
    if path.suffix.lower() != ".npz":
        return read_table(path, target, float if args.regression else str)
    if target is not None:
        raise UnusableInput("--target names a column of a table; "
                            "an .npz holds the targets in its array y")
    return read_arrays(path)


def split(x: np.ndarray, y: np.ndarray, share: float, seed: int,
          regression: bool) -> list[np.ndarray]:
    """Rows to train on and rows kept aside, classes in equal shares: `x, x_aside, y, y_aside`."""
    from sklearn.model_selection import train_test_split

    strata = None if regression else y
    try:
        return train_test_split(x, y, test_size=share, random_state=seed, stratify=strata)
    except ValueError as error:
        raise UnusableInput(f"no rows can be kept aside ({error}); use more rows, "
                            "or another share") from None


def read_parquet(path: Path, target: str | None,
                 kind: type[str] | type[float]) -> tuple[np.ndarray, np.ndarray]:
    """A Parquet table with one column apart: the last, or the one called `target`."""
    table = parquet.open_table(path)
    with table:
        names: list[str] = table.schema_arrow.names
    target = names[-1] if target is None and names else target
    if target is None or target not in names:
        known = ", ".join(names)[:200]
        raise UnusableInput(f"{path} has no column {target!r}; it has {known}")
    batches = list(parquet.read_batches(path, _PARQUET_ROWS))
    if len(names) < 2 or not batches:
        raise UnusableInput(f"{path} must hold rows of at least two columns, "
                            "one of them the target")
    columns = {name: np.concatenate([batch[name] for batch in batches]) for name in names}
    y = columns.pop(target)
    x = parquet.as_rows(path, columns)
    if not np.isfinite(x).all():
        row = int(np.argwhere(~np.isfinite(x))[0, 0]) + 1
        raise UnusableInput(f"{path}: row {row} holds NaN or infinity; use finite numbers only")
    if kind is float:
        return x, parquet.as_rows(path, {target: y})[:, 0]
    return x, y.astype(str) if y.dtype == object else y


def read_arrays(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Arrays X and y of a `.npz` file, rows flattened."""
    arrays = read_npz(path)
    if not {"X", "y"} <= set(arrays):
        held = ", ".join(sorted(arrays)) or "none"
        raise UnusableInput(f"{path} must hold arrays X and y; it holds {held}")
    x, y = arrays["X"], arrays["y"]
    if x.ndim < 2 or y.ndim < 1 or len(x) != len(y) or len(x) == 0:
        raise UnusableInput(f"{path}: X must have rows and columns, and y an entry a row; "
                            f"got {x.shape} and {y.shape}")
    return x.reshape(len(x), -1), y


def read_table(path: Path, target: str | None,
               kind: type[str] | type[float]) -> tuple[np.ndarray, np.ndarray]:
    """A text table with one column apart: the last, or the one that the first line calls `target`.

    `kind` is what the column holds; texts that are all whole numbers become integers.
    """
    delimiter = tables.DELIMITERS[path.suffix.lower()]
    with open(path, "rb") as file:
        lines = file.readlines()
    names = tables.split_line(path, lines[0], 1, delimiter) if lines else []
    column = len(names) - 1
    header = target is not None or all(tables.parse_number(name) is None for name in names[:column])
    if target is not None:
        if target not in names:
            known = ", ".join(names)[:200]
            raise UnusableInput(f"{path} has no column {target!r}; its first line names {known}")
        column = names.index(target)
    others = [i for i in range(len(names)) if i != column]
    body = [(i, line) for i, line in enumerate(lines, 1) if line.strip()][header:]
    if not body or not others:
        raise UnusableInput(f"{path} must hold rows of at least two columns, "
                            "one of them the target")
    _check_columns(path, body, len(names), delimiter)
    x = _parse(path, body, delimiter, others, float)
    y = _parse(path, body, delimiter, [column], kind)[:, 0]
    if kind is str and all(label.lstrip("-").isdecimal() for label in y):
        y = y.astype(np.int64)
    return x, y


def _check_columns(path: Path, body: _Lines, columns: int, delimiter: str) -> None:
    """Refuse a line of another number of columns; a line with quotes is left to the parser."""
    mark = delimiter.encode()
    for i, line in body:
        if b'"' not in line and line.count(mark) + 1 != columns:
            own = line.count(mark) + 1
            raise UnusableInput(f"{path}: line {i} has {own} columns, the first line has {columns}")


def _parse(path: Path, body: _Lines, delimiter: str, columns: list[int],
           kind: type[str] | type[float]) -> np.ndarray:
    try:
        values = np.loadtxt(
            [line for _, line in body], dtype=kind, usecols=columns, delimiter=delimiter,
            comments=None, quotechar='"', encoding="utf-8-sig", ndmin=2,
        )  # fmt: skip
    except ValueError:
        raise UnusableInput(f"{path}: {_complaint(path, body, delimiter, columns)}") from None
    if kind is float and not np.isfinite(values).all():
        row = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise UnusableInput(f"{path}: line {body[row][0]} holds NaN or infinity; "
                            "use finite numbers only")
    return values


def _complaint(path: Path, body: _Lines, delimiter: str, columns: list[int]) -> str:
    for i, line in body:
        fields = tables.split_line(path, line, i, delimiter)
        for column in columns:
            if column >= len(fields) or tables.parse_number(fields[column]) is None:
                return f"line {i}, column {column + 1} is not a number"
    return "a column holds what is not a number"
