"""nbbn's own networks, which are chains of layers: to the graph that folding works on and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import NamedTuple

import numpy as np

from nbbn.fold import passes
from nbbn.fold.arithmetic import affine_of, cast, standing_for
from nbbn.fold.engine import fold_graph, folded_bias, folded_kernel
from nbbn.fold.graph import Graph, Linear, Node, Norm, Pass
from nbbn.fold.report import FoldReport
from nbbn.layers import (
    Activation,
    AveragePooling2D,
    BatchNormalization,
    Conv2D,
    Conv2DTranspose,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GaussianNoise,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    Input,
    Layer,
    MaxPooling2D,
    Reshape,
    ZeroPadding2D,
)
from nbbn.layers.names import keras_name
from nbbn.network import Network

_TRAINING_ONLY = (Input, Dropout, GaussianNoise)


class Place(NamedTuple):
    """A layer and where it stands: its arrays and the shapes of a row before and after it."""

    name: str
    layer: Layer
    arrays: dict[str, np.ndarray]
    row: tuple[int, ...]
    row_out: tuple[int, ...]


def fold_network(network: Network, *, strict: bool = False) -> tuple[Network, FoldReport]:
    """Fold the batch norms of a network into their neighbours, as far as that is exact.

    Parameters
    ----------
    network : Network
        Not written; the result shares no array with it.
    strict : bool
        Whether a batch norm that stays is an error.

    Returns
    -------
    network : Network
        Of the same dtype, without what does nothing in inference.
    report : FoldReport
        Without the numeric check, which needs an engine to run on (`fold_checked`).

    Raises
    ------
    LayerError
        For a network whose arrays do not fit its layers.
    FoldRefused
        Where `strict` and a batch norm stays.
    ValueError
        Where a folded weight does not fit the network's dtype.

    Notes
    -----
    `nbbn.fold.engine.fold_graph` says what folds into what. Computed in float64, with one cast at the end.
    """
    network.check()
    places = {place.name: place for place in _places(network)}
    graph = _graph(list(places.values()))
    report = fold_graph(graph, strict=strict)
    layers, weights = [], []
    for node in graph.nodes.values():
        layer, arrays = _layer(places[node.name], node)
        layers.append(layer)
        weights.append({k: cast(array, network.dtype, f"{k} of {node.name}") for k, array in arrays.items()})
    return Network(tuple(layers), network.input_shape, weights, network.dtype), report


def layer_names(layers: tuple[Layer, ...]) -> list[str]:
    """The layers' names, or Keras's default ones: `dense`, `dense_1`, `batch_normalization`, in the order of the network."""
    seen: Counter[str] = Counter()
    names = []
    for layer in layers:
        name = keras_name(type(layer).__name__)
        names.append(layer.name or (f"{name}_{seen[name]}" if seen[name] else name))
        seen[name] += 1
    return names


def _places(network: Network) -> list[Place]:
    """The layers that do something in inference; of a network of none of these, the first."""
    rows = network.shapes
    places = [
        Place(*of) for of in zip(_unique(layer_names(network.layers)), network.layers, network.weights, rows, rows[1:])
    ]
    return [place for place in places if not _does_nothing(place.layer)] or places[:1]


def _unique(names: list[str]) -> list[str]:
    """The names, with a number behind each that was there before."""
    unique: dict[str, None] = {}
    for name in names:
        candidates = (f"{name}_{i}" if i else name for i in count())
        unique[next(candidate for candidate in candidates if candidate not in unique)] = None
    return list(unique)


def _does_nothing(layer: Layer) -> bool:
    return isinstance(layer, _TRAINING_ONLY) or (isinstance(layer, Activation) and layer.activation == "linear")


def _graph(places: list[Place]) -> Graph:
    nodes = []
    for i, place in enumerate(places):
        node = _NODES.get(type(place.layer), _opaque)(place)
        nodes.append(replace(node, inputs=(str(i),), outputs=(str(i + 1),)))
    return Graph(nodes, [str(len(places))])


def _layer(place: Place, node: Node) -> tuple[Layer, dict[str, np.ndarray]]:
    """The layer and the arrays that a node has become."""
    if isinstance(node, Linear) and node.changed:
        return replace(place.layer, use_bias=True), {"kernel": folded_kernel(node), "bias": folded_bias(node)}
    if isinstance(node, Norm) and node.merged:
        arrays, epsilon = standing_for(node.affine)
        return replace(place.layer, epsilon=epsilon, center=True, scale=True), arrays
    return place.layer, place.arrays


def _opaque(place: Place) -> Node:
    return Node(place.name, what=f"is a {type(place.layer).__name__}, which takes in no batch norm")


def _activation(place: Place) -> Node:
    return Node(place.name, what=f"is {place.layer.activation}, which is not linear")


def _padding(place: Place) -> Node:
    return Node(place.name, what="pads with zeros, which the batch norm would have shifted")


def _norm(place: Place) -> Norm:
    arrays, epsilon = place.arrays, place.layer.epsilon
    affine = affine_of(arrays.get("gamma"), arrays.get("beta"), arrays["mean"], arrays["var"], epsilon)
    axis = place.layer.axis % (len(place.row) + 1)
    return Norm(place.name, affine=affine, axis=axis, var=arrays["var"].astype(np.float64), epsilon=epsilon)


def _linear(place: Place, kind: str) -> Linear:
    """A dense layer or a convolution."""
    layer, axis = place.layer, len(place.row)
    not_backward = (
        "" if layer.activation == "linear" else f"{place.name} ends in {layer.activation}, which is not linear"
    )
    return Linear(
        place.name,
        kind=kind,
        groups=getattr(layer, "groups", 1),
        axis_in=axis,
        axis_out=axis,
        channels_in=place.row[-1],
        channels_out=place.row_out[-1],
        kernel=lambda: place.arrays["kernel"],
        bias=place.arrays.get("bias"),
        not_backward=not_backward,
        not_forward=_not_forward(place),
    )


def _not_forward(place: Place) -> str:
    if isinstance(place.layer, Conv2DTranspose):
        return f"{place.name} is a transposed convolution, whose border sees fewer of the normalised values"
    if isinstance(place.layer, Conv2D | DepthwiseConv2D) and np.any(place.layer.pads(place.row)):
        return f"{place.name} pads with zeros, which the batch norm would have shifted"
    return ""


def _mean(place: Place) -> Pass:
    return Pass(place.name, carry=_pooled(place, passes.mean_of_values))


def _max(place: Place) -> Pass:
    return Pass(place.name, carry=_pooled(place, passes.largest_value(place.name)))


def _pooled(place: Place, carry) -> passes.Carry:
    """Carry through windows over, or all of, the height and width of an image."""
    return passes.reduced(carry, (1, 2), len(place.row_out) == 3, place.name)


def _reshape(place: Place) -> Pass:
    return Pass(place.name, carry=passes.reshaped(place.row, place.row_out, place.name))


_NODES: dict[type[Layer], Callable[[Place], Node]] = {
    BatchNormalization: _norm,
    Dense: partial(_linear, kind="dense"),
    Conv2D: partial(_linear, kind="conv"),
    DepthwiseConv2D: partial(_linear, kind="depthwise"),
    Conv2DTranspose: partial(_linear, kind="transposed"),
    AveragePooling2D: _mean,
    GlobalAveragePooling2D: _mean,
    MaxPooling2D: _max,
    GlobalMaxPooling2D: _max,
    Flatten: _reshape,
    Reshape: _reshape,
    Activation: _activation,
    ZeroPadding2D: _padding,
}
