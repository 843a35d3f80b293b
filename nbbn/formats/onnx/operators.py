"""One row an operator of ONNX: what it is as a layer, to folding, and on constants alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from nbbn.formats.onnx import constants as of_constants
from nbbn.formats.onnx import fold_nodes as fold
from nbbn.formats.onnx import read_activations as activations
from nbbn.formats.onnx import read_dense as dense
from nbbn.formats.onnx import read_images as images
from nbbn.formats.onnx import read_norms as norms
from nbbn.formats.onnx import read_resize as resizing
from nbbn.formats.onnx import read_shapes as shapes
from nbbn.formats.onnx.builder import Args, NetworkBuilder
from nbbn.formats.onnx.graph import Constant, OnnxGraph, OnnxNode

Read = Callable[[NetworkBuilder, OnnxNode, Args], None]


@dataclass(frozen=True)
class Operator:
    """What is known of an operator.

    Attributes
    ----------
    read : callable or None
        Adds the layer that a node on its own is; None where there is none.
    function : str
        The function of `nbbn.activations` that it is; empty for others.
    attributes : dict
        Of the function's parameters: name of the operator's attribute, and its default.
    fold : callable
        What it is to folding.
    compute : callable or None
        What it makes of constants alone.
    on_images : bool
        Whether it takes the graph's second axis for the channels.
    mixes_axes : bool
        Whether the axes behind it are others.
    weighted : bool
        Whether inputs of more than one number are weights, and not shapes, scales or exponents.
    """

    read: Read | None = None
    fold: fold.Fold = fold.opaque
    compute: of_constants.Compute | None = None
    on_images: bool = False
    mixes_axes: bool = False
    weighted: bool = False
    function: str = ""
    attributes: activations.Attributes = field(default_factory=dict)


def _activation(read: Read | None = None, function: str = "") -> Operator:
    return Operator(read, fold.not_linear, function=function)


def _function(name: str, **attributes: tuple[str, float]) -> Operator:
    read = activations.function(name, attributes)
    return Operator(read, fold.not_linear, function=name, attributes=attributes)


def _arithmetic(function: Callable[..., np.ndarray] | None = None) -> Operator:
    compute = None if function is None else of_constants.arithmetic(function)
    return Operator(dense.with_constant, compute=compute, weighted=True)


def _reshaping(read: Read, compute: of_constants.Compute | None = None) -> Operator:
    return Operator(read, fold.reshape, compute, mixes_axes=True)


OPERATORS: dict[str, Operator] = {
    # Dense layers and arithmetic
    "Gemm": Operator(dense.gemm, fold.gemm, mixes_axes=True, weighted=True),
    "MatMul": Operator(dense.matmul, fold.matmul, mixes_axes=True, weighted=True),
    "Add": _arithmetic(np.add),
    "Sub": _arithmetic(np.subtract),
    "Mul": _arithmetic(np.multiply),
    "Div": _arithmetic(),
    "Mod": Operator(compute=of_constants.arithmetic(np.mod)),
    # Convolutions and pools
    "Conv": Operator(images.conv, fold.conv, on_images=True, weighted=True),
    "ConvTranspose": Operator(
        images.transposed_conv, fold.transposed_conv, on_images=True, weighted=True
    ),
    "AveragePool": Operator(images.average_pool, fold.average_pool, on_images=True),
    "MaxPool": Operator(images.max_pool, fold.max_pool, on_images=True),
    "GlobalAveragePool": Operator(
        images.global_average_pool, fold.global_average_pool, on_images=True
    ),
    "GlobalMaxPool": Operator(images.global_max_pool, fold.max_pool, on_images=True),
    "ReduceMean": Operator(images.mean, fold.mean),
    "ReduceMax": Operator(images.largest, fold.largest),
    "Pad": Operator(images.pad, fold.pad),
    "Resize": Operator(resizing.resize, fold.resize, on_images=True),
    "Upsample": Operator(resizing.resize, fold.resize, on_images=True),
    # Norms
    "BatchNormalization": Operator(norms.batch_norm, fold.batch_norm, weighted=True),
    "LayerNormalization": Operator(norms.layer_norm, weighted=True),
    "InstanceNormalization": Operator(norms.instance_norm, on_images=True, weighted=True),
    "GroupNormalization": Operator(norms.group_norm, on_images=True, weighted=True),
    # Activations
    "Relu": _function("relu"),
    "LeakyRelu": _function("leaky_relu", slope=("alpha", 0.01)),
    "PRelu": Operator(activations.prelu, fold.not_linear, weighted=True),
    "Elu": _function("elu", alpha=("alpha", 1.0)),
    "Selu": _activation(activations.selu, "selu"),
    "Celu": _activation(),
    "Gelu": _activation(activations.gelu),
    "Sigmoid": _function("sigmoid"),
    "HardSigmoid": _activation(),
    "Tanh": _function("tanh"),
    "Softmax": _activation(activations.softmax),
    "LogSoftmax": _activation(),
    "Softplus": _function("softplus"),
    "Softsign": _function("softsign"),
    "Swish": _activation(),
    "HardSwish": _activation(),
    "Mish": _activation(activations.function("mish", {})),  # of a newer opset than is written
    "ThresholdedRelu": _activation(activations.thresholded_relu),
    "Clip": _activation(activations.clip),
    "Min": Operator(activations.minimum),
    "Max": Operator(activations.maximum),
    "Exp": _function("exponential"),
    "Log": _activation(),
    "Sqrt": _activation(),
    "Abs": _activation(),
    # Shapes
    "Flatten": _reshaping(shapes.flatten),
    "Reshape": _reshaping(shapes.reshape, of_constants.reshaped),
    "Squeeze": _reshaping(shapes.squeeze, of_constants.squeezed),
    "Unsqueeze": _reshaping(shapes.unsqueeze, of_constants.unsqueezed),
    "Transpose": Operator(shapes.transpose, fold.transpose, of_constants.transposed),
    "Shape": Operator(compute=of_constants.shape_of),
    "ConstantOfShape": Operator(compute=of_constants.filled),
    "Gather": Operator(compute=of_constants.gather, weighted=True),
    "Concat": Operator(compute=of_constants.concat),
    "Slice": Operator(compute=of_constants.slices),
    # What does nothing in inference
    "Identity": Operator(shapes.identity, compute=of_constants.identity),
    "Dropout": Operator(shapes.dropout),
    "Cast": Operator(shapes.cast, compute=of_constants.cast),
    # Of recurrent networks, which are left as they are
    "LSTM": Operator(weighted=True),
    "GRU": Operator(weighted=True),
    "RNN": Operator(weighted=True),
}
# All that there is no row for.
UNKNOWN = Operator()
# Of a function: its operator, and the attributes of its parameters.
ACTIVATIONS = {
    row.function: (operator, {name: attribute for name, (attribute, _) in row.attributes.items()})
    for operator, row in OPERATORS.items()
    if row.function
}


def operator_of(node: OnnxNode) -> Operator:
    """The row of a node's operator."""
    return UNKNOWN if node.domain else OPERATORS.get(node.operator, UNKNOWN)


def constant_of(
    node: OnnxNode, graph: OnnxGraph, shapes_of_rows: Mapping[str, Sequence[int]]
) -> Constant:
    """What a node makes of constants alone, or of the shape of rows.

    Raises
    ------
    Refused
        For a node that does not follow from these, or computes what is no shape.
    """
    if node.operator == "Constant" and not node.domain:
        return of_constants.literal(node)
    if node.operator == "Shape" and node.inputs[0] in shapes_of_rows:
        found = of_constants.ends(node, shapes_of_rows[node.inputs[0]])
        return Constant(found.shape, 7, lambda: found)
    inputs = [graph.constant(name) for name in node.inputs]
    if any(found is None and name for found, name in zip(inputs, node.inputs)):
        raise node.refuse("takes a value that is neither a constant nor follows from the input")
    compute = operator_of(node).compute
    if compute is None or not inputs:
        raise node.refuse(
            "computes with constants alone in a way that is not known; simplify the model before"
        )
    return of_constants.computed(node, compute, inputs)


def channel_axis(nodes: Sequence[OnnxNode], rank: int) -> int | None:
    """The axis of a row that the first of these nodes on images takes for the channels.

    None where there is no such node.
    """
    perm = list(range(rank + 1))
    for node in nodes:
        operator = operator_of(node)
        if operator.on_images:
            return perm[1] - 1
        if node.operator == "Transpose":
            given = node.attributes.get("perm") or []
            if sorted(given) != list(range(rank + 1)):
                return None
            perm = [perm[axis] for axis in given]
        elif operator.mixes_axes:
            return None
    return None
