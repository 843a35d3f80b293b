"""Rows, targets and weights, checked once, in the form that the engine reads."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nbbn import compiler
from nbbn.answers import chosen
from nbbn.dtypes import SOURCE_DTYPES
from nbbn.losses import Loss
from nbbn.network import beside
from nbbn.operations import Indices
from nbbn.thread_choice import CallChoice

Shape = tuple[int, ...]

# Bytes from which all threads look for NaN: 188 MB take NumPy's sum 10 ms, two threads 3.
_LARGE = 8 << 20
_BLOCKS = 256


# -- numbers


def as_numbers(value: Any, name: str) -> np.ndarray:
    """`value` as an array of numbers, of one axis or more; TypeError or ValueError if not."""
    if value is None:
        raise ValueError(f"{name} must be given: an array, one row for each row of data")
    if isinstance(value, dict) or hasattr(value, "__next__"):
        raise TypeError(f"{name} must be an array of all rows, got {type(value).__name__}; "
                        "generators, dicts are not supported")
    if hasattr(value, "toarray") and hasattr(value, "nnz"):
        raise TypeError(f"{name} is sparse, and models of layers take arrays: give "
                        f"{name.split()[-1]}.toarray(), or use MLPClassifier or MLPRegressor, "
                        "which take sparse rows as they are")
    advice = "convert it to numbers"
    if name.split()[-1].startswith("y"):
        advice = "encode labels as class indices, as np.unique(y, return_inverse=True)[1] does"
    try:
        array = np.asarray(value)
    except ValueError as err:
        raise ValueError(f"{name} is no array: its rows differ in length ({err})") from None
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            if any(type(one).__name__ in ("NAType", "NaTType") for one in array.ravel()):
                raise ValueError(f"{name} holds missing values (<NA>); fill them in, as "
                                 f"{name.split()[-1]}.fillna(0) does, or leave the rows out, as "
                                 "dropna() does") from None
            some = f"objects such as {array.ravel()[0]!r}"
            raise TypeError(f"{name} must be numeric, got {some}; {advice}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numeric, got dtype {array.dtype}; {advice}")
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array of rows, got the number {array}")
    return array


def readable(array: np.ndarray) -> np.ndarray:
    """The same numbers as the kernels read them: truth values as bytes, in native byte order."""
    if array.dtype == bool:
        array = array.view(np.uint8)
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def all_finite(array: np.ndarray) -> bool:
    """Whether numbers are neither NaN nor infinite; a large array is read by all threads."""
    if array.dtype.kind != "f":
        return True
    flags = array.flags
    if array.nbytes > _LARGE and flags.c_contiguous and flags.aligned and compiler.available():
        if array.dtype in (np.float32, np.float64):
            return scan(array.reshape(-1))
    with np.errstate(over="ignore", invalid="ignore"):
        # A sum is quick, and finite only where all numbers are.
        return bool(np.isfinite(array.sum())) or bool(np.isfinite(array).all())


# Whether to scan on all threads just now.
_SCANS = CallChoice()


def scan(flat: np.ndarray) -> bool:
    """As `all_finite`, of a C-contiguous array of one axis, on all threads."""
    from nbbn.program.runnable import call_program

    out = np.empty(_BLOCKS, flat.dtype)
    call_program(_scan_table(flat.size, flat.dtype), flat, flat, out, out, out, out, 0, _SCANS)
    return bool(np.isfinite(out).all())


@functools.lru_cache(maxsize=16)
def _scan_table(size: int, dtype: np.dtype) -> np.ndarray:
    from nbbn.program.program import Buffer, Program, Segment

    p = Program(dtype)
    x, out = Buffer("x", Segment.X), Buffer("out", Segment.OUT)
    p.add("scan_finite", x=x, size=size, blocks=_BLOCKS, out=out)
    return p.table(repeats=False)


class CheckedCopies:
    """Copies of rows that look for NaN and infinity on the way; large ones are on all threads.

    `dtype` is float32 or float64.
    """

    def __init__(self, dtype: np.dtype):
        from nbbn.kernels import executor
        from nbbn.program.runnable import call_program

        self._dtype, self._alone, self._call = dtype, executor.run_call_alone.ready(), call_program
        # By number of numbers a table, and what a call has before and behind the arrays.
        self._tables: dict[int, tuple[np.ndarray, tuple[int, ...]]] = {}
        self._found = np.zeros(_COPIED_BLOCKS, dtype)
        self._behind = (*(id(self._found),) * 4, 0)
        self._choice = CallChoice()

    def copy(self, x: np.ndarray, out: np.ndarray) -> None:
        """`out = x`, of the dtype, C-contiguous and aligned."""
        known = self._tables.get(x.size)
        if known is None:
            table = _copy_table(x.size, self._dtype)
            known = self._tables[x.size] = table, (id(table), *table.shape)
        if x.nbytes < _COPIED_TOGETHER:  # microseconds: without what lies on the way
            self._alone(*known[1], id(x), id(out), *self._behind)
            return
        found = self._found
        self._call(known[0], x, out, found, found, found, found, 0, self._choice)

    def were_finite(self) -> bool:
        """Whether all numbers since the last question were."""
        fine = not self._found.any()  # NaN counts as true
        self._found[:] = 0
        return fine


_COPIED_BLOCKS, _COPIED_TOGETHER = 16, 256 << 10


@functools.lru_cache(maxsize=64)
def _copy_table(size: int, dtype: np.dtype) -> np.ndarray:
    from nbbn.program.program import Buffer, Program, Segment

    p = Program(dtype)
    x, out = Buffer("x", Segment.X), Buffer("out", Segment.Y)
    p.add("copy_finite", x=x, size=size, blocks=_COPIED_BLOCKS, out=out,
          found=Buffer("found", Segment.OUT))
    return p.table(repeats=False)


def _as_floats(array: np.ndarray, dtype: np.dtype, name: str, *, finite: bool = True) -> np.ndarray:
    """A C-contiguous array of floats of `dtype`, all of them `finite`."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=dtype)
    if finite:
        _check_finite(cast, array, name)
    return cast


def _check_finite(array: np.ndarray, source: np.ndarray, name: str) -> None:
    """ValueError that says where `array`, cast from `source`, is not finite."""
    if all_finite(array):
        return
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    value = source[first]
    if np.isfinite(value):
        raise ValueError(f"{name} holds {value:g} at {first}, too large for {array.dtype}; "
                         "scale it, or use dtype='float64'")
    raise ValueError(f"{name} holds {value} at {first}; remove or replace NaN and infinity first")


# -- rows


def row_shape(x: Any, name: str = "x") -> Shape:
    """Shape of one row of an array of rows; `(1,)` for an array of one axis."""
    return as_numbers(x, name).shape[1:] or (1,)


def check_rows(x: Any, shape: Shape, dtype: np.dtype, name: str = "x", *, finite: bool = True,
               indices: Sequence[Indices] = ()) -> np.ndarray:
    """Rows as a C-contiguous array `(n, *shape)`, all finite unless that is not asked for.

    float64 rows become float32 where that is computed in; integers stay, and are converted batch by
    batch. TypeError or ValueError for no rows, others than numbers, another shape, and for numbers
    that are to be `indices` and are none.
    """
    rows = _checked_rows(x, shape, dtype, name, finite=finite)
    for some in indices:
        some.check(rows, name)
    return rows


def _checked_rows(x: Any, shape: Shape, dtype: np.dtype, name: str, *,
                  finite: bool) -> np.ndarray:
    x = as_numbers(x, name)
    if len(x) == 0:
        raise ValueError(f"{name} has no rows (shape {x.shape})")
    if x.shape[1:] != shape:
        # Keras's leniency: a last axis of length 1 may be there or not.
        if x.shape[1:] not in (shape[:-1] if shape[-1:] == (1,) else None, (*shape, 1)):
            raise ValueError(f"{name} has rows of shape {x.shape[1:]} ({name}.shape is {x.shape}), "
                             "but the model takes rows of shape "
                             f"{shape}{_reshaping(name, x.shape[1:], shape)}")
        x = x.reshape(len(x), *shape)
    x = readable(x)
    if x.dtype.kind != "f":
        return np.ascontiguousarray(x)
    keep = x.dtype.name in SOURCE_DTYPES and x.dtype.itemsize <= dtype.itemsize
    return _as_floats(x, x.dtype if keep else dtype, name, finite=finite)


def check_rows_of_inputs(given: Sequence[Any], shapes: Sequence[Shape], dtype: np.dtype,
                         name: str = "x", *, finite: bool = True) -> np.ndarray:
    """Rows of several inputs beside each other, as `check_rows` of each."""
    return beside([check_rows(part, shape, dtype, f"{name}[{k}]", finite=finite)
                   for k, (part, shape) in enumerate(zip(given, shapes))], dtype, name)


def check_enough(rows: int, norm: bool) -> None:
    """ValueError for too few rows to train a network with batch `norm` on."""
    if norm and rows < 2:
        raise ValueError("batch norm needs at least 2 rows to train on, got 1 sample: "
                         "its variance would be 0; give more rows, or leave batch norm out")


def _reshaping(name: str, found: Shape, wanted: Shape) -> str:
    if math.prod(found) != math.prod(wanted):
        return ""
    return f"; reshape it: {name}.reshape({', '.join(str(n) for n in (-1, *wanted))})"


# -- targets


def check_targets(y: Any, loss: Loss, shape: Shape, rows: int, dtype: np.dtype, name: str = "y",
                  x: str = "x") -> np.ndarray:
    """Targets as a loss takes them: class indices `(n, ...)`, or numbers `(n, ...)` of `dtype`.

    TypeError or ValueError for others than numbers, another number of rows than `x` has, another
    shape, labels outside the outputs, NaN and infinity.
    """
    y = as_numbers(y, name)
    if len(y) != rows:
        raise ValueError(f"{x} has {rows} rows, but {name} has {len(y)}; "
                         "give one target for each row")
    if loss.takes_labels:
        return _check_labels(y, loss, shape, name)
    return _check_matrix(y, loss, shape, dtype, name)


def _check_labels(y: np.ndarray, loss: Loss, shape: Shape, name: str) -> np.ndarray:
    *pixels, classes = shape
    if pixels and y.shape[1:] not in ((*pixels,), (*pixels, 1)):
        raise ValueError(f"loss {loss.shown!r} takes a class index for each of {(*pixels,)}, the "
                         f"outputs' axes but the last, got {name} of shape {y.shape}; labels of "
                         "rows (n,) needs a model whose outputs have one axis, got outputs of "
                         f"shape {shape}; add a Flatten, or give labels of shape {(-1, *pixels)}")
    if not pixels and (y.ndim > 2 or (y.ndim == 2 and y.shape[1] != 1)):
        hint = ""
        if y.shape[1:] == shape:
            hint = ("; for one-hot rows use loss='categorical_crossentropy', or give "
                    f"{name}.argmax(1)")
        raise ValueError(f"loss {loss.shown!r} takes class indices of shape (n,) or (n, 1), "
                         f"got {name} of shape {y.shape}{hint}")
    y = y.reshape(len(y), *pixels)
    _check_finite(y, y, name)
    if (broken := y[y != np.floor(y)]).size:
        raise ValueError(f"loss {loss.shown!r} takes class indices, whole numbers, "
                         f"got {broken[0]:g} in {name}")
    own = y if (ignored := getattr(loss, "ignore_class", None)) is None else y[y != ignored]
    least, most = (own.min(), own.max()) if own.size else (0, 0)
    if least < 0 or most >= classes:
        wrong = int(least if least < 0 else most)
        advice = f"end the model with {wrong + 1} units or more"
        advice = "number the classes from 0" if wrong < 0 else advice
        raise ValueError(f"{name} holds the label {wrong}, but the model has {classes} outputs: "
                         f"labels must lie in 0 to {classes - 1}; {advice}")
    return np.ascontiguousarray(y, dtype=np.int64)


def _check_matrix(y: np.ndarray, loss: Loss, shape: Shape, dtype: np.dtype,
                  name: str) -> np.ndarray:
    units, leaner = math.prod(shape), len(shape) > 1 and shape[-1] == 1
    leaner = leaner and y.shape[1:] == shape[:-1]  # Keras's leniency: pixels of one number
    if y.shape[1:] != shape and not (units == 1 and y.size == len(y)) and not leaner:
        hint = ""
        if loss.end == "softmax" and y.size == len(y):
            hint = ("; for class indices use 'sparse_categorical_crossentropy', or "
                    f"nbbn.utils.to_categorical({name}, {units})")
        raise ValueError(f"loss {loss.shown!r} compares targets with the model's outputs of shape "
                         f"{shape} for each row, got {name} of shape {y.shape}{hint}")
    y = _as_floats(y.reshape(len(y), *shape), dtype, name)
    if loss.end is not None and (y.min() < 0 or y.max() > 1):
        raise ValueError(f"loss {loss.shown!r} takes targets from 0 to 1, got {name} from "
                         f"{y.min():g} to {y.max():g}; encode it, or use another loss")
    return y


# -- weights of rows


def check_weights(sample_weight: Any, class_weight: Any, y: np.ndarray, outputs: int,
                  name: str = "sample_weight", *, softmax: bool = False) -> np.ndarray | None:
    """Weights of the rows, float64 `(n,)`; None without any. `y` are checked targets.

    With `softmax`, rows of targets are shares of classes: the largest counts. TypeError or
    ValueError for both, weights of another shape, NaN or infinity, a `class_weight` that is no
    dict, classes that the model has no output for, and targets that are no classes.
    """
    if class_weight is None:
        return None if sample_weight is None else _row_weights(sample_weight, len(y), name)
    if sample_weight is not None:
        raise ValueError("sample_weight and class_weight cannot be given together; "
                         "give their product as sample_weight")
    table = _table_of(class_weight, max(outputs, 2))
    if y.ndim > 2 or (y.ndim == 2 and y.dtype == np.int64):
        raise ValueError("class_weight needs one class a row, got targets of shape "
                         f"{y.shape}; give sample_weight")
    if y.ndim == 2:
        marked = ((y == 0) | (y == 1)).all() and (outputs == 1 or (y.sum(1) == 1).all())
        if not (marked or softmax):
            raise ValueError("class_weight needs one class a row: class indices, 0 and 1 for one "
                             "output, or one-hot rows; for other targets give sample_weight")
        y = chosen(y, "classifier")
    return table[np.clip(y, 0, len(table) - 1)]  # no class at all is a label that does not count


def _table_of(class_weight: Any, classes: int) -> np.ndarray:
    """The weight of each class; 1 for those without one. Keys count by value: 1, 1.0 and True."""
    if not isinstance(class_weight, dict):
        raise TypeError("class_weight must be a dict from class index to weight, got "
                        f"{type(class_weight).__name__}; for several labels a row give "
                        "sample_weight")
    table = np.ones(classes)
    for key, weight in class_weight.items():
        if key not in range(classes):
            raise ValueError(f"class_weight names class {key!r}, "
                             f"but the classes are 0 to {classes - 1}")
        try:
            table[int(key)] = weight
        except (TypeError, ValueError):
            table[int(key)] = np.nan
    if not (np.isfinite(table) & (table >= 0)).all():
        raise ValueError(f"class_weight must hold finite numbers of 0 or more, got {class_weight}")
    return table


def _row_weights(weights: Any, rows: int, name: str) -> np.ndarray:
    weights = as_numbers(weights, name)
    if weights.size != rows or len(weights) != rows:
        raise ValueError(f"{name} must have one weight for each of the {rows} rows, "
                         f"got shape {weights.shape}")
    return _as_floats(weights.reshape(rows), np.dtype(np.float64), name)


def split_validation(given: Any) -> tuple[Any, Any, Any]:
    """`(x, y, sample_weight or None)` of a tuple of two or three."""
    rule = "validation_data must be a tuple (x, y) or (x, y, sample_weight), got"
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"{rule} {type(given).__name__}")
    if len(given) not in (2, 3):
        raise ValueError(f"{rule} {len(given)} entries")
    x, y, weights = (*given, None)[:3]
    return x, y, weights
