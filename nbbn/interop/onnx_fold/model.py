"""ONNX models taken apart: a skeleton without weights, and the weights one by one, so that memory holds few at a time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from nbbn.formats.files import FileError
from nbbn.interop.onnx_fold.tensors import Tensor, embed, in_file, in_memory
from nbbn.interop.onnx_fold.wire import DamagedError, fields, key, read_slice, varint

# Numbers of the fields in onnx.proto.
_GRAPH, _INITIALIZER = 7, 5
# Shape inference reads the values of small tensors, such as the shapes that a Reshape goes to.
_SMALL_BYTES = 4096
# Protobuf holds no more in one message.
_MOST_BYTES = (1 << 31) - 1


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
    return Model(skeleton, {t.name: in_memory(t) for t in model.graph.initializer})


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
            tensors = [in_file(path, file, place) for place in places]
            _check_names(skeleton.graph)
            for tensor in _tensors_within(skeleton.graph):
                embed(tensor, path)
    except OSError as err:
        raise FileError(f"{path}: cannot be read ({err.strerror or err})") from err
    except (DecodeError, DamagedError, UnicodeDecodeError) as err:
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
    length = len(graph) + sum(1 + len(varint(t.size)) + t.size for t in tensors)
    if length > _MOST_BYTES:
        raise ValueError(f"the folded model takes {length / 1e9:.1f} GB, and a protobuf file holds no more than 2.1")
    rest = type(model.skeleton)()
    rest.CopyFrom(model.skeleton)
    rest.ClearField("graph")
    file.write(rest.SerializeToString() + key(_GRAPH) + varint(length) + graph)
    for tensor in tensors:
        file.write(key(_INITIALIZER) + varint(tensor.size))
        tensor.write(file)


def _read(file: BinaryIO) -> tuple[bytes, list[bytes], list[tuple[int, int]]]:
    """The model without its graph, the graph's pieces without initialisers, and where those are: (start, end)."""
    head, bodies, places = [], [], []
    end = os.fstat(file.fileno()).st_size
    for number, start, first, last in fields(file, 0, end):
        if number != _GRAPH:
            head.append(read_slice(file, start, last))
            continue
        for inner, inner_start, inner_first, inner_last in fields(file, first, last):
            if inner == _INITIALIZER:
                places.append((inner_first, inner_last))
            else:
                bodies.append(read_slice(file, inner_start, inner_last))
    return b"".join(head), bodies, places


def _check_names(graph) -> None:
    """Raise `DamagedError` where a name is no text: protobuf hands out such ones as bytes, or not at all."""
    for node in graph.node:
        if not all(isinstance(name, str) for name in (node.name, node.op_type, node.domain, *node.input, *node.output)):
            raise DamagedError("a name in it is no text")
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
