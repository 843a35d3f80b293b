"""What a model is trained for: optimiser, loss and metrics."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbbn.losses import Loss
from nbbn.models.base_model import BaseModel
from nbbn.models.compiled import Compiled
from nbbn.models.joint_loss import JointLoss
from nbbn.names import suggested
from nbbn.optimizers import Optimizer


class CompiledModel(BaseModel):
    """A model that knows how it is to be trained."""

    @suggested
    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, loss_weights: Any = None,
                metrics: Any = None, weighted_metrics: None = None, run_eagerly: Any = False,
                steps_per_execution: Any = 1, jit_compile: Any = "auto",
                auto_scale_loss: Any = True) -> None:
        """Say how to train. The optimiser starts afresh; the weights stay.

        Parameters
        ----------
        optimizer : str or Optimizer
            Of `nbbn.optimizers`.
        loss : str or Loss
            Of `nbbn.losses`. For several outputs a list of them, or a dict by the outputs' names.
        loss_weights : list or dict, optional
            For several outputs: what their losses are multiplied by before they are added.
        metrics : list of (str or Metric), optional
            Of `nbbn.metrics`; `"accuracy"` follows the loss. For several outputs a list of lists,
            or a dict.
        weighted_metrics : None
            Not supported.
        run_eagerly, steps_per_execution, jit_compile, auto_scale_loss
            Keras's; without effect.

        Raises
        ------
        TypeError, ValueError
            For unknown names, objects of other kinds, and arguments that are not supported.

        Examples
        --------
        >>> import nbbn
        >>> model = nbbn.Sequential([nbbn.layers.Dense(3, activation="softmax", input_shape=(4,))])
        >>> model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        >>> model.optimizer, model.compiled
        (Adam(), True)
        """
        if weighted_metrics is not None:
            raise ValueError("compile: weighted_metrics is not supported, got "
                             f"{weighted_metrics!r}; leave it out")
        norm_step = 0 if self._compiled is None else self._compiled.norm_step
        compiled = self._made_of(optimizer, loss, loss_weights, metrics, norm_step)
        self._pull()
        self._compiled = compiled
        self._predictors.clear()

    def _made_of(self, optimizer: Any, loss: Any, loss_weights: Any, metrics: Any,
                 norm_step: int) -> Compiled:
        if loss_weights is not None:
            raise ValueError("compile: loss_weights is not supported for a model of one output, "
                             f"got {loss_weights!r}; leave it out")
        return Compiled.of(optimizer, loss, metrics, norm_step)

    def _made_again(self, meta: dict[str, Any]) -> Compiled:
        """What `Compiled.config` described."""
        return Compiled.of(meta["optimizer"], meta["loss"], meta["metrics"])

    @property
    def compiled(self) -> bool:
        """Whether `compile` was called."""
        return self._compiled is not None

    @property
    def optimizer(self) -> Optimizer:
        """The optimiser of the last `compile`."""
        return self._require_compiled("optimizer").optimizer

    @property
    def loss(self) -> Loss | JointLoss:
        """The loss of the last `compile`."""
        return self._require_compiled("loss").loss

    @property
    def learning_rate(self) -> float:
        """The learning rate of the next step, schedules included."""
        compiled = self._require_compiled("learning_rate")
        return float(compiled.optimizer.learning_rates(np.array([compiled.step]))[0])

    @property
    def metrics_names(self) -> list[str]:
        """`loss` and the metrics' names, in the order that `evaluate` gives them."""
        compiled = self._require_compiled("metrics_names")
        own = compiled.loss.own_names if isinstance(compiled.loss, JointLoss) else []
        metrics = compiled.metrics(None)
        return ["loss", *own, *(str(metric.name) for metric in metrics)]

    def metric_directions(self) -> dict[str, bool]:
        """For each metric, and each loss of several outputs, whether larger is better."""
        compiled = self._require_compiled("metric_directions")
        own = compiled.loss.own_names if isinstance(compiled.loss, JointLoss) else []
        metrics = compiled.metrics(self._units())
        return {**dict.fromkeys(own, False), **{str(metric.name): metric.rises
                                                for metric in metrics}}

    def _units(self) -> int | None:
        return self._layers.shapes[-1][-1] if self.built else None

    def _require_compiled(self, what: str) -> Compiled:
        if self._compiled is None:
            raise RuntimeError(f"{what}: call compile(optimizer, loss, metrics) first")
        return self._compiled
