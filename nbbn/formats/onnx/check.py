"""A folded ONNX model against its source: the same numbers through both, and what rounding is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from nbbn.fold.check import FACTOR, FLOOR, PERTURBATIONS, SEED, Check, FoldCheckFailed
from nbbn.formats.files import one_line
from nbbn.formats.onnx import file
from nbbn.formats.onnx.comparable import runs_whole, showing, shown
from nbbn.formats.onnx.feeds import Feed, Moments, Outputs, feeds_of
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode, names_read
from nbbn.formats.onnx.operators import operator_of
from nbbn.formats.onnx.run import Run, engine
from nbbn.formats.onnx.tensors import DTYPES, made

# Moved weights are written to a file each time: from this size on fewer times, so that a large
# model takes seconds.
_LARGE = 1 << 25
_FEW_PERTURBATIONS = 2
_MOVED_AT_ONCE = 1 << 18


class _Moves(NamedTuple):
    """How far one output of a graph moved: by the fold, and by the roundings of its weights."""

    difference: float
    largest: float
    spread: float
    eps: float

    @property
    def bound(self) -> float:
        return FACTOR * self.spread + FLOOR * self.eps * self.largest

    @property
    def excess(self) -> float:
        """The difference as a multiple of the bound."""
        return self.difference / self.bound if self.bound else np.inf if self.difference else 0.0


def check_files(before: Path, after: Path, rows: Any, moments: Moments, folded: Set[str],
                folder: Path) -> Check:
    """Compare the files of a source and of the folded model.

    On random numbers and the caller's `rows`; `folded` are values of the source that batch norms
    gave; models with moved weights are written to `folder`.
    The bound is that of `nbbn.fold.check.check_fold`: from each weight of both models, moved by
    `eps * sqrt(fan-in)`.

    Returns
    -------
    Check
        Of the output that comes closest to its bound, or exceeds it most.

    Raises
    ------
    TypeError, ValueError
        For rows that do not fit the model's inputs.
    FoldCheckFailed
        Where nothing can be compared.
    """
    before, after = _comparable_files(before, after, folded, folder)
    opened, run = engine(before)
    feeds, ref = feeds_of(_inputs(before), run, rows, moments)
    del run  # before the next model is opened: memory holds one at a time
    run = _open(opened, after, "folded")
    got = [_run(run, feed, "folded") for feed in feeds]
    del run
    worst = int(np.argmax([_distance(a, b) for a, b in zip(ref, got)]))
    spreads = [
        moves_of(opened, path, feeds[worst], out[worst], folder)
        for path, out in ((before, ref), (after, got))
    ]
    found = [
        _compared(a, b, sum(moves))
        for a, b, *moves in zip(zip(*ref), zip(*got), *spreads) if all(map(_comparable, a))
    ]  # fmt: skip
    if not found:
        what = "the model has no output of floating-point numbers"
        raise FoldCheckFailed(f"{what}, so the fold cannot be checked")
    of = max(found, key=lambda output: output.excess)
    count = sum(len(next(iter(feed.values()), ())) for feed in feeds)
    return Check(of.difference, of.difference / of.largest if of.largest else 0.0, of.bound, count)


def _comparable_files(before: Path, after: Path, norms: Set[str],
                      folder: Path) -> tuple[Path, Path]:
    """The files, or copies that show the last numbers before outputs that cannot be compared."""
    source, folded = file.from_file(before), file.from_file(after)
    graph = OnnxGraph(source)
    values = shown(graph, norms)
    names = [value.value for value in values]
    if names == [output.name for output in graph.proto.output] and runs_whole(graph):
        return before, after
    try:
        other = OnnxGraph(folded)
        theirs = [value.of(other) for value in values]
    except KeyError as err:
        raise FoldCheckFailed(f"the folded model has no value {err}, so the fold cannot be "
                              "checked") from None
    copies = folder / "before_shown.onnx", folder / "after_shown.onnx"
    for copy, model, outputs in zip(copies, (source, folded), (names, theirs)):
        with open(copy, "xb") as out:
            file.write(showing(model, outputs), out)
    return copies


def _comparable(output: Any) -> bool:
    """Whether an output is an array of floating-point numbers; some are sequences or classes."""
    return isinstance(output, np.ndarray) and output.dtype.kind == "f"


def _compared(ref: tuple[np.ndarray, ...], got: tuple[np.ndarray, ...], spread: float) -> _Moves:
    """One output of all runs."""
    eps = float(np.finfo(ref[0].dtype).eps)
    pairs = [(_wide(a), _wide(b)) for a, b in zip(ref, got)]
    difference = max(_difference(a, b) for a, b in pairs)
    return _Moves(difference, max(_largest(a) for a, _ in pairs), spread, eps)


def _largest(array: np.ndarray) -> float:
    return float(np.abs(array[np.isfinite(array)]).max(initial=0.0))


def _inputs(path: Path) -> list[Any]:
    """The inputs that a caller must give."""
    skeleton, tensors = file.from_file(path)
    return [value for value in skeleton.graph.input if value.name not in tensors]


def _open(opened: Callable[[Path], Run], path: Path, which: str) -> Run:
    try:
        return opened(path)
    except Exception as err:  # the runtime's exceptions have no common class
        raise FoldCheckFailed(f"the {which} model cannot be opened: {one_line(err, 300)}") from err


def _run(run: Run, feed: Feed, which: str) -> list[np.ndarray]:
    try:
        return run(feed)
    except Exception as err:  # the runtime's exceptions have no common class
        raise FoldCheckFailed(f"the {which} model cannot be run: {one_line(err, 300)}") from err


def _wide(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, np.float64)


def _difference(ref: np.ndarray, got: np.ndarray) -> float:
    """Largest difference; what is not finite in one must be the same in the other."""
    finite = np.isfinite(ref)
    if ref.shape != got.shape or not np.array_equal(ref[~finite], got[~finite], equal_nan=True):
        what = "the outputs of the folded model differ in shape or in what is not finite"
        raise FoldCheckFailed(what)
    if not finite.any() and ref.size:
        what = "no output is finite, so the fold cannot be checked"
        raise FoldCheckFailed(f"{what}; pass rows that suit the model as check")
    if not np.isfinite(got[finite]).all():
        raise FoldCheckFailed("outputs of the folded model are not finite where the source's are")
    return float(np.abs(got[finite] - ref[finite]).max(initial=0.0))


def _distance(ref: Outputs, got: Outputs) -> float:
    """How far the floating-point outputs of one run are apart, relative to the largest of each."""
    pairs = [(_wide(a), _wide(b)) for a, b in zip(ref, got) if _comparable(a)]
    return max((_difference(a, b) / (_largest(a) or 1.0) for a, b in pairs), default=0.0)


def moves_of(opened: Callable[[Path], Run], path: Path, feed: Feed, outputs: Outputs,
             folder: Path) -> list[float]:
    """How far each output moves when each weight moves by the roundings it takes part in."""
    spreads = [0.0] * len(outputs)
    for run in moved_runs(opened, path, folder):
        for i, (out, moved) in enumerate(zip(outputs, run(feed))):
            spreads[i] = max(spreads[i], move_of(out, moved))
    return spreads


def moved_runs(opened: Callable[[Path], Run], path: Path, folder: Path) -> Iterator[Run]:
    """A model with each weight moved by the roundings it takes part in, a few times, one by one."""
    rng = np.random.default_rng(SEED)
    moved_file = folder / "moved.onnx"
    for _ in range(PERTURBATIONS if path.stat().st_size < _LARGE else _FEW_PERTURBATIONS):
        with open(moved_file, "wb") as written:
            file.write(_perturbed(file.from_file(path), rng), written)
        yield partial(_run, _open(opened, moved_file, "perturbed"), which="perturbed")


def move_of(output: Any, moved: Any) -> float:
    """How far an output moved, 0 for what is no array of floating-point numbers."""
    if not _comparable(output) or output.shape != moved.shape:
        return 0.0
    with np.errstate(invalid="ignore"):  # infinity, which does not move
        move = np.abs(_wide(moved) - _wide(output))
    return float(move[np.isfinite(move)].max(initial=0.0))


def _perturbed(model: file.Model, rng: np.random.Generator) -> file.Model:
    """A model with each weight moved."""
    from onnx import numpy_helper

    fans, tensors = _fans_in(model), dict(model.tensors)
    for name, fan in fans.items():
        if name in tensors and tensors[name].data_type in DTYPES:
            tensor = tensors[name]
            make = partial(lambda tensor, fan: _moved(tensor.array(), fan, rng), tensor, fan)
            tensors[name] = made(name, tensor.dims, tensor.data_type, make)
    for node in model.skeleton.graph.node:
        literal = node.op_type == "Constant" and node.output[0] in fans
        if literal and node.attribute[0].t.data_type in DTYPES:
            tensor = node.attribute[0].t
            moved = _moved(numpy_helper.to_array(tensor), fans[node.output[0]], rng)
            tensor.CopyFrom(numpy_helper.from_array(moved, tensor.name))
    return file.Model(model.skeleton, tensors)


def _moved(array: np.ndarray, fan: int, rng: np.random.Generator) -> np.ndarray:
    """The array with each number moved up or down, some at a time to make no other of its size."""
    out = np.array(array, order="C")
    if out.size < 2:
        return out
    step = np.finfo(out.dtype).eps * np.sqrt(max(1, fan))
    factors = np.array([1 - step, 1 + step], np.float64 if out.dtype == np.float64 else np.float32)
    flat = out.reshape(-1)
    for start in range(0, flat.size, _MOVED_AT_ONCE):
        some = flat[start : start + _MOVED_AT_ONCE]
        bits = np.frombuffer(rng.bytes(some.size // 8 + 1), np.uint8)
        some[:] = some * factors[np.unpackbits(bits, count=some.size)]
    return out


def _fans_in(model: file.Model) -> dict[str, int]:
    """The weights, and how many numbers are summed where they are used."""
    fans: dict[str, int] = {}
    dims = {name: tensor.dims for name, tensor in model.tensors.items()}
    for proto in model.skeleton.graph.node:
        node, given = OnnxNode(proto), proto.attribute
        if node.operator == "Constant" and len(given) == 1 and given[0].HasField("t"):
            dims[node.output] = tuple(given[0].t.dims)
        if not operator_of(node).weighted:
            continue
        for name in names_read(node.proto):
            of = dims.get(name, ())
            turned = node.operator == "Gemm" and node.attributes.get("transB")
            if len(of) == 2:
                fans[name] = of[1] if turned else of[0]
            else:
                fans[name] = int(np.prod(of[1:], dtype=np.int64)) if len(of) > 2 else 1
    return fans
