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
from nbbn.formats.onnx.check import move_of, moved_runs
from nbbn.formats.onnx.comparable import runs_whole, showing, shown
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
    bound : float
        Of the differences; 0 for what is no floating-point number.
    turned : ndarray
        Rows of labels and the like that rounding explains: weights moved by it turn them too.
    """

    name: str
    ref: np.ndarray
    got: np.ndarray
    bound: float
    turned: np.ndarray

    @property
    def numbers(self) -> bool:
        """Whether both are floating-point numbers."""
        return self.ref.dtype.kind == self.got.dtype.kind == "f"

    @property
    def differences(self) -> np.ndarray:
        """The largest difference of each row, NaN where only one has a finite number.

        Of what is no number 1 where a row differs and rounding does not explain it.
        """
        if not self.numbers:
            return (_rows_apart(self.ref, self.got) & ~self.turned).astype(float)
        ref, got = self.ref.astype(np.float64), self.got.astype(np.float64)
        same = (ref == got) | (np.isnan(ref) & np.isnan(got))
        with np.errstate(invalid="ignore"):
            apart = np.where(same, 0.0, np.abs(ref - got))
        apart[~same & ~(np.isfinite(ref) & np.isfinite(got))] = np.nan
        return apart.reshape(len(ref), -1).max(axis=1, initial=0.0)


def _rows_apart(ref: np.ndarray, got: np.ndarray) -> np.ndarray:
    return (ref != got).reshape(len(ref), -1).any(axis=1)


def compare(first: Path, second: Path, rows: Any, count: int, folder: Path) -> list[Output]:
    """Run two files on `count` random rows, or fewer of large ones, and on the rows given.

    Of operators that cannot be run the last numbers before them are compared, if both have such.

    Raises
    ------
    Refused
        For files that cannot be run, and inputs or outputs that do not fit each other.
    FileError, TypeError, ValueError
        For other files, and rows that do not fit.
    """
    paths: Sequence[Path] = (first, second)
    models = [file.from_file(path) for path in paths]
    inputs = [_inputs(model) for model in models]
    by_name = {value.name: value for value in inputs[1]}
    if by_name.keys() == {value.name for value in inputs[0]}:  # else in their order
        inputs[1] = [by_name[value.name] for value in inputs[0]]
    merged = _merged(*inputs)
    moments = {**moments_of(models[1]), **moments_of(models[0])}
    if not all(runs_whole(OnnxGraph(model)) for model in models):
        paths = _before_foreign(models, folder)
    try:
        return _compared(paths, merged, inputs[1], rows, moments, count, folder)
    except FoldCheckFailed as err:
        raise Refused(str(err)) from None


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


def _before_foreign(models: Sequence[file.Model], folder: Path) -> tuple[Path, Path]:
    """Copies of both that show the last numbers before operators that cannot be run."""
    values = [[v.value for v in shown(OnnxGraph(model), frozenset())] for model in models]
    if not values[0] or len(values[0]) != len(values[1]):
        raise Refused("operators of others cannot be run, and there are no numbers before them "
                      "that both have")
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
    outputs = [_joined(found, k) for k in range(2 * half)]
    moves, turned = np.zeros((2, half)), [np.zeros(len(output), bool) for output in outputs[:half]]
    for which, (path, (open_file, _)) in enumerate(zip(paths, opened)):
        own = [feed if which == 0 else {names[n]: a for n, a in feed.items()} for feed in feeds]
        for run in moved_runs(open_file, path, folder):
            ran = [run(feed) for feed in own]
            for k in range(half):
                ref, moved = outputs[which * half + k], _joined(ran, k)
                moves[which, k] = max(moves[which, k], move_of(ref, moved))
                if len(ref) == len(turned[k]) and ref.shape == moved.shape:
                    turned[k] |= _rows_apart(ref, moved)
    made = []
    for title, ref, got, spread, rows_turned in zip(
        titles, outputs[:half], outputs[half:], moves.sum(axis=0), turned
    ):
        if ref.shape != got.shape:
            raise Refused(f"they differ in their outputs: {title!r} has shape {ref.shape} "
                          f"and {got.shape} on the same rows")
        bound = 0.0
        if ref.dtype.kind == got.dtype.kind == "f":
            eps = max(float(np.finfo(a.dtype).eps) for a in (ref, got))
            largest = float(np.abs(ref[np.isfinite(ref)]).max(initial=0.0))
            bound = FACTOR * float(spread) + FLOOR * eps * largest
        made.append(Output(title, ref, got, bound, rows_turned))
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
