"""A network in the making: the layers found so far, and how the graph's rows stand to nbbn's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from nbbn import operations as op
from nbbn.activations import ELEMENTWISE
from nbbn.formats.files import Refused
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.layers import (
    BatchNormalization,
    Dense,
    Dropout,
    GroupNormalization,
    Layer,
    Normalization,
    Permute,
    Reshape,
)
from nbbn.layers.base import Shape

# The inputs of a node: constants, and None for what comes from the node before or is left out.
Args = list[np.ndarray | None]

# By the number of axes of a row: which one of nbbn's each axis of the graph's is.
CHANNELS_FIRST = {3: (2, 0, 1), 2: (1, 0)}
# Exact in float32, and so is 1 minus it: a batch norm of this variance multiplies by gamma alone.
_EPSILON = 2.0**-10
# A Normalization divides by 1e-7 at least.
_MOST_SCALE = 1e7
# A network that flattens rows of more numbers, or scales as many channels, has no room for weights.
_MAX_MADE = 2**22
# Operations that make no number below 0 of ones that are not.
_KEEPS_SIGNS = (op.Pool, op.Pad, op.Repeat, op.Reshape, op.Permute, op.Disturb)


class Affine:
    """`(x - mean) * scale + shift` along axes of the row: becomes a batch norm, or fixed numbers.

    There are no axes where one number is for all.
    """

    def __init__(self, *axes: int):
        self.axes = axes
        self.mean, self.scale, self.shift = np.zeros(()), np.ones(()), np.zeros(())

    def then(self, operator: str, value: np.ndarray) -> None:
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
        still = np.all(self.shift == 0) and np.all(self.mean == 0)
        return bool(still and np.all(np.abs(self.scale - 1) < 1e-6))

    def layer(self, shape: Shape) -> tuple[Layer, dict[str, np.ndarray]]:
        """The batch norm for rows of this shape, or along several axes the Normalization."""
        if len(self.axes) > 1:
            return self._normalization(), {}
        axis = self.axes[0] if self.axes else len(shape) - 1
        given = {"gamma": self.scale, "beta": self.shift, "mean": self.mean}
        full = {name: np.broadcast_to(value, shape[axis]) for name, value in given.items()}
        layer = BatchNormalization(axis=axis + 1, epsilon=_EPSILON)
        return layer, {**full, "var": np.full(shape[axis], 1 - _EPSILON)}

    def _normalization(self) -> Layer:
        if not np.all((self.scale > 0) & (self.scale < _MOST_SCALE)):
            raise Refused("multiplies by a constant along more than one axis that is 0 or below, "
                          "or above 1e7, which is no layer")
        axes = tuple(axis + 1 for axis in self.axes)
        return Normalization(axes, self.mean - self.shift / self.scale, self.scale**-2.0)


class Centred(NamedTuple):
    """Rows minus their mean or largest value over some axes, as within a norm or a softmax."""

    operator: str  # ReduceMean or ReduceMax
    axes: tuple[int, ...]


class OfLengthOne(NamedTuple):
    """Rows whose vectors along an axis are divided by their lengths, as within a cosine."""

    axis: int


class Split(NamedTuple):
    """Within a group norm: the row's axis that the graph splits in groups, and shapes of a row.

    As the graph has it `before` the split, and `inside`.
    """

    groups: int
    axis: int
    before: Shape
    inside: Shape


Part = Layer | Affine | Centred | OfLengthOne


@dataclass
class Step:
    """A layer, its arrays, and the shape of a row before it."""

    layer: Part
    arrays: dict[str, np.ndarray]
    before: Shape


@dataclass(frozen=True)
class Origin:
    """A value that several may read on from, and how its rows stand to the graph's.

    `call` gives it, of `nbbn.network.Graph`; the rest is as of `NetworkBuilder`. `not_negative`
    says whether no number of it is below 0, `of_length_one` what its readers have to make of it.
    """

    call: int
    shape: Shape
    perm: tuple[int, ...]
    dtype: np.dtype
    order: np.ndarray | None = None
    not_negative: bool = False
    of_length_one: OfLengthOne | None = None


class NetworkBuilder:
    """Layers in a row, in the making: what comes behind the network's input, or another value."""

    def __init__(self, origin: Origin, opset: int, batch: int | None):
        self.origin = origin
        # A row as nbbn has it, channels last, and for each axis of the graph's the one that it is;
        # rows of no axes, one number each, are ones of length 1.
        self.shape, self.perm = origin.shape, origin.perm
        # Of rows of one axis: the graph's index of each of nbbn's features; None: the same.
        self.order = origin.order
        self.dtype, self.opset, self.batch = origin.dtype, opset, batch  # None: any number of rows
        self.steps: list[Step] = []
        if origin.of_length_one is not None:
            self.steps.append(Step(origin.of_length_one, {}, self.shape))
        self.split: Split | None = None
        # Nodes that read what comes last, whether it only says which rows of tables are taken, and
        # the graph's axis that the next node on rows of so many axes, images or steps, takes for
        # the channels, None where none does.
        self.following: list[OnnxNode] = []
        self.only_numbers_rows: Callable[[], bool] = lambda: False
        self.next_channels: Callable[[int], int | None] = lambda rank: None
        self.constant: Callable[[str], np.ndarray | None] = lambda name: None

    @property
    def single(self) -> bool:
        """Whether the network computes in float32."""
        return self.dtype != np.float64

    # -- layers

    def add(self, layer: Part, **arrays: np.ndarray | None) -> None:
        """Put a layer at the end; arrays that are None are left out."""
        given = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
        self.steps.append(Step(layer, given, self.shape))
        if isinstance(layer, Layer):
            wanted = layer.weight_shapes(self.shape)
            shapes = {name: array.shape for name, array in given.items()}
            if shapes != wanted:
                raise Refused(f"weights of shapes {shapes} where {wanted} are needed")
            self.shape = layer.output_shape(self.shape)

    @property
    def last(self) -> Part | None:
        """The last layer."""
        return self.steps[-1].layer if self.steps else None

    def drop(self) -> None:
        """Take the last layer away."""
        self.shape = self.steps.pop().before

    def change(self, layer: Layer, **arrays: np.ndarray) -> None:
        """Put another layer, with arrays of its own besides, in the place of the last."""
        self.steps[-1].layer = layer
        self.steps[-1].arrays.update(arrays)

    @property
    def not_negative(self) -> bool:
        """Whether no number of a row is below 0, as far as the layers say so."""
        for step in reversed(self.steps):
            if not isinstance(step.layer, Layer):
                return False
            for operation in reversed(step.layer.operations(step.before)):
                if isinstance(operation, op.Softmax):
                    return True
                if isinstance(operation, op.Elementwise):
                    return _gives_no_negative(operation)
                if not isinstance(operation, _KEEPS_SIGNS):
                    return False
        return self.origin.not_negative

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
        rank = len(self.perm) + 1
        at = axis + rank if axis < 0 else axis
        if not 1 <= at < rank:
            raise Refused(f"axis {axis} is no axis of rows of shape {self.graph_shape}")
        return self.perm[at - 1]

    def own_axes(self, axes: Sequence[int]) -> tuple[int, ...]:
        """`own_axis` of each, ascending."""
        return tuple(sorted(self.own_axis(int(axis)) for axis in axes))

    def graph_axis(self, axis: int) -> int:
        """The axis of the graph's row that an axis of its array is, which counts the batch."""
        return self.perm.index(self.own_axis(axis))

    def require_image(self) -> None:
        """Raise Refused unless rows are images, or steps, which the graph has channels first."""
        rank = len(self.shape)
        if rank not in (2, 3) or not self.settle((*range(1, rank), 0), move=True):
            shape = self.graph_shape
            raise Refused(f"works on images (channels, height, width), its rows have shape {shape}")

    def spread(self, constant: np.ndarray) -> tuple[tuple[int, ...], np.ndarray]:
        """The row's axes along which a constant varies, and its numbers there, as nbbn has them.

        Raises Refused for a constant that would change the rows' shape, or differs from row to row.
        """
        rank, shape = len(self.perm) + 1, self.graph_shape
        whole = constant.reshape((1,) * max(0, rank - constant.ndim) + constant.shape)
        fits = all(n in (1, m) for n, m in zip(whole.shape[1:], shape))
        if whole.ndim > rank or whole.shape[0] != 1 or not fits:
            what = f"a constant of shape {constant.shape}"
            raise Refused(f"{what} does not fit rows of shape {shape}")
        own = whole[0].transpose([self.perm.index(axis) for axis in range(rank - 1)])
        axes = tuple(axis for axis, n in enumerate(own.shape) if n > 1)
        values = own.reshape([own.shape[axis] for axis in axes]).astype(np.float64)
        return axes, values[self.order] if self.order is not None and axes else values

    def transpose(self, perm: Sequence[int]) -> None:
        """Another order of the graph's axes, which changes nothing in nbbn's."""
        if sorted(perm) != list(range(len(self.perm) + 1)) or perm[0] != 0:
            raise Refused(f"perm {list(perm)} moves the batch axis or is none")
        self.perm = tuple(self.perm[axis - 1] for axis in perm[1:])

    @property
    def keeps_order(self) -> bool:
        """Whether a row's numbers stand in one order in the graph and in nbbn."""
        kept = [axis for axis in self.perm if self.shape[axis] > 1]
        return self.order is None and kept == sorted(kept)

    def flat_order(self) -> np.ndarray | None:
        """The graph's index of each feature, once it flattens the row."""
        if self.keeps_order:
            return None
        index = np.arange(self.limited(math.prod(self.shape))).reshape(self.graph_shape)
        return index.transpose([self.perm.index(axis) for axis in range(len(self.perm))]).ravel()

    def limited(self, count: int) -> int:
        """A number of numbers that follow from a shape alone, and not from what the file holds.

        Raises Refused for so many that a short file would take all memory.
        """
        if count > _MAX_MADE:
            raise Refused(f"rows of shape {self.graph_shape} are too large; "
                          f"at most {_MAX_MADE} numbers are flattened or scaled")
        return count

    def settle(self, order: Sequence[int] | None = None, *, move: bool = False) -> bool:
        """Take the graph's axes, in this order, for nbbn's where only ones of length 1 moved.

        `move`: others are moved where they must be. Whether they are nbbn's now.
        """
        order = list(range(len(self.perm)) if order is None else order)
        axes = [self.perm[k] for k in order]
        kept = [axis for axis in axes if self.shape[axis] > 1]
        stay = kept == sorted(kept)
        if self.order is not None or not (stay or move):
            return False
        if axes != sorted(axes):
            shape = tuple(self.shape[axis] for axis in axes)
            self.add(Reshape(shape) if stay else Permute(tuple(axis + 1 for axis in axes)))
            self.perm = tuple(map(order.index, range(len(order))))
        return True

    def permute_features(self, order: np.ndarray) -> bool:
        """Give the features another order where they come from; False where no Dense is there."""
        touched: list[dict[str, np.ndarray]] = []
        for step in reversed(self.steps):
            touched.append(step.arrays)
            if isinstance(step.layer, Dense):
                for arrays in touched:
                    arrays.update({name: array[..., order] for name, array in arrays.items()})
                return True
            if len(step.before) != 1 or not _by_feature(step.layer):
                return False
        return False


def _gives_no_negative(operation: op.Elementwise) -> bool:
    slope, _, threshold = (*operation.numbers, 1, 0, 0)[:3]
    clipped = operation.function == "clipped_relu" and slope == 0 <= threshold
    return ELEMENTWISE[operation.function].not_negative or clipped


def _by_feature(layer: Part) -> bool:
    """Whether a layer treats each feature on its own."""
    if not isinstance(layer, Layer) or isinstance(layer, GroupNormalization):
        return False
    return isinstance(layer, BatchNormalization | Dropout) or not layer.weight_shapes((1,))
