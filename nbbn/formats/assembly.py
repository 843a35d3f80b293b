"""A network from what a foreign file declares: first layers, then arrays that fit them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from nbbn.layers import Layer, LayerError
from nbbn.layers.names import free_name
from nbbn.network import Graph, Network, Weights

# Far more than any network of layers in a row has; a model of so many takes seconds to set up.
MAX_LAYERS = 1000
Shape = tuple[int, ...]


def wanted_shapes(layers: Sequence[Layer], input_shape: Sequence[int]) -> list[dict[str, Shape]]:
    """Name and shape of each layer's arrays; allocates nothing.

    LayerError for layers that do not fit each other, and for too many of them.
    """
    if len(layers) > MAX_LAYERS:
        raise LayerError(f"has {len(layers)} layers; at most {MAX_LAYERS} are read")
    shape, wanted = tuple(input_shape), []
    for layer in layers:
        try:
            wanted.append(layer.weight_shapes(shape))
            shape = layer.output_shape(shape)
        except LayerError as err:
            raise LayerError(f"layer {layer.name!r} does not fit rows of shape {shape}: "
                             f"{err}") from None
    return wanted


def assembled(layers: Sequence[Layer], input_shape: Sequence[int], weights: Weights,
              dtype: DTypeLike, graph: Graph | None = None) -> Network:
    """The network of these layers, which get Keras's names where they have none, and arrays.

    They stand in a row without a graph. LayerError for arrays that do not fit, or hold NaN or
    infinity.
    """
    dtype, names = np.dtype(dtype), [layer.name for layer in layers if layer.name is not None]
    if twice := [name for name in names if names.count(name) > 1]:
        raise LayerError(f"a model's layers need different names, {twice[0]!r} is there already; "
                         "give another name")
    taken, named = set(names), []
    own: dict[str, Any] = {"dtype": "float64"} if dtype == np.float64 else {}
    for layer in layers:
        name = layer.name or free_name(type(layer).__name__, taken)
        taken.add(name)
        named.append(replace(layer, name=name, **own))
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        cast = [{k: np.array(a, dtype, order="C") for k, a in of.items()} for of in weights]
    return Network(tuple(named), tuple(input_shape), cast, dtype, graph).check()
