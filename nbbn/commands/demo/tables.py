"""The tables of the demonstration."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from nbbn.commands.demo.training import Run
from nbbn.fold.report import COLUMNS, FoldReport, rows_of


def epochs(runs: list[Run]) -> Table:
    """Accuracy and loss of both runs, a row an epoch (about 12 rows at most), and their seconds."""
    table = Table(title="validation accuracy and loss after each epoch", title_justify="left")
    table.add_column("epoch", justify="right")
    for run in runs:
        table.add_column(run.name, justify="right")
        table.add_column("loss", justify="right")
    count = len(runs[0].loss)
    step = -(-count // 12)
    for epoch in sorted({*range(0, count, step), count - 1}):
        _add(table, str(epoch + 1),
             [_cells(r.val_accuracy[epoch], r.val_loss[epoch]) for r in runs])
    table.add_section()
    _add(table, "best", [_cells(max(run.val_accuracy), min(run.val_loss)) for run in runs])
    _add(table, "seconds of the fit", [(f"{run.total:.2f}", "") for run in runs])
    return table


def _cells(accuracy: float, loss: float) -> tuple[str, str]:
    return f"{accuracy:.2%}", f"{loss:.4f}"


def _add(table: Table, name: str, pairs: list[tuple[str, str]]) -> None:
    table.add_row(name, *(cell for pair in pairs for cell in pair))


def folds(report: FoldReport) -> Table:
    """What became of each batch norm."""
    table = Table(*COLUMNS, title=f"{report.n_folded} of {report.n_total} batch norms folded",
                  title_justify="left")
    for row in rows_of(report.entries):
        table.add_row(*map(Text, row))
    return table


def inference(times: list[dict]) -> Table:
    """Microseconds a call of the estimator, the unfolded and the folded network."""
    caption = (
        "estimator: scikit-learn's checks included; unfolded: the same network with its batch "
        "norms, without the checks; medians, in brackets the middle half of the rounds"
    )
    noisy = [entry for entry in times if entry["quartiles"][0] < 1 < entry["quartiles"][1]]
    if noisy:
        rows = " and ".join(f"{entry['rows']:,}" for entry in noisy)
        caption += (f"; of {rows} row{'s' * (noisy[-1]['rows'] > 1)} this machine's noise now is "
                    "larger than the difference")
    title = "predict_proba, microseconds a call"
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    for name in ("rows", "estimator", "unfolded", "folded", "unfolded / folded"):
        table.add_column(name, justify="right")
    for entry in times:
        cells = [f"{entry[name] * 1e6:,.1f}" for name in ("estimator", "unfolded", "folded")]
        low, high = entry["quartiles"]
        table.add_row(f"{entry['rows']:,}", *cells,
                      f"{entry['ratio']:.2f} ({low:.2f} to {high:.2f})")
    return table
