"""Batch norm alone: forward, backward and inference, with ReLU and without, and the same formulas in NumPy."""

import numpy as np

from nbbn.functional import batch_norm_backward, batch_norm_inference, batch_norm_train

from .timed import Timed

SHAPES = [(32, 128), (256, 512), (8192, 256), (65536, 256), (32, 28, 28, 32), (64, 14, 14, 256)]
DTYPES = ["float32", "float64"]


class Inputs:
    """x, an upstream gradient, gamma and beta, an array to write to."""

    def __init__(self, shape, dtype):
        rng = np.random.default_rng(7)
        channels = shape[-1]
        self.x = rng.standard_normal(shape).astype(dtype)
        self.dy = rng.standard_normal(shape).astype(dtype)
        self.gamma = rng.uniform(0.5, 2, channels).astype(dtype)
        self.beta = rng.standard_normal(channels).astype(dtype)
        self.mean, self.var = np.zeros_like(self.gamma), np.ones_like(self.gamma)
        self.out = np.empty_like(self.x)

    def forward(self, activation):
        return batch_norm_train(self.x, self.gamma, self.beta, activation=activation, out=self.out)

    def backward(self, cache):
        return batch_norm_backward(self.dy, cache, out=self.out)

    def inference(self, activation):
        own = (self.x, self.gamma, self.beta, self.mean, self.var)
        return batch_norm_inference(*own, activation=activation, out=self.out)


class Forward(Timed):
    """Training: statistics, normalisation and ReLU in one call."""

    params = (SHAPES, DTYPES)
    param_names = ("shape", "dtype")
    version = "2"

    def prepare(self, shape, dtype):
        inputs = Inputs(shape, dtype)
        return lambda: inputs.forward("relu")

    def time_nbbn(self, *_):
        self.call()


class Backward(Timed):
    """Gradients of input, gamma and beta behind a ReLU."""

    params = (SHAPES, DTYPES)
    param_names = ("shape", "dtype")
    version = "2"

    def prepare(self, shape, dtype):
        inputs = Inputs(shape, dtype)
        _, cache = batch_norm_train(inputs.x, inputs.gamma, inputs.beta, activation="relu")
        return lambda: inputs.backward(cache)

    def time_nbbn(self, *_):
        self.call()


class Inference(Timed):
    """Running statistics and ReLU."""

    params = (SHAPES, DTYPES)
    param_names = ("shape", "dtype")
    version = "2"

    def prepare(self, shape, dtype):
        inputs = Inputs(shape, dtype)
        return lambda: inputs.inference("relu")

    def time_nbbn(self, *_):
        self.call()


class Unfused(Timed):
    """Forward without an activation, and followed by NumPy's ReLU in a pass of its own; float32."""

    params = (SHAPES, ["none", "relu in a pass of its own"])
    param_names = ("shape", "activation")
    version = "1"

    def prepare(self, shape, activation):
        inputs = Inputs(shape, "float32")
        if activation == "none":
            return lambda: inputs.forward(None)

        def separate():
            inputs.forward(None)
            np.maximum(inputs.out, 0, out=inputs.out)

        return separate

    def time_forward(self, *_):
        self.call()


class NumPy(Timed):
    """The formulas as one would write them in NumPy, float32, to compare with."""

    params = (SHAPES, ["forward", "backward"])
    param_names = ("shape", "direction")
    version = "2"

    def prepare(self, shape, direction):
        inputs = Inputs(shape, "float32")
        y, xhat, var = numpy_forward(inputs.x, inputs.gamma, inputs.beta)
        if direction == "backward":
            return lambda: numpy_backward(inputs.dy, y, xhat, var, inputs.gamma)
        return lambda: numpy_forward(inputs.x, inputs.gamma, inputs.beta)

    def time_numpy(self, *_):
        self.call()


def numpy_forward(x, gamma, beta, epsilon=1e-5):
    """Batch norm and ReLU."""
    axes = tuple(range(x.ndim - 1))
    mean, var = x.mean(axes), x.var(axes)
    xhat = (x - mean) / np.sqrt(var + epsilon)
    return np.maximum(gamma * xhat + beta, 0), xhat, var


def numpy_backward(dy, y, xhat, var, gamma, epsilon=1e-5):
    """Gradients of `numpy_forward`."""
    axes = tuple(range(dy.ndim - 1))
    g = np.where(y > 0, dy, 0)
    dbeta, dgamma = g.sum(axes), (g * xhat).sum(axes)
    rows = dy.size // dy.shape[-1]
    return gamma / np.sqrt(var + epsilon) * (g - dbeta / rows - xhat * (dgamma / rows)), dgamma, dbeta
