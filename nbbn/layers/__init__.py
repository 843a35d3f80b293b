"""Layers: plain specifications that a user composes."""

from typing import Any

from nbbn import names_of_keras
from nbbn.activations import ACTIVATIONS
from nbbn.errors import LayerError
from nbbn.layers.activations import ELU, LeakyReLU, ReLU, Softmax
from nbbn.layers.arguments import activation_name
from nbbn.layers.base import Layer, layer_from_config
from nbbn.layers.convolution import Conv2D, Conv2DTranspose, DepthwiseConv2D
from nbbn.layers.core import Activation, Dense, Input
from nbbn.layers.merging import (
    Add,
    Average,
    Concatenate,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
)
from nbbn.layers.normalization import BatchNormalization, GroupNormalization, LayerNormalization
from nbbn.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from nbbn.layers.regularization import Dropout, GaussianNoise
from nbbn.layers.reshaping import Flatten, Reshape, UpSampling2D, ZeroPadding2D

__all__ = [
    "ACTIVATIONS", "ELU", "Activation", "Add", "Average", "AveragePooling2D", "BatchNormalization",
    "Concatenate", "Conv2D", "Conv2DTranspose", "Dense", "DepthwiseConv2D", "Dropout", "Flatten",
    "GaussianNoise", "GlobalAveragePooling2D", "GlobalMaxPooling2D", "GroupNormalization", "Input",
    "Layer", "LayerError", "LayerNormalization", "LeakyReLU", "MaxPooling2D", "Maximum", "Minimum",
    "Multiply", "ReLU", "Reshape", "Softmax", "Subtract", "UpSampling2D", "ZeroPadding2D",
    "activation_name", "layer_from_config",
]


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
