"""Tensors of ONNX models, each read when it is needed and written without a copy.

What a tensor holds is compared with its shape before anything is allocated, and data beside the
model's file are read only where they lie in its folder.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from nbbn.formats.files import Refused, one_line
from nbbn.formats.onnx.protobuf import fields, key, read_slice, varint

_RAW_DATA = 9  # the number of the field
_STRING = 8  # of `onnx.TensorProto`, as all numbers of types here
# Bits of the types that are smaller than a byte: uint4, int4, float4, uint2, int2.
_PACKED = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}
_COMPLEX = (14, 15)  # two numbers of a list each
# float32, float16, float64: weights that can be folded.
DTYPES: dict[int, np.dtype] = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}


class Place(NamedTuple):
    """Where bytes stand: of a file, or in memory."""

    source: Path | bytes
    start: int
    end: int

    def read(self) -> bytes:
        if isinstance(self.source, bytes):
            return self.source[self.start : self.end]
        with open(self.source, "rb") as file:
            return read_slice(file, self.start, self.end)


@dataclass(frozen=True)
class Tensor:
    """An initialiser: `head` is its message without data, `data` makes these, of `length` bytes.

    Without `data` the message is whole: its numbers are a list, as old exporters write them.
    """

    name: str
    dims: tuple[int, ...]
    data_type: int  # of `onnx.TensorProto`
    head: bytes
    length: int = 0
    data: Callable[[], Any] | None = None

    @property
    def size(self) -> int:
        """Bytes of its message."""
        return len(self._start) + self.length

    @property
    def _start(self) -> bytes:
        return self.head if self.data is None else self.head + key(_RAW_DATA) + varint(self.length)

    def load(self) -> Any:
        """The `onnx.TensorProto`, its data inside."""
        import onnx

        tensor = onnx.TensorProto.FromString(self.head)
        if self.data is not None:
            tensor.raw_data = bytes(self.data())
        return tensor

    def array(self) -> np.ndarray:
        """The numbers, not to be written."""
        from onnx import numpy_helper

        if self.data is None or self.data_type not in DTYPES:
            return numpy_helper.to_array(self.load())
        return np.ndarray(self.dims, DTYPES[self.data_type], self.data())

    def write(self, file: BinaryIO) -> None:
        """Write the message to a file."""
        file.write(self._start)
        if self.data is not None:
            file.write(self.data())


def made(name: str, dims: tuple[int, ...], data_type: int,
         make: Callable[[], np.ndarray]) -> Tensor:
    """A tensor of floating-point numbers; `make` makes the array."""
    import onnx

    dtype = DTYPES[data_type]
    head = onnx.TensorProto(name=name, dims=dims, data_type=data_type).SerializeToString()
    length = math.prod(dims) * dtype.itemsize
    return Tensor(name, tuple(dims), data_type, head, length,
                  lambda: np.ascontiguousarray(make(), dtype))


def tensor_at(file: BinaryIO, place: Place, folder: Path | None) -> Tensor:
    """The tensor whose message stands at a place of an open file.

    Data in other files are read from `folder` alone, and where there is none not at all. Raises
    DamagedError for other bytes; Refused for data that do not fit the tensor's shape, are not
    there, or may not be read.
    """
    import onnx

    parts = list(fields(file, place.start, place.end))
    kept = [(start, end) for number, start, _, end in parts if number != _RAW_DATA]
    head = b"".join(read_slice(file, start, end) for start, end in kept)
    raw = [Place(place.source, at, end) for number, _, at, end in parts if number == _RAW_DATA]
    data, tensor = raw[-1] if raw else None, onnx.TensorProto.FromString(head)
    if tensor.data_location == tensor.EXTERNAL:
        data, head = _external(tensor, folder), _without_data(tensor).SerializeToString()
    of = (tensor.name, tuple(tensor.dims), tensor.data_type, head)
    if data is None:
        _check(tensor, None)
        return Tensor(*of)
    _check(tensor, data.end - data.start)
    return Tensor(*of, data.end - data.start, data.read)


def embed(tensor: Any, folder: Path | None) -> None:
    """Check an `onnx.TensorProto`, and read its data into it where they are in another file.

    Raises Refused as `tensor_at` does.
    """
    if tensor.data_location == tensor.EXTERNAL:
        place = _external(tensor, folder)
        _check(tensor, place.end - place.start)
        tensor.CopyFrom(_without_data(tensor))
        tensor.raw_data = place.read()
    else:
        _check(tensor, len(tensor.raw_data) if tensor.HasField("raw_data") else None)


def _where(tensor: Any) -> str:
    return f"tensor {one_line(tensor.name)!r}"


def _check(tensor: Any, raw: int | None) -> None:
    """Raise `Refused` unless a tensor has as many numbers as its shape says.

    `raw` is the length of its raw data, None where it is a list.
    """
    from onnx import helper

    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0:
        raise Refused(f"{_where(tensor)} has shape {shape}")
    held, unit, want = raw, "bytes", _bytes(tensor)
    if raw is None or tensor.data_type == _STRING:
        held = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
        unit = "strings" if tensor.data_type == _STRING else "numbers"
        if tensor.data_type not in _PACKED:
            want = math.prod(shape) * (2 if tensor.data_type in _COMPLEX else 1)
    if held != want:
        raise Refused(f"{_where(tensor)} holds {held} {unit}, its shape {shape} says {want}")


def _bytes(tensor: Any) -> int:
    """Bytes of a tensor's data."""
    from onnx import helper

    try:
        kind = tensor.data_type
        bits = _PACKED.get(kind) or 8 * helper.tensor_dtype_to_np_dtype(kind).itemsize
    except KeyError:
        raise Refused(f"{_where(tensor)} is of type {kind}, which is none") from None
    return -(-math.prod(tensor.dims) * bits // 8)


def _without_data(tensor: Any) -> Any:
    copy = type(tensor)()
    copy.CopyFrom(tensor)
    for field in ("data_location", "external_data", "raw_data"):
        copy.ClearField(field)
    return copy


def _external(tensor: Any, folder: Path | None) -> Place:
    """Where data in another file are, which must be in the model's folder."""
    if folder is None:
        raise Refused(f"{_where(tensor)} lies in another file; give the path of the model instead, "
                      "or load it with onnx.load, which reads such files too")
    told = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{_where(tensor)} lies in {one_line(told.get('location', ''))!r}"
    root = Path(os.path.realpath(folder))
    source = Path(os.path.realpath(root / told.get("location", "")))
    if not source.is_relative_to(root) or source == root:
        raise Refused(f"{where}, outside the model's folder; it is not opened")
    if not source.is_file():
        raise Refused(f"{where}, which does not exist; put it beside the model")
    there, whole = source.stat().st_size, _bytes(tensor)
    try:
        offset, length = int(told.get("offset") or 0), int(told.get("length") or whole)
    except ValueError:
        raise Refused(f"{where}, at a place that is no number; export the model anew") from None
    if offset < 0 or length < 0 or offset + length > there:
        raise Refused(f"{where}, which has {there} bytes, not the {length} from byte {offset} on; "
                      "fetch that file whole")
    return Place(source, offset, offset + length)
