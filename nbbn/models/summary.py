"""A model as a table, in Keras's columns."""

from __future__ import annotations

import shutil


def summary_text(model, line_length: int | None = None, show_trainable: bool = False, *, color: bool = False) -> str:
    """Layers, output shapes and numbers of parameters of a model, as text that ends with a newline.

    Parameters
    ----------
    model : Sequential
    line_length : int or None
        Columns; None: what the terminal has, at most 88 (100 with `show_trainable`).
    show_trainable : bool
        Add a column that says whether a layer is trained.
    color : bool
        Whether control characters may be used.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    width = line_length or min(100 if show_trainable else 88, max(40, shutil.get_terminal_size().columns - 4))
    table = Table(width=width, show_lines=True)
    table.add_column("Layer (type)", ratio=45)
    table.add_column("Output Shape", ratio=35)
    table.add_column("Param #", ratio=20, justify="right")
    if show_trainable:
        table.add_column("Trainable", justify="center")
    shapes = model._layers.shapes[1:] if model.built else None
    for i, layer in enumerate(model.layers):
        shape = str((None, *shapes[i])) if shapes else "?"
        count = f"{layer.count_params():,}" if layer.built else "0 (unbuilt)"
        trained = ("Y" if layer.trainable else "N",) if show_trainable and layer.built and layer.count_params() else ("-",)
        row = [f"{layer.name} ({layer.__class__.__name__})", shape, count, *(trained if show_trainable else ())]
        table.add_row(*(escape(cell) for cell in row))
    console = Console(width=max(width, 40), force_terminal=color, color_system="auto" if color else None, highlight=False)
    with console.capture() as capture:
        console.print(f'[bold]Model: "{escape(model.name)}"[/bold]')
        console.print(table)
        for title, trained in (("Total", None), ("Trainable", True), ("Non-trainable", False)):
            count = model._layers.count(trained) if model.built else 0
            size = count * model._layers.dtype.itemsize
            console.print(f"[bold] {title} params:[/bold] {count:,} ({_bytes(size)})")
    return capture.get()


def _bytes(size: float) -> str:
    power = 0
    while size >= 1024 and power < 3:
        size, power = size / 1024, power + 1
    return f"{size:.2f} {('B', 'KB', 'MB', 'GB')[power]}"
