"""Drawings as inline SVG: bars of ratios, small and large histories.

Colours come from the page's style sheet.
"""

from __future__ import annotations

import math
from html import escape

BAR_SPAN = 32.0  # a ratio of 32 or 1 / 32 fills the bar's half


def bar(ratio: float) -> str:
    """A bar from the middle (1), to the right where nbbn is faster, else left; logarithmic."""
    reach = max(-1.0, min(1.0, math.log(ratio) / math.log(BAR_SPAN)))
    start, width = (50.0, 50 * reach) if reach >= 0 else (50 + 50 * reach, -50 * reach)
    kind = "ahead" if ratio >= 1 else "behind"
    return (
        '<svg class="bar" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="{kind}" x="{start:.1f}" y="1" width="{max(width, 0.6):.1f}" height="8" '
        'rx="0.6"/>'
        '<line class="one" x1="50" x2="50" y1="0" y2="10"/></svg>'
    )


def spark(values: list[float], logarithmic: bool = True) -> str:
    """A small history, the last point marked; nothing for fewer than two."""
    if len(values) < 2:
        return '<span class="spark"></span>'
    xs, ys = _scaled(values, 96, 20, logarithmic)
    points = " ".join(f"{x + 2:.1f},{y + 2:.1f}" for x, y in zip(xs, ys))
    return (
        f'<svg class="spark" viewBox="0 0 100 24" role="img" aria-label="{len(values)} commits">'
        f'<polyline points="{points}"/>'
        f'<circle cx="{xs[-1] + 2:.1f}" cy="{ys[-1] + 2:.1f}" r="2.2"/></svg>'
    )


def _scaled(
    values: list[float], width: float, height: float, logarithmic: bool
) -> tuple[list[float], list[float]]:
    heights = [math.log(v) if logarithmic else v for v in values]
    low, high = min(heights), max(heights)
    span = high - low or 1.0
    step = width / max(1, len(values) - 1)
    xs = [i * step for i in range(len(values))]
    return xs, [height - height * (h - low) / span for h in heights]


def _of_before(older: int) -> str:
    return f", {older} of its figures of an earlier commit" if older else ""


def ticks(low: float, high: float) -> list[float]:
    """Round ratios from below `low` to above `high`: 1, 2 and 5 times powers of ten."""
    steps = [m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5)]
    first = max([i for i, s in enumerate(steps) if s <= low], default=0)
    last = min([i for i, s in enumerate(steps) if s >= high], default=len(steps) - 1)
    return steps[first : max(last, first + 1) + 1]


def history(
    series: dict[str, list[tuple[int, float, int]]], labels: list[str], colours: dict[str, int]
) -> str:
    """Lines of ratios over commits, logarithmic.

    Parameters
    ----------
    series : dict
        Name to points (index of the commit, ratio, how many of its works are of an earlier one).
    labels : list of str
        What each commit is called.
    colours : dict
        Name to number of the colour.
    """
    found = [value for points in series.values() for _, value, _ in points]
    if not found:
        return ""
    marks = ticks(min([*found, 1.0]), max([*found, 1.0]))
    left, right, top, bottom = 40.0, 352.0, 10.0, 166.0
    low, high = math.log(marks[0]), math.log(marks[-1])

    def x(index: int) -> float:
        if len(labels) == 1:
            return (left + right) / 2
        return left + 8 + (right - left - 16) * index / (len(labels) - 1)

    def y(value: float) -> float:
        return bottom - (bottom - top) * (math.log(value) - low) / (high - low)

    parts = [
        '<svg class="history" viewBox="0 0 360 196" role="img" aria-label="ratio over commits">'
    ]
    for mark in marks:
        kind = "one" if mark == 1 else "grid"
        parts.append(
            f'<line class="{kind}" x1="{left}" x2="{right}" y1="{y(mark):.1f}" y2="{y(mark):.1f}"/>'
        )
        parts.append(
            f'<text class="tick" x="{left - 6}" y="{y(mark) + 4:.1f}" text-anchor="end">'
            f"{mark:g}</text>"
        )
    for name, points in series.items():
        kind = f"series c{colours[name]}"
        line = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v, _ in points)
        parts.append(f'<polyline class="{kind}" points="{line}"/>')
        parts += [
            f'<circle class="{kind}{" carried" * bool(older)}" cx="{x(i):.1f}" cy="{y(v):.1f}" '
            f'r="3.5"><title>{escape(f"{name}: {v:.3g} at {labels[i]}{_of_before(older)}")}</title>'
            "</circle>"
            for i, v, older in points
        ]
    anchors = {0: "middle"} if len(labels) == 1 else {0: "start", len(labels) - 1: "end"}
    for index, anchor in anchors.items():
        place = {"start": left, "end": right, "middle": x(0)}[anchor]
        parts.append(
            f'<text class="tick" x="{place:.1f}" y="186" text-anchor="{anchor}">'
            f"{escape(labels[index])}</text>"
        )
    return "".join(parts) + "</svg>"
