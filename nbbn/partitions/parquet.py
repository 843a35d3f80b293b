"""Parquet tables, read a piece at a time by pyarrow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from nbbn.formats.files import FileError, one_line

# Bytes that are read of a column at once, where a row group is not.
_BUFFER_BYTES = 1 << 17


def pyarrow_for(path: Path) -> ModuleType:
    """The package; ImportError, which names the file that needs it, where it is not installed."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as err:
        raise ImportError(f"{path}: .parquet files need the package pyarrow: "
                          "python -m pip install pyarrow") from err
    return pyarrow


def open_table(path: Path, **options: Any) -> Any:
    """A Parquet file, of which nothing but the description is read; raises for any other file."""
    pyarrow = pyarrow_for(path)
    try:
        return pyarrow.parquet.ParquetFile(path, **options)
    except (pyarrow.ArrowException, ValueError) as err:
        reason = one_line(err, 100)
        raise FileError(f"{path} is not a Parquet file, or broken ({reason})") from None


def read_batches(path: Path, rows: int, columns: Sequence[str] | None = None,
                 groups: Sequence[int] | None = None, *,
                 threads: bool = True) -> Iterator[dict[str, np.ndarray]]:
    """Columns by name, up to `rows` rows at a time; of all columns and row groups, or some.

    Without `threads` a row group is read bit by bit, too.
    """
    pyarrow = pyarrow_for(path)
    with open_table(path, **({} if threads else {"buffer_size": _BUFFER_BYTES})) as table:
        try:
            for batch in table.iter_batches(rows, columns=columns, row_groups=groups,
                                            use_threads=threads):
                found = zip(batch.schema.names, batch.columns)
                yield {name: _values(path, name, column) for name, column in found}
        except (pyarrow.ArrowException, OSError) as err:
            raise FileError(f"{path} is broken ({one_line(err, 100)})") from None


def _values(path: Path, name: str, column: Any) -> np.ndarray:
    if missing := column.null_count:
        raise FileError(f"{path}: column {name!r} has {missing} missing values; "
                        "fill or leave them out")
    return column.to_numpy(zero_copy_only=False)


def check_number(path: Path, name: str, dtype: np.dtype) -> None:
    """FileError for a column of others than numbers."""
    if dtype.kind not in "fiub":
        raise FileError(f"{path}: column {name!r} holds no numbers; convert it, or leave it out")


def as_rows(path: Path, columns: dict[str, np.ndarray]) -> np.ndarray:
    """Columns of numbers as one array `(rows, columns)`: float32 where all are, else float64."""
    for name, values in columns.items():
        check_number(path, name, values.dtype)
    single = all(values.dtype == np.float32 for values in columns.values())
    rows = np.stack(list(columns.values()), axis=1)
    return rows.astype(np.float32 if single else np.float64, copy=False)
