"""Weights of PyTorch models, for layers that are given: a state dict holds no layers.

Where rows stand for images, features are put in order: PyTorch flattens channels first.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from nbbn.formats.assembly import assembled, wanted_shapes
from nbbn.formats.content import Content, of_layers
from nbbn.formats.files import BROKEN, FileError, PathLike, Refused, one_line
from nbbn.formats.torch.match import Module, in_our_layout, match, modules_of, wanted_tensors
from nbbn.formats.torch.parametrized import plain
from nbbn.formats.torch.tensors import Tensor, read_tensors
from nbbn.layers import Dense, Flatten, GroupNormalization, Layer, Reshape

# `order[j]` is torch's index of nbbn's feature j; None: they are the same.
Order = np.ndarray | None


def read(source: Any, layers: Sequence[Layer], input_shape: Sequence[int], named: Collection[str],
         flatten: str) -> Content:
    """The content of a `Sequential` of these layers, with the tensors of a state dict.

    Each layer has a name; those of `named` are modules' paths. `flatten` and errors are those of
    `nbbn.interop.from_torch`.
    """
    where, tensors, in_order = read_tensors(source)
    try:
        wanted = wanted_shapes(layers, input_shape)
        with_arrays = [(layer, arrays) for layer, arrays in zip(layers, wanted) if arrays]
        modules = iter(match(modules_of(plain(tensors)), with_arrays, named, in_order))
        orders: list[Order] = [None] * (len(layers) + 1)
        if flatten == "channels_first":
            orders = feature_orders(layers, input_shape)
        weights = [
            _arrays(next(modules), layer, arrays, *around) if arrays else {}
            for layer, arrays, around in zip(layers, wanted, pairwise(orders))
        ]
        return of_layers(assembled(layers, input_shape, weights, _dtype(layers, tensors)))
    except Refused as err:
        raise FileError(f"{where}: {err}") from err
    except BROKEN as err:
        raise FileError(f"{where}: {one_line(err)}") from err


def refuse(path: PathLike) -> NoReturn:
    """Say why such a file cannot be opened alone."""
    raise FileError(f"{path}: holds weights without layers; "
                    "read it with nbbn.interop.from_torch(path, layers) and save what that returns")


def _dtype(layers: Sequence[Layer], tensors: dict[str, Tensor]) -> str:
    given = next((layer.dtype for layer in layers if layer.dtype is not None), None)
    numbers = [t.double for name, t in tensors.items() if not name.endswith("num_batches_tracked")]
    return given or ("float64" if numbers and all(numbers) else "float32")


def _arrays(module: Module, layer: Layer, shapes: dict, before: Order,
            after: Order) -> dict[str, np.ndarray]:
    """A layer's arrays in nbbn's layout, their features in nbbn's order."""
    arrays = {}
    for part, (name, _) in wanted_tensors(layer, shapes).items():
        array = in_our_layout(layer, name, module.tensors[part].fetch(), shapes[name])
        if name == "kernel" and isinstance(layer, Dense) and before is not None:
            array = array[before]
        if after is not None:
            array = array[..., after]
        arrays[name] = array
    return arrays


# -- images


def feature_orders(layers: Sequence[Layer], input_shape: Sequence[int]) -> list[Order]:
    """The order of the features before each layer, and after the last.

    Refused where rows stand in torch's order and a layer, or the model's end, depends on it.
    """
    before, orders = tuple(input_shape), list[Order]([None])
    for i, layer in enumerate(layers):
        after, order = layer.output_shape(before), orders[-1]
        if isinstance(layer, Flatten | Reshape) and before != after:
            order = _reshaped(layer, before, after, order)
        elif isinstance(layer, Dense):
            order = _of_images(layers[i + 1 :], after)
        elif isinstance(layer, GroupNormalization) and order is not None:
            if layer.group_count(before) > 1:
                raise Refused(f"layer {layer.name!r} normalises groups of features that torch has "
                              "in another order; use Reshape")
        orders.append(order)
        before = after
    if orders[-1] is not None:
        raise Refused("the model ends in flattened images, which torch has channels first; "
                      "end it before the Flatten")
    return orders


def channels_first(shape: Sequence[int]) -> Order:
    """Torch's index of each value of an image `(height, width, channels)`, in nbbn's order."""
    height, width, channels = shape
    image = np.arange(height * width * channels).reshape(channels, height, width)
    order = image.transpose(1, 2, 0).reshape(-1)
    return order if (np.diff(order) != 1).any() else None


def _reshaped(layer: Layer, before: tuple, after: tuple, order: Order) -> Order:
    if len(before) == 3 and len(after) == 1:
        return channels_first(before)
    if len(before) == 1 and len(after) == 3:
        wanted = channels_first(after)
        if wanted is None or order is None:
            same = wanted is order
        else:
            same = np.array_equal(wanted, order)
        if not same:
            raise Refused(f"layer {layer.name!r} makes images of rows that no Dense puts in nbbn's "
                          "order")
        return None
    images = [shape for shape in (before, after) if len(shape) == 3]
    if order is not None or any(channels_first(image) is not None for image in images):
        raise Refused(f"layer {layer.name!r} reshapes rows of shape {before} to {after}, "
                      "which torch has in another order")
    return None


def _of_images(following: Sequence[Layer], shape: tuple) -> Order:
    """The order in which a Dense must put its outputs: that of the images made of them later."""
    if len(shape) != 1:
        return None
    ends = next((layer for layer in following if isinstance(layer, Reshape | Dense)), None)
    image = ends.output_shape(shape) if isinstance(ends, Reshape) else ()
    return channels_first(image) if len(image) == 3 else None
