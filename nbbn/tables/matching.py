"""Tables to predict for: their columns found by name, or by place where there are no names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from nbbn.formats.files import FileError
from nbbn.tables.cells import Cells, is_value
from nbbn.tables.description import Description
from nbbn.tables.reading import Table, TextTable, check_columns, open_table


def encoded_chunks(path: Path, description: Description,
                   unexpected: set[str]) -> Iterator[tuple[np.ndarray, float]]:
    """The network's columns, filled, some rows at a time, and the fraction read.

    `unexpected` is given the columns with missing cells that had none in training.
    """
    table = open_table(path, lambda fields: _is_header(fields, description))
    if isinstance(table, TextTable) and table.named:
        # Rows may end before columns that the first line names.
        table = replace(table, names=table.names[: table.width()])
    if not table.names:
        return
    own = _own_names(table, description)
    texts = [own[name] for name in description.not_numbers()]
    for piece in table.pieces(list(own.values()), texts):
        columns = {name: _called(piece.columns[theirs], name) for name, theirs in own.items()}
        gone = description.unexpected(columns)
        if gone and not description.standardises:
            cells = columns[gone[0]]
            raise cells.refuse(int(np.flatnonzero(cells.missing)[0]), "is missing",
                               "fill it in: the model was trained with --raw, without such cells")
        unexpected.update(gone)
        yield description.filled(description.encode(columns)), piece.fraction


def _called(cells: Cells, name: str) -> Cells:
    """In messages a column has the name that the model knows."""
    cells.name = name
    return cells


def _is_header(fields: list[str], description: Description) -> bool:
    if description.named:
        known = {field.strip() for field in fields}
        if known.issuperset(description.names):
            return True
        return not any(is_value(field) for field in fields if field.strip())
    # Numbers where numbers belong: a row.
    return any(column.kind in ("number", "bool", "date") and not is_value(field)
               for column, field in zip(description.columns, fields))


def _own_names(table: Table, description: Description) -> dict[str, str]:
    """The table's names of the model's columns."""
    names = description.names
    if table.named and description.named:
        check_columns(table, names, ", which the model was trained on")
        return {name: name for name in names}
    if len(table.names) != len(names):
        whose = "the model knows its columns by place" if table.named else "it names no columns"
        raise FileError(f"{table.path} has {len(table.names)} columns, but the model takes "
                        f"{len(names)} and {whose}; give those alone, in the order of training"
                        + ("" if table.named else ", or a first line of names"))
    return dict(zip(names, table.names))
