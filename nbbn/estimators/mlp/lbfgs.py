"""The solver `lbfgs`: scipy's L-BFGS-B on the loss of all rows, the gradients from the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from sklearn.utils.optimize import _check_optimize_result

from nbbn.estimators.lazy_rows import LazyRows, Rows, outputs_of
from nbbn.estimators.mlp.architecture import Architecture
from nbbn.network import Weights
from nbbn.trainer import Trainer

# Rows whose gradients are computed in one go, and bytes of them in float64, where no batch norm needs all rows together.
_PART, _PART_BYTES = 4096, 8 << 20


class Gradients:
    """Stands for an optimiser: a step leaves the weights as they are, and the gradients where its state would be."""

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
    """The loss of all rows and its gradient, as functions of one vector: kernels, biases, gammas, betas.

    Attributes
    ----------
    architecture : Architecture
    alpha : float
        L2 penalty of the kernels.
    measure : callable or None
        The loss of the network's outputs for all rows, where that of the engine is not scikit-learn's to the last digit.
    names : list of (int, str)
        Layer and name of each array in the vector.
    loss : float
        At the last vector.
    """

    architecture: Architecture
    alpha: float
    x: Rows
    y: np.ndarray
    row_weights: np.ndarray | None
    weights: Weights
    measure: Callable[[np.ndarray], float] | None = None

    def __post_init__(self):
        order = {"kernel": 0, "bias": 1, "gamma": 2, "beta": 3}
        found = [(order[name], i, name) for i, arrays in enumerate(self.weights) for name in arrays if name in order]
        self.names = [(i, name) for _, i, name in sorted(found)]
        self.weights = [{name: a.astype(np.float64) for name, a in arrays.items()} for arrays in self.weights]
        self.loss = np.inf

    def trainer(self, loss: str, level: float) -> Trainer:
        """A trainer for it, which computes in float64; its batch norms' statistics are those of the last vector."""
        whole = self.architecture.of_whole_batches()
        self._part = len(self.x)
        if not self.architecture.has_norm:
            self._part = max(1, min(self._part, _PART, _PART_BYTES // (8 * self.x.shape[1])))
        self._trainer = Trainer(whole.layers, whole.shapes, np.float64, self.x.dtype, self._part, loss, Gradients(), delta=level,
                                weighted=False if self.row_weights is None else "mean")
        self._trainer.upload(self.weights)
        return self._trainer

    def pack(self) -> np.ndarray:
        """The weights as a vector."""
        return np.concatenate([self.weights[i][name].ravel() for i, name in self.names])

    def __call__(self, vector: np.ndarray) -> tuple[float, np.ndarray]:
        """Loss and gradient."""
        first = 0
        for i, name in self.names:
            shape = self.weights[i][name].shape
            self.weights[i][name] = vector[first : first + np.prod(shape, dtype=int)].reshape(shape)
            first += np.prod(shape, dtype=int)
        self._trainer.upload([{n: a for n, a in arrays.items() if n not in ("mean", "var")} for arrays in self.weights])
        mass = float(len(self.x)) if self.row_weights is None else float(self.row_weights.sum())
        loss, grads = self._data_term(mass)
        if self.measure is not None:
            loss = self.measure(outputs_of(self._trainer.outputs, self.x))
        for i in self.architecture.dense:
            kernel = self.weights[i]["kernel"]
            grads[i, "kernel"] += self.alpha * kernel / mass
            loss += 0.5 * self.alpha * float(np.dot(kernel.ravel(), kernel.ravel())) / mass
        self.loss = loss
        return loss, np.concatenate([grads[key].ravel() for key in self.names])

    def _data_term(self, mass: float) -> tuple[float, dict[tuple[int, str], np.ndarray]]:
        loss, grads = 0.0, dict.fromkeys(self.names, 0.0)
        for first in range(0, len(self.x), self._part):
            part = np.arange(first, min(first + self._part, len(self.x)))
            share = len(part) / mass if self.row_weights is None else float(self.row_weights[part].sum()) / mass
            if share == 0.0:
                continue
            loss += share * self._train(part).mean_loss
            state = self._trainer.optimizer_state()
            for i, name in self.names:
                grads[i, name] = grads[i, name] + share * state[f"{i}.{name}.0"]
        return loss, grads

    def _train(self, part: np.ndarray):
        x, y, weights, edges = self.x, self.y, self.row_weights, np.array([0, len(part)])
        if isinstance(x, LazyRows):
            x, y, weights = x[part], y[part], None if weights is None else weights[part]
            part = np.arange(len(part))
        return self._trainer.epoch(x, y, part, edges, np.zeros(1), weights)


def minimize(objective: Objective, *, max_iter: int, max_fun: int, tol: float, iteration_ends: Callable[[], bool]) -> int:
    """Minimise from the objective's weights on; its trainer ends with the best found. The number of iterations.

    `iteration_ends` is called after each; it says whether to stop.
    """
    count, at = 0, objective.pack()

    def callback(vector):
        nonlocal count, at
        count, at = count + 1, np.array(vector)
        if iteration_ends():
            raise Stopped

    options = {"maxfun": max_fun, "maxiter": max_iter, "gtol": tol}
    try:
        result = scipy.optimize.minimize(objective, at, method="L-BFGS-B", jac=True, options=options, callback=callback)
    except Stopped:
        pass
    else:
        count, at = _check_optimize_result("lbfgs", result, max_iter), result.x
    objective(at)
    return count
