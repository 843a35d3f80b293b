"""Layers: plain specifications that a user composes."""

from nbbn.activations import ACTIVATIONS
from nbbn.errors import LayerError
from nbbn.layers.activations import ELU, LeakyReLU, PReLU, ReLU, Softmax
from nbbn.layers.arguments import activation_name
from nbbn.layers.base import Layer, layer_from_config
from nbbn.layers.convolution import Conv2D, Conv2DTranspose, DepthwiseConv2D
from nbbn.layers.core import Activation, Dense, Input
from nbbn.layers.embedding import Embedding
from nbbn.layers.merging import (
    Add,
    Average,
    Concatenate,
    Dot,
    Maximum,
    Minimum,
    Multiply,
    Subtract,
    add,
    average,
    concatenate,
    dot,
    maximum,
    minimum,
    multiply,
    subtract,
)
from nbbn.layers.normalization import BatchNormalization, GroupNormalization, LayerNormalization
from nbbn.layers.pooling import (
    AveragePooling2D,
    GlobalAveragePooling2D,
    GlobalMaxPooling2D,
    MaxPooling2D,
)
from nbbn.layers.preprocessing import Normalization, Rescaling
from nbbn.layers.regularization import Dropout, GaussianNoise
from nbbn.layers.reshaping import Flatten, Reshape, UpSampling2D, ZeroPadding2D

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "Activation",
    "Add",
    "Average",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv2D",
    "Conv2DTranspose",
    "Dense",
    "DepthwiseConv2D",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "Input",
    "Layer",
    "LayerError",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "Multiply",
    "Normalization",
    "PReLU",
    "ReLU",
    "Rescaling",
    "Reshape",
    "Softmax",
    "Subtract",
    "UpSampling2D",
    "ZeroPadding2D",
    "activation_name",
    "add",
    "average",
    "concatenate",
    "dot",
    "layer_from_config",
    "maximum",
    "minimum",
    "multiply",
    "subtract",
]


def __dir__() -> list[str]:
    return __all__
