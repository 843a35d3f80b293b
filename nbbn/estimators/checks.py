"""What comes in at the estimators' door, by scikit-learn's rules: rows, targets and weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.utils import assert_all_finite, check_array, column_or_1d, compute_sample_weight
from sklearn.utils.multiclass import type_of_target, unique_labels
from sklearn.utils.validation import _check_sample_weight, check_consistent_length, validate_data

from nbbn.dtypes import SOURCE_DTYPES
from nbbn.estimators.lazy_rows import LazyRows, Rows
from nbbn.inputs import all_finite, readable
from nbbn.sparse_rows import SparseRows, stored_elements


@contextmanager
def named(name: str) -> Iterator[None]:
    """Errors about an argument that is checked as if it were X or y begin with its own name."""
    try:
        yield
    except (TypeError, ValueError) as err:
        error = TypeError if isinstance(err, TypeError) else ValueError
        raise error(f"{name}: {err}") from err


# -- rows


def check_rows(estimator: BaseEstimator, X: Any, *, reset: bool, lazy: bool = True,
               contiguous: bool = True) -> Rows:
    """Rows of a numeric dtype, all finite, by scikit-learn's `validate_data`.

    With `lazy` rows may be sparse, or of half precision, which become an array a part at a time;
    `contiguous` arrays are in C order.
    """
    order = "C" if contiguous else None
    # What has no dtype becomes float64 here, with scikit-learn's errors for what cannot.
    dtype = None if hasattr(X, "dtype") or hasattr(X, "dtypes") else np.float64
    accepted = "csr" if lazy else False
    X = validate_data(estimator, X, reset=reset, accept_sparse=accepted, dtype=dtype, order=order,
                      ensure_all_finite=False, skip_check_array=_are_plain_rows(X))
    if scipy.sparse.issparse(X):
        rows = stored_elements(X)
        _check_finite(estimator, rows.values)
        return rows
    if lazy and X.dtype == np.float16:
        _check_finite(estimator, X)
        return LazyRows(X, "float64")
    if X.dtype != bool and X.dtype.name not in SOURCE_DTYPES:
        X = check_array(X, dtype=np.float64, order=order, ensure_all_finite=False)
    X = readable(X)
    _check_finite(estimator, X)
    return X


def _are_plain_rows(X: Any) -> bool:
    """Whether scikit-learn's `check_array` has nothing to do, which takes it some 0.1 ms."""
    return (type(X) is np.ndarray and X.ndim == 2 and X.dtype.name in SOURCE_DTYPES
            and X.size > 0 and X.flags.c_contiguous)


def _check_finite(estimator: BaseEstimator, values: np.ndarray) -> None:
    if not all_finite(values):  # scikit-learn's slow look finds out what is wrong
        assert_all_finite(values, estimator_name=type(estimator).__name__, input_name="X")


def check_range(x: Rows, dtype: np.dtype) -> None:
    """ValueError for numbers that are finite, but not in the dtype that is computed in."""
    values = x.source if isinstance(x, LazyRows) else x
    values = values.values if isinstance(values, SparseRows) else values
    if values.dtype.kind != "f" or values.dtype.itemsize <= dtype.itemsize or not values.size:
        return
    largest = max(values.max(), -values.min())
    if largest > np.finfo(dtype).max:
        raise ValueError(f"Input X contains a value too large for dtype({dtype.name!r}), which is "
                         f"computed in: {largest:g}; scale the rows, or fit with dtype='float64'")


# -- targets


def check_y(estimator: BaseEstimator, y: Any, rows: int) -> np.ndarray:
    """Targets as an array of so many rows; ValueError without any."""
    if y is None:
        raise ValueError(f"This {type(estimator).__name__} estimator requires y to be passed, "
                         "but the target y is None.")
    y = check_array(y, ensure_2d=False, dtype=None, ensure_all_finite=False, input_name="y",
                    estimator=estimator)
    if y.dtype.kind in "fO":
        assert_all_finite(y, input_name="y")
    check_consistent_length(range(rows), y)
    return y


def check_labels(estimator: BaseEstimator, y: Any, rows: int, *, multilabel: bool) -> np.ndarray:
    """Class labels `(n,)`, or with `multilabel` an indicator matrix `(n, labels)`, too."""
    if _are_plain_labels(y, rows):
        return y
    y = y.toarray() if multilabel and hasattr(y, "toarray") else y
    y = check_y(estimator, y, rows)
    if not multilabel:
        y = column_or_1d(y, warn=True)
    kind = type_of_target(y, input_name="y")
    if kind.startswith("multilabel"):
        return y
    if kind in ("binary", "multiclass"):
        return column_or_1d(y, warn=True)
    if kind.endswith("multioutput"):
        raise ValueError("Multioutput target data is not supported with label binarization")
    if kind == "unknown":
        raise ValueError(f"Unknown label type: {kind}. y has dtype {y.dtype} and holds others than "
                         "strings; convert it, as by y.astype(int) or y.astype(str)")
    raise ValueError(f"Unknown label type: {kind}. Maybe you are trying to fit a classifier, which "
                     "expects discrete classes on a regression target with continuous values.")


def _are_plain_labels(y: Any, rows: int) -> bool:
    """Whether there is nothing to find fault with, as scikit-learn takes 0.5 ms to find out."""
    return type(y) is np.ndarray and y.shape == (rows,) and _are_whole(y.dtype)


def _are_whole(dtype: np.dtype) -> bool:
    return dtype.kind in "iu" and dtype.isnative


def check_numbers(estimator: BaseEstimator, y: Any, rows: int, dtype: np.dtype) -> np.ndarray:
    """Numeric targets as `(n, outputs)`, C-contiguous, of `dtype`."""
    y = check_y(estimator, y, rows)
    if y.dtype.kind in "SU":
        raise TypeError(f"y must hold numbers, got dtype {y.dtype}: convert strings of digits by "
                        "y.astype(float), or use "
                        f"{type(estimator).__name__.replace('Regressor', 'Classifier')} for labels")
    y = check_array(y, ensure_2d=False, dtype=np.float64, input_name="y")
    if y.ndim == 2 and y.shape[1] == 1:
        y = column_or_1d(y, warn=True)
    return np.ascontiguousarray(y.reshape(len(y), -1), dtype=dtype)


def classes_of(y: np.ndarray) -> np.ndarray:
    """Sorted distinct classes; the label indices of an indicator matrix."""
    if y.ndim == 1 and _are_whole(y.dtype):
        return np.unique(y)
    return unique_labels(y) if y.ndim == 1 else np.arange(y.shape[1])


def indices(y: np.ndarray, classes: np.ndarray) -> np.ndarray | None:
    """Each label's index in `classes`, int64; None where a label is none of them."""
    if classes.dtype.kind in "iu" and y.dtype.kind in "iub":
        first = int(classes[0])
        if len(classes) == int(classes[-1]) - first + 1:  # consecutive whole numbers: no search
            index = y.astype(np.int64) - first
            outside = len(index) and (index.min() < 0 or index.max() >= len(classes))
            return None if outside else index
    index = np.searchsorted(classes, y)
    index[index == len(classes)] = 0
    return None if (classes[index] != y).any() else index.astype(np.int64)


# -- weights of rows


def check_weights(sample_weight: Any, rows: int, *, positive: bool,
                  whole: bool = True) -> np.ndarray | None:
    """Weights of the rows as float64 `(n,)`, with `positive` none below 0; or None.

    Not all 0, if they are the `whole` and not those of some rows among others.
    """
    if sample_weight is None:
        return None
    given = np.asarray(sample_weight)
    if not whole and given.shape == (rows,) and given.dtype.kind in "fiub" and not given.any():
        return np.zeros(rows)  # which scikit-learn refuses
    weights = _check_sample_weight(sample_weight, np.empty((rows, 0)), dtype=np.float64)
    if positive and (weights < 0).any():
        raise ValueError("Negative values in sample_weight: "
                         "the statistics of batch norm need weights of 0 or more")
    if whole:
        check_some_weight("sample_weight", bool(weights.any()))
    return np.ascontiguousarray(weights)


def check_some_weight(name: str, some: bool) -> None:
    """ValueError where no row has a weight."""
    if not some:
        raise ValueError(f"{name} is zero for every row: at least one weight must be above zero")


def weights_by_class(class_weight: Any, y: np.ndarray, *, incremental: bool) -> np.ndarray | None:
    """The weight of each row by its label; None where `class_weight` is."""
    if class_weight is None:
        return None
    if not len(y):  # of a process without rows
        return np.empty(0)
    if isinstance(class_weight, dict) and y.ndim == 2:
        raise ValueError("class_weight as a dict needs one label a row; for a multilabel target "
                         f"give a list of {y.shape[1]} dicts, one for each label")
    if isinstance(class_weight, list):
        labels = y.shape[1] if y.ndim == 2 else 0
        if len(class_weight) != labels or not all(isinstance(w, dict) for w in class_weight):
            raise ValueError("class_weight as a list is for multilabel targets and holds a dict "
                             f"for each label, got {class_weight} for {max(labels, 1)} labels")
    if incremental and class_weight == "balanced":
        raise ValueError("class_weight='balanced' is not supported for partial_fit, which does not "
                         "know all rows; give the dict of "
                         "sklearn.utils.class_weight.compute_class_weight('balanced', "
                         "classes=classes, y=y)")
    weights = compute_sample_weight(class_weight, y)
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise ValueError(f"class_weight must hold finite weights of 0 or more, got {class_weight}")
    return weights


def product(*weights: np.ndarray | None, whole: bool = True) -> np.ndarray | None:
    """The product of weights, None counting as 1; None where all are; not all 0 if the `whole`."""
    given = [w for w in weights if w is not None]
    if not given:
        return None
    found = np.ascontiguousarray(np.prod(given, axis=0))
    if whole and not found.any():
        raise ValueError("sample_weight times class_weight is zero for every row: "
                         "at least one row must count")
    return found
