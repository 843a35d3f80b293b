"""A table model's file: the model with its table's description and a card of how it was made."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.folded_model import FoldedModel
from nbbn.formats import native, of_answers
from nbbn.formats.files import BROKEN, PathLike, first_bytes
from nbbn.tables.description import Description, not_described
from nbbn.version import __version__

# The entries of a file's header, beside those of the model.
DESCRIPTION, CARD = "table", "card"


def save(path: PathLike, model: Any, description: Description | None, card: dict[str, Any]) -> None:
    """Write a model as its own `save` does, with what is known of its table."""
    network, meta, slots = model._content()
    further = {} if description is None else {DESCRIPTION: description.to_json()}
    native.save(path, network, {**meta, **further, CARD: card}, slots)


def save_folded(path: PathLike, folded: FoldedModel, source: PathLike) -> None:
    """Write a folded model with what the file of its source knows of the table."""
    known = {name: value for name, value in _meta(source).items() if name in (DESCRIPTION, CARD)}
    classes = getattr(folded, "classes_", None)
    network, meta, slots = of_answers(folded.network, folded.kind, classes, folded.report)
    native.save(path, network, {**meta, **known}, slots)


def description_of(path: Path) -> Description | None:
    """That in a model file; None in one that knows no table."""
    found = _meta(path).get(DESCRIPTION)
    try:
        return None if found is None else Description.from_json(found)
    except ValueError as err:
        raise not_described(path, err) from None


def card_of(path: Path) -> dict[str, Any] | None:
    """The card in a model file; None for none."""
    found = _meta(path).get(CARD)
    return found if isinstance(found, dict) else None


def _meta(path: PathLike) -> dict[str, Any]:
    """The header's entries of a file of nbbn's own; {} of another, or a broken one."""
    if not Path(path).is_file() or first_bytes(path)[8:9] != b"{":
        return {}
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "numpy") as file:
            found = json.loads((file.metadata() or {}).get("nbbn", "{}")).get("meta", {})
    except (SafetensorError, OSError, *BROKEN):  # who opens the model says what is wrong
        return {}
    return found if isinstance(found, dict) else {}


def card(rows: int, score: dict[str, Any] | None, options: dict[str, Any]) -> dict[str, Any]:
    """When, with what and from how much a model was made; the day alone, so that the same day's
    files are the same."""
    import sklearn

    epoch = os.environ.get("SOURCE_DATE_EPOCH")
    now = datetime.datetime.now(datetime.timezone.utc) if epoch is None else \
        datetime.datetime.fromtimestamp(int(epoch), datetime.timezone.utc)
    versions = {"nbbn": __version__, "numpy": np.__version__, "scikit-learn": sklearn.__version__,
                "python": platform.python_version()}
    return {"trained": now.date().isoformat(), "rows": rows, "score": score, "options": options,
            "versions": versions}
