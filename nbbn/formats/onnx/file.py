"""ONNX models taken apart: a skeleton without weights, and the weights one by one."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

from nbbn.formats.files import BROKEN, FileError, Refused, first_bytes, one_line
from nbbn.formats.onnx.protobuf import DamagedError, fields, key, read_slice, varint
from nbbn.formats.onnx.tensors import Place, Tensor, embed, tensor_at

# Numbers of the fields in onnx.proto.
_GRAPH, _INITIALIZER = 7, 5
# Shape inference reads the values of small tensors, such as the shapes that a Reshape goes to.
_SMALL_BYTES = 4096
# Protobuf holds no more in one message.
_MOST_BYTES = (1 << 31) - 1


class Model(NamedTuple):
    """An `onnx.ModelProto` whose graph has no initialisers, and these by name."""

    skeleton: Any
    tensors: dict[str, Tensor]


def import_onnx(who: str) -> ModuleType:
    """The package onnx, for a function of this name.

    Raises ImportError that names the extra to install.
    """
    try:
        import onnx
    except ImportError as err:
        raise ImportError(f"{who} needs the package onnx: pip install 'nbbn[onnx]'") from err
    return onnx


def from_proto(model: Any) -> Model:
    """Take apart a `ModelProto`, which is not written.

    Raises ValueError for tensors that do not fit their shape, or are in another file.
    """
    data = model.SerializeToString()
    return _taken_apart(io.BytesIO(data), data, None)


def from_file(path: Path) -> Model:
    """Take apart a file; its tensors are read when they are needed.

    Raises FileError for a file that cannot be read, is damaged or is no ONNX model, or points to
    data outside its folder.
    """
    from google.protobuf.message import DecodeError

    first_bytes(path)  # there, and a regular file
    try:
        with open(path, "rb") as file:
            model = _taken_apart(file, path, path.parent)
    except OSError as err:
        raise FileError(f"{path}: cannot be read ({err.strerror or err})") from err
    except Refused as err:
        raise FileError(f"{path}: {err}") from err
    except (DecodeError, *BROKEN) as err:
        why = one_line(" ".join(str(err).split()))
        raise FileError(f"{path}: is no ONNX model, or broken ({why}); export it again") from err
    if not model.tensors and not model.skeleton.graph.ByteSize():
        raise FileError(f"{path}: is no ONNX model, or broken; give a file that an exporter wrote")
    return model


def _taken_apart(file: BinaryIO, source: Path | bytes, folder: Path | None) -> Model:
    import onnx

    head, body, places = _read(file)
    skeleton = onnx.ModelProto.FromString(head)
    skeleton.graph.MergeFromString(body)
    tensors = [tensor_at(file, Place(source, *place), folder) for place in places]
    _check_names(skeleton.graph)
    for tensor in _tensors_within(skeleton.graph):
        embed(tensor, folder)
    return Model(skeleton, {tensor.name: tensor for tensor in tensors})


def to_proto(model: Model) -> Any:
    """Put together a `ModelProto`; the skeleton is used up."""
    model.skeleton.graph.initializer.extend(tensor.load() for tensor in model.tensors.values())
    return model.skeleton


def stand_in(model: Model) -> Any:
    """A `ModelProto` of the same form for what knows no weights: large tensors are inputs."""
    from onnx import helper

    proto = type(model.skeleton)()
    proto.CopyFrom(model.skeleton)
    there = {value.name for value in proto.graph.input}
    for tensor in model.tensors.values():
        small = tensor.size <= _SMALL_BYTES
        if small:
            proto.graph.initializer.append(tensor.load())
        if tensor.name not in there and (not small or proto.ir_version < 4):
            of = helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
            proto.graph.input.append(of)
    return proto


def write(model: Model, file: BinaryIO) -> None:
    """Write a model to a file, one tensor after the other.

    Raises ValueError for more bytes than a protobuf file holds.
    """
    graph = model.skeleton.graph.SerializeToString()
    tensors = model.tensors.values()
    length = len(graph) + sum(1 + len(varint(t.size)) + t.size for t in tensors)
    if length > _MOST_BYTES:
        raise ValueError(f"the folded model takes {length / 1e9:.1f} GB, "
                         "and a protobuf file holds no more than 2.1")
    rest = type(model.skeleton)()
    rest.CopyFrom(model.skeleton)
    rest.ClearField("graph")
    file.write(rest.SerializeToString() + key(_GRAPH) + varint(length) + graph)
    for tensor in tensors:
        file.write(key(_INITIALIZER) + varint(tensor.size))
        tensor.write(file)


def graphs_within(node: Any) -> Iterator[Any]:
    """The graphs that are attributes of a `NodeProto`."""
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs


def _read(file: BinaryIO) -> tuple[bytes, bytes, list[tuple[int, int]]]:
    """The model without its graph, that without initialisers, and where these start and end."""
    head, body, places = [], [], []
    for number, start, first, last in fields(file, 0, file.seek(0, io.SEEK_END)):
        if number != _GRAPH:
            head.append(read_slice(file, start, last))
            continue
        for inner, inner_start, inner_first, inner_last in fields(file, first, last):
            if inner == _INITIALIZER:
                places.append((inner_first, inner_last))
            else:
                body.append(read_slice(file, inner_start, inner_last))
    return b"".join(head), b"".join(body), places


def _check_names(graph: Any) -> None:
    """Raise `DamagedError` where a name is no text, which protobuf hands out as bytes if at all."""
    for node in graph.node:
        try:
            names = [node.name, node.op_type, node.domain, *node.input, *node.output]
            names += [attribute.name for attribute in node.attribute]
        except UnicodeDecodeError as err:
            raise DamagedError("a name in it is no text") from err
        if not all(isinstance(name, str) for name in names):
            raise DamagedError("a name in it is no text")
        for inner in graphs_within(node):
            _check_names(inner)


def _tensors_within(graph: Any) -> Iterator[Any]:
    """All tensors of a graph, those of its nodes and of the graphs within included."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for inner in graphs_within(node):
            yield from _tensors_within(inner)
