"""Rows to train on in several files, or in one that is large: partitions."""

from __future__ import annotations

import argparse
import functools
import math
import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.commands import tables, training_table
from nbbn.commands.errors import UnusableInput
from nbbn.group import Group
from nbbn.partitions import Partitions, parquet
from nbbn.partitions.files import named, sources_of
from nbbn.partitions.sources import Header, Made, Part, Source
from nbbn.tables.description import Description, Target, of_numbers
from nbbn.tables.learning import Streamed, TargetScale, read_in_parts, standardised_arrays

# A Parquet file is read a few pieces at a time where its numbers take this share of memory.
_SHARE = 0.25
# Bytes of rows that are kept aside, at most: they stay in memory.
_ASIDE_BYTES = 64 << 20
_WINDOW = 4


@dataclass(frozen=True)
class Data:
    """What `fit` gets."""

    x: Any
    y: Any
    rows: int  # to train on
    regression: bool
    description: Description | None = None
    targets: TargetScale | None = None  # of targets that are standardised
    notes: list[str] = field(default_factory=list)
    aside: dict[str, Any] = field(default_factory=dict)  # rows kept aside, as keyword arguments
    kept_aside: int = 0
    shared: bool = False  # whether `x` and `y` are one rank's rows alone
    where: str = ""  # of the rows, in words


def streams(files: list[Path], window: int | None) -> bool:
    """Whether to read files a few at a time."""
    if len(files) > 1 or window is not None:
        return True
    return files[0].suffix.lower() == ".parquet" and _bytes(files[0]) > _SHARE * _memory()


def _memory() -> float:
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, ValueError, OSError):
        return math.inf


def _bytes(path: Path) -> int:
    """Of the numbers of a Parquet file."""
    with parquet.open_table(path) as table:
        return 8 * table.metadata.num_rows * table.metadata.num_columns


def read(files: list[Path], args: argparse.Namespace) -> Data:
    """Partitions to train on, and rows kept aside."""
    from nbbn.estimators import MLPClassifier, MLPRegressor
    from nbbn.estimators import partitions as checked

    streamed = _raw(files, args) if args.raw else _described(files, args)
    parts = Partitions.of_sources(streamed.sources, window=args.window or _WINDOW)
    headers = parts.headers()
    rows = sum(header.rows for header in headers)
    if rows == 0:
        raise UnusableInput(f"{len(files)} files hold no rows")
    description = streamed.description
    data = Data(parts, None, rows, description.target.regression, description, streamed.targets,
                streamed.notes, where=f", {len(parts)} partitions of which "
                f"{min(parts.window, len(parts))} at a time,")
    if args.validation == 0:
        return data
    row_bytes = headers[0].dtype.itemsize * math.prod(headers[0].shape)
    kept, held = parts.split(args.validation, args.seed, headers, _ASIDE_BYTES // max(1, row_bytes))
    model = MLPRegressor() if data.regression else MLPClassifier()
    _, aside = checked.together(model, held, reset=True)
    count = len(aside.X)
    if count == 0:
        raise UnusableInput(f"no rows can be kept aside of {rows}; use more rows, "
                            "or another share")
    # As partitions: their columns have no names, in whatever files they were.
    x_val = Partitions([(aside.X, aside.y)])
    return replace(data, x=kept, rows=rows - count, aside={"X_val": x_val, "y_val": None},
                   kept_aside=count)


def read_share(files: list[Path], args: argparse.Namespace, group: Group) -> Data:
    """This rank's part of the rows that `read` trains on, in memory, and all that are kept aside.

    The first rank finds what the files hold; then each reads partitions that follow one another.
    """
    def look() -> tuple[Data, list[Header]]:
        data = read(files, args)
        return data, data.x.headers()

    data, headers = group.at_first(look)
    first, end = share_of([header.rows for header in headers], group.rank, group.ranks)
    with group.together():
        x, y = _joined(data.x, headers, first, end)
    aside = {}
    if data.aside:
        (held,) = data.aside["X_val"]
        aside = {"X_val": held.X, "y_val": held.y}
    return replace(data, x=x, y=y, shared=True, aside=aside, where="")


def share_of(rows: list[int], rank: int, ranks: int) -> tuple[int, int]:
    """A rank's partitions, the first and the one after the last, of about as many rows each."""
    middles = np.cumsum(rows) - np.array(rows) / 2
    first, end = np.searchsorted(middles, [sum(rows) * k / ranks for k in (rank, rank + 1)])
    return int(first), int(end)


def _joined(parts: Partitions, headers: list[Header], first: int,
            end: int) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some partitions, and their targets."""
    found = [part for part in map(parts.reader(), range(first, end)) if len(part.X)]
    if not found:
        return np.empty((0, *headers[0].shape), headers[0].dtype), np.empty(0)
    return np.concatenate([part.X for part in found]), np.concatenate([part.y for part in found])


def _described(files: list[Path], args: argparse.Namespace) -> Streamed:
    """Tables, encoded by what a pass over them finds, or arrays; standardised."""
    arrays = [path.suffix.lower() == ".npz" for path in files]
    if all(arrays):
        training_table.check_no_columns(args)
        return standardised_arrays([_Flat(source) for source in sources_of(files, None, None)],
                                   bool(args.regression))
    if any(arrays):
        raise UnusableInput(f"{files[arrays.index(True)]} holds arrays, other files tables; train "
                            "on files of one kind, or with --raw")
    tables_ = [training_table.open_table(path, args) for path in files]
    return read_in_parts(tables_, training_table.options_of(args))


def _raw(files: list[Path], args: argparse.Namespace) -> Streamed:
    """Tables and arrays of numbers, as they are."""
    training_table.check_raw(args)
    target, kind = args.target, float if args.regression else str
    found: list[Source] = []
    for path in files:
        suffix = path.suffix.lower()
        if suffix in tables.DELIMITERS:
            read = functools.partial(training_table.read_table, path, args.target, kind)
            found.append(Made(str(path), read))
        elif suffix == ".npz":
            found += [_Flat(source) for source in sources_of([path], args.target, None)]
        else:
            target = _last_column(path) if target is None else target
            found += sources_of([path], target, None)
    tabular = [path for path in files if path.suffix.lower() != ".npz"]
    regression = bool(args.regression)
    description = training_table.raw_description(tabular[0], args) if tabular else \
        of_numbers([], False, Target(None, regression))
    return Streamed(found, description, None, [])


def _last_column(path: Path) -> str:
    with named(path), parquet.open_table(path) as table:
        names = table.schema_arrow.names
    if len(names) < 2:
        raise UnusableInput(f"{path} must hold rows of at least two columns, "
                            "one of them the target")
    return str(names[-1])


@dataclass(frozen=True)
class _Flat:
    """A partition with its rows flattened."""

    source: Source

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def size(self) -> int | None:
        return self.source.size

    def header(self) -> Header | None:
        head = self.source.header()
        return None if head is None else replace(head, shape=(math.prod(head.shape),))

    def read(self) -> Part:
        part = self.source.read()
        return part._replace(X=np.reshape(part.X, (len(part.X), math.prod(part.X.shape[1:]))))

    def read_targets(self) -> Part:
        return self.source.read_targets()
