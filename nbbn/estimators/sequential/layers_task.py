"""The outputs of an estimator around layers: what ends the network, and what it is trained on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nbbn import operations, utils
from nbbn.estimators.task import Task
from nbbn.layers import Dense
from nbbn.losses import Loss
from nbbn.operations import Computation, Disturb, Reshape


@dataclass(frozen=True)
class LayersTask(Task):
    """A task, in the words of these estimators."""

    unknown: ClassVar[str] = "y holds labels that are not among the classes {classes}: {new}"
    columns: ClassVar[str] = "{name} has {columns} outputs, but {since} {outputs}"

    def default_loss(self, layers: Computation) -> str:
        """Name of the loss where none is given."""
        if self.classes is None:
            return "mean_squared_error"
        if self.kind == "multilabel":
            return "binary_crossentropy"
        one_sigmoid = layers.output_shape == (1,) and layers.ends_with == "sigmoid"
        two = len(self.classes) == 2
        return "binary_crossentropy" if two and one_sigmoid else "sparse_categorical_crossentropy"

    def output_layer(self, layers: Computation, loss: Loss) -> Dense | None:
        """What is missing at the end; None where nothing is.

        ValueError for a loss of other targets, and for layers that end as if they were whole, but
        are not.
        """
        shown, end, shape = loss.shown, layers.ends_with, layers.output_shape
        if self.classes is None:
            if loss.end is not None:
                raise ValueError(f"loss {shown!r} is for classification; use None, "
                                 "'mean_absolute_error' or 'huber'")
            whole = _ends_with_dense(layers) and shape == (self.outputs,)
            return None if whole else Dense(self.outputs)
        count = len(self.classes)
        if self.kind == "multilabel":
            if loss.end != "sigmoid":
                raise ValueError(f"loss {shown!r} is for one label a row, and y is an indicator "
                                 "matrix: use None, or 'binary_crossentropy'")
            if end == "softmax" or (end == "sigmoid" and shape not in ((1,), (self.outputs,))):
                raise ValueError(f"layers end with {end} of {shape[0]} outputs, but y has "
                                 f"{self.outputs} labels: end them with sigmoid of "
                                 f"{self.outputs}, or leave the output layer out")
            whole = end == "sigmoid" and shape == (self.outputs,)
            return None if whole else Dense(self.outputs, activation="sigmoid")
        if loss.end is None:
            raise ValueError(f"loss {shown!r} is for regression; use None, or a cross-entropy")
        if loss.end == "sigmoid" and count != 2:
            raise ValueError(f"loss {shown!r} is for 2 classes, y has {count}; use None, "
                             "or 'categorical_crossentropy'")
        units = 1 if loss.end == "sigmoid" else count
        if end == loss.end and shape == (units,):
            return None
        if end == "softmax" or (end == "sigmoid" and shape == (1,)):
            raise ValueError(f"layers end with {end} of {shape[0]} outputs, but y has {count} "
                             f"classes, which with the loss {shown!r} need {loss.end} of {units}: "
                             "end them so, or leave the output layer out")
        return Dense(units, activation=loss.end)

    def targets(self, loss: Loss, y: np.ndarray) -> np.ndarray:
        """Encoded targets as `Sequential.fit` takes them with a loss."""
        if self.classes is None or loss.takes_labels or loss.end == "sigmoid":
            return y
        return utils.to_categorical(y, len(self.classes))


def _ends_with_dense(layers: Computation) -> bool:
    """Whether the outputs are those of a dense layer without activation."""
    done = [s.operation for s in layers.steps if not isinstance(s.operation, Reshape | Disturb)]
    return bool(done) and isinstance(done[-1], operations.Dense)
