"""Weights of PyTorch models, for layers that are given: a state dict holds no layers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from nbbn.formats.assembly import assembled, wanted_shapes
from nbbn.formats.content import Content, of_layers
from nbbn.formats.files import BROKEN, FileError, PathLike, Refused, one_line
from nbbn.formats.torch.match import Module, in_our_layout, match, modules_of, wanted_tensors
from nbbn.formats.torch.order import Order, feature_orders
from nbbn.formats.torch.parametrized import plain
from nbbn.formats.torch.tensors import Tensor, read_tensors
from nbbn.layers import Dense, Layer


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
        modules = iter(match(modules_of(plain(tensors)), with_arrays, named, in_order=in_order))
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
