"""The layers found so far, and how the rows of the ONNX graph stand to nbbn's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbbn.formats.files import Refused
from nbbn.layers import BatchNormalization, Dense, Dropout, GroupNormalization, Layer, Reshape
from nbbn.layers.base import Shape

CHANNELS_FIRST = (2, 0, 1)
# Exact in float32, and so is 1 minus it: a batch norm of this variance multiplies by gamma alone.
_EPSILON = 2.0**-10
# A network that flattens a row of more numbers, or scales as many channels, has no room for its weights.
_MAX_MADE = 2**22


class Affine:
    """`(x - mean) * scale + shift` along an axis of the row (None: one number for all): becomes a batch norm."""

    def __init__(self, axis: int | None = None):
        self.axis, self.mean, self.scale, self.shift = axis, 0.0, 1.0, 0.0

    def then(self, operator: str, value) -> None:
        """Apply an operator with a constant on top."""
        if operator in ("Add", "Sub"):
            value = value if operator == "Add" else -value
            if np.all(self.scale == 1) and np.all(self.shift == 0):
                self.mean = self.mean - value
            else:
                self.shift = self.shift + value
        else:
            value = value if operator == "Mul" else 1 / value
            self.scale, self.shift = self.scale * value, self.shift * value

    @property
    def nothing(self) -> bool:
        """Whether it changes nothing, to the rounding of a float32 constant."""
        return bool(np.all(np.abs(self.scale - 1) < 1e-6) and np.all(self.shift == 0) and np.all(self.mean == 0))

    def layer(self, shape: Shape) -> tuple[Layer, dict]:
        """The batch norm for rows of this shape."""
        axis = len(shape) - 1 if self.axis is None else self.axis
        full = {
            k: np.broadcast_to(v, shape[axis])
            for k, v in (("gamma", self.scale), ("beta", self.shift), ("mean", self.mean))
        }
        layer = BatchNormalization(axis=axis + 1, epsilon=_EPSILON)
        return layer, {**full, "var": np.full(shape[axis], 1 - _EPSILON)}


class Centred:
    """Rows minus their mean (or largest value) over some axes, which only stands before what makes a norm (a softmax) of it."""

    def __init__(self, operator: str, axes: tuple[int, ...]):
        self.operator, self.axes = operator, axes


class Rows:
    """Rows on their way through the graph.

    Attributes
    ----------
    shape : tuple of int
        Shape of one row as nbbn has it, channels last.
    perm : tuple of int
        For each axis of the graph's row the axis of nbbn's that it is.
    order : array or None
        Of rows of one axis: the graph's index of each of nbbn's features; None: the same.
    steps : list
        `[layer, arrays, shape before]`; a layer is a `Layer`, `Affine` or `Centred`.
    split : tuple or None
        Within a group norm: number of groups, the row's axis, and the graph's shape before the split.
    dtype : numpy.dtype
    """

    def __init__(self, shape: Shape, dtype: np.dtype):
        self.shape, self.perm, self.order, self.dtype = tuple(shape), tuple(range(len(shape))), None, dtype
        self.steps: list[list] = []
        self.split: tuple | None = None

    @property
    def single(self) -> bool:
        """Whether the network computes in float32."""
        return self.dtype != np.float64

    # -- layers

    def add(self, layer: Layer | Affine | Centred, **arrays: np.ndarray | None) -> None:
        """Put a layer at the end; arrays that are None are left out."""
        given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
        self.steps.append([layer, given, self.shape])
        if isinstance(layer, Layer):
            wanted = layer.weight_shapes(self.shape)
            if {name: array.shape for name, array in given.items()} != wanted:
                raise Refused(f"weights of shapes { {n: a.shape for n, a in given.items()} } where {wanted} are needed")
            self.shape = layer.output_shape(self.shape)

    @property
    def last(self):
        """The last layer, or None."""
        return self.steps[-1][0] if self.steps else None

    def drop(self) -> None:
        """Take the last layer away."""
        *_, self.shape = self.steps.pop()

    # -- the graph's axes

    @property
    def graph_shape(self) -> Shape:
        """Shape of one row as the graph has it."""
        return tuple(self.shape[axis] for axis in self.perm)

    @property
    def plain(self) -> bool:
        """Whether the graph's rows are nbbn's."""
        return self.perm == tuple(range(len(self.shape))) and self.order is None

    def own_axis(self, axis: int) -> int:
        """The row's axis that an axis of the graph's array is, which counts the batch."""
        rank = len(self.shape) + 1
        at = axis + rank if axis < 0 else axis
        if not 1 <= at < rank:
            raise Refused(f"axis {axis} is no axis of rows of shape {self.graph_shape}")
        return self.perm[at - 1]

    def own_axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        """`own_axis` of each, ascending."""
        return tuple(sorted(self.own_axis(int(axis)) for axis in axes))

    def require_image(self) -> None:
        """Raise Refused unless rows are images, which the graph has channels first."""
        if len(self.shape) != 3 or self.perm != CHANNELS_FIRST:
            raise Refused(f"works on images (channels, height, width), its rows have shape {self.graph_shape}")

    def spread(self, constant: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
        """The row's axes along which a constant of the graph varies, and its numbers there, as nbbn has them.

        Raises
        ------
        Refused
            For a constant that would change the rows' shape, or differs from row to row.
        """
        rank = len(self.shape) + 1
        if constant.ndim > rank:
            raise Refused(f"a constant of shape {constant.shape} does not fit rows of shape {self.graph_shape}")
        whole = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
        if whole.shape[0] != 1 or any(n not in (1, m) for n, m in zip(whole.shape[1:], self.graph_shape)):
            raise Refused(f"a constant of shape {constant.shape} does not fit rows of shape {self.graph_shape}")
        own = whole[0].transpose([self.perm.index(axis) for axis in range(rank - 1)])
        axes = tuple(axis for axis, n in enumerate(own.shape) if n > 1)
        values = own.reshape([own.shape[axis] for axis in axes]).astype(np.float64)
        return axes, values[self.order] if self.order is not None and axes else values

    def transpose(self, perm: Sequence[int]) -> None:
        """Another order of the graph's axes, which changes nothing in nbbn's."""
        if sorted(perm) != list(range(len(self.shape) + 1)) or perm[0] != 0:
            raise Refused(f"perm {list(perm)} moves the batch axis or is none")
        self.perm = tuple(self.perm[axis - 1] for axis in perm[1:])

    @property
    def keeps_order(self) -> bool:
        """Whether the numbers of a row stand in the same order in the graph and in nbbn, as but axes of length 1 are turned."""
        kept = [axis for axis in self.perm if self.shape[axis] > 1]
        return self.order is None and kept == sorted(kept)

    def flat_order(self) -> np.ndarray | None:
        """The graph's index of each feature, once it flattens the row."""
        if self.keeps_order:
            return None
        index = np.arange(self.limited(math.prod(self.shape))).reshape(self.graph_shape)
        return index.transpose([self.perm.index(axis) for axis in range(len(self.perm))]).reshape(-1)

    def limited(self, count: int) -> int:
        """A number of numbers that follow from a shape alone, and not from what the file holds.

        Raises
        ------
        Refused
            For so many that a short file would take all memory.
        """
        if count > _MAX_MADE:
            raise Refused(
                f"rows of shape {self.graph_shape} are too large; at most {_MAX_MADE} numbers are flattened or scaled"
            )
        return count

    def settle(self) -> bool:
        """Take the graph's axes for nbbn's where only axes of length 1 have changed places; whether the rows are plain now."""
        if not self.plain and len(self.shape) > 1 and self.keeps_order:
            self.add(Reshape(self.graph_shape))
            self.perm = tuple(range(len(self.shape)))
        return self.plain

    def permute_features(self, order: np.ndarray) -> bool:
        """Give the features another order where they come from: the last Dense. False where there is none."""
        touched = []
        for layer, arrays, before in reversed(self.steps):
            if isinstance(layer, Dense):
                touched.append(arrays)
                for entry in touched:
                    entry.update({name: array[..., order] for name, array in entry.items()})
                return True
            if isinstance(layer, Affine | Centred) or len(before) != 1 or not _by_feature(layer):
                return False
            touched.append(arrays)
        return False


def _by_feature(layer: Layer) -> bool:
    """Whether a layer treats each feature on its own."""
    if isinstance(layer, GroupNormalization):
        return False
    return isinstance(layer, BatchNormalization | Dropout) or not layer.weight_shapes((1,))
