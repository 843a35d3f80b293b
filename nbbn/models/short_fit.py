"""Whether a fit was too short for its running statistics, which then look like a bad model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import losses
from nbbn.layers import BatchNormalization
from nbbn.models.joint_loss import JointLoss
from nbbn.network import Network
from nbbn.predictor import Predictor
from nbbn.training_loop import Samples
from nbbn.warning import ShortFitWarning, warn

# What is left of the start that calls for a look, and how many times larger the validation loss
# must be than that in training, and than with the statistics of the fit alone.
_LEFT, _WORSE = 0.01, 2.0
# Rows that are looked at.
_ROWS = 2000

Statistics = dict[int, tuple[np.ndarray, np.ndarray]]


def running_statistics(network: Network) -> Statistics:
    """Mean and variance of each batch norm that a fit moves, by the layer's number."""
    return {i: (network.weights[i]["mean"].copy(), network.weights[i]["var"].copy())
            for i, layer in enumerate(network.layers) if _moves(layer)}


def _moves(layer: Any) -> bool:
    # With no momentum all batches count alike, and the start does not.
    return (isinstance(layer, BatchNormalization) and layer.updates_running
            and not layer.uses_running and layer.momentum is not None)


def tell(network: Network, before: Statistics, steps: int, loss: Any, held: Any,
         history: Mapping[str, Sequence[float]]) -> None:
    """Warn where the validation is bad for the start that the running statistics still hold.

    Parameters
    ----------
    network : Network
        As the loss compares its outputs.
    before : dict
        Of `running_statistics`, before the fit.
    steps : int
        Of the fit.
    loss : Loss or JointLoss
    held : Samples
        Rows that the fit was validated on.
    history : dict
    """
    norms: dict[int, Any] = {i: network.layers[i] for i in before}
    left = max((float(norm.momentum) ** steps for norm in norms.values()), default=0.0)
    if not steps or not _LEFT < left < 1 or not isinstance(getattr(held, "x", None), np.ndarray):
        return
    if not history.get("val_loss") or not history["val_loss"][-1] > _WORSE * history["loss"][-1]:
        return
    freed = list(network.weights)
    for i, (mean, var) in before.items():
        own = float(norms[i].momentum) ** steps
        arrays, now = dict(network.weights[i]), network.weights[i]
        if own < 1:
            arrays["mean"] = (now["mean"] - own * mean) / (1 - own)
            arrays["var"] = np.maximum((now["var"] - own * var) / (1 - own), 0)
        freed[i] = {name: array.astype(network.dtype) for name, array in arrays.items()}
    some = held[:_ROWS]
    given = _loss(network, loss, some)
    could = _loss(replace(network, weights=freed), loss, some)
    if given > _WORSE * could:
        warn(f"the running statistics of batch norm still hold {left:.0%} of their start after "
             f"{steps} batches: the validation loss is {given:.3g}, and {could:.3g} without it; "
             "call recalibrate on the training rows, train longer, or give BatchNormalization a "
             "smaller momentum, such as 0.9", ShortFitWarning)


def _loss(network: Network, loss: Any, held: Samples) -> float:
    """The mean loss of some rows in inference, without penalties."""
    outputs = Predictor(network)(held.x).reshape(len(held), -1)
    targets = loss.prepare(held.y)
    if not isinstance(loss, JointLoss) and targets.ndim > 2:
        outputs = outputs.reshape(len(outputs), *targets.shape[1:])
    return losses.mean_of(loss.rows(targets, outputs), held.row_weights)
