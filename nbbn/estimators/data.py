"""What comes in at the door: rows and targets checked once, in the form that the trainer reads."""

from __future__ import annotations

import numpy as np
from sklearn.utils import assert_all_finite, check_array, column_or_1d
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from nbbn.scan import all_finite

# Rows of these dtypes are converted batch by batch; others as a whole.
CONVERTED_BY_BATCH = ("float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


# Bytes from which all threads look for NaN: 188 MB take NumPy's sum 10 ms, two threads 3.
_LARGE = 8 << 20


def computing_dtype(x: np.ndarray, dtype: str | None) -> np.dtype:
    """float32 for float32 rows, float64 for all others, unless `dtype` says which."""
    if dtype is not None:
        return np.dtype(dtype)
    return np.dtype("float32" if x.dtype == np.float32 else "float64")


def require_y(estimator, y) -> None:
    """ValueError without targets."""
    if y is None:
        raise ValueError(f"{type(estimator).__name__} requires y to be passed, but the target y is None")


def check_rows(estimator, x, *, reset: bool) -> np.ndarray:
    """Rows as a C-contiguous 2-D array of a numeric dtype, all finite.

    Raises
    ------
    ValueError
        For NaN, infinity, an empty array, a wrong number of dimensions or of features.
    TypeError
        For sparse rows.
    """
    x = validate_data(estimator, x, reset=reset, dtype=None, order="C", ensure_all_finite=False)
    if x.dtype == bool:
        x = x.view(np.uint8)
    elif x.dtype.name not in CONVERTED_BY_BATCH:
        x = check_array(x, dtype=np.float64, order="C", ensure_all_finite=False)
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    if x.dtype.kind == "f" and not _surely_finite(x):
        assert_all_finite(x, estimator_name=type(estimator).__name__, input_name="X")
    return x


def _surely_finite(x: np.ndarray) -> bool:
    """Whether a quick look proves all rows finite; scikit-learn's slow one then finds out what is wrong."""
    if x.nbytes > _LARGE and x.flags.aligned:
        return all_finite(x)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x.sum()))


def check_labels(y, rows: int) -> np.ndarray:
    """Class labels `(n,)`, or a multilabel indicator matrix `(n, labels)`.

    Raises
    ------
    ValueError
        For NaN, a wrong length, or targets that are no classes.
    """
    if hasattr(y, "toarray"):
        y = y.toarray()
    y = check_array(y, ensure_2d=False, dtype=None, ensure_all_finite=False, ensure_min_samples=0, input_name="y")
    if y.dtype.kind == "f":
        assert_all_finite(y, input_name="y")
    kind = type_of_target(y, input_name="y")
    if kind.startswith("multilabel"):
        y = np.asarray(y)
    elif kind in ("binary", "multiclass"):
        y = column_or_1d(y, warn=True)
    else:
        raise ValueError(
            f"Unknown label type: {kind}. Maybe you are trying to fit a classifier, which expects discrete classes on a "
            f"regression target with continuous values."
        )
    _check_length(y, rows)
    return y


def classes_of(y: np.ndarray) -> np.ndarray:
    """Sorted distinct classes; the label indices of an indicator matrix."""
    return unique_labels(y) if y.ndim == 1 else np.arange(y.shape[1])


def encode(y: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Each label's index in `classes`.

    Raises
    ------
    ValueError
        For a label that is none of them.
    """
    if classes.dtype.kind in "iu" and y.dtype.kind in "iub":
        first = int(classes[0])
        if len(classes) == int(classes[-1]) - first + 1:  # consecutive whole numbers: no search
            index = y.astype(np.int64) - first
            if len(index) and (index.min() < 0 or index.max() >= len(classes)):
                raise ValueError(_unknown(np.setdiff1d(y, classes), classes))
            return index
    index = np.searchsorted(classes, y)
    index[index == len(classes)] = 0
    wrong = classes[index] != y
    if wrong.any():
        raise ValueError(_unknown(np.unique(y[wrong]), classes))
    return index.astype(np.int64)


def _unknown(found: np.ndarray, classes: np.ndarray) -> str:
    return f"`y` has classes not in `self.classes_`. `self.classes_` has {classes}. 'y' has {found}."


def check_targets(y, rows: int, dtype: np.dtype) -> np.ndarray:
    """Numeric targets as `(n, outputs)`, C-contiguous, of the computing dtype.

    Raises
    ------
    ValueError
        For NaN, infinity, a wrong length, or text.
    """
    y = check_array(y, ensure_2d=False, dtype=np.float64, ensure_min_samples=0, input_name="y")
    if y.ndim > 2:
        raise ValueError(f"y must have 1 or 2 dimensions, got {y.ndim}")
    _check_length(y, rows)
    return np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)


def _check_length(y: np.ndarray, rows: int) -> None:
    if len(y) != rows:
        raise ValueError(f"Found input variables with inconsistent numbers of samples: {[rows, len(y)]}")
