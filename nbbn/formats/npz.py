"""NumPy's `.npz` files."""

from __future__ import annotations

import zipfile
import zlib
from typing import BinaryIO

import numpy as np

from nbbn.formats.files import FileError, PathLike, read_with

# What NumPy raises of a broken archive. A single array has no names: TypeError or AttributeError.
_BROKEN = (
    ValueError, EOFError, TypeError, AttributeError, KeyError, NotImplementedError, RuntimeError,
    MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file by name, none of Python objects; FileError for any other file."""

    def arrays(file: BinaryIO) -> dict[str, np.ndarray]:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except _BROKEN as err:
            raise FileError(f"{path}: cannot be read: it is no readable .npz file, "
                            "or holds more than plain numbers; give another") from err

    return read_with(path, arrays)
