"""Files that commands read and write, checked before any work."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from nbbn.commands.errors import UnusableInput
from nbbn.partitions.files import matching


def check_suffix(path: Path, suffixes: Sequence[str]) -> None:
    """Raise UnusableInput unless the name ends with one of the suffixes."""
    if path.suffix.lower() not in suffixes:
        raise UnusableInput(f"{path}: the name must end with {' or '.join(suffixes)}")


def check_output(path: Path, inputs: Sequence[Path] = ()) -> None:
    """Raise UnusableInput where a file cannot be written, or would replace one of `inputs`."""
    if path.is_dir():
        raise UnusableInput(f"{path} is a folder; name the file to write")
    for source in inputs:
        if path.exists() and source.exists() and path.samefile(source):
            raise UnusableInput(f"{path} is the input itself; name another file to write")
    check_folder(path.parent)


def input_files(given: Sequence[str], suffixes: Sequence[str]) -> list[Path]:
    """The files that names, folders and quoted patterns stand for."""
    return [Path(path) for path in matching(given, suffixes)]


def check_folder(folder: Path) -> None:
    """Raise UnusableInput where the folder is neither there nor can be made; makes nothing."""
    whole = folder.absolute()
    there = next(parent for parent in (whole, *whole.parents) if parent.exists())
    if not there.is_dir():
        raise UnusableInput(f"{there} is a file, not a folder")
    if not os.access(there, os.W_OK | os.X_OK):
        raise UnusableInput(f"{there} cannot be written to")


def with_folder(path: Path) -> Path:
    """The path of a file to write, whose folder is made where it is missing."""
    check_output(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path
