"""Tables of numbers in `.npy`, `.csv`, `.tsv` and `.parquet` files, read in chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice
from pathlib import Path

import numpy as np

from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_suffix
from nbbn.partitions import parquet
from nbbn.tables import dialect
from nbbn.tables.description import Description, Target, of_numbers
from nbbn.tables.dialect import DELIMITERS
from nbbn.tables.matching import encoded_chunks
from nbbn.tables.reading import numbered, open_table

SUFFIXES = (".npy", *DELIMITERS, ".parquet")
# Bytes of parsed rows held at a time.
_CHUNK_BYTES = 1 << 24
# Rows, the line that they begin at (None in files without lines), and the fraction read.
_Chunk = tuple[np.ndarray, int | None, float]


def read_chunks(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Rows of a table in order: finite numbers `(rows, ...)`, and the fraction read so far.

    UnusableInput says which line or row cannot be used, and why.
    """
    for _, rows, fraction in read_many([path]):
        yield rows, fraction


def read_many(paths: Sequence[Path],
              columns: Sequence[str] | None = None) -> Iterator[tuple[Path, np.ndarray, float]]:
    """As `read_chunks`, of one file after the other, with the file's path.

    A file of several may be empty. `columns` are those that are read of Parquet tables; all
    without.
    """
    return _one_after_the_other(paths, lambda path: _finite_chunks(path, columns))


def read_described(paths: Sequence[Path], description: Description,
                   unexpected: set[str]) -> Iterator[tuple[Path, np.ndarray, float]]:
    """As `read_many`, of tables whose columns are encoded as the description says.

    Arrays are taken for encoded. `unexpected` is given the columns with missing cells that had none
    in training.
    """
    def chunks(path: Path) -> Iterator[tuple[np.ndarray, float]]:
        if path.suffix.lower() == ".npy":
            return _finite_chunks(path, None)
        return encoded_chunks(path, description, unexpected)

    return _one_after_the_other(paths, chunks)


def _one_after_the_other(
    paths: Sequence[Path], chunks: Callable[[Path], Iterator[tuple[np.ndarray, float]]],
) -> Iterator[tuple[Path, np.ndarray, float]]:
    for path in paths:
        check_suffix(path, SUFFIXES)
    sizes = [max(1, path.stat().st_size) for path in paths]
    before, some = 0, False
    for path, size in zip(paths, sizes):
        for rows, fraction in chunks(path):
            yield path, rows, (before + fraction * size) / sum(sizes)
            some = True
        before += size
    if not some:
        what = f"{paths[0]} holds" if len(paths) == 1 else f"{len(paths)} files hold"
        raise UnusableInput(f"{what} no rows")


def _finite_chunks(path: Path,
                   columns: Sequence[str] | None) -> Iterator[tuple[np.ndarray, float]]:
    first = 0
    for rows, line, fraction in _chunks(path, columns):
        _check_finite(path, rows, first, line)
        if len(rows):
            yield rows, fraction
        first += len(rows)


def _chunks(path: Path, columns: Sequence[str] | None) -> Iterator[_Chunk]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _parquet_chunks(path, columns)
    if suffix == ".npy":
        return _npy_chunks(path)
    found = dialect.find(path)
    plain = found.encoding.startswith("utf-8") and found.delimiter == DELIMITERS[suffix]
    return _text_chunks(path) if plain else _foreign_chunks(path)


def _foreign_chunks(path: Path) -> Iterator[_Chunk]:
    """A text table of another dialect than its name says, of numbers."""
    names = open_table(path).names
    description = of_numbers(numbered(len(names)), False, Target(None, False))
    for rows, fraction in encoded_chunks(path, description, set()):
        yield rows, None, fraction


def open_array(path: Path) -> np.ndarray:
    """The array of a `.npy` file, memory-mapped, of numbers and with a row axis."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError):
        raise UnusableInput(f"{path} is not a NumPy array file, "
                            "or holds more than plain numbers") from None
    if not isinstance(array, np.ndarray):
        raise UnusableInput(f"{path} is not a NumPy array file")
    if array.dtype.kind not in "fiub":
        raise UnusableInput(f"{path} holds {array.dtype}, not real numbers")
    if array.ndim < 2:
        raise UnusableInput(f"{path} holds an array of shape {array.shape}; "
                            "it must have rows and columns")
    return array


def read_rows(path: Path, description: Description | None = None) -> np.ndarray:
    """All rows of a table in one array; encoded, where a model has a description."""
    if description is None:
        return np.concatenate([rows for rows, _ in read_chunks(path)])
    return np.concatenate([rows for _, rows, _ in read_described([path], description, set())])


def _npy_chunks(path: Path) -> Iterator[_Chunk]:
    array = open_array(path)
    step = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for first in range(0, len(array), step):
        rows = np.ascontiguousarray(array[first : first + step])
        yield rows, None, (first + len(rows)) / len(array)


def _parquet_chunks(path: Path, columns: Sequence[str] | None) -> Iterator[_Chunk]:
    table = parquet.open_table(path)
    with table:
        rows, names = table.metadata.num_rows, table.schema_arrow.names
    if missing := [name for name in columns or () if name not in names]:
        raise UnusableInput(f"{path} has no column {missing[0]!r}, which the model was fitted on")
    width, done = len(columns or names), 0
    for batch in parquet.read_batches(path, max(1, _CHUNK_BYTES // (8 * max(1, width))), columns):
        batch = {name: batch[name] for name in columns or batch}
        done += len(next(iter(batch.values())))
        yield parquet.as_rows(path, batch), None, done / rows


def _text_chunks(path: Path) -> Iterator[_Chunk]:
    delimiter = DELIMITERS[path.suffix.lower()]
    size = max(1, path.stat().st_size)
    with open(path, "rb") as file:
        first = file.readline()
        lines: Iterable[bytes] = chain([first], file)
        number, done, columns = 1, 0, None
        if _is_header(path, first, delimiter):
            lines, number, done = file, 2, len(first)
        step = max(1, _CHUNK_BYTES // (8 * (first.count(delimiter.encode()) + 1)))
        while block := list(islice(lines, step)):
            rows = _parse(path, block, delimiter, number, columns)
            columns = rows.shape[1] if len(rows) else columns
            done += sum(map(len, block))
            if len(rows):
                yield rows, number, min(1.0, done / size)
            number += len(block)


def split_line(path: Path, line: bytes, number: int, delimiter: str) -> list[str]:
    """The fields of a line; a delimiter within quotes is not looked for."""
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise UnusableInput(f"{path}: line {number} is not text") from None
    return [field.strip().strip('"') for field in text.strip("\r\n").split(delimiter)]


def parse_number(field: str) -> float | None:
    """The number that a field holds, or None."""
    try:
        return float(field)
    except ValueError:
        return None


def _is_header(path: Path, line: bytes, delimiter: str) -> bool:
    """Whether the first line names the columns: not one of its fields is a number."""
    fields = split_line(path, line, 1, delimiter)
    return any(fields) and all(parse_number(field) is None for field in fields)


def _parse(path: Path, lines: list[bytes], delimiter: str, number: int,
           columns: int | None) -> np.ndarray:
    """The numbers of some lines; blank lines are left out."""
    if not any(line.strip() for line in lines):
        return np.empty((0, columns or 0))
    try:
        rows = np.loadtxt(lines, delimiter=delimiter, comments=None, quotechar='"', ndmin=2,
                          encoding="utf-8-sig")
    except ValueError:
        rows = None
    if rows is None or (columns is not None and rows.shape[1] != columns):
        raise UnusableInput(f"{path}: {_complaint(path, lines, delimiter, number, columns)}")
    return rows


def _complaint(path: Path, lines: list[bytes], delimiter: str, number: int,
               columns: int | None) -> str:
    """Which line is to blame."""
    for i, line in enumerate(lines, number):
        if not line.strip():
            continue
        fields = split_line(path, line, i, delimiter)
        columns = columns or len(fields)
        if len(fields) != columns:
            return f"line {i} has {len(fields)} columns, the lines before have {columns}"
        for column, field in enumerate(fields, 1):
            if parse_number(field) is None:
                return f"line {i}, column {column}: {field[:40]!r} is not a number"
    return f"the lines from {number} on cannot be read"


def _check_finite(path: Path, rows: np.ndarray, first: int, line: int | None) -> None:
    if rows.dtype.kind != "f" or np.isfinite(rows).all():
        return
    flat = rows.reshape(len(rows), -1)
    row, column = np.argwhere(~np.isfinite(flat))[0]
    where = f"row {first + row + 1}"
    if line is not None:
        where += f" (from line {line + row} on)"
    raise UnusableInput(f"{path}: {where}, column {column + 1} is {flat[row, column]}; "
                        "rows must be finite numbers")
