"""An ONNX graph in the making, and the values in it: which of them are images that stand channels first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nbbn.layers.base import Shape


@dataclass(frozen=True)
class Value:
    """What a node puts out.

    Attributes
    ----------
    name : str
        Its name in the graph.
    shape : tuple of int
        Shape of one row as the network has it, channels last.
    image : tuple of int or None
        None: the array is `(n, *shape)`. Else the `(height, width, channels)` of an image that stands channels first: the
        array is `(n, channels, height, width)`, or that flattened where `shape` has one axis.
    """

    name: str
    shape: Shape
    image: Shape | None = None

    def called(self, name: str) -> Value:
        """A value of the same shape and layout."""
        return replace(self, name=name)

    def axis(self, row_axis: int) -> int:
        """The array's axis that an axis of the row's shape is."""
        return (2, 3, 1)[row_axis] if self.image and len(self.shape) == 3 else row_axis + 1

    def spread(self, array: np.ndarray, axes: Sequence[int]) -> np.ndarray:
        """An array along some axes of the row's shape, ascending, in a shape that broadcasts with this value's."""
        array = array.reshape([n if k in axes else 1 for k, n in enumerate(self.shape)])
        if len(self.shape) == 1:
            return self.features_first(array)
        return array.transpose(2, 0, 1) if self.image else array

    def features_first(self, array: np.ndarray) -> np.ndarray:
        """An array whose first axis is that of this value's features, in their order."""
        if self.image is None:
            return array
        return array[np.arange(len(array)).reshape(self.image).transpose(2, 0, 1).reshape(-1)]


class Graph:
    """Nodes and constants of an ONNX graph; values are referred to by name.

    Parameters
    ----------
    onnx : module
        The package onnx.
    dtype : numpy.dtype
        What the network computes in.
    opset : int
        Version of the operators; who adds one that is newer raises it.
    """

    def __init__(self, onnx, dtype: np.dtype, opset: int):
        self.onnx = onnx
        self.dtype = dtype
        self.opset = opset
        self.element = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes = []
        self.constants = []

    @property
    def single(self) -> bool:
        """Whether it computes in float32: attributes are float32, and so are most kernels of runtimes."""
        return self.dtype == np.float32

    def constant(self, array: np.ndarray) -> str:
        """A constant, as it is."""
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def number(self, value: float) -> str:
        """A number of the network's dtype."""
        return self.constant(np.array(value, self.dtype))

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes) -> str:
        """A node of one output; returns the output's name."""
        output = output or f"v{len(self.nodes)}"
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def reshape(self, name: str, row: Sequence[int]) -> str:
        """The rows `name` in another shape."""
        return self.add("Reshape", name, self.constant(np.array([0, *row], np.int64)))

    def channels_first(self, x: Value) -> Value:
        """An image `(n, channels, height, width)`."""
        if x.image:
            return x
        height, width, channels = x.shape
        if moves(x.shape):
            name = self.add("Transpose", x.name, perm=[0, 3, 1, 2])
        else:
            name = self.reshape(x.name, (channels, height, width))
        return Value(name, x.shape, x.shape)

    def channels_last(self, x: Value) -> Value:
        """Rows as the network has them."""
        if x.image is None:
            return x
        height, width, channels = x.image
        flat = len(x.shape) == 1
        name = self.reshape(x.name, (channels, height, width)) if flat else x.name
        if moves(x.image):
            name = self.add("Transpose", name, perm=[0, 2, 3, 1])
        else:
            name = self.reshape(name, x.image)
        return Value(self.add("Flatten", name, axis=1) if flat else name, x.shape)

    def flatten(self, x: Value) -> Value:
        """Rows of one axis."""
        if len(x.shape) == 1:
            return x
        image = x.image if x.image and moves(x.image) else None
        return Value(self.add("Flatten", x.name, axis=1), (int(np.prod(x.shape)),), image)


def moves(image: Shape) -> bool:
    """Whether an image's values change places where its channels come first."""
    height, width, channels = image
    return channels > 1 and height * width > 1
