"""Layers with the weights of a PyTorch model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from nbbn.formats.files import PathLike
from nbbn.layers import Layer
from nbbn.loading import model_of
from nbbn.models.sequential import Sequential
from nbbn.utils import keras_name


def from_torch(state_dict_or_path: Mapping[str, Any] | PathLike,
               layers: Sequence[Layer] | Sequential, *,
               flatten: str = "channels_first") -> Sequential:
    """Layers of nbbn with the weights of a PyTorch model.

    Parameters
    ----------
    state_dict_or_path : mapping or path-like
        A state dict, of tensors or arrays; or a file of one: `.safetensors`, read without torch, or
        `.pt`, where torch is installed and reads it with `weights_only=True`. Of a checkpoint the
        entry `state_dict`, `model_state_dict`, `model_state`, `model`, `net`, `params_ema`,
        `params`, `ema` or the like is taken, the first of these that is there.
    layers : list of Layer or Sequential
        The network, as nbbn's layers say it, the first with the shape of its rows (`Input`, or
        `input_shape=`). Images have their channels last.
    flatten : {"channels_first", "channels_last"}
        The order in which the PyTorch model flattens images: its own, or, where the model turns
        them by `permute(0, 2, 3, 1)` before, nbbn's. A state dict does not say it, and the wrong
        one gives wrong numbers without a word: compare a few rows.

    Returns
    -------
    Sequential
        New and built, not compiled; what is given stays as it is.

    Raises
    ------
    FileError
        For a missing, broken or foreign file, and for tensors that do not fit the layers: missing,
        left over, or of other shapes. The message names module and layer.
    TypeError, ValueError
        For layers that are none, do not fit each other, or do not say the shape of their rows.
    ImportError
        For a `.pt` file where torch is not installed.

    Notes
    -----
    A layer with a name takes the module of that path in the state dict (`name="features.0"`),
    behind a prefix that all have, such as `module.` or `_orig_mod.`; a name of no module is
    refused. The other layers with weights take the other modules in order, which is that of
    definition in the PyTorch model: Linear, Conv2d, ConvTranspose2d, BatchNorm, LayerNorm and
    GroupNorm. Weight norm and spectral norm are computed; other parametrisations are refused. A
    safetensors file has lost the order: there, modules whose
    paths differ in their numbers alone keep the order of these, shapes tell the rest, and where
    they cannot, the error asks for names.

    Kernels are turned into nbbn's layouts: `(out, in)` to `(in, out)`, `(out, in, h, w)` to
    `(h, w, in, out)`. A Dense after a Flatten of images has its rows put in nbbn's order, as torch
    flattens channels first; the same goes for norms in between, and for a Dense before a Reshape to
    images.

    Epsilon and momentum are not in a state dict: they are the given layers'. PyTorch's defaults are
    `epsilon=1e-5` and `momentum=0.9` here (its own 0.1 weights the new value). Its running variance
    is the unbiased one; it is kept as it is stored. Padding is the layers', too: torch's
    `padding=1` with a stride above 1 is `ZeroPadding2D(1)` and `padding="valid"` here.

    The result computes in float64 if the layers say so, or if all tensors are of float64; else in
    float32.
    """
    from nbbn.formats import torch

    if flatten not in ("channels_first", "channels_last"):
        raise ValueError("flatten must be 'channels_first' or 'channels_last', the order in which "
                         f"the PyTorch model flattens images, got {flatten!r}")
    if not isinstance(layers, Sequential | list | tuple):
        given = type(layers).__name__
        raise TypeError(f"from_torch takes a list of layers or a Sequential, got {given}")
    own = None if isinstance(layers, Sequential) else [layer.name for layer in layers]
    model = layers if isinstance(layers, Sequential) else Sequential(layers)
    if not model.built:
        raise ValueError("from_torch needs the shape of one row: "
                         "begin the layers with Input((...)), or give the first input_shape=")
    network = model.network()
    if own is None:
        own = [layer.name for layer in network.layers if not _is_automatic(layer)]
    named = {name for name in own if name is not None}
    content = torch.read(state_dict_or_path, network.layers, network.input_shape, named,
                         flatten)
    return model_of(content, "state_dict")


def _is_automatic(layer: Layer) -> bool:
    """Whether a `Sequential` may have named the layer after its class: no module's name then."""
    return bool(re.fullmatch(rf"{keras_name(type(layer).__name__)}(_[0-9]+)?", layer.name or ""))
