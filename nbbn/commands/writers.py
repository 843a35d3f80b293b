"""Tables written row by row: `.npy`, `.csv` and `.tsv`."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np


class Writer(Protocol):
    """What rows are appended to."""

    def write(self, rows: np.ndarray) -> None:
        """Append rows; their dtype and shape are those of the first call."""


class NpyWriter:
    """Rows appended to a `.npy` file whose number is known at the end."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")
        self._rows = 0
        self._like: np.ndarray | None = None

    def __enter__(self) -> NpyWriter:
        return self

    def write(self, rows: np.ndarray) -> None:
        """Append rows; their dtype and shape are those of the first call."""
        if self._like is None:
            self._like = rows[:0]
            self._file.write(self._header(self._like))
        self._file.write(np.ascontiguousarray(rows, self._like.dtype).tobytes())
        self._rows += len(rows)

    def _header(self, like: np.ndarray) -> bytes:
        # NumPy leaves room in a header for the number of rows to grow: the last one is as long as
        # the first.
        buffer = io.BytesIO()
        descr, shape = np.lib.format.dtype_to_descr(like.dtype), (self._rows, *like.shape[1:])
        header = {"descr": descr, "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(buffer, header)
        return buffer.getvalue()

    def __exit__(self, *exc: object) -> None:
        try:
            if self._like is not None:
                self._file.seek(0)
                self._file.write(self._header(self._like))
        finally:
            self._file.close()


class TextWriter:
    """Rows appended to a text table, a line of names first; the caller closes the file."""

    def __init__(self, file: TextIO, names: list[str], delimiter: str):
        self._file, self._delimiter = file, delimiter
        self._file.write(self._line(names))

    def write(self, rows: np.ndarray) -> None:
        """Append rows; numbers with as many digits as their dtype needs to be read back."""
        flat = rows.reshape(len(rows), -1)
        for row in self._floats(flat) if rows.dtype.kind == "f" else flat.tolist():
            self._file.write(self._line(row))

    @staticmethod
    def _floats(rows: np.ndarray) -> Iterator[list[str]]:
        # str of a NumPy scalar is the shortest text that reads back as the same float32 or float64.
        return ([str(value) for value in row] for row in rows)

    def _line(self, fields: Iterable[Any]) -> str:
        return self._delimiter.join(self._quoted(str(field)) for field in fields) + "\n"

    def _quoted(self, text: str) -> str:
        if self._delimiter in text or '"' in text or "\n" in text:
            return '"' + text.replace('"', '""') + '"'
        return text
