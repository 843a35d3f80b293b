"""Output files that appear whole or not at all."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path


class FileError(ValueError):
    """A file that cannot be read or written; the message names the path and says what to do."""


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
    path = Path(path)
    if path.is_dir():
        raise FileError(f"{path}: is a folder; give the name of a file")
    if not path.parent.is_dir():
        raise FileError(f"{path}: the folder {path.parent} does not exist; create it first")
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if verify is not None:
            verify(temporary)
        os.replace(temporary, path)
    except OSError as err:
        reason = err.strerror or err
        raise FileError(f"{path}: cannot be written ({reason}); check the folder's permissions and space") from err
    finally:
        temporary.unlink(missing_ok=True)
