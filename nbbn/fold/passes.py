"""Nodes with which an affine map changes places: poolings, reshapes, transpositions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from nbbn.fold.arithmetic import Affine, moves_zero
from nbbn.fold.graph import Carry, Placed

# A reshape is followed by moving the channel of every element; above this many elements it is not.
_MOST_ELEMENTS = 1 << 26
# Functions of `nbbn.activations` with f(a x) = a f(x) for a not negative.
HOMOGENEOUS = ("relu", "leaky_relu")


def mean_of_values(affine: Affine, axis: int) -> Placed:
    """Carry through means over windows of one channel: the weights of a mean add up to 1."""
    return affine, axis


def largest_value(name: str) -> Carry:
    """Carry through maxima over windows of one channel: an increasing map keeps the order."""

    def carry(affine: Affine, axis: int) -> Placed | str:
        falling = np.flatnonzero(affine.gain < 0)
        if len(falling):
            shown = ", ".join(map(str, falling[:3])) + (", ..." if len(falling) > 3 else "")
            return (f"{name} takes maxima, and the gain of {len(falling)} channels ({shown}) is "
                    "negative, which would make them minima")
        return affine, axis

    return carry


def homogeneous(reason: str, name: str) -> Carry:
    """Carry through `f(a x) = a f(x)` for a not negative, as of a ReLU: scales, and no shift."""

    def carry(affine: Affine, axis: int) -> Placed | str:
        if moves_zero(affine):
            return reason
        if (affine.gain < 0).any():
            return f"{name} treats numbers below 0 in another way, and a gain is negative"
        return affine, axis

    return carry


def padded(axes: Sequence[int], reason: str, name: str) -> Carry:
    """Carry through what stands around, along some axes: maps along others.

    Of zeros a reason is given why they stop a shift.
    """

    def carry(affine: Affine, axis: int) -> Placed | str:
        if reason and axes and moves_zero(affine):
            return reason
        if axis in axes:
            return f"{name} pads axis {axis}, which the batch norm normalises"
        return affine, axis

    return carry


def scaled(scale: float | np.ndarray, offset: float | np.ndarray, name: str) -> tuple[Carry, Carry]:
    """Carry through `scale * x + offset`, and back; the numbers are one, or one for a channel."""

    def carry(affine: Affine, axis: int) -> Placed | str:
        gain, mean, shift = affine
        return Affine(gain, scale * mean + offset, scale * shift + offset), axis

    def back(affine: Affine, axis: int) -> Placed | str:
        if np.any(np.asarray(scale) == 0):
            return f"{name} multiplies with 0"
        gain, mean, shift = affine
        return Affine(gain, (mean - offset) / scale, (shift - offset) / scale), axis

    return carry, back


def along(channels: int, carry: Carry, name: str) -> Carry:
    """Carry as `carry`, for a node that treats the slices along axis `channels` each on its own."""

    def carry_along(affine: Affine, axis: int) -> Placed | str:
        if axis != channels:
            return f"{name} mixes values along axis {axis}, which the batch norm normalises"
        return carry(affine, axis)

    return carry_along


def reduced(carry: Carry, axes: Sequence[int], keepdims: bool, name: str) -> Carry:
    """Carry through a reduction over `axes` (not negative), as `carry` for the values."""

    def carry_reduced(affine: Affine, axis: int) -> Placed | str:
        if axis in axes:
            return f"{name} reduces axis {axis}, which the batch norm normalises"
        carried = carry(affine, axis)
        if isinstance(carried, str) or keepdims:
            return carried
        return carried[0], axis - sum(a < axis for a in axes)

    return carry_reduced


def unreduced(carry: Carry, axes: Sequence[int], keepdims: bool) -> Carry:
    """Carry back through a reduction over `axes` (not negative): the channels are on another."""

    def carry_back(affine: Affine, axis: int) -> Placed | str:
        for reduced_axis in () if keepdims else sorted(axes):
            axis += reduced_axis <= axis
        if axis in axes:
            return f"axis {axis} has one value only, for all that it reduces"
        return carry(affine, axis)

    return carry_back


def sliced(axis_of_slice: int, where: slice, size: int, name: str) -> tuple[Carry, Carry]:
    """Carry through a slice along one axis of that size, and back: what it leaves out is free."""

    def carry(affine: Affine, axis: int) -> Placed | str:
        if axis == axis_of_slice:
            affine = Affine(*(part[where] for part in affine))
        return affine, axis

    def back(affine: Affine, axis: int) -> Placed | str:
        if axis == axis_of_slice:
            whole = Affine(np.ones(size), np.zeros(size), np.zeros(size))
            if len(affine.gain) != len(range(size)[where]):
                return f"{name} cuts {len(range(size)[where])} channels out"
            for part, values in zip(whole, affine):
                part[where] = values
            affine = whole
        return affine, axis

    return carry, back


def transposed(order: Sequence[int]) -> Carry:
    """Carry through a transposition: axis `i` of the output is axis `order[i]` of the input."""
    return lambda affine, axis: (affine, list(order).index(axis))


def repeated(times: Sequence[int]) -> Carry:
    """Carry through what repeats each number along axis `k` of a row `times[k]` in a row."""
    return lambda affine, axis: (Affine(*(part.repeat(times[axis - 1]) for part in affine)), axis)


def kept(times: Sequence[int], name: str) -> Carry:
    """Carry back through what repeats numbers, along other axes than that of the channels."""

    def carry(affine: Affine, axis: int) -> Placed | str:
        if times[axis - 1] > 1:
            return f"{name} repeats values along axis {axis}, which the batch norm normalises"
        return affine, axis

    return carry


def reordered(before: Sequence[int | None], after: Sequence[int | None], name: str) -> Carry:
    """Carry through a reshape, of which not all sizes are known, in C order.

    An axis of as many numbers, as far from one to the next, holds the same channels.
    """

    def carry(affine: Affine, axis: int) -> Placed | str:
        run, runs = _run_of(before, axis), [_run_of(after, k) for k in range(len(after))]
        if run is not None and run in runs:
            return affine, runs.index(run)
        row, new = (tuple(n for n in shape[1:] if n is not None) for shape in (before, after))
        known = len(row) == len(before) - 1 and len(new) == len(after) - 1
        if not known or math.prod(row) != math.prod(new):
            return f"{name} reshapes rows of a size that is not known"
        return reshaped(row, new, name)(affine, axis)

    return carry


def _run_of(shape: Sequence[int | None], axis: int) -> tuple[int, int] | None:
    """How many numbers an axis has and how far they are apart; None if not known, or one."""
    rest = [n for n in shape[axis:] if n is not None]
    known = len(rest) == len(shape) - axis and rest[0] > 1
    return (rest[0], math.prod(rest[1:])) if known else None


def reshaped(before: Sequence[int], after: Sequence[int], name: str) -> Carry:
    """Carry through a reshape of rows in C order: each value keeps its channel.

    Shapes are without the batch axis, which is not the channels'.
    """

    def carry(affine: Affine, axis: int) -> Placed | str:
        if axis == 0:
            return f"{name} reshapes rows of a size that is not known"
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
