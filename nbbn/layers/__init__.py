"""Layers: plain specifications that a user composes."""

from nbbn.layers.base import Layer, LayerError, layer_from_config
from nbbn.layers.core import ACTIVATIONS, Activation, Dense, activation_name
from nbbn.layers.normalization import BatchNormalization

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "BatchNormalization",
    "Dense",
    "Layer",
    "LayerError",
    "activation_name",
    "layer_from_config",
]
