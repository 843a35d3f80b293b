"""Rows with targets to train on: a table with a target column, or the arrays of an `.npz` file."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nbbn.commands import tables
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_suffix
from nbbn.formats.files import one_line, read_npz
from nbbn.partitions import parquet
from nbbn.tables import reading
from nbbn.tables.description import Description, Target, of_numbers
from nbbn.tables.learning import Rows, of_arrays, read_whole
from nbbn.tables.reading import Table
from nbbn.tables.survey import Options

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
    add("--regression", action="store_true", default=None,
        help="predict a number instead of a class (default: as the target looks)")
    add("--classification", dest="regression", action="store_false", default=None,
        help="predict a class, however many numbers the target holds")
    add("--ignore", metavar="COLUMN", action="append", default=[],
        help="leave a column out; may be given again")  # fmt: skip
    add("--categories", metavar="COLUMN", action="append", default=[],
        help="take a column's numbers, or its many texts, for categories; may be given again")
    add("--no-header", action="store_true", help="the first line of a text table is a row")
    add("--raw", action="store_true",
        help="take columns of numbers as they are: nothing is encoded, filled or standardised")


def options_of(args: argparse.Namespace) -> Options:
    """What the arguments of `add_data` say of the columns."""
    return Options(args.target, tuple(args.ignore), tuple(args.categories), args.regression)


def open_table(path: Path, args: argparse.Namespace) -> Table:
    """A table as the arguments of `add_data` say it is."""
    return reading.open_table(path, (lambda fields: False) if args.no_header else None)


def read(args: argparse.Namespace) -> Rows:
    """Rows and targets as the arguments of `add_data` say.

    UnusableInput or FileError says which file, column or line cannot be used, and why.
    """
    path = args.data
    check_suffix(path, SUFFIXES)
    if path.suffix.lower() == ".npz":
        check_no_columns(args)
        return of_arrays(*read_arrays(path), bool(args.regression))
    return read_raw(args) if args.raw else read_whole(open_table(path, args), options_of(args))


def check_no_columns(args: argparse.Namespace) -> None:
    """Raise UnusableInput for an argument that names a column: arrays have none."""
    for option in ("target", "ignore", "categories"):
        if getattr(args, option):
            raise UnusableInput(f"--{option} names a column of a table; "
                                "an .npz holds the targets in its array y")


def check_raw(args: argparse.Namespace) -> None:
    """Raise UnusableInput for what goes not together with `--raw`."""
    given = [f"--{name.replace('_', '-')}" for name in ("ignore", "categories", "no_header")
             if getattr(args, name)]
    if given:
        raise UnusableInput(f"--raw takes all columns as they are; leave out {' and '.join(given)}")


def read_raw(args: argparse.Namespace) -> Rows:
    """A table of numbers, as it is."""
    check_raw(args)
    path, kind = args.data, float if args.regression else str
    raw = read_parquet if path.suffix.lower() == ".parquet" else read_table
    x, y = raw(path, args.target, kind)
    return Rows(x, y, raw_description(path, args), [])


def raw_description(path: Path, args: argparse.Namespace) -> Description:
    """The columns of a table of numbers, whose first line names them or not."""
    table = reading.open_table(path, None if args.target is None else lambda fields: True)
    target = table.names[-1] if args.target is None else args.target
    names = [name for name in table.names if name != target]
    return of_numbers(names, table.named, Target(target if table.named else None,
                                                 bool(args.regression)))


def split(x: np.ndarray, y: np.ndarray, share: float, seed: int,
          regression: bool) -> list[np.ndarray]:
    """Rows to train on and rows kept aside, classes in equal shares: `x, x_aside, y, y_aside`."""
    from sklearn.model_selection import train_test_split

    strata = None if regression else y
    try:
        return train_test_split(x, y, test_size=share, random_state=seed, stratify=strata)
    except ValueError as error:
        raise UnusableInput(f"no rows can be kept aside ({_too_few(y, regression, error)}); use "
                            "more rows, or another share: --validation") from None


def _too_few(y: np.ndarray, regression: bool, error: ValueError) -> str:
    """Why rows cannot be split."""
    if len(y) < 2:
        return f"there is {len(y)} row"
    if regression or y.ndim > 1:
        return one_line(error)
    classes, counts = np.unique(y, return_counts=True)
    alone = classes[counts == 1].tolist()
    if not alone:
        return one_line(error)
    others = f" and {len(alone) - 1} other classes have" if len(alone) > 1 else " has"
    hint = "; numbers are predicted with --regression" if y.dtype.kind in "fiu" else ""
    return f"class {one_line(repr(alone[0]), 60)}{others} one row alone{hint}"


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
