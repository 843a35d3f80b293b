"""HTML for notebooks: tables and small pictures, every text escaped.

Colours are the page's own, so that dark pages stay readable; nothing is loaded and nothing runs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

# Told apart without colour vision too (Okabe and Ito).
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 360, 180, 52, 8, 8, 24


def block(*parts: str) -> str:
    """Pieces of HTML, one below the other."""
    return f"<div>{''.join(parts)}</div>"


def heading(text: str) -> str:
    """A line in bold."""
    return f"<p><strong>{escape(text)}</strong></p>"


def line(text: str) -> str:
    """A line of text."""
    return f"<p>{escape(text)}</p>"


def details(title: str, *parts: str) -> str:
    """Pieces that a click on the title shows."""
    return f"<details><summary>{escape(title)}</summary>{''.join(parts)}</details>"


def table(columns: Sequence[str], rows: Sequence[Sequence[str]],
          right: Sequence[int] = ()) -> str:
    """A table; the columns `right` are aligned to the right."""
    sides = ["right" if i in right else "left" for i in range(len(columns))]

    def cells(tag: str, texts: Sequence[str]) -> str:
        shown = (f'<{tag} style="text-align: {side}">{escape(text)}</{tag}>'
                 for side, text in zip(sides, texts))
        return f"<tr>{''.join(shown)}</tr>"

    body = "".join(cells("td", row) for row in rows)
    return f"<table><thead>{cells('th', columns)}</thead><tbody>{body}</tbody></table>"


def beside(*parts: str) -> str:
    """Pieces next to each other, or below where the page is narrow."""
    style = "display: flex; flex-wrap: wrap; gap: 1em"
    return f'<div style="{style}">{"".join(f"<div>{part}</div>" for part in parts)}</div>'


def progress(done: float, total: float, text: str) -> str:
    """A bar with a text beside it."""
    shown = f'max="{total:g}" value="{min(done, total):g}"'
    return (f'<div><progress {shown} style="width: 16em; vertical-align: middle"></progress> '
            f"<code>{escape(text)}</code></div>")


def curves(title: str, first: int, named: Mapping[str, Sequence[float]]) -> str:
    """A picture of curves over epochs, of which `first` is the first; SVG.

    Values that are not finite leave a gap; all positive ones that span more than a hundredfold
    stand on a logarithmic axis.
    """
    values = [v for curve in named.values() for v in curve if math.isfinite(v)]
    count = max((len(curve) for curve in named.values()), default=0)
    if not values:
        return line(f"{title}: no finite number to draw")
    log = min(values) > 0 and max(values) > 100 * min(values)
    low, high = _scaled(min(values), log), _scaled(max(values), log)
    if low == high:
        low, high = low - 0.5, high + 0.5

    def x(i: int) -> float:
        return _LEFT + (_WIDTH - _LEFT - _RIGHT) * (i / (count - 1) if count > 1 else 0.5)

    def y(value: float) -> float:
        share = (_scaled(value, log) - low) / (high - low)
        return _HEIGHT - _BOTTOM - (_HEIGHT - _TOP - _BOTTOM) * share

    lines = []
    for (name, curve), colour in zip(named.items(), _COLOURS * len(named)):
        points = [(x(i), y(v)) for i, v in enumerate(curve) if math.isfinite(v)]
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.5">'
                     f"<title>{escape(name)}</title></polyline>")
        if len(points) == 1:
            (a, b), = points
            lines.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>')
    named_colours = " ".join(
        f'<span style="color: {colour}">&#9632;</span> {escape(name)}'
        for name, colour in zip(named, _COLOURS * len(named)))
    bottom, labels = _HEIGHT - _BOTTOM, []
    for value, place in ((max(values), _TOP + 8), (min(values), bottom)):
        labels.append(_label(_LEFT - 4, place, "end", f"{value:.3g}"))
    labels.append(_label(_LEFT, _HEIGHT - 6, "start", f"epoch {first}"))
    if count > 1:
        labels.append(_label(_WIDTH - _RIGHT, _HEIGHT - 6, "end", str(first + count - 1)))
    axes = (f'<path d="M{_LEFT},{_TOP} V{bottom} H{_WIDTH - _RIGHT}" fill="none" '
            'stroke="currentColor" stroke-opacity="0.5"/>')
    note = " (log scale)" if log else ""
    return (f"<figure style=\"margin: 0\"><figcaption>{escape(title)}{note}: {named_colours}"
            f'</figcaption><svg role="img" aria-label="{escape(title)}" width="{_WIDTH}" '
            f'height="{_HEIGHT}" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'xmlns="http://www.w3.org/2000/svg">{axes}{"".join(labels)}{"".join(lines)}'
            "</svg></figure>")


def _scaled(value: float, log: bool) -> float:
    return math.log10(value) if log else value


def _label(x: float, y: float, anchor: str, text: str) -> str:
    return (f'<text x="{x:.1f}" y="{y:.1f}" font-size="11" text-anchor="{anchor}" '
            f'fill="currentColor">{escape(text)}</text>')
