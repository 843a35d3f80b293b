"""Losses and metrics of a model of several outputs, which stand beside each other in its rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from nbbn import inputs, losses, metrics
from nbbn.losses import Loss, LossRecord
from nbbn.metrics import Metric
from nbbn.operations import Shape
from nbbn.trainer import Epoch


@dataclass(frozen=True)
class Output:
    """An output: its name, the shape of a row, its first column, its loss and that one's weight."""

    name: str
    shape: Shape
    first: int
    loss: Loss
    weight: float

    @property
    def columns(self) -> slice:
        """Where it stands in the rows of all."""
        return slice(self.first, self.first + math.prod(self.shape))

    @property
    def engine(self) -> str:
        """The loss as the engine has it: of one-hot rows where labels are given."""
        if self.record.outside:
            return self.loss.engine
        return "categorical_cross_entropy" if self.loss.takes_labels else self.loss.engine

    @property
    def record(self) -> LossRecord:
        """That of its loss, as of one-hot rows."""
        found = self.loss.record
        labelled = found.takes_labels and not found.outside
        return losses.RECORDS["categorical_cross_entropy"] if labelled else found

    def shaped(self, rows: np.ndarray) -> np.ndarray:
        """Its own columns of rows of all outputs, in its shape."""
        return rows[:, self.columns].reshape(len(rows), *self.shape)

    def in_step(self, targets: np.ndarray, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """As of a loss that NumPy computes, from the targets of all outputs."""
        own = self.shaped(targets)
        return self.loss.in_step(self.labels(own) if self.loss.takes_labels else own, outputs)

    def labels(self, rows: np.ndarray) -> np.ndarray:
        """The labels of one-hot rows; of rows of zeros the one that the loss ignores."""
        found, ignored = rows.argmax(-1), getattr(self.loss, "ignore_class", None)
        return found if ignored is None else np.where(rows.any(-1), found, ignored)

    def targets(self, y: Any, rows: int, dtype: np.dtype, name: str) -> np.ndarray:
        """Its targets, checked, as a row of numbers for each row."""
        y = inputs.check_targets(y, self.loss, self.shape, rows, dtype, f"{name}[{self.name!r}]")
        if not self.loss.takes_labels:
            return y.reshape(rows, -1)
        return (y[..., None] == np.arange(self.shape[-1])).astype(dtype).reshape(rows, -1)

    def rows(self, y: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        """Its loss of each row, from the rows of all outputs."""
        own, found = self.shaped(y), self.shaped(outputs)
        if self.record.outside:
            return self.loss.rows(self.labels(own) if self.loss.takes_labels else own, found)
        return self.record.of_rows(own, found, self.loss.parameter)


@dataclass(frozen=True)
class JointLoss:
    """The weighted sum of the losses of several outputs: to the rest of the model a loss."""

    outputs: tuple[Output, ...]

    end = None
    takes_labels = False
    from_logits = False
    parameter = 0.0
    shown = "the sum of the outputs' losses"

    @classmethod
    def of(cls, loss: Any, weights: Any, names: Sequence[str],
           shapes: Sequence[Shape]) -> JointLoss:
        """What the arguments `loss` and `loss_weights` of `compile` stand for.

        ValueError for another number of losses than outputs, and for unknown names.
        """
        given = [losses.to_train(one) for one in _each("loss", loss, names)]
        shares = [1.0] * len(names) if weights is None else [
            _share(name, weight) for name, weight in
            zip(names, _each("loss_weights", weights, names, absent=1.0))]
        found, first = [], 0
        for one, share, name, shape in zip(given, shares, names, shapes):
            found.append(Output(name, shape, first, one, share))
            first += math.prod(shape)
        return cls(tuple(found))

    def with_losses(self, given: Sequence[Loss]) -> JointLoss:
        """The same of other losses."""
        pairs = zip(self.outputs, given)
        return JointLoss(tuple(replace(out, loss=loss) for out, loss in pairs))

    @property
    def record(self) -> LossRecord:
        """That of a loss that counts no hits."""
        return losses.RECORDS["mean_squared_error"]

    @property
    def engine(self) -> Any:
        """The losses as the engine takes them."""
        from nbbn.program.losses import Head

        return tuple(Head(out.engine, out.loss.parameter, out.weight) for out in self.outputs)

    @property
    def own_names(self) -> list[str]:
        """What the figures of the outputs' losses are called."""
        return [f"{out.name}_loss" for out in self.outputs]

    def targets(self, y: Any, rows: int, dtype: np.dtype, name: str) -> np.ndarray:
        """The targets of all outputs beside each other."""
        given = _each(name, y, [out.name for out in self.outputs])
        return np.concatenate([out.targets(one, rows, dtype, name)
                               for out, one in zip(self.outputs, given)], 1)

    def prepare(self, targets: np.ndarray) -> np.ndarray:
        rows = len(targets)
        parts = [out.loss.prepare(out.shaped(targets)).reshape(rows, -1)
                 if not out.loss.takes_labels else targets[:, out.columns] for out in self.outputs]
        return np.ascontiguousarray(np.concatenate(parts, 1))

    def rows(self, targets: np.ndarray, outputs: np.ndarray) -> np.ndarray:
        return np.sum([out.weight * out.rows(targets, outputs) for out in self.outputs], 0)

    def figures(self, targets: np.ndarray, outputs: np.ndarray,
                weights: np.ndarray | None) -> dict[str, float]:
        """Each output's own loss."""
        return {f"{out.name}_loss": losses.mean_of(out.rows(targets, outputs), weights)
                for out in self.outputs}

    def passed(self, sums: Epoch) -> dict[str, float]:
        """The same as training has summed them."""
        return {f"{out.name}_loss": loss / sums.rows
                for out, (loss, _) in zip(self.outputs, sums.outputs)}

    def config(self) -> dict[str, Any]:
        """The arguments of `compile`, JSON-ready."""
        return {"losses": {out.name: out.loss.config() for out in self.outputs},
                "weights": {out.name: out.weight for out in self.outputs}}

    def metrics(self, given: Any) -> list[Metric]:
        """What the argument `metrics` stands for: lists of each output's, or a dict of them."""
        if given is None or (not isinstance(given, dict) and not list(given)):
            return []
        found: list[Any] = []
        for out, own in zip(self.outputs, _each("metrics", given, [o.name for o in self.outputs],
                                                absent=())):
            own = () if own is None else own
            listed = own if isinstance(own, Iterable) and not isinstance(own, str) else [own]
            for one in listed:
                metric = metrics.get(one, out.loss, out.shape[-1])
                found.append(OfOutput(metric, out))
        names = [*self.own_names, *(metric.name for metric in found)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError("compile: losses and metrics need different names, got "
                             f"{twice[0]!r} twice; give a metric another name")
        return found


@dataclass(frozen=True)
class OfOutput:
    """A metric of one of several outputs."""

    metric: Metric
    output: Output

    takes_labels = False

    @property
    def name(self) -> str:
        return f"{self.output.name}_{self.metric.name}"

    @property
    def rises(self) -> bool:
        return self.metric.rises

    def measured(self, targets: np.ndarray, outputs: np.ndarray,
                 sizes: np.ndarray | None = None) -> float:
        own = self.output.shaped(targets)
        own = self.output.labels(own) if self.metric.takes_labels else own
        return self.metric.measured(own, self.output.shaped(outputs), sizes)


def _share(name: str, weight: Any) -> float:
    """A loss's weight; ValueError for anything but a finite number."""
    if isinstance(weight, bool) or not isinstance(weight, Real) or not math.isfinite(weight):
        raise ValueError(f"loss_weights must be finite numbers, got {weight!r} for {name!r}")
    return float(weight)


def _each(name: str, given: Any, outputs: Sequence[str], *, absent: Any = None) -> list[Any]:
    """One of what is given for each output: a list, or a dict by name; metrics the same for all."""
    known = ", ".join(outputs)
    if isinstance(given, dict):
        if unknown := [key for key in given if key not in outputs]:
            raise ValueError(f"{name} names {unknown[0]!r}; the model's outputs are {known}")
        missing = [key for key in outputs if key not in given]
        if missing and absent is None:
            raise ValueError(f"{name} lacks the output {missing[0]!r}; the model has {known}")
        return [given.get(key, absent) for key in outputs]
    if isinstance(given, list | tuple):
        if len(given) != len(outputs):
            raise ValueError(f"{name} must have one entry for each of the {len(outputs)} outputs "
                             f"({known}), got {len(given)}")
        return list(given)
    if name == "metrics":
        return [given] * len(outputs)
    came = repr(given) if isinstance(given, str) else type(given).__name__
    raise ValueError(f"{name} must be a list with one entry for each of the {len(outputs)} outputs "
                     f"({known}), or a dict by name, got {came}")
