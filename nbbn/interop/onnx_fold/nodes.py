"""What ONNX operators are to folding: one row of `_NODES` per operator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from nbbn.fold import passes
from nbbn.fold.arithmetic import affine_of
from nbbn.fold.graph import Linear, Node, Norm, Pass
from nbbn.interop.onnx_fold.tensors import DTYPES
from nbbn.interop.onnx_fold.values import Constant, Values, attributes

_NOT_LINEAR = frozenset(
    "Relu LeakyRelu PRelu Elu Selu Celu Gelu Sigmoid HardSigmoid Tanh Softmax LogSoftmax Softplus Softsign Swish HardSwish "
    "Mish ThresholdedRelu Clip Exp Log Sqrt Abs".split()
)


def node_of(proto, name: str, values: Values) -> Node:
    """What a node is to folding, its inputs and outputs left open."""
    if proto.domain not in ("", "ai.onnx"):
        return Node(name, what=f"is {_a(proto.op_type)} of {proto.domain}, which takes in no batch norm")
    if proto.op_type in _NOT_LINEAR:
        return Node(name, what=f"is {_a(proto.op_type)}, which is not linear")
    made = _NODES.get(proto.op_type, _opaque)(proto, name, values)
    return _opaque(proto, name, values) if made is None else made


def _a(operator: str) -> str:
    return f"{'an' if operator[0] in 'AEIO' else 'a'} {operator}"


def _opaque(proto, name: str, values: Values) -> Node:
    return Node(name, what=f"is {_a(proto.op_type)}, which takes in no batch norm")


def _pad(proto, name: str, values: Values) -> Node:
    return Node(name, what="pads with values that the batch norm would have shifted")


# Batch norm


def _norm(proto, name: str, values: Values) -> Norm:
    given, epsilon = attributes(proto), float(attributes(proto).get("epsilon", 1e-5))
    obstacle = _training(proto, given, values)
    arrays = []
    for role, value in zip(("scale", "bias", "mean", "variance"), proto.input[1:5]):
        found = _weight(values, value, f"its {role}")
        if isinstance(found, str):
            obstacle = obstacle or found
        else:
            arrays.append(found.array().astype(np.float64))
    if not obstacle and any(a.ndim != 1 or a.shape != arrays[0].shape for a in arrays):
        obstacle = "its scale, bias, mean and variance differ in shape"
    if obstacle:
        return Norm(name, obstacle=obstacle)
    with np.errstate(divide="ignore", invalid="ignore"):
        affine = affine_of(*arrays, epsilon)
    if not all(np.isfinite(part).all() for part in affine) or (arrays[3] < 0).any():
        obstacle = "its statistics are not usable: a variance is negative, or gamma / sqrt(var + epsilon) is not finite"
    return Norm(name, affine=affine, var=arrays[3], epsilon=epsilon, obstacle=obstacle)


def _training(proto, given: dict, values: Values) -> str:
    """The reason if a batch norm does not use its running statistics, or not one per channel."""
    if values.opset < 7:
        return f"it is of opset {values.opset}; convert the model to 7 or newer with onnx.version_converter"
    if given.get("training_mode", 0) or any(proto.output[1:]):
        return "it is in training mode, where it normalises with the statistics of the batch; export the model for inference"
    if not given.get("spatial", 1) and values.rank(proto.input[0]) != 2:
        return "it has statistics of its own for each position (spatial=0)"
    return ""


# Dense layers and convolutions


def _conv(proto, name: str, values: Values, transposed: bool = False) -> Linear:
    kernel = _weight(values, proto.input[1], f"the kernel of {name}")
    if isinstance(kernel, str):
        return Linear(name, obstacle=kernel)
    given = attributes(proto)
    groups, (first, second) = given.get("group", 1), kernel.dims[:2]
    reason = ""
    if transposed:
        reason = f"{name} is a transposed convolution, whose border sees fewer of the normalised values"
    elif _pads(given, kernel.dims[2:]):
        reason = f"{name} pads with zeros, which the batch norm would have shifted"
    linear = Linear(
        name,
        kind="transposed" if transposed else "conv",
        groups=groups,
        axis_in=1,
        axis_out=1,
        channels_in=first if transposed else second * groups,
        channels_out=second * groups if transposed else first,
        kernel=lambda: np.moveaxis(kernel.array(), (1, 0), (-2, -1)),
        not_forward=reason,
    )
    return _with_bias(linear, proto, 2, values)


def _gemm(proto, name: str, values: Values) -> Linear:
    given = attributes(proto)
    kernel = _weight(values, proto.input[1], f"the kernel of {name}")
    if isinstance(kernel, str):
        return Linear(name, obstacle=kernel)
    turned, alpha = given.get("transB", 0), given.get("alpha", 1.0)
    dims = kernel.dims[::-1] if turned else kernel.dims

    def scaled() -> np.ndarray:
        array = kernel.array().T if turned else kernel.array()
        return array if alpha == 1 else array.astype(np.float64) * alpha

    linear = Linear(
        name,
        axis_in=0 if given.get("transA", 0) else 1,
        axis_out=1,
        channels_in=dims[0],
        channels_out=dims[1],
        kernel=scaled,
    )
    return _with_bias(linear, proto, 2, values, given.get("beta", 1.0))


def _mat_mul(proto, name: str, values: Values) -> Linear | None:
    kernel = _weight(values, proto.input[1], f"the kernel of {name}")
    if isinstance(kernel, str):
        return Linear(name, obstacle=kernel)
    if len(kernel.dims) != 2:
        return None
    rank = values.rank(proto.input[0])
    axis = None if rank is None else rank - 1
    return Linear(
        name,
        axis_in=axis,
        axis_out=axis,
        channels_in=kernel.dims[0],
        channels_out=kernel.dims[1],
        kernel=kernel.array,
    )


def with_addition(linear: Linear, constant: Constant, rank: int) -> Linear | None:
    """A linear node and the constant of one value per channel that is added to it; None for any other constant.

    `rank` is the number of axes of what the node gives, as far as it is known.
    """
    dense = linear.kind == "dense"
    if constant.data_type not in DTYPES or len(constant.dims) > rank:
        return None
    bias = _per_channel(constant, linear.channels_out, rank, rank - 1 if dense else 1)
    return None if bias is None else replace(linear, bias=bias if linear.bias is None else linear.bias + bias)


def _with_bias(linear: Linear, proto, at: int, values: Values, factor: float = 1.0) -> Linear:
    """The node with its bias, `factor` times the input at an index."""
    value = proto.input[at] if len(proto.input) > at else ""
    if not value:
        return linear
    constant = _weight(values, value, f"the bias of {linear.name}")
    if isinstance(constant, str):
        return replace(linear, obstacle=constant)
    dense = linear.kind == "dense"
    bias = _per_channel(constant, linear.channels_out, 2 if dense else 1, 1 if dense else 0)
    if bias is None:
        reason = f"the bias of {linear.name} has shape {constant.dims}, not one value per channel"
        return replace(linear, obstacle=reason)
    return replace(linear, bias=factor * bias)


def _per_channel(constant: Constant, channels: int, rank: int, axis: int) -> np.ndarray | None:
    """A constant that is broadcast to `rank` axes as one float64 value per channel, if it varies along `axis` alone."""
    dims = (1,) * (rank - len(constant.dims)) + tuple(constant.dims)
    if len(dims) != rank or any(n != 1 and (i != axis or n != channels) for i, n in enumerate(dims)):
        return None
    return np.broadcast_to(constant.array().astype(np.float64).reshape(-1), (channels,)).copy()


def _weight(values: Values, name: str, what: str) -> Constant | str:
    """A constant of floating-point numbers, or why it is none."""
    constant = values.constant(name)
    if constant is None:
        first = values.first_name(name)
        if first in values.replaceable:
            return f"{what}, {first}, is an input of the graph too, which a caller may replace"
        return f"{what}, {first}, is not a constant"
    if constant.data_type not in DTYPES:
        return f"{what}, {name}, is not float16, float32 or float64"
    return constant


def _pads(given: dict, window: tuple[int, ...]) -> bool:
    """Whether windows reach over the border."""
    auto = given.get("auto_pad", b"NOTSET").decode()
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        return max(window, default=1) > 1
    return auto == "NOTSET" and any(given.get("pads", ()))


# Poolings, reshapes and the like


def _average_pool(proto, name: str, values: Values) -> Pass | Node:
    given = attributes(proto)
    over_border = _pads(given, given["kernel_shape"]) or given.get("ceil_mode", 0)
    if given.get("count_include_pad", 0) and over_border:
        return Node(name, what="counts zeros over the border, which the batch norm would have shifted")
    return _per_image(proto, name, passes.mean_of_values)


def _max_pool(proto, name: str, values: Values) -> Pass | None:
    return None if any(proto.output[1:]) else _per_image(proto, name, passes.largest_value(name))


def _global_average_pool(proto, name: str, values: Values) -> Pass:
    return _per_image(proto, name, passes.mean_of_values)


def _per_image(proto, name: str, carry: passes.Carry) -> Pass:
    return Pass(name, carry=passes.along(1, carry, name))


def _reduce(proto, name: str, values: Values, carry: Callable[[str], passes.Carry]) -> Pass | None:
    given, rank = attributes(proto), values.rank(proto.input[0])
    axes = given.get("axes")
    if axes is None and len(proto.input) > 1 and proto.input[1]:
        axes = values.integers(proto.input[1])
    if rank is None or not axes:
        return None
    axes = tuple(axis % rank for axis in axes)
    return Pass(name, carry=passes.reduced(carry(name), axes, bool(given.get("keepdims", 1)), name))


def _transpose(proto, name: str, values: Values) -> Pass | None:
    order = attributes(proto).get("perm")
    return None if not order else Pass(name, carry=passes.transposed(order))


def _reshape(proto, name: str, values: Values) -> Pass | Node:
    before, after = values.row(proto.input[0]), values.row(proto.output[0])
    if before is None or after is None or np.prod(before, dtype=object) != np.prod(after, dtype=object):
        return Node(name, what="reshapes rows of a size that is not known")
    return Pass(name, carry=passes.reshaped(before, after, name))


_NODES: dict[str, Callable[..., Node | None]] = {
    "BatchNormalization": _norm,
    "Conv": _conv,
    "ConvTranspose": partial(_conv, transposed=True),
    "Gemm": _gemm,
    "MatMul": _mat_mul,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average_pool,
    "MaxPool": _max_pool,
    "GlobalMaxPool": _max_pool,
    "ReduceMean": partial(_reduce, carry=lambda name: passes.mean_of_values),
    "ReduceMax": partial(_reduce, carry=passes.largest_value),
    "Transpose": _transpose,
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), _reshape),
    "Pad": _pad,
}
