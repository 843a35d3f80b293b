"""Rows of numbers in `.npy`, `.csv` and `.tsv` files: read in chunks, predictions written as they come."""

from __future__ import annotations

import io
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np

from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_suffix

DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".npy", *DELIMITERS)
# Bytes of parsed rows held at a time.
_CHUNK_BYTES = 1 << 24


def read_chunks(path: Path) -> Iterator[tuple[np.ndarray, float]]:
    """Rows of a table in order: arrays `(rows, ...)`, finite numbers, each with the fraction of the file read so far.

    Raises
    ------
    UnusableInput
        Which line or row cannot be used, and why.
    """
    check_suffix(path, SUFFIXES)
    chunks = _npy_chunks(path) if path.suffix.lower() == ".npy" else _text_chunks(path)
    first = 0
    for rows, line, fraction in chunks:
        _check_finite(path, rows, first, line)
        yield rows, fraction
        first += len(rows)
    if first == 0:
        raise UnusableInput(f"{path} holds no rows")


def open_array(path: Path) -> np.ndarray:
    """The array of a `.npy` file, memory-mapped, of numbers and with a row axis."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise UnusableInput(f"{path} is not a NumPy array file: {error}") from None
    if not isinstance(array, np.ndarray):
        raise UnusableInput(f"{path} is not a NumPy array file")
    if array.dtype.kind not in "fiub":
        raise UnusableInput(f"{path} holds {array.dtype}, not real numbers")
    if array.ndim < 2:
        raise UnusableInput(f"{path} holds an array of shape {array.shape}; it must have rows and columns")
    return array


def read_rows(path: Path) -> np.ndarray:
    """All rows of a table in one array."""
    return np.concatenate([rows for rows, _ in read_chunks(path)])


def _npy_chunks(path):
    array = open_array(path)
    step = max(1, _CHUNK_BYTES // max(1, array[:1].nbytes))
    for first in range(0, len(array), step):
        rows = np.ascontiguousarray(array[first : first + step])
        yield rows, None, (first + len(rows)) / len(array)


def _text_chunks(path):
    delimiter = DELIMITERS[path.suffix.lower()]
    size = max(1, path.stat().st_size)
    with open(path, "rb") as file:
        first = file.readline()
        header = _is_header(path, first, delimiter)
        lines, number, done = (file if header else chain([first], file)), 2 if header else 1, len(first) if header else 0
        columns = None
        step = max(1, _CHUNK_BYTES // (8 * (first.count(delimiter.encode()) + 1)))
        while block := list(islice(lines, step)):
            rows = _parse(path, block, delimiter, number, columns)
            columns = rows.shape[1] if len(rows) else columns
            done += sum(map(len, block))
            if len(rows):
                yield rows, number, min(1.0, done / size)
            number += len(block)


def _fields(path, line, number, delimiter) -> list[str]:
    try:
        text = line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError:
        raise UnusableInput(f"{path}: line {number} is not text") from None
    return [field.strip().strip('"') for field in text.strip("\r\n").split(delimiter)]


def _number(field: str) -> float | None:
    try:
        return float(field)
    except ValueError:
        return None


def _is_header(path, line, delimiter) -> bool:
    """Whether the first line names the columns: not one of its fields is a number."""
    fields = _fields(path, line, 1, delimiter)
    return any(fields) and all(_number(field) is None for field in fields)


def _parse(path, lines, delimiter, number, columns) -> np.ndarray:
    """The numbers of some lines; blank lines are left out."""
    if not any(line.strip() for line in lines):
        return np.empty((0, columns or 0))
    try:
        rows = np.loadtxt(lines, delimiter=delimiter, comments=None, quotechar='"', ndmin=2, encoding="utf-8-sig")
    except ValueError:
        rows = None
    if rows is None or (columns is not None and rows.shape[1] != columns):
        raise UnusableInput(f"{path}: {_complaint(path, lines, delimiter, number, columns)}")
    return rows


def _complaint(path, lines, delimiter, number, columns) -> str:
    """Which line is to blame."""
    for i, line in enumerate(lines, number):
        if not line.strip():
            continue
        fields = _fields(path, line, i, delimiter)
        columns = columns or len(fields)
        if len(fields) != columns:
            return f"line {i} has {len(fields)} columns, the lines before have {columns}"
        for column, field in enumerate(fields, 1):
            if _number(field) is None:
                return f"line {i}, column {column}: {field[:40]!r} is not a number"
    return f"the lines from {number} on cannot be read"


def _check_finite(path, rows, first, line):
    if rows.dtype.kind != "f" or np.isfinite(rows).all():
        return
    flat = rows.reshape(len(rows), -1)
    row, column = np.argwhere(~np.isfinite(flat))[0]
    where = f"row {first + row + 1}" if line is None else f"row {first + row + 1} (from line {line + row} on)"
    raise UnusableInput(f"{path}: {where}, column {column + 1} is {flat[row, column]}; rows must be finite numbers")


class NpyWriter:
    """Rows appended to a `.npy` file whose number is known at the end."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")  # noqa: SIM115, closed in __exit__
        self._rows, self._shape, self._dtype = 0, None, None

    def __enter__(self):
        return self

    def write(self, rows: np.ndarray) -> None:
        """Append rows; their dtype and shape are those of the first call."""
        if self._shape is None:
            self._shape, self._dtype = rows.shape[1:], rows.dtype
            self._file.write(self._header())
        self._file.write(np.ascontiguousarray(rows, self._dtype).tobytes())
        self._rows += len(rows)

    def _header(self) -> bytes:
        # NumPy leaves room in a header for the number of rows to grow: the last one is as long as the first.
        buffer = io.BytesIO()
        description = {"descr": np.lib.format.dtype_to_descr(self._dtype), "fortran_order": False}
        np.lib.format.write_array_header_1_0(buffer, {**description, "shape": (self._rows, *self._shape)})
        return buffer.getvalue()

    def __exit__(self, *exc):
        try:
            if self._shape is not None:
                self._file.seek(0)
                self._file.write(self._header())
        finally:
            self._file.close()


class TextWriter:
    """Rows appended to a text table.

    Parameters
    ----------
    file : text file
        Open for writing; closed by the caller.
    names : list of str
        The columns' names, written first.
    delimiter : str
    """

    def __init__(self, file, names: list[str], delimiter: str):
        self._file, self._delimiter = file, delimiter
        self._file.write(self._line(names))

    def write(self, rows: np.ndarray) -> None:
        """Append rows; numbers with as many digits as their dtype needs to be read back."""
        for row in rows.reshape(len(rows), -1).tolist() if rows.dtype.kind not in "f" else self._floats(rows):
            self._file.write(self._line(row))

    @staticmethod
    def _floats(rows):
        # str of a NumPy scalar is the shortest text that reads back as the same float32 or float64.
        return ([str(value) for value in row] for row in rows.reshape(len(rows), -1))

    def _line(self, fields) -> str:
        return self._delimiter.join(self._quoted(str(field)) for field in fields) + "\n"

    def _quoted(self, text: str) -> str:
        if self._delimiter in text or '"' in text or "\n" in text:
            return '"' + text.replace('"', '""') + '"'
        return text
