"""What operators are to folding; a function gives None for a node that it does not know."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn.fold import passes
from nbbn.fold.arithmetic import affine_of
from nbbn.fold.graph import Linear, Node, Norm, Pass
from nbbn.formats.onnx.graph import Constant, OnnxGraph, OnnxNode
from nbbn.formats.onnx.read_images import scales_of
from nbbn.formats.onnx.read_norms import statistics
from nbbn.formats.onnx.tensors import DTYPES


def _a(operator: str) -> str:
    return f"{'an' if operator[0] in 'AEIO' else 'a'} {operator}"


def opaque(node: OnnxNode, name: str, graph: OnnxGraph) -> Node:
    """Any operator that nothing is known of."""
    of = f" of {node.domain}" if node.domain else ""
    return Node(name, what=f"is {_a(node.operator)}{of}, which takes in no batch norm")


def not_linear(node: OnnxNode, name: str, graph: OnnxGraph) -> Node:
    """An activation and the like."""
    return Node(name, what=f"is {_a(node.operator)}, which is not linear")


def homogeneous(node: OnnxNode, name: str, graph: OnnxGraph) -> Node:
    """An activation with f(a x) = a f(x) for a not negative."""
    other = not_linear(node, name, graph)
    if any(graph.constant(value) is None for value in node.inputs[1:]):
        return other
    carry = passes.homogeneous(f"{name} {other.what}", name)
    return Pass(name, what=other.what, carry=carry, back=carry)


def pad(node: OnnxNode, name: str, graph: OnnxGraph) -> Node:
    """Values around: zeros, which stay zeros if they are scaled, or those that are there."""
    other = Node(name, what="pads with values that the batch norm would have shifted")
    rank, sides = graph.rank(node.inputs[0]), _integers(node, graph, 1, "pads")
    axes = _integers(node, graph, 3, "axes") if node.inputs[3:] else list(range(rank or 0))
    if not rank or not axes or not sides or len(sides) != 2 * len(axes):
        return other
    adds = node.attributes.get("mode", "constant") == "constant" and max(sides) > 0
    if adds and _fills(node, graph):
        return other
    moved = [axis % rank for k, axis in enumerate(axes) if sides[k] or sides[len(axes) + k]]
    carry = passes.padded(moved, f"{name} {other.what}" if adds else "", name)
    return Pass(name, what=other.what, carry=carry, back=carry)


def _fills(node: OnnxNode, graph: OnnxGraph) -> bool:
    """Whether what a Pad puts around is not known to be zeros."""
    if len(node.inputs) < 3 or not node.inputs[2]:
        return bool(node.attributes.get("value", 0.0) != 0)
    value = graph.constant(node.inputs[2])
    return value is None or bool(value.array().any())


# -- batch norm


def batch_norm(node: OnnxNode, name: str, graph: OnnxGraph) -> Norm:
    obstacle = _training(node, graph)
    arrays: list[np.ndarray] = []
    for role, value in zip(("scale", "bias", "mean", "variance"), node.inputs[1:5]):
        found = _weight(graph, value, f"its {role}")
        if isinstance(found, str):
            obstacle = obstacle or found
        else:
            arrays.append(found.array())
    if not obstacle and any(a.ndim != 1 or a.shape != arrays[0].shape for a in arrays):
        obstacle = "its scale, bias, mean and variance differ in shape"
    if obstacle:
        return Norm(name, obstacle=obstacle)
    gamma, beta, mean, var, epsilon = statistics(node, arrays)
    with np.errstate(divide="ignore", invalid="ignore"):
        affine = affine_of(gamma, beta, mean, var, epsilon)
    if not all(np.isfinite(part).all() for part in affine) or (var < 0).any():
        what = "a variance is negative, or gamma / sqrt(var + epsilon) is not finite"
        obstacle = f"its statistics are not usable: {what}"
    return Norm(name, affine=affine, var=var, epsilon=epsilon, obstacle=obstacle)


def _training(node: OnnxNode, graph: OnnxGraph) -> str:
    """The reason if a batch norm does not use its running statistics, or not one per channel."""
    given = node.attributes
    if graph.opset < 7:
        newer = "convert the model to 7 or newer with onnx.version_converter"
        return f"it is of opset {graph.opset}; {newer}"
    if given.get("training_mode", 0) or any(node.outputs[1:]):
        training = "it is in training mode, where it normalises with the statistics of the batch"
        return f"{training}; export the model for inference"
    if not given.get("spatial", 1) and graph.rank(node.inputs[0]) != 2:
        return "it has statistics of its own for each position (spatial=0)"
    return ""


# -- dense layers and convolutions


def conv(node: OnnxNode, name: str, graph: OnnxGraph) -> Linear:
    """A Conv or ConvTranspose."""
    transposed = node.operator == "ConvTranspose"
    kernel = _weight(graph, node.inputs[1], f"the kernel of {name}")
    if isinstance(kernel, str):
        return Linear(name, obstacle=kernel)
    array, groups, (first, second) = kernel.array, node.attributes.get("group", 1), kernel.dims[:2]
    reason = ""
    if transposed:
        border = "whose border sees fewer of the normalised values"
        reason = f"{name} is a transposed convolution, {border}"
    elif _pads(node.attributes, kernel.dims[2:]):
        reason = f"{name} pads with zeros, which the batch norm would have shifted"
    linear = Linear(
        name, kind="transposed" if transposed else "conv", groups=groups, axis_in=1, axis_out=1,
        channels_in=first if transposed else second * groups,
        channels_out=second * groups if transposed else first,
        kernel=lambda: np.moveaxis(array(), (1, 0), (-2, -1)), not_forward=reason,
    )  # fmt: skip
    return _with_bias(linear, node, graph)


def gemm(node: OnnxNode, name: str, graph: OnnxGraph) -> Linear:
    given = node.attributes
    kernel = _weight(graph, node.inputs[1], f"the kernel of {name}")
    if isinstance(kernel, str):
        return Linear(name, obstacle=kernel)
    array, turned, alpha = kernel.array, given.get("transB", 0), given.get("alpha", 1.0)

    def scaled() -> np.ndarray:
        whole = array().T if turned else array()
        return whole if alpha == 1 else whole.astype(np.float64) * alpha

    axis, dims = 0 if given.get("transA", 0) else 1, kernel.dims[::-1] if turned else kernel.dims
    linear = Linear(name, axis_in=axis, axis_out=1, channels_in=dims[0], channels_out=dims[1],
                    kernel=scaled)
    return _with_bias(linear, node, graph, given.get("beta", 1.0))


def matmul(node: OnnxNode, name: str, graph: OnnxGraph) -> Linear | None:
    kernel = _weight(graph, node.inputs[1], f"the kernel of {name}")
    if isinstance(kernel, str):
        return Linear(name, obstacle=kernel)
    if len(kernel.dims) != 2:
        return None
    rank = graph.rank(node.inputs[0])
    axis = None if rank is None else rank - 1
    inputs, outputs = kernel.dims
    return Linear(name, axis_in=axis, axis_out=axis, channels_in=inputs, channels_out=outputs,
                  kernel=kernel.array, bias_costs=True)


def with_addition(linear: Linear, constant: Constant, rank: int) -> Linear | None:
    """A linear node and what is added to it: None unless that is one value per channel.

    `rank` is the number of axes of what the node gives, as far as it is known.
    """
    if constant.data_type not in DTYPES or len(constant.dims) > rank:
        return None
    axis = rank - 1 if linear.kind == "dense" else 1
    bias = _per_channel(constant, linear.channels_out, rank, axis)
    if bias is None:
        return None
    return replace(linear, bias=bias if linear.bias is None else linear.bias + bias)


def _with_bias(linear: Linear, node: OnnxNode, graph: OnnxGraph, factor: float = 1.0) -> Linear:
    """The node with its bias, `factor` times its third input."""
    value = node.inputs[2] if len(node.inputs) > 2 else ""
    if not value:
        return linear
    constant = _weight(graph, value, f"the bias of {linear.name}")
    if isinstance(constant, str):
        return replace(linear, obstacle=constant)
    dense = linear.kind == "dense"
    bias = _per_channel(constant, linear.channels_out, 2 if dense else 1, 1 if dense else 0)
    if bias is None:
        shape = f"has shape {constant.dims}, not one value per channel"
        return replace(linear, obstacle=f"the bias of {linear.name} {shape}")
    return replace(linear, bias=factor * bias)


def _per_channel(constant: Constant, channels: int, rank: int, axis: int) -> np.ndarray | None:
    """A constant that is broadcast to `rank` axes as one float64 value per channel.

    None where it varies along other axes than `axis`.
    """
    dims = (1,) * (rank - len(constant.dims)) + tuple(constant.dims)
    others = any(n != 1 and (i != axis or n != channels) for i, n in enumerate(dims))
    if len(dims) != rank or others:
        return None
    values = constant.array().astype(np.float64).reshape(-1)
    return np.broadcast_to(values, (channels,)).copy()


def _weight(graph: OnnxGraph, name: str, what: str) -> Constant | str:
    """A constant of floating-point numbers, or why it is none."""
    constant = graph.constant(name)
    if constant is None:
        return f"{what}, {graph.first_name(name)}, is not a constant"
    if constant.data_type not in DTYPES:
        return f"{what}, {name}, is not float16, float32 or float64"
    return constant


def _pads(given: dict[str, Any], window: tuple[int, ...]) -> bool:
    """Whether windows reach over the border."""
    auto = given.get("auto_pad", "NOTSET")
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return max(window, default=1) > 1
    return auto == "NOTSET" and any(given.get("pads", ()))


# -- poolings, reshapes and the like


def average_pool(node: OnnxNode, name: str, graph: OnnxGraph) -> Node:
    given = node.attributes
    counted = given.get("count_include_pad", 0)  # which one of whole images has not
    if counted and (_pads(given, given["kernel_shape"]) or given.get("ceil_mode", 0)):
        reason = f"{name} counts zeros over the border, which the batch norm would have shifted"
        return _per_image(name, passes.padded([0], reason, name))
    return _per_image(name, passes.mean_of_values)


def max_pool(node: OnnxNode, name: str, graph: OnnxGraph) -> Pass | None:
    return None if any(node.outputs[1:]) else _per_image(name, passes.largest_value(name))


def resize(node: OnnxNode, name: str, graph: OnnxGraph) -> Pass | None:
    """Numbers between those of one channel, whose weights add up to 1."""
    constants = [graph.constant(value) for value in node.inputs]
    arrays = [None if constant is None else constant.array() for constant in constants]
    shape = graph.shape(node.inputs[0])
    scales = None if shape is None else scales_of(node, arrays, graph.opset, shape)
    crops = node.attributes.get("coordinate_transformation_mode") == "tf_crop_and_resize"
    known = scales is not None and len(scales) > 1 and scales[1] == 1 and not crops
    return _per_image(name, passes.mean_of_values) if known else None


def _per_image(name: str, carry: passes.Carry) -> Pass:
    """A node that treats each channel on its own: a map passes it as easily either way."""
    carry = passes.along(1, carry, name)
    return Pass(name, carry=carry, back=carry)


def reduced(node: OnnxNode, name: str, graph: OnnxGraph) -> Pass | None:
    """A ReduceMean or ReduceMax."""
    average = node.operator == "ReduceMean"
    carry = passes.mean_of_values if average else passes.largest_value(name)
    given, rank = node.attributes, graph.rank(node.inputs[0])
    axes = _integers(node, graph, 1, "axes")
    if rank is None or not axes:
        return None
    axes = [axis % rank for axis in axes]
    keeps = bool(given.get("keepdims", 1))
    return Pass(name, carry=passes.reduced(carry, axes, keeps, name),
                back=passes.unreduced(carry, axes, keeps))


def transpose(node: OnnxNode, name: str, graph: OnnxGraph) -> Pass | None:
    order = node.attributes.get("perm")
    if not order:
        return None
    undone = [list(order).index(axis) for axis in range(len(order))]
    return Pass(name, carry=passes.transposed(order), back=passes.transposed(undone))


def reshape(node: OnnxNode, name: str, graph: OnnxGraph) -> Node:
    before, after = graph.shape(node.inputs[0]), graph.shape(node.output)
    if before is None or after is None:
        return Node(name, what="reshapes rows of a size that is not known")
    return Pass(name, carry=passes.reordered(before, after, name),
                back=passes.reordered(after, before, name))


def cut(node: OnnxNode, name: str, graph: OnnxGraph) -> Node | None:
    """A Slice along one axis."""
    shape = graph.shape(node.inputs[0])
    if any(name and graph.constant(name) is None for name in node.inputs[1:]):
        return None
    names = "starts", "ends", "axes", "steps"
    starts, ends, axes, steps = (_integers(node, graph, at + 1, n) for at, n in enumerate(names))
    if shape is None or starts is None or ends is None or len(starts) != 1:
        return None
    axis, step = (axes or [0])[0] % len(shape), (steps or [1])[0]
    size = shape[axis]
    if size is None or step < 1:
        return None
    carry, back = passes.sliced(axis, slice(starts[0], ends[0], step), size, name)
    return Pass(name, carry=carry, back=back)


def _integers(node: OnnxNode, graph: OnnxGraph, at: int, attribute: str) -> list[int] | None:
    """An input of whole numbers, or the attribute that older versions have; None if not known."""
    if at < len(node.inputs):
        constant = graph.constant(node.inputs[at])
        return None if constant is None else constant.array().reshape(-1).tolist()
    return node.attributes.get(attribute)


Fold = Callable[[OnnxNode, str, OnnxGraph], Node | None]
