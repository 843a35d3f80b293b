"""Text files and Parquet files as columns, a piece at a time, as often as asked for."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Protocol

from nbbn.formats.files import FileError, one_line
from nbbn.partitions import files, parquet
from nbbn.tables import dialect, plain_lines
from nbbn.tables.cells import Cells, is_value

# Cells of a piece.
_PIECE_CELLS = 1 << 19
# Whether a first line names the columns.
IsHeader = Callable[[list[str]], bool]


@dataclass(frozen=True)
class Piece:
    """Some rows of a table."""

    columns: dict[str, Cells]
    rows: int
    fraction: float  # of the table that is read
    plain: bool = False  # of lines that were parsed at once, so that numbers have no texts


class Table(Protocol):
    """A table that can be gone over again and again."""

    @property
    def path(self) -> Path:
        """Of the file."""

    @property
    def names(self) -> list[str]:
        """Of the columns: `column 1` and so on where the file names none."""

    @property
    def named(self) -> bool:
        """Whether the file names them."""

    @property
    def notes(self) -> list[str]:
        """What is out of the ordinary, in words."""

    @property
    def index(self) -> str | None:
        """The column that may be pandas's index."""

    def pieces(self, names: Sequence[str],
               texts: Sequence[str] | None = None) -> Iterator[Piece]:
        """These columns, some rows at a time.

        `texts` are those whose texts are wanted; None: all.
        """


def open_table(path: Path, is_header: IsHeader | None = None) -> Table:
    """A `.csv`, `.tsv` or `.parquet` file; FileError for one that cannot be read."""
    if path.suffix.lower() == ".parquet":
        return ParquetTable.open(path)
    return TextTable.open(path, is_header or names_columns)


def names_columns(fields: list[str]) -> bool:
    """Whether a first line names the columns: none of its fields but the last is a value."""
    first, *others = fields[:-1] or fields
    # What pandas writes of an index has no name.
    return (not first.strip() or not is_value(first)) and not any(map(is_value, others))


def check_columns(table: Table, names: Sequence[str], why: str) -> None:
    """FileError where a table lacks one of these columns."""
    missing = [name for name in names if name not in table.names]
    if missing:
        more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise FileError(f"{table.path} has no column {one_line(repr(missing[0]), 60)}{more}"
                        f"{why}; it has {one_line(', '.join(table.names), 200) or 'none'}")


def numbered(count: int) -> list[str]:
    """What columns without names are called."""
    return [f"column {i}" for i in range(1, count + 1)]


def _distinct(names: list[str]) -> list[str]:
    """Names as pandas makes them differ: `a`, `a.1`; what has none is called by its number."""
    seen: Counter[str] = Counter()
    found: list[str] = []
    for i, name in enumerate(names, 1):
        name = name.strip() or f"column {i}"
        own = name
        while own in seen:
            own = f"{name}.{seen[name]}"
            seen[name] += 1
        seen[own] += 1
        found.append(own)
    return found


# -- text


@dataclass(frozen=True)
class TextTable:
    """A text table."""

    path: Path
    dialect: dialect.Dialect
    names: list[str]
    named: bool
    index: str | None = None

    @classmethod
    def open(cls, path: Path, is_header: IsHeader) -> TextTable:
        """Read the first line."""
        found = dialect.find(path)
        bare = cls(path, found, [], False)
        fields = next(iter(bare._first(1)), None)
        if fields is None:
            return bare
        if not is_header(fields):
            return replace(bare, names=numbered(len(fields)))
        names = _distinct(fields)
        index = names[0] if not fields[0].strip() else None
        return replace(bare, names=names, named=True, index=index)

    @property
    def notes(self) -> list[str]:
        """What is out of the ordinary, in words."""
        found = self.dialect.notes(self.path.suffix.lower())
        return [f"{self.path} is read as: {', '.join(found)}"] if found else []

    def _blocks(self, rows: int) -> Iterator[tuple[list[list[str]], Sequence[int]]]:
        """The fields of lines that are not blank, so many rows at a time, and their numbers."""
        csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
        with open(self.path, encoding=self.dialect.encoding, newline="") as file:
            reader, before = csv.reader(file, delimiter=self.dialect.delimiter), 0
            while True:
                try:
                    block = list(islice(reader, rows))
                except (csv.Error, UnicodeError) as err:
                    raise FileError(f"{self.path}: line {reader.line_num} cannot be read "
                                    f"({one_line(err, 100)}); look at it in an editor") from None
                if not block:
                    return
                yield _with_lines(block, before, reader.line_num)
                before = reader.line_num

    def _first(self, count: int) -> list[list[str]]:
        """So many rows from the beginning, fewer where the file has no more."""
        found: list[list[str]] = []
        for block, _ in self._blocks(8):
            found += block
            if len(found) >= count:
                break
        return found[:count]

    def width(self) -> int:
        """Fields of the first row of values; of the header where there is none."""
        rows = self._first(2)[self.named :]
        return len(rows[0]) if rows else len(self.names)

    def pieces(self, names: Sequence[str],
               texts: Sequence[str] | None = None) -> Iterator[Piece]:
        """These columns, some rows at a time."""
        done, total = 0, max(1, self.path.stat().st_size)
        step = max(8, _PIECE_CELLS // len(self.names))
        if texts is not None:
            for piece in self._plain_pieces(names, texts, step, total):
                yield piece
                done += piece.rows
        yield from self._field_pieces(names, step, total, done)

    def _plain_pieces(self, names: Sequence[str], texts: Sequence[str], step: int,
                      total: int) -> Iterator[Piece]:
        """Pieces up to the first that is not plain."""
        own = [name for name in names if name not in texts]
        others = [name for name in names if name in texts]
        done, read = 0, 0
        for block in plain_lines.blocks(self.path, self.dialect, self.named, len(self.names),
                                        self._places(own), self._places(others), step):
            rows = block.numbers.shape[1]
            lines = range(block.line, block.line + rows)
            values: list[Any] = [*block.numbers, *block.texts]
            columns = {name: Cells(self.path, name, column, ".", lines, done)
                       for name, column in zip([*own, *others], values)}
            done, read = done + rows, read + block.size
            yield Piece(columns, rows, min(1.0, read / total), plain=True)

    def _places(self, names: Sequence[str]) -> list[int]:
        return [self.names.index(name) for name in names]

    def _field_pieces(self, names: Sequence[str], step: int, total: int,
                      skip: int) -> Iterator[Piece]:
        """Pieces of any lines, some rows left out."""
        at, count = self._places(names), len(self.names)
        done, read, header = 0, 0, self.named
        for rows, lines in self._blocks(step):
            if header and rows:
                rows, lines, header = rows[1:], lines[1:], False
            if done < skip:
                left = min(len(rows), skip - done)
                done, rows, lines = done + left, rows[left:], lines[left:]
            if set(map(len, rows)) != {count}:
                rows, lines = self._checked(rows, lines)
            if not rows:
                continue
            read += sum(map(len, chain.from_iterable(rows))) + sum(map(len, rows))
            across = list(zip(*rows))
            columns = {name: Cells(self.path, name, across[i], self.dialect.decimal, lines, done)
                       for name, i in zip(names, at)}
            yield Piece(columns, len(rows), min(1.0, read / total))
            done += len(rows)

    def _checked(self, rows: list[list[str]],
                 lines: Sequence[int]) -> tuple[list[list[str]], Sequence[int]]:
        """Rows without those of blanks alone; FileError for one of another number of fields."""
        count, mark = len(self.names), repr(self.dialect.delimiter)
        kept = [i for i, row in enumerate(rows) if len(row) > 1 or row[0].strip()]
        for i in kept:
            if len(rows[i]) != count:
                advice = f"mend it: fields that hold {mark} go in quotes"
                if any("\n" in field for field in rows[i]):
                    advice = "a quotation mark may be left open there"
                raise FileError(f"{self.path}: line {lines[i]} has {len(rows[i])} columns, the "
                                f"first line has {count}; {advice}")
        return [rows[i] for i in kept], [lines[i] for i in kept]


def _with_lines(block: list[list[str]], before: int,
                after: int) -> tuple[list[list[str]], Sequence[int]]:
    """Rows that are not blank, and the line that each begins at."""
    if after - before == len(block) and all(block):
        return block, range(before + 1, after + 1)
    rows, lines, line = [], [], before + 1
    for row in block:
        if len(row) > 1 or any(row):
            rows.append(row)
            lines.append(line)
        line += 1 + sum(field.count("\n") for field in row)
    return rows, lines


# -- Parquet


@dataclass(frozen=True)
class ParquetTable:
    """A Parquet table, or some of its row groups."""

    path: Path
    names: list[str]
    sizes: list[int]  # rows of each group
    single: frozenset[str]  # columns of float32
    whole: frozenset[str]  # columns of whole numbers
    groups: tuple[int, ...] | None = None
    named: bool = True
    index: str | None = "__index_level_0__"

    @property
    def notes(self) -> list[str]:
        """Nothing: a Parquet file says how it is written."""
        return []

    @classmethod
    def open(cls, path: Path) -> ParquetTable:
        """Read the description."""
        with files.named(path), parquet.open_table(path) as table:
            schema, data = table.schema_arrow, table.metadata
            sizes = [data.row_group(i).num_rows for i in range(data.num_row_groups)]
        kinds = {field.name: str(field.type) for field in schema}
        single = frozenset(name for name, kind in kinds.items() if kind == "float")
        whole = frozenset(name for name, kind in kinds.items() if kind.startswith("int"))
        return cls(path, list(schema.names), sizes, single, whole)

    def pieces(self, names: Sequence[str],
               texts: Sequence[str] | None = None) -> Iterator[Piece]:
        """These columns, some rows at a time."""
        sizes = [self.sizes[i] for i in self.groups] if self.groups is not None else self.sizes
        total, done = max(1, sum(sizes)), 0
        step = max(1, _PIECE_CELLS // max(1, len(names)))
        for batch, rows in _batches(self.path, step, list(names), self.groups):
            columns = {name: Cells(self.path, name, batch[name], first=done) for name in names}
            done += rows
            yield Piece(columns, rows, done / total)


def _batches(path: Path, rows: int, names: list[str],
             groups: Sequence[int] | None) -> Iterator[tuple[dict[str, Any], int]]:
    """Columns as arrays of numbers, truths or times, or as lists of texts."""
    pyarrow = parquet.pyarrow_for(path)
    with parquet.open_table(path) as table:
        try:
            for batch in table.iter_batches(rows, columns=names, row_groups=groups):
                found = zip(batch.schema.names, batch.columns)
                yield {name: _values(path, name, column) for name, column in found}, batch.num_rows
        except (pyarrow.ArrowException, OSError) as err:
            raise FileError(f"{path} is broken ({one_line(err, 100)})") from None


# Types of Arrow's of which no numbers are made.
_NO_VALUES = ("list", "large_list", "struct", "map", "fixed_size", "binary", "large_binary")


def _values(path: Path, name: str, column: Any) -> Any:
    kind = str(column.type)
    if kind.startswith("dictionary"):
        column = column.dictionary_decode()
    if kind.startswith(_NO_VALUES):
        raise FileError(f"{path}: column {name!r} holds {one_line(kind, 40)}, of which no numbers "
                        "are made; leave it out: --ignore")
    values = column.to_numpy(zero_copy_only=False)
    return values if values.dtype.kind in "fiubM" else values.tolist()
