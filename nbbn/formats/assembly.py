"""A model from what a foreign file declares: layers first, their arrays only where the shapes agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nbbn.layers import Layer, LayerError
from nbbn.network import Network, Weights

# Far more than any network of layers in a row has; a model of so many takes seconds to set up.
MAX_LAYERS = 1000


def wanted_shapes(layers: Sequence[Layer], input_shape: Sequence[int]) -> list[dict[str, tuple[int, ...]]]:
    """Name and shape of each layer's arrays; allocates nothing.

    Raises
    ------
    LayerError
        For layers that do not fit each other, and for too many of them.
    """
    if len(layers) > MAX_LAYERS:
        raise LayerError(f"has {len(layers)} layers; at most {MAX_LAYERS} are read")
    shape, wanted = tuple(input_shape), []
    for layer in layers:
        try:
            wanted.append(layer.weight_shapes(shape))
            shape = layer.output_shape(shape)
        except LayerError as err:
            raise LayerError(f"layer {layer.name!r} does not fit rows of shape {shape}: {err}") from None
    return wanted


def as_sequential(
    layers: Sequence[Layer], input_shape: Sequence[int], weights: Weights, dtype, name: str | None = None
):
    """A built `Sequential` with these arrays.

    Parameters
    ----------
    layers : sequence of Layer
        One that computes in float64 says so by its `dtype`; none need a name.
    input_shape : tuple of int
        Shape of one row.
    weights : list of dict
        Arrays by name for each layer, of any float dtype.
    dtype : dtype
        float32 or float64.
    name : str or None

    Raises
    ------
    LayerError
        For arrays that do not fit, or hold NaN or infinity.
    """
    from nbbn.models import Sequential

    dtype = np.dtype(dtype)
    if dtype == np.float64:
        layers = [replace(layer, dtype="float64") for layer in layers]
    with np.errstate(over="ignore"):  # what becomes infinite is refused below
        cast = [{k: np.array(a, dtype, order="C") for k, a in arrays.items()} for arrays in weights]
    model = Sequential(name=name)
    model.restore(Network(tuple(layers), tuple(input_shape), cast, dtype).check(), None)
    return model
