"""Two ONNX models on the same numbers, output by output."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.fold.check import FACTOR, FLOOR, FoldCheckFailed
from nbbn.formats.files import Refused, one_line
from nbbn.formats.onnx import file
from nbbn.formats.onnx.check import moves_of
from nbbn.formats.onnx.comparable import showing, shown
from nbbn.formats.onnx.feeds import Feed, Moments, Outputs, feeds_of
from nbbn.formats.onnx.fold import moments_of
from nbbn.formats.onnx.graph import OnnxGraph
from nbbn.formats.onnx.run import engine


@dataclass(frozen=True)
class Output:
    """One output of two models, of all rows: numbers, with what rounding explains, or labels.

    Attributes
    ----------
    name : str
        Of the first model's.
    ref, got : ndarray
        Of the same shape.
    bound : float or None
        None for what is no floating-point number, which is the same or is not.
    """

    name: str
    ref: np.ndarray
    got: np.ndarray
    bound: float | None

    @property
    def differences(self) -> np.ndarray:
        """The largest difference of each row, NaN where only one has a finite number."""
        if self.bound is None:
            return (self.ref != self.got).reshape(len(self.ref), -1).any(axis=1).astype(float)
        ref, got = self.ref.astype(np.float64), self.got.astype(np.float64)
        same = (ref == got) | (np.isnan(ref) & np.isnan(got))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(ref - got))
        apart[~same & ~(np.isfinite(ref) & np.isfinite(got))] = np.nan
        return apart.reshape(len(ref), -1).max(axis=1, initial=0.0)


def compare(first: Path, second: Path, rows: Any, count: int, folder: Path) -> list[Output]:
    """Run two files on `count` random rows, or fewer of large ones, and on the rows given.

    Where labels differ, the last numbers before them are compared instead, if both have such.

    Raises
    ------
    Refused
        For files that cannot be run, and inputs or outputs that do not fit each other.
    FileError, TypeError, ValueError
        For other files, and rows that do not fit.
    """
    paths = (first, second)
    models = [file.from_file(path) for path in paths]
    inputs = [_inputs(model) for model in models]
    by_name = {value.name: value for value in inputs[1]}
    if by_name.keys() == {value.name for value in inputs[0]}:  # else in their order
        inputs[1] = [by_name[value.name] for value in inputs[0]]
    merged = _merged(*inputs)
    moments = {**moments_of(models[1]), **moments_of(models[0])}
    labels_apart = False
    try:
        outputs = _compared(paths, merged, inputs[1], rows, moments, count, folder)
        labels_apart = any(o.bound is None and o.differences.any() for o in outputs)
    except FoldCheckFailed as err:  # perhaps for operators that nobody runs
        values = [shown(OnnxGraph(model), frozenset()) for model in models]
        if not all(values) or len(values[0]) != len(values[1]):
            raise Refused(str(err)) from None
        outputs, labels_apart = [], True
    if labels_apart:
        before = _before_labels(models, folder)
        if before is not None:
            numbers = _compared(before, merged, inputs[1], rows, moments, count, folder)
            outputs = [o for o in outputs if o.bound is not None] + numbers
    return outputs


def _inputs(model: file.Model) -> list[Any]:
    return [value for value in model.skeleton.graph.input if value.name not in model.tensors]


def _merged(first: Sequence[Any], second: Sequence[Any]) -> list[Any]:
    """The first model's inputs, with the sizes that only the second fixes."""
    if len(first) != len(second):
        raise Refused(f"they differ in their inputs: {len(first)} and {len(second)}")
    merged = []
    for a, b in zip(first, second):
        value = type(a).FromString(a.SerializeToString())
        dims, others = value.type.tensor_type.shape.dim, b.type.tensor_type.shape.dim
        fits = len(dims) == len(others) and all(
            0 in (one.dim_value, other.dim_value) or one.dim_value == other.dim_value
            for one, other in zip(dims, others)
        )
        if not fits or value.type.tensor_type.elem_type != b.type.tensor_type.elem_type:
            raise Refused(f"they differ in their inputs: {_shown(a)} and {_shown(b)}")
        for one, other in zip(dims, others):
            if not one.dim_value and other.dim_value:
                one.dim_value = other.dim_value
        merged.append(value)
    return merged


def _shown(value: Any) -> str:
    sizes = ", ".join(str(d.dim_value or d.dim_param or "any")
                      for d in value.type.tensor_type.shape.dim)
    return f"{one_line(value.name)!r} of shape ({sizes})"


def _before_labels(models: Sequence[file.Model], folder: Path) -> tuple[Path, Path] | None:
    """Copies of both that show the last numbers before labels; None where these do not pair."""
    values = [[v.value for v in shown(OnnxGraph(model), frozenset())] for model in models]
    if not values[0] or len(values[0]) != len(values[1]):
        return None
    copies = folder / "first_shown.onnx", folder / "second_shown.onnx"
    for copy, model, names in zip(copies, models, values):
        with open(copy, "wb") as out:
            file.write(showing(model, names), out)
    return copies


def _compared(paths: Sequence[Path], merged: Sequence[Any], inputs: Sequence[Any], rows: Any,
              moments: Moments, count: int, folder: Path) -> list[Output]:
    """All outputs of both; `inputs` are the second's, in the order of the merged ones."""
    opened = [engine(path) for path in paths]
    runs = [run for _, run in opened]
    names = dict(zip((v.name for v in merged), (v.name for v in inputs)))

    def both(feed: Feed) -> Outputs:
        return runs[0](feed) + runs[1]({names[name]: array for name, array in feed.items()})

    feeds, found = feeds_of(merged, both, rows, moments, count)
    half = len(found[0]) // 2
    titles = [output.name for output in _outputs(paths[0])]
    if len(found[0]) % 2 or half != len(titles):
        counts = f"{len(titles)} and {len(found[0]) - len(titles)}"
        raise Refused(f"they differ in their outputs: {counts}")
    pairs = [(_joined(found, k), _joined(found, half + k)) for k in range(half)]
    feed, out = feeds[0], found[0]
    other = {names[name]: array for name, array in feed.items()}
    moved = [
        sum(moves) for moves in zip(moves_of(opened[0][0], paths[0], feed, out[:half], folder),
                                    moves_of(opened[1][0], paths[1], other, out[half:], folder))
    ]
    made = []
    for title, (ref, got), spread in zip(titles, pairs, moved):
        if ref.shape != got.shape:
            raise Refused(f"they differ in their outputs: {title!r} has shape {ref.shape} "
                          f"and {got.shape} on the same rows")
        bound = None
        if ref.dtype.kind == got.dtype.kind == "f":
            eps = max(float(np.finfo(a.dtype).eps) for a in (ref, got))
            largest = float(np.abs(ref[np.isfinite(ref)]).max(initial=0.0))
            bound = FACTOR * spread + FLOOR * eps * largest
        made.append(Output(title, ref, got, bound))
    return made


def _outputs(path: Path) -> Sequence[Any]:
    return file.from_file(path).skeleton.graph.output


def _joined(found: Sequence[Outputs], at: int) -> np.ndarray:
    """An output of all runs; probabilities by class, as converters write, as columns."""
    parts = [outputs[at] for outputs in found]
    parts = [np.array([list(row.values()) for row in part])
             if isinstance(part, list) and part and isinstance(part[0], dict) else np.asarray(part)
             for part in parts]
    return np.concatenate(parts) if parts[0].ndim else np.stack(parts)
