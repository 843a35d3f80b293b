"""The order of PyTorch's features where rows stand for images: it flattens channels first."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nbbn.formats.files import Refused
from nbbn.layers import Dense, Flatten, GroupNormalization, Layer, Reshape

# `order[j]` is torch's index of nbbn's feature j; None: they are the same.
Order = np.ndarray | None


def feature_orders(layers: Sequence[Layer], input_shape: Sequence[int]) -> list[Order]:
    """The order of the features before each layer, and after the last.

    Refused where rows stand in torch's order and a layer, or the model's end, depends on it.
    """
    shapes = [tuple(input_shape)]
    for layer in layers:
        shapes.append(layer.output_shape(shapes[-1]))
    orders: list[Order] = [None]
    for i, layer in enumerate(layers):
        before, after = shapes[i], shapes[i + 1]
        order = orders[-1]
        if isinstance(layer, Flatten | Reshape) and before != after:
            order = _reshaped(layer, before, after, order)
        elif isinstance(layer, Dense):
            order = _of_images(layers[i + 1 :], after)
        elif isinstance(layer, GroupNormalization) and order is not None:
            if layer.group_count(before) > 1:
                raise Refused(
                    f"layer {layer.name!r} normalises groups of features that torch has in another "
                    "order; use Reshape"
                )
        orders.append(order)
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
            raise Refused(
                f"layer {layer.name!r} makes images of rows that no Dense puts in nbbn's order"
            )
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
    for layer in following:
        if isinstance(layer, Reshape):
            image = layer.output_shape(shape)
            return channels_first(image) if len(image) == 3 else None
        if isinstance(layer, Dense):
            return None
    return None
