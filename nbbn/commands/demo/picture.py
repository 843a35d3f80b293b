"""The picture: accuracy and loss, epoch by epoch, with and without batch norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbbn.commands.demo.training import Run
from nbbn.formats.files import whole_file

# Told apart without colour vision too (Okabe and Ito's blue and vermilion).
_COLOURS = ("#0072B2", "#D55E00")


def draw(path: Path, runs: list[Run], title: str) -> None:
    """Write a PNG with two panels; needs matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    _panel(left, runs, "accuracy", "Accuracy", "share of rows classified rightly")
    _panel(right, runs, "loss", "Loss", "mean cross-entropy (log scale)")
    right.set_yscale("log")
    figure.suptitle(title)
    with whole_file(path) as part:
        figure.savefig(part, dpi=120, format="png")


def _panel(axes: Any, runs: list[Run], curve: str, title: str, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for run, colour in zip(runs, _COLOURS):
        epochs = range(1, len(run.loss) + 1)
        trained, held = getattr(run, curve), getattr(run, f"val_{curve}")
        axes.plot(epochs, trained, "--", color=colour, marker=".", label=f"{run.name}, training")
        axes.plot(epochs, held, "-", color=colour, marker="o", ms=4,
                  label=f"{run.name}, validation")
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
