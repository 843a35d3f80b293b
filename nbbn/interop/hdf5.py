"""HDF5 files in the layout that Keras writes: groups, plain arrays of floats, attributes of strings.

The HDF5 library is not used, as a damaged file can make it crash, run for ever or take all memory. Every position here is
compared with the file's length before anything is read there, every walk has an end, and what lies elsewhere (links, external
files), in chunks or behind filters is refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

MAGIC = b"\x89HDF\r\n\x1a\n"
_NOWHERE = 2**64 - 1

# Types of messages in an object's header.
_SPACE, _LINK_INFO, _TYPE, _LINK, _EXTERNAL, _LAYOUT, _FILTERS, _ATTRIBUTE, _CONTINUATION, _TABLE = (
    0x01, 0x02, 0x03, 0x06, 0x07, 0x08, 0x0B, 0x0C, 0x10, 0x11,
)  # fmt: skip
# Bounds far above what any model needs: messages of an object, entries of a group, strings of an attribute, bytes of a name.
_MAX_MESSAGES, _MAX_ENTRIES, _MAX_TEXTS, _MAX_NAME = 10_000, 100_000, 64, 4096
# Precision, and then place and size of exponent and mantissa and the bias, of IEEE 754's formats.
_IEEE = {
    2: (16, 10, 5, 0, 10, 15),
    4: (32, 23, 8, 0, 23, 127),
    8: (64, 52, 11, 0, 52, 1023),
}


class Hdf5Error(ValueError):
    """A file that is broken, or in a form that Keras does not write."""


@dataclass(frozen=True)
class _Message:
    kind: int
    shared: bool
    at: int
    size: int


class Hdf5:
    """An HDF5 file in memory. A group or array is known by the position of its header.

    Parameters
    ----------
    data : bytes
        The whole file.

    Attributes
    ----------
    root : int
        The root group.
    """

    def __init__(self, data: bytes):
        self._data = data
        self._known: dict[int, dict[str, int | None]] = {}
        version = self._number(8, 1)
        if version > 1 or (self._number(13, 1), self._number(14, 1)) != (8, 8):
            raise Hdf5Error(f"an HDF5 file of version {version}, Keras writes version 0")
        start = 24 if version == 0 else 28
        if self._number(start, 8) != 0:
            raise Hdf5Error("an HDF5 file within another file")
        self.root = self._number(start + 40, 8)

    # -- groups

    def has(self, group: int, name: str) -> bool:
        """Whether a group has an entry of this name."""
        return name in self._entries(group)

    def names(self, group: int) -> list[str]:
        """Names of a group's entries."""
        return list(self._entries(group))

    def group(self, group: int, *path: str) -> int:
        """A group within a group."""
        for name in path:
            entries = self._entries(group)
            if name not in entries:
                raise Hdf5Error(f"{name} is missing")
            if entries[name] is None:
                raise Hdf5Error(f"{name} is a link to another place; only what the file holds itself is read")
            group = entries[name]
        return group

    def _entries(self, group: int) -> dict[str, int | None]:
        """Position of each entry's header by name; None for a link that is no plain one."""
        if group not in self._known:
            self._known[group] = self._read_entries(group)
        return self._known[group]

    def _read_entries(self, group: int) -> dict[str, int | None]:
        messages = self._messages(group)
        table = next((m for m in messages if m.kind == _TABLE), None)
        if table is not None:
            return dict(self._table_entries(self._number(table.at, 8), self._number(table.at + 8, 8)))
        if any(m.kind == _LINK_INFO and self._has_many_links(m) for m in messages):
            raise Hdf5Error("a group is in a form that Keras does not write")
        return dict(self._link(m) for m in messages if m.kind == _LINK)

    def _has_many_links(self, message: _Message) -> bool:
        flags = self._number(message.at + 1, 1)
        return self._number(message.at + 2 + 8 * (flags & 1), 8) != _NOWHERE

    def _link(self, message: _Message) -> tuple[str, int | None]:
        at, flags = message.at + 2, self._number(message.at + 1, 1)
        kind = 0
        if flags & 8:
            kind, at = self._number(at, 1), at + 1
        at += 8 * bool(flags & 4) + bool(flags & 16)
        width = 1 << (flags & 3)
        length, at = self._number(at, width), at + width
        name = self._bytes(at, length).decode()
        return name, self._number(at + length, 8) if kind == 0 else None

    def _table_entries(self, tree: int, heap: int) -> Iterator[tuple[str, int | None]]:
        self._expect(heap, b"HEAP")
        size, names = self._number(heap + 8, 8), self._number(heap + 24, 8)
        text = self._bytes(names, size)
        found = 0
        for leaf in self._leaves(tree, None, set()):
            self._expect(leaf, b"SNOD")
            for i in range(self._number(leaf + 6, 2)):
                entry = leaf + 8 + 40 * i
                start = self._number(entry, 8)
                end = text.find(b"\0", start, start + _MAX_NAME + 1)
                if start >= size or not 0 <= end - start <= _MAX_NAME:
                    raise Hdf5Error("a name is cut short")
                if (found := found + 1) > _MAX_ENTRIES:
                    raise Hdf5Error(f"a group has more than {_MAX_ENTRIES} entries")
                soft = self._number(entry + 16, 4) == 2
                yield text[start:end].decode(), None if soft else self._number(entry + 8, 8)

    def _leaves(self, node: int, level: int | None, seen: set[int]) -> Iterator[int]:
        """The lists of names at the ends of a group's tree."""
        self._expect(node, b"TREE")
        own = self._number(node + 5, 1)
        if node in seen or self._number(node + 4, 1) != 0 or (level is not None and own != level):
            raise Hdf5Error("a group's tree is broken")
        seen.add(node)
        for i in range(self._number(node + 6, 2)):
            child = self._number(node + 32 + 16 * i, 8)
            if own == 0:
                if child in seen:
                    raise Hdf5Error("a group's tree is broken")
                seen.add(child)
                yield child
            else:
                yield from self._leaves(child, own - 1, seen)

    # -- arrays

    def array(self, group: int, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """An array of floats in a group, which must have this shape and lie in the file as a whole."""
        messages = self._messages(self.group(group, name))
        found = {message.kind: message for message in reversed(messages)}
        if not {_SPACE, _TYPE, _LAYOUT} <= set(found):
            raise Hdf5Error(f"{name} is no array")
        if (own := self._shape(found[_SPACE].at)) != tuple(shape):
            raise Hdf5Error(f"has shape {own}, the layer needs {tuple(shape)}")
        dtype = self._float(found[_TYPE])
        if _EXTERNAL in found:
            raise Hdf5Error("lies in another file")
        layout = found[_LAYOUT].at
        if self._number(layout, 1) != 3 or self._number(layout + 1, 1) not in (0, 1) or _FILTERS in found:
            raise Hdf5Error("is stored in chunks or compressed; only plain numbers are read")
        if self._number(layout + 1, 1) == 0:
            at, size = layout + 4, self._number(layout + 2, 2)
        else:
            at, size = self._number(layout + 2, 8), self._number(layout + 10, 8)
        if at == _NOWHERE or size != math.prod(shape) * dtype.itemsize:
            raise Hdf5Error("is cut short")
        return np.frombuffer(self._bytes(at, size), dtype).reshape(shape)

    def _shape(self, at: int) -> tuple[int, ...]:
        version, rank = self._number(at, 1), self._number(at + 1, 1)
        if version not in (1, 2) or rank > 32 or (version == 2 and self._number(at + 3, 1) > 1):
            raise Hdf5Error("has a shape of a form that Keras does not write")
        first = at + (8 if version == 1 else 4)
        return tuple(self._number(first + 8 * i, 8) for i in range(rank))

    def _float(self, message: _Message) -> np.dtype:
        at = message.at
        size = self._number(at + 4, 4)
        if message.shared or self._number(at, 1) & 15 != 1 or size not in _IEEE:
            raise Hdf5Error("holds no floats")
        places = (
            self._number(at + 10, 2),
            *(self._number(at + 12 + i, 1) for i in (0, 1, 2, 3)),
            self._number(at + 16, 4),
        )
        if places != _IEEE[size] or self._number(at + 1, 1) & 64:
            raise Hdf5Error("holds floats of a form that Keras does not write")
        return np.dtype(f"{'>' if self._number(at + 1, 1) & 1 else '<'}f{size}")

    # -- attributes

    def texts(self, group: int, name: str) -> list[str] | None:
        """An attribute of one string or a list of them; None where there is none."""
        for message in self._messages(group):
            if message.kind == _ATTRIBUTE:
                found, kind, space, at = self._attribute(message)
                if found == name:
                    return [text.decode() for text in self._strings(name, kind, space, at)]
        return None

    def _attribute(self, message: _Message) -> tuple[str, int, int, int]:
        """Name of an attribute, and the positions of its type, its shape and its values."""
        at = message.at
        version, flags = self._number(at, 1), self._number(at + 1, 1)
        if version not in (1, 2, 3) or message.shared or (version > 1 and flags):
            raise Hdf5Error("has an attribute of a form that Keras does not write")
        sizes = [self._number(at + 2 + 2 * i, 2) for i in range(3)]
        at += 9 if version == 3 else 8
        places = [at]
        for size in sizes:
            places.append(places[-1] + (_padded(size) if version == 1 else size))
        return self._bytes(at, sizes[0]).rstrip(b"\0").decode(errors="replace"), *places[1:]

    def _strings(self, name: str, kind: int, space: int, at: int) -> Iterator[bytes]:
        count, size, cls = math.prod(self._shape(space)), self._number(kind + 4, 4), self._number(kind, 1) & 15
        if count == 0:
            return  # of any type: an empty list has none
        of_heap = cls == 9 and self._number(kind + 1, 1) & 15 == 1 and size == 16
        # Few and short: many references to one long string would take the memory of as many copies.
        if count > _MAX_TEXTS or not (cls == 3 or of_heap):
            raise Hdf5Error(f"attribute {name} is no string of the file's own")
        for i in range(count):
            own = at + size * i
            if count > 1 and (self._number(own, 4) if of_heap else size) > _MAX_NAME:
                raise Hdf5Error(f"attribute {name} has a string that is too long")
            if of_heap:
                yield self._from_heap(self._number(own + 4, 8), self._number(own + 12, 4), self._number(own, 4))
            else:
                yield self._bytes(own, size).split(b"\0")[0]

    def _from_heap(self, heap: int, index: int, length: int) -> bytes:
        """A string of a heap, in which objects stand one after the other."""
        self._expect(heap, b"GCOL")
        at, end = heap + 16, heap + self._number(heap + 8, 8)
        while at + 16 <= end:
            found, size = self._number(at, 2), self._number(at + 8, 8)
            if found == index and found:
                return self._bytes(at + 16, min(size, length))
            if found == 0:  # the free space, which is the last
                break
            at += 16 + _padded(size)
        raise Hdf5Error("a string is missing")

    # -- headers

    def _messages(self, header: int) -> list[_Message]:
        """The messages in an object's header."""
        if self._number(header, 1) != 1:
            raise Hdf5Error("an object is in a form that Keras does not write")
        count, messages = self._number(header + 2, 2), []
        blocks, seen = [(header + 16, self._number(header + 8, 4))], set()
        while blocks:
            at, size = blocks.pop(0)
            end = at + size
            if at in seen:
                raise Hdf5Error("an object's header is broken")
            seen.add(at)
            while at + 8 <= end and len(messages) < count:
                if len(messages) > _MAX_MESSAGES:
                    raise Hdf5Error("an object's header has no end")
                kind, own = self._number(at, 2), self._number(at + 2, 2)
                messages.append(_Message(kind, bool(self._number(at + 4, 1) & 2), at + 8, own))
                if kind == _CONTINUATION:
                    blocks.append((self._number(at + 8, 8), self._number(at + 16, 8)))
                at += 8 + own
        return messages

    # -- bytes

    def _expect(self, at: int, signature: bytes) -> None:
        if self._bytes(at, 4) != signature:
            raise Hdf5Error(f"{signature.decode()} is missing where it should stand")

    def _number(self, at: int, size: int) -> int:
        return int.from_bytes(self._bytes(at, size), "little")

    def _bytes(self, at: int, size: int) -> bytes:
        if at < 0 or at + size > len(self._data):
            raise Hdf5Error("is cut short")
        return self._data[at : at + size]


def _padded(size: int) -> int:
    """A multiple of 8."""
    return (size + 7) // 8 * 8
