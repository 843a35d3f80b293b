"""Batch norm and ReLU in the peers' fastest form.

Each function returns a call that gives what nbbn's gives. `inputs` has x, dy, gamma, beta, mean and
var, channels last; `direction` is "forward", "forward, backward" or "inference".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..norm import Inputs
from ..timed import Call
from .availability import require


def pytorch(inputs: Inputs, direction: str) -> Call:
    """The operations themselves with every output allocated beforehand.

    Images have the strides of channels last.
    """
    torch = require("PyTorch")
    ops, x, dy = torch.ops.aten, tensor(torch, inputs.x), tensor(torch, inputs.dy)
    gamma, beta = torch.from_numpy(inputs.gamma), torch.from_numpy(inputs.beta)
    mean, var = torch.from_numpy(inputs.mean.copy()), torch.from_numpy(inputs.var.copy())
    y, g, dx = torch.empty_like(x), torch.empty_like(x), torch.empty_like(x)
    saved, inverse, dgamma, dbeta = (torch.empty_like(gamma) for _ in range(4))
    training = direction != "inference"

    def run() -> np.ndarray:
        ops.native_batch_norm.out(
            x, gamma, beta, mean, var, training, 0.1, 1e-5,
            out=y, save_mean=saved, save_invstd=inverse,
        )  # fmt: skip
        torch.relu_(y)
        if direction != "forward, backward":
            return channels_last(y)
        ops.threshold_backward.grad_input(dy, y, 0, grad_input=g)
        ops.native_batch_norm_backward.out(
            g, x, gamma, mean, var, saved, inverse, True, 1e-5, [True, True, True],
            out0=dx, out1=dgamma, out2=dbeta,
        )  # fmt: skip
        return channels_last(dx)

    return run


def tensor(torch: Any, array: np.ndarray) -> Any:
    """A view of the array, channels second."""
    return torch.from_numpy(array if array.ndim == 2 else np.moveaxis(array, -1, 1))


def channels_last(y: Any) -> np.ndarray:
    """A NumPy view, channels last."""
    return np.moveaxis(y.numpy(), 1, -1)


def jax_compiled(inputs: Inputs, direction: str) -> Call:
    """One compiled function; forward and backward together through `jax.vjp`."""
    jax = require("JAX")
    import jax.numpy as jnp

    own = [
        jnp.asarray(a)
        for a in (inputs.x, inputs.gamma, inputs.beta, inputs.mean, inputs.var, inputs.dy)
    ]
    axes = tuple(range(inputs.x.ndim - 1))

    def norm(x: Any, gamma: Any, beta: Any) -> Any:
        mean, var = x.mean(axes), x.var(axes)
        return jax.nn.relu((x - mean) * (jax.lax.rsqrt(var + 1e-5) * gamma) + beta)

    def both(x: Any, gamma: Any, beta: Any, mean: Any, var: Any, dy: Any) -> tuple[Any, ...]:
        y, back = jax.vjp(norm, x, gamma, beta)
        dx, dgamma, dbeta = back(dy)
        return dx, y, dgamma, dbeta

    programs: dict[str, Callable[..., Any]] = {
        "forward": lambda x, gamma, beta, *_: (norm(x, gamma, beta),),
        "forward, backward": both,
        "inference": lambda x, gamma, beta, mean, var, _: (
            jax.nn.relu((x - mean) * (jax.lax.rsqrt(var + 1e-5) * gamma) + beta),
        ),
    }
    compiled = jax.jit(programs[direction])
    return lambda: np.asarray(jax.block_until_ready(compiled(*own))[0])


NORM = {"PyTorch": pytorch, "JAX": jax_compiled}
