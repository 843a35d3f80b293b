"""PyTorch's functions for what `nbbn.functional` computes besides batch norm, in inference mode.

Images have the strides of channels last. Each function returns a call that gives what nbbn's gives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..images import Inputs as Images
from ..norm import GROUPS, Inputs
from ..timed import Call
from .availability import require
from .norm import channels_last, tensor


def pytorch_convolution(inputs: Images) -> Call:
    """A convolution with bias, then ReLU in place."""
    torch = require("PyTorch")
    x, bias, options = tensor(torch, inputs.x), torch.from_numpy(inputs.bias), inputs.options
    kernel = torch.from_numpy(inputs.kernel).permute(3, 2, 0, 1)
    kernel = kernel.contiguous(memory_format=torch.channels_last)
    told = {
        "stride": options.get("strides", 1),
        "padding": options.get("padding", "valid"),
        "dilation": options.get("dilation_rate", 1),
        "groups": options["groups"],
    }
    convolve = torch.nn.functional.conv2d
    return inferring(torch, lambda: channels_last(convolve(x, kernel, bias, **told).relu_()))


def pytorch_pool(x: np.ndarray, window: int) -> Call:
    """The largest of each window, in steps of two."""
    torch = require("PyTorch")
    images, pool = tensor(torch, x), torch.nn.functional.max_pool2d
    return inferring(torch, lambda: channels_last(pool(images, window, 2)))


def pytorch_within_rows(inputs: Inputs, name: str) -> Call:
    """Layer norm or group norm, then ReLU in place."""
    torch = require("PyTorch")
    gamma, beta = torch.from_numpy(inputs.gamma), torch.from_numpy(inputs.beta)
    functions = torch.nn.functional
    rows, x = torch.from_numpy(inputs.x), tensor(torch, inputs.x)
    calls: dict[str, Call] = {
        "layer_norm": lambda: functions.layer_norm(rows, gamma.shape, gamma, beta).relu_().numpy(),
        "group_norm": lambda: channels_last(functions.group_norm(x, GROUPS, gamma, beta).relu_()),
    }
    return inferring(torch, calls[name])


def inferring(torch: Any, call: Call) -> Call:
    """The call without what a gradient would need."""

    def run() -> object:
        with torch.inference_mode():
            return call()

    return run


CONVOLUTION: dict[str, Callable[[Images], Call]] = {"PyTorch": pytorch_convolution}
POOL: dict[str, Callable[[np.ndarray, int], Call]] = {"PyTorch": pytorch_pool}
WITHIN_ROWS: dict[str, Callable[[Inputs, str], Call]] = {"PyTorch": pytorch_within_rows}
