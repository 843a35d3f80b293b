"""One row an operator of ONNX: what it is as a layer, to folding, and on constants alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbbn.fold import passes
from nbbn.fold.joins import COMBINED
from nbbn.formats.onnx import constants as of_constants
from nbbn.formats.onnx import fold_joins
from nbbn.formats.onnx import fold_nodes as fold
from nbbn.formats.onnx import read_activations as activations
from nbbn.formats.onnx import read_dense as dense
from nbbn.formats.onnx import read_images as images
from nbbn.formats.onnx import read_joins as joins
from nbbn.formats.onnx import read_norms as norms
from nbbn.formats.onnx import read_products as products
from nbbn.formats.onnx import read_shapes as shapes
from nbbn.formats.onnx import read_tables as tables
from nbbn.formats.onnx.builder import Args, NetworkBuilder
from nbbn.formats.onnx.graph import Constant, OnnxGraph, OnnxNode

Read = Callable[[NetworkBuilder, OnnxNode, Args], None]


@dataclass(frozen=True)
class Operator:
    """What is known of an operator.

    Attributes
    ----------
    read : callable or None
        Adds the layer that a node on one row is; None where there is none.
    join : callable or None
        Of a node on several rows the layer that merges these.
    twice : bool
        Whether `join` takes the only row that goes in for two.
    fold : callable
        What it is to folding.
    compute : callable or None
        What it makes of constants alone.
    on_images, mixes_axes : bool
        Whether it takes the second axis for the channels; whether the axes behind it are others.
    slides : bool
        Whether it works on steps, too, channels first.
    weighted : bool
        Whether inputs of more than one number are weights, and not shapes, scales or exponents.
    expression : str
        The operator of `nbbn.expressions` that it is, if any.
    function, attributes
        The function of `nbbn.activations` that it is, if any, and for that's parameters the name of
        the operator's attribute and its default.
    """

    read: Read | None = None
    join: joins.Join | None = field(default=None, kw_only=True)
    twice: bool = field(default=False, kw_only=True)
    fold: fold.Fold = fold.opaque
    compute: of_constants.Compute | None = None
    on_images: bool = False
    mixes_axes: bool = False
    slides: bool = False
    weighted: bool = False
    expression: str = ""
    function: str = ""
    attributes: activations.Attributes = field(default_factory=dict)


def _nonlinear(read: Read | None = None, known: fold.Fold = fold.not_linear,
               **more: Any) -> Operator:
    return Operator(read, known, **more)


def _function(name: str, *, expression: str = "", **attributes: tuple[str, float]) -> Operator:
    read = activations.function(name, attributes)
    known = fold.homogeneous if name in passes.HOMOGENEOUS else fold.not_linear
    return _nonlinear(read, known, expression=expression, function=name, attributes=attributes)


def _joined(kind: str) -> fold.Fold:
    return fold_joins.combined(COMBINED[kind])


def _arithmetic(expression: str, compute: of_constants.Compute | None = None, *,
                join: joins.Join = joins.combined, known: fold.Fold | None = None) -> Operator:
    return Operator(dense.with_constant, known or _joined(expression), join=join, compute=compute,
                    weighted=True, expression=expression)


def _on_images(read: Read, known: fold.Fold = fold.opaque, *, weighted: bool = False,
               slides: bool = True) -> Operator:
    return Operator(read, known, on_images=True, weighted=weighted, slides=slides)


def _reshaping(read: Read, compute: of_constants.Compute | None = None) -> Operator:
    return Operator(read, fold.reshape, compute, mixes_axes=True)


OPERATORS: dict[str, Operator] = {
    # Dense layers and arithmetic
    "Gemm": Operator(dense.gemm, fold.gemm, mixes_axes=True, weighted=True),
    "MatMul": Operator(dense.matmul, fold.matmul, join=products.product, mixes_axes=True,
                       weighted=True),
    "Add": _arithmetic("add", of_constants.arithmetic(np.add)),
    "Sub": _arithmetic("subtract", of_constants.arithmetic(np.subtract)),
    "Mul": _arithmetic("multiply", of_constants.arithmetic(np.multiply)),
    "Div": _arithmetic("divide", of_constants.quotient, join=joins.divided, known=fold.opaque),
    "Sum": Operator(shapes.alone, _joined("add"), join=joins.combined),
    "Mean": Operator(shapes.alone, fold_joins.combined(fold_joins.average), join=joins.combined),
    "Pow": Operator(join=joins.squared, twice=True),
    "Mod": Operator(compute=of_constants.arithmetic(np.mod)),
    # Convolutions and pools
    "Conv": _on_images(images.conv, fold.conv, weighted=True),
    "ConvTranspose": _on_images(images.transposed_conv, fold.conv, weighted=True),
    "AveragePool": _on_images(images.average_pool, fold.average_pool),
    "MaxPool": _on_images(images.max_pool, fold.max_pool),
    "GlobalAveragePool": _on_images(images.global_pool, fold.average_pool),
    "GlobalMaxPool": _on_images(images.global_pool, fold.max_pool),
    "ReduceMean": Operator(images.reduced, fold.reduced),
    "ReduceMax": Operator(images.reduced, fold.reduced),
    "ReduceSum": Operator(images.summed),
    "Pad": Operator(images.pad, fold.pad),
    "Resize": _on_images(images.resize, fold.resize),
    "Upsample": _on_images(images.resize, fold.resize),
    # Norms
    "BatchNormalization": Operator(norms.batch_norm, fold.batch_norm, weighted=True),
    "LayerNormalization": Operator(norms.layer_norm, weighted=True),
    "InstanceNormalization": _on_images(norms.instance_norm, weighted=True, slides=False),
    "GroupNormalization": _on_images(norms.group_norm, weighted=True, slides=False),
    # Activations
    "Relu": _function("relu", expression="relu"),
    "LeakyRelu": _function("leaky_relu", slope=("alpha", 0.01)),
    "PRelu": _nonlinear(activations.prelu, fold.homogeneous, weighted=True),
    "Elu": _function("elu", alpha=("alpha", 1.0)),
    "Selu": _nonlinear(activations.selu, function="selu"),
    "Celu": _nonlinear(),
    "Gelu": _nonlinear(activations.gelu),
    "Sigmoid": _function("sigmoid", expression="sigmoid"),
    "HardSigmoid": _nonlinear(activations.hard_sigmoid),
    "Tanh": _function("tanh", expression="tanh"),
    "Softmax": _nonlinear(activations.softmax),
    "LogSoftmax": _nonlinear(activations.log_softmax),
    "Softplus": _function("softplus"),
    "Softsign": _function("softsign"),
    "Swish": _nonlinear(activations.swish),
    "HardSwish": _nonlinear(activations.function("hard_silu", {})),
    "Shrink": _nonlinear(activations.shrink),
    "Mish": _nonlinear(activations.function("mish", {})),  # of a newer opset than is written
    "ThresholdedRelu": _nonlinear(activations.thresholded_relu),
    "Clip": _nonlinear(activations.clip),
    "Min": Operator(activations.minimum, _joined("minimum"), join=joins.combined,
                    expression="minimum"),
    "Max": Operator(activations.maximum, _joined("maximum"), join=joins.combined),
    "Exp": _function("exponential", expression="exp"),
    "Log": _nonlinear(),
    "Sqrt": _nonlinear(expression="sqrt"),
    "Abs": _nonlinear(None, fold.homogeneous, join=joins.absolute, twice=True,
                      expression="absolute"),
    "Neg": Operator(dense.negative, expression="negative"),
    "Erf": Operator(expression="erf"),
    # Shapes
    "Flatten": _reshaping(shapes.flatten),
    "Reshape": _reshaping(shapes.reshape, lambda node, array, shape: array.reshape(shape.tolist())),
    "Squeeze": _reshaping(shapes.squeeze, of_constants.squeezed),
    "Unsqueeze": _reshaping(shapes.unsqueeze, of_constants.unsqueezed),
    "Transpose": Operator(shapes.transpose, fold.transpose,
                          lambda node, array: array.transpose(node.attributes.get("perm"))),
    "Shape": Operator(compute=lambda node, array: of_constants.sizes(node, array.shape)),
    "ConstantOfShape": Operator(compute=of_constants.filled),
    "Gather": Operator(tables.gather, compute=of_constants.gather, weighted=True),
    "Concat": Operator(shapes.alone, fold_joins.concatenated, join=joins.concatenated,
                       compute=of_constants.concat),
    "Expand": Operator(images.expand, compute=of_constants.expanded),
    "Slice": Operator(images.slices, fold=fold.cut, compute=of_constants.slices),
    # What does nothing in inference
    "Identity": Operator(shapes.identity, compute=lambda node, array: array),
    "Dropout": Operator(shapes.dropout),
    "Cast": Operator(shapes.cast, compute=of_constants.cast),
    # Of recurrent networks, which are left as they are
    **dict.fromkeys(("LSTM", "GRU", "RNN"), Operator(weighted=True)),
}
# All that there is no row for.
UNKNOWN = Operator()
# Of a function: its operator, and the attributes of its parameters.
ACTIVATIONS = {
    row.function: (operator, {name: attribute for name, (attribute, _) in row.attributes.items()})
    for operator, row in OPERATORS.items() if row.function
}  # fmt: skip
# Of an operator of expressions: ONNX's.
EXPRESSIONS = {row.expression: operator for operator, row in OPERATORS.items() if row.expression}


def operator_of(node: OnnxNode) -> Operator:
    """The row of a node's operator."""
    return UNKNOWN if node.domain else OPERATORS.get(node.operator, UNKNOWN)


def constant_of(node: OnnxNode, graph: OnnxGraph,
                shapes_of_rows: Mapping[str, Sequence[int]]) -> Constant:
    """What a node makes of constants alone, or of the shape of rows.

    Raises Refused for a node that does not follow from these, or computes what is no shape.
    """
    if node.operator == "Constant" and not node.domain:
        return of_constants.literal(node)
    if node.operator == "Shape" and node.inputs[0] in shapes_of_rows:
        found = of_constants.sizes(node, shapes_of_rows[node.inputs[0]])
        return Constant(found.shape, 7, lambda: found)
    inputs = [graph.constant(name) for name in node.inputs]
    if any(found is None and name for found, name in zip(inputs, node.inputs)):
        raise node.refuse("takes a value that is neither a constant nor follows from the input")
    compute = operator_of(node).compute
    if compute is None or not inputs:
        what = "computes with constants alone in a way that is not known"
        raise node.refuse(f"{what}; simplify the model before")
    return of_constants.computed(node, compute, inputs)
