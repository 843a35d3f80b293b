"""Initialisers of ONNX models, each read when it is needed and written without a copy."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from nbbn.formats.files import FileError
from nbbn.interop.onnx_fold.wire import DamagedError, fields, key, read_slice, varint

_RAW_DATA = 9  # the number of the field
# Bits of the types of `onnx.TensorProto` that are smaller than a byte: uint4, int4, float4, uint2, int2.
_PACKED = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}
# float32, float16, float64 of `onnx.TensorProto`: weights that can be folded.
DTYPES = {1: np.dtype("<f4"), 10: np.dtype("<f2"), 11: np.dtype("<f8")}
# Bytes that the lists of these types stand for.
_LISTED = {
    1: lambda tensor: 4 * len(tensor.float_data),
    10: lambda tensor: 2 * len(tensor.int32_data),
    11: lambda tensor: 8 * len(tensor.double_data),
}
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

    def load(self):
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
    proto: object

    def load(self):
        return self.proto


@dataclass(frozen=True)
class _Made(Tensor):
    """`make` makes the array; `head` is the message without data."""

    head: bytes
    make: Callable[[], np.ndarray]

    def load(self):
        from onnx import numpy_helper

        return numpy_helper.from_array(np.ascontiguousarray(self.make()).reshape(self.dims), self.name)

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


@dataclass(frozen=True)
class _InFile(Tensor):
    """A message in a file, raw data in it or in another file; `head` is the message without them."""

    head: bytes
    raw: _Raw

    def load(self):
        import onnx

        tensor = onnx.TensorProto.FromString(self.head)
        with open(self.raw.path, "rb") as file:
            tensor.raw_data = read_slice(file, self.raw.offset, self.raw.offset + self.raw.length)
        return tensor

    def array(self) -> np.ndarray:
        if self.data_type not in DTYPES:
            return super().array()
        count = math.prod(self.dims)
        return np.fromfile(self.raw.path, DTYPES[self.data_type], count, offset=self.raw.offset).reshape(self.dims)

    def write(self, file: BinaryIO) -> None:
        file.write(_before_data(self.head, self.raw.length))
        with open(self.raw.path, "rb") as source:
            end = self.raw.offset + self.raw.length
            for start in range(self.raw.offset, end, _COPIED_AT_ONCE):
                file.write(read_slice(source, start, min(start + _COPIED_AT_ONCE, end)))


@dataclass(frozen=True)
class _Listed(Tensor):
    """A message in a file whose numbers are a list, as old exporters write them."""

    path: Path
    place: tuple[int, int]

    def load(self):
        import onnx

        with open(self.path, "rb") as file:
            return onnx.TensorProto.FromString(read_slice(file, *self.place))

    def write(self, file: BinaryIO) -> None:
        # As it stands there: protobuf may write it in other bytes, of another length.
        with open(self.path, "rb") as source:
            file.write(read_slice(source, *self.place))


def in_memory(tensor) -> Tensor:
    """An `onnx.TensorProto` with its data inside."""
    return _InMemory(tensor.name, tuple(tensor.dims), tensor.data_type, tensor.ByteSize(), tensor)


def made(name: str, dims: tuple[int, ...], data_type: int, make: Callable[[], np.ndarray]) -> Tensor:
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
        For other bytes, and for a tensor whose data do not fit its shape.
    FileError
        For data in another file that are not there, or not in the folder of `path`.
    """
    import onnx

    parts = list(fields(file, *place))
    head = b"".join(read_slice(file, start, end) for number, start, _, end in parts if number != _RAW_DATA)
    raw = [_Raw(path, first, end - first) for number, _, first, end in parts if number == _RAW_DATA][-1:]
    tensor = onnx.TensorProto.FromString(head)
    if tensor.data_location == tensor.EXTERNAL:
        raw, head = [_external(tensor, path)], _without_data(tensor).SerializeToString()
    _check(tensor, raw[0].length if raw else None)
    of = (tensor.name, tuple(tensor.dims), tensor.data_type)
    if not raw:
        return _Listed(*of, place[1] - place[0], path, place)
    return _InFile(*of, _size(head, raw[0].length), head, raw[0])


def embed(tensor, path: Path) -> None:
    """Read the data of an `onnx.TensorProto` into it, where they are in another file.

    Raises
    ------
    FileError
        As `in_file`.
    """
    if tensor.data_location != tensor.EXTERNAL:
        return
    source, offset, length = _external(tensor, path)
    with open(source, "rb") as file:
        data = read_slice(file, offset, offset + length)
    tensor.CopyFrom(_without_data(tensor))
    tensor.raw_data = data


def _before_data(head: bytes, count: int) -> bytes:
    return head + key(_RAW_DATA) + varint(count)


def _size(head: bytes, count: int) -> int:
    """Bytes of a message with `count` bytes of data."""
    return len(_before_data(head, count)) + count


def _check(tensor, raw: int | None) -> None:
    """Raise `DamagedError` unless a tensor has as many numbers as its shape says; `raw` is the length of raw data."""
    from onnx import checker, helper

    try:
        if raw is None:
            checker.check_tensor(tensor)
            raw = _LISTED[tensor.data_type](tensor) if tensor.data_type in _LISTED else None
        if raw is None:
            return
        bits = _PACKED.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (checker.ValidationError, KeyError) as err:
        raise DamagedError(f"the tensor {tensor.name!r}: {' '.join(str(err).split())[:200]}") from err
    count = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or raw != -(-count * bits // 8):
        raise DamagedError(f"the tensor {tensor.name!r} of shape {tuple(tensor.dims)} has {raw} bytes of data")


def _without_data(tensor):
    copy = type(tensor)()
    copy.CopyFrom(tensor)
    copy.ClearField("data_location")
    copy.ClearField("external_data")
    copy.ClearField("raw_data")
    return copy


def _external(tensor, path: Path) -> _Raw:
    """File, offset and length of data that are in another file, which must be in the model's folder."""
    told = {entry.key: entry.value for entry in tensor.external_data}
    folder = path.resolve().parent
    source = (folder / told.get("location", "")).resolve()
    where = f"{path}: the data of {tensor.name!r} are in {told.get('location', '')!r}"
    if not source.is_relative_to(folder) or source == folder:
        raise FileError(f"{where}, outside the model's folder, which is not read")
    if not source.is_file():
        raise FileError(f"{where}, which does not exist; put it beside the model")
    there = source.stat().st_size
    try:
        offset = int(told.get("offset", 0))
        length = int(told["length"]) if "length" in told else there - offset
    except ValueError as err:
        raise FileError(f"{where}, at a place that is no number; export the model anew") from err
    if offset < 0 or length < 0 or offset + length > there:
        raise FileError(f"{where}, which has {there} bytes, not the {length} from byte {offset} on; export it anew")
    return _Raw(source, offset, length)
