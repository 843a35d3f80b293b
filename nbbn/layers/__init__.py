"""Layers: plain specifications that a user composes."""

from typing import Any

from nbbn import names_of_keras
from nbbn.activations import ACTIVATIONS
from nbbn.errors import LayerError
from nbbn.layers.activations import ELU, LeakyReLU, PReLU, ReLU, Softmax
from nbbn.layers.arguments import activation_name
from nbbn.layers.base import Layer, layer_from_config
from nbbn.layers.convolution import Conv1D, Conv1DTranspose, Conv2D, Conv2DTranspose
from nbbn.layers.core import Activation, Dense, Input
from nbbn.layers.depthwise import (
    DepthwiseConv1D,
    DepthwiseConv2D,
    SeparableConv1D,
    SeparableConv2D,
)
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
    AveragePooling1D,
    AveragePooling2D,
    GlobalAveragePooling1D,
    GlobalAveragePooling2D,
    GlobalMaxPooling1D,
    GlobalMaxPooling2D,
    MaxPooling1D,
    MaxPooling2D,
)
from nbbn.layers.preprocessing import Normalization, Rescaling
from nbbn.layers.regularization import (
    Dropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
)
from nbbn.layers.reshaping import (
    Cropping1D,
    Cropping2D,
    Flatten,
    Permute,
    RepeatVector,
    Reshape,
    UpSampling1D,
    UpSampling2D,
    ZeroPadding1D,
    ZeroPadding2D,
)

__all__ = [
    "ACTIVATIONS",
    "ELU",
    "Activation",
    "Add",
    "Average",
    "AveragePooling1D",
    "AveragePooling2D",
    "BatchNormalization",
    "Concatenate",
    "Conv1D",
    "Conv1DTranspose",
    "Conv2D",
    "Conv2DTranspose",
    "Cropping1D",
    "Cropping2D",
    "Dense",
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "Dot",
    "Dropout",
    "Embedding",
    "Flatten",
    "GaussianNoise",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "GroupNormalization",
    "Input",
    "Layer",
    "LayerError",
    "LayerNormalization",
    "LeakyReLU",
    "MaxPooling1D",
    "MaxPooling2D",
    "Maximum",
    "Minimum",
    "Multiply",
    "Normalization",
    "PReLU",
    "Permute",
    "ReLU",
    "RepeatVector",
    "Rescaling",
    "Reshape",
    "SeparableConv1D",
    "SeparableConv2D",
    "Softmax",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "Subtract",
    "UpSampling1D",
    "UpSampling2D",
    "ZeroPadding1D",
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


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
