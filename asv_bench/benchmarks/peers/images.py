"""A convolutional network of nbbn's in the peers' words, with its very weights.

`network` gives the layers and arrays. A softmax at the end is left out: the loss, or the caller,
takes it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbbn.layers import Activation, BatchNormalization, Conv2D, Dense, Flatten, MaxPooling2D
from nbbn.network import Network

Arrays = dict[str, np.ndarray]


def linear(kernel: np.ndarray, bias: np.ndarray) -> Any:
    """A dense layer of PyTorch's."""
    import torch

    layer = torch.nn.Linear(*kernel.shape)
    layer.weight.data = torch.from_numpy(kernel.T.copy())
    layer.bias.data = torch.from_numpy(bias.copy())
    return layer


def convolution(kernel: np.ndarray, bias: np.ndarray) -> Any:
    """A convolution of PyTorch's, as of nbbn's kernel."""
    import torch

    layer = torch.nn.Conv2d(*kernel.shape[2:], kernel.shape[:2])
    layer.weight.data = torch.from_numpy(np.ascontiguousarray(kernel.transpose(3, 2, 0, 1)))
    layer.bias.data = torch.from_numpy(bias.copy())
    return layer


def torch_modules(network: Network) -> Any:
    """Modules one after another, channels last."""
    import torch
    from torch import nn

    class FlattenChannelsLast(nn.Module):
        def forward(self, images: Any) -> Any:
            return images.permute(0, 2, 3, 1).flatten(1)

    def norm(layer: Any, own: Arrays) -> Any:
        images = not any(isinstance(module, FlattenChannelsLast) for module in modules)
        kind = nn.BatchNorm2d if images else nn.BatchNorm1d
        return kind(len(own["gamma"]), layer.epsilon, 1 - layer.momentum)

    made: dict[type, Callable[[Any, Arrays], Any]] = {
        Conv2D: lambda _, own: convolution(**own),
        Dense: lambda _, own: linear(**own),
        BatchNormalization: norm,
        Activation: lambda *_: nn.ReLU(),
        MaxPooling2D: lambda layer, _: nn.MaxPool2d(layer.pool_size, layer.strides),
        Flatten: lambda *_: FlattenChannelsLast(),
    }
    modules: list[Any] = []
    for layer, own in zip(network.layers, network.weights):
        modules.append(made[type(layer)](layer, own))
    return nn.Sequential(*modules).to(memory_format=torch.channels_last)


def jax_function(network: Network) -> tuple[Callable[[Any, Any], Any], list[dict[str, Any]]]:
    """A function of the arrays of each layer and of images, and these arrays.

    Batch norm goes by the batch: a network for inference has none.
    """
    import jax
    import jax.numpy as jnp

    lax = jax.lax

    def convolve(layer: Any, own: Any, x: Any) -> Any:
        axes = ("NHWC", "HWIO", "NHWC")
        options = {"window_strides": layer.strides, "padding": layer.padding.upper()}
        y = lax.conv_general_dilated(x, own["kernel"], dimension_numbers=axes, **options)
        return y + own["bias"]

    def norm(layer: Any, own: Any, x: Any) -> Any:
        axes = tuple(range(x.ndim - 1))
        scale = lax.rsqrt(x.var(axes) + layer.epsilon) * own["gamma"]
        return (x - x.mean(axes)) * scale + own["beta"]

    def pool(layer: Any, _: Any, x: Any) -> Any:
        window, strides = (1, *layer.pool_size, 1), (1, *(layer.strides or layer.pool_size), 1)
        return lax.reduce_window(x, -jnp.inf, lax.max, window, strides, layer.padding.upper())

    made: dict[type, Callable[[Any, Any, Any], Any]] = {
        Conv2D: convolve,
        Dense: lambda _, own, x: x @ own["kernel"] + own["bias"],
        BatchNormalization: norm,
        Activation: lambda _, __, x: jax.nn.relu(x),
        MaxPooling2D: pool,
        Flatten: lambda _, __, x: x.reshape(len(x), -1),
    }

    def apply(arrays: Any, x: Any) -> Any:
        for layer, own in zip(network.layers, arrays):
            x = made[type(layer)](layer, own, x)
        return x

    trained = ("kernel", "bias", "gamma", "beta")
    arrays = [
        {name: jnp.array(a) for name, a in own.items() if name in trained}
        for own in network.weights
    ]
    return apply, arrays
