"""Tables to train on: encoded whole, or in partitions that are read again and again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nbbn.formats.files import FileError
from nbbn.partitions import files
from nbbn.partitions.sources import Header, Part, Source
from nbbn.tables.description import Description, Target, of_numbers
from nbbn.tables.moments import Moments
from nbbn.tables.reading import ParquetTable, Piece, Table, numbered
from nbbn.tables.standard import standardised
from nbbn.tables.survey import (
    Options,
    Survey,
    check_classes,
    look_through,
    rows_with_target,
    targets_of,
)


@dataclass(frozen=True)
class TargetScale:
    """Mean and deviation of the targets of a regression."""

    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, moments: Moments, shape: tuple[int, ...]) -> TargetScale:
        """From what was seen of the targets, of this shape a row."""
        return cls(moments.mean().reshape(shape), moments.scale().reshape(shape))

    @classmethod
    def of_targets(cls, y: np.ndarray) -> TargetScale:
        """That of targets in memory."""
        flat = y.reshape(len(y), -1)
        return cls.of(Moments(flat.shape[1]).add(flat), y.shape[1:])

    def applied(self, y: np.ndarray) -> np.ndarray:
        """Standardised targets."""
        return (y - self.mean) / self.scale


@dataclass(frozen=True)
class Rows:
    """A table to train on, encoded: not standardised, NaN where a mean is to stand."""

    x: np.ndarray
    y: np.ndarray
    description: Description
    notes: list[str]

    @property
    def regression(self) -> bool:
        """Whether numbers are predicted."""
        return self.description.target.regression


def read_whole(table: Table, options: Options) -> Rows:
    """A table in memory; FileError says which column or line cannot be used, and why."""
    pieces: list[Piece] = []
    survey = look_through([table], options, pieces)
    regression = survey.regression()
    description = survey.description(regression)
    parts = list(_encoded(pieces, survey, description))
    x, y = (np.concatenate([part[i] for part in parts]) for i in range(2))
    return Rows(x.astype(_dtype(survey, description)), y, description, survey.notes)


def of_arrays(x: np.ndarray, y: np.ndarray, regression: bool) -> Rows:
    """Arrays, whose columns have no names."""
    names = numbered(x.shape[1])
    return Rows(x, y, of_numbers(names, False, Target(None, regression)), [])


def _dtype(survey: Survey, description: Description) -> np.dtype:
    return np.dtype(np.float32 if survey.single and description.plain else np.float64)


def _encoded(pieces: Iterable[Piece], survey: Survey,
             description: Description) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The rows that have a target, and their targets."""
    for piece in pieces:
        keep = rows_with_target(piece, survey.target.name)
        x = description.encode(piece.columns)
        y = targets_of(piece.columns[survey.target.name], survey, description.target.regression)
        yield (x if keep.all() else x[keep]), y


def with_moments(description: Description, moments: Moments) -> Description:
    """A description that standardises by these."""
    return replace(description, mean=moments.mean(), scale=moments.scale())


# -- partitions


@dataclass(frozen=True)
class EncodedTable:
    """A table, or a piece of one, as a partition: standardised."""

    table: Table
    name: str
    rows: int
    survey: Survey
    description: Description
    targets: TargetScale | None
    dtype: np.dtype

    @property
    def size(self) -> int | None:
        return self.table.path.stat().st_size

    def header(self) -> Header:
        plain = self.description.plain and isinstance(self.table, ParquetTable)
        names = tuple(self.description.names) if plain else None
        return Header(self.rows, (len(self.description.mean),), self.dtype, names)

    def read(self) -> Part:
        x = np.empty((self.rows, len(self.description.mean)), self.dtype)
        targets, at = [], 0
        for values, y in _encoded(self._pieces(), self.survey, self.description):
            if at + len(values) > self.rows:
                raise FileError(f"{self.name}: has more rows than when it was opened")
            x[at : at + len(values)] = standardised(values, self.description)
            targets.append(y)
            at += len(values)
        if at < self.rows:
            raise FileError(f"{self.name}: holds {at} rows, and had more when it was opened")
        y = np.concatenate(targets) if targets else np.empty(0)
        return Part(x, y if self.targets is None or not len(y) else self.targets.applied(y))

    def read_targets(self) -> Part:
        return self.read()._replace(X=None)

    def _pieces(self) -> Iterator[Piece]:
        return _read(self.table, self.survey, self.description)


def _read(table: Table, survey: Survey, description: Description) -> Iterator[Piece]:
    """The columns that are encoded, and the target."""
    target, texts = survey.target.name, description.not_numbers()
    return table.pieces([*description.names, target], [*texts, target])


@dataclass(frozen=True)
class Streamed:
    """Tables to train on, as partitions."""

    sources: list[Source]
    description: Description
    targets: TargetScale | None
    notes: list[str]


def read_in_parts(tables: Sequence[Table], options: Options) -> Streamed:
    """Partitions of tables of the same columns, after two passes over them.

    The first finds what the columns hold, the second their means and deviations.
    """
    pieces = [piece for table in tables for piece in _pieces(table)]
    survey = look_through(pieces, options)
    regression = survey.regression()
    if not regression:
        check_classes(list(survey.target.counts), survey.target.name)
    bare = survey.description(regression)
    moments, of_targets = Moments(len(bare.encoded_names())), Moments(1)
    for piece in pieces:
        for x, y in _encoded(_read(piece, survey, bare), survey, bare):
            moments.add(x)
            if regression:
                of_targets.add(y[:, None])
    description = with_moments(bare, moments)
    targets = TargetScale.of(of_targets, ()) if regression else None
    dtype = _dtype(survey, description)
    names = _names(pieces)
    sources: list[Source] = [
        EncodedTable(piece, name, rows, survey, description, targets, dtype)
        for piece, name, rows in zip(pieces, names, survey.rows)
    ]
    return Streamed(sources, description, targets, survey.notes)


def standardised_arrays(sources: Sequence[Source], regression: bool) -> Streamed:
    """Partitions of plain numbers, after a pass over them that finds means and deviations."""
    moments: Moments | None = None
    of_targets: Moments | None = None
    shape: tuple[int, ...] = ()
    for source in sources:
        part = source.read()
        moments = moments or Moments(part.X.shape[1])
        if part.X.shape[1] != len(moments.mean()):
            raise FileError(f"{source.name}: X has {part.X.shape[1]} features, but "
                            f"{sources[0].name} has {len(moments.mean())}")
        moments.add(part.X)
        if regression and part.y is not None:
            shape, y = np.shape(part.y)[1:], np.reshape(part.y, (len(part.y), -1))
            of_targets = (of_targets or Moments(y.shape[1])).add(y)
    assert moments is not None
    names = numbered(len(moments.mean()))
    bare = of_numbers(names, False, Target(None, regression))
    description = with_moments(bare, moments)
    targets = None if of_targets is None else TargetScale.of(of_targets, shape)
    return Streamed([_Standardised(source, description, targets) for source in sources],
                    description, targets, [])


@dataclass(frozen=True)
class _Standardised:
    """A partition of plain numbers, standardised."""

    source: Source
    description: Description
    targets: TargetScale | None

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def size(self) -> int | None:
        return self.source.size

    def header(self) -> Header | None:
        head = self.source.header()
        return None if head is None else replace(head, dtype=self._dtype(head.dtype))

    @staticmethod
    def _dtype(dtype: np.dtype) -> np.dtype:
        return np.dtype(np.float32 if dtype == np.float32 else np.float64)

    def read(self) -> Part:
        part = self.source.read()
        x = standardised(part.X, self.description).astype(self._dtype(part.X.dtype), copy=False)
        return part._replace(X=x, y=self._targets(part.y))

    def read_targets(self) -> Part:
        part = self.source.read_targets()
        return part._replace(X=None, y=self._targets(part.y))

    def _targets(self, y: np.ndarray | None) -> np.ndarray | None:
        return y if y is None or self.targets is None else self.targets.applied(y)


def _names(pieces: Sequence[Table]) -> list[str]:
    count: dict[Path, int] = {}
    for piece in pieces:
        count[piece.path] = count.get(piece.path, 0) + 1
    at: dict[Path, int] = {}
    found = []
    for piece in pieces:
        at[piece.path] = at.get(piece.path, 0) + 1
        many = count[piece.path] > 1
        found.append(f"{piece.path} (piece {at[piece.path]} of {count[piece.path]})" if many
                     else str(piece.path))
    return found


def _pieces(table: Table) -> list[Table]:
    """A Parquet table in pieces of some size: row groups that follow one another."""
    if not isinstance(table, ParquetTable):
        return [table]
    groups: list[list[int]] = []
    held = 0
    for i, rows in enumerate(table.sizes):
        size = rows * 8 * (len(table.names) - 1)
        if not groups or held + size > files.PIECE_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(i)
        held += size
    return [replace(table, groups=tuple(own)) for own in groups] or [replace(table, groups=())]
