"""Means and deviations of columns of numbers, of as many blocks of rows as there are."""

from __future__ import annotations

import numpy as np


class Moments:
    """Mean and deviation by column, of what is no NaN."""

    def __init__(self, width: int):
        self.rows = 0
        self._counts = np.zeros(width)
        self._means = np.zeros(width)
        self._squares = np.zeros(width)  # of distances from the mean, summed

    def add(self, x: np.ndarray) -> Moments:
        """Take in rows; the block's own moments are merged (Chan et al., 1979)."""
        x = np.asarray(x, np.float64)
        there = ~np.isnan(x)
        counts = there.sum(axis=0).astype(np.float64)
        safe, whole = np.maximum(counts, 1.0), bool(there.all())
        means = (x if whole else np.where(there, x, 0.0)).sum(axis=0) / safe
        apart = x - means if whole else np.where(there, x - means, 0.0)
        # The second sum takes back what rounding did to the mean.
        off = apart.sum(axis=0)
        squares = (apart**2).sum(axis=0) - off**2 / safe
        total, delta = self._counts + counts, means + off / safe - self._means
        share = counts / np.maximum(total, 1.0)
        self._squares += squares + delta**2 * self._counts * share
        self._means += delta * share
        self._counts, self.rows = total, self.rows + len(x)
        return self

    def mean(self) -> np.ndarray:
        """Of what is there; 0 for nothing."""
        return self._means.copy()

    def scale(self) -> np.ndarray:
        """The deviation of all rows, the mean in place of each NaN; 1 for a constant column."""
        n = max(1, self.rows)
        var = self._squares / n
        eps = np.finfo(np.float64).eps
        # What rounding leaves of a constant column, as scikit-learn's StandardScaler bounds it.
        constant = var <= n * eps * var + (n * self._means * eps) ** 2
        return np.where(constant, 1.0, np.sqrt(var))
