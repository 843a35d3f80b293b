"""Figures of several runs, and what they say of a sentence."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nbbn.evidence.intervals import Interval, interval, short

Number = float | None  # None: not finite
_DIGITS = 5

HOLDS, OPPOSITE, OPEN = "holds here", "does not hold here", "not decided here"


def kept(value: Any) -> Number:
    """A number as it is kept: of five digits, None where it is not finite."""
    value = float(value)
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


@dataclass(frozen=True)
class Measure:
    """A figure, once for each run.

    Attributes
    ----------
    name : str
    values : list of float or None
        None where the figure of a run is not finite.
    paper : str
        The paper's own figure; empty where it has none to compare with.
    log : bool
        Whether the mean is one of logarithms (what is compared by ratios).

    Examples
    --------
    >>> from nbbn.evidence import Measure
    >>> measure = Measure.of("accuracy", [0.90, 0.91, 0.92])
    >>> print(measure.interval)
    0.91 (0.8852 to 0.9348)
    """

    name: str
    values: list[Number]
    paper: str = ""
    log: bool = False

    @classmethod
    def of(cls, name: str, values: Iterable[Any], paper: str = "", *,
           log: bool = False) -> "Measure":
        """One of numbers of any kind."""
        return cls(name, [kept(value) for value in values], paper, log)

    @property
    def interval(self) -> Interval:
        """Mean and interval at 95 %."""
        return interval(self.values, log=self.log)


@dataclass(frozen=True)
class Verdict:
    """A sentence, and what the numbers say of it.

    Attributes
    ----------
    sentence : str
    outcome : {"holds here", "does not hold here", "not decided here"}
    because : str
        The figures.

    Examples
    --------
    >>> from nbbn.evidence import Verdict
    >>> print(Verdict("batch norm is faster", "holds here", "0.9 against 0.8"))
    holds here: batch norm is faster (0.9 against 0.8)
    """

    sentence: str
    outcome: str
    because: str

    def __str__(self) -> str:
        return f"{self.outcome}: {self.sentence} ({self.because})"


def higher(sentence: str, high: Measure, low: Measure) -> Verdict:
    """Whether one figure is above another: the intervals are apart."""
    return _compared(sentence, high, low, f"{high.interval} against {low.interval}")


def lower(sentence: str, low: Measure, high: Measure) -> Verdict:
    """`higher`, with the figure first that ought to be the lower one."""
    return _compared(sentence, high, low, f"{low.interval} against {high.interval}")


def _compared(sentence: str, high: Measure, low: Measure, ends: str) -> Verdict:
    one, other = high.interval, low.interval
    if one.above(other):
        return Verdict(sentence, HOLDS, ends)
    if other.above(one):
        return Verdict(sentence, OPPOSITE, f"it is the other way round: {ends}")
    if math.isnan(one.low + other.low):
        return Verdict(sentence, OPEN, f"not every run gave a number: {ends}")
    return Verdict(sentence, OPEN, f"the intervals overlap: {ends}")


def near(sentence: str, measure: Measure, expected: float, within: float) -> Verdict:
    """Whether a figure's whole interval is no further than `within` from what is expected."""
    found = measure.interval
    text = f"{measure.name} {found}, expected {short(expected)} +- {short(within)}"
    low, high = expected - within, expected + within
    if low <= found.low <= found.high <= high:
        return Verdict(sentence, HOLDS, text)
    if found.low > high or found.high < low:
        return Verdict(sentence, OPPOSITE, text)
    return Verdict(sentence, OPEN, text)
