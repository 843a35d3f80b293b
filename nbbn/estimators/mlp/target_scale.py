"""Targets standardised for training, and the output layer in the units of either side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from nbbn.group import Group

Arrays = dict[str, np.ndarray]
_BITS = 20


@dataclass(frozen=True)
class Moments:
    """Of some rows of targets: mass, mean and mean square about it of each column."""

    mass: float
    mean: np.ndarray
    var: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, weights: np.ndarray | None, group: Group) -> Moments:
        """Those of the rows of all processes of a group, in sums of an order that is fixed."""
        y = y.astype(np.float64, copy=False)
        w = np.ones(len(y)) if weights is None else np.abs(weights)
        rows = group.count(len(y))
        share = group.share(group.in_order(0, rows), np.array([0, rows]))
        mass = group.total(w, share)

        def means(columns: np.ndarray) -> np.ndarray:
            return np.array([group.total(w * column, share) for column in columns.T]) / (mass or 1)

        with np.errstate(all="ignore"):
            mean = means(y)
            return cls(mass, mean, means(np.square(y - mean)))

    @classmethod
    def merged(cls, found: Iterable[Moments]) -> Moments:
        """Those of all rows of several (Chan, Golub and LeVeque, 1983, equation 2.1)."""
        first, *others = found
        mass, mean, var = first.mass, first.mean, first.var
        with np.errstate(all="ignore"):
            for other in others:
                whole, slip = mass + other.mass, other.mean - mean
                share = other.mass / (whole or 1)
                mean = mean + slip * share
                var = var * (1 - share) + other.var * share + slip * slip * share * (1 - share)
                mass = whole
        return cls(mass, mean, var)


@dataclass(frozen=True)
class TargetScale:
    """Training sees `(y - shift) / spread`, column by column.

    Both have few digits, so that they are the same whether rows came together or in parts.
    """

    shift: tuple[float, ...]
    spread: tuple[float, ...]

    @classmethod
    def of(cls, moments: Moments, *, common: bool) -> TargetScale | None:
        """Mean and standard deviation; `common`: the same spread for all columns.

        None where they are beyond float64.
        """
        mean, spread = moments.mean, np.sqrt(moments.var)
        if not (np.isfinite(mean).all() and np.isfinite(spread).all()):
            return None
        # What is left of a constant is rounding.
        spread = np.where(spread > 1e-12 * np.abs(mean), spread, 0.0)
        if common:
            spread = np.full_like(spread, np.sqrt(np.square(spread).mean()))
        spread = _of_few_bits(np.where(spread > 0, spread, 1.0))
        # The mean to a part of the spread: how its sums were ordered is gone.
        unit = np.ldexp(1.0, np.frexp(spread)[1] - _BITS)
        return cls(tuple((np.round(mean / unit) * unit).tolist()), tuple(spread.tolist()))

    def standardised(self, y: np.ndarray) -> np.ndarray:
        """Targets as training sees them."""
        return (y - np.asarray(self.shift)) / np.asarray(self.spread)

    def outside(self, output: Arrays) -> Arrays:
        """Kernel and bias that answer in the targets' units, of those that were trained."""
        spread = np.asarray(self.spread)
        return {"kernel": output["kernel"] * spread,
                "bias": output["bias"] * spread + np.asarray(self.shift)}

    def inside(self, output: Arrays) -> Arrays:
        """The way back."""
        spread = np.asarray(self.spread)
        return {"kernel": output["kernel"] / spread,
                "bias": (output["bias"] - np.asarray(self.shift)) / spread}

    @classmethod
    def from_json(cls, held: dict[str, list[float]] | None) -> TargetScale | None:
        """What a file holds; None: none, as in files of versions without it."""
        if held is None:
            return None
        return cls(tuple(map(float, held["shift"])), tuple(map(float, held["spread"])))


def _of_few_bits(values: np.ndarray) -> np.ndarray:
    mantissa, exponent = np.frexp(values)
    return np.ldexp(np.round(np.ldexp(mantissa, _BITS)), exponent - _BITS)
