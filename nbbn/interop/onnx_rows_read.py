"""ONNX nodes on rows of any shape as layers: dense layers, arithmetic with constants, and what changes the rows' shape."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbbn.interop.files import Refused
from nbbn.interop.onnx_model import Node
from nbbn.interop.onnx_rows_in import CHANNELS_FIRST, Affine, Centred, Rows
from nbbn.layers import (
    Activation,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    LayerNormalization,
    LeakyReLU,
    ReLU,
    Reshape,
)

_AFFINES = (Dense, Conv2D, Conv2DTranspose, DepthwiseConv2D)
_POOLS = (GlobalAveragePooling2D, GlobalMaxPooling2D)
# Stands for the number of rows in a shape that the graph computes.
BATCH = -(2**40)

# Operators that tell which axis of an image the graph has for its channels.
_ON_IMAGES = (
    "Conv", "ConvTranspose", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "InstanceNormalization",
    "GroupNormalization",
)  # fmt: skip
_RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Gemm", "MatMul")


def channel_axis(nodes: Sequence[Node], rank: int) -> int | None:
    """The axis of a row that the first of these nodes on images takes for the channels; None where there is no such node."""
    perm = list(range(rank + 1))
    for node in nodes:
        if node.operator in _ON_IMAGES:
            return perm[1] - 1
        if node.operator == "Transpose":
            given = node.attributes.get("perm") or []
            if sorted(given) != list(range(rank + 1)):
                return None
            perm = [perm[axis] for axis in given]
        elif node.operator in _RESHAPING:
            return None
    return None


# -- dense layers


def _gemm(rows: Rows, node: Node, args: list, context) -> None:
    options = node.attributes
    kernel, bias = args[1], args[2] if len(args) > 2 else None
    if args[0] is not None or kernel is None or options.get("transA", 0) or len(rows.shape) != 1:
        raise node.refuse("is no dense layer: its kernel must be a constant, its rows of one axis")
    kernel = (kernel.T if options.get("transB", 0) else kernel) * _number(options.get("alpha", 1.0))
    _dense(rows, node, kernel)
    if bias is not None:
        _arithmetic("Add")(rows, node, [None, bias * _number(options.get("beta", 1.0))], context)


def _number(value: float) -> float | int:
    return 1 if value == 1 else float(value)  # 1 keeps a kernel as it is


def _matmul(rows: Rows, node: Node, args: list, context) -> None:
    if args[0] is not None or args[1] is None:
        raise node.refuse("is no dense layer: the second factor must be a constant")
    _dense(rows, node, args[1])


def _dense(rows: Rows, node: Node, kernel: np.ndarray) -> None:
    if rows.perm[-1] != len(rows.shape) - 1:
        raise node.refuse("a dense layer on images works on their channels, which must come last")
    if kernel.ndim != 2 or kernel.shape[0] != rows.shape[-1] or not kernel.shape[1]:
        raise node.refuse(f"a kernel of shape {kernel.shape} does not fit rows of shape {rows.graph_shape}")
    if rows.order is not None:
        kernel = kernel[rows.order]
    rows.order = None
    rows.add(Dense(kernel.shape[1], use_bias=False), kernel=kernel)


# -- arithmetic with constants


def _arithmetic(operator: str):
    def read(rows: Rows, node: Node, args: list, context) -> None:
        constants = [array for array in args if array is not None]
        if len(constants) != 1 or (operator in ("Sub", "Div") and args[0] is not None):
            raise node.refuse("combines two values, or a constant with a value in the wrong order")
        axes, values = rows.spread(constants[0])
        if operator == "Div" and np.any(values == 0):
            raise node.refuse("divides by 0")
        if operator in ("Add", "Sub") and _takes_bias(rows, axes):
            _add_bias(rows, values if operator == "Add" else -values)
        elif operator in ("Add", "Mul") and _takes_gain(rows, operator, axes):
            _add_gain(rows, operator, axes, values)
        else:
            _affine(rows, node, operator, axes, values)

    return read


def _takes_bias(rows: Rows, axes: tuple[int, ...]) -> bool:
    layer = rows.last
    return isinstance(layer, _AFFINES) and not layer.use_bias and axes in ((), (len(rows.shape) - 1,))


def _add_bias(rows: Rows, values: np.ndarray) -> None:
    layer, arrays, before = rows.steps[-1]
    bias = np.array(np.broadcast_to(values, rows.shape[-1:]))
    rows.steps[-1] = [_with(layer, use_bias=True), {**arrays, "bias": bias}, before]


def _with(layer, **changes):
    from dataclasses import replace

    return replace(layer, **changes)


def _norm_axes(rows: Rows) -> tuple[int, ...] | None:
    """The axes of the arrays of the norm that comes last."""
    layer = rows.last
    if isinstance(layer, LayerNormalization):
        return layer.axes(rows.shape)
    if isinstance(layer, GroupNormalization):
        return (layer.axis % (len(rows.shape) + 1) - 1,)
    return None


def _takes_gain(rows: Rows, operator: str, axes: tuple[int, ...]) -> bool:
    norm = _norm_axes(rows)
    if norm is None or rows.last.center or (operator == "Mul" and rows.last.scale):
        return False
    return axes == tuple(axis for axis in norm if rows.shape[axis] > 1) or axes == ()


def _add_gain(rows: Rows, operator: str, axes: tuple[int, ...], values: np.ndarray) -> None:
    layer, arrays, before = rows.steps[-1]
    shape = tuple(rows.shape[axis] for axis in _norm_axes(rows))
    whole = np.array(values.reshape(shape) if axes else np.broadcast_to(values, shape))
    name, switch = ("gamma", "scale") if operator == "Mul" else ("beta", "center")
    rows.steps[-1] = [_with(layer, **{switch: True}), {**arrays, name: whole}, before]


def _affine(rows: Rows, node: Node, operator: str, axes: tuple[int, ...], values: np.ndarray) -> None:
    if len(axes) > 1:
        raise node.refuse(f"a constant along more than one axis of rows of shape {rows.graph_shape} is no layer")
    last = rows.last
    axis = axes[0] if axes else None
    if not isinstance(last, Affine) or (None not in (last.axis, axis) and last.axis != axis):
        rows.add(last := Affine(axis))
    if last.axis is None:
        last.axis = axis
    last.then(operator, values)


# -- bounds


def _clip(rows: Rows, node: Node, args: list, context) -> None:
    low = args[1] if len(args) > 1 else node.attributes.get("min")
    high = args[2] if len(args) > 2 else node.attributes.get("max")
    low, high = (None if value is None else _one(node, value) for value in (low, high))
    if low is not None and low <= -3e38:
        low = None
    if high is not None and high >= 3e38:
        high = None
    if low not in (0, None):
        raise node.refuse(f"clips at {low:g}; a ReLU clips at 0")
    if low is None and high is not None:
        _bound(rows, node, high)
    elif low == 0:
        rows.add(Activation("relu") if high is None else ReLU(high))


def _min(rows: Rows, node: Node, args: list, context) -> None:
    constants = [array for array in args if array is not None]
    if len(args) != 2 or len(constants) != 1:
        raise node.refuse("is no bound of a ReLU")
    _bound(rows, node, _one(node, constants[0]))


def _bound(rows: Rows, node: Node, high: float) -> None:
    """A largest value on top of a ReLU."""
    layer = rows.last
    if isinstance(layer, Activation) and layer.activation == "relu":
        slope = 0.0
    elif isinstance(layer, LeakyReLU):
        slope = layer.negative_slope
    else:
        raise node.refuse("bounds values that no ReLU gives")
    rows.drop()
    rows.add(ReLU(high, slope))


def _max(rows: Rows, node: Node, args: list, context) -> None:
    constants = [array for array in args if array is not None]
    if len(args) != 2 or len(constants) != 1 or _one(node, constants[0]) != 0:
        raise node.refuse("is no ReLU: max(x, 0)")
    rows.add(Activation("relu"))


def _one(node: Node, value) -> float:
    """A constant of one number."""
    value = np.asarray(value)
    if value.size != 1 or value.dtype.kind not in "fi" or np.isnan(value).any():
        raise node.refuse("needs a constant of one number")
    return round_trip(value)


def round_trip(value) -> float:
    """A float32 as the shortest decimal that means it: 0.2, not 0.20000000298023224."""
    value = np.asarray(value).reshape(-1)[0]
    return float(str(value)) if value.dtype == np.float32 else float(value)


# -- shapes


def _transpose(rows: Rows, node: Node, args: list, context) -> None:
    rank = len(rows.shape) + 1
    rows.transpose(list(node.attributes.get("perm") or range(rank)[::-1]))


def _flatten(rows: Rows, node: Node, args: list, context) -> None:
    axis = node.attributes.get("axis", 1)
    if axis not in (1, 1 - len(rows.shape) - 1):
        raise node.refuse(f"flattens from axis {axis} on, which mixes rows")
    _into(rows, node, (math.prod(rows.shape),), context)


def _reshape(rows: Rows, node: Node, args: list, context) -> None:
    if len(args) != 2 or args[1] is None or args[1].ndim != 1 or args[1].dtype != np.int64 or args[1].size > 9:
        raise node.refuse("the shape must be a constant")
    first, *sizes = args[1].tolist()
    shape, values = rows.graph_shape, math.prod(rows.shape)
    if node.attributes.get("allowzero", 0) == 0:
        sizes = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(sizes)]
    known = math.prod(n for n in sizes if n != -1)
    if first not in (0, -1, BATCH, context.batch) or sizes.count(-1) > (first != -1) or known < 1 or values % known:
        raise node.refuse(f"the shape {args[1].tolist()} mixes rows of shape {shape}")
    _into(rows, node, tuple(values // known if n == -1 else n for n in sizes), context)


def _squeeze(rows: Rows, node: Node, args: list, context) -> None:
    shape = rows.graph_shape
    axes = _axes(node, args, len(shape) + 1)
    if axes is None:
        axes = [i + 1 for i, n in enumerate(shape) if n == 1]
    if any(axis < 1 or axis > len(shape) or shape[axis - 1] != 1 for axis in axes):
        raise node.refuse(f"axes {axes} of rows of shape {shape} are not of length 1")
    _into(rows, node, tuple(n for i, n in enumerate(shape) if i + 1 not in axes), context)


def _unsqueeze(rows: Rows, node: Node, args: list, context) -> None:
    shape = list(rows.graph_shape)
    axes = _axes(
        node, args, len(shape) + 1 + max(1, np.size(args[1]) if len(args) > 1 else len(node.attributes.get("axes", [])))
    )
    if not axes or min(axes) < 1:
        raise node.refuse(f"axes {axes} leave no axis of rows")
    for axis in sorted(axes):
        shape.insert(axis - 1, 1)
    _into(rows, node, tuple(shape), context)


def _axes(node: Node, args: list, rank: int) -> list[int] | None:
    """The axes that a node names, in an attribute or a constant, counted from the front."""
    given = args[1] if len(args) > 1 else node.attributes.get("axes")
    if given is None:
        return None
    given = np.asarray(given)
    if given.dtype.kind != "i" or given.size > 9:
        raise node.refuse("axes must be whole numbers")
    return [int(axis) + rank if axis < 0 else int(axis) for axis in given.reshape(-1)]


def _into(rows: Rows, node: Node, shape: tuple[int, ...], context) -> None:
    """Rows of another shape in the graph."""
    before = rows.graph_shape
    if math.prod(shape) != math.prod(before) or not shape:
        raise node.refuse(f"rows of shape {before} do not fill {shape}")
    if _begins_group_norm(rows, shape, context) or rows.split is not None:
        _split(rows, node, shape)
    elif shape == before:
        return
    elif (moved := _moved(before, shape)) is not None:
        rows.transpose([0, *(axis + 1 for axis in moved)])
    elif len(shape) == 1:
        _to_features(rows)
    elif len(before) == 1 and len(shape) == 3:
        _to_image(rows, node, shape, context)
    elif rows.plain:
        rows.add(Reshape(shape))
        rows.perm = tuple(range(len(shape)))
    else:
        raise node.refuse(f"rows of shape {before}, channels first, are reshaped to {shape}; nbbn's channels come last")


def _moved(before: tuple[int, ...], after: tuple[int, ...]) -> tuple[int, ...] | None:
    """The turn of an image's axes that a new shape stands for where only axes of length 1 change places."""
    for perm in ((2, 0, 1), (1, 2, 0)) if len(before) == len(after) == 3 else ():
        kept = [axis for axis in perm if before[axis] > 1]
        if tuple(before[axis] for axis in perm) == after and kept == sorted(kept):
            return perm
    return None


def _to_features(rows: Rows) -> None:
    order = rows.flat_order()
    if isinstance(rows.last, _POOLS) and rows.last.keepdims:
        pool = rows.last
        rows.drop()
        rows.add(_with(pool, keepdims=False))
    else:
        rows.add(Flatten())
    rows.perm, rows.order = (0,), order


def _to_image(rows: Rows, node: Node, shape: tuple[int, ...], context) -> None:
    """Rows of one axis as images, which the graph may have channels first."""
    first = rows.order is not None or channel_axis(context.following, 3) == 0
    image = (*shape[1:], shape[0]) if first else shape
    wanted = np.arange(math.prod(shape)).reshape(shape).transpose(1, 2, 0).reshape(-1) if first else None
    if wanted is not None and not (np.diff(wanted) != 1).any():
        wanted = None
    if rows.order is not None or wanted is not None:
        if rows.order is None:
            if not rows.permute_features(wanted):
                raise node.refuse(
                    f"images {shape}, channels first, are made of rows that no dense layer can give in nbbn's order"
                )
        elif wanted is None or not np.array_equal(rows.order, wanted):
            raise node.refuse(f"rows of flattened images are reshaped to other ones, {shape}")
    if isinstance(rows.last, Flatten) and rows.steps[-1][2] == image:
        rows.drop()
    else:
        rows.add(Reshape(image))
    rows.perm, rows.order = CHANNELS_FIRST if first else (0, 1, 2), None


# -- group norms, whose groups the graph makes an axis of


def _begins_group_norm(rows: Rows, shape: tuple[int, ...], context) -> bool:
    following = context.following
    if rows.split is not None or rows.order is not None or not following:
        return False
    before = rows.graph_shape
    if following[0].operator == "InstanceNormalization":
        if len(shape) != 2 or before[0] % shape[0]:
            return False
        rows.split = (shape[0], rows.perm[0], before, shape)
        return True
    if following[0].operator == "ReduceMean" and len(shape) == len(before) + 1:
        for at in range(len(before)):
            if shape[:at] == before[:at] and shape[at + 2 :] == before[at + 1 :]:
                rows.split = (shape[at], rows.perm[at], before, shape)
                if _other_axes(context, at + 1, len(shape) + 1):
                    return True
        rows.split = None
    return False


def _other_axes(context, at: int, rank: int) -> bool:
    """Whether the mean that follows is over all axes but this one."""
    node = context.following[0]
    axes = _axes(node, [None, *(context.constants.get(name) for name in node.inputs[1:])], rank)
    return axes is not None and sorted(axes) == [axis for axis in range(1, rank) if axis != at]


def _split(rows: Rows, node: Node, shape: tuple[int, ...]) -> None:
    """Into the split shape of a group norm, or back from it."""
    groups, axis, before, inside = rows.split
    if shape == inside and not isinstance(rows.last, GroupNormalization):
        return
    if shape != before or not isinstance(rows.last, GroupNormalization):
        raise node.refuse("rows are split in groups by a form that is not known")
    rows.split = None


# -- what does nothing in inference


def _identity(rows: Rows, node: Node, args: list, context) -> None:
    pass


def _dropout(rows: Rows, node: Node, args: list, context) -> None:
    ratio = args[1] if len(args) > 1 and args[1] is not None else node.attributes.get("ratio", 0.5)
    if len(args) > 2 and args[2] is not None and np.any(args[2]):
        raise node.refuse("training_mode is set: the model was exported for training")
    rows.add(Dropout(_one(node, np.asarray(ratio, np.float32))))


def _cast(rows: Rows, node: Node, args: list, context) -> None:
    target = {1: np.dtype(np.float32), 11: np.dtype(np.float64)}.get(node.attributes.get("to"))
    if target is None or (rows.steps and target != rows.dtype):
        raise node.refuse("casts to another type in the midst of the network")
    rows.dtype = target


READ = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    **{operator: _arithmetic(operator) for operator in ("Add", "Sub", "Mul", "Div")},
    "Clip": _clip,
    "Min": _min,
    "Max": _max,
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
}
__all__ = ["BATCH", "READ", "Centred", "Refused", "channel_axis", "round_trip"]
