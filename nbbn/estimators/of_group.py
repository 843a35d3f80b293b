"""What the processes of a group agree on before they fit: rows, targets and weights of each.

A process without rows has no say; it gets empty arrays of the kind that the others have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from nbbn.estimators import checks
from nbbn.estimators.lazy_rows import LazyRows, Rows
from nbbn.group import Group
from nbbn.sparse_rows import SparseRows


def rows_of(group: Group, estimator: Any, x: Rows | None) -> Rows:
    """Checked rows, or none of the kind that the others have; None: this process has none."""
    if group.world is None:
        assert x is not None
        return x
    if isinstance(x, LazyRows):
        x = x[:]
    names = getattr(estimator, "feature_names_in_", None)
    kind = None if x is None else (x.shape[1], isinstance(x, SparseRows))
    width, sparse = group.agreed("X with (columns, whether sparse)", kind)
    shown = None if x is None else None if names is None else [str(name) for name in names]
    names = group.agreed("feature names", None if x is None else (shown,))[0]
    dtype = np.result_type(*(d for d in group.gathered(None if x is None else x.dtype.name) if d))
    if x is not None:
        return x
    estimator.n_features_in_ = width
    if names is not None:
        estimator.feature_names_in_ = np.array(names, object)
    if sparse:
        return SparseRows(np.empty(0, dtype), np.empty(0, np.int32), np.zeros(1, np.int64), width)
    return np.empty((0, width), dtype)


def targets_of(group: Group, y: np.ndarray | None) -> np.ndarray:
    """Checked targets in the dtype that holds those of all processes."""
    if group.world is None:
        assert y is not None
        return y
    group.agreed("y of shape (n, ...)", None if y is None else y.shape[1:])
    kinds = [found for found in group.gathered(None if y is None else (y.dtype, y.shape[1:]))
             if found]
    words = {dtype.kind in "USO" for dtype, _ in kinds}
    if len(words) > 1:
        ranks = [str(dtype) for dtype, _ in kinds]
        raise ValueError(f"y holds words on some ranks and numbers on others ({', '.join(ranks)})")
    dtype = np.result_type(*(dtype for dtype, _ in kinds))
    return np.empty((0, *kinds[0][1]), dtype) if y is None else y.astype(dtype, copy=False)


def classes_of(group: Group, y: np.ndarray) -> np.ndarray:
    """Sorted distinct classes of all processes."""
    if group.world is None or y.ndim > 1:
        return checks.classes_of(y)
    return np.unique(np.concatenate(group.gathered(np.unique(y))))


def weights_of(group: Group, name: str, weights: np.ndarray | None, rows: int) -> np.ndarray | None:
    """Weights that each process has given for its rows, or none has; not all of them 0."""
    if group.world is None:
        return weights
    given = None if rows == 0 else weights is not None
    if not group.agreed(f"{name} given", given):
        return None
    weights = np.empty(0) if weights is None else weights
    checks.check_some_weight(name, group.any_true(bool(weights.any())))
    return weights


ClassWeight = str | dict[Any, float] | Sequence[dict[Any, float]] | None


def class_weight_of(group: Group, given: ClassWeight, y: np.ndarray) -> ClassWeight:
    """Weights of the classes that this process has, by the counts of all processes."""
    if group.world is None or given is None:
        return given
    columns = list(y.T) if y.ndim == 2 else [y]
    if isinstance(given, str):
        tables = [_balanced(group, column) for column in columns]
    else:
        tables = [given] if isinstance(given, dict) else list(given)
        if isinstance(given, dict) == (y.ndim == 2) or len(tables) != len(columns):
            return given  # `checks.weights_by_class` says what is wrong
        if y.ndim == 1:
            classes = classes_of(group, y)
            compute_class_weight(tables[0], classes=classes, y=classes)  # it may refuse them
    here = [_here(table, column) for table, column in zip(tables, columns)]
    return here if y.ndim == 2 else here[0]


def _balanced(group: Group, y: np.ndarray) -> dict[Any, float]:
    """`n / (classes * count)` of each class."""
    found = group.gathered(np.unique(y, return_counts=True))
    classes, place = np.unique(np.concatenate([names for names, _ in found]), return_inverse=True)
    counts = np.bincount(place, np.concatenate([numbers for _, numbers in found]))
    weights = counts.sum() / (len(classes) * counts)
    return dict(zip(classes.tolist(), weights.tolist()))


def _here(table: dict[Any, float], y: np.ndarray) -> dict[Any, float]:
    """The weights of the classes that there are; sklearn wants no others."""
    return {label: table.get(label, 1.0) for label in np.unique(y).tolist()}

