"""Batch norm alone: forward, backward and inference, with ReLU and without.

Also the same formulas in NumPy, and the norms within a row.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from nbbn.functional import (
    batch_norm_backward,
    batch_norm_inference,
    batch_norm_train,
    group_norm,
    layer_norm,
)

from .timed import Call, Timed

SHAPES = [(32, 128), (256, 512), (8192, 256), (65536, 256), (32, 28, 28, 32), (64, 14, 14, 256)]
DTYPES = ["float32", "float64"]
WITHIN_ROWS, GROUPS = ["layer_norm", "group_norm"], 8


class Inputs:
    """x, an upstream gradient, gamma and beta, an array to write to."""

    def __init__(self, shape: tuple[int, ...], dtype: str):
        rng = np.random.default_rng(7)
        channels = shape[-1]
        self.x = rng.standard_normal(shape).astype(dtype)
        self.dy = rng.standard_normal(shape).astype(dtype)
        self.gamma = rng.uniform(0.5, 2, channels).astype(dtype)
        self.beta = rng.standard_normal(channels).astype(dtype)
        self.mean, self.var = np.zeros_like(self.gamma), np.ones_like(self.gamma)
        self.out = np.empty_like(self.x)

    def forward(self, activation: str | None) -> tuple[np.ndarray, Any]:
        return batch_norm_train(self.x, self.gamma, self.beta, activation=activation, out=self.out)

    def backward(self, cache: Any) -> tuple[np.ndarray, ...]:
        return batch_norm_backward(self.dy, cache, out=self.out)

    def inference(self, activation: str | None) -> np.ndarray:
        own = (self.x, self.gamma, self.beta, self.mean, self.var)
        return batch_norm_inference(*own, activation=activation, out=self.out)

    def within_rows(self, name: str) -> np.ndarray:
        own = (self.x, self.gamma, self.beta)
        if name == "layer_norm":
            return layer_norm(*own, activation="relu", out=self.out)
        return group_norm(*own, groups=GROUPS, activation="relu", out=self.out)


class Forward(Timed):
    """Training: statistics, normalisation and ReLU in one call."""

    params = (SHAPES, DTYPES)
    param_names = ("shape", "dtype")
    version = "2"

    def prepare(self, shape: tuple[int, ...], dtype: str) -> Call:
        inputs = Inputs(shape, dtype)
        return lambda: inputs.forward("relu")

    def time_nbbn(self, *_: object) -> None:
        self.call()


class Backward(Timed):
    """Gradients of input, gamma and beta behind a ReLU."""

    params = (SHAPES, DTYPES)
    param_names = ("shape", "dtype")
    version = "2"

    def prepare(self, shape: tuple[int, ...], dtype: str) -> Call:
        inputs = Inputs(shape, dtype)
        _, cache = batch_norm_train(inputs.x, inputs.gamma, inputs.beta, activation="relu")
        return lambda: inputs.backward(cache)

    def time_nbbn(self, *_: object) -> None:
        self.call()


class Inference(Timed):
    """Running statistics and ReLU."""

    params = (SHAPES, DTYPES)
    param_names = ("shape", "dtype")
    version = "2"

    def prepare(self, shape: tuple[int, ...], dtype: str) -> Call:
        inputs = Inputs(shape, dtype)
        return lambda: inputs.inference("relu")

    def time_nbbn(self, *_: object) -> None:
        self.call()


class WithinRows(Timed):
    """Layer norm, and group norm of eight groups, with ReLU."""

    params = (SHAPES, WITHIN_ROWS, DTYPES)
    param_names = ("shape", "norm", "dtype")
    version = "2"

    def prepare(self, shape: tuple[int, ...], name: str, dtype: str) -> Call:
        inputs = Inputs(shape, dtype)
        return lambda: inputs.within_rows(name)

    def time_nbbn(self, *_: object) -> None:
        self.call()


class Unfused(Timed):
    """Forward without an activation, and followed by NumPy's ReLU in a pass of its own; float32."""

    params = (SHAPES, ["none", "relu in a pass of its own"])
    param_names = ("shape", "activation")
    version = "1"

    def prepare(self, shape: tuple[int, ...], activation: str) -> Call:
        inputs = Inputs(shape, "float32")
        if activation == "none":
            return lambda: inputs.forward(None)

        def separate() -> None:
            inputs.forward(None)
            np.maximum(inputs.out, 0, out=inputs.out)

        return separate

    def time_forward(self, *_: object) -> None:
        self.call()


class NumPy(Timed):
    """The formulas as one would write them in NumPy, float32, to compare with."""

    params = (SHAPES, ["forward", "backward"])
    param_names = ("shape", "direction")
    version = "2"

    def prepare(self, shape: tuple[int, ...], direction: str) -> Call:
        inputs = Inputs(shape, "float32")
        y, xhat, var = numpy_forward(inputs.x, inputs.gamma, inputs.beta)
        if direction == "backward":
            return lambda: numpy_backward(inputs.dy, y, xhat, var, inputs.gamma)
        return lambda: numpy_forward(inputs.x, inputs.gamma, inputs.beta)

    def time_numpy(self, *_: object) -> None:
        self.call()


def numpy_forward(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float = 1e-5
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Batch norm and ReLU."""
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    xhat = (x - mean) / np.sqrt(var + epsilon)
    return np.maximum(gamma * xhat + beta, 0), xhat, var


def numpy_backward(
    dy: np.ndarray,
    y: np.ndarray,
    xhat: np.ndarray,
    var: np.ndarray,
    gamma: np.ndarray,
    epsilon: float = 1e-5,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Gradients of `numpy_forward`."""
    axes = tuple(range(dy.ndim - 1))
    g = np.where(y > 0, dy, 0)
    dbeta, dgamma = g.sum(axes), (g * xhat).sum(axes)
    rows = dy.size // dy.shape[-1]
    dx = gamma / np.sqrt(var + epsilon) * (g - dbeta / rows - xhat * (dgamma / rows))
    return dx, dgamma, dbeta
