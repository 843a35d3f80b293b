"""What a file of a model holds, whichever program wrote it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from nbbn.fold.report import FoldReport
from nbbn.formats.labels import labels_to_json
from nbbn.network import Network

# An optimiser's state: `layer.array.slot` -> an array like the layer's.
Slots = dict[str, np.ndarray]


class Content(NamedTuple):
    """A network, and what `nbbn.loading` makes a model of it with."""

    network: Network
    # JSON-ready: `model` names the class, the rest is what that class needs.
    meta: dict[str, Any]
    slots: Slots


def of_layers(network: Network, name: str | None = None) -> Content:
    """The content of a `Sequential` that was not compiled."""
    return Content(network, {"model": "Sequential", "name": name}, {})


def of_answers(network: Network, kind: str | None, classes: np.ndarray | None,
               report: FoldReport | None = None) -> Content:
    """The content of a `FoldedModel`."""
    labels, folds = labels_to_json(classes), (report or FoldReport()).to_dict()
    meta = {"model": "FoldedModel", "kind": kind, "classes": labels, "report": folds}
    return Content(network, meta, {})
