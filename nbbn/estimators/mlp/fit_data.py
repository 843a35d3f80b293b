"""From what a user gives `fit` to what is fitted: everything checked and encoded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from nbbn.estimators import checks, of_group, partitions
from nbbn.estimators.lazy_rows import Rows, select
from nbbn.estimators.mlp import architecture as networks
from nbbn.estimators.mlp.architecture import Architecture
from nbbn.estimators.mlp.checkpoint import shown_rows
from nbbn.estimators.mlp.fit_state import Fitted
from nbbn.estimators.mlp.mlp_task import MLPTask
from nbbn.estimators.mlp.rules import Hidden
from nbbn.estimators.mlp.target_scale import Moments
from nbbn.group import ALONE, KEY_BYTES, Group, Order
from nbbn.inputs import check_enough
from nbbn.partitions.partitions import Partitions
from nbbn.partitions.sources import Header
from nbbn.sparse_rows import SparseRows
from nbbn.training_loop import Plan, Samples, in_memory, without_weightless


@dataclass(frozen=True)
class Given:
    """The arguments of `fit`."""

    X: Any
    y: Any
    sample_weight: Any = None
    X_val: Any = None
    y_val: Any = None
    sample_weight_val: Any = None
    header: Header | None = None  # of rows that came as partitions
    group: Group = ALONE  # whose process these rows are; None for X says that it has none

    def check(self) -> None:
        """ValueError where one comes without another, or beside partitions that hold it."""
        for x, others in (("X", ("y", "sample_weight")), ("X_val", ("y_val", "sample_weight_val"))):
            if isinstance(getattr(self, x), Partitions):
                for name in others:
                    if getattr(self, name) is not None:
                        raise ValueError(f"{name} is given beside {x}, which is Partitions: "
                                         "targets and weights are inside; leave it out")
        if isinstance(self.X_val, Partitions):
            return
        if self.group.world is not None:
            return  # a process may have no rows to validate on
        if (self.X_val is None) != (self.y_val is None):
            missing = "X_val" if self.X_val is None else "y_val"
            raise ValueError(f"X_val and y_val go together: {missing} is missing")
        if self.sample_weight_val is not None and self.X_val is None:
            raise ValueError("sample_weight_val goes with X_val and y_val, which are missing")

    def in_memory(self, estimator: Fitted, *, reset: bool) -> Given:
        """With arrays in place of partitions."""
        if not isinstance(self.X, Partitions):
            return self
        header, part = partitions.together(estimator, self.X, reset=reset)
        return replace(self, X=part.X, y=part.y, sample_weight=part.sample_weight, header=header)


@dataclass(frozen=True)
class FitData:
    """What is fitted."""

    samples: Samples  # targets encoded, weights of classes included
    own_weights: np.ndarray | None  # weights of the rows without those of classes
    validation: Samples | None  # rows that are measured after every epoch; targets encoded
    chosen: np.ndarray | None  # which of the rows are trained on; None for all
    task: MLPTask
    dtype: np.dtype  # what is computed in
    architecture: Architecture
    hidden: tuple[Hidden, ...]
    goes_on: bool  # whether weights and statistics are those of an earlier fit
    group: Group  # whose process has these rows; `chosen` counts those of all
    rows: int  # how many are trained on, in all processes

    @classmethod
    def of(cls, estimator: Fitted, given: Given, hidden: tuple[Hidden, ...], task: MLPTask | None,
           *, incremental: bool) -> FitData:
        """The checked arguments of a fit; `task` where it is known before targets are seen."""
        goes_on = hasattr(estimator, "coefs_") and (estimator.warm_start or incremental)
        norm, group = any(layer.norm for layer in hidden), given.group
        given = given.in_memory(estimator, reset=not goes_on)
        x = _checked_rows(estimator, given.X, group, given.header, reset=not goes_on)
        rows = group.count(len(x))
        check_enough(rows, norm)
        dtype = computing_dtype(estimator, x.dtype, goes_on, group)
        with group.together():
            checks.check_range(x, dtype)
        y = _checked_targets(estimator, given.y, x, dtype, group)
        if task is None and goes_on and hasattr(estimator, "_task"):
            task = estimator._task.going_on(estimator)
        new = task is None
        if task is None:
            sparse = group.any_true(hasattr(given.y, "toarray"))
            task = MLPTask.of(estimator, y, sparse=sparse, group=group)
        if goes_on and not incremental:
            check_same_classes(estimator, y, group)
        own, weights = estimator._row_weights(given.sample_weight, y, positive=norm,
                                              incremental=incremental, group=group)
        if new and task.kind == "regressor":
            task = task.scaled(estimator, Moments.of(y, own, group))
        with group.together():
            samples = Samples(x, task.encode(y), weights)
        architecture = networks.mlp(x.shape[1], hidden, task.outputs, estimator.bn_momentum,
                                    estimator.bn_epsilon, task.activation)
        if goes_on:
            check_same_network(estimator, architecture)
        data = cls(samples, own, None, None, task, dtype, architecture, hidden, goes_on, group,
                   rows)
        if not group.any_true(given.X_val is not None):
            return data
        return replace(data, validation=held_rows(estimator, given, task, dtype))

    def split(self, share: float, random_state: np.random.RandomState) -> FitData:
        """With a share of the rows held out, stratified for two classes, as scikit-learn does."""
        if share == 0:
            raise ValueError("validation_fraction=0 leaves no rows to decide by with "
                             "early_stopping: give a share above 0, or X_val and y_val")
        x, y, stratify, group = self.samples.x, self.samples.y, None, self.group
        if self.task.kind == "classifier" and self.task.outputs == 1:
            stratify = np.where(group.whole(y == 1), "True", "False")
        from sklearn.model_selection import train_test_split  # a twentieth of a second

        train, held = train_test_split(np.arange(self.rows), random_state=random_state,
                                       stratify=stratify, test_size=share)
        if len(held) < 2:
            raise ValueError("The validation set is too small. Increase 'validation_fraction' or "
                             "the size of your dataset.")
        if group.world is not None:
            held = group.own(np.sort(held))
        weights = None if self.own_weights is None else self.own_weights[held]
        if weights is not None and not group.any_true(bool(weights.any())):
            raise ValueError("The sample weights for validation set are all zero, "
                             "consider using a different random state.")
        check_enough(len(train), self.architecture.has_norm)
        validation = Samples(select(x, held), np.ascontiguousarray(y[held]), weights)
        return replace(self, validation=validation, chosen=train, rows=len(train))

    @property
    def source(self) -> np.dtype:
        """Dtype of the rows."""
        return self.samples.x.dtype

    @property
    def sparse(self) -> bool:
        """Whether rows are read by their stored elements."""
        return isinstance(self.samples.x, SparseRows)

    @property
    def weighted(self) -> bool:
        """Whether rows have weights, those of their classes included."""
        return self.samples.row_weights is not None

    def told(self) -> dict[str, str]:
        """What tells these rows from others, by the arguments' names."""
        arrays = {"X": self.samples.x, "y": self.samples.y, "sample_weight": self.own_weights}
        if (held := self.validation) is not None:
            arrays |= {"X_val": held.x, "y_val": held.y, "sample_weight_val": held.row_weights}
        found = {name: shown_rows(array, self.group) for name, array in arrays.items()}
        if self.group.world is not None:
            found["shards"] = str(self.group.fixed_shards)
        return found

    def some_rows(self) -> np.ndarray | SparseRows:
        """The first few."""
        return self.samples.x[:64]

    @contextmanager
    def plans(self, edges: np.ndarray, random_state: np.random.RandomState | None,
              epochs: Sequence[int]) -> Iterator[Iterator[Plan]]:
        """Some epochs of batches; `random_state` shuffles."""
        targets = replace(self.samples, y=self.task.targets(self.samples.y, self.dtype))
        orders = self._orders(edges, random_state)
        for _ in range(epochs[0] if epochs else 0):  # a resumed fit has had these
            next(orders)
        yield in_memory(targets, orders)

    def _orders(self, edges: np.ndarray, random_state: np.random.RandomState | None,
                ) -> Iterator[tuple[Order, np.ndarray]]:
        """The order of the rows (of all, or the chosen ones) in each epoch, and its batches' edges.

        Batches whose weights sum to 0 are left out. `random_state` shuffles.
        """
        weights = self.samples.row_weights
        for rows in self._row_orders(int(edges[-1]), random_state):
            if weights is None:
                yield rows, edges
            else:
                yield without_weightless(rows, edges, weights, self.group)

    def _row_orders(self, rows: int,
                    random_state: np.random.RandomState | None) -> Iterator[Order]:
        if self.chosen is None and not self.group.has_orders_of(rows):
            while True:
                if random_state is None:
                    yield self.group.in_order(0, rows)
                else:
                    yield self.group.keyed_order(rows, random_state.bytes(KEY_BYTES))
        order = np.arange(rows)
        while True:
            if random_state is not None:  # as sklearn.utils.shuffle, without its 0.2 ms of checks
                moved = np.arange(len(order))
                random_state.shuffle(moved)
                order = order[moved]
            yield order if self.chosen is None else self.chosen[order]


def _checked_rows(estimator: Fitted, X: Any, group: Group, header: Header | None = None, *,
                  reset: bool) -> Rows:
    """This process's rows, of the kind that all have; `header` tells of those of partitions."""
    x = None
    with group.together():
        if header is not None:
            partitions.check_columns(estimator, header, reset=reset)
            x = checks.check_rows(partitions.nameless(estimator), X, reset=False)
        elif X is not None or group.world is None:
            x = checks.check_rows(estimator, X, reset=reset)
    return of_group.rows_of(group, estimator, x)


def _checked_targets(estimator: Fitted, y: Any, x: Rows, dtype: np.dtype,
                     group: Group) -> np.ndarray:
    """Their targets."""
    found = None
    with group.together():
        if len(x) or group.world is None:
            found = estimator._checked_y(y, len(x), dtype, multilabel=True)
    return of_group.targets_of(group, found)


def held_rows(estimator: Fitted, given: Given, task: MLPTask, dtype: np.dtype) -> Samples:
    """The rows to validate on that the user gave."""
    group = given.group
    with checks.named("X_val"):
        if isinstance(given.X_val, Partitions):
            return partitions.held(estimator, given.X_val, task, dtype)
        x = _checked_rows(estimator, given.X_val, group, reset=False)
        with group.together():
            checks.check_range(x, dtype)
    with checks.named("y_val"):
        y = _checked_targets(estimator, given.y_val, x, dtype, group)
        with group.together():
            y = task.encode(y)
    with checks.named("sample_weight_val"), group.together():
        weights = checks.check_weights(given.sample_weight_val, len(x), positive=False,
                                       whole=group.world is None)
    return Samples(x, y, of_group.weights_of(group, "sample_weight_val", weights, len(x)))


def computing_dtype(estimator: Fitted, rows: np.dtype, goes_on: bool,
                    group: Group = ALONE) -> np.dtype:
    """float32 for float32 rows (of the first fit), float64 for all others, unless it is given."""
    given = estimator.coefs_[0].dtype if goes_on else rows
    single = group.all_true(given == np.float32)
    return np.dtype(estimator.dtype or ("float32" if single else "float64"))


def check_same_classes(estimator: Fitted, y: np.ndarray, group: Group = ALONE) -> None:
    """A warm start needs the classes of the last fit, all of them."""
    known, classes = getattr(estimator, "classes_", None), of_group.classes_of(group, y)
    if known is not None and set(classes.tolist()) != set(known.tolist()):
        raise ValueError("warm_start can only be used where `y` has the same classes as in the "
                         f"previous call to fit. Previously got {known}, `y` has {classes}")


def check_same_network(estimator: Fitted, architecture: Architecture) -> None:
    """What goes on must be the network that was fitted."""
    held = getattr(estimator, "_architecture", None)
    if held is not None and architecture.layers != held.layers:
        raise ValueError("hidden_layer_sizes, activation, batch_norm, bn_momentum, bn_epsilon, "
                         "dropout, residual or loss differ from the fitted network's: set them "
                         "back, or call fit with warm_start=False")
