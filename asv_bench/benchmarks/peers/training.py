"""Epochs of the same networks in the peers' own words.

Adam, batch norm before ReLU, no penalty, the same batches. Each function returns a call that trains
one epoch; those on images give the last batch's loss. scikit-learn has no batch norm and does
without.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from nbbn.network import Network

from ..timed import Call
from .availability import require
from .images import jax_function, torch_modules

Hidden = tuple[int, ...]


def scikit_learn(x: np.ndarray, y: np.ndarray, hidden: Hidden, batch_size: int) -> Call:
    """Its estimator, a whole fit; the call gives it."""
    require("scikit-learn")
    from sklearn.neural_network import MLPClassifier

    def fit() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = {"batch_size": batch_size, "max_iter": 1, "alpha": 0, "random_state": 0}
            return MLPClassifier(hidden, **settings).fit(x, y)

    return fit


def torch_network(sizes: Hidden) -> Any:
    """Linear layers without bias, batch norm, ReLU; the last one linear."""
    from torch import nn

    layers: list[Any] = []
    for i in range(len(sizes) - 2):
        layers += [
            nn.Linear(sizes[i], sizes[i + 1], bias=False),
            nn.BatchNorm1d(sizes[i + 1]),
            nn.ReLU(),
        ]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


def torch_epoch(
    network: Any, x: np.ndarray, y: np.ndarray, batch_size: int, compiled: bool = False
) -> Call:
    """Fused Adam over batches gathered by a permutation: no loader before the step."""
    import torch

    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)
    optimizer = torch.optim.Adam(network.parameters(), fused=True)

    def loss_of(rows: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(network(rows), labels)

    loss = torch.compile(loss_of) if compiled else loss_of

    def epoch() -> float:
        network.train()
        order = torch.randperm(len(x))
        for start in range(0, len(x) - len(x) % batch_size, batch_size):
            batch = order[start : start + batch_size]
            optimizer.zero_grad()
            last = loss(inputs[batch], targets[batch])
            last.backward()
            optimizer.step()
        return float(last.detach())

    return epoch


def pytorch(x: np.ndarray, y: np.ndarray, hidden: Hidden, batch_size: int) -> Call:
    """Eager mode."""
    require("PyTorch")
    return torch_epoch(torch_network((x.shape[1], *hidden, int(y.max()) + 1)), x, y, batch_size)


def pytorch_compiled(x: np.ndarray, y: np.ndarray, hidden: Hidden, batch_size: int) -> Call:
    """Forward and loss compiled; needs a C++ compiler."""
    require("torch.compile")
    network = torch_network((x.shape[1], *hidden, int(y.max()) + 1))
    epoch = torch_epoch(network, x, y, batch_size, compiled=True)
    try:
        epoch()
    except Exception as error:
        why = str(error).splitlines()[0]
        raise NotImplementedError(f"torch.compile does not work here: {why}") from error
    return epoch


def jax_epoch(x: np.ndarray, y: np.ndarray, hidden: Hidden, batch_size: int) -> Call:
    """A whole epoch in one compiled scan, its state donated."""
    jax = require("JAX")
    import jax.numpy as jnp

    sizes, count = (x.shape[1], *hidden, int(y.max()) + 1), len(x) - len(x) % batch_size
    rng = np.random.default_rng(0)
    weights = [
        (rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype("f4")
        for a, b in itertools.pairwise(sizes)
    ]
    layers = [
        {"kernel": jnp.asarray(w), "gamma": jnp.ones(w.shape[1]), "beta": jnp.zeros(w.shape[1])}
        for w in weights
    ]

    def network(layers: Any, rows: Any) -> Any:
        for i, layer in enumerate(layers):
            rows = rows @ layer["kernel"]
            if i == len(layers) - 1:
                return rows + layer["beta"]
            scale = jax.lax.rsqrt(rows.var(0) + 1e-5) * layer["gamma"]
            rows = jax.nn.relu((rows - rows.mean(0)) * scale + layer["beta"])

    step = jax_step(network)

    def run(state: Any, x: Any, y: Any, order: Any) -> Any:
        return jax.lax.scan(lambda state, batch: step(state, x[batch], y[batch]), state, order)[0]

    compiled, state = jax.jit(run, donate_argnums=0), jax_state(layers)
    inputs, targets = jnp.asarray(x), jnp.asarray(y.astype("i4"))

    def epoch() -> None:
        nonlocal state
        order = rng.permutation(len(x))[:count].reshape(-1, batch_size)
        state = jax.block_until_ready(compiled(state, inputs, targets, jnp.asarray(order)))

    return epoch


def jax_state(arrays: Any) -> tuple[Any, ...]:
    """The arrays, Adam's two moments of each, and the number of steps."""
    import jax
    import jax.numpy as jnp

    zeros = (jax.tree_util.tree_map(jnp.zeros_like, arrays) for _ in range(2))
    return (arrays, *zeros, jnp.float32(0))


def jax_step(network: Callable[[Any, Any], Any]) -> Callable[..., tuple[Any, Any]]:
    """A step of Adam as a function of state, rows and labels: the state after it, the loss."""
    import jax
    import jax.numpy as jnp

    tree = jax.tree_util.tree_map

    def loss_of(arrays: Any, rows: Any, labels: Any) -> Any:
        logits = jax.nn.log_softmax(network(arrays, rows))
        return -jnp.take_along_axis(logits, labels[:, None], 1).mean()

    def step(state: Any, rows: Any, labels: Any) -> tuple[Any, Any]:
        arrays, first, second, t = state
        loss, gradient = jax.value_and_grad(loss_of)(arrays, rows, labels)
        t = t + 1
        first = tree(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
        second = tree(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
        rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
        arrays = tree(lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), arrays, first, second)
        return (arrays, first, second, t), loss

    return step


def pytorch_images(x: np.ndarray, y: np.ndarray, network: Network, batch_size: int) -> Call:
    """The network in eager mode, channels last."""
    require("PyTorch")
    channels_first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    return torch_epoch(torch_modules(network), channels_first, y, batch_size)


def jax_images(x: np.ndarray, y: np.ndarray, network: Network, batch_size: int) -> Call:
    """A compiled call a step, its state donated: in a scan convolutions run far slower."""
    jax = require("JAX")
    import jax.numpy as jnp

    apply, arrays = jax_function(network)
    step, rng = jax_step(apply), np.random.default_rng(0)
    compiled = jax.jit(lambda state, x, y, batch: step(state, x[batch], y[batch]), donate_argnums=0)
    inputs, targets, state = jnp.asarray(x), jnp.asarray(y.astype("i4")), jax_state(arrays)

    def epoch() -> float:
        nonlocal state
        order = rng.permutation(len(x))
        for start in range(0, len(x) - len(x) % batch_size, batch_size):
            batch = jnp.asarray(order[start : start + batch_size])
            state, last = compiled(state, inputs, targets, batch)
        return float(last)

    return epoch


DENSE = {
    "scikit-learn": scikit_learn,
    "PyTorch": pytorch,
    "torch.compile": pytorch_compiled,
    "JAX": jax_epoch,
}
SPARSE = {"scikit-learn": scikit_learn}
IMAGES = {"PyTorch": pytorch_images, "JAX": jax_images}
