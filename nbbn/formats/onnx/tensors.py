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
DTYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
_COPIED_AT_ONCE = 1 << 20


@dataclass(frozen=True)
class Tensor:
    """An initialiser.

    Attributes
    ----------
    name : str
    dims : tuple of int
    data_type : int
        Of `onnx.TensorProto`.
    size : int
        Bytes of its message.
    """

    name: str
    dims: tuple[int, ...]
    data_type: int
    size: int

    def load(self) -> Any:
        """The `onnx.TensorProto`, its data inside."""
        raise NotImplementedError

    def array(self) -> np.ndarray:
        """The numbers, not to be written."""
        from onnx import numpy_helper

        return numpy_helper.to_array(self.load())

    def write(self, file: BinaryIO) -> None:
        """Write the message to a file."""
        file.write(self.load().SerializeToString())


@dataclass(frozen=True)
class _InMemory(Tensor):
    proto: Any

    def load(self) -> Any:
        return self.proto


@dataclass(frozen=True)
class _Made(Tensor):
    """`make` makes the array; `head` is the message without data."""

    head: bytes
    make: Callable[[], np.ndarray]

    def load(self) -> Any:
        from onnx import numpy_helper

        array = np.ascontiguousarray(self.make()).reshape(self.dims)
        return numpy_helper.from_array(array, self.name)

    def array(self) -> np.ndarray:
        return self.make()

    def write(self, file: BinaryIO) -> None:
        array = np.ascontiguousarray(self.make(), DTYPES[self.data_type])
        file.write(_before_data(self.head, array.nbytes))
        file.write(array.reshape(-1).view(np.uint8).data)


class _Raw(NamedTuple):
    """Where raw data are."""

    path: Path
    offset: int
    length: int

    def read(self) -> bytes:
        with open(self.path, "rb") as file:
            return read_slice(file, self.offset, self.offset + self.length)


@dataclass(frozen=True)
class _InFile(Tensor):
    """A message in a file, raw data in it or in another; `head` is the message without them."""

    head: bytes
    raw: _Raw

    def load(self) -> Any:
        import onnx

        tensor = onnx.TensorProto.FromString(self.head)
        tensor.raw_data = self.raw.read()
        return tensor

    def array(self) -> np.ndarray:
        if self.data_type not in DTYPES:
            return super().array()
        dtype, count = DTYPES[self.data_type], math.prod(self.dims)
        array = np.fromfile(self.raw.path, dtype, count, offset=self.raw.offset)
        return array.reshape(self.dims)

    def write(self, file: BinaryIO) -> None:
        file.write(_before_data(self.head, self.raw.length))
        with open(self.raw.path, "rb") as source:
            end = self.raw.offset + self.raw.length
            for start in range(self.raw.offset, end, _COPIED_AT_ONCE):
                file.write(read_slice(source, start, min(start + _COPIED_AT_ONCE, end)))


@dataclass(frozen=True)
class _Listed(Tensor):
    """A message in a file whose numbers are a list, as old exporters write them."""

    message: _Raw

    def load(self) -> Any:
        import onnx

        return onnx.TensorProto.FromString(self.message.read())

    def write(self, file: BinaryIO) -> None:
        # As it stands there: protobuf may write it in other bytes, of another length.
        file.write(self.message.read())


def in_memory(tensor: Any) -> Tensor:
    """An `onnx.TensorProto` with its data inside.

    Raises
    ------
    Refused
        For a tensor whose data do not fit its shape, or are in another file.
    """
    embed(tensor, None)
    return _InMemory(tensor.name, tuple(tensor.dims), tensor.data_type, tensor.ByteSize(), tensor)


def made(
    name: str, dims: tuple[int, ...], data_type: int, make: Callable[[], np.ndarray]
) -> Tensor:
    """A tensor of floating-point numbers; `make` makes the array, of the dtype in `DTYPES`."""
    import onnx

    head = onnx.TensorProto(name=name, dims=dims, data_type=data_type).SerializeToString()
    size = _size(head, math.prod(dims) * DTYPES[data_type].itemsize)
    return _Made(name, tuple(dims), data_type, size, head, make)


def in_file(path: Path, file: BinaryIO, place: tuple[int, int]) -> Tensor:
    """The tensor whose message stands at `place` (start, end) in an open file.

    Raises
    ------
    DamagedError
        For other bytes.
    Refused
        For a tensor whose data do not fit its shape, are not there, or not in the folder of `path`.
    """
    import onnx

    parts = list(fields(file, *place))
    head = b"".join(
        read_slice(file, start, end) for number, start, _, end in parts if number != _RAW_DATA
    )
    raw = [_Raw(path, at, end - at) for number, _, at, end in parts if number == _RAW_DATA][-1:]
    tensor = onnx.TensorProto.FromString(head)
    if tensor.data_location == tensor.EXTERNAL:
        raw, head = [_external(tensor, path)], _without_data(tensor).SerializeToString()
    _check(tensor, raw[0].length if raw else None)
    of = (tensor.name, tuple(tensor.dims), tensor.data_type)
    if not raw:
        start, end = place
        return _Listed(*of, end - start, _Raw(path, start, end - start))
    return _InFile(*of, _size(head, raw[0].length), head, raw[0])


def embed(tensor: Any, path: Path | None) -> None:
    """Check an `onnx.TensorProto`, and read its data into it where they are in another file.

    Parameters
    ----------
    tensor : onnx.TensorProto
    path : Path or None
        The model's file; None: there is none, nor are there others.

    Raises
    ------
    Refused
        As `in_file`.
    """
    if tensor.data_location == tensor.EXTERNAL:
        raw = _external(tensor, path)
        _check(tensor, raw.length)
        tensor.CopyFrom(_without_data(tensor))
        tensor.raw_data = raw.read()
    else:
        _check(tensor, len(tensor.raw_data) if tensor.HasField("raw_data") else None)


def _before_data(head: bytes, count: int) -> bytes:
    return head + key(_RAW_DATA) + varint(count)


def _size(head: bytes, count: int) -> int:
    """Bytes of a message with `count` bytes of data."""
    return len(_before_data(head, count)) + count


def _where(tensor: Any) -> str:
    return f"tensor {one_line(tensor.name)!r}"


def _check(tensor: Any, raw: int | None) -> None:
    """Raise `Refused` unless a tensor has as many numbers as its shape says.

    `raw` is the length of its raw data, None where it is a list.
    """
    shape = tuple(tensor.dims)
    if min(shape, default=0) < 0:
        raise Refused(f"{_where(tensor)} has shape {shape}")
    bits, held, unit = _bits(tensor), raw, "bytes"
    want = -(-math.prod(shape) * bits // 8)
    if raw is None or tensor.data_type == _STRING:
        held, unit, want = _listed(tensor, want)
    if held != want:
        raise Refused(f"{_where(tensor)} holds {held} {unit}, its shape {shape} says {want}")


def _bits(tensor: Any) -> int:
    """Bits of a number."""
    from onnx import helper

    try:
        if tensor.data_type in _PACKED:
            return _PACKED[tensor.data_type]
        return 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except KeyError:
        raise Refused(f"{_where(tensor)} is of type {tensor.data_type}, which is none") from None


def _listed(tensor: Any, whole: int) -> tuple[int, str, int]:
    """How many entries a tensor's list has, what they are, and how many it should have."""
    from onnx import helper

    held = len(getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type)))
    if tensor.data_type in _PACKED:
        return held, "numbers", whole
    count = math.prod(tensor.dims) * (2 if tensor.data_type in _COMPLEX else 1)
    return held, "strings" if tensor.data_type == _STRING else "numbers", count


def _without_data(tensor: Any) -> Any:
    copy = type(tensor)()
    copy.CopyFrom(tensor)
    copy.ClearField("data_location")
    copy.ClearField("external_data")
    copy.ClearField("raw_data")
    return copy


def _external(tensor: Any, path: Path | None) -> _Raw:
    """Where data in another file are, which must be in the model's folder."""
    if path is None:
        raise Refused(
            f"{_where(tensor)} lies in another file; give the path of the model instead, "
            "or load it with onnx.load, which reads such files too"
        )
    told = {entry.key: entry.value for entry in tensor.external_data}
    where = f"{_where(tensor)} lies in {one_line(told.get('location', ''))!r}"
    folder = Path(os.path.realpath(path.parent))
    source = Path(os.path.realpath(folder / told.get("location", "")))
    if not source.is_relative_to(folder) or source == folder:
        raise Refused(f"{where}, outside the model's folder; it is not opened")
    if not source.is_file():
        raise Refused(f"{where}, which does not exist; put it beside the model")
    there, whole = source.stat().st_size, -(-math.prod(tensor.dims) * _bits(tensor) // 8)
    try:
        offset, length = int(told.get("offset") or 0), int(told.get("length") or whole)
    except ValueError:
        raise Refused(f"{where}, at a place that is no number; export the model anew") from None
    if offset < 0 or length < 0 or offset + length > there:
        raise Refused(
            f"{where}, which has {there} bytes, not the {length} from byte {offset} on; "
            "fetch that file whole"
        )
    return _Raw(source, offset, length)
