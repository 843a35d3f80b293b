"""Files: read whole and checked first, written whole or not at all; and what is wrong with them."""

from __future__ import annotations

import os
import stat
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np

PathLike = str | os.PathLike[str]
_FIRST = 16
# What archives and HDF5 files begin with.
ZIP, HDF5 = b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"
T = TypeVar("T")


class FileError(ValueError):
    """A file that cannot be read or written; the message names the path and says what to do.

    Examples
    --------
    >>> import nbbn
    >>> try:
    ...     nbbn.load("missing.safetensors")
    ... except nbbn.FileError as error:
    ...     print(str(error).split(";")[0])
    missing.safetensors: does not exist
    """


class Refused(ValueError):
    """A model that nbbn has no counterpart of; the message is to follow the file's name."""


# What a broken or hostile description can make constructors, shape rules and conversions raise.
BROKEN = (
    ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, ZeroDivisionError,
    RecursionError, MemoryError,
)  # fmt: skip
# What NumPy raises of a broken archive. A single array has no names: TypeError or AttributeError.
BROKEN_NPZ = (
    ValueError, EOFError, TypeError, AttributeError, KeyError, NotImplementedError, RuntimeError,
    MemoryError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip


def one_line(what: object, most: int = 200) -> str:
    """`what` in one printable line of `most` characters: it may come from a hostile file."""
    text = " ".join(str(what)[: 2 * most].split())[:most]
    return "".join(c if c.isprintable() else " " for c in text) or type(what).__name__


def first_bytes(path: PathLike) -> bytes:
    """The first 16 bytes of a regular file, or all where it has less; else FileError."""
    return read_with(path, lambda file: file.read(_FIRST))


def read_whole(path: PathLike, accept: Callable[[bytes, int], None] | None = None) -> bytes:
    """The bytes of a regular file; else FileError.

    `accept` is called with the first 16 bytes and the file's size before the rest is read, and
    raises FileError for a foreign file.
    """

    def read(file: BinaryIO) -> bytes:
        start = file.read(_FIRST)
        if accept is not None:
            accept(start, os.fstat(file.fileno()).st_size)
        return start + file.read()

    return read_with(path, read)


def read_with(path: PathLike, read: Callable[[BinaryIO], T]) -> T:
    """What `read` makes of a regular file, open; FileError where there is none, or it cannot be."""
    try:
        path = Path(path)
        # Before opening: a pipe would block for ever.
        if not stat.S_ISREG(os.stat(path).st_mode):
            what = "a folder" if path.is_dir() else "not a regular file"
            raise FileError(f"{path}: is {what}; give the name of a model file")
        with open(path, "rb") as file:
            return read(file)
    except FileNotFoundError as err:
        raise FileError(f"{path}: does not exist; check the path") from err
    except OSError as err:
        raise FileError(f"{path}: cannot be read ({err.strerror or err}); "
                        "check the path and its permissions") from err
    except FileError:
        raise
    except ValueError as err:
        raise FileError(f"{one_line(path)}: is no path ({err}); check it") from err


def read_npz(path: PathLike) -> dict[str, np.ndarray]:
    """The arrays of a file by name, none of Python objects; FileError for any other file."""

    def arrays(file: BinaryIO) -> dict[str, np.ndarray]:
        try:
            with np.load(file, allow_pickle=False) as archive:
                return dict(archive)
        except BROKEN_NPZ as err:
            raise FileError(f"{path}: cannot be read: it is no readable .npz file, "
                            "or holds more than plain numbers; give another") from err

    return read_with(path, arrays)


@contextmanager
def whole_file(path: PathLike) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well.

    Else nothing is left behind. FileError where the system refuses.
    """
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise FileError(f"{path}: the folder {path.parent} does not exist; create it first")
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as err:
        raise FileError(f"{path}: cannot be written ({err.strerror or err}); "
                        "check the folder's permissions and space") from err
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path: PathLike, data: bytes, verify: Callable[[Path], None] | None = None) -> None:
    """Write `data` beside `path`, and move it into place once it is on disk and accepted.

    An existing file is replaced; one that cannot be replaced stays as it was. `verify` is called
    with the path of the temporary file, and raises if that is not what was meant. FileError where
    the system refuses.
    """
    with whole_file(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if verify is not None:
            verify(temporary)
