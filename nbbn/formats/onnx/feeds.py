"""What an ONNX model is run on to check a fold: random numbers, and the rows that are given."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nbbn.fold.check import SEED, FoldCheckFailed
from nbbn.formats.files import one_line

Feed = dict[str, np.ndarray]
Outputs = list[np.ndarray]
# Mean and deviation per channel on axis 1, of inputs that a batch norm reads.
Moments = Mapping[str, tuple[np.ndarray, np.ndarray]]

# About this many numbers in an input, and at most as many rows.
_NUMBERS = 1 << 18
_ROWS = 64
_MOST_NUMBERS = 1 << 27
# Sizes to try for axes that are not fixed, other than the first: few, but as many as strides and
# poolings may need.
_SIZES = (16, 32, 64, 128, 224, 8, 4, 2, 1)


def feeds_of(inputs: Sequence[Any], run: Callable[[Feed], Outputs], rows: Any,
             moments: Moments, count: int = _ROWS) -> tuple[list[Feed], list[Outputs]]:
    """Inputs that a model runs on, and its outputs for each.

    `inputs` are `onnx.ValueInfoProto`, `rows` the caller's: an array, some by name, or None.
    `count` random rows are made, fewer where a row is large.

    Raises
    ------
    TypeError, ValueError
        For rows that do not fit.
    FoldCheckFailed
        For inputs that cannot be made up, and where the model does not run on them.
    """
    own = _given(inputs, rows)
    rng = np.random.default_rng(SEED)
    feeds: list[Feed] = []
    outputs: list[Outputs] = []
    failure = "its inputs are of no size"
    for size in _SIZES:
        random = _random(inputs, size, rng, moments, count)
        try:
            outputs = [run(feed) for feed in random]
        except Exception as err:  # the runtime's exceptions have no common class
            failure = one_line(err, 300)
            continue
        feeds = random
        break
    else:
        if not own:
            what = f"the model cannot be run on random numbers ({failure})"
            raise FoldCheckFailed(f"{what}, so the fold cannot be checked; "
                                  "pass rows that suit it as check")
    try:
        return feeds + own, outputs + [run(feed) for feed in own]
    except Exception as err:
        why = one_line(err, 300)
        raise FoldCheckFailed(f"the model cannot be run on the rows given as check: {why}") from err


def _random(inputs: Sequence[Any], size: int, rng: np.random.Generator,
            moments: Moments, count: int) -> list[Feed]:
    """Random inputs; several where the number of rows is fixed and small."""
    open_shapes, sizes = {}, dict[Any, int | None]()
    for value in inputs:
        dims = enumerate(_dims(value))
        open_shapes[value.name] = [_size(d, i, value.name, size, sizes) for i, d in dims]
    numbers = max((_count(shape[1:]) for shape in open_shapes.values()), default=1)
    rows = max(1, min(count, _NUMBERS // max(1, numbers)))
    closed = ([rows if n is None else n for n in shape] for shape in open_shapes.values())
    shapes = dict(zip(open_shapes, closed))
    if max((_count(shape) for shape in shapes.values()), default=1) > _MOST_NUMBERS:
        what = f"the model takes inputs of shapes {list(shapes.values())}"
        raise FoldCheckFailed(f"{what}, too large to check the fold on")
    fixed = max((shape[0] for shape in shapes.values() if shape), default=1)
    times = max(1, min(8, rows // max(1, fixed)))
    return [
        {v.name: _values(v, shapes[v.name], rng, moments) for v in inputs} for _ in range(times)
    ]


def _count(shape: Sequence[int | None]) -> int:
    """Numbers in an array of this shape, however large."""
    return math.prod(n for n in shape if n is not None)


def _dims(value: Any) -> list[Any]:
    if not value.type.HasField("tensor_type"):
        what = f"the input {value.name!r} is no tensor"
        raise FoldCheckFailed(f"{what}, so the fold cannot be checked")
    return list(value.type.tensor_type.shape.dim)


def _size(dim: Any, axis: int, name: str, size: int, sizes: dict[Any, int | None]) -> int | None:
    """Size of an axis; None for a first one that is not fixed, and all others of its name."""
    if dim.HasField("dim_value") and dim.dim_value > 0:
        return dim.dim_value
    return sizes.setdefault(dim.dim_param or (name, axis), None if axis == 0 else size)


def _values(value: Any, shape: list[int], rng: np.random.Generator, moments: Moments) -> np.ndarray:
    """Random numbers of an input's type."""
    dtype, known = _dtype(value), moments.get(value.name)
    if dtype.kind == "f":
        numbers = rng.standard_normal(shape)
        if known is not None and len(shape) > 1:
            along = [-1 if i == 1 else 1 for i in range(len(shape))]
            mean, deviation = (array.reshape(along) for array in known)
            numbers = numbers * deviation + mean
        return numbers.astype(dtype)
    if dtype.kind in "iub":
        return rng.integers(0, 2, shape).astype(dtype)
    return np.full(shape, "", dtype=object)


def _dtype(value: Any) -> np.dtype:
    from onnx import helper

    return np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))


def _given(inputs: Sequence[Any], rows: Any) -> list[Feed]:
    """The caller's rows, in as many runs as a fixed number of rows asks for."""
    if rows is None:
        return []
    names = [value.name for value in inputs]
    if not isinstance(rows, Mapping):
        if len(names) != 1:
            what = "check must be a mapping from input name to array"
            raise ValueError(f"{what}: the model has the inputs {names}")
        rows = {names[0]: rows}
    if set(rows) != set(names):
        got = sorted(map(str, rows))
        raise ValueError(f"check must hold an array for each input, {names}; got {got}")
    arrays = {value.name: _checked(value, rows[value.name]) for value in inputs}
    counts = {len(array) for array in arrays.values()}
    if counts == {0}:
        return []
    fixed = {_dims(value)[0].dim_value for value in inputs} - {0}
    if not fixed or counts == fixed:
        return [arrays]
    (count,), (size,) = counts, fixed
    starts = range(0, count - size + 1, size)
    return [{name: array[i : i + size] for name, array in arrays.items()} for i in starts]


def _checked(value: Any, array: Any) -> np.ndarray:
    array, dims, name = np.asarray(array), _dims(value), value.name
    dtype = _dtype(value)
    if array.dtype.kind not in "fiub" or dtype.kind not in "fiub":
        what = f"check must hold real numbers for {name!r}"
        raise TypeError(f"{what}, got {array.dtype}; convert the rows first")
    fits = array.ndim == len(dims) > 0
    fits = fits and all(d.dim_value in (0, n) for d, n in zip(dims[1:], array.shape[1:]))
    if not fits or (dims[0].dim_value and len(array) % dims[0].dim_value):
        want = ", ".join(str(d.dim_value or d.dim_param or "any") for d in dims)
        raise ValueError(f"check must have shape ({want}) for {name!r}, got {array.shape}")
    with np.errstate(over="ignore"):
        array = array.astype(dtype)
    if dtype.kind == "f" and not np.isfinite(array).all():
        what = f"check holds NaN, infinity or values beyond {dtype} for {name!r}"
        raise ValueError(f"{what}; pass finite rows")
    return array
