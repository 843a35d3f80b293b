"""An ONNX graph in the making, and its values: where an axis of a row stands in the array."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any

import numpy as np

from nbbn.operations import Shape

CHANNELS_FIRST = (2, 0, 1)


@dataclass(frozen=True)
class Value:
    """What a node puts out: an array of sizes `dims` behind the batch.

    `groups` says of which axes of the array, in C order, each axis of a row is made. So other
    orders of a row's axes, and ones that are joined where the array has them apart, are only noted,
    and made where an operator needs them. In a `flat` array all axes are one: `(n, numbers)`.
    """

    name: str
    dims: Shape
    groups: tuple[tuple[int, ...], ...]
    flat: bool = False

    @classmethod
    def ordered(cls, name: str, row: Shape, order: Sequence[int] | None = None) -> Value:
        """An array whose axes are a row's, or these in another order."""
        order = tuple(range(len(row)) if order is None else order)
        dims = tuple(row[k] for k in order)
        return cls(name, dims, tuple((order.index(k),) for k in range(len(order))))

    @property
    def shape(self) -> Shape:
        """Shape of one row as the network has it, channels last."""
        return tuple(math.prod(self.dims[a] for a in group) for group in self.groups)

    def called(self, name: str) -> Value:
        """A value of the same shape and layout."""
        return replace(self, name=name)

    def stands(self, order: Sequence[int]) -> bool:
        """Whether the array's axes are the row's in this order."""
        return not self.flat and self.groups == Value.ordered("", self.shape, order).groups

    @property
    def plain(self) -> bool:
        """Whether the array is rows as the network has them."""
        return self.stands(range(len(self.groups)))

    @property
    def channels_first(self) -> bool:
        """Whether the array is images `(n, channels, height, width)`."""
        return len(self.groups) == 3 and self.stands(CHANNELS_FIRST)

    def permuted(self, order: Sequence[int]) -> Value:
        """The row's axes in another order."""
        return replace(self, groups=tuple(self.groups[k] for k in order))

    def regrouped(self, shape: Shape) -> Value | None:
        """Rows of another shape; None where that has an axis of the array in parts."""
        axes, groups = [a for group in self.groups for a in group], list[list[int]]()
        for n in shape:
            group: list[int] = []
            while axes and self._size(group) < n:
                group.append(axes.pop(0))
            if n == 1 and axes and self.dims[axes[0]] == 1:
                group.append(axes.pop(0))
            if self._size(group) != n:
                return None
            groups.append(group)
        groups[-1] += axes  # of length 1
        return replace(self, groups=tuple(map(tuple, groups)))

    def _size(self, axes: Sequence[int]) -> int:
        return math.prod(self.dims[a] for a in axes)

    def along_last(self, array: np.ndarray) -> np.ndarray:
        """An array along the row's last axis, in a shape and order that broadcast with this one.

        Axes behind the first stay behind.
        """
        group, rest = self.groups[-1], array.shape[1:]
        turned = array.reshape(*(self.dims[a] for a in group), *rest).transpose(
            *np.argsort(group), *range(len(group), len(group) + len(rest))
        )
        if self.flat:
            return turned.reshape(array.shape)
        return turned.reshape(*(n if a in group else 1 for a, n in enumerate(self.dims)), *rest)


class GraphWriter:
    """Nodes and constants of an ONNX graph; values are referred to by name, `taken` are others.

    Who adds an operator of a newer opset than it has raises that.
    """

    def __init__(self, onnx: ModuleType, dtype: np.dtype, opset: int, taken: Sequence[str] = ()):
        self.onnx, self.dtype, self.opset, self._taken = onnx, dtype, opset, {*taken}
        self.element: int = onnx.helper.np_dtype_to_tensor_dtype(dtype)
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    @property
    def single(self) -> bool:
        """Whether it computes in float32, as attributes and most kernels of runtimes do."""
        return self.dtype == np.float32

    def constant(self, array: np.ndarray) -> str:
        """A constant, as it is."""
        name = self._free(f"c{len(self.constants)}")
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def _free(self, name: str) -> str:
        while name in self._taken:
            name += "_"
        return name

    def number(self, value: float) -> str:
        """A number of the network's dtype."""
        return self.constant(np.array(value, self.dtype))

    def integers(self, values: Sequence[int]) -> str:
        """Whole numbers."""
        return self.constant(np.array(values, np.int64))

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        """A node of one output; returns the output's name."""
        output = output or self._free(f"v{len(self.nodes)}")
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], **attributes))
        return output

    def reshape(self, name: str, row: Sequence[int]) -> str:
        """The rows `name` in another shape."""
        if len(row) == 1:
            return self.add("Flatten", name, axis=1)
        return self.add("Reshape", name, self.integers([0, *row]))

    def arranged(self, x: Value, order: Sequence[int]) -> Value:
        """An array whose axes are the row's in this order."""
        if x.stands(order):
            return x
        name, dims = x.name, x.dims
        axes = [a for k in order for a in x.groups[k]]
        moved = [a for a in axes if x.dims[a] > 1]
        if moved != sorted(moved):
            name = self.reshape(name, dims) if x.flat else name
            name = self.add("Transpose", name, perm=[0, *(a + 1 for a in axes)])
            dims = tuple(x.dims[a] for a in axes)
        y = Value.ordered(name, x.shape, order)
        done = moved != sorted(moved) and dims == y.dims
        return y if done else y.called(self.reshape(name, y.dims))

    def plain(self, x: Value) -> Value:
        """Rows as the network has them."""
        return self.arranged(x, range(len(x.groups)))

    def images(self, x: Value) -> Value:
        """Images `(n, channels, height, width)`."""
        return self.arranged(x, CHANNELS_FIRST)

    def features(self, x: Value) -> Value:
        """Rows of one axis, of images in the order that they have channels first."""
        if x.flat or len(x.dims) == 1:
            return x
        if x.groups[0] not in ((1, 2, 0), tuple(range(len(x.dims)))):
            return self.plain(x)
        return replace(x, name=self.reshape(x.name, (math.prod(x.dims),)), flat=True)
