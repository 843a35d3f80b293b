"""A process of its own in which h5py reads a file that may be hostile.

The HDF5 library crashes or runs for ever on some. The file comes from standard input. To standard
output go 8 bytes with a length, so many bytes of JSON that describe the tree, and the arrays'
numbers one after the other, little-endian. The first argument is the most bytes that both may take.
"""

import json
import sys
from typing import Any

# Bounds far above what any model needs: groups within groups, entries of a file, strings of an
# attribute.
_MAX_DEPTH, _MAX_ENTRIES, _MAX_TEXTS = 64, 200_000, 100_000


def _limit_memory(size: int) -> None:
    try:
        import resource
    except ImportError:  # not on this system: the process is apart all the same
        return
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (size if most < 0 else min(size, most), most))


class Walk:
    """Describes what a group holds; further arrays and texts may take `left` bytes."""

    def __init__(self, left: int):
        self.arrays: list[bytes] = []
        self.left, self._entries = left, 0

    def group(self, group: Any, depth: int = 0) -> dict[str, Any]:
        """A group: its attributes of strings, and its entries."""
        import h5py

        if depth > _MAX_DEPTH:
            raise ValueError("has groups within groups without end")
        entries = {}
        for name in group:
            self._entries += 1
            if self._entries > _MAX_ENTRIES:
                raise ValueError(f"has more than {_MAX_ENTRIES} entries")
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                why = "is a link to another place; only what the file holds itself is read"
                entries[name] = {"refused": why}
            elif isinstance(entry := group[name], h5py.Group):
                entries[name] = self.group(entry, depth + 1)
            elif isinstance(entry, h5py.Dataset):
                entries[name] = self.array(entry)
        texts = _texts(group)
        self.left -= sum(len(text) for values in texts.values() for text in values)
        if self.left < 0:
            raise ValueError("promises more text than the file can hold")
        return {"entries": entries, "texts": texts}

    def array(self, dataset: Any) -> dict[str, Any]:
        """An array of floats, or why it is none."""
        if dataset.external or dataset.is_virtual:
            return {"refused": "lies in another file"}
        if dataset.dtype.kind != "f" or dataset.shape is None:
            return {"refused": "holds no floats"}
        if dataset.size and not dataset.id.get_storage_size():
            return {"refused": "holds no numbers"}
        if dataset.nbytes > self.left:
            return {"refused": "promises more numbers than the file can hold"}
        self.left -= dataset.nbytes
        self.arrays.append(dataset[()].astype(dataset.dtype.newbyteorder("<")).tobytes())
        return {"shape": dataset.shape, "dtype": dataset.dtype.newbyteorder("<").str}


def _texts(group: Any) -> dict[str, list[str]]:
    texts = {}
    for name in group.attrs:
        try:
            value = group.attrs[name]
        except (OSError, TypeError, ValueError, KeyError):  # of a type that h5py does not know
            continue
        values = [value] if isinstance(value, (str, bytes)) else getattr(value, "tolist", list)()
        if not isinstance(values, list) or len(values) > _MAX_TEXTS:
            continue
        if all(isinstance(v, (str, bytes)) for v in values):
            decoded = (v.decode(errors="replace") if isinstance(v, bytes) else v for v in values)
            texts[name] = list(decoded)
    return texts


def main() -> None:
    """Read, describe, write."""
    import h5py

    data, most = sys.stdin.buffer.read(), int(sys.argv[1])
    _limit_memory((2 << 30) + 4 * most)
    walk = Walk(most)
    try:
        with h5py.File(h5py.h5f.open_file_image(data)) as file:
            tree = walk.group(file)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, MemoryError) as err:
        sys.exit(f"{type(err).__name__}: {err}")
    text = json.dumps(tree).encode(errors="replace")
    sys.stdout.buffer.writelines([len(text).to_bytes(8, "little"), text, *walk.arrays])


if __name__ == "__main__":
    main()
