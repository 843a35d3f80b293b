"""A network with branches of nbbn's in PyTorch's words, with its very weights.

A softmax at the end is left out: the loss, or the caller, takes it.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import nbbn
from nbbn import layers as kinds
from nbbn.network import Network
from nbbn.operations import Sides

from ..timed import Call
from .availability import require
from .images import linear
from .inference import onnx_runtime
from .training import torch_epoch

Arrays = dict[str, np.ndarray]


def torch_graph(network: Network, *, exact: bool = False) -> Any:
    """A module that calls the layers' modules as the network does, channels last.

    PyTorch pads both sides of an image alike, where Keras's "same" puts an odd zero at the end:
    numbers are the network's own with `exact`, which pads by an operation of its own.
    """
    from torch import nn

    class Graph(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            shapes = [before[0] for before, _ in network.layer_shapes]
            self.made = nn.ModuleList(
                _MODULES[type(layer)](layer, own, shape, exact)
                for layer, own, shape in zip(network.layers, network.weights, shapes))

        def forward(self, x: Any) -> Any:
            values = {-1: x}
            for k, call in enumerate(network.links.calls):
                sources = [values[source] for source in call.sources]
                values[k] = self.made[call.layer](*sources)
            return values[network.links.outputs[0]]

    import torch

    return Graph().to(memory_format=torch.channels_last)


def _padded(made: Callable[[Any], Any], sides: Sides, value: float, exact: bool) -> Any:
    """A module whose window slides over padded images; `made` takes its pads above and left."""
    from torch import nn

    (top, bottom), (left, right) = sides
    if top == bottom and left == right:
        return made((top, left))
    if exact:
        return nn.Sequential(nn.ConstantPad2d((left, right, top, bottom), value), made(0))
    return made((max(top, bottom), max(left, right)))


def _convolution(layer: Any, own: Arrays, shape: Any, exact: bool, groups: int = 1) -> Any:
    import torch

    kernel = own["kernel"]
    if groups > 1:  # depthwise: (kh, kw, in, times)
        kernel = kernel.reshape(*kernel.shape[:2], 1, -1)
    size, out = kernel.shape[:2], kernel.shape[3]

    def made(pads: Any) -> Any:
        module = torch.nn.Conv2d(shape[-1], out, size, layer.strides, pads, groups=groups,
                                 bias="bias" in own)
        transposed = np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))
        module.weight.data = torch.from_numpy(transposed)
        if module.bias is not None:
            module.bias.data = torch.from_numpy(own["bias"].copy())
        return module

    return _padded(made, layer.pads(shape), 0.0, exact)


def _depthwise(layer: Any, own: Arrays, shape: Any, exact: bool) -> Any:
    return _convolution(layer, own, shape, exact, groups=shape[-1])


def _norm(layer: Any, own: Arrays, shape: Any, exact: bool) -> Any:
    import torch

    module = torch.nn.BatchNorm2d(shape[-1], layer.epsilon, 1 - layer.momentum)
    for mine, name in (("weight", "gamma"), ("bias", "beta"), ("running_mean", "mean"),
                       ("running_var", "var")):
        getattr(module, mine).data = torch.from_numpy(own[name].copy())
    return module


def _max_pool(layer: Any, own: Arrays, shape: Any, exact: bool) -> Any:
    from torch import nn

    def made(pads: Any) -> Any:
        return nn.MaxPool2d(layer.pool_size, layer.strides or layer.pool_size, pads)

    window = kinds.Conv2D(1, layer.pool_size, layer.strides or layer.pool_size, layer.padding)
    return _padded(made, window.pads(shape), -np.inf, exact)


def _activation(layer: Any, own: Arrays, shape: Any, exact: bool) -> Any:
    from torch import nn

    return nn.ReLU6() if getattr(layer, "max_value", None) == 6 else nn.ReLU()


def _dense(layer: Any, own: Arrays, shape: Any, exact: bool) -> Any:
    return linear(**own)


def _pool_all(layer: Any, own: Arrays, shape: Any, exact: bool) -> Any:
    from torch import nn

    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())


def _add(layer: Any, own: Arrays, shape: Any, exact: bool) -> Any:
    from torch import nn

    class Add(nn.Module):
        def forward(self, x: Any, y: Any) -> Any:
            return x + y

    return Add()


_MODULES: dict[type, Callable[[Any, Arrays, Any, bool], Any]] = {
    kinds.Conv2D: _convolution,
    kinds.DepthwiseConv2D: _depthwise,
    kinds.BatchNormalization: _norm,
    kinds.MaxPooling2D: _max_pool,
    kinds.ReLU: _activation,
    kinds.Dense: _dense,
    kinds.GlobalAveragePooling2D: _pool_all,
    kinds.Add: _add,
}


def pytorch(model: nbbn.Model, x: np.ndarray, *, exact: bool = False) -> Call:
    """Probabilities: batch norms fused by PyTorch itself, in inference mode."""
    torch = require("PyTorch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torch.fx.experimental.optimization import fuse

    graph = fuse(torch_graph(model.network(), exact=exact).eval())
    graph = torch.nn.Sequential(graph, torch.nn.Softmax(1))
    images = torch.from_numpy(x).permute(0, 3, 1, 2)  # the strides of channels last

    def predict() -> np.ndarray:
        with torch.inference_mode():
            return graph(images).numpy()

    return predict


def onnx(model: nbbn.Model, x: np.ndarray, *, exact: bool = False) -> Call:
    """A session over the ONNX file of the folded model."""
    return onnx_runtime(model.fold(), x)


def pytorch_training(model: nbbn.Model, x: np.ndarray, y: np.ndarray, batch_size: int, *,
                     exact: bool = False) -> Call:
    """An epoch with fused Adam in eager mode, channels last; the call gives the last loss."""
    require("PyTorch")
    images = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    return torch_epoch(torch_graph(model.network(), exact=exact), images, y, batch_size)


INFERENCE = {"ONNX Runtime": onnx, "PyTorch": pytorch}
TRAINING = {"PyTorch": pytorch_training}
