"""What comes in at a model's door: rows, targets and weights checked once, in the form that the engine reads."""

from __future__ import annotations

import math

import numpy as np

from nbbn.dtypes import SOURCE_DTYPES
from nbbn.losses import Loss
from nbbn.scan import all_finite

# Bytes from which all threads look for NaN.
_LARGE = 8 << 20
Shape = tuple[int, ...]


def _array(value, name: str) -> np.ndarray:
    """`value` as a numeric array."""
    if value is None:
        raise ValueError(f"{name} must be given: an array, one row for each row of data")
    if isinstance(value, dict) or hasattr(value, "__next__"):
        raise TypeError(f"{name} must be an array of all rows, got {type(value).__name__}; generators, dicts are not supported")
    try:
        array = np.asarray(value)
    except ValueError as err:
        raise ValueError(f"{name} is no array: its rows differ in length ({err})") from None
    if array.dtype.kind == "O":
        try:
            array = array.astype(np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be numeric, got objects such as {array.ravel()[0]!r}; {_advice(name)}") from None
    if array.dtype.kind not in "fiub":
        raise TypeError(f"{name} must be numeric, got dtype {array.dtype}; {_advice(name)}")
    if array.ndim == 0:
        raise ValueError(f"{name} must be an array of rows, got the number {array}")
    return array


def _advice(name: str) -> str:
    if name.startswith("y"):
        return "encode labels as class indices, as np.unique(y, return_inverse=True)[1] does"
    return "convert it to numbers"


def _finite(array: np.ndarray) -> bool:
    if array.nbytes > _LARGE and array.flags.c_contiguous and array.flags.aligned and array.dtype in (np.float32, np.float64):
        return all_finite(array)
    return bool(np.isfinite(array).all())


def _cast(array: np.ndarray, dtype: np.dtype, name: str) -> np.ndarray:
    """A C-contiguous array of finite floats of `dtype`."""
    with np.errstate(over="ignore"):
        cast = np.ascontiguousarray(array, dtype=dtype)
    _check_finite(cast, array, name)
    return cast


def _check_finite(array: np.ndarray, source: np.ndarray, name: str) -> None:
    if _finite(array):
        return
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    value = source[first]
    if np.isfinite(value):
        raise ValueError(f"{name} holds {value:g} at {first}, too large for {array.dtype}; scale it, or use dtype='float64'")
    raise ValueError(f"{name} holds {value} at {first}; remove or replace NaN and infinity first")


def row_shape(x, name: str = "x") -> Shape:
    """Shape of one row of an array of rows; `(1,)` for an array of one axis."""
    return _array(x, name).shape[1:] or (1,)


def check_rows(x, shape: Shape, dtype: np.dtype, name: str = "x", *, finite: bool = True) -> np.ndarray:
    """Rows as a C-contiguous array `(n, *shape)`, all finite unless that is not asked for.

    float64 rows become float32 where the model computes in that; integers stay, and are converted batch by batch.

    Raises
    ------
    TypeError
        For anything that is not numeric.
    ValueError
        For no rows, rows of another shape, NaN or infinity.
    """
    x = _array(x, name)
    if len(x) == 0:
        raise ValueError(f"{name} has no rows (shape {x.shape})")
    if x.shape[1:] != shape:
        # Keras's leniency: a last axis of length 1 may be there or not.
        if x.shape[1:] in (shape[:-1] if shape[-1:] == (1,) else None, (*shape, 1)):
            x = x.reshape(len(x), *shape)
        else:
            raise ValueError(
                f"{name} has rows of shape {x.shape[1:]} ({name}.shape is {x.shape}), but the model takes rows of shape {shape}"
                f"{_reshaping(name, x.shape[1:], shape)}"
            )
    if x.dtype == bool:
        x = np.ascontiguousarray(x).view(np.uint8)
    if x.dtype.kind == "f":
        keep = x.dtype.name in SOURCE_DTYPES and x.dtype.itemsize <= dtype.itemsize
        cast = x.dtype.newbyteorder("=") if keep else dtype
        with np.errstate(over="ignore"):
            return _cast(x, cast, name) if finite else np.ascontiguousarray(x, dtype=cast)
    return np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("="))


def _reshaping(name: str, found: Shape, wanted: Shape) -> str:
    if math.prod(found) != math.prod(wanted):
        return ""
    return f"; reshape it: {name}.reshape({', '.join(str(n) for n in (-1, *wanted))})"


def check_targets(y, loss: Loss, shape: Shape, rows: int, dtype: np.dtype, name: str = "y", x: str = "x") -> np.ndarray:
    """Targets as the loss takes them: int64 class indices `(n,)`, or a C-contiguous matrix `(n, outputs)` of `dtype`.

    Raises
    ------
    TypeError
        For anything that is not numeric.
    ValueError
        For another number of rows than `x` has, another shape, labels outside the outputs, NaN or infinity.
    """
    y = _array(y, name)
    if len(y) != rows:
        raise ValueError(f"{x} has {rows} rows, but {name} has {len(y)}; give one target for each row")
    check = _check_labels if loss.takes_labels else _check_matrix
    return check(y, loss, shape, dtype, name)


def _check_labels(y: np.ndarray, loss: Loss, shape: Shape, dtype: np.dtype, name: str) -> np.ndarray:
    if len(shape) != 1:
        raise ValueError(
            f"loss {loss.shown!r} needs a model whose outputs have one axis, got outputs of shape {shape}; add a Flatten"
        )
    if y.ndim > 2 or (y.ndim == 2 and y.shape[1] != 1):
        hint = ""
        if y.shape[1:] == shape:
            hint = f"; for one-hot rows use loss='categorical_crossentropy', or give {name}.argmax(1)"
        raise ValueError(f"loss {loss.shown!r} takes class indices of shape (n,) or (n, 1), got {name} of shape {y.shape}{hint}")
    y = y.reshape(len(y))
    if y.dtype.kind == "f":
        _check_finite(y, y, name)
        if (y != np.floor(y)).any():
            value = y[y != np.floor(y)][0]
            raise ValueError(f"loss {loss.shown!r} takes class indices, whole numbers, got {value:g} in {name}")
    least, most = y.min(), y.max()
    if least < 0 or most >= shape[0]:
        wrong = int(least if least < 0 else most)
        advice = f"end the model with {wrong + 1} units or more" if wrong > 0 else "number the classes from 0"
        raise ValueError(
            f"{name} holds the label {wrong}, but the model has {shape[0]} outputs: labels must lie in 0 to {shape[0] - 1}; "
            f"{advice}"
        )
    return np.ascontiguousarray(y, dtype=np.int64)


def _check_matrix(y: np.ndarray, loss: Loss, shape: Shape, dtype: np.dtype, name: str) -> np.ndarray:
    units = math.prod(shape)
    if y.shape[1:] != shape and not (units == 1 and y.size == len(y)):
        hint = ""
        if loss.end == "softmax" and y.size == len(y):
            hint = f"; for class indices use 'sparse_categorical_crossentropy', or nbbn.utils.to_categorical({name}, {units})"
        raise ValueError(
            f"loss {loss.shown!r} compares targets with the model's outputs of shape {shape} for each row, got {name} of shape "
            f"{y.shape}{hint}"
        )
    y = _cast(y.reshape(len(y), units), dtype, name)
    if loss.end is not None and (y.min() < 0 or y.max() > 1):
        raise ValueError(
            f"loss {loss.shown!r} takes targets from 0 to 1, got {name} from {y.min():g} to {y.max():g}; encode it, or use "
            f"another loss"
        )
    return y


def check_weights(sample_weight, class_weight, y: np.ndarray, outputs: int, name: str = "sample_weight") -> np.ndarray | None:
    """Weights of the rows, float64 `(n,)`; None without any. `y` are checked targets.

    Raises
    ------
    TypeError
        For weights that are not numeric, or a `class_weight` that is no dict.
    ValueError
        For both, weights of another shape, NaN or infinity, or a class that the model has no output for.
    """
    if class_weight is None:
        return None if sample_weight is None else _row_weights(sample_weight, len(y), name)
    if sample_weight is not None:
        raise ValueError("sample_weight and class_weight cannot be given together; give their product as sample_weight")
    if not isinstance(class_weight, dict):
        raise TypeError(f"class_weight must be a dict from class index to weight, got {type(class_weight).__name__}")
    classes = max(outputs, 2)
    for key in class_weight:
        if key not in range(classes):
            raise ValueError(f"class_weight names class {key!r}, but the classes are 0 to {classes - 1}")
    table = np.ones(classes)
    for key, weight in class_weight.items():
        table[key] = weight
    if not np.isfinite(table).all():
        raise ValueError(f"class_weight must hold finite numbers, got {class_weight}")
    labels = y if y.ndim == 1 else y.argmax(1) if y.shape[1] > 1 else (y[:, 0] > 0.5).astype(np.int64)
    return table[labels]


def _row_weights(weights, rows: int, name: str) -> np.ndarray:
    weights = _array(weights, name)
    if weights.size != rows or len(weights) != rows:
        raise ValueError(f"{name} must have one weight for each of the {rows} rows, got shape {weights.shape}")
    return _cast(weights.reshape(rows), np.dtype(np.float64), name)


def split_validation(given, name: str = "validation_data") -> tuple:
    """`(x, y, sample_weight or None)` of a tuple of two or three.

    Raises
    ------
    TypeError, ValueError
        For anything else.
    """
    if not isinstance(given, (tuple, list)):
        raise TypeError(f"{name} must be a tuple (x, y) or (x, y, sample_weight), got {type(given).__name__}")
    if len(given) not in (2, 3):
        raise ValueError(f"{name} must be a tuple (x, y) or (x, y, sample_weight), got {len(given)} entries")
    return (*given, None)[:3]
