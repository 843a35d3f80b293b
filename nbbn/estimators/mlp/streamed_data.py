"""What is fitted where the rows come as partitions: checked and encoded a partition at a time."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from sklearn.utils.multiclass import unique_labels

from nbbn.estimators import checks, partitions
from nbbn.estimators.mlp import architecture as networks
from nbbn.estimators.mlp.architecture import Architecture
from nbbn.estimators.mlp.checkpoint import shown_rows
from nbbn.estimators.mlp.fit_data import (
    Given,
    check_same_classes,
    check_same_network,
    computing_dtype,
    held_rows,
)
from nbbn.estimators.mlp.fit_state import Fitted
from nbbn.estimators.mlp.mlp_task import MLPTask
from nbbn.estimators.mlp.rules import Hidden
from nbbn.estimators.mlp.target_scale import Moments
from nbbn.group import ALONE
from nbbn.inputs import check_enough
from nbbn.partitions.partitions import Partitions
from nbbn.partitions.sources import Header, Part, common_dtype
from nbbn.partitions.stream import Order, Stream
from nbbn.training_loop import Plan, Samples

# Bytes of rows that are held out to validate on, at most: they stay in memory.
HELD_BYTES = 64 << 20


@dataclass
class Glance:
    """What one pass over the targets and weights finds out."""

    estimator: Fitted
    positive: bool  # whether weights must not be below 0
    incremental: bool
    task: MLPTask | None  # where it is known before targets are seen
    example: np.ndarray | None = None  # targets of the first partition that has rows
    weighted: bool | None = None
    some_weight: bool = False
    counts: dict[Any, int] = field(default_factory=dict)  # rows of each class
    classes: list[np.ndarray] = field(default_factory=list)
    moments: Moments | None = None  # of a regressor's targets

    def see(self, name: str, part: Part) -> None:
        """Take a partition in; errors begin with its name."""
        with partitions.named(name):
            if part.y is None:
                checks.check_y(self.estimator, None, 0)
            rows = len(part.y)
            if rows == 0:
                return
            y = partitions.checked_targets(self.estimator, part.y, rows, np.dtype(np.float64))
            if self.task is not None:
                self.task.encode(y)
            self._see_targets(y)
            weights = self._see_weights(part.sample_weight, rows)
            if not self.estimator._classifies:
                found = [self.moments, Moments.of(y, weights, ALONE)]
                self.moments = Moments.merged(moments for moments in found if moments)

    def _see_targets(self, y: np.ndarray) -> None:
        first = self.example is None
        if self.example is not None and self.example.shape[1:] != y.shape[1:]:
            raise ValueError(f"y has targets of shape {y.shape[1:]}, those of the partitions "
                             f"before have {self.example.shape[1:]}")
        if first:
            self.example = y[:1]
        if self.task is None and not self.estimator._classifies:
            self.task = MLPTask.of(self.estimator, y, sparse=False)
            self.task.encode(y)
        class_weight = getattr(self.estimator, "class_weight", None)
        if class_weight != "balanced" or (first and self.incremental):
            checks.weights_by_class(class_weight, y, incremental=self.incremental)
        if not self.estimator._classifies or y.ndim == 2:
            return
        found, counts = np.unique(y, return_counts=True)
        self.classes = [_united([*self.classes, found])]
        for label, count in zip(found.tolist(), counts.tolist()):
            self.counts[label] = self.counts.get(label, 0) + count

    def _see_weights(self, given: Any, rows: int) -> np.ndarray | None:
        if self.weighted is not None and self.weighted != (given is not None):
            has = "has a" if given is not None else "has no"
            raise ValueError(f"{has} sample_weight, unlike the partitions before; give all of them "
                             "or none")
        self.weighted = given is not None
        weights = checks.check_weights(given, rows, positive=self.positive, whole=False)
        if weights is not None:
            self.some_weight = self.some_weight or bool(weights.any())
        return weights

    def class_weight(self) -> Any:
        """`class_weight`, where it is 'balanced' as a dict."""
        given = getattr(self.estimator, "class_weight", None)
        if not isinstance(given, str):
            return given
        if not self.counts:
            raise ValueError("class_weight='balanced' for several labels a row needs all rows in "
                             "memory; give a list of dicts, one for each label")
        total = sum(self.counts.values())
        return {label: total / (len(self.counts) * n) for label, n in self.counts.items()}


def _united(found: list[np.ndarray]) -> np.ndarray:
    """All classes of several partitions; scikit-learn's error for strings beside numbers."""
    kinds = {a.dtype.kind.replace("u", "i") for a in found}
    return np.unique(np.concatenate(found)) if len(kinds) == 1 else unique_labels(*found)


@dataclass(frozen=True)
class StreamedData:
    """What is fitted, as `FitData`, of which a few partitions are in memory at a time."""

    estimator: Fitted
    given: Partitions
    headers: list[Header]
    class_weight: Any
    weighted: bool
    like: Samples  # a row, targets as the trainer reads them
    validation: Samples | None
    task: MLPTask
    dtype: np.dtype
    architecture: Architecture
    hidden: tuple[Hidden, ...]
    goes_on: bool

    sparse, group = False, ALONE

    @classmethod
    def of(cls, estimator: Fitted, given: Given, hidden: tuple[Hidden, ...], task: MLPTask | None,
           *, incremental: bool) -> StreamedData:
        """The checked arguments of a fit; `task` where it is known before targets are seen."""
        goes_on = hasattr(estimator, "coefs_") and (estimator.warm_start or incremental)
        parts: Partitions = given.X
        norm = any(layer.norm for layer in hidden)
        if estimator.solver == "lbfgs":
            raise ValueError("solver='lbfgs' needs all rows in memory: use one of the other "
                             "solvers, or a window of all partitions")
        if task is None and goes_on and hasattr(estimator, "_task"):
            task = estimator._task.going_on(estimator)
        glance = Glance(estimator, norm, incremental, task if incremental else None)
        headers = parts.headers(glance.see)
        for number, header in enumerate(headers[:1] if not goes_on else headers):
            with partitions.named(parts.name(number)):
                partitions.check_columns(estimator, header, reset=not goes_on)
        rows = sum(header.rows for header in headers)
        if glance.example is None:
            raise ValueError("the partitions hold no rows")
        check_enough(rows, norm)
        source = common_dtype([header.dtype for header in headers])
        dtype = computing_dtype(estimator, source, goes_on)
        if task is None:
            task = _task_of(estimator, glance)
        if goes_on and not incremental:
            check_same_classes(estimator, glance.classes[0] if glance.classes else glance.example)
        if glance.weighted:
            checks.check_some_weight("sample_weight", glance.some_weight)
        class_weight = glance.class_weight()
        weighted = bool(glance.weighted) or class_weight is not None
        targets = task.targets(task.encode(glance.example.astype(dtype, copy=False)
                                           if task.kind == "regressor" else glance.example), dtype)
        like = Samples(np.empty((1, *headers[0].shape), source), targets,
                       np.ones(1) if weighted else None)
        architecture = networks.mlp(headers[0].shape[0], hidden, task.outputs,
                                    estimator.bn_momentum, estimator.bn_epsilon, task.activation)
        if goes_on:
            check_same_network(estimator, architecture)
        validation = None
        if given.X_val is not None:
            validation = held_rows(estimator, given, task, dtype)
        return cls(estimator, parts, headers, class_weight, weighted, like, validation, task, dtype,
                   architecture, hidden, goes_on)

    @property
    def rows(self) -> int:
        """How many are trained on."""
        return sum(header.rows for header in self.headers)

    @property
    def source(self) -> np.dtype:
        """Dtype of the rows."""
        return self.like.x.dtype

    def told(self) -> dict[str, str]:
        """What tells these partitions from others: numbers of rows, sizes of files, the window."""
        shapes = [(header.rows, header.shape, header.columns) for header in self.headers]
        told = repr((self.given.window, self.given.in_order, shapes, self.given.sizes()))
        found = {"X": hashlib.blake2b(told.encode(), digest_size=16).hexdigest()}
        if (held := self.validation) is not None:
            found |= {"X_val": shown_rows(held.x), "y_val": shown_rows(held.y),
                      "sample_weight_val": shown_rows(held.row_weights)}
        return found

    def some_rows(self) -> np.ndarray:
        """A few of the first."""
        for part in self.given:
            if len(rows := partitions.check_rows(partitions.nameless(self.estimator), part.X)):
                return np.ascontiguousarray(rows[:64])
        raise AssertionError("partitions without rows are refused")

    def split(self, share: float, random_state: np.random.RandomState) -> StreamedData:
        """With a share of each partition's rows held out, of 64 MB of rows at most."""
        if share == 0:
            raise ValueError("validation_fraction=0 leaves no rows to decide by with "
                             "early_stopping: give a share above 0, or X_val and y_val")
        key = int(random_state.randint(2**31 - 1))
        row_bytes = max(1, self.like.x.nbytes)
        kept, held = self.given.split(share, key, self.headers, HELD_BYTES // row_bytes)
        prepare = _Prepare(replace(self, given=held), by_class=False)
        found = [prepare.encoded(number, part) for number, header, part in held.with_headers()
                 if header.rows]
        if not found:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or "
                             "the size of your dataset.")
        weights = partitions.joined_weights(found)
        validation = Samples(np.concatenate([samples.x for samples in found]),
                             np.concatenate([samples.y for samples in found]), weights)
        if len(validation) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or "
                             "the size of your dataset.")
        if weights is not None and not weights.any():
            raise ValueError("The sample weights for validation set are all zero, "
                             "consider using a different random state.")
        data = replace(self, given=kept, headers=kept.chosen(self.headers), validation=validation)
        check_enough(data.rows, self.architecture.has_norm)
        return data

    @contextmanager
    def plans(self, edges: np.ndarray, random_state: np.random.RandomState | None,
              epochs: Sequence[int]) -> Iterator[Iterator[Plan]]:
        """Some epochs of batches; `random_state` shuffles."""
        key = None if random_state is None else int(random_state.randint(2**31 - 1))
        counts = tuple(header.rows for header in self.headers)
        order = Order(counts, self.given.window, key, not self.given.in_order)
        prepare = _Prepare(self, by_class=True)
        with Stream(self.given, order, edges, prepare, self.like, epochs,
                    skip_weightless=self.weighted) as stream:
            yield stream.plans()


class _Prepare:
    """Makes checked samples of a partition, as the trainer reads them."""

    def __init__(self, data: StreamedData, *, by_class: bool):
        self._data, self._by_class = data, by_class
        self._check = partitions.nameless(data.estimator)

    def __call__(self, number: int, part: Part) -> Samples:
        samples = self.encoded(number, part)
        return replace(samples, y=self._data.task.targets(samples.y, self._data.dtype))

    def encoded(self, number: int, part: Part) -> Samples:
        """With encoded targets."""
        data = self._data
        with partitions.named(data.given.name(number)):
            x = partitions.check_rows(self._check, part.X)
            checks.check_range(x, data.dtype)
            rows = len(x)
            targets = partitions.checked_targets(self._check, part.y, rows, data.dtype)
            weights = own = checks.check_weights(part.sample_weight, rows, whole=False,
                                                 positive=data.architecture.has_norm)
            if self._by_class and data.class_weight is not None:
                by_class = checks.weights_by_class(data.class_weight, targets, incremental=False)
                assert by_class is not None
                weights = by_class if own is None else own * by_class
            return Samples(x, data.task.encode(targets), weights)


def _task_of(estimator: Fitted, glance: Glance) -> MLPTask:
    if estimator._classifies and glance.classes:
        return MLPTask.of_classes(checks.classes_of(glance.classes[0]))
    assert glance.example is not None
    task = MLPTask.of(estimator, glance.example, sparse=False)
    return task if glance.moments is None else task.scaled(estimator, glance.moments)

