"""A model as a table, in Keras's columns."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

from nbbn import markup
from nbbn.layers.base import row_shape_of
from nbbn.terminal import plain_table


@dataclass
class Table:
    """Heads and rows of a model's table, and the counts below it by title."""

    heads: list[str]
    rows: list[list[str]]
    counts: dict[str, str]


def table_of(model: Any, *, expand_nested: bool = False, show_trainable: bool = False) -> Table:
    """The table of a model: its layers, and the models within as one row each or expanded."""
    rows = list(_rows(model))
    connected = any(row.sources is not None for row in rows)
    heads = ["Layer (type)", "Output Shape", "Param #", *(["Connected to"] if connected else []),
             *(["Trainable"] if show_trainable else [])]
    cells = []
    for row in _expanded(rows) if expand_nested else rows:
        cells.append([row.name, row.shape, row.size,
                      *([row.sources or "-"] if connected else []),
                      *([row.trained] if show_trainable else [])])
    return Table(heads, cells, _counts(model))


@dataclass
class _Row:
    """A layer's row; `sources` None where each takes from the one before it."""

    name: str
    shape: str
    size: str
    trained: str
    sources: str | None
    model: Any = None  # of a model within


def _rows(model: Any) -> Iterator[_Row]:
    shown = zip(model.layers, _shapes_and_sources(model))
    for layer, (shape, sources) in shown:
        arrays = layer.get_weights() if layer.built else []
        size = sum(array.size for array in arrays)
        trained = ("Y" if layer.trainable else "N") if size else "-"
        within = hasattr(layer, "layers")
        kind = layer._class_name if within else type(layer.specification).__name__
        kind = "InputLayer" if kind == "Input" else kind
        yield _Row(f"{layer.name} ({kind})", shape, f"{size:,}" if layer.built else "0 (unbuilt)",
                   trained, sources, layer if within else None)


def _expanded(rows: Iterable[_Row], depth: int = 0) -> Iterator[_Row]:
    for row in rows:
        mark = f"{'   ' * depth}\u2514 " if depth else ""
        yield replace(row, name=mark + row.name, sources=None if depth else row.sources)
        if row.model is not None:
            yield from _expanded(_rows(row.model), depth + 1)


def _shapes_and_sources(model: Any) -> Iterator[tuple[str, str | None]]:
    """Of each layer the shape of what it gives, and from where it takes, as Keras tells it."""
    layers = model._layers
    if not model.built:
        yield from (("?", None) for _ in model.layers)
        return
    if not hasattr(layers, "parts"):  # one after the other
        ends = dict(zip(layers.entries, layers.output_shapes))
        for part in model._parts():
            last = part._entries()[-1] if hasattr(part, "layers") else part
            yield _shown([ends[last]]), None
        return
    parts = model._outline()
    names = [layer.name for layer in model.layers]
    names = [*[""] * (len(parts) - len(names)), *names]  # a Sequential does not show its input
    label = {id(node): f"{name}[{k}]" for name, part in zip(names, parts)
             for k, node in enumerate(part.nodes)}
    chain = all(len(part.nodes) == 1 and [source for source, _ in part.nodes[0].sources]
                == before.nodes for before, part in pairwise(parts))
    for part in parts[len(parts) - len(model.layers):]:
        sources = (f"{label[id(source)]}[{k}]" for node in part.nodes for source, k in node.sources)
        shapes = [row_shape_of(one) for one in part.nodes[0].gave if one is not None]
        yield _shown(shapes), None if chain else ", ".join(sources)


def _shown(shapes: list[Any]) -> str:
    shown = [str((None, *shape)) for shape in shapes]
    return shown[0] if len(shown) == 1 else f"[{', '.join(shown)}]"


def _counts(model: Any) -> dict[str, str]:
    sizes = [(math.prod(variable.shape), variable.trainable) for variable in model.weights
             if model.built]
    trained = sum(size for size, changes in sizes if changes)
    total, each = sum(size for size, _ in sizes), model._layers.dtype.itemsize
    return {f"{title} params:": f"{count:,} ({_bytes(count * each)})" for title, count in
            (("Total", total), ("Trainable", trained), ("Non-trainable", total - trained))}


def summary_html(name: str, table: Table, *, built: bool) -> str:
    """The same for a notebook."""
    about = [] if built else [markup.line("not built: the shape of a row is not known yet")]
    return markup.block(markup.heading(f'Model: "{name}"'), *about,
                        markup.table(table.heads, table.rows, (2,)),
                        markup.table(("parameters", ""), list(table.counts.items()), (1,)))


def summary_text(name: str, table: Table, line_length: int | None = None, *,
                 color: bool = False) -> str:
    """Layers, output shapes and numbers of parameters, as text that ends with a newline.

    `line_length` None: what the terminal has, at most 88 columns, or 100 with a fourth: what layers
    take that do not follow one another, or whether a layer is trained. `color`: whether control
    characters may be used.
    """
    heads, rows, counts = table.heads, table.rows, table.counts
    if find_spec("rich") is None:
        ends = "\n".join(f" {title} {count}" for title, count in counts.items())
        return f'Model: "{name}"\n{plain_table(heads, rows)}\n{ends}\n'
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table as RichTable

    columns = max(40, shutil.get_terminal_size().columns - 4)
    width = line_length or min(100 if len(heads) > 3 else 88, columns)
    shown = RichTable(width=width, show_lines=True)
    shown.add_column("Layer (type)", ratio=45)
    shown.add_column("Output Shape", ratio=35)
    shown.add_column("Param #", ratio=20, justify="right")
    if "Connected to" in heads:
        shown.add_column("Connected to", ratio=35)
    if "Trainable" in heads:
        shown.add_column("Trainable", justify="center")
    for row in rows:
        shown.add_row(*(escape(cell) for cell in row))
    console = Console(width=max(width, 40), force_terminal=color,
                      color_system="auto" if color else None, highlight=False)
    with console.capture() as capture:
        console.print(f'[bold]Model: "{escape(name)}"[/bold]')
        console.print(shown)
        for title, count in counts.items():
            console.print(f"[bold] {title}[/bold] {count}")
    return capture.get()


def _bytes(size: float) -> str:
    power = 0
    while size >= 1024 and power < 3:
        size, power = size / 1024, power + 1
    return f"{size:.2f} {('B', 'KB', 'MB', 'GB')[power]}"
