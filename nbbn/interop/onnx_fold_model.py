"""ONNX models taken apart: a skeleton without weights, and the weights one by one, so that memory holds few at a time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np

from nbbn.interop.files import FileError

# Bits of the types of `onnx.TensorProto` that are smaller than a byte: uint4, int4, float4, uint2, int2.
_PACKED = {21: 4, 22: 4, 23: 4, 25: 2, 26: 2}
# Numbers of the fields in onnx.proto.
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5
# Shape inference reads the values of small tensors, such as the shapes that a Reshape goes to.
_SMALL_BYTES = 4096
# Protobuf holds no more in one message.
_MOST_BYTES = (1 << 31) - 1


@dataclass(frozen=True)
class Tensor:
    """An initialiser that is read when it is needed.

    Attributes
    ----------
    name : str
    dims : tuple of int
    data_type : int
        Of `onnx.TensorProto`.
    size : int
        Bytes of its message.
    load : callable
        Makes the `onnx.TensorProto`, its data inside.
    """

    name: str
    dims: tuple[int, ...]
    data_type: int
    size: int
    load: Callable


class Model(NamedTuple):
    """A model whose graph has no initialisers, and the initialisers by name."""

    skeleton: object
    tensors: dict[str, Tensor]


def from_proto(model) -> Model:
    """Take apart a `ModelProto`, which is not written; the skeleton is a copy, the tensors are the model's own."""
    if outside := [t.name for t in _tensors_within(model.graph) if t.data_location == t.EXTERNAL]:
        raise ValueError(
            f"model keeps {outside[0]!r} in another file; load it with onnx.load, which reads such files too"
        )
    skeleton = _copy(model, type(model)(), skip="graph")
    _copy(model.graph, skeleton.graph, skip="initializer")
    return Model(skeleton, {t.name: _in_memory(t) for t in model.graph.initializer})


def to_proto(model: Model):
    """Put together a `ModelProto`; the skeleton is used up."""
    model.skeleton.graph.initializer.extend(tensor.load() for tensor in model.tensors.values())
    return model.skeleton


def stand_in(model: Model):
    """A `ModelProto` of the same form, in which large tensors are inputs: what knows no weights can do with it."""
    from onnx import helper

    proto = type(model.skeleton)()
    proto.CopyFrom(model.skeleton)
    there = {value.name for value in proto.graph.input}
    for tensor in model.tensors.values():
        if tensor.size <= _SMALL_BYTES:
            proto.graph.initializer.append(tensor.load())
        if tensor.name not in there and (tensor.size > _SMALL_BYTES or proto.ir_version < 4):
            proto.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    return proto


def made(name: str, dims: tuple[int, ...], data_type: int, make: Callable[[], np.ndarray]) -> Tensor:
    """A tensor whose array, of the dtype that `data_type` names, `make` makes."""
    import onnx

    head = onnx.TensorProto(name=name, dims=dims, data_type=data_type)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(data_type)

    def load():
        return onnx.numpy_helper.from_array(np.ascontiguousarray(make(), dtype).reshape(dims), name)

    count = int(np.prod(dims, dtype=np.int64)) * dtype.itemsize
    return Tensor(name, tuple(dims), data_type, _with_data(head, count), load)


def from_file(path: Path) -> Model:
    """Take apart a file; its tensors are read when they are needed.

    Raises
    ------
    FileError
        For a file that cannot be read, is damaged or is no ONNX model, or points to data outside its folder.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        with open(path, "rb") as file:
            head, bodies, places = _read(file)
            skeleton = onnx.ModelProto.FromString(head)
            skeleton.graph.MergeFromString(b"".join(bodies))
            tensors = [_in_file(path, file, place) for place in places]
            _check_names(skeleton.graph)
            for tensor in _tensors_within(skeleton.graph):
                _embed(tensor, path)
    except OSError as err:
        raise FileError(f"{path}: cannot be read ({err.strerror or err})") from err
    except (DecodeError, _DamagedError, UnicodeDecodeError) as err:
        raise FileError(f"{path}: is no ONNX model, or a damaged one ({err}); export it anew") from err
    return Model(skeleton, {tensor.name: tensor for tensor in tensors})


def write(model: Model, file: BinaryIO) -> None:
    """Write a model to a file, one tensor after the other.

    Raises
    ------
    ValueError
        For more bytes than a protobuf file holds.
    """
    graph = model.skeleton.graph.SerializeToString()
    tensors = model.tensors.values()
    length = len(graph) + sum(1 + len(_varint(t.size)) + t.size for t in tensors)
    if length > _MOST_BYTES:
        raise ValueError(f"the folded model takes {length / 1e9:.1f} GB, and a protobuf file holds no more than 2.1")
    rest = type(model.skeleton)()
    rest.CopyFrom(model.skeleton)
    rest.ClearField("graph")
    file.write(rest.SerializeToString() + _key(_GRAPH) + _varint(length) + graph)
    for tensor in tensors:
        data = tensor.load().SerializeToString()
        assert len(data) == tensor.size, tensor.name
        file.write(_key(_INITIALIZER) + _varint(len(data)))
        file.write(data)


class _DamagedError(Exception):
    """Bytes that are no protobuf message."""


def _read(file: BinaryIO) -> tuple[bytes, list[bytes], list[tuple[int, int]]]:
    """The model without its graph, the graph's pieces without initialisers, and where those are: (start, end)."""
    head, bodies, places = [], [], []
    end = os.fstat(file.fileno()).st_size
    for number, start, first, last in _fields(file, 0, end):
        if number != _GRAPH:
            head.append(_slice(file, start, last))
            continue
        for inner, inner_start, inner_first, inner_last in _fields(file, first, last):
            if inner == _INITIALIZER:
                places.append((inner_first, inner_last))
            else:
                bodies.append(_slice(file, inner_start, inner_last))
    return b"".join(head), bodies, places


def _fields(file: BinaryIO, start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Fields of a message: number, where the field starts, where its value starts, where it ends."""
    while start < end:
        file.seek(start)
        head = file.read(20)
        key, at = _read_varint(head, 0)
        kind = key & 7
        first, last = start + at, start + at
        if kind == _LENGTH:
            length, at = _read_varint(head, at)
            first, last = start + at, start + at + length
        elif kind == _VARINT:
            last = start + _read_varint(head, at)[1]
        elif kind in (_FIXED64, _FIXED32):
            last += 8 if kind == _FIXED64 else 4
        else:
            raise _DamagedError(f"byte {start} starts no field")
        if last > end or key >> 3 == 0:
            raise _DamagedError(
                f"the field at byte {start} reaches beyond the end" if last > end else "a field is numbered 0"
            )
        yield key >> 3, start, first, last
        start = last


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(10):
        if at + i >= len(data):
            raise _DamagedError("it ends within a number")
        value |= (data[at + i] & 127) << 7 * i
        if data[at + i] < 128:
            return value, at + i + 1
    raise _DamagedError("a number has more than 64 bits")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def _key(number: int) -> bytes:
    return _varint(number << 3 | _LENGTH)


def _slice(file: BinaryIO, start: int, end: int) -> bytes:
    file.seek(start)
    return file.read(end - start)


def _with_data(head, count: int) -> int:
    """Bytes of a tensor's message once it holds `count` bytes of data."""
    return head.ByteSize() + len(_key(_RAW_DATA)) + len(_varint(count)) + count


def _in_memory(tensor) -> Tensor:
    return Tensor(tensor.name, tuple(tensor.dims), tensor.data_type, tensor.ByteSize(), lambda: tensor)


def _in_file(path: Path, file: BinaryIO, place: tuple[int, int]) -> Tensor:
    """A tensor that stands at a place in a file; one whose data are in another file is read as if they were here."""
    import onnx

    # All but the data, which are not read yet.
    fields = list(_fields(file, *place))
    tensor = onnx.TensorProto.FromString(b"".join(_slice(file, f[1], f[3]) for f in fields if f[0] != _RAW_DATA))
    size, raw = place[1] - place[0], [last - first for number, _, first, last in fields if number == _RAW_DATA]
    if tensor.data_location == tensor.EXTERNAL:
        raw = [_external(tensor, path)[2]]
        size = _with_data(_without_place(tensor), raw[0])
    _check_tensor(tensor, raw[-1] if raw else None)
    return Tensor(tensor.name, tuple(tensor.dims), tensor.data_type, size, partial(_load, path, place))


def _check_tensor(tensor, raw: int | None) -> None:
    """Raise `_DamagedError` unless a tensor has as many numbers as its shape says; `raw` is the length of raw data."""
    from onnx import checker, helper

    try:
        if raw is None:
            checker.check_tensor(tensor)
            return
        bits = _PACKED.get(tensor.data_type) or 8 * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
    except (checker.ValidationError, KeyError) as err:
        raise _DamagedError(f"the tensor {tensor.name!r}: {' '.join(str(err).split())[:200]}") from err
    count = math.prod(tensor.dims)
    if min(tensor.dims, default=0) < 0 or raw != -(-count * bits // 8):
        raise _DamagedError(f"the tensor {tensor.name!r} of shape {tuple(tensor.dims)} has {raw} bytes of data")


def _load(path: Path, place: tuple[int, int]):
    import onnx

    with open(path, "rb") as file:
        tensor = onnx.TensorProto.FromString(_slice(file, *place))
    _embed(tensor, path)
    return tensor


def _embed(tensor, path: Path) -> None:
    """Read a tensor's data into it, where they are in another file."""
    if tensor.data_location != tensor.EXTERNAL:
        return
    source, offset, length = _external(tensor, path)
    with open(source, "rb") as file:
        data = _slice(file, offset, offset + length)
    tensor.CopyFrom(_without_place(tensor))
    tensor.raw_data = data


def _without_place(tensor):
    copy = type(tensor)()
    copy.CopyFrom(tensor)
    copy.ClearField("data_location")
    copy.ClearField("external_data")
    copy.ClearField("raw_data")
    return copy


def _external(tensor, path: Path) -> tuple[Path, int, int]:
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
    return source, offset, length


def _check_names(graph) -> None:
    """Raise `_DamagedError` where a name is no text: protobuf hands out such ones as bytes, or not at all."""
    for node in graph.node:
        if not all(isinstance(name, str) for name in (node.name, node.op_type, node.domain, *node.input, *node.output)):
            raise _DamagedError("a name in it is no text")
        for attribute in node.attribute:
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                _check_names(inner)


def _tensors_within(graph) -> Iterator:
    """All tensors of a graph, those of its nodes and of the graphs within included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in [*([attribute.g] if attribute.HasField("g") else []), *attribute.graphs]:
                yield from _tensors_within(inner)


def _copy(source, target, skip: str):
    """Copy all fields of a message but one."""
    for field, value in source.ListFields():
        if field.name == skip:
            continue
        if field.message_type is None and not hasattr(value, "extend"):
            setattr(target, field.name, value)
        elif hasattr(value, "extend"):
            getattr(target, field.name).extend(value)
        else:
            getattr(target, field.name).CopyFrom(value)
    return target
