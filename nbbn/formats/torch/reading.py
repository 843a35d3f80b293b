"""Weights of PyTorch models, for layers that are given: a state dict holds no layers.

Where rows stand for images, features are put in order: PyTorch flattens channels first.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any, NoReturn

import numpy as np

from nbbn.formats.assembly import assembled
from nbbn.formats.content import Content, of_layers
from nbbn.formats.files import BROKEN, FileError, PathLike, Refused, one_line
from nbbn.formats.torch.match import Module, in_our_layout, match, modules_of, wanted_tensors
from nbbn.formats.torch.parametrized import plain
from nbbn.formats.torch.tensors import Tensor, read_tensors
from nbbn.layers import Concatenate, Dense, Flatten, GroupNormalization, Layer, Reshape
from nbbn.network import Graph, Network
from nbbn.operations import Shape

# `order[j]` is torch's index of nbbn's feature j; None: they are the same.
Order = np.ndarray | None


def read(source: Any, network: Network, order: Sequence[int], named: Collection[str], flatten: str,
         rows: dict[str, Any]) -> Content:
    """The content of a model of a network's layers, with the tensors of a state dict.

    `order` are the numbers of its layers as modules without names come, `named` the names that are
    modules' paths, `rows` what a `Model` says of its inputs and outputs. `flatten` and errors are
    those of `nbbn.interop.from_torch`.
    """
    where, tensors, in_order = read_tensors(source)
    layers, graph = network.layers, network.links
    try:
        wanted = [layer.weight_shapes(*shapes)
                  for layer, (shapes, _) in zip(layers, graph.layer_shapes(layers))]
        own = [i for i in order if wanted[i]]
        found = match(modules_of(plain(tensors)), [(layers[i], wanted[i]) for i in own], named,
                      in_order, _runs(graph, own))
        modules = dict(zip(own, found))
        orders = feature_orders(layers, graph) if flatten == "channels_first" else {}
        around = _around(layers, graph, orders)
        weights = [_arrays(modules[i], layer, arrays, *around[i]) if arrays else {}
                   for i, (layer, arrays) in enumerate(zip(layers, wanted))]
        made = assembled(layers, network.input_shape, weights, _dtype(layers, tensors),
                         network.graph)
        content = of_layers(made)
        return content._replace(meta={**content.meta, **rows})
    except Refused as err:
        raise FileError(f"{where}: {err}") from err
    except BROKEN as err:
        raise FileError(f"{where}: {one_line(err)}") from err


def _runs(graph: Graph, layers: Sequence[int]) -> list[list[int]]:
    """Layers with arrays, by their places in `layers`, in runs: each reads the one before it, which
    no other layer reads. The first call of a layer counts.
    """
    first = dict[int, int]()
    for i, call in enumerate(graph.calls):
        first.setdefault(call.layer, i)
    place = {layer: k for k, layer in enumerate(layers)}
    readers = Counter(source for i in first.values() for source in graph.calls[i].sources)
    run_of: dict[int, list[int]] = {}  # by call: the run that ends there
    found: list[list[int]] = []
    for layer, i in first.items():
        sources = graph.calls[i].sources
        alone = len(sources) == 1 and readers[sources[0]] == 1
        run = run_of.get(sources[0]) if alone else None
        if layer in place:
            if run is None:
                run = []
                found.append(run)
            run.append(place[layer])
        if run is not None:
            run_of[i] = run
    return sorted(found)


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


def feature_orders(layers: Sequence[Layer], graph: Graph) -> dict[int, Order]:
    """The order of the features of each value: of what each call gives, and of the inputs.

    Refused where rows stand in torch's order and a layer, or the model's end, depends on it.
    """
    shapes: dict[int, Shape] = {-k: shape for k, shape in enumerate(graph.inputs, 1)}
    # Rows of two axes are channels first where layers slide over steps; else they are no images.
    ranks = (2, 3) if any(_slides_over_steps(layer) for layer in layers) else (3,)
    orders: dict[int, Order] = dict.fromkeys(shapes)
    for i, call in enumerate(graph.calls):
        layer, before = layers[call.layer], [shapes[source] for source in call.sources]
        shapes[i] = layer.output_shape(*before)
        given = [orders[source] for source in call.sources]
        if layer.merges:
            orders[i] = _merged(layer, before, given)
        elif isinstance(layer, Flatten | Reshape) and before[0] != shapes[i]:
            orders[i] = _reshaped(layer, before[0], shapes[i], given[0], ranks)
        elif isinstance(layer, Dense):
            orders[i] = _of_images(layers, graph, i, shapes[i], ranks)
        else:
            _check_groups(layer, before[0], given[0])
            orders[i] = given[0]
    if any(orders[output] is not None for output in graph.outputs):
        raise Refused("the model ends in flattened images, which torch has channels first; "
                      "end it before the Flatten")
    return orders


def _slides_over_steps(layer: Layer) -> bool:
    kind = type(layer).__name__
    return kind.endswith(("1D", "1DTranspose")) and "Dropout" not in kind


def _check_groups(layer: Layer, shape: Shape, order: Order) -> None:
    if isinstance(layer, GroupNormalization) and order is not None and layer.group_count(shape) > 1:
        raise Refused(f"layer {layer.name!r} normalises groups of features that torch has "
                      "in another order; use Reshape")


def _around(layers: Sequence[Layer], graph: Graph,
            orders: dict[int, Order]) -> list[tuple[Order, Order]]:
    """Of each layer the order of what it takes and of what it gives; Refused where calls differ."""
    found: dict[int, tuple[Order, Order]] = {}
    for i, call in enumerate(graph.calls):
        own = orders.get(call.sources[0]), orders.get(i)
        before = found.setdefault(call.layer, own)
        if not all(map(_same, own, before)):
            raise Refused(f"layer {layers[call.layer].name!r} is called on rows in several orders "
                          "of torch's; use layers of their own")
    return [found[i] for i in range(len(layers))]


def _same(one: Order, other: Order) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one, other)


def channels_first(shape: Sequence[int]) -> Order:
    """Torch's index of each value of an image `(height, width, channels)`, in nbbn's order."""
    *window, channels = shape
    image = np.arange(math.prod(shape)).reshape(channels, *window)
    order = np.moveaxis(image, 0, -1).reshape(-1)
    return order if (np.diff(order) != 1).any() else None


def _merged(layer: Layer, shapes: Sequence[Shape], orders: Sequence[Order]) -> Order:
    """Of features beside each other, or of several that are combined number by number."""
    if isinstance(layer, Concatenate) and any(order is not None for order in orders):
        ends = np.cumsum([shape[0] for shape in shapes])
        parts = [np.arange(shape[0]) if order is None else order
                 for shape, order in zip(shapes, orders)]
        return np.concatenate([part + end - len(part) for part, end in zip(parts, ends)])
    if not all(_same(order, orders[0]) for order in orders):
        raise Refused(f"layer {layer.name!r} joins flattened images, which torch has channels "
                      "first, with rows in another order; merge the images, or put a Dense before")
    return orders[0]


def _reshaped(layer: Layer, before: Shape, after: Shape, order: Order,
              ranks: tuple[int, ...]) -> Order:
    if len(before) in ranks and len(after) == 1:
        return channels_first(before)
    if len(before) == 1 and len(after) in ranks:
        if not _same(channels_first(after), order):
            raise Refused(f"layer {layer.name!r} makes images of rows that no Dense puts in nbbn's "
                          "order")
        return None
    images = [shape for shape in (before, after) if len(shape) in ranks]
    if order is not None or any(channels_first(image) is not None for image in images):
        raise Refused(f"layer {layer.name!r} reshapes rows of shape {before} to {after}, "
                      "which torch has in another order")
    return None


def _of_images(layers: Sequence[Layer], graph: Graph, call: int, shape: Shape,
               ranks: tuple[int, ...]) -> Order:
    """The order in which a Dense must put its outputs: that of the images made of them later."""
    if len(shape) != 1:
        return None
    reached = {call}
    for i, later in enumerate(graph.calls[call + 1 :], call + 1):
        layer = layers[later.layer]
        if isinstance(layer, Dense) or not reached.intersection(later.sources):
            continue
        if isinstance(layer, Reshape):
            image = layer.output_shape(shape)
            return channels_first(image) if len(image) in ranks else None
        if not isinstance(layer, Concatenate):
            reached.add(i)
    return None
