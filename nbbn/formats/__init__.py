"""Files of models, a folder or a module a format; they know networks, and no model around one.

A format that can be opened is a row of `READERS`, one that networks are written in a row of
`WRITERS`. What a row names is imported when a file of that format is read or written.
"""

from __future__ import annotations

import io
import os
import pkgutil
import zipfile
from collections.abc import Callable
from typing import Any, NamedTuple

from nbbn.formats.content import Content, of_answers, of_layers
from nbbn.formats.files import HDF5, ZIP, FileError, PathLike, first_bytes, read_whole

__all__ = ["READERS", "WRITERS", "Content", "check_own", "of_answers", "of_layers", "reader_of",
           "shown_names"]


class Reader(NamedTuple):
    """A format that can be opened."""

    # What to call its files; none for files that are known only to say why they cannot be opened.
    names: tuple[str, ...]
    # Files that end so are of this format where their first bytes say nothing; empty for none.
    suffix: str
    # Whether a file is of this format, from its first 16 bytes and its path.
    begins: Callable[[bytes, PathLike], bool]
    # `module:function`, from a path to `Content`.
    reads: str
    # What a file of another program is, and how it is opened.
    way: str = ""

    @property
    def read(self) -> Callable[[PathLike], Content]:
        """The function that reads such a file."""
        return pkgutil.resolve_name(self.reads)


class Writer(NamedTuple):
    """A format that networks in inference are written in; `what` says more of its files."""

    what: str
    # `module:function`, of a network and a path, `kind` and `classes`.
    writes: str

    @property
    def write(self) -> Callable[..., Any]:
        """The function that writes such a file."""
        return pkgutil.resolve_name(self.writes)


def _is_state_dict(start: bytes, path: PathLike) -> bool:
    """Whether a file is torch's: a pickle, or an archive of one beside the tensors' numbers."""
    if not start.startswith(ZIP):
        return start[:1] == b"\x80" and 2 <= (start + b"\0\0")[1] <= 5
    try:
        with zipfile.ZipFile(io.BytesIO(read_whole(path))) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError):
        return False


# Where several know a file by its first bytes, or by its name, the first counts.
READERS = (
    Reader(("nbbn's own",), ".safetensors", lambda start, _: start[8:9] == b"{",
           "nbbn.formats.native:load"),
    Reader((), "", _is_state_dict, "nbbn.formats.torch:refuse",
           "is a pickle: PyTorch's weights are read with nbbn.interop.from_torch(path, layers), a "
           "pickled estimator with what wrote it"),
    Reader((".keras", ".h5"), "", lambda start, _: start.startswith((ZIP, HDF5)),
           "nbbn.formats.keras:read",
           "is a Keras file; open it with nbbn.interop.from_keras(path)"),
    # A version comes first in an ONNX file.
    Reader((".onnx",), ".onnx", lambda start, _: start[:1] == b"\x08",
           "nbbn.formats.onnx.read:read", "is an ONNX file; open it with "
           "nbbn.interop.from_onnx(path), or fold it: nbbn fold IN OUT"),
)  # fmt: skip

# By the suffix of their files.
WRITERS = {
    ".onnx": Writer("extra onnx", "nbbn.formats.onnx.write:write"),
    ".c": Writer("C99 source", "nbbn.formats.csource:to_c"),
}


def shown_names() -> str:
    """What to call files that can be opened, in a sentence."""
    *first, last = [name for reader in READERS for name in reader.names]
    return f"{', '.join(first)} or {last}"


def check_own(path: PathLike) -> None:
    """FileError for a file or folder of another program, which says how it is opened."""
    if os.path.isfile(os.path.join(path, "saved_model.pb")):
        raise FileError(f"{path}: is a TensorFlow SavedModel; save the model as .keras in Keras, "
                        "and open that with nbbn.interop.from_keras(path)")
    start = first_bytes(path)
    found = next((reader for reader in READERS if reader.begins(start, path)), None)
    if found is not None and found.way:
        raise FileError(f"{path}: {found.way}")


def reader_of(path: PathLike) -> Reader:
    """The format of a file: what its first bytes say, or, where they say nothing, its name.

    FileError for a missing or a foreign file.
    """
    start, name = first_bytes(path), str(path).lower()
    known = [reader for reader in READERS if reader.begins(start, path)]
    known += [reader for reader in READERS if reader.suffix and name.endswith(reader.suffix)]
    if not known:
        raise FileError(f"{path}: is no model file that nbbn reads; give {shown_names()}")
    return known[0]
