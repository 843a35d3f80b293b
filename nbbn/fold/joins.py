"""Nodes of several inputs with which affine maps change places: sums, products, concatenations.

A map of one input alone seldom passes a sum; those of all inputs do where they scale alike.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from nbbn.fold.arithmetic import Affine, is_identity, moves_zero, scale_alone
from nbbn.fold.graph import Divide, Merge, Placed

Rules = tuple[Merge, Divide]
Shape = Sequence[int | None]


class _Places(NamedTuple):
    """How inputs lie along an output whose axes they are broadcast to, the last on the last.

    Shapes are with the batch axis in front, of inputs that lack axes with these left out.
    """

    shapes: Sequence[Shape]
    name: str

    @property
    def rank(self) -> int:
        return max(map(len, self.shapes))

    def size(self, axis: int) -> int | None:
        """Of an axis of the output; None where not all inputs' are known."""
        sizes = [shape[at] for shape in self.shapes
                 if (at := axis - self.rank + len(shape)) >= 0]
        return None if None in sizes else max((n for n in sizes if n is not None), default=None)

    def own_axis(self, i: int, axis: int) -> int | None:
        """The axis of an input that an axis of the output is; None if it goes along with it."""
        at, size = axis - self.rank + len(self.shapes[i]), self.size(axis)
        return at if at >= 0 and size is not None and self.shapes[i][at] == size else None

    def shared_axis(self, maps: Sequence[Placed | None]) -> int | str:
        """The axis of the output that all maps go along; or why there is none."""
        axes = {axis + self.rank - len(self.shapes[i])
                for i, placed in enumerate(maps) if placed for axis in placed[1:]}
        if len(axes) > 1:
            return f"{self.name} joins what is normalised along different axes"
        (axis,) = axes
        if any(placed and self.own_axis(i, axis) is None for i, placed in enumerate(maps)):
            return f"{self.name} joins rows of which one goes along with the channels of others"
        return axis

    def placed(self, affine: Affine, axis: int) -> list[Placed] | str:
        """A map of the output for each input; or why one lacks its axis."""
        axes = [self.own_axis(i, axis) for i in range(len(self.shapes))]
        if any(own is None for own in axes) or self.size(axis) != len(affine.gain):
            return f"{self.name} joins rows of which one goes along with the channels of others"
        return [(affine, own) for own in axes if own is not None]


def _same(first: Affine, second: Affine) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second))


def _of_sum(maps: Sequence[tuple[float, Affine]]) -> Affine:
    """The map of a sum of values, of maps that scale alike and the weights of the values."""
    mean, offset = np.zeros((2, len(maps[0][1].gain)))
    for weight, affine in maps:
        mean, offset = mean + weight * affine.mean, offset + weight * affine.offset
    return Affine(maps[0][1].gain, mean, offset)


def summed(shapes: Sequence[Shape], weights: Sequence[float], name: str) -> Rules:
    """Sums of weighted inputs: all scale alike, and the shift is that of any one."""
    places = _Places(shapes, name)

    def carry(maps: Sequence[Placed | None]) -> Placed | str:
        axis = places.shared_axis(maps)
        if isinstance(axis, str):
            return axis
        given = [(weight, placed[0]) for weight, placed in zip(weights, maps) if placed]
        gain = given[0][1].gain
        alike = all(np.array_equal(affine.gain, gain) for _, affine in given)
        if not alike or (len(given) < len(maps) and (gain != 1).any()):
            return f"{name} adds to it what is not scaled alike"
        return _of_sum(given), axis

    def back(affine: Affine, axis: int) -> list[list[Placed | None]] | str:
        placed = places.placed(scale_alone(affine), axis)
        if isinstance(placed, str):
            return placed
        if not moves_zero(affine):
            return [[*placed]]
        ways = []
        for k, weight in enumerate(weights):
            way: list[Placed | None] = [p if (affine.gain != 1).any() else None for p in placed]
            way[k] = (Affine(affine.gain, affine.mean / weight, affine.offset / weight),
                      placed[k][1])
            ways.append(way)
        return ways

    return carry, back


def multiplied(shapes: Sequence[Shape], name: str) -> Rules:
    """Products of inputs: the scale of the output is that of any one, and there is no shift."""
    places = _Places(shapes, name)
    shift = f"{name} multiplies values, whose product the batch norm's shift would change"

    def carry(maps: Sequence[Placed | None]) -> Placed | str:
        axis = places.shared_axis(maps)
        if isinstance(axis, str):
            return axis
        given = [placed[0] for placed in maps if placed]
        if any(map(moves_zero, given)):
            return shift
        gain = np.prod([affine.gain for affine in given], axis=0)
        return scale_alone(given[0]._replace(gain=gain)), axis

    def back(affine: Affine, axis: int) -> list[list[Placed | None]] | str:
        if moves_zero(affine):
            return shift
        ways: list[list[Placed | None]] = []
        for k in range(len(shapes)):
            own = places.own_axis(k, axis)
            if own is not None and places.size(axis) == len(affine.gain):
                ways.append([(affine, own) if i == k else None for i in range(len(shapes))])
        return ways or f"{name} joins rows that all go along with the channels of others"

    return carry, back


def extreme(shapes: Sequence[Shape], name: str) -> Rules:
    """Maxima or minima of inputs: one increasing map of all of them keeps their order."""
    places = _Places(shapes, name)
    order = f"{name} compares values, whose order a negative gain would turn round"

    def carry(maps: Sequence[Placed | None]) -> Placed | str:
        axis = places.shared_axis(maps)
        if isinstance(axis, str):
            return axis
        given = [placed[0] for placed in maps if placed]
        if len(given) < len(maps) or not all(_same(given[0], affine) for affine in given):
            return f"{name} compares it with what is not normalised alike"
        return order if (given[0].gain < 0).any() else (given[0], axis)

    def back(affine: Affine, axis: int) -> list[list[Placed | None]] | str:
        if (affine.gain < 0).any():
            return order
        placed = places.placed(affine, axis)
        return placed if isinstance(placed, str) else [[*placed]]

    return carry, back


def concatenated(along: int, sizes: Sequence[int | None], name: str) -> Rules:
    """Inputs one after the other along an axis, of sizes that are known there or not.

    Along it each has channels of its own, along another axis all have the same.
    """

    def carry(maps: Sequence[Placed | None]) -> Placed | str:
        axes = {placed[1] for placed in maps if placed}
        if len(axes) > 1:
            return f"{name} joins what is normalised along different axes"
        (axis,) = axes
        if axis != along:
            given = [placed[0] for placed in maps if placed]
            if len(given) < len(maps) or not all(_same(given[0], affine) for affine in given):
                return f"{name} puts beside it what is not normalised alike"
            return given[0], axis
        if any(size is None for size, placed in zip(sizes, maps) if not placed):
            return f"{name} puts beside it channels whose number is not known"
        whole = [placed[0] if placed else _identity(size or 0) for size, placed in zip(sizes, maps)]
        return Affine(*(np.concatenate(parts) for parts in zip(*whole))), axis

    def back(affine: Affine, axis: int) -> list[list[Placed | None]] | str:
        if axis != along:
            return [[(affine, axis)] * len(sizes)]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes) or sum(known) != len(affine.gain):
            return f"{name} joins parts whose numbers of channels are not known"
        ends = np.cumsum(known)[:-1]
        parts = [Affine(*part) for part in zip(*(np.split(array, ends) for array in affine))]
        return [[None if is_identity(part) else (part, axis) for part in parts]]

    return carry, back


def _identity(channels: int) -> Affine:
    return Affine(np.ones(channels), np.zeros(channels), np.zeros(channels))


# What combines number by number, as `operations.Combine` calls it.
COMBINED: dict[str, Callable[[Sequence[Shape], str], Rules]] = {
    "add": lambda shapes, name: summed(shapes, [1] * len(shapes), name),
    "subtract": lambda shapes, name: summed(shapes, [1, -1], name),
    "multiply": multiplied, "maximum": extreme, "minimum": extreme,
}
