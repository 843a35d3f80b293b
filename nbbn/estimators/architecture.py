"""From an estimator's parameters to layers, and where each layer's arrays appear among its attributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.layers import Activation, BatchNormalization, Dense, Layer, activation_name
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


def mlp(features: int, hidden: list[int], outputs: int, activation: str, norms: list, momentum: float, epsilon: float,
        out_activation: str) -> Architecture:
    """The layers of an MLP; `norms` holds `"pre"`, `"post"` or False for each hidden layer."""
    layers: list[Layer] = []
    dense, places = [], []
    for units, norm in zip(hidden, norms):
        dense.append(len(layers))
        layers.append(Dense(units, use_bias=not norm))
        act, bn = Activation(activation_name(activation)), BatchNormalization(momentum=momentum, epsilon=epsilon)
        layers += {"pre": [bn, act], "post": [act, bn]}.get(norm, [act])
        places.append(next((i for i in range(dense[-1], len(layers)) if isinstance(layers[i], BatchNormalization)), None))
    dense.append(len(layers))
    layers += [Dense(outputs), Activation(activation_name(out_activation))]
    return Architecture(tuple(layers), features, tuple(dense), tuple(places))


def initial_weights(architecture: Architecture, activation: str, random_state, dtype: np.dtype) -> Weights:
    """Glorot and Bengio's (2010, eq. 16) uniform kernels and biases, drawn as scikit-learn draws them; batch norms at 1 and 0.

    A layer with batch norm has no bias; its draws are made all the same, so that both networks start from the same kernels.
    """
    weights: Weights = [{} for _ in architecture.layers]
    shapes = architecture.shapes
    factor = 2.0 if activation == "logistic" else 6.0
    for i in architecture.dense:
        layer, fan_in = architecture.layers[i], shapes[i][0]
        bound = np.sqrt(factor / (fan_in + layer.units))
        kernel = random_state.uniform(-bound, bound, (fan_in, layer.units))
        bias = random_state.uniform(-bound, bound, layer.units)
        weights[i]["kernel"] = kernel.astype(dtype)
        if layer.use_bias:
            weights[i]["bias"] = bias.astype(dtype)
    for i in architecture.norms:
        if i is not None:
            c = shapes[i][0]
            weights[i] = {"gamma": np.ones(c, dtype), "beta": np.zeros(c, dtype), "mean": np.zeros(c, dtype),
                          "var": np.ones(c, dtype)}
    return weights


NORM_ATTRIBUTES = {"gammas_": "gamma", "betas_": "beta", "running_means_": "mean", "running_vars_": "var"}


def publish(estimator, architecture: Architecture, weights: Weights) -> None:
    """Set `coefs_`, `intercepts_` and the batch norms' attributes."""
    estimator.coefs_ = [weights[i]["kernel"] for i in architecture.dense]
    estimator.intercepts_ = [
        weights[i].get("bias", np.zeros(k.shape[1], k.dtype)) for i, k in zip(architecture.dense, estimator.coefs_)
    ]
    for attribute, name in NORM_ATTRIBUTES.items():
        setattr(estimator, attribute, [None if i is None else weights[i][name] for i in architecture.norms])


def collect(estimator, architecture: Architecture, dtype: np.dtype) -> Weights:
    """The weights that the estimator's attributes hold."""
    weights: Weights = [{} for _ in architecture.layers]
    for i, kernel, bias in zip(architecture.dense, estimator.coefs_, estimator.intercepts_):
        weights[i]["kernel"] = np.asarray(kernel, dtype)
        if architecture.layers[i].use_bias:
            weights[i]["bias"] = np.asarray(bias, dtype)
    for h, i in enumerate(architecture.norms):
        if i is not None:
            weights[i] = {name: np.asarray(getattr(estimator, a)[h], dtype) for a, name in NORM_ATTRIBUTES.items()}
    return weights
