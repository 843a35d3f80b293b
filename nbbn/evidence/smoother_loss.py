"""A smoother loss: how loss and gradient change along a step, as Santurkar et al. measure it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from nbbn import layers
from nbbn.evidence.data import Batches, images
from nbbn.evidence.gradients import Arrays, Gradients, along, difference
from nbbn.evidence.measures import Measure, Verdict, higher, lower
from nbbn.evidence.networks import batch_norm, dense_stack
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.layers import BatchNormalization, Layer

CLAIM = Claim(
    "smoother-loss",
    "Batch norm makes the loss smoother along a step, even where noise behind it shifts the "
    "distributions at every step",
    "Santurkar, Tsipras, Ilyas and Madry (2018), sections 2.1 and 3, figures 2 and 4",
    "figure 4: loss and gradient of a VGG vary less along a step with batch norm, the effective "
    "smoothness is better; figure 2: with noise behind batch norm it still trains better than "
    "without batch norm",
    4,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None
    steps: int
    every: int  # steps between two looks


_SIZES = {"tiny": _Size(600, 4, 2), "quick": _Size(6000, 50, 10), "full": _Size(None, 1000, 25)}
_WIDTHS, _BATCH, _RATE = (100,) * 6, 100, 0.03
# How far along the step is looked, in learning rates.
_REACH = (0.5, 1.0, 2.0, 4.0)
# Of the noise, drawn for each unit at each step: bounds of the shift and of the factor.
_SHIFT, _FACTOR = 0.5, (1.0, 1.25)
_NETS = ("batch norm", "batch norm and noise", "without")


@dataclass(frozen=True)
class Landscape:
    """What is found along a step: ranges, and the largest slope of the gradient."""

    loss: float
    gradient: float
    smoothness: float


def landscape(at: Callable[[Arrays], tuple[float, Arrays]], weights: Arrays,
              rate: float) -> Landscape:
    """Look along the gradient from some weights.

    Parameters
    ----------
    at : callable
        Of weights, gives the loss and its gradient.
    weights : list of ndarray
    rate : float
        The step is looked along at 0.5, 1, 2 and 4 times it.

    Returns
    -------
    Landscape
        `loss`: largest less smallest loss found, the start included; `gradient`: the largest
        `|g' - g|`; `smoothness`: the largest `|g' - g| / |w' - w|`.
    """
    loss, gradient = at(weights)
    losses, changes, slopes = [loss], [], []
    for reach in _REACH:
        there = along(weights, gradient, reach * rate)
        loss, found = at(there)
        losses.append(loss)
        changes.append(difference(found, gradient))
        slopes.append(changes[-1] / max(difference(there, weights), np.finfo(float).tiny))
    return Landscape(float(np.ptp(losses)), max(changes), max(slopes))


def _stack(name: str) -> list[Layer]:
    if name == "without":
        return dense_stack(_WIDTHS)
    stack = dense_stack(_WIDTHS, norm=batch_norm)
    if name == "batch norm":
        return stack
    noisy: list[Layer] = []
    for layer in stack:
        # One that is not trained is a factor and a shift for each unit, which are drawn below.
        noise = [layers.BatchNormalization(trainable=False, epsilon=1e-12)]
        noisy += [layer, *(noise if isinstance(layer, BatchNormalization) else [])]
    return noisy


def _draw_noise(network: Gradients, weights: Arrays, rng: np.random.Generator) -> None:
    """Put a new factor and a new shift into each layer of noise."""
    for gamma in network.fixed:  # the first array of a batch norm, before beta
        units = weights[gamma].shape
        weights[gamma] = rng.uniform(*_FACTOR, units)
        weights[gamma + 1] = rng.uniform(-_SHIFT, _SHIFT, units)


def find(study: Study) -> Findings:
    """Ranges along the step, during training."""
    size = _SIZES[study.size]
    data = images(size.rows)
    looks = list(range(0, size.steps, size.every))
    found: dict[str, list[list[Landscape]]] = {name: [] for name in _NETS}
    scores: dict[str, list[float]] = {name: [] for name in _NETS}
    for _, seed in study.each_run():
        for name in _NETS:
            network = Gradients(_stack(name), data.x_train.shape[1], seed)
            row, score = _train(network, name, data.x_train, data.y_train, seed, size)
            found[name].append(row)
            scores[name].append(network.accuracy(score, data.x_test, data.y_test))
    kinds = {"loss": "range of the loss", "gradient": "change of the gradient",
             "smoothness": "effective smoothness"}
    measures, verdicts, panels = list[Measure](), list[Verdict](), list[Panel]()
    for kind, words in kinds.items():
        numbers = {name: np.array([[getattr(look, kind) for look in run] for run in runs])
                   for name, runs in found.items()}
        means = {name: Measure.of(f"{words}, {name}", np.exp(np.log(runs).mean(1)), log=True)
                 for name, runs in numbers.items()}
        measures += means.values()
        verdicts += [lower(f"{words}: smaller with {name} than without (geometric mean over the "
                           "steps)", means[name], means["without"]) for name in _NETS[:2]]
        panels.append(Panel.of(words.capitalize(), "steps", "along the step", looks, numbers,
                               log_y=True))
    final = {name: Measure.of(f"test accuracy after {size.steps:,} steps, {name}", values)
             for name, values in scores.items()}
    measures += final.values()
    verdicts.append(higher("with noise behind batch norm it still tests better than without",
                           final["batch norm and noise"], final["without"]))
    settings = {"hidden layers": list(_WIDTHS), "activation": "relu", "batch": _BATCH,
                "optimiser": f"SGD, rate {_RATE}", "initial weights": "He normal",
                "along the step": [reach * _RATE for reach in _REACH],
                "noise": f"for each unit at each step a factor from {_FACTOR} and a shift of at "
                         f"most {_SHIFT}"}
    return Findings(str(data), measures, verdicts, panels, settings)


def _train(network: Gradients, name: str, x: np.ndarray, y: np.ndarray, seed: int,
           size: _Size) -> tuple[list[Landscape], Arrays]:
    """What is found on the way, and the last weights."""
    batches, rng = Batches(x, y, _BATCH, seed), np.random.default_rng([seed, 1])
    weights, row = network.start, []
    for step in range(size.steps):
        rows, labels = batches.take(1)
        if name == "batch norm and noise":
            _draw_noise(network, weights, rng)
        if step % size.every == 0:
            row.append(landscape(partial(_loss_and_gradient, network, rows, labels), weights,
                                 _RATE))
        _, gradient, moved = network.at(weights, rows, labels)
        weights = along(moved, gradient, _RATE)
    return row, weights


def _loss_and_gradient(network: Gradients, x: np.ndarray, y: np.ndarray,
                       weights: Arrays) -> tuple[float, Arrays]:
    loss, gradient, _ = network.at(weights, x, y)
    return loss, gradient
