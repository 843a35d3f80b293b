"""Parquet tables, read and written a piece at a time by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nbbn.commands.errors import UnusableInput
from nbbn.formats.files import one_line

# Rows of a piece that is written.
_GROUP_ROWS = 1 << 16


def _pyarrow(path: Path) -> ModuleType:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as err:
        raise ImportError(f"{path}: .parquet files need the package pyarrow: "
                          "python -m pip install pyarrow") from err
    return pyarrow


def open_table(path: Path) -> Any:
    """A Parquet file, of which nothing but the description is read; raises for any other file."""
    pyarrow = _pyarrow(path)
    try:
        return pyarrow.parquet.ParquetFile(path)
    except (pyarrow.ArrowException, ValueError) as err:
        reason = one_line(err, 100)
        raise UnusableInput(f"{path} is not a Parquet file, or broken ({reason})") from None


def read_batches(path: Path, rows: int) -> Iterator[dict[str, np.ndarray]]:
    """Columns by name, up to `rows` rows at a time."""
    pyarrow = _pyarrow(path)
    table = open_table(path)
    with table:
        try:
            for batch in table.iter_batches(rows):
                columns = zip(batch.schema.names, batch.columns)
                yield {name: _values(path, name, column) for name, column in columns}
        except (pyarrow.ArrowException, OSError) as err:
            raise UnusableInput(f"{path} is broken ({one_line(err, 100)})") from None


def _values(path: Path, name: str, column: Any) -> np.ndarray:
    if missing := column.null_count:
        raise UnusableInput(f"{path}: column {name!r} has {missing} missing values; "
                            "fill or leave them out")
    return column.to_numpy(zero_copy_only=False)


def as_rows(path: Path, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Columns of numbers as one array `(rows, columns)`: float32 where all are, else float64."""
    for name, values in columns.items():
        if values.dtype.kind not in "fiub":
            raise UnusableInput(f"{path}: column {name!r} holds no numbers; convert it, "
                                "or leave it out")
    single = all(values.dtype == np.float32 for values in columns.values())
    rows = np.stack(list(columns.values()), axis=1)
    return rows.astype(np.float32 if single else np.float64, copy=False)


class ParquetWriter:
    """Rows appended to a Parquet file of columns with these names."""

    def __init__(self, path: Path, names: list[str]):
        self._pyarrow, self._path, self._names = _pyarrow(path), path, names
        self._file: Any = None

    def __enter__(self) -> ParquetWriter:
        return self

    def write(self, rows: np.ndarray) -> None:
        """Append rows; their dtype is that of the first call."""
        columns = map(np.ascontiguousarray, rows.reshape(len(rows), -1).T)
        table = self._pyarrow.table(dict(zip(self._names, columns)))
        if self._file is None:
            self._file = self._pyarrow.parquet.ParquetWriter(self._path, table.schema)
        self._file.write_table(table, row_group_size=_GROUP_ROWS)

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
