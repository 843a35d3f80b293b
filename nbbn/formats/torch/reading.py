"""Weights of PyTorch models, for layers that are given: a state dict holds no layers."""

from __future__ import annotations

import re
from itertools import pairwise

import numpy as np

from nbbn.formats.assembly import as_sequential, wanted_shapes
from nbbn.formats.files import BROKEN, FileError, Refused, one_line
from nbbn.formats.torch.match import Module, in_our_layout, match, modules_of, wanted_tensors
from nbbn.formats.torch.order import Order, feature_orders
from nbbn.formats.torch.tensors import Tensor, read_tensors
from nbbn.layers import Dense, Layer


def from_torch(state_dict_or_path, layers):
    """Layers of nbbn with the weights of a PyTorch model.

    Parameters
    ----------
    state_dict_or_path : mapping or path-like
        A state dict, of tensors or arrays; or a file of one: `.safetensors`, read without torch, or `.pt`, where torch is
        installed and reads it with `weights_only=True`. Of a checkpoint the entry `state_dict` or `model_state_dict` is taken.
    layers : list of Layer or Sequential
        The network, as nbbn's layers say it, the first with the shape of its rows (`Input`, or `input_shape=`). Images have
        their channels last.

    Returns
    -------
    Sequential
        New and built, not compiled; what is given stays as it is.

    Raises
    ------
    FileError
        For a missing, broken or foreign file, and for tensors that do not fit the layers: missing, left over, or of other shapes.
        The message names module and layer.
    TypeError, ValueError
        For layers that are none, do not fit each other, or do not say the shape of their rows.
    ImportError
        For a `.pt` file where torch is not installed.

    Notes
    -----
    A layer takes the module whose path in the state dict is the layer's name (`name="features.0"`); the other layers with weights
    take the other modules in order: Linear, Conv2d, ConvTranspose2d, BatchNorm, LayerNorm and GroupNorm. A safetensors file has
    lost the order: there, modules whose paths differ in their numbers alone keep the order of these, shapes tell the rest, and
    where they cannot, the error asks for names.

    Kernels are turned into nbbn's layouts: `(out, in)` to `(in, out)`, `(out, in, h, w)` to `(h, w, in, out)`. A Dense after a
    Flatten of images has its rows put in nbbn's order, as torch flattens channels first; the same goes for norms in between, and
    for a Dense before a Reshape to images.

    Epsilon and momentum are not in a state dict: they are the given layers'. PyTorch's defaults are `epsilon=1e-5` and
    `momentum=0.9` here (its own 0.1 weights the new value). Its running variance is the unbiased one; it is kept as it is stored.
    Padding is the layers', too: torch's `padding=1` with a stride above 1 is `ZeroPadding2D(1)` and `padding="valid"` here.

    The result computes in float64 if the layers say so, or if all tensors are of float64; else in float32.
    """
    specs, shape, named = _layers(layers)
    where, tensors, in_order = read_tensors(state_dict_or_path)
    try:
        wanted = wanted_shapes(specs, shape)
        with_arrays = [(layer, arrays) for layer, arrays in zip(specs, wanted) if arrays]
        modules = iter(match(modules_of(tensors), with_arrays, named, in_order=in_order))
        orders = feature_orders(specs, shape)
        weights = [
            _arrays(next(modules), layer, arrays, *around) if arrays else {}
            for layer, arrays, around in zip(specs, wanted, pairwise(orders))
        ]
        return as_sequential(specs, shape, weights, _dtype(specs, tensors))
    except Refused as err:
        raise FileError(f"{where}: {err}") from err
    except BROKEN as err:
        raise FileError(f"{where}: {one_line(err)}") from err


def _layers(given) -> tuple[list[Layer], tuple[int, ...], set[str]]:
    """The layers, the shape of one row, and the names that the caller gave.

    Raises
    ------
    TypeError, ValueError
        For anything but layers that fit each other and say it.
    """
    from nbbn.models import Sequential

    if not isinstance(given, Sequential | list | tuple):
        raise TypeError(f"from_torch takes a list of layers or a Sequential, got {type(given).__name__}")
    model = given if isinstance(given, Sequential) else Sequential(given)
    if not model.built:
        raise ValueError(
            "from_torch needs the shape of one row: begin the layers with Input((...)), or give the first input_shape="
        )
    network = model.network()
    if model is given:
        named = {layer.name for layer in network.layers if not _AUTOMATIC.fullmatch(layer.name)}
    else:
        named = {layer.name for layer in given if layer.name is not None}
    return list(network.layers), network.input_shape, named


# A Sequential names layers after their classes; those names mean no module.
_AUTOMATIC = re.compile("(dense|conv2d|conv2d_transpose|depthwise_conv2d|(batch|layer|group)_normalization)(_[0-9]+)?")


def _dtype(layers: list[Layer], tensors: dict[str, Tensor]) -> str:
    given = next((layer.dtype for layer in layers if layer.dtype is not None), None)
    numbers = [t.double for name, t in tensors.items() if not name.endswith("num_batches_tracked")]
    return given or ("float64" if numbers and all(numbers) else "float32")


def _arrays(module: Module, layer: Layer, shapes: dict, before: Order, after: Order) -> dict[str, np.ndarray]:
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
