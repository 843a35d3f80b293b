"""The solver `lbfgs`: scipy's L-BFGS-B on the loss of all rows, the gradients from the engine."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result

from nbbn.estimators.lazy_rows import outputs_of
from nbbn.estimators.mlp.architecture import Architecture
from nbbn.group import ALONE, Group, Order
from nbbn.network import Weights
from nbbn.optimizers import Optimizer
from nbbn.sparse_rows import SparseRows
from nbbn.trainer import Trainer
from nbbn.training_loop import Samples

# Rows whose gradients are computed in one go, and bytes of them in float64, where no batch norm
# needs all rows together.
_PART, _PART_BYTES = 4096, 8 << 20


class Gradients(Optimizer):
    """Leaves the weights as they are, and the gradients where an optimiser's state would be."""

    kernel, slots = "gradient", 1

    def constants(self) -> list[float]:
        """It has none."""
        return []

    def rates(self, steps: np.ndarray) -> np.ndarray:
        """No rate."""
        return np.zeros(len(steps))


class Stopped(Exception):
    """A callback wants to stop."""


@dataclass
class Objective:
    """The loss of all rows and its gradient, by a vector of kernels, biases, gammas, betas."""

    architecture: Architecture
    alpha: float  # L2 penalty of the kernels
    samples: Samples  # as the trainer reads them
    weights: Weights  # to start from
    # The loss of each row of the network's outputs, where the engine's is not scikit-learn's to the
    # last digit.
    measure: Callable[[np.ndarray], np.ndarray] | None = None
    group: Group = ALONE  # whose process has these samples

    def __post_init__(self) -> None:
        # Layer and name of each array in the vector.
        names = [(i, name) for i, arrays in enumerate(self.weights) for name in arrays]
        order = ("kernel", "bias", "gamma", "beta")
        self.names = [(i, name) for which in order for i, name in names if name == which]
        shapes = [self.weights[i][name].shape for i, name in self.names]
        ends = np.cumsum([0, *map(math.prod, shapes)]).tolist()
        # Of each array of the vector its key, its place and its shape.
        self._parts = list(zip(self.names, map(slice, ends, ends[1:]), shapes))
        self.weights = [{n: a.astype(np.float64) for n, a in x.items()} for x in self.weights]
        self.loss, self._at = np.inf, np.empty(0)
        self._rows, row_weights = self.group.count(len(self.samples)), self.samples.row_weights
        self._mass = float(self._rows)
        if row_weights is not None:
            self._mass = float(row_weights.sum())
            if self.group.world is not None:
                whole = self.group.in_order(0, self._rows), np.array([0, self._rows])
                self._mass = float(self.group.masses(row_weights, *whole)[0])

    def trainer(self, loss: str, level: float) -> Trainer:
        """A trainer in float64, whose batch norms' statistics are those of the last vector."""
        whole, x = self.architecture.of_whole_batches, self.samples.x
        self._part, sparse = self._rows, isinstance(x, SparseRows)
        if not self.architecture.has_norm:
            dense = self._rows if sparse else _PART_BYTES // (8 * x.shape[1])
            self._part = max(1, min(self._part, _PART, dense))
        self._trainer = Trainer(whole, np.dtype("float64"), x.dtype, self._part, loss, Gradients(),
                                loss_parameter=level,
                                weighted=False if self.samples.row_weights is None else "mean",
                                sparse=sparse, group=self.group)
        self._trainer.upload(self.weights)
        return self._trainer

    def pack(self) -> np.ndarray:
        """The weights as a vector."""
        return np.concatenate([self.weights[i][name].ravel() for i, name in self.names])

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient at a vector that is announced to the others of the group."""
        return self.evaluate(self.group.from_first(vector))

    def evaluate(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient."""
        began = self._trainer.norm_step
        trained: Weights = [{} for _ in self.weights]
        for (i, name), place, shape in self._parts:
            trained[i][name] = vector[place].reshape(shape)
        self._trainer.upload(trained)
        mass = self._mass
        loss, grads = self._data_term(mass)
        if self.measure is not None:
            loss = self._mean_loss(self.measure)
        for i in self.architecture.dense:
            kernel = trained[i]["kernel"]
            grads[i, "kernel"] += self.alpha * kernel / mass
            loss += 0.5 * self.alpha * float(np.dot(kernel.ravel(), kernel.ravel())) / mass
        self.loss, self._at = loss, vector.copy()
        self._steps = self._trainer.norm_step - began
        return loss, np.concatenate([grads[key].ravel() for key in self.names])

    def go_to(self, vector: np.ndarray) -> None:
        """Leave trainer and loss as they are at a vector, where they may be already."""
        if vector.tobytes() == self._at.tobytes():
            self._trainer.norm_step += self._steps
        else:
            self.evaluate(vector)

    def _mean_loss(self, measure: Callable[[np.ndarray], np.ndarray]) -> float:
        weights = self.samples.row_weights
        with np.errstate(all="ignore"):
            rows = measure(outputs_of(self._trainer.outputs, self.samples.x))
            if self.group.world is None:
                return float(np.average(rows, weights=weights))
            whole = self.group.in_order(0, self._rows)
            share = self.group.share(whole, np.array([0, self._rows]))
            return self.group.total(rows if weights is None else rows * weights, share) / self._mass

    def _data_term(self, mass: float) -> tuple[float, dict[tuple[int, str], np.ndarray]]:
        loss, row_weights = 0.0, self.samples.row_weights
        grads = {key: np.zeros(()) for key in self.names}
        for first in range(0, self._rows, self._part):
            part = self.group.in_order(first, min(first + self._part, self._rows))
            share = len(part) / mass
            if row_weights is not None:
                share = float(self._mass_of(row_weights, part)) / mass
            if share == 0.0:
                continue
            samples, order = self.samples.as_arrays(part)
            loss += share * self._trainer.epoch(
                samples.x, samples.y, order, np.array([0, len(order)]), np.zeros(1),
                samples.row_weights).mean_loss
            state = self._trainer.optimizer_state()
            for i, name in self.names:
                grads[i, name] = grads[i, name] + share * state[f"{i}.{name}.0"]
        return loss, grads

    def _mass_of(self, row_weights: np.ndarray, part: Order) -> float:
        if isinstance(part, np.ndarray) and self.group.world is None:
            return row_weights[part].sum()
        return self.group.masses(row_weights, part, np.array([0, len(part)]))[0]


def _follow(objective: Objective, iteration_ends: Callable[[], bool]) -> tuple[int, np.ndarray]:
    """What the group's other processes do while the first minimises."""
    while True:
        said: Any = objective.group.from_first(None)
        if isinstance(said, np.ndarray):
            objective.evaluate(said)
        elif said == "iteration":
            iteration_ends()
        else:
            return said


def minimize(objective: Objective, *, max_iter: int, max_fun: int, tol: float,
             iteration_ends: Callable[[], bool]) -> int:
    """Minimise from the objective's weights on; the number of iterations.

    The objective's trainer ends with the best found. `iteration_ends` is called after each
    iteration; it says whether to stop.
    """
    count, at, group = 0, objective.pack(), objective.group
    if group.rank > 0:
        count, at = _follow(objective, iteration_ends)
        objective.go_to(at)
        return count

    def callback(vector: np.ndarray) -> None:
        nonlocal count, at
        count, at = count + 1, np.array(vector)
        group.from_first("iteration")
        if iteration_ends():
            raise Stopped

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    try:
        result = scipy.optimize.minimize(objective, at, method="L-BFGS-B", jac=True,
                                         options=options, callback=callback)
    except Stopped:
        pass
    else:
        count, at = _check_optimize_result("lbfgs", result, max_iter), result.x
    group.from_first((count, at))
    objective.go_to(at)
    return count
