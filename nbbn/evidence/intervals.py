"""Student's intervals of a mean over runs."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A mean with the ends of its interval.

    Examples
    --------
    >>> from nbbn.evidence import Interval
    >>> Interval(0.9, 0.88, 0.92).above(Interval(0.8, 0.79, 0.81))
    True
    """

    mean: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{short(self.mean)} ({short(self.low)} to {short(self.high)})"

    def above(self, other: "Interval") -> bool:
        """Whether the whole interval is above the whole of the other."""
        return self.low > other.high


def interval(values: Sequence[float | None], *, log: bool = False) -> Interval:
    """The mean of independent runs and its interval at 95 %, by Student (1908).

    Parameters
    ----------
    values : sequence of float
        One for each run. Any that is not finite (or None) makes all three NaN.
    log : bool
        Take the mean of the logarithms, and its interval, back to the values' scale. For what is
        compared by ratios; NaN where a value is not above 0.

    Returns
    -------
    Interval
        `mean +- t * s / sqrt(n)` with t the quantile of 0.975 for n - 1 degrees of freedom and s
        the sample's standard deviation. Of one run, both ends are NaN.

    Examples
    --------
    >>> from nbbn.evidence import interval
    >>> print(interval([1.0, 2.0, 3.0, 4.0, 5.0]))
    3 (1.037 to 4.963)
    """
    given = np.array([math.nan if v is None else v for v in values], float)
    if not np.isfinite(given).all() or (log and (given <= 0).any()) or not given.size:
        return Interval(math.nan, math.nan, math.nan)
    if log:
        return Interval(*(math.exp(end) for end in interval(np.log(given).tolist())))
    mean = float(given.mean())
    if given.size == 1:
        return Interval(mean, math.nan, math.nan)
    from scipy import stats

    t = stats.t.ppf((1 + CONFIDENCE) / 2, given.size - 1)
    half = float(t * given.std(ddof=1) / math.sqrt(given.size))
    return Interval(mean, mean - half, mean + half)


def short(value: float | None) -> str:
    """A number of four digits."""
    return "-" if value is None or math.isnan(value) else f"{value:.4g}"
