"""Model files of any format, as the commands open them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from nbbn import interop
from nbbn.commands.errors import UnusableInput
from nbbn.formats import shown_names
from nbbn.formats.files import one_line
from nbbn.network import Network, beside

HELP = f"a model file: {shown_names()}"


def network_of(model: Any) -> Network:
    """The network within a model."""
    return model.network() if callable(model.network) else model.network


def rows_for(shape: tuple[int, ...], rows: np.ndarray) -> np.ndarray:
    """Rows in the shape that a model takes, from a table's columns or the other order of axes."""
    if rows.ndim == 2 and len(shape) > 1 and rows.shape[1] == np.prod(shape):
        return rows.reshape(len(rows), *shape)
    return turned(rows, shape) if are_turned(rows.shape[1:], shape) else rows


def joined(outputs: Any) -> Any:
    """What a model gives, several outputs as columns beside each other."""
    return beside(outputs, outputs[0].dtype) if isinstance(outputs, list) else outputs


def are_turned(a: tuple[int, ...], b: tuple[int, ...]) -> bool:
    """Whether one is the shape of images channels first, the other of the same channels last."""
    return a != b and len(a) == len(b) == 3 and b in ((*a[1:], a[0]), (a[2], *a[:2]))


def turned(rows: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Rows of images in the order of axes that `shape` says."""
    if rows.shape[1:] == shape:
        return rows
    last = shape == (rows.shape[2], rows.shape[3], rows.shape[1])
    return rows.transpose(0, 2, 3, 1) if last else rows.transpose(0, 3, 1, 2)


@dataclass
class Runnable:
    """A model file as a function of rows."""

    path: Path
    input_shape: tuple[int, ...]  # of a row
    # Rows of any real dtype to (rows, numbers); of a classifier the probabilities of all classes.
    outputs: Callable[[np.ndarray], np.ndarray]
    network: Network | None  # None where nbbn cannot read what ONNX Runtime runs
    how: str  # what runs it


def open_runnable(path: Path) -> Runnable:
    """The model in a file, ready to run: an ONNX file on ONNX Runtime, if there; else on nbbn."""
    if path.suffix.lower() == ".onnx" and find_spec("onnxruntime") is not None:
        return _on_onnxruntime(path)
    model = interop.open_model(path)
    network = network_of(model)
    outputs = functools.partial(_outputs, model, network)
    return Runnable(path, network.input_shape, outputs, network, "nbbn")


def _outputs(model: Any, network: Network, rows: np.ndarray) -> np.ndarray:
    rows = np.ascontiguousarray(rows, network.dtype)
    proba = getattr(model, "classes_", None) is not None and hasattr(model, "predict_proba")
    outputs = model.predict_proba(rows) if proba else model.predict(rows)
    return np.asarray(joined(outputs)).reshape(len(rows), -1)


def _on_onnxruntime(path: Path) -> Runnable:
    from nbbn.formats.onnx.run import open_session

    if not path.is_file():
        raise UnusableInput(f"{path}: does not exist, or is no file; check the path")
    try:
        session = open_session(path)
    except Exception as err:  # ONNX Runtime's own kinds, which have no common base
        reason = one_line(err, 300)
        raise UnusableInput(f"{path}: ONNX Runtime cannot open it ({reason})") from None
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in ("tensor(float)", "tensor(double)"):
        kinds = ", ".join(f"{i.name}: {i.type}" for i in inputs)
        raise UnusableInput(f"{path}: must have one input of floats, has {kinds}")
    shape = tuple(inputs[0].shape[1:])
    if not all(isinstance(n, int) and n > 0 for n in shape) or not shape:
        raise UnusableInput(f"{path}: the shape of its input, {inputs[0].shape}, "
                            "is not fixed but for the rows")
    dtype = np.dtype(np.float32 if inputs[0].type == "tensor(float)" else np.float64)

    network = _imported(path)

    fixed = inputs[0].shape[0]

    def outputs(rows: np.ndarray) -> np.ndarray:
        rows = np.ascontiguousarray(rows, dtype)
        count = fixed if isinstance(fixed, int) and fixed > 0 else max(1, len(rows))
        parts = []
        for start in range(0, len(rows), count):
            part = rows[start : start + count]
            whole = np.concatenate([part, part[-1:].repeat(count - len(part), axis=0)])
            found = _numbers(path, session.run(None, {inputs[0].name: whole}))
            parts.append(found[: len(part)])
        results = np.concatenate(parts)
        if network is not None and are_turned(results.shape[1:], network.output_shape):
            results = turned(results, network.output_shape)
        return results.reshape(len(rows), -1)

    return Runnable(path, shape, outputs, network, "ONNX Runtime")


def _numbers(path: Path, results: list) -> np.ndarray:
    """The output that holds floats; probabilities by class, as converters write, as columns."""
    found = [
        np.array([list(row.values()) for row in result]) if isinstance(result, list) else result
        for result in results if not isinstance(result, list) or isinstance(result[0], dict)
    ]
    found = [result for result in found if result.dtype.kind == "f"]
    if not found:
        raise UnusableInput(f"{path}: has no output of floats to compare")
    if len(found) > 1:
        raise UnusableInput(f"{path}: has {len(found)} outputs of floats; files of other formats "
                            "have one, compare it with an ONNX file")
    return found[0]


def _imported(path: Path) -> Network | None:
    """The network of an ONNX file; None where nbbn cannot express it."""
    try:
        return network_of(interop.open_model(path))
    except (ImportError, ValueError, TypeError):
        return None
