"""Parquet tables, written a piece at a time by pyarrow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from nbbn.partitions.parquet import pyarrow_for

# Rows of a piece that is written.
_GROUP_ROWS = 1 << 16


class ParquetWriter:
    """Rows appended to a Parquet file of columns with these names."""

    def __init__(self, path: Path, names: list[str]):
        self._pyarrow, self._path, self._names = pyarrow_for(path), path, names
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
