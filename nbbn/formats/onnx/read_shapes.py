"""Operators that change the shape of rows, or nothing: as layers, or as other axes of the graph."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from nbbn import layers
from nbbn.formats.onnx.builder import CHANNELS_FIRST, Args, NetworkBuilder, Split
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_activations import one_number
from nbbn.layers.base import Shape

_POOLS = (layers.GlobalAveragePooling1D, layers.GlobalAveragePooling2D, layers.GlobalMaxPooling1D,
          layers.GlobalMaxPooling2D)
# Stands for the number of rows in a shape that the graph computes.
BATCH = -(2**40)
# To what rows are cast, by the number of `onnx.TensorProto`.
_CASTS: dict[int, np.dtype] = {
    1: np.dtype(np.float32), 6: np.dtype(np.int32), 7: np.dtype(np.int64), 11: np.dtype(np.float64),
}
# No array has more axes.
_MAX_AXES = 9


def transpose(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    rank = len(net.shape) + 1
    net.transpose(list(node.attributes.get("perm") or range(rank)[::-1]))


def flatten(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    axis = node.attributes.get("axis", 1)
    if axis not in (1, -len(net.shape)):
        raise node.refuse(f"flattens from axis {axis} on, which mixes rows")
    _into(net, node, (math.prod(net.shape),))


def reshape(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    given = args[1] if len(args) == 2 else None
    if given is None or given.ndim != 1 or given.dtype != np.int64 or given.size > _MAX_AXES:
        raise node.refuse("the shape must be a constant")
    first, *sizes = given.tolist()
    shape, values = net.graph_shape, math.prod(net.shape)
    if node.attributes.get("allowzero", 0) == 0:
        sizes = [shape[i] if n == 0 and i < len(shape) else n for i, n in enumerate(sizes)]
    known = math.prod(n for n in sizes if n != -1)
    keeps_rows = first in (0, -1, BATCH, net.batch) and sizes.count(-1) <= (first != -1)
    if not keeps_rows or known < 1 or values % known:
        raise node.refuse(f"the shape {given.tolist()} mixes rows of shape {shape}")
    _into(net, node, tuple(values // known if n == -1 else n for n in sizes))


def squeeze(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    shape = net.graph_shape
    axes = _axes(node, _given(node, args), len(shape) + 1)
    if axes is None:
        axes = [i + 1 for i, n in enumerate(shape) if n == 1]
    if any(axis < 1 or axis > len(shape) or shape[axis - 1] != 1 for axis in axes):
        raise node.refuse(f"axes {axes} of rows of shape {shape} are not of length 1")
    _into(net, node, tuple(n for i, n in enumerate(shape) if i + 1 not in axes))


def unsqueeze(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    shape, given = list(net.graph_shape), _given(node, args)
    axes = _axes(node, given, len(shape) + 1 + max(1, 0 if given is None else np.size(given)))
    if not axes or min(axes) < 1:
        raise node.refuse(f"axes {axes} leave no axis of rows")
    for axis in sorted(axes):
        shape.insert(axis - 1, 1)
    _into(net, node, tuple(shape))


def _given(node: OnnxNode, args: Args) -> np.ndarray | list[int] | None:
    """The axes that a node names, in a constant or an attribute."""
    return args[1] if len(args) > 1 else node.attributes.get("axes")


def _axes(node: OnnxNode, given: np.ndarray | list[int] | None, rank: int) -> list[int] | None:
    """Axes counted from the front."""
    if given is None:
        return None
    given = np.asarray(given)
    if given.dtype.kind != "i" or given.size > _MAX_AXES:
        raise node.refuse("axes must be whole numbers")
    return [int(axis) + rank if axis < 0 else int(axis) for axis in given.reshape(-1)]


def without_axis(net: NetworkBuilder, node: OnnxNode, axis: int) -> None:
    """Rows without one of the graph's axes, which is of length 1."""
    shape, at = net.graph_shape, axis - 1 if axis > 0 else axis
    kept = [n for i, n in enumerate(shape) if i != at % len(shape)]
    _into(net, node, tuple(kept))


def _into(net: NetworkBuilder, node: OnnxNode, shape: Shape) -> None:
    """Rows of another shape in the graph."""
    before = net.graph_shape
    if math.prod(shape) != math.prod(before):
        raise node.refuse(f"rows of shape {before} do not fill {shape}")
    if _begins_group_norm(net, shape) or net.split is not None:
        _split(net, node, shape)
    elif shape == before:
        return
    elif len(net.shape) == 1 and len(shape) < 2:
        net.perm = tuple(range(len(shape)))
    elif (moved := _moved(before, shape)) is not None and _agrees(net, moved):
        net.transpose([0, *(axis + 1 for axis in moved)])
    elif len(shape) < 2:
        _to_features(net)
        net.perm = tuple(range(len(shape)))
    elif len(before) == 1 and (len(shape) == 3 or (
            len(shape) == 2 and net.next_channels(2) == 0)):
        _to_image(net, node, shape)
    elif net.settle(move=True):
        net.add(layers.Reshape(shape))
        net.perm = tuple(range(len(shape)))
    else:
        rows = f"rows of shape {before}, channels first,"
        raise node.refuse(f"{rows} are reshaped to {shape}; nbbn's channels come last")


def _moved(before: Shape, after: Shape) -> Shape | None:
    """The turn of an image's axes that a new shape is where only axes of length 1 change places."""
    for perm in ((2, 0, 1), (1, 2, 0)) if len(before) == len(after) == 3 else ():
        kept = [axis for axis in perm if before[axis] > 1]
        if tuple(before[axis] for axis in perm) == after and kept == sorted(kept):
            return perm
    return None


def _agrees(net: NetworkBuilder, moved: Shape) -> bool:
    """Whether the next node on images then has nbbn's channels for its channels."""
    axis = net.next_channels(3)
    return axis is None or net.perm[moved[axis]] == 2


def _to_features(net: NetworkBuilder) -> None:
    order, pool = net.flat_order(), net.last
    if isinstance(pool, _POOLS) and pool.keepdims:
        net.drop()
        net.add(replace(pool, keepdims=False))
    else:
        net.add(layers.Flatten())
    net.perm, net.order = (0,), order


def _to_image(net: NetworkBuilder, node: OnnxNode, shape: Shape) -> None:
    """Rows of one axis as images or steps, which the graph may have channels first."""
    first = net.order is not None or net.next_channels(len(shape)) == 0
    image, wanted = (*shape[1:], shape[0]) if first else shape, None
    if first:
        index = np.arange(net.limited(math.prod(shape))).reshape(shape)
        wanted = np.moveaxis(index, 0, -1).ravel()
        wanted = wanted if (np.diff(wanted) != 1).any() else None
    if net.order is None:
        if wanted is not None and not net.permute_features(wanted):
            what = f"images {shape}, channels first, are made of rows"
            raise node.refuse(f"{what} that no dense layer can give in nbbn's order")
    elif wanted is None or not np.array_equal(net.order, wanted):
        raise node.refuse(f"rows of flattened images are reshaped to other ones, {shape}")
    if isinstance(net.last, layers.Flatten) and net.steps[-1].before == image:
        net.drop()
    else:
        net.add(layers.Reshape(image))
    net.perm, net.order = CHANNELS_FIRST[len(shape)] if first else (0, 1, 2), None


# -- group norms, whose groups the graph makes an axis of


def _begins_group_norm(net: NetworkBuilder, shape: Shape) -> bool:
    if net.split is not None or net.order is not None or not net.following:
        return False
    before, after = net.graph_shape, net.following[0]
    if after.operator == "InstanceNormalization":
        if len(shape) != 2 or before[0] % shape[0]:
            return False
        net.split = Split(shape[0], net.perm[0], before, shape)
        return True
    if after.operator == "ReduceMean" and len(shape) == len(before) + 1:
        for at in range(len(before)):
            around = shape[:at] == before[:at] and shape[at + 2 :] == before[at + 1 :]
            if around and _over_others(net, after, at + 1, len(shape) + 1):
                net.split = Split(shape[at], net.perm[at], before, shape)
                return True
    return False


def _over_others(net: NetworkBuilder, node: OnnxNode, at: int, rank: int) -> bool:
    """Whether a mean is over all axes but this one."""
    given = net.constant(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get("axes")
    axes = _axes(node, given, rank)
    return axes is not None and sorted(axes) == [axis for axis in range(1, rank) if axis != at]


def _split(net: NetworkBuilder, node: OnnxNode, shape: Shape) -> None:
    """Into the split shape of a group norm, or back from it."""
    normalised, split = isinstance(net.last, layers.GroupNormalization), net.split
    if split is not None and shape == split.inside and not normalised:
        return
    if split is None or shape != split.before or not normalised:
        raise node.refuse("rows are split in groups by a form that is not known")
    net.split = None


# -- what does nothing in inference


def identity(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    pass


def alone(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """What merges values, of one."""
    if len(args) > 1:
        raise node.refuse("merges a value and a constant, which nbbn has no layer for")


def dropout(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    given = args[1] if len(args) > 1 and args[1] is not None else None
    ratio = node.attributes.get("ratio", 0.5) if given is None else given
    if len(args) > 2 and args[2] is not None and np.any(args[2]):
        raise node.refuse("training_mode is set: the model was exported for training")
    net.add(layers.Dropout(one_number(node, np.asarray(ratio, np.float32))))


def cast(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """To floats at the entrance, or where numbers are whole; later nothing else but what the
    network computes in. To whole numbers where these say which rows of tables are taken.
    """
    target, whole = _CASTS.get(node.attributes.get("to", 0)), net.dtype.kind in "iu"
    if target is not None and target.kind == "i":
        whole = whole or net.only_numbers_rows()
    else:
        whole = whole or not net.steps or target == net.dtype
    if target is None or not whole:
        raise node.refuse("casts to another type in the midst of the network")
    net.dtype = target
