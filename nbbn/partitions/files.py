"""Files of rows: `.parquet`, `.npz`, and pairs of `.npy`; which there are, and how each is read."""

from __future__ import annotations

import glob
import math
import os
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.formats.files import BROKEN_NPZ, FileError, PathLike, one_line
from nbbn.partitions import parquet
from nbbn.partitions.sources import Header, Part, Source, check_lengths, common_dtype

# Bytes of rows from which a file is several partitions, where it can be read in pieces.
PIECE_BYTES = 64 << 20
# Rows of a Parquet file that are decoded at once: 100 columns of 65,536 rows leave the cache before
# they stand in rows, which takes three times as long.
_DECODED_ROWS = 1 << 13

@contextmanager
def named(path: Path) -> Iterator[None]:
    """What the system says of a file as a FileError that names it."""
    try:
        yield
    except FileError:
        raise
    except FileNotFoundError as err:
        raise FileError(f"{path}: does not exist; check the path") from err
    except OSError as err:
        raise FileError(f"{path}: cannot be read ({err.strerror or one_line(err)}); "
                        "check the path and its permissions") from err


# -- which files


def matching(files: PathLike | Iterable[Any], suffixes: Iterable[str]) -> list[Any]:
    """The files that a pattern, a folder or a list of both stands for; pairs stay as they are.

    FileError where there are none.
    """
    if isinstance(files, (str, os.PathLike)):
        return _of_one(Path(files), tuple(suffixes))
    found: list[Any] = []
    for entry in files:
        own = isinstance(entry, (str, os.PathLike))
        found += _of_one(Path(entry), tuple(suffixes)) if own else [tuple(map(Path, entry))]
    if not found:
        raise FileError("files names no file; give a pattern, a folder or a list of paths")
    return found


def _of_one(path: Path, suffixes: tuple[str, ...]) -> list[Path]:
    if path.is_dir():
        within = (p for p in path.iterdir() if p.suffix.lower() in suffixes and p.is_file())
        if not (found := sorted(within)):
            raise FileError(f"{path}: the folder holds no {' or '.join(suffixes)} file; "
                            "check the path")
        return found
    if path.exists() or not glob.has_magic(str(path)):
        return [path]
    if not (found := sorted(Path(name) for name in glob.glob(str(path), recursive=True))):
        raise FileError(f"{path}: no file matches the pattern; check it")
    return found


# -- Parquet


@dataclass(frozen=True)
class _Parquet:
    """Some row groups of a Parquet file."""

    path: Path
    name: str
    groups: tuple[int, ...]
    head: Header
    target: str | None
    weight: str | None

    @property
    def size(self) -> int | None:
        return self.path.stat().st_size

    def header(self) -> Header:
        return self.head

    def read(self) -> Part:
        with named(self.path):
            x = np.empty((self.head.rows, *self.head.shape), self.head.dtype)
            apart, at = self._apart(), 0
            kept: dict[str, list[np.ndarray]] = {name: [] for name in apart}
            assert self.head.columns is not None
            for batch in self._batches([*self.head.columns, *apart]):
                rows = len(next(iter(batch.values())))
                for j, name in enumerate(self.head.columns):
                    x[at : at + rows, j] = batch[name]
                for name in apart:
                    kept[name].append(batch[name])
                at += rows
            return self._part(x, kept)

    def read_targets(self) -> Part:
        with named(self.path):
            apart = self._apart()
            kept: dict[str, list[np.ndarray]] = {name: [] for name in apart}
            for batch in self._batches(apart) if apart else ():
                for name in apart:
                    kept[name].append(batch[name])
            return self._part(None, kept)

    def _apart(self) -> list[str]:
        return [name for name in (self.target, self.weight) if name is not None]

    def _batches(self, columns: list[str]) -> Iterator[dict[str, np.ndarray]]:
        return parquet.read_batches(self.path, _DECODED_ROWS, columns, self.groups, threads=False)

    def _part(self, x: np.ndarray | None, kept: dict[str, list[np.ndarray]]) -> Part:
        found = {name: np.concatenate(parts) if parts else np.empty(0)
                 for name, parts in kept.items()}
        y = None if self.target is None else found[self.target]
        weight = None if self.weight is None else found[self.weight]
        return Part(x, y.astype(str) if y is not None and y.dtype == object else y, weight)


def _parquet_sources(path: Path, target: Any, weight: Any) -> list[Source]:
    with named(path), parquet.open_table(path) as table:
        schema, metadata = table.schema_arrow, table.metadata
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
    for what, name in (("target", target), ("sample_weight", weight)):
        if name is not None and name not in schema.names:
            known = one_line(", ".join(schema.names), 200)
            raise FileError(f"{path} has no column {name!r} for {what}; it has {known}")
    columns = tuple(name for name in schema.names if name not in (target, weight))
    dtypes = [_numpy_dtype(schema.field(name).type) for name in columns]
    for name, dtype in zip(columns, dtypes):
        parquet.check_number(path, name, dtype)
    dtype = common_dtype(dtypes)
    head = partial(Header, shape=(len(columns),), dtype=dtype, columns=columns)
    # A file of no row groups is an empty partition.
    pieces = _pieces(rows, len(columns) * dtype.itemsize) or [()]
    return [_Parquet(path, _piece_name(path, i, len(pieces)), piece,
                     head(sum(rows[g] for g in piece)), target, weight)
            for i, piece in enumerate(pieces)]


def _numpy_dtype(kind: Any) -> np.dtype:
    try:
        return np.dtype(kind.to_pandas_dtype())
    except (NotImplementedError, TypeError):
        return np.dtype(object)


def _pieces(rows: list[int], row_bytes: int) -> list[tuple[int, ...]]:
    """Row groups that follow one another, of some size each."""
    found: list[list[int]] = []
    held = 0
    for group, count in enumerate(rows):
        if not found or held + count * row_bytes > PIECE_BYTES:
            found.append([])
            held = 0
        found[-1].append(group)
        held += count * row_bytes
    return [tuple(groups) for groups in found]


def _piece_name(path: Path, piece: int, pieces: int) -> str:
    return str(path) if pieces == 1 else f"{path} (piece {piece + 1} of {pieces})"


# -- .npz


@dataclass(frozen=True)
class _Archive:
    """An `.npz` file with arrays X, y and maybe `sample_weight`."""

    path: Path
    name: str
    held: dict[str, Header]

    @property
    def size(self) -> int | None:
        return self.path.stat().st_size

    def header(self) -> Header:
        return self.held["X"]

    def read(self) -> Part:
        return self._arrays(Part._fields)

    def read_targets(self) -> Part:
        return self._arrays(Part._fields[1:])

    def _arrays(self, names: tuple[str, ...]) -> Part:
        with named(self.path):
            try:
                with np.load(self.path, allow_pickle=False) as archive:
                    found = {name: archive[name] for name in names if name in self.held}
            except BROKEN_NPZ as err:
                raise FileError(f"{self.path}: cannot be read: it is no readable .npz file, "
                                "or holds more than plain numbers; give another") from err
        part = Part(found.get("X"), found.get("y"), found.get("sample_weight"))
        return part if part.X is None else check_lengths(self.name, part)


def _archive_sources(path: Path, target: Any, weight: Any) -> list[Source]:
    _refuse_columns(path, target, weight, "an .npz holds arrays X, y and sample_weight")
    with named(path):
        try:
            with zipfile.ZipFile(path) as archive:
                names = [name.removesuffix(".npy") for name in archive.namelist()]
                held = {}
                for name in Part._fields:
                    if name in names:
                        with archive.open(f"{name}.npy") as file:
                            size = archive.getinfo(f"{name}.npy").file_size
                            held[name] = _npy_header(file, size)
        except BROKEN_NPZ as err:
            raise FileError(f"{path}: cannot be read: it is no readable .npz file, "
                            "or holds more than plain numbers; give another") from err
    if "X" not in held:
        raise FileError(f"{path} must hold an array X, and y for targets; it holds "
                        f"{one_line(', '.join(sorted(names)) or 'none')}")
    _check_rows(path, held["X"])
    return [_Archive(path, str(path), held)]


def _npy_header(file: Any, size: int) -> Header:
    """What a `.npy` file of so many bytes begins with; ValueError where it promises more."""
    version = np.lib.format.read_magic(file)
    read = {(1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0}.get(version)
    if read is None:
        raise ValueError(f"version {version}")
    shape, _, dtype = read(file)
    if not shape:
        raise ValueError("holds no rows, but a single value")
    if math.prod(shape) * dtype.itemsize > size:
        raise ValueError(f"promises an array of shape {shape} in {size} bytes")
    numeric = dtype.kind in "fiub"
    return Header(shape[0], shape[1:], common_dtype([dtype]) if numeric else dtype)


def _check_rows(path: Path, head: Header) -> None:
    if head.dtype.kind not in "fiub" or not head.shape:
        what = "not real numbers" if head.dtype.kind not in "fiub" else "one axis"
        raise FileError(f"{path}: X must have rows and columns of numbers; it holds {head.dtype} "
                        f"of shape {(head.rows, *head.shape)}, {what}")


# -- .npy


@dataclass(frozen=True)
class _Arrays:
    """Some rows of `.npy` files: of rows, of targets and of weights."""

    paths: tuple[Path, ...]
    name: str
    first: int
    head: Header
    target: int | None  # column of the rows that holds the targets

    @property
    def size(self) -> int | None:
        return sum(path.stat().st_size for path in self.paths)

    def header(self) -> Header:
        return self.head

    def read(self) -> Part:
        x, *others = [self._rows(path) for path in self.paths]
        if self.target is None:
            return Part(x, *others)
        return Part(np.delete(x, self.target, axis=1), np.ascontiguousarray(x[:, self.target]))

    def read_targets(self) -> Part:
        if self.target is None:
            return Part(None, *(self._rows(path) for path in self.paths[1:]))
        return self.read()

    def _rows(self, path: Path) -> np.ndarray:
        array = _mapped(path)
        if len(array) < self.first + self.head.rows:
            raise FileError(f"{path}: holds {len(array)} rows, and had more when it was opened")
        return np.array(array[self.first : self.first + self.head.rows])


def _mapped(path: Path) -> np.ndarray:
    with named(path):
        try:
            array = np.load(path, mmap_mode="r", allow_pickle=False)
            if not isinstance(array, np.ndarray):
                raise ValueError("an archive")
            return array
        except BROKEN_NPZ as err:
            raise FileError(f"{path} is not a NumPy array file, "
                            "or holds more than plain numbers") from err


def _array_sources(paths: tuple[Path, ...], target: Any, weight: Any) -> list[Source]:
    path, *others = paths
    if others or weight is not None:
        _refuse_columns(path, target, weight, "the files beside it hold targets and weights")
    elif target is not None and not isinstance(target, (int, np.integer)):
        raise FileError(f"{path}: target={target!r} names a column of a Parquet table; a .npy has "
                        "none: give the column's number, or pairs of files (X, y)")
    x, *beside = [_mapped(each) for each in paths]
    if x.ndim < 1 or x.dtype.kind not in "fiub":
        raise FileError(f"{path} holds {x.dtype} of shape {x.shape}; give rows of real numbers")
    head = Header(len(x), x.shape[1:], common_dtype([x.dtype]))
    _check_rows(path, head)
    for other, array in zip(others, beside):
        if array.ndim < 1 or len(array) != len(x):
            raise FileError(f"{other}: holds an array of shape {array.shape}, but {path} has "
                            f"{len(x)} rows; give one entry for each row")
    if target is not None:
        if x.ndim != 2 or not -x.shape[1] <= target < x.shape[1]:
            raise FileError(f"{path}: target={target} is no column of an array of shape {x.shape}")
        head = Header(head.rows, (x.shape[1] - 1,), head.dtype)
    step = max(1, PIECE_BYTES // max(1, x[:1].nbytes))
    firsts = range(0, max(1, len(x)), step)
    return [_Arrays(paths, _piece_name(path, i, len(firsts)), first,
                    Header(min(step, len(x) - first), head.shape, head.dtype), target)
            for i, first in enumerate(firsts)]


def _refuse_columns(path: Path, target: Any, weight: Any, where: str) -> None:
    for what, value in (("target", target), ("sample_weight", weight)):
        if value is not None:
            raise FileError(f"{path}: {what}={value!r} names a column of a table, but {where}; "
                            "leave it out")


_KINDS: dict[str, Callable[[Any, Any, Any], list[Source]]] = {
    ".parquet": _parquet_sources, ".npz": _archive_sources, ".npy": _array_sources,
}


def sources_of(files: Any, target: Any, weight: Any) -> list[Source]:
    """The partitions in some files, as `Partitions.from_files` takes them."""
    found: list[Source] = []
    for entry in matching(files, _KINDS):
        paths = entry if isinstance(entry, tuple) else (entry,)
        kind = ".npy" if len(paths) > 1 else paths[0].suffix.lower()
        if kind not in _KINDS or len(paths) > 3:
            raise FileError(f"{paths[0]}: the name must end with {' or '.join(_KINDS)}; other "
                            "files are read by functions: Partitions([read_first, ...])")
        of_kind = _KINDS[kind]
        found += of_kind(paths if of_kind is _array_sources else paths[0], target, weight)
    return found
