"""Nodes with which an affine map changes places: poolings, reshapes, transpositions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbbn.fold.arithmetic import Affine
from nbbn.fold.graph import Carry

# A reshape is followed by moving the channel of every element; above this many elements it is not.
_MOST_ELEMENTS = 1 << 26


def mean_of_values(affine: Affine, axis: int) -> tuple[Affine, int]:
    """Carry through means over windows of one channel: the weights of a mean add up to 1."""
    return affine, axis


def largest_value(name: str) -> Carry:
    """Carry through maxima over windows of one channel: an increasing map keeps the order."""

    def carry(affine: Affine, axis: int) -> tuple[Affine, int] | str:
        falling = np.flatnonzero(affine.gain < 0)
        if len(falling):
            return (
                f"{name} takes maxima, and the gain of {len(falling)} channels ({_first(falling)}) "
                "is negative, which would make them minima"
            )
        return affine, axis

    return carry


def along(channels: int, carry: Carry, name: str) -> Carry:
    """Carry as `carry`, for a node that treats the slices along axis `channels` each on its own."""

    def carry_along(affine: Affine, axis: int) -> tuple[Affine, int] | str:
        if axis != channels:
            return f"{name} mixes values along axis {axis}, which the batch norm normalises"
        return carry(affine, axis)

    return carry_along


def reduced(carry: Carry, axes: Sequence[int], keepdims: bool, name: str) -> Carry:
    """Carry through a reduction over `axes` (not negative), as `carry` for the values."""

    def carry_reduced(affine: Affine, axis: int) -> tuple[Affine, int] | str:
        if axis in axes:
            return f"{name} reduces axis {axis}, which the batch norm normalises"
        carried = carry(affine, axis)
        if isinstance(carried, str) or keepdims:
            return carried
        return carried[0], axis - sum(a < axis for a in axes)

    return carry_reduced


def transposed(order: Sequence[int]) -> Carry:
    """Carry through a transposition: axis `i` of the output is axis `order[i]` of the input."""
    return lambda affine, axis: (affine, list(order).index(axis))


def repeated(times: Sequence[int]) -> Carry:
    """Carry through what repeats each number along axis `k` of a row `times[k]` in a row."""
    return lambda affine, axis: (Affine(*(part.repeat(times[axis - 1]) for part in affine)), axis)


def kept(times: Sequence[int], name: str) -> Carry:
    """Carry back through what repeats numbers, along other axes than that of the channels."""

    def carry(affine: Affine, axis: int) -> tuple[Affine, int] | str:
        if times[axis - 1] > 1:
            return f"{name} repeats values along axis {axis}, which the batch norm normalises"
        return affine, axis

    return carry


def reshaped(before: Sequence[int], after: Sequence[int], name: str) -> Carry:
    """Carry through a reshape of rows in C order: each value keeps its channel.

    Shapes are without the batch axis.
    """

    def carry(affine: Affine, axis: int) -> tuple[Affine, int] | str:
        if math.prod(before) > _MOST_ELEMENTS:
            return f"{name} reshapes rows of {math.prod(before)} values, too many to follow"
        along = [n if i == axis - 1 else 1 for i, n in enumerate(before)]
        numbers = np.arange(before[axis - 1]).reshape(along)
        channels = np.broadcast_to(numbers, before).reshape(after)
        found = _axis_along(channels)
        if found is None:
            shapes = f"{tuple(before)} to {tuple(after)}"
            return f"{name} reshapes {shapes}, which leaves no axis of channels"
        which, new = found
        return Affine(*(part[which] for part in affine)), new + 1

    return carry


def _axis_along(channels: np.ndarray) -> tuple[np.ndarray, int] | None:
    """The axis along which alone the array varies, and its values there; the last such axis."""
    for axis in reversed(range(channels.ndim)):
        line = channels[tuple(slice(None) if i == axis else 0 for i in range(channels.ndim))]
        along = [-1 if i == axis else 1 for i in range(channels.ndim)]
        if (channels == line.reshape(along)).all():
            return line, axis
    return None


def _first(channels: np.ndarray) -> str:
    shown = ", ".join(map(str, channels[:3]))
    return shown if len(channels) <= 3 else f"{shown}, ..."
