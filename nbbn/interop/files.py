"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path


class FileError(ValueError):
    """A file that cannot be read or written; the message names the path and says what to do."""


@contextmanager
def whole_file(path) -> Iterator[Path]:
    """A path beside `path` to write to, which takes its place when the block ends well; else nothing is left behind.

    Raises
    ------
    FileError
        Where the system refuses.
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
        reason = err.strerror or err
        raise FileError(f"{path}: cannot be written ({reason}); check the folder's permissions and space") from err
    finally:
        temporary.unlink(missing_ok=True)


def write_whole(path, data: bytes, verify: Callable[[Path], None] | None = None) -> None:
    """Write `data` beside `path`, and move it into place once it is on disk and `verify` has accepted it.

    Parameters
    ----------
    path : path-like
        An existing file is replaced; one that cannot be replaced stays as it was.
    data : bytes
    verify : callable or None
        Called with the path of the temporary file; raises if that is not what was meant.

    Raises
    ------
    FileError
        Where the system refuses; nothing is left behind.
    """
    with whole_file(path) as temporary:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if verify is not None:
            verify(temporary)
