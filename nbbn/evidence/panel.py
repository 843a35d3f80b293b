"""Curves of several runs."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from nbbn.evidence.intervals import Interval, interval
from nbbn.evidence.measures import Number, kept

# Points of a curve that are kept.
_MOST_POINTS = 15


@dataclass(frozen=True)
class Panel:
    """Curves over one axis, each with all its runs.

    Attributes
    ----------
    title, x_label, y_label : str
    x : list of float or of str
        Words make bars.
    series : dict of str to list of list of float
        For each curve its runs, each of x's length; None where a value is not finite.
    log_x, log_y : bool
        Whether the axes are logarithmic.

    Examples
    --------
    >>> from nbbn.evidence import Panel
    >>> runs = [[1.0, 0.5], [1.2, 0.7]]  # of each run, at each x
    >>> panel = Panel.of("loss", "epoch", "loss", [1, 2], {"batch norm": runs})
    >>> round(panel.intervals("batch norm")[1].mean, 3)
    0.6
    """

    title: str
    x_label: str
    y_label: str
    x: list[Any]
    series: dict[str, list[list[Number]]]
    log_x: bool = False
    log_y: bool = False

    @classmethod
    def of(cls, title: str, x_label: str, y_label: str, x: Iterable[Any],
           series: dict[str, Any], **scales: bool) -> "Panel":
        """One of arrays `(runs, points)`; of many points every second, third, ... is kept."""
        points = [p if isinstance(p, str) else kept(p) for p in x]
        step = -(-len(points) // _MOST_POINTS)
        points = points[::step]
        runs = {name: [[kept(v) for v in run[::step]] for run in runs]
                for name, runs in series.items()}
        return cls(title, x_label, y_label, points, runs, **scales)

    def intervals(self, name: str) -> list[Interval]:
        """Mean and interval at every point of a curve."""
        return [interval(values, log=self.log_y) for values in zip(*self.series[name])]
