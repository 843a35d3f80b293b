"""What `compile` made: optimiser, loss and metrics, and the trainer that a fit makes of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbbn import losses, metrics, optimizers
from nbbn.group import ALONE, Group
from nbbn.layers import Activation, BatchNormalization, Layer, LayerError
from nbbn.losses import Loss
from nbbn.metrics import Metric
from nbbn.models.joint_loss import JointLoss
from nbbn.models.layer_list import LayerList
from nbbn.network import Network
from nbbn.operations import Computation
from nbbn.optimizers import Optimizer
from nbbn.trainer import Trainer


@dataclass
class Compiled:
    """Optimiser, loss and metrics of a model, and its training so far."""

    optimizer: Optimizer
    loss: Loss | JointLoss
    given_metrics: list[Any]
    # Updates of the optimiser and steps of the running statistics, where no trainer counts them.
    counts: tuple[int, int] = (0, 0)
    # The optimiser's state, where no trainer holds it; as `Trainer.optimizer_state` gives it.
    slots: dict[str, np.ndarray] = field(default_factory=dict)
    ahead: bool = False  # whether the trainer's weights are newer than the model's
    trainer: Trainer | None = None  # None until one is asked for, and after layers have changed
    _given: Loss | JointLoss | None = None  # the loss as it was given, where the layers change it
    _made_for: Any = None
    # Of the layers, as the trainer has had their arrays.
    _versions: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, optimizer: Any, loss: Any, given: Any, norm_step: int = 0) -> Compiled:
        """What the arguments of `compile` stand for, after `norm_step` steps of statistics."""
        if loss is None:
            raise ValueError("compile: loss must be given, "
                             "such as loss='sparse_categorical_crossentropy'")
        made = cls(optimizers.get(optimizer), losses.to_train(loss), _flat(given), (0, norm_step))
        names = ["loss", *(metric.name for metric in made.metrics(None))]
        if len(set(names)) < len(names):
            raise ValueError("compile: metrics need different names, "
                             f"got {', '.join(map(str, names[1:]))}")
        return made

    @classmethod
    def of_outputs(cls, optimizer: Any, loss: JointLoss, given: Any, norm_step: int) -> Compiled:
        """The same for a model of several outputs."""
        made = cls(optimizers.get(optimizer), loss, given, (0, norm_step))
        made.metrics(None)
        return made

    def metrics(self, units: int | None) -> list[Metric]:
        """The metrics for a network with so many outputs."""
        if isinstance(self.loss, JointLoss):
            return self.loss.metrics(self.given_metrics)
        return [metrics.get(m, self.loss, units) for m in self.given_metrics]

    def config(self) -> dict[str, Any]:
        """The arguments of `compile`, JSON-ready."""
        return {"optimizer": self.optimizer.config(), "loss": (self._given or self.loss).config(),
                "metrics": _described(self.given_metrics)}

    # -- the network as it is trained

    def tail(self, layers: LayerList) -> tuple[Layer, ...]:
        """The activation that a loss from logits leaves out; LayerError for an unfit end.

        From here on `loss` is that for these layers: cross-entropies of what no activation ends are
        those of probabilities.
        """
        self._given = given = self._given or self.loss
        network = layers.training
        if isinstance(given, JointLoss):
            names = [f"output {output.name!r}" for output in given.outputs]
            fitted = [_fitted(output.loss, network, end, name) for output, end, name in
                      zip(given.outputs, network.ends, names)]
            self.loss = given.with_losses([loss for loss, _ in fitted])
            return ()
        self.loss, tail = _fitted(given, network, len(network.steps) - 1, "the model")
        return tail

    def with_tail(self, layers: LayerList) -> Network:
        """The network whose outputs the loss compares."""
        network, tail = layers.network(), self.tail(layers)
        if isinstance(self.loss, JointLoss):
            return self._with_tails(network, self.loss)
        if not tail:
            return network
        graph = network.graph and network.graph.with_end(len(network.layers))
        return Network(network.layers + tail, network.input_shape,
                       network.weights + [{}] * len(tail), network.dtype, graph)

    def _with_tails(self, network: Network, loss: JointLoss) -> Network:
        """The same of several outputs."""
        for k, output in enumerate(loss.outputs):
            if output.loss.from_logits and output.loss.end is not None:
                assert network.graph is not None
                graph = network.graph.with_end(len(network.layers), k)
                network = Network((*network.layers, Activation(output.loss.end)),
                                  network.input_shape, [*network.weights, {}], network.dtype,
                                  graph)
        return network

    def trainer_for(self, layers: LayerList, source: np.dtype, rows: int, *,
                    weighted: bool | str, group: Group = ALONE, keeps: bool = False) -> Trainer:
        """A trainer with the newest weights and the optimiser's state: the one there is, or a new.

        It takes rows of dtype `source`, `rows` and maybe more in a batch; `weighted`, `group` and
        `keeps` are `Trainer`'s. The weights of `layers` must be the newest, unless a trainer
        is `ahead`.
        """
        wanted = (layers.layers, layers.input_shape, np.dtype(source), weighted, group, keeps)
        if self.trainer is not None and self._made_for == wanted and rows <= self.trainer.rows:
            if self.behind(layers):  # another model has trained a layer of this one
                self.take(layers)
            return self.trainer
        self.pull(layers)
        self.release()
        network = self.with_tail(layers)
        joined = not isinstance(self.loss, JointLoss)
        computation = network.computation(training=True, joined=joined)
        trainer = Trainer(computation, network.dtype, np.dtype(source), rows,
                          self.loss.engine, self.optimizer, seed=layers.seed,
                          loss_parameter=self.loss.parameter, weighted=weighted, group=group,
                          outside=self._in_numpy(), keeps=keeps)
        trainer.upload(network.weights)
        # What is newly trained starts with the fresh trainer's zeros.
        trainer.load_optimizer_state({**trainer.optimizer_state(), **self.slots})
        trainer.step, trainer.norm_step = self.counts
        self.trainer, self._made_for, self._versions = trainer, wanted, layers.versions
        return trainer

    def _in_numpy(self) -> list[Any]:
        """What computes the losses that have no kernel, output by output."""
        loss = self.loss
        return [out.in_step for out in (loss.outputs if isinstance(loss, JointLoss) else (loss,))]

    def behind(self, layers: LayerList) -> bool:
        """Whether the layers have newer weights than the trainer was given."""
        return self._versions != layers.versions

    def pull(self, layers: LayerList) -> None:
        """Bring the trainer's weights into the layers, where they are newer."""
        if self.ahead and self.trainer is not None:
            for entry, arrays in zip(layers.entries, self.trainer.download()):
                # In the order that the layer declares.
                entry.take({name: arrays[name] for name in entry.known_arrays()})
                entry.holder = None
            self.ahead, self._versions = False, layers.versions

    def take(self, layers: LayerList) -> None:
        """Hand the layers' weights to the trainer, if there is one; the optimiser's state stays."""
        if self.trainer is not None:
            weights = layers.network().weights
            tail = len(self.trainer.computation.arrays) - len(weights)
            self.trainer.upload(weights + [{}] * tail)
        self._versions = layers.versions

    def state(self) -> dict[str, np.ndarray]:
        """The optimiser's state."""
        return self.slots if self.trainer is None else self.trainer.optimizer_state()

    @property
    def step(self) -> int:
        """Updates of the optimiser."""
        return self.counts[0] if self.trainer is None else self.trainer.step

    @property
    def norm_step(self) -> int:
        """Steps of the running statistics, and of dropout and noise."""
        return self.counts[1] if self.trainer is None else self.trainer.norm_step

    def counts_norm_step(self) -> None:
        """The running statistics were moved by other means."""
        if self.trainer is not None:
            self.trainer.norm_step += 1
        else:
            self.counts = (self.counts[0], self.counts[1] + 1)

    def resume(self, slots: dict[str, np.ndarray], step: int, norm_step: int) -> None:
        """Go on from the optimiser's state and the counts of another training."""
        self.slots, self.counts = slots, (step, norm_step)

    def release(self) -> None:
        """Let go of the trainer, but for the optimiser's state; its weights have been taken."""
        self.counts, self.slots, self.trainer = (self.step, self.norm_step), self.state(), None

    def forget(self, layer: int) -> None:
        """Drop the optimiser's state of a layer that is no more."""
        self.release()
        self.slots = {k: a for k, a in self.slots.items() if int(k.split(".", 1)[0]) != layer}


def _fitted(loss: Loss, network: Computation, end: int,
            what: str) -> tuple[Loss, tuple[Layer, ...]]:
    """The loss of what a step gives, and the activation that it leaves out of it.

    LayerError where that step's numbers are no probabilities, and the loss wants some.
    """
    wanted, shown = loss.end, loss.shown
    if wanted is None:
        return loss, ()
    ends_as = network.ends_as(end)
    if loss.from_logits:
        if ends_as in ("softmax", "sigmoid"):
            raise LayerError(f"loss {shown!r} with from_logits=True takes outputs before the "
                             f"{wanted}, but {what} ends with {ends_as}; leave it out, or use "
                             "from_logits=False")
        return loss, (Activation(wanted),)
    if ends_as == wanted:
        return loss, ()
    if not network.steps or not network.gives_shares(end):
        model, this = ("a model", "this one") if what == "the model" else ("an output", what)
        raise LayerError(f"loss {shown!r} needs {model} that ends with {wanted}, {this} ends "
                         f"with {ends_as}; end it with activation={wanted!r}, or use "
                         "from_logits=True")
    return loss.of_probabilities(), ()


def _described(given: Any) -> Any:
    """Metrics as they were given, JSON-ready."""
    if isinstance(given, dict):
        return {name: _described(own) for name, own in given.items()}
    if isinstance(given, list | tuple):
        return [_described(one) for one in given]
    return given.config() if isinstance(given, Metric) else given


def _flat(given: Any) -> list[Any]:
    if given is None:
        return []
    if isinstance(given, dict):
        raise TypeError("compile: metrics must be a list; dicts by output are not supported, "
                        "a Sequential has one output")
    if not isinstance(given, Iterable) or isinstance(given, str):
        return [given]
    nested = (_flat(part) if isinstance(part, (list, tuple)) else [part] for part in given)
    return [metric for part in nested for metric in part]


def needs_batches(layers: tuple[Layer, ...]) -> bool:
    """Whether training takes statistics over a batch's rows, so that one row will not do."""
    return any(isinstance(x, BatchNormalization) and not x.uses_running for x in layers)
