"""What comes in at the door: rows, targets and weights checked once, in the form that the trainer reads."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import scipy.sparse
from sklearn.utils import assert_all_finite, check_array, check_consistent_length, column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, validate_data

from nbbn.estimators.lazy_rows import LazyRows, Rows
from nbbn.scan import all_finite

# Rows of these dtypes are converted batch by batch; others as a whole.
CONVERTED_BY_BATCH = ("float32", "float64", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64")


# Bytes from which all threads look for NaN: 188 MB take NumPy's sum 10 ms, two threads 3.
_LARGE = 8 << 20


def computing_dtype(x: Rows, dtype: str | None) -> np.dtype:
    """float32 for float32 rows, float64 for all others, unless `dtype` says which."""
    if dtype is not None:
        return np.dtype(dtype)
    return np.dtype("float32" if x.dtype == np.float32 else "float64")


def require_y(estimator, y) -> None:
    """ValueError without targets."""
    if y is None:
        raise ValueError(
            f"This {type(estimator).__name__} estimator requires y to be passed, but the target y is None."
        )


@contextmanager
def named(name: str) -> Iterator[None]:
    """Errors about an argument that is checked as if it were X or y begin with its own name."""
    try:
        yield
    except (TypeError, ValueError) as err:
        error = TypeError if isinstance(err, TypeError) else ValueError
        raise error(f"{name}: {err}") from err


def check_rows(estimator, x, *, reset: bool, contiguous: bool = True) -> Rows:
    """Rows of a numeric dtype, all finite: a 2-D array, or sparse or half-precision rows that become one a part at a time.

    Parameters
    ----------
    estimator, x, reset
        As of scikit-learn's `validate_data`.
    contiguous : bool
        Whether an array has to be C-contiguous.

    Raises
    ------
    ValueError
        For NaN, infinity, an empty array, a wrong number of dimensions or of features.
    """
    order = "C" if contiguous else None
    # What has no dtype becomes float64 here, with scikit-learn's errors for what cannot.
    dtype = None if hasattr(x, "dtype") or hasattr(x, "dtypes") else np.float64
    x = validate_data(estimator, x, reset=reset, accept_sparse="csr", dtype=dtype, order=order, ensure_all_finite=False)
    if scipy.sparse.issparse(x):
        dtype = "uint8" if x.dtype == bool else x.dtype.name
        _check_finite(estimator, x.data)
        return LazyRows(x, dtype if dtype in CONVERTED_BY_BATCH else "float64")
    if x.dtype == np.float16:
        _check_finite(estimator, x)
        return LazyRows(x, "float64")
    if x.dtype == bool:
        x = x.view(np.uint8)
    elif x.dtype.name not in CONVERTED_BY_BATCH:
        x = check_array(x, dtype=np.float64, order=order, ensure_all_finite=False)
    if not x.dtype.isnative:
        x = x.astype(x.dtype.newbyteorder("="))
    _check_finite(estimator, x)
    return x


def check_range(x: Rows, dtype: np.dtype) -> None:
    """ValueError for numbers that are finite, but not in the dtype that is computed in."""
    values = x if isinstance(x, np.ndarray) else x.source.data if scipy.sparse.issparse(x.source) else x.source
    if values.dtype.kind != "f" or values.dtype.itemsize <= dtype.itemsize or not values.size:
        return
    largest = max(values.max(), -values.min())
    if largest > np.finfo(dtype).max:
        raise ValueError(
            f"Input X contains a value too large for dtype({dtype.name!r}), which is computed in: {largest:g}; scale the rows, "
            f"or fit with dtype='float64'"
        )


def _check_finite(estimator, x: np.ndarray) -> None:
    if x.dtype.kind == "f" and not _surely_finite(x):
        assert_all_finite(x, estimator_name=type(estimator).__name__, input_name="X")


def _surely_finite(x: np.ndarray) -> bool:
    """Whether a quick look proves all rows finite; scikit-learn's slow one then finds out what is wrong."""
    if x.nbytes > _LARGE and x.flags.c_contiguous and x.flags.aligned and x.dtype in (np.float32, np.float64):
        return all_finite(x)
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(x.sum()))


def check_weights(weights, x: Rows, *, positive: bool) -> np.ndarray | None:
    """Weights of the rows as float64 `(n,)`; None where there are none.

    Parameters
    ----------
    weights : array-like of shape (n,), number or None
    x : Rows
    positive : bool
        Whether weights below 0 are refused.

    Raises
    ------
    ValueError
        For another shape, NaN or infinity, weights that are all 0, and a negative one where that is refused.
    """
    if weights is None:
        return None
    weights = _check_sample_weight(weights, np.empty((len(x), 0)), dtype=np.float64)
    if positive and (weights < 0).any():
        raise ValueError("Negative values in sample_weight: the statistics of batch norm need weights of 0 or more")
    if not weights.any():
        raise ValueError("sample_weight is zero for every row: at least one weight must be above zero")
    return np.ascontiguousarray(weights)


def class_weights(class_weight, y: np.ndarray, *, incremental: bool) -> np.ndarray | None:
    """The weight of each row by its label; None where `class_weight` is.

    Raises
    ------
    ValueError
        For a dict with a multilabel target, with other labels or with weights below 0, and for 'balanced' in `partial_fit`.
    """
    if class_weight is None:
        return None
    if isinstance(class_weight, dict) and y.ndim == 2:
        raise ValueError("class_weight as a dict needs one label a row; for a multilabel target use sample_weight")
    if incremental and class_weight == "balanced":
        raise ValueError(
            "class_weight='balanced' is not supported for partial_fit, which does not know all rows; give the dict of "
            "sklearn.utils.class_weight.compute_class_weight('balanced', classes=classes, y=y)"
        )
    weights = compute_sample_weight(class_weight, y)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"class_weight must hold finite weights of 0 or more, got {class_weight}")
    return weights


def product(*weights: np.ndarray | None) -> np.ndarray | None:
    """The product of weights, None counting as 1; None where all are.

    Raises
    ------
    ValueError
        Where it is 0 for every row.
    """
    given = [w for w in weights if w is not None]
    if not given:
        return None
    found = np.ascontiguousarray(np.prod(given, axis=0))
    if not found.any():
        raise ValueError("sample_weight times class_weight is zero for every row: at least one row must count")
    return found


def check_labels(estimator, y, rows: int) -> np.ndarray:
    """Class labels `(n,)`, or a multilabel indicator matrix `(n, labels)`.

    Raises
    ------
    TypeError
        For a single value.
    ValueError
        For NaN, a wrong length, or targets that are no classes.
    """
    if hasattr(y, "toarray"):
        y = y.toarray()
    y = check_array(y, ensure_2d=False, dtype=None, ensure_all_finite=False, input_name="y", estimator=estimator)
    if y.dtype.kind in "fO":
        assert_all_finite(y, input_name="y")
    check_consistent_length(range(rows), y)
    kind = type_of_target(y, input_name="y")
    if kind.startswith("multilabel"):
        y = np.asarray(y)
    elif kind in ("binary", "multiclass"):
        y = column_or_1d(y, warn=True)
    elif kind.endswith("multioutput"):
        raise ValueError("Multioutput target data is not supported with label binarization")
    elif kind == "unknown":
        raise ValueError(
            f"Unknown label type: {kind}. y has dtype {y.dtype} and holds others than strings; convert it, as by y.astype(int) "
            f"or y.astype(str)"
        )
    else:
        raise ValueError(
            f"Unknown label type: {kind}. Maybe you are trying to fit a classifier, which expects discrete classes on a "
            f"regression target with continuous values."
        )
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
                raise ValueError(_unknown(y, classes))
            return index
    index = np.searchsorted(classes, y)
    index[index == len(classes)] = 0
    if (classes[index] != y).any():
        raise ValueError(_unknown(y, classes))
    return index.astype(np.int64)


def _unknown(y: np.ndarray, classes: np.ndarray) -> str:
    return f"`y` has classes not in `self.classes_`. `self.classes_` has {classes}. 'y' has {np.unique(y)}."


def check_targets(estimator, y, rows: int, dtype: np.dtype) -> np.ndarray:
    """Numeric targets as `(n, outputs)`, C-contiguous, of the computing dtype.

    Raises
    ------
    TypeError
        For strings, or a single value.
    ValueError
        For NaN, infinity, a wrong length, or objects that are no numbers.
    """
    y = check_array(y, ensure_2d=False, dtype=None, ensure_all_finite=False, input_name="y", estimator=estimator)
    if y.dtype.kind in "SU":
        raise TypeError(
            f"y must hold numbers, got dtype {y.dtype}: convert strings of digits by y.astype(float), or use MLPClassifier for "
            f"labels"
        )
    assert_all_finite(y, input_name="y")
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    check_consistent_length(range(rows), y)
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)
