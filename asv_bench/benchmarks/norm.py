"""Batch norm alone: forward, backward and inference with ReLU, and the same formulas in NumPy."""

import numpy as np

from nbbn.functional import batch_norm_backward, batch_norm_inference, batch_norm_train

SHAPES = [(32, 128), (256, 512), (8192, 256), (65536, 256), (32, 28, 28, 32)]


def numpy_forward(x, gamma, beta, epsilon=1e-5):
    """Batch norm and ReLU as one would write them."""
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


class _Inputs:
    params = (SHAPES, ["float32", "float64"])
    param_names = ("shape", "dtype")

    def setup(self, shape, dtype):
        rng = np.random.default_rng(7)
        channels = shape[-1]
        self.x = rng.standard_normal(shape).astype(dtype)
        self.dy = rng.standard_normal(shape).astype(dtype)
        self.gamma = rng.uniform(0.5, 2, channels).astype(dtype)
        self.beta = rng.standard_normal(channels).astype(dtype)
        self.out = np.empty_like(self.x)
        self.warm()


class Forward(_Inputs):
    """Training: statistics, normalisation and ReLU."""

    version = "1"

    def warm(self):
        self.time_nbbn()

    def time_nbbn(self, *_):
        batch_norm_train(self.x, self.gamma, self.beta, activation="relu", out=self.out)


class Backward(_Inputs):
    """Gradients of input, gamma and beta behind a ReLU."""

    version = "1"

    def warm(self):
        _, self.cache = batch_norm_train(self.x, self.gamma, self.beta, activation="relu")
        self.time_nbbn()

    def time_nbbn(self, *_):
        batch_norm_backward(self.dy, self.cache, out=self.out)


class Inference(_Inputs):
    """Running statistics and ReLU."""

    version = "1"

    def warm(self):
        self.mean, self.var = np.zeros_like(self.gamma), np.ones_like(self.gamma)
        self.time_nbbn()

    def time_nbbn(self, *_):
        batch_norm_inference(self.x, self.gamma, self.beta, self.mean, self.var, activation="relu", out=self.out)


class NumPy(_Inputs):
    """The formulas in NumPy, to compare with."""

    version = "1"

    def warm(self):
        self.y, self.xhat, self.var = numpy_forward(self.x, self.gamma, self.beta)

    def time_forward(self, *_):
        numpy_forward(self.x, self.gamma, self.beta)

    def time_backward(self, *_):
        numpy_backward(self.dy, self.y, self.xhat, self.var, self.gamma)
