"""The picture: accuracy and loss, epoch by epoch, with and without batch norm."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nbbn.commands.demo.training import Run
from nbbn.formats.files import whole_file

# Told apart without colour vision too (Okabe and Ito's blue and vermilion).
_COLOURS = ("#0072B2", "#D55E00")
# Of fewer epochs each is marked.
_FEW_EPOCHS = 10


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
    # The last three quarters of the epochs fill the panel; the first ones may begin below it.
    values = [value for run in runs for curve in (run.accuracy, run.val_accuracy)
              for value in curve[len(curve) // 4:]]
    margin = 0.05 * max(max(values) - min(values), 0.01)
    left.set_ylim(min(values) - margin, min(1 + margin, max(values) + margin))
    figure.suptitle(title)
    figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=4)
    with whole_file(path) as part:
        figure.savefig(part, dpi=120, format="png")


def _panel(axes: Any, runs: list[Run], curve: str, title: str, label: str) -> None:
    from matplotlib.ticker import MaxNLocator

    for run, colour in zip(runs, _COLOURS):
        epochs = range(1, len(run.loss) + 1)
        trained, held = getattr(run, curve), getattr(run, f"val_{curve}")
        dots = {"marker": "o", "ms": 4} if len(run.loss) < _FEW_EPOCHS else {}
        axes.plot(epochs, trained, "--", color=colour, label=f"{run.name}, training", **dots)
        axes.plot(epochs, held, "-", color=colour, label=f"{run.name}, validation", **dots)
    axes.set(title=title, xlabel="epoch", ylabel=label)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
