"""Epochs of the same networks in the peers' own words.

Adam, batch norm before ReLU, no penalty, the same batches. Each function returns a call that trains
one epoch. scikit-learn has no batch norm and does without.
"""

from __future__ import annotations

import itertools
import warnings
from typing import Any

import numpy as np

from ..timed import Call
from .availability import require

Hidden = tuple[int, ...]


def scikit_learn(x: np.ndarray, y: np.ndarray, hidden: Hidden, batch_size: int) -> Call:
    """Its estimator, a whole fit."""
    require("scikit-learn")
    from sklearn.neural_network import MLPClassifier

    def fit() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            settings = {"batch_size": batch_size, "max_iter": 1, "alpha": 0, "random_state": 0}
            MLPClassifier(hidden, **settings).fit(x, y)

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

    def epoch() -> None:
        network.train()
        order = torch.randperm(len(x))
        for start in range(0, len(x) - len(x) % batch_size, batch_size):
            batch = order[start : start + batch_size]
            optimizer.zero_grad()
            loss(inputs[batch], targets[batch]).backward()
            optimizer.step()

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
    rng, tree = np.random.default_rng(0), jax.tree_util.tree_map
    weights = [
        (rng.standard_normal((a, b)) * np.sqrt(2 / a)).astype("f4")
        for a, b in itertools.pairwise(sizes)
    ]
    layers = [
        {"kernel": jnp.asarray(w), "gamma": jnp.ones(w.shape[1]), "beta": jnp.zeros(w.shape[1])}
        for w in weights
    ]

    def loss_of(layers: Any, rows: Any, labels: Any) -> Any:
        for i, layer in enumerate(layers):
            rows = rows @ layer["kernel"]
            if i == len(layers) - 1:
                rows = rows + layer["beta"]
            else:
                scale = jax.lax.rsqrt(rows.var(0) + 1e-5) * layer["gamma"]
                rows = jax.nn.relu((rows - rows.mean(0)) * scale + layer["beta"])
        return -jnp.take_along_axis(jax.nn.log_softmax(rows), labels[:, None], 1).mean()

    def run(state: Any, x: Any, y: Any, order: Any) -> Any:
        def step(state: Any, batch: Any) -> tuple[Any, None]:
            layers, first, second, t = state
            gradient = jax.grad(loss_of)(layers, x[batch], y[batch])
            t = t + 1
            first = tree(lambda m, g: 0.9 * m + 0.1 * g, first, gradient)
            second = tree(lambda v, g: 0.999 * v + 0.001 * g * g, second, gradient)
            rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
            layers = tree(
                lambda p, m, v: p - rate * m / (jnp.sqrt(v) + 1e-8), layers, first, second
            )
            return (layers, first, second, t), None

        return jax.lax.scan(step, state, order)[0]

    compiled = jax.jit(run, donate_argnums=0)
    state = (layers, tree(jnp.zeros_like, layers), tree(jnp.zeros_like, layers), jnp.float32(0))
    inputs, targets = jnp.asarray(x), jnp.asarray(y.astype("i4"))

    def epoch() -> None:
        nonlocal state
        order = rng.permutation(len(x))[:count].reshape(-1, batch_size)
        state = jax.block_until_ready(compiled(state, inputs, targets, jnp.asarray(order)))

    return epoch


def pytorch_images(x: np.ndarray, y: np.ndarray, filters: Hidden, batch_size: int) -> Call:
    """The README's convolutional network, channels last."""
    torch = require("PyTorch")
    from torch import nn

    layers, side, deep = list[Any](), x.shape[1], x.shape[3]
    for wide in filters:
        layers += [nn.Conv2d(deep, wide, 3), nn.BatchNorm2d(wide), nn.ReLU(), nn.MaxPool2d(2)]
        deep, side = wide, (side - 2) // 2
    layers += [nn.Flatten(), nn.Linear(deep * side * side, 64), nn.BatchNorm1d(64), nn.ReLU()]
    network = nn.Sequential(*layers, nn.Linear(64, int(y.max()) + 1)).to(
        memory_format=torch.channels_last
    )
    channels_first = np.ascontiguousarray(np.moveaxis(x, -1, 1))
    return torch_epoch(network, channels_first, y, batch_size)


DENSE = {
    "scikit-learn": scikit_learn,
    "PyTorch": pytorch,
    "torch.compile": pytorch_compiled,
    "JAX": jax_epoch,
}
IMAGES = {"PyTorch": pytorch_images}
