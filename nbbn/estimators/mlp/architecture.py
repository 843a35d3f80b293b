"""From an estimator's parameters to layers, and where their arrays stand among its attributes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbbn.estimators.mlp.rules import Hidden
from nbbn.layers import Activation, Add, BatchNormalization, Dense, Dropout, Layer, activation_name
from nbbn.network import Call, Graph, Network, Weights
from nbbn.operations import BatchNorm, Computation


@dataclass(frozen=True)
class Architecture:
    """Layers of an MLP."""

    layers: tuple[Layer, ...]
    features: int  # columns of the input
    dense: tuple[int, ...]  # index of each dense layer, the output layer last
    norms: tuple[int | None, ...]  # index of each hidden layer's batch norm
    graph: Graph | None = None  # of layers with shortcuts, each called once, in order

    @property
    def computation(self) -> Computation:
        """What is computed in training."""
        return self._bare.computation(training=True)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Row shape before each layer and after the last."""
        return [(self.features,), *(after for _, after in self._bare.layer_shapes)]

    @property
    def _bare(self) -> Network:
        """The network without its weights."""
        return Network(self.layers, (self.features,), [], np.dtype("float64"), self.graph)

    @property
    def has_norm(self) -> bool:
        """Whether any layer has batch norm."""
        return any(i is not None for i in self.norms)

    def network(self, weights: Weights, dtype: np.dtype) -> Network:
        """The network with these weights, checked."""
        return Network(self.layers, (self.features,), weights, dtype, self.graph).check()

    def is_of(self, network: Network) -> bool:
        """Whether a network has these layers, and they read each other as these do."""
        return self.layers == network.layers and self.graph == network.graph

    def leading_to(self, layer: int, network: Network) -> Network:
        """The part of `network`, one of these layers, that leads to an MLP layer."""
        end, graph = self.until(layer), self.graph
        if graph is not None:
            graph = Graph(graph.calls[:end], graph.inputs, (end - 1,)) if end else None
        return Network(network.layers[:end], network.input_shape, network.weights[:end],
                       network.dtype, graph)

    def until(self, layer: int) -> int:
        """How many of the layers lead to MLP layer `layer`: 0 the input, 1 the first hidden one."""
        return 0 if layer == 0 else (*self.dense, len(self.layers))[layer]

    @property
    def of_whole_batches(self) -> Computation:
        """What is computed in training, the running statistics those of the last batch."""
        whole = self.computation
        return replace(whole, steps=tuple(
            replace(step, operation=replace(step.operation, momentum=0.0))
            if isinstance(step.operation, BatchNorm) else step for step in whole.steps))


def mlp(features: int, hidden: tuple[Hidden, ...], outputs: int, momentum: float, epsilon: float,
        out_activation: str) -> Architecture:
    """The layers of an MLP."""
    layers: list[Layer] = []
    dense: list[int] = []
    norms: list[int | None] = []
    shortcuts: dict[int, int] = {}  # by each Add, the layer whose result it adds to the one before
    for of in hidden:
        before = len(layers) - 1
        dense.append(len(layers))
        layers.append(Dense(of.units, use_bias=not of.norm))
        act = Activation(activation_name(of.activation))
        norm = BatchNormalization(momentum=momentum, epsilon=epsilon)
        added: list[Layer] = {"pre": [norm, act], "post": [act, norm]}.get(of.norm, [act])
        norms.append(len(layers) + added.index(norm) if of.norm else None)
        layers += added
        if of.dropout:
            layers.append(Dropout(of.dropout))
        if of.shortcut:
            shortcuts[len(layers)] = before
            layers.append(Add())
    dense.append(len(layers))
    layers += [Dense(outputs), Activation(activation_name(out_activation))]
    return Architecture(tuple(layers), features, tuple(dense), tuple(norms),
                        _with_shortcuts(len(layers), shortcuts, features) if shortcuts else None)


def _with_shortcuts(count: int, shortcuts: dict[int, int], features: int) -> Graph:
    """A chain of layers, some of which read an earlier one besides."""
    calls = tuple(Call(i, (shortcuts[i], i - 1) if i in shortcuts else (i - 1,))
                  for i in range(count))
    return Graph(calls, ((features,),), (count - 1,))


# Of what a hidden layer adds to a shortcut, how much there is at the start. On six tables of
# scripts/defaults.py, with 4 and with 8 hidden layers, training ends at a lower loss with 0.1 than
# with 0.3 or 1, and it scores better; 0 would leave a ReLU's units of a negative beta dead.
_OF_SHORTCUT = 0.1


def initial_weights(architecture: Architecture, activations: Sequence[str],
                    random_state: np.random.RandomState, dtype: np.dtype, *,
                    at_mean: bool) -> Weights:
    """Glorot and Bengio's (2010, eq. 16) uniform kernels and biases, drawn as scikit-learn does.

    `activations` holds the name by which each dense layer's bound is chosen. Batch norm takes the
    scale and the bias of the layer away that it follows, and has them as gamma and beta: gamma
    starts at the standard deviation that the layer's kernel would give to rows of uncorrelated
    columns of variance 1, beta at the layer's draws for a bias; beside a shortcut both at a tenth
    of that, so that a deep network starts near a shallow one (Goyal et al., 2017, start at 0). With
    `at_mean` the output layer starts at 0, the mean of standardised targets.
    """
    weights: Weights = [{} for _ in architecture.layers]
    _add_norms(architecture, weights, dtype)
    shapes = architecture.shapes
    for i, norm, activation in zip(architecture.dense, (*architecture.norms, None), activations):
        fan_in, units = shapes[i][0], shapes[i + 1][0]
        bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + units))
        kernel = random_state.uniform(-bound, bound, (fan_in, units))
        bias = random_state.uniform(-bound, bound, units)
        weights[i]["kernel"] = kernel.astype(dtype)
        if "bias" in architecture.layers[i].weight_shapes(shapes[i]):
            weights[i]["bias"] = bias.astype(dtype)
        if norm is not None:
            part = _OF_SHORTCUT if architecture.graph is not None and i > 0 else 1.0
            weights[norm]["gamma"] = np.full(units, part * bound * np.sqrt(fan_in / 3), dtype)
            weights[norm]["beta"] = (part * bias).astype(dtype)
    if at_mean:
        output = architecture.dense[-1]
        weights[output] = {name: np.zeros_like(a) for name, a in weights[output].items()}
    return weights


def _add_norms(architecture: Architecture, weights: Weights, dtype: np.dtype) -> None:
    """Batch norms before any training."""
    shapes = architecture.shapes
    for i in architecture.norms:
        if i is not None:
            ones, zeros = np.ones(shapes[i][0], dtype), np.zeros(shapes[i][0], dtype)
            weights[i] = {"gamma": ones, "beta": zeros, "mean": zeros.copy(), "var": ones.copy()}


NORM_ATTRIBUTES = {"gammas_": "gamma", "betas_": "beta", "running_means_": "mean",
                   "running_vars_": "var"}


def attributes(architecture: Architecture, weights: Weights) -> dict[str, list[Any]]:
    """`coefs_`, `intercepts_` and the batch norms' attributes."""
    coefs = [weights[i]["kernel"] for i in architecture.dense]
    zeros = (np.zeros(kernel.shape[1], kernel.dtype) for kernel in coefs)
    biases = [weights[i].get("bias", zero) for i, zero in zip(architecture.dense, zeros)]
    norms = {attribute: [None if i is None else weights[i][name] for i in architecture.norms]
             for attribute, name in NORM_ATTRIBUTES.items()}
    return {"coefs_": coefs, "intercepts_": biases, **norms}


def collect(estimator: Any, architecture: Architecture, dtype: np.dtype) -> Weights:
    """The weights in an estimator's attributes; an untrained batch norm where it has none."""
    weights: Weights = [{} for _ in architecture.layers]
    for i, kernel, bias in zip(architecture.dense, estimator.coefs_, estimator.intercepts_):
        weights[i]["kernel"] = np.asarray(kernel, dtype)
        if "bias" in architecture.layers[i].weight_shapes((len(kernel),)):
            weights[i]["bias"] = np.asarray(bias, dtype)
    _add_norms(architecture, weights, dtype)
    for h, norm in enumerate(architecture.norms):
        for attribute, name in NORM_ATTRIBUTES.items():
            if norm is not None and (held := getattr(estimator, attribute, None)):
                weights[norm][name] = np.asarray(held[h], dtype)
    return weights
