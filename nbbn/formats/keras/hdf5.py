"""HDF5 files as Keras writes them, read by h5py in a process of its own."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np

from nbbn.formats.files import one_line

_MAX_GROWTH, _SMALL = 16, 1 << 20
_SECONDS = 20
_CHILD = Path(__file__).with_name("hdf5_child.py")


class Hdf5Error(ValueError):
    """A file that is broken, or in a form that Keras does not write."""


def read(data: bytes) -> dict:
    """The root group of an HDF5 file; groups and arrays are described by dicts.

    A damaged file can make the HDF5 library crash, run for ever or take all memory, so that a
    process of its own reads it, whose memory and time are bounded. ImportError without h5py,
    Hdf5Error for a file that it cannot read.
    """
    if importlib.util.find_spec("h5py") is None:
        raise ImportError("reading Keras's files needs the package h5py: pip install 'nbbn[keras]'")
    answer = _read_apart(data)
    start = 8 + int.from_bytes(answer[:8], "little")
    root = json.loads(answer[8:start])
    _place(root, answer, start)
    return root


def _place(group: dict, answer: bytes, at: int) -> int:
    """Say where each array's numbers are, from here on; returns where they end."""
    for entry in group["entries"].values():
        if "entries" in entry:
            at = _place(entry, answer, at)
        elif "shape" in entry:
            count, dtype = math.prod(entry["shape"]), np.dtype(entry["dtype"])
            entry["numbers"] = partial(np.frombuffer, answer, dtype, count, at)
            at += count * dtype.itemsize
    return at


def group_in(group: dict, *path: str) -> dict:
    """A group within a group."""
    for name in path:
        group = _entry(group, name)
        if "entries" not in group:
            raise Hdf5Error(f"{name} is no group")
    return group


def array_in(group: dict, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """An array of floats in a group, which must have this shape."""
    entry = _entry(group, name)
    if "shape" not in entry:
        raise Hdf5Error(f"{name} is no array")
    if (own := tuple(entry["shape"])) != tuple(shape):
        raise Hdf5Error(f"has shape {own}, the layer needs {tuple(shape)}")
    return entry["numbers"]().reshape(shape)


def most_bytes(data: bytes) -> int:
    """What a file's arrays may take: weights hardly shrink by compression."""
    return max(_SMALL, _MAX_GROWTH * len(data))


def _entry(group: dict, name: str) -> dict:
    if name not in group["entries"]:
        raise Hdf5Error(f"{name} is missing")
    entry = group["entries"][name]
    if "refused" in entry:
        raise Hdf5Error(f"{name} {one_line(entry['refused'])}")
    return entry


def _read_apart(data: bytes) -> bytes:
    """What the child process says of a file."""
    # Not from the child's folder, whose modules bear the names of packages; no filters from
    # outside; no threads.
    code = f"import sys\nsys.path = [p for p in sys.path if p]\n{_CHILD.read_text()}"
    environment = {**os.environ, "HDF5_PLUGIN_PRELOAD": "::", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, str(most_bytes(data))]
    try:
        done = subprocess.run(command, input=data, capture_output=True, env=environment,
                              timeout=_SECONDS + len(data) // _SMALL)
    except subprocess.TimeoutExpired as err:
        raise Hdf5Error("keeps the HDF5 library busy without end") from err
    if done.returncode < 0:
        raise Hdf5Error("makes the HDF5 library crash")
    if done.returncode:
        *_, last = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
        raise Hdf5Error(one_line(last))
    return done.stdout
