"""ONNX nodes that change the shape of rows, or nothing: as layers, or as another order of the graph's axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nbbn.interop.onnx_reading.arithmetic import one_number
from nbbn.interop.onnx_reading.model import Node
from nbbn.interop.onnx_reading.rows import CHANNELS_FIRST, Rows
from nbbn.layers import (
    Dropout,
    Flatten,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    GroupNormalization,
    Reshape,
)

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
    elif (moved := _moved(before, shape)) is not None and _agrees(rows, moved, context):
        rows.transpose([0, *(axis + 1 for axis in moved)])
    elif len(shape) == 1:
        _to_features(rows)
    elif len(before) == 1 and len(shape) == 3:
        _to_image(rows, node, shape, context)
    elif rows.settle():
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


def _agrees(rows: Rows, moved: tuple[int, ...], context) -> bool:
    """Whether the next node on images has nbbn's channels for its channels, once the axes are turned so."""
    axis = channel_axis(context.following, 3)
    return axis is None or rows.perm[moved[axis]] == 2


def _to_features(rows: Rows) -> None:
    order = rows.flat_order()
    if isinstance(rows.last, _POOLS) and rows.last.keepdims:
        pool = rows.last
        rows.drop()
        rows.add(replace(pool, keepdims=False))
    else:
        rows.add(Flatten())
    rows.perm, rows.order = (0,), order


def _to_image(rows: Rows, node: Node, shape: tuple[int, ...], context) -> None:
    """Rows of one axis as images, which the graph may have channels first."""
    first = rows.order is not None or channel_axis(context.following, 3) == 0
    image = (*shape[1:], shape[0]) if first else shape
    wanted = np.arange(rows.limited(math.prod(shape))).reshape(shape).transpose(1, 2, 0).reshape(-1) if first else None
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
    rows.add(Dropout(one_number(node, np.asarray(ratio, np.float32))))


def _cast(rows: Rows, node: Node, args: list, context) -> None:
    target = {1: np.dtype(np.float32), 11: np.dtype(np.float64)}.get(node.attributes.get("to"))
    if target is None or (rows.steps and target != rows.dtype):
        raise node.refuse("casts to another type in the midst of the network")
    rows.dtype = target


READ = {
    "Transpose": _transpose,
    "Flatten": _flatten,
    "Reshape": _reshape,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
}
