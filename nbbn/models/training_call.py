"""A model's outputs as in training: statistics of the batch, and what disturbs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.fallback import OPERATIONS
from nbbn.network import Network
from nbbn.operations import Step

Arrays = dict[str, np.ndarray]


@dataclass
class TrainingCall:
    """Rows on their way through a network in training, on NumPy.

    `moved` are the new running statistics of each layer that has moved them.
    """

    network: Network
    rng: np.random.Generator
    steps_before: int  # steps of the running statistics so far
    moved: dict[int, Arrays] = field(default_factory=dict)

    def outputs(self, x: np.ndarray) -> np.ndarray:
        """What comes out, `(rows, numbers of an output)`."""
        computation, dtype = self.network.computation(training=True), self.network.dtype
        results = {-1: x.reshape(len(x), *computation.input_shape).astype(dtype)}
        special: Any = {op.BatchNorm: self._batch_norm, op.Disturb: self._disturb}
        for i, step in enumerate(computation.steps):
            kind = type(step.operation)
            run = special.get(kind, OPERATIONS[kind])
            arrays = self.network.weights[step.layer] if step.layer >= 0 else {}
            results[i] = run(step, arrays, *(results[source] for source in step.sources))
        return results[len(computation.steps) - 1].reshape(len(x), -1)

    def _batch_norm(self, step: Step[op.BatchNorm], arrays: Arrays, x: np.ndarray) -> np.ndarray:
        norm, dtype = step.operation, self.network.dtype
        if norm.uses_running:
            return OPERATIONS[op.BatchNorm](step, arrays, x)
        wide = x.astype(np.float64).reshape(-1, x.shape[-1])
        mean, var = wide.mean(0), wide.var(0)
        if norm.updates_running:
            old = {**arrays, **self.moved.get(step.layer, {})}
            count = self.steps_before
            keeps = count / (count + 1) if norm.momentum is None else norm.momentum
            self.moved[step.layer] = {
                name: (keeps * old[name] + (1 - keeps) * new).astype(dtype)
                for name, new in (("mean", mean), ("var", var))}
        batch = {**arrays, "mean": mean.astype(dtype), "var": var.astype(dtype)}
        return OPERATIONS[op.BatchNorm](step, batch, x)

    def _disturb(self, step: Step[op.Disturb], arrays: Arrays, x: np.ndarray) -> np.ndarray:
        does = step.operation
        if does.kind == "noise":
            return x + self.rng.normal(0, does.amount, x.shape).astype(x.dtype)
        if does.kind != "dropout":
            raise ValueError(f"training=True: {does.kind} is done by fit alone")
        if does.amount == 1:
            return np.zeros_like(x)
        shape = x.shape if does.noise_shape is None else tuple(
            n if m is None else m for m, n in zip(does.noise_shape, x.shape))
        kept = self.rng.random(shape) >= does.amount
        return x * (kept / (1 - does.amount)).astype(x.dtype)


def needs_training_call(network: Network) -> bool:
    """Whether a network computes anything else in training than in inference."""
    norms = (op.BatchNorm, op.Disturb)
    return any(isinstance(step.operation, norms) for step in
               network.computation(training=True).steps)
