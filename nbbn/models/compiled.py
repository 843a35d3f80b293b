"""What `compile` sets up: optimiser, loss and metrics, and the trainer that a fit makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from nbbn import losses, metrics, optimizers
from nbbn.layers import (
    Activation,
    BatchNormalization,
    Dropout,
    Flatten,
    GaussianNoise,
    Layer,
    LayerError,
    Reshape,
    Softmax,
)
from nbbn.losses import Loss
from nbbn.metrics import Metric
from nbbn.models.layer_list import LayerList
from nbbn.network import Network, Weights
from nbbn.optimizers import Optimizer
from nbbn.trainer import Trainer

# Layers after which the activation that ends a network is still that of the layer before.
_TRANSPARENT = (Flatten, Reshape, Dropout, GaussianNoise)


def end_of(layers: tuple[Layer, ...]) -> str:
    """Name of the activation that a network ends with."""
    last = next((layer for layer in reversed(layers) if not isinstance(layer, _TRANSPARENT)), None)
    if isinstance(last, Softmax):
        return "softmax"
    return getattr(last, "activation", None) or "linear"


@dataclass
class Compiled:
    """Optimiser, loss and metrics of a model, and its training so far.

    Attributes
    ----------
    optimizer : Optimizer
    loss : Loss
    given_metrics : list
        As given to `compile`.
    counts : tuple of int
        Updates of the optimiser, and steps of the running statistics, where no trainer counts them.
    slots : dict
        The optimiser's state, where no trainer holds it; as `Trainer.optimizer_state` gives it.
    ahead : bool
        Whether the trainer's weights are newer than the model's.
    """

    optimizer: Optimizer
    loss: Loss
    given_metrics: list
    counts: tuple[int, int] = (0, 0)
    slots: dict[str, np.ndarray] = field(default_factory=dict)
    ahead: bool = False
    _trainer: Trainer | None = None
    _made_for: tuple = ()

    @classmethod
    def of(cls, optimizer, loss, given, norm_step: int = 0) -> Compiled:
        """What the arguments of `compile` stand for; `norm_step` are the steps of the running statistics so far.

        Raises
        ------
        TypeError, ValueError
            For unknown names, and objects of other kinds.
        """
        if loss is None:
            raise ValueError("compile: loss must be given, such as loss='sparse_categorical_crossentropy'")
        compiled = cls(optimizers.get(optimizer), losses.get(loss), _flat(given), (0, norm_step))
        names = ["loss", *(metric.name for metric in compiled.metrics(None))]
        if len(set(names)) < len(names):
            raise ValueError(f"compile: metrics need different names, got {', '.join(names[1:])}")
        return compiled

    def metrics(self, units: int | None) -> list[Metric]:
        """The metrics for a network with so many outputs."""
        return [metrics.get(m, self.loss, units) for m in self.given_metrics]

    def config(self) -> dict:
        """The arguments of `compile`, JSON-ready."""
        return {
            "optimizer": self.optimizer.config(),
            "loss": self.loss.config(),
            "metrics": [m.config() if isinstance(m, Metric) else m for m in self.given_metrics],
        }

    # -- the network as it is trained

    def tail(self, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        """What stands between the model's outputs and what the loss compares: the activation that a loss from logits leaves out.

        Raises
        ------
        LayerError
            Where the model ends with another activation than the loss needs.
        """
        end, wanted = end_of(layers), self.loss.end
        if wanted is None:
            return ()
        if self.loss.from_logits:
            if end in ("softmax", "sigmoid"):
                raise LayerError(
                    f"loss {self.loss.shown!r} with from_logits=True takes outputs before the {wanted}, but the model ends with "
                    f"{end}; leave it out, or use from_logits=False"
                )
            return (Activation(wanted),)
        if end != wanted:
            raise LayerError(
                f"loss {self.loss.shown!r} needs a model that ends with {wanted}, this one ends with {end}; end it with "
                f"activation={wanted!r}, or use from_logits=True"
            )
        return ()

    def whole(self, network: Network) -> Network:
        """The network with its tail."""
        tail = self.tail(network.layers)
        return Network(network.layers + tail, network.input_shape, network.weights + [{}] * len(tail), network.dtype)

    def trainer(self, layers: LayerList, source: np.dtype, rows: int, *, weighted: bool | str, exactly: bool) -> Trainer:
        """A trainer with the newest weights and the optimiser's state: the one there is, if it will do.

        Parameters
        ----------
        layers : LayerList
            Its weights are used for a new trainer: they must be the newest unless a trainer is `ahead`.
        source : dtype
            Of the rows.
        rows : int
            The largest batch.
        weighted : bool or "mean"
            Whether rows have weights, and what they mean.
        exactly : bool
            Whether a trainer for larger batches will not do.
        """
        wanted = (layers.layers, layers.input_shape, np.dtype(source), weighted)
        if self._trainer is None or self._made_for[0] != wanted or not (
            self._made_for[1] == rows or (not exactly and self._made_for[1] > rows)
        ):
            self.pull(layers)
            self.release()
            whole = self.whole(layers.network())
            trainer = Trainer(
                whole.layers, whole.shapes, whole.dtype, np.dtype(source), rows, self.loss.engine, self.optimizer,
                seed=layers.seed, delta=self.loss.delta, weighted=weighted,
            )  # fmt: skip
            trainer.upload(whole.weights)
            # What is newly trained starts with the fresh trainer's zeros.
            trainer.load_optimizer_state({**trainer.optimizer_state(), **self.slots})
            trainer.step, trainer.norm_step = self.counts
            self._trainer, self._made_for = trainer, (wanted, rows)
        return self._trainer

    def pull(self, layers: LayerList) -> None:
        """Bring the trainer's weights into the layers, where they are newer."""
        if self.ahead:
            for entry, arrays in zip(layers.entries, self._trainer.download()):
                # In the order that the layer declares.
                entry.arrays = {name: arrays[name] for name in entry.arrays}
            self.ahead = False

    def take(self, weights: Weights) -> None:
        """Hand new weights to the trainer, if there is one; the optimiser's state stays."""
        if self._trainer is not None:
            self._trainer.upload(weights + [{}] * (len(self._trainer.layers) - len(weights)))

    def state(self) -> dict[str, np.ndarray]:
        """The optimiser's state."""
        return self._trainer.optimizer_state() if self._trainer is not None else self.slots

    @property
    def step(self) -> int:
        """Updates of the optimiser."""
        return self.counts[0] if self._trainer is None else self._trainer.step

    @property
    def norm_step(self) -> int:
        """Steps of the running statistics, and of dropout and noise."""
        return self.counts[1] if self._trainer is None else self._trainer.norm_step

    def resume(self, slots: dict[str, np.ndarray], step: int, norm_step: int) -> None:
        """Go on from the optimiser's state and the counts of another compiled."""
        self.slots, self.counts = slots, (step, norm_step)

    def release(self) -> None:
        """Let go of the trainer; the optimiser's state stays. The weights must have been taken before."""
        self.counts, self.slots, self._trainer = (self.step, self.norm_step), self.state(), None

    def forget(self, layer: int) -> None:
        """Drop the optimiser's state of a layer that is no more."""
        self.release()
        self.slots = {key: array for key, array in self.slots.items() if int(key.split(".", 1)[0]) != layer}


def _flat(given) -> list:
    if given is None:
        return []
    if isinstance(given, dict):
        raise TypeError("compile: metrics must be a list; dicts by output are not supported, a Sequential has one output")
    if not isinstance(given, Iterable) or isinstance(given, str):
        return [given]
    return [m for part in given for m in (_flat(part) if isinstance(part, (list, tuple)) else [part])]


def penalty_of(network: Network) -> float:
    """What the regularisers add to the loss."""
    total = 0.0
    for layer, shape, arrays in zip(network.layers, network.shapes, network.weights):
        total += sum(penalty(arrays[name]) for name, penalty in layer.regularizers(shape).items())
    return total


def needs_batches(layers: tuple[Layer, ...]) -> bool:
    """Whether training takes statistics over the rows of a batch, so that one row will not do."""
    return any(isinstance(layer, BatchNormalization) and not layer.uses_running for layer in layers)
