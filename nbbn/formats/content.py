"""What a file of a model holds, whichever program wrote it, and class labels as JSON and back."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from nbbn.fold.report import FoldReport
from nbbn.formats.files import BROKEN, one_line
from nbbn.network import Network

# An optimiser's state: `layer.array.slot` -> an array like the layer's.
Slots = dict[str, np.ndarray]
# Bytes up to which string labels keep a dtype wider than they need: a short file must not ask for
# gigabytes.
_MAX_PADDED = 2**24


class Content(NamedTuple):
    """A network, and what `nbbn.loading` makes a model of it with."""

    network: Network
    # JSON-ready: `model` names the class, the rest is what that class needs.
    meta: dict[str, Any]
    slots: Slots


def of_layers(network: Network, name: str | None = None) -> Content:
    """The content of a `Sequential`, or of a `Model`, that was not compiled."""
    graph = network.graph
    if graph is None:
        return Content(network, {"model": "Sequential", "name": name}, {})
    names = {"inputs": [*graph.input_names] or None, "outputs": [*graph.output_names] or None}
    return Content(network, {"model": "Model", "name": name, **names}, {})


def of_answers(network: Network, kind: str | None, classes: np.ndarray | None,
               report: FoldReport | None = None) -> Content:
    """The content of a `FoldedModel`."""
    labels, folds = labels_to_json(classes), (report or FoldReport()).to_dict()
    meta = {"model": "FoldedModel", "kind": kind, "classes": labels, "report": folds}
    return Content(network, meta, {})


def labels_to_json(classes: ArrayLike | None) -> dict[str, Any] | None:
    """Class labels as JSON-ready values that keep their dtype; None for none.

    Booleans, integers, floats or strings, or objects that are all `str` or all `int`, along one
    axis. TypeError for others, a mix included; ValueError for another shape, NaN and infinity.
    """
    if classes is None:
        return None
    classes = np.asarray(classes)
    if classes.ndim != 1:
        raise ValueError(f"class labels must have one axis, got shape {classes.shape}")
    values = classes.tolist()
    if classes.dtype.kind == "O":
        values = [int(v) if isinstance(v, np.integer) else v for v in values]
        kinds = {str if isinstance(v, str) else type(v) for v in values}
        if kinds not in ({str}, {int}):
            names = ", ".join(sorted(kind.__name__ for kind in kinds)) or "nothing"
            raise TypeError(f"object labels must be all str or all int to be saved, got {names}; "
                            "convert y")
    elif classes.dtype.kind not in "biufU" or classes.dtype.char == "g":
        raise TypeError("class labels must be bool, int, float or str to be saved, "
                        f"got {classes.dtype}; convert y")
    if classes.dtype.kind == "f" and not np.isfinite(classes).all():
        raise ValueError("class labels hold NaN or infinity; only finite labels can be saved")
    return {"dtype": classes.dtype.str, "values": values}


def labels_from_json(labels: dict[str, Any]) -> np.ndarray:
    """The class labels that `labels_to_json` wrote; ValueError for anything else."""
    try:
        dtype, values = np.dtype(labels["dtype"]), labels["values"]
        if dtype.kind not in "biufUO":
            raise ValueError(f"dtype {dtype}")
        if dtype.kind == "U" and dtype.itemsize * len(values) > _MAX_PADDED:
            dtype = np.dtype(f"U{max(map(len, values))}")
        array = np.empty(len(values), dtype)
        array[:] = values
        back = labels_to_json(array)
    except BROKEN as err:
        raise ValueError(f"not class labels: {one_line(err)}") from err
    if back is None or back["values"] != values:
        raise ValueError(f"not class labels: values do not fit the dtype {dtype}")
    return array
