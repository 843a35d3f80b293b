"""From an estimator's parameters to layers, and where each layer's arrays appear among its attributes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from nbbn.estimators.mlp.parameters import Hidden
from nbbn.layers import Activation, BatchNormalization, Dense, Dropout, Layer, activation_name
from nbbn.network import Network, Weights


@dataclass(frozen=True)
class Architecture:
    """Layers of an MLP.

    Attributes
    ----------
    layers : tuple of Layer
    features : int
        Columns of the input.
    dense : tuple of int
        Index of each dense layer, the output layer last.
    norms : tuple of (int or None)
        Index of each hidden layer's batch norm.
    """

    layers: tuple[Layer, ...]
    features: int
    dense: tuple[int, ...]
    norms: tuple[int | None, ...]

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Row shape before each layer and after the last."""
        return Network(self.layers, (self.features,), [], np.dtype("float64")).shapes

    @property
    def has_norm(self) -> bool:
        """Whether any layer has batch norm."""
        return any(i is not None for i in self.norms)

    @property
    def has_dropout(self) -> bool:
        """Whether training draws random numbers."""
        return any(isinstance(layer, Dropout) for layer in self.layers)

    def network(self, weights: Weights, dtype: np.dtype) -> Network:
        """The network with these weights, checked."""
        return Network(self.layers, (self.features,), weights, dtype).check()

    def until(self, layer: int) -> int:
        """How many of the layers lead to the activations of MLP layer `layer`: 0 the input, 1 the first hidden layer."""
        return 0 if layer == 0 else (*self.dense, len(self.layers))[layer]

    def of_whole_batches(self) -> Architecture:
        """The same, its running statistics those of the last batch."""
        layers = tuple(replace(x, momentum=0.0) if isinstance(x, BatchNormalization) else x for x in self.layers)
        return replace(self, layers=layers)


def mlp(features: int, hidden: tuple[Hidden, ...], outputs: int, momentum: float, epsilon: float,
        out_activation: str) -> Architecture:
    """The layers of an MLP."""
    layers: list[Layer] = []
    dense, places = [], []
    for of in hidden:
        dense.append(len(layers))
        layers.append(Dense(of.units, use_bias=not of.norm))
        act, bn = Activation(activation_name(of.activation)), BatchNormalization(momentum=momentum, epsilon=epsilon)
        layers += {"pre": [bn, act], "post": [act, bn]}.get(of.norm, [act])
        if of.dropout:
            layers.append(Dropout(of.dropout))
        places.append(next((i for i in range(dense[-1], len(layers)) if isinstance(layers[i], BatchNormalization)), None))
    dense.append(len(layers))
    layers += [Dense(outputs), Activation(activation_name(out_activation))]
    return Architecture(tuple(layers), features, tuple(dense), tuple(places))


def initial_weights(architecture: Architecture, activations: list[str], random_state, dtype: np.dtype) -> Weights:
    """Glorot and Bengio's (2010, eq. 16) uniform kernels and biases, drawn as scikit-learn draws them; batch norms at 1 and 0.

    `activations` holds the name by which each dense layer's bound is chosen. A layer with batch norm has no bias; its draws are
    made all the same, so that both networks start from the same kernels.
    """
    weights: Weights = [{} for _ in architecture.layers]
    shapes = architecture.shapes
    for i, activation in zip(architecture.dense, activations):
        layer, fan_in = architecture.layers[i], shapes[i][0]
        bound = np.sqrt((2.0 if activation == "logistic" else 6.0) / (fan_in + layer.units))
        kernel = random_state.uniform(-bound, bound, (fan_in, layer.units))
        bias = random_state.uniform(-bound, bound, layer.units)
        weights[i]["kernel"] = kernel.astype(dtype)
        if layer.use_bias:
            weights[i]["bias"] = bias.astype(dtype)
    for i in architecture.norms:
        if i is not None:
            weights[i] = _untrained_norm(shapes[i][0], dtype)
    return weights


def _untrained_norm(units: int, dtype: np.dtype) -> dict[str, np.ndarray]:
    return {"gamma": np.ones(units, dtype), "beta": np.zeros(units, dtype), "mean": np.zeros(units, dtype),
            "var": np.ones(units, dtype)}


NORM_ATTRIBUTES = {"gammas_": "gamma", "betas_": "beta", "running_means_": "mean", "running_vars_": "var"}


def attributes(architecture: Architecture, weights: Weights) -> dict[str, list]:
    """`coefs_`, `intercepts_` and the batch norms' attributes."""
    coefs = [weights[i]["kernel"] for i in architecture.dense]
    biases = [weights[i].get("bias", np.zeros(k.shape[1], k.dtype)) for i, k in zip(architecture.dense, coefs)]
    norms = {
        attribute: [None if i is None else weights[i][name] for i in architecture.norms]
        for attribute, name in NORM_ATTRIBUTES.items()
    }
    return {"coefs_": coefs, "intercepts_": biases, **norms}


def collect(estimator, architecture: Architecture, dtype: np.dtype) -> Weights:
    """The weights that the estimator's attributes hold; an untrained batch norm where it has none."""
    weights: Weights = [{} for _ in architecture.layers]
    for i, kernel, bias in zip(architecture.dense, estimator.coefs_, estimator.intercepts_):
        weights[i]["kernel"] = np.asarray(kernel, dtype)
        if architecture.layers[i].use_bias:
            weights[i]["bias"] = np.asarray(bias, dtype)
    for h, i in enumerate(architecture.norms):
        if i is not None:
            weights[i] = _untrained_norm(architecture.shapes[i][0], dtype)
            for attribute, name in NORM_ATTRIBUTES.items():
                if held := getattr(estimator, attribute, None):
                    weights[i][name] = np.asarray(held[h], dtype)
    return weights
