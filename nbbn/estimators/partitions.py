"""Partitions at the estimators' door: checked by scikit-learn's rules, errors with their names."""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import scipy.sparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_array
from sklearn.utils.validation import _check_n_features

from nbbn.estimators import checks
from nbbn.estimators.task import Task
from nbbn.formats.files import FileError
from nbbn.partitions.many_parts import ManyParts
from nbbn.partitions.partitions import Partitions, joined
from nbbn.partitions.sources import Header, Part, common_dtype, count, targets_and_weights
from nbbn.training_loop import Samples


@contextmanager
def named(name: str) -> Iterator[None]:
    """Errors about a partition begin with its name."""
    try:
        yield
    except FileError:
        raise
    except (TypeError, ValueError) as err:
        if str(err).startswith(f"{name}: "):
            raise
        error = TypeError if isinstance(err, TypeError) else ValueError
        raise error(f"{name}: {err}") from err


def hold_targets(method: Callable[..., Any]) -> Callable[..., Any]:
    """A method of X and y that takes partitions in place of both.

    TypeError for more arguments by position than it takes, with the names of the others.
    """
    _, *parameters = inspect.signature(method).parameters.values()
    placed = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
    named = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]

    @functools.wraps(method)
    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        if len(args) > len(placed) and named:
            raise TypeError(f"{type(self).__name__}.{method.__name__}() takes "
                            f"{', '.join(placed)} by position, got {len(args)} arguments; give "
                            f"the others by name: {', '.join(named)}")
        X = args[0] if args else kwargs.get("X")
        if isinstance(X, Partitions) and len(args) < 2:
            kwargs.setdefault("y", None)
        return method(self, *args, **kwargs)

    return call


# -- columns


def check_columns(estimator: Any, header: Header, *, reset: bool) -> None:
    """Learn number and names of the features with `reset`, else hold them against the fit's."""
    if len(header.shape) != 1:
        check_array(np.zeros((1, *header.shape)), estimator=estimator, input_name="X")
    known = getattr(estimator, "feature_names_in_", None)
    if reset:
        estimator.n_features_in_ = header.shape[0]
        if header.columns is not None:
            estimator.feature_names_in_ = np.array(header.columns, object)
        elif known is not None:
            del estimator.feature_names_in_
        return
    if known is not None and header.columns is not None and list(known) != list(header.columns):
        new = [name for name in header.columns if name not in known]
        missing = [name for name in known if name not in header.columns]
        raise ValueError("The feature names should match those that were passed during fit.\n"
                         + _listed("Feature names unseen at fit time:", new)
                         + _listed("Feature names seen at fit time, yet now missing:", missing)
                         + ("" if new or missing else
                            "Feature names must be in the same order as they were in fit.\n"))
    _check_n_features(estimator, np.empty((0, *header.shape)), reset=False)


def _listed(title: str, names: list[str]) -> str:
    return f"{title}\n" + "".join(f"- {name}\n" for name in names[:5]) if names else ""


def nameless(estimator: Any) -> Any:
    """A copy that does not ask rows for the names of their columns."""
    other = copy.copy(estimator)
    other.__dict__.pop("feature_names_in_", None)
    return other


# -- a partition


def plain(X: Any) -> Any:
    """Rows of a frame as an array."""
    return X.to_numpy() if hasattr(X, "columns") and hasattr(X, "to_numpy") else X


def check_rows(estimator: BaseEstimator, X: Any) -> np.ndarray:
    """Rows of a partition, which may be none; `estimator` is a nameless one."""
    X = plain(X)
    if count(X) == 0:
        header = Header.of(X)
        return np.empty((0, *header.shape), header.dtype)
    X = checks.check_rows(estimator, X, reset=False, lazy=False, contiguous=False)
    assert isinstance(X, np.ndarray)
    return X


def column(y: Any) -> Any:
    """Targets of one column as such of one axis."""
    single = y is not None and np.ndim(y) == 2 and np.shape(y)[-1] == 1
    return np.asarray(y).reshape(-1) if single else y


# -- all of them


def together(estimator: Any, partitions: Partitions, *, reset: bool) -> tuple[Header, Part]:
    """Partitions as one, in memory, and what is known of it; NaN is refused by the partition."""
    check, found = nameless(estimator), {}
    first: Header | None = None
    for number, header, part in partitions.with_headers():
        with named(partitions.name(number)):
            if first is None:
                first = header
                check_columns(check, header, reset=reset)
                check = nameless(check)
            X = check_rows(check, part.X)
        found[number] = Part(X, column(part.y), part.sample_weight)
    assert first is not None
    return first, partitions.joined(found)


def of_each(estimator: Any, partitions: Partitions, function: Callable[[Any, Any], Any]) -> Any:
    """What a function makes of a fitted estimator and each partition's rows, put together."""
    answers = _each(estimator, partitions, lambda model, part: function(model, part.X))
    found = [answer for _, answer in answers]
    return scipy.sparse.vstack(found) if scipy.sparse.issparse(found[0]) else joined(found)


def answers_and_targets(estimator: Any, partitions: Partitions) -> tuple[Any, Any, Any]:
    """What `predict` gives, the targets, and their weights or None."""

    def both(model: Any, part: Part) -> tuple[Any, Part]:
        if part.y is None:
            raise ValueError("score needs targets, which the partitions do not hold: give them as "
                             "(X, y), or name the column of the targets")
        return model.predict(part.X), Part(None, column(part.y), part.sample_weight)

    found = dict(_each(estimator, partitions, both))
    _, y, weights = partitions.joined({number: targets for number, (_, targets) in found.items()})
    return joined([answers for answers, _ in found.values()]), y, weights


def _each(estimator: Any, partitions: Partitions,
          function: Callable[[Any, Part], Any]) -> Iterator[tuple[int, Any]]:
    """What a function makes of a fitted estimator and each partition that has rows, by number."""
    model, seen = nameless(estimator), False
    for number, header, part in partitions.with_headers():
        with named(partitions.name(number)):
            if len(header.shape) == 1:
                check_columns(estimator, header, reset=False)
            found = function(model, part._replace(X=plain(part.X))) if header.rows else None
        if header.rows:
            seen = True
            yield number, found
    if not seen:
        raise ValueError("the partitions hold no rows")


def many_rows(estimator: Any, partitions: Partitions, headers: list[Header],
              dtype: np.dtype) -> ManyParts:
    """Rows that are read anew each time; checked when read, their columns now."""
    check = nameless(estimator)
    for number, header in enumerate(headers):
        with named(partitions.name(number)):
            check_columns(estimator, header, reset=False)

    def read() -> Iterator[np.ndarray]:
        for number, part in enumerate(partitions):
            with named(partitions.name(number)):
                x = check_rows(check, part.X)
                checks.check_range(x, dtype)
            if len(x):
                yield np.ascontiguousarray(x)

    source = common_dtype([header.dtype for header in headers])
    return ManyParts(read, sum(header.rows for header in headers), headers[0].shape, source)


def held(estimator: Any, partitions: Partitions, task: Task, dtype: np.dtype) -> Samples:
    """Partitions to validate on: their rows are read anew each time, all else is in memory."""
    targets, weights = [], []

    def see(name: str, part: Part) -> None:
        with named(name):
            rows = 0 if part.y is None else count(part.y)
            y = checked_targets(estimator, part.y, rows, dtype) if rows or part.y is None else None
            own = None
            if rows:
                own = checks.check_weights(part.sample_weight, rows, positive=False, whole=False)
        if y is not None:
            targets.append(task.encode(y))
            weights.append(own)

    headers = partitions.headers(see)
    y, row_weights = targets_and_weights(targets, weights)
    many: Any = many_rows(estimator, partitions, headers, dtype)
    return Samples(many, y, row_weights)


def checked_targets(estimator: Any, y: Any, rows: int, dtype: np.dtype) -> np.ndarray:
    """Targets of a partition."""
    return estimator._checked_y(column(y), rows, dtype, multilabel=True)


def joined_weights(found: list[Samples]) -> np.ndarray | None:
    """The weights of all samples, where they have some."""
    weights = [samples.row_weights for samples in found if samples.row_weights is not None]
    return np.concatenate(weights) if weights else None
