"""Tables written row by row: `.npy`, `.csv` and `.tsv`."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np


class NpyWriter:
    """Rows appended to a `.npy` file whose number is known at the end."""

    def __init__(self, path: Path):
        self._file = open(path, "wb")
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
