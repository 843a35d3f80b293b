"""HDF5 files, of which only what they hold themselves is read: no links elsewhere, no filters, no more than the file's bytes."""

from __future__ import annotations

import numpy as np

# A layer has at most four arrays, whose names are the longest list there is.
_MAX_TEXTS = 64
MAGIC = b"\x89HDF\r\n\x1a\n"


class Hdf5Error(ValueError):
    """A file that is broken or asks for more than it holds."""


def import_h5py():
    """The package h5py.

    Raises
    ------
    ImportError
        That names the extra to install.
    """
    try:
        import h5py
    except ImportError as err:
        raise ImportError("from_keras needs the package h5py: pip install 'nbbn[keras]'") from err
    return h5py


class Hdf5:
    """An HDF5 file in memory.

    Parameters
    ----------
    data : bytes
        The whole file.
    """

    def __init__(self, data: bytes):
        self._h5py = import_h5py()
        self._size = len(data)
        _check_heaps(data)
        # An image in memory: the library opens no other file for it.
        self._file = self._h5py.h5f.open_file_image(data)
        self.root = self._h5py.h5g.open(self._file, b"/")

    def close(self) -> None:
        """Let go of the memory."""
        self.root = None
        self._file.close()

    def has(self, group, name: str) -> bool:
        """Whether a group has an entry of this name."""
        return group.links.exists(name.encode())

    def names(self, group) -> list[str]:
        """Names of a group's entries."""
        return [name.decode() for name in group]

    def group(self, group, *path: str):
        """A group within a group."""
        for name in path:
            group = self._h5py.h5g.open(self._hard(group, name), name.encode())
        return group

    def array(self, group, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A dataset of floats, which must have this shape and lie in the file as a whole."""
        h5 = self._h5py
        dataset = h5.h5d.open(self._hard(group, name), name.encode())
        if tuple(dataset.shape) != tuple(shape):
            raise Hdf5Error(f"has shape {tuple(dataset.shape)}, the layer needs {tuple(shape)}")
        if dataset.dtype.kind != "f" or dataset.dtype.itemsize > 8:
            raise Hdf5Error(f"holds {dataset.dtype}, not floats")
        created = dataset.get_create_plist()
        stored = dataset.get_storage_size()
        if created.get_layout() not in (h5.h5d.CONTIGUOUS, h5.h5d.COMPACT) or created.get_nfilters():
            raise Hdf5Error("is stored in chunks or compressed; only plain numbers are read")
        if created.get_external_count():
            raise Hdf5Error("lies in another file")
        if stored != int(np.prod(shape, dtype=object)) * dataset.dtype.itemsize or stored > self._size:
            raise Hdf5Error("is cut short")
        array = np.empty(shape, dataset.dtype)
        dataset.read(h5.h5s.ALL, h5.h5s.ALL, array)
        return array

    def texts(self, obj, name: str) -> list[str] | None:
        """An attribute of one string or a list of them; None where there is none."""
        h5 = self._h5py
        if not h5.h5a.exists(obj, name.encode()):
            return None
        attribute = h5.h5a.open(obj, name.encode())
        count = int(np.prod(attribute.shape, dtype=object))
        if count == 0:
            return []  # of any type: an empty list has none
        kind = attribute.get_type()
        # A few strings: many references to one long string would take the memory of as many copies.
        if not isinstance(kind, h5.h5t.TypeStringID) or count > _MAX_TEXTS or kind.get_size() > self._size:
            raise Hdf5Error(f"attribute {name} is no string of the file's own")
        array = np.empty(attribute.shape, attribute.dtype)
        attribute.read(array)
        return [v.decode() if isinstance(v, bytes) else str(v) for v in array.reshape(-1).tolist()]

    def _hard(self, group, name: str):
        """The group, if the entry is its own and no link to somewhere else."""
        key = name.encode()
        if not group.links.exists(key):
            raise Hdf5Error(f"{name} is missing")
        if group.links.get_info(key).type != self._h5py.h5l.TYPE_HARD:
            raise Hdf5Error(f"{name} is a link to another place; only what the file holds itself is read")
        return group


_HEAP = b"GCOL\x01\0\0\0"  # a global heap, version 1, which holds strings of variable length


def _check_heaps(data: bytes) -> None:
    """Walk every global heap as the library does: on a broken one that would walk for ever."""
    start = data.find(_HEAP)
    while start >= 0:
        end = start + int.from_bytes(data[start + 8 : start + 16], "little")
        at = start + 16
        if not at <= end <= len(data):
            raise Hdf5Error("a heap of strings is cut short")
        while at + 16 <= end:
            index, size = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
            # Object 0 is the free space, which counts its own header and ends the heap.
            at += size if index == 0 else 16 + (size + 7) // 8 * 8
            if at > end or (index == 0 and size < 16):
                raise Hdf5Error("a heap of strings is broken")
        start = data.find(_HEAP, start + 1)
