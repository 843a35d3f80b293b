"""An ONNX file as nodes and constants; it allocates no more than the file holds and opens no file outside its folder."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nbbn.formats.files import BROKEN, FileError, Refused, one_line, read_whole

_MAX_NODES = 20_000
# Operators changed their form in version 7; files of older ones are from 2017.
_OLDEST = 7


@dataclass(frozen=True)
class Node:
    """A node of one output that is used."""

    operator: str
    name: str
    inputs: tuple[str, ...]
    output: str
    attributes: dict

    @property
    def shown(self) -> str:
        """The node in an error's words."""
        return f"node {one_line(self.name or self.output)!r} ({one_line(self.operator)})"

    def refuse(self, why: str) -> Refused:
        """An error about this node."""
        return Refused(f"{self.shown}: {why}")


@dataclass
class OnnxModel:
    """What a file holds.

    Attributes
    ----------
    nodes : list of Node
        Those that the outputs follow from, in order.
    constants : dict
        Arrays by name.
    input : str
    input_shape : tuple of int
        Shape of one row as the graph has it.
    batch : int or None
        Number of rows, where it is fixed.
    dtype : numpy.dtype
        Of the input.
    outputs : list of str
    opset : int
    """

    nodes: list[Node]
    constants: dict[str, np.ndarray]
    input: str
    input_shape: tuple[int, ...]
    batch: int | None
    dtype: np.dtype
    outputs: list[str]
    opset: int


def parse(onnx, path):
    """The protobuf message of a file.

    Raises
    ------
    FileError
        For a file that is none, or that is too large for one.
    """
    from google.protobuf.message import DecodeError

    def accept(start: bytes, size: int) -> None:
        if not 8 <= size < 2**31:
            raise FileError(f"{path}: is no ONNX model, or broken; give a file that an exporter wrote")

    data = read_whole(path, accept)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except (DecodeError, *BROKEN) as err:
        raise FileError(f"{path}: is no ONNX model, or broken ({one_line(err)}); export it again") from err
    if not model.HasField("graph") or not model.opset_import:
        raise FileError(f"{path}: is no ONNX model, or broken; give a file that an exporter wrote")
    return model


def read_graph(onnx, model, folder: Path | None) -> OnnxModel:
    """The graph of a model.

    Parameters
    ----------
    onnx : module
    model : onnx.ModelProto
    folder : Path or None
        Where files of weights beside the model may lie; None: nowhere.

    Raises
    ------
    Refused
        For what nbbn cannot hold.
    """
    graph = model.graph
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < _OLDEST:
        raise Refused(f"has opset {opset}; {_OLDEST} and later are read")
    if len(graph.node) > _MAX_NODES:
        raise Refused(f"has {len(graph.node)} nodes; at most {_MAX_NODES} are read")
    if graph.sparse_initializer:
        raise Refused("has sparse weights, which are not read")
    constants = {tensor.name: array_of(onnx, tensor, folder) for tensor in graph.initializer}
    inputs = [entry for entry in graph.input if entry.name not in constants]
    if len(inputs) != 1:
        raise Refused(f"has {len(inputs)} inputs; models with one are read")
    batch, shape, dtype = _input_type(onnx, inputs[0])
    outputs = [entry.name for entry in graph.output]
    nodes = [_node(onnx, node, folder) for node in _needed(graph.node, outputs)]
    return OnnxModel(nodes, constants, inputs[0].name, shape, batch, dtype, outputs, opset)


def _input_type(onnx, entry) -> tuple[int | None, tuple[int, ...], np.dtype]:
    tensor = entry.type.tensor_type
    sizes = [dim.dim_value if dim.HasField("dim_value") else None for dim in tensor.shape.dim]
    row = tuple(sizes[1:])
    if not row or not all(type(n) is int and 0 < n < 2**31 for n in row):
        raise Refused(f"its rows have shape {one_line(row)}; every size but the batch's must be known")
    kinds = onnx.TensorProto
    # Of integers, which a Cast turns into floats.
    known = {
        kinds.FLOAT: "float32",
        kinds.DOUBLE: "float64",
        kinds.UINT8: "uint8",
        kinds.INT32: "int32",
        kinds.INT64: "int64",
    }
    if tensor.elem_type not in known:
        raise Refused(f"its input {one_line(entry.name)!r} is no tensor of float32 or float64")
    return sizes[0] or None, row, np.dtype(known[tensor.elem_type])


def _needed(nodes: Sequence, outputs: list[str]) -> list:
    """The nodes that the outputs follow from, in the file's order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if any(name and name in wanted for name in node.output):
            kept.append(node)
            wanted.update(node.input)
    return kept[::-1]


def _node(onnx, node, folder: Path | None) -> Node:
    if node.domain not in ("", "ai.onnx"):
        raise Refused(
            f"node {one_line(node.name)!r}: operator {one_line(node.op_type)} of {one_line(node.domain)} is not known"
        )
    inputs = list(node.input)
    while inputs and not inputs[-1]:
        inputs.pop()
    attributes = {a.name: _attribute(onnx, a, folder) for a in node.attribute}
    return Node(node.op_type, node.name, tuple(inputs), node.output[0], attributes)


def _attribute(onnx, attribute, folder: Path | None):
    kinds = onnx.AttributeProto
    if attribute.type == kinds.TENSOR:
        return array_of(onnx, attribute.t, folder)
    if attribute.type in (kinds.FLOAT, kinds.INT, kinds.STRING, kinds.FLOATS, kinds.INTS):
        value = onnx.helper.get_attribute_value(attribute)
        return value.decode() if isinstance(value, bytes) else value
    return None  # nobody asks for graphs and the like


# -- tensors


def array_of(onnx, tensor, folder: Path | None) -> np.ndarray:
    """A tensor's numbers or strings.

    Raises
    ------
    Refused
        For another type, and for a tensor that holds less or more than its shape says.
    """
    kinds, where = onnx.TensorProto, f"tensor {one_line(tensor.name)!r}"
    types = {
        kinds.FLOAT: "float_data", kinds.DOUBLE: "double_data", kinds.INT64: "int64_data", kinds.INT32: "int32_data",
        kinds.BOOL: "int32_data", kinds.STRING: "string_data",
    }  # fmt: skip
    if tensor.data_type not in types:
        raise Refused(f"{where} is of type {tensor.data_type}; float32 and float64 are read")
    shape = tuple(tensor.dims)
    count = math.prod(shape)
    if min(shape, default=0) < 0:
        raise Refused(f"{where} has shape {shape}")
    if tensor.data_type == kinds.STRING:
        if len(tensor.string_data) != count:
            raise Refused(f"{where} holds {len(tensor.string_data)} strings, its shape {shape} says {count}")
        return np.array([text.decode() for text in tensor.string_data], object).reshape(shape)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    if tensor.data_location == kinds.EXTERNAL:
        raw = _external(tensor, folder, where, count * dtype.itemsize)
    elif tensor.HasField("raw_data"):
        raw = tensor.raw_data
    else:
        values = getattr(tensor, types[tensor.data_type])
        if len(values) != count:
            raise Refused(f"{where} holds {len(values)} numbers, its shape {shape} says {count}")
        return np.array(values, dtype).reshape(shape)
    if len(raw) != count * dtype.itemsize:
        raise Refused(f"{where} holds {len(raw)} bytes, its shape {shape} says {count * dtype.itemsize}")
    return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)


def _external(tensor, folder: Path | None, where: str, size: int) -> bytes:
    """A tensor's bytes from a file beside the model's."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise Refused(f"{where} lies in another file; give the path of the model instead")
    path = folder / location
    root = os.path.realpath(folder)
    if not location or os.path.commonpath([root, os.path.realpath(path)]) != root:
        raise Refused(f"{where} lies in {one_line(location)!r}, outside the model's folder; it is not opened")
    try:
        offset, length = int(entries.get("offset") or 0), int(entries.get("length") or size)
        if not path.is_file() or offset < 0 or length != size or offset + length > path.stat().st_size:
            raise Refused(f"{where} is not whole in {one_line(location)!r}; fetch that file, too")
        with open(path, "rb") as file:
            file.seek(offset)
            return file.read(length)
    except OSError as err:
        raise Refused(f"{where}: {one_line(location)!r} cannot be read ({err.strerror or one_line(err)})") from err
