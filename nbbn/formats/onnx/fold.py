"""Folding the batch norms of ONNX models: in memory, and from file to file."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbbn.fold.check import FoldCheckFailed
from nbbn.fold.engine import fold_graph
from nbbn.fold.graph import Norm
from nbbn.fold.report import FoldRefused, FoldReport
from nbbn.formats.files import FileError, one_line, whole_file
from nbbn.formats.onnx import file
from nbbn.formats.onnx.check import check_files
from nbbn.formats.onnx.feeds import Moments
from nbbn.formats.onnx.file import Model
from nbbn.formats.onnx.fold_graph import graph_of, looked_through, norms_within
from nbbn.formats.onnx.rebuild import folded_model


def fold_onnx(model: Any, *, strict: bool = False, check: Any = None) -> tuple[Any, FoldReport]:
    """Fold the batch norms of an ONNX model, as far as that is exact.

    Parameters
    ----------
    model : onnx.ModelProto
        Not written. Its data inside, as `onnx.load` reads it.
    strict : bool
        Raise where a batch norm cannot be folded.
    check : array, or mapping of input name to array, optional
        Rows to compare both models on, besides the random ones always used.

    Returns
    -------
    model : onnx.ModelProto
        With the same inputs, outputs, operator versions and metadata; but weights that a caller
        might have replaced, as they were inputs too, are none where they were folded.
    report : FoldReport

    Raises
    ------
    ImportError
        Without the package onnx.
    TypeError, ValueError
        For a model that is not valid, or rows that do not fit it.
    FoldRefused
        With `strict`, where a batch norm could not be folded.
    FoldCheckFailed
        Where the outputs differ by more than rounding explains, or cannot be compared.

    Notes
    -----
    Computed in float64 and cast last. Checked on ONNX Runtime where that is installed, else on
    onnx's own evaluator.

    Examples
    --------
    >>> import onnx
    >>> import nbbn
    >>> from nbbn.interop.onnx_fold import fold_onnx
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> written = nbbn.interop.to_onnx(model, "model.onnx", fold=False)
    >>> folded, report = fold_onnx(onnx.load("model.onnx"))
    >>> report.n_folded, [node.op_type for node in folded.graph.node]
    (1, ['Gemm', 'Identity'])
    """
    onnx = file.import_onnx("folding ONNX models")
    if not isinstance(model, onnx.ModelProto):
        raise TypeError(f"model must be an onnx.ModelProto, got {type(model).__name__}")
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "before.onnx", Path(folder) / "after.onnx"
        source = file.from_proto(model)
        _write(source, before)
        _check_format(source, "model")
        folded, report, seen = _folded(source, strict)
        _write(folded, after)
        report = _checked(before, after, report, check, seen, Path(folder))
        return file.to_proto(folded), report


def fold_onnx_file(in_path: str | os.PathLike, out_path: str | os.PathLike, *, strict: bool = False,
                   check: Any = None) -> FoldReport:
    """Fold the batch norms of an ONNX file into another, which appears whole or not at all.

    Parameters
    ----------
    in_path, out_path : path-like
        Data that the model keeps in other files must be in its folder; the folded model is one
        file.
    strict, check
        As for `fold_onnx`.

    Returns
    -------
    FoldReport

    Raises
    ------
    FileError
        For a missing, damaged or foreign file, and where the result cannot be written.
    ImportError, TypeError, ValueError, FoldRefused, FoldCheckFailed
        As `fold_onnx`.

    Notes
    -----
    Weights are read, folded and written one after the other: memory holds the largest, not all.

    Examples
    --------
    >>> import nbbn
    >>> from nbbn.interop.onnx_fold import fold_onnx_file
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> written = nbbn.interop.to_onnx(model, "model.onnx", fold=False)
    >>> fold_onnx_file("model.onnx", "folded.onnx").n_folded
    1
    """
    file.import_onnx("folding ONNX models")
    path = Path(in_path)
    with whole_file(out_path) as temporary, tempfile.TemporaryDirectory() as folder:
        try:
            source = file.from_file(path)
            _check_format(source, "it")
            folded, report, seen = _folded(source, strict)
            _write(folded, temporary)
        except (FileError, FoldRefused):
            raise
        except ValueError as err:  # what is wrong with the model is wrong with the file
            raise FileError(f"{path}: cannot be folded: {err}") from err
        report = _checked(path, temporary, report, check, seen, Path(folder))
        with open(temporary, "rb+") as written:
            os.fsync(written.fileno())
        return report


class _Seen(NamedTuple):
    """What the check asks of the source: what its inputs are like, and what is folded.

    `moments` are mean and deviation of inputs that batch norms read, `folded` the values that those
    give which are gone.
    """

    moments: Moments
    folded: frozenset[str]


def _folded(source: Model, strict: bool) -> tuple[Model, FoldReport, _Seen]:
    """The folded model, the report, and what the check has to know."""
    values = looked_through(source)
    graph, places = graph_of(values)
    norms = graph.norms()
    report = fold_graph(graph, strict=strict, outside=norms_within(source.skeleton))
    gone = frozenset(norm.outputs[0] for norm in norms if norm.name not in graph.nodes)
    folded = folded_model(source, values, places, norms, graph)
    return folded, report, _Seen(_moments(source, norms), gone)


def moments_of(source: Model) -> Moments:
    """Mean and deviation of inputs that batch norms read."""
    return _moments(source, graph_of(looked_through(source))[0].norms())


def _moments(source: Model, norms: list[Norm]) -> Moments:
    inputs = {value.name for value in source.skeleton.graph.input}
    return {
        norm.inputs[0]: (norm.affine.mean, np.sqrt(norm.var))
        for norm in norms
        if norm.affine and len(norm.var) and not norm.obstacle and norm.inputs[0] in inputs
    }  # fmt: skip


def _write(model: Model, path: Path) -> None:
    with open(path, "xb") as out:
        file.write(model, out)


def _check_format(model: Model, what: str) -> None:
    """Have onnx check a model."""
    from onnx import checker

    proto = file.stand_in(model)
    for value in proto.graph.output:  # the checker wants a shape, evaluators do not
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.shape.SetInParent()
    try:
        checker.check_model(proto)
    except (checker.ValidationError, RuntimeError) as err:
        raise ValueError(f"{what} is no valid ONNX model: {one_line(err, 300)}") from err


def _checked(before: Path, after: Path, report: FoldReport, rows: Any, seen: _Seen,
             folder: Path) -> FoldReport:
    """The report with the figures of the check, where anything was folded."""
    _check_format(file.from_file(after), "the folded model")
    if not report.n_folded:
        return report
    found = check_files(before, after, rows, *seen, folder)
    if not found.max_abs <= found.bound:
        raise FoldCheckFailed(f"the folded model differs by {found.max_abs:.3g} on {found.rows} "
                              f"rows, where rounding explains {found.bound:.3g} (largest gain "
                              f"{report.largest_gain:.3g}): do not use it; keep the unfolded model")
    return replace(
        report, max_abs_error=found.max_abs, max_rel_error=found.max_rel, bound=found.bound,
        rows_checked=found.rows,
    )  # fmt: skip
