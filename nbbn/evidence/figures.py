"""Curves as a picture."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbn.evidence.panel import Panel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Told apart without colours, too: Wong (2011), and a marker each.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "x")


def draw(title: str, panels: list[Panel], figure: Figure | None = None) -> Figure:
    """One panel beside the other."""
    if figure is None:
        try:
            from matplotlib.figure import Figure as New
        except ModuleNotFoundError as err:
            raise ImportError("a picture needs matplotlib, which is not installed; install it: "
                              'python -m pip install "nbbn[plot]"') from err
        figure = New(figsize=(4.6 * len(panels), 3.6))
    figure.set_layout_engine("constrained")
    axes: Any = figure.subplots(1, len(panels), squeeze=False)
    for ax, panel in zip(axes[0], panels):
        (_bars if panel.x and isinstance(panel.x[0], str) else _curves)(ax, panel)
        ax.set_title(panel.title, fontsize="medium")
        ax.set_xlabel(panel.x_label)
        ax.set_ylabel(panel.y_label)
        if panel.log_y:
            ax.set_yscale("log")
        ax.grid(alpha=0.3)
        if len(panel.series) > 1:
            ax.legend(fontsize="small", framealpha=0.7)
    figure.suptitle(title, fontsize="medium", wrap=True)
    return figure


def write_png(figure: Figure, path: Path) -> None:
    """Write a picture as a small file: 64 colours are enough for curves."""
    from PIL import Image

    whole = io.BytesIO()
    figure.savefig(whole, format="png", dpi=80)
    Image.open(whole).convert("RGB").quantize(64).save(path, optimize=True)


def _curves(ax: Any, panel: Panel) -> None:
    if panel.log_x:
        ax.set_xscale("log")
    for i, name in enumerate(panel.series):
        mean, low, high = np.array(panel.intervals(name)).T
        colour, few = _COLOURS[i % len(_COLOURS)], len(panel.x) <= 16
        ax.plot(panel.x, mean, color=colour, label=name, linewidth=1.5, markersize=4,
                marker=_MARKERS[i % len(_MARKERS)] if few else None)
        ax.fill_between(panel.x, low, high, color=colour, alpha=0.2, linewidth=0)


def _bars(ax: Any, panel: Panel) -> None:
    width = 0.8 / len(panel.series)
    for i, name in enumerate(panel.series):
        mean, low, high = np.array(panel.intervals(name)).T
        places = np.arange(len(panel.x)) + (i - (len(panel.series) - 1) / 2) * width
        ends = np.nan_to_num(np.array([mean - low, high - mean]))
        ax.bar(places, mean, width, yerr=ends, color=_COLOURS[i % len(_COLOURS)], label=name,
               capsize=3)
    ax.set_xticks(np.arange(len(panel.x)), panel.x)
