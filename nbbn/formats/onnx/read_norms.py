"""Operators that normalise as layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from nbbn.formats.onnx.builder import Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_activations import round_trip
from nbbn.layers import BatchNormalization, GroupNormalization, LayerNormalization


class Statistics(NamedTuple):
    """What a batch norm normalises with: four float64 arrays of shape (channels,), and epsilon."""

    gamma: np.ndarray
    beta: np.ndarray
    mean: np.ndarray
    var: np.ndarray
    epsilon: float


def statistics(node: OnnxNode, arrays: Sequence[np.ndarray]) -> Statistics:
    """Those of a BatchNormalization with this scale, bias, mean and variance, of one shape each.

    The operator's epsilon is a float32, and what that loses of the number that was meant may stand
    in the variances: that of a dead channel is a little below 0 then. It is given back to epsilon,
    which leaves `var + epsilon` as it is; a variance that epsilon does not make positive stays.
    """
    gamma, beta, mean, var = (array.astype(np.float64) for array in arrays)
    epsilon = float(np.float32(node.attributes.get("epsilon", 1e-5)))
    lowest = float(var.min(initial=0.0))
    if -epsilon < lowest < 0:
        epsilon, var = epsilon + lowest, var - lowest
    return Statistics(gamma, beta, mean, var, epsilon)


def _meant(net: NetworkBuilder, epsilon: float) -> float:
    """An epsilon: in float32 the decimal that was meant, in float64 the very number."""
    return round_trip(np.float32(epsilon)) if net.single else epsilon


def _epsilon(net: NetworkBuilder, node: OnnxNode) -> float:
    return _meant(net, float(np.float32(node.attributes.get("epsilon", 1e-5))))


def _vectors(node: OnnxNode, args: Args, count: int, names: str) -> list[np.ndarray]:
    """The inputs behind the first."""
    arrays = [array for array in args[1:] if array is not None and array.ndim == 1]
    if args[0] is not None or not len(args) - 1 == len(arrays) == count:
        raise node.refuse(f"needs constants for {names}")
    return arrays


def batch_norm(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    arrays = _vectors(node, args, 4, "scale, bias, mean and variance")
    options, axis = node.attributes, net.own_axis(1)
    if options.get("training_mode", 0) or options.get("spatial", 1) != 1:
        raise node.refuse("was exported for training; export the model in inference")
    if any(array.shape != net.shape[axis : axis + 1] for array in arrays):
        shapes = f"arrays of shape {arrays[0].shape}"
        raise node.refuse(f"{shapes} do not fit rows of shape {net.graph_shape}")
    if net.order is not None:
        arrays = [array[net.order] for array in arrays]
    gamma, beta, mean, var, epsilon = statistics(node, arrays)
    momentum = round_trip(np.float32(options.get("momentum", 0.9)))
    momentum = momentum if 0 < momentum < 1 else 0.99
    layer = BatchNormalization(axis + 1, momentum, _meant(net, epsilon))
    net.add(layer, gamma=gamma, beta=beta, mean=mean, var=var)


def layer_norm(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    rank, first = len(net.shape) + 1, node.attributes.get("axis", -1)
    axes = net.own_axes(range(first + rank if first < 0 else first, rank))
    shape, arrays = tuple(net.shape[axis] for axis in axes), {}
    for name, constant in zip(("gamma", "beta"), args[1:]):
        if constant is None:
            raise node.refuse("needs constants for scale and bias")
        along, values = net.spread(constant)
        if along not in ((), tuple(axis for axis in axes if net.shape[axis] > 1)):
            why = f"arrays of shape {constant.shape} do not fit the axes that are normalised over"
            raise node.refuse(why)
        net.limited(math.prod(shape))
        whole = values.reshape(shape) if along else np.array(np.broadcast_to(values, shape))
        arrays[name] = whole
    axes, center = tuple(axis + 1 for axis in axes), "beta" in arrays
    net.add(LayerNormalization(axes, _epsilon(net, node), center, "gamma" in arrays), **arrays)


def instance_norm(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """Of each channel, or of each group where these are channels here."""
    gamma, beta = _vectors(node, args, 2, "scale and bias")
    if net.split is None:
        layer = GroupNormalization(-1, net.own_axis(1) + 1, _epsilon(net, node))
        net.add(layer, gamma=gamma, beta=beta)
        return
    groups, axis, *_ = net.split
    plain = np.all(gamma == 1) and np.all(beta == 0)
    if not plain or not gamma.shape == beta.shape == (groups,):
        raise node.refuse("a group norm with scales for its groups is not known")
    net.add(GroupNormalization(groups, axis + 1, _epsilon(net, node), center=False, scale=False))


def group_norm(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    gamma, beta = _vectors(node, args, 2, "scale and bias")
    axis, groups = net.own_axis(1), node.attributes.get("num_groups", 0)
    channels = net.shape[axis]
    if groups < 1 or channels % groups or net.order is not None:
        raise node.refuse(f"{groups} groups do not fit rows of shape {net.graph_shape}")
    if net.opset < 21 and groups != channels:  # one entry a group until then
        gamma, beta = (np.repeat(array, channels // groups) for array in (gamma, beta))
    net.add(GroupNormalization(groups, axis + 1, _epsilon(net, node)), gamma=gamma, beta=beta)
