"""A model as a table, in Keras's columns."""

from __future__ import annotations

import shutil
from importlib.util import find_spec

from nbbn import markup
from nbbn.models.layer_list import LayerList
from nbbn.terminal import plain_table


def summary_html(name: str, layers: LayerList) -> str:
    """The same for a notebook."""
    heads, rows, counts = _cells(layers, show_trainable=False)
    about = [] if layers.built else [markup.line("not built: the shape of a row is not known yet")]
    return markup.block(markup.heading(f'Model: "{name}"'), *about,
                        markup.table(heads, rows, (2,)),
                        markup.table(("parameters", ""), list(counts.items()), (1,)))


def _cells(layers: LayerList, *,
           show_trainable: bool) -> tuple[list[str], list[list[str]], dict[str, str]]:
    """Heads and rows of the table, and the counts below it by title."""
    sources = layers.sources_told
    heads = ["Layer (type)", "Output Shape", "Param #", *(["Connected to"] if sources else []),
             *(["Trainable"] if show_trainable else [])]
    rows = []
    for i, entry in enumerate(layers.entries):
        known, spec = entry.arrays is not None, entry.spec
        size = sum(array.size for array in (entry.arrays or {}).values())
        row = [f"{layers.names[i]} ({type(spec).__name__})",
               str((None, *layers.output_shapes[i])) if layers.built else "?",
               f"{size:,}" if known else "0 (unbuilt)", *([sources[i]] if sources else [])]
        if show_trainable:
            row.append(("Y" if spec.trainable else "N") if size else "-")
        rows.append(row)
    counts = {}
    for title, trained in (("Total", None), ("Trainable", True), ("Non-trainable", False)):
        count = layers.count(trained) if layers.built else 0
        counts[f"{title} params:"] = f"{count:,} ({_bytes(count * layers.dtype.itemsize)})"
    return heads, rows, counts


def summary_text(name: str, layers: LayerList, line_length: int | None = None,
                 show_trainable: bool = False, *, color: bool = False) -> str:
    """Layers, output shapes and numbers of parameters, as text that ends with a newline.

    `line_length` None: what the terminal has, at most 88 columns, or 100 with a fourth: what layers
    take that do not follow one another, and with `show_trainable` whether a layer is trained.
    `color`: whether control characters may be used.
    """
    heads, rows, counts = _cells(layers, show_trainable=show_trainable)
    if find_spec("rich") is None:
        ends = "\n".join(f" {title} {count}" for title, count in counts.items())
        return f'Model: "{name}"\n{plain_table(heads, rows)}\n{ends}\n'
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    columns = max(40, shutil.get_terminal_size().columns - 4)
    width = line_length or min(100 if len(heads) > 3 else 88, columns)
    table = Table(width=width, show_lines=True)
    table.add_column("Layer (type)", ratio=45)
    table.add_column("Output Shape", ratio=35)
    table.add_column("Param #", ratio=20, justify="right")
    if "Connected to" in heads:
        table.add_column("Connected to", ratio=35)
    if show_trainable:
        table.add_column("Trainable", justify="center")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console = Console(width=max(width, 40), force_terminal=color,
                      color_system="auto" if color else None, highlight=False)
    with console.capture() as capture:
        console.print(f'[bold]Model: "{escape(name)}"[/bold]')
        console.print(table)
        for title, shown in counts.items():
            console.print(f"[bold] {title}[/bold] {shown}")
    return capture.get()


def _bytes(size: float) -> str:
    power = 0
    while size >= 1024 and power < 3:
        size, power = size / 1024, power + 1
    return f"{size:.2f} {('B', 'KB', 'MB', 'GB')[power]}"
