"""ONNX nodes that normalise as layers."""

from __future__ import annotations

import math

import numpy as np

from nbbn.interop.onnx_reading.arithmetic import round_trip
from nbbn.interop.onnx_reading.model import Node
from nbbn.interop.onnx_reading.rows import Rows
from nbbn.layers import BatchNormalization, GroupNormalization, LayerNormalization


def epsilon_of(rows: Rows, node: Node) -> float:
    """A node's epsilon: in float32 the decimal that was meant, in float64 the very number."""
    value = np.float32(node.attributes.get("epsilon", 1e-5))
    return round_trip(value) if rows.single else float(value)


def _batch_norm(rows: Rows, node: Node, args: list, context) -> None:
    if len(args) != 5 or args[0] is not None or any(array is None or array.ndim != 1 for array in args[1:]):
        raise node.refuse("needs constants for scale, bias, mean and variance")
    if node.attributes.get("training_mode", 0) or node.attributes.get("spatial", 1) != 1:
        raise node.refuse("was exported for training; export the model in inference")
    axis, epsilon = rows.own_axis(1), epsilon_of(rows, node)
    gamma, beta, mean, var = (array.astype(np.float64) for array in args[1:])
    if any(array.shape != rows.shape[axis : axis + 1] for array in (gamma, beta, mean, var)):
        raise node.refuse(f"arrays of shape {gamma.shape} do not fit rows of shape {rows.graph_shape}")
    if (low := var.min()) < 0 < low + epsilon:  # what a float32 epsilon lost was put there
        epsilon, var = epsilon + low, var - low
    if rows.order is not None:
        gamma, beta, mean, var = (array[rows.order] for array in (gamma, beta, mean, var))
    momentum = round_trip(np.float32(node.attributes.get("momentum", 0.9)))
    layer = BatchNormalization(axis=axis + 1, epsilon=epsilon, momentum=momentum if 0 < momentum < 1 else 0.99)
    rows.add(layer, gamma=gamma, beta=beta, mean=mean, var=var)


def _layer_norm(rows: Rows, node: Node, args: list, context) -> None:
    rank = len(rows.shape) + 1
    first = node.attributes.get("axis", -1)
    axes = rows.own_axes(range(first + rank if first < 0 else first, rank))
    arrays = {}
    for name, constant in zip(("gamma", "beta"), args[1:]):
        if constant is None:
            raise node.refuse("needs constants for scale and bias")
        along, values = rows.spread(constant)
        if along not in ((), tuple(axis for axis in axes if rows.shape[axis] > 1)):
            raise node.refuse(f"arrays of shape {constant.shape} do not fit the axes that are normalised over")
        shape = tuple(rows.shape[axis] for axis in axes)
        rows.limited(math.prod(shape))
        arrays[name] = values.reshape(shape) if along else np.array(np.broadcast_to(values, shape))
    layer = LayerNormalization(
        tuple(axis + 1 for axis in axes), epsilon_of(rows, node), center="beta" in arrays, scale="gamma" in arrays
    )
    rows.add(layer, **arrays)


def _instance_norm(rows: Rows, node: Node, args: list, context) -> None:
    if len(args) != 3 or args[0] is not None or any(array is None or array.ndim != 1 for array in args[1:]):
        raise node.refuse("needs constants for scale and bias")
    gamma, beta = args[1:]
    if rows.split is not None:
        groups, axis, *_ = rows.split
        if np.any(gamma != 1) or np.any(beta != 0) or gamma.shape != (groups,) or beta.shape != (groups,):
            raise node.refuse("a group norm with scales for its groups is not known")
        rows.add(GroupNormalization(groups, axis + 1, epsilon_of(rows, node), center=False, scale=False))
        return
    axis = rows.own_axis(1)
    rows.add(GroupNormalization(-1, axis + 1, epsilon_of(rows, node)), gamma=gamma, beta=beta)


def _group_norm(rows: Rows, node: Node, args: list, context) -> None:
    if len(args) != 3 or args[0] is not None or any(array is None or array.ndim != 1 for array in args[1:]):
        raise node.refuse("needs constants for scale and bias")
    gamma, beta = args[1:]
    axis, groups = rows.own_axis(1), node.attributes.get("num_groups", 0)
    channels = rows.shape[axis]
    if groups < 1 or channels % groups or rows.order is not None:
        raise node.refuse(f"{groups} groups do not fit rows of shape {rows.graph_shape}")
    if context.opset < 21 and groups != channels:  # one entry a group until then
        gamma, beta = (np.repeat(array, channels // groups) for array in (gamma, beta))
    rows.add(GroupNormalization(groups, axis + 1, epsilon_of(rows, node)), gamma=gamma, beta=beta)


READ = {
    "BatchNormalization": _batch_norm,
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": _instance_norm,
    "GroupNormalization": _group_norm,
}
