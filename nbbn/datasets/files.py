"""Keras's files of data sets, where they lie on a machine."""

from __future__ import annotations

import gzip
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.formats.files import FileError

Split = tuple[np.ndarray, np.ndarray]


def folder_of(name: str, path: str | os.PathLike[str] | None, hint: str) -> Path:
    """The folder of a set's files: as given, below NBBN_DATA, or in Keras's own cache.

    FileError where there is none, with `hint`.
    """
    places = [Path("~/.keras/datasets").expanduser() / name]
    if path is not None:
        places = [Path(path).expanduser(), Path(path).expanduser() / name]
    elif told := os.environ.get("NBBN_DATA"):
        own = Path(told).expanduser()
        places.insert(0, (own if own.is_dir() else own.parent) / name)
    for place in reversed(places) if path is not None else places:
        if place.is_dir():
            return place
    looked = " nor at ".join(map(str, places))
    raise FileError(f"{name} is not at {looked}; {hint}")


def read_idx(path: Path) -> np.ndarray:
    """The bytes of a gzipped file in MNIST's format; FileError for another."""
    try:
        with gzip.open(path) as file:
            data = file.read()
        if data[:3] != b"\0\0\x08":
            raise ValueError("it does not begin as a file of bytes does")
        axes = data[3]
        shape = struct.unpack(f">{axes}I", data[4 : 4 + 4 * axes])
        return np.frombuffer(data, np.uint8, offset=4 + 4 * axes).reshape(shape)
    except (OSError, EOFError, ValueError, struct.error, IndexError) as error:
        raise FileError(f"{path}: cannot be read as one of MNIST's files ({error}); copy it "
                        "anew") from None


class _Plain(pickle.Unpickler):
    """Reads arrays, texts and numbers, and runs nothing else."""

    _known = {("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
              ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode")}

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in self._known:
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"it asks for {module}.{name}")


def read_pickled(path: Path) -> dict[bytes, Any]:
    """A dict of arrays that Python 2 pickled; FileError for anything else."""
    try:
        with open(path, "rb") as file:
            found = _Plain(file, encoding="bytes").load()
        if not isinstance(found, dict):
            raise ValueError(f"it holds a {type(found).__name__}")
        return found
    except (OSError, EOFError, ValueError, pickle.UnpicklingError, AttributeError, ImportError,
            IndexError, KeyError, TypeError) as error:
        raise FileError(f"{path}: cannot be read as one of CIFAR's batches ({error}); copy it "
                        "anew") from None


def checked(path: Path, data: tuple[Split, Split], row: tuple[int, ...]) -> tuple[Split, Split]:
    """The same, if the images are of bytes and have this shape; FileError else."""
    for x, y in data:
        if x.dtype != np.uint8 or x.shape[1:] != row or len(x) != len(y):
            raise FileError(f"{path}: holds {x.dtype} of shape {x.shape}, labels of shape "
                            f"{y.shape}; not this data set")
    return data


def in_words(read: Callable[[], tuple[Split, Split]], path: Path) -> tuple[Split, Split]:
    """What is read, a file that lacks something named."""
    try:
        return read()
    except (KeyError, ValueError) as error:
        if isinstance(error, FileError):
            raise
        raise FileError(f"{path}: lacks {error}; copy the data set anew") from None
