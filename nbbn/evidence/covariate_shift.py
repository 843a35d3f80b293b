"""Internal covariate shift, measured as Santurkar et al. do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.evidence.data import Batches, images
from nbbn.evidence.gradients import Arrays, Gradients, along, cosine, difference, norm
from nbbn.evidence.measures import Measure, Verdict, higher, lower
from nbbn.evidence.networks import batch_norm, dense_stack
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study

CLAIM = Claim(
    "covariate-shift",
    "Batch norm reduces internal covariate shift: a layer's gradient changes less when the layers "
    "below it are updated",
    "claimed by Ioffe and Szegedy (2015), section 2; measured by Santurkar, Tsipras, Ilyas and "
    "Madry (2018), definition 2.1 and figure 3",
    "Santurkar et al. find no reduction: with batch norm the shift is similar, or larger",
    4,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None
    steps: int
    every: int


_SIZES = {"tiny": _Size(600, 4, 2), "quick": _Size(6000, 50, 10), "full": _Size(None, 1000, 25)}
_WIDTHS, _BATCH, _RATES = (100,) * 6, 100, (0.01, 0.1)
# Whether their means are of logarithms; of these, smaller is less shift.
_FIGURES = {"change of the gradient": True, "change over the gradient's length": True,
            "cosine": False}
_NETS = {"batch norm": batch_norm, "without": None}


def shift(gradient: Arrays, after: Arrays) -> tuple[float, float, float]:
    """Length of the change of a layer's gradient, that over the gradient's length, and the cosine.

    Parameters
    ----------
    gradient, after : list of ndarray
        By the layer's arrays, before and after the layers below are updated.
    """
    change, length = difference(gradient, after), norm(gradient)
    return change, change / length if length else float("nan"), cosine(gradient, after)


def find(study: Study) -> Findings:
    """The shift of each layer, during training."""
    size = _SIZES[study.size]
    data = images(size.rows)
    looks = list(range(0, size.steps, size.every))
    found: dict[str, list] = {f"{name}, rate {rate}": [] for name in _NETS for rate in _RATES}
    for _, seed in study.each_run():
        for name, norm_layer in _NETS.items():
            for rate in _RATES:
                stack = dense_stack(_WIDTHS, norm=norm_layer)
                network = Gradients(stack, data.x_train.shape[1], seed)
                batches = Batches(data.x_train, data.y_train, _BATCH, seed)
                found[f"{name}, rate {rate}"].append(_shifts(network, batches, rate, size))
    runs = {name: np.array(rows) for name, rows in found.items()}  # (runs, looks, kinds)
    measures, verdicts, panels = list[Measure](), list[Verdict](), list[Panel]()
    for k, (words, log) in enumerate(_FIGURES.items()):
        column = {name: values[:, :, k] for name, values in runs.items()}
        means = {name: np.exp(np.log(v).mean(1)) if log else v.mean(1)
                 for name, v in column.items()}
        of = {name: Measure.of(f"{words}, {name}", v, log=log) for name, v in means.items()}
        measures += of.values()
        panels.append(Panel.of(words.capitalize(), "steps", "mean over the layers", looks, column,
                               log_y=log))
        for rate in _RATES:
            normed, plain = (of[f"{name}, rate {rate}"] for name in _NETS)
            smaller, compare = ("smaller", lower) if log else ("larger", higher)
            verdicts.append(compare(f"{words}, rate {rate}: {smaller} with batch norm than "
                                    "without", normed, plain))
    settings = {"hidden layers": list(_WIDTHS), "activation": "relu", "batch": _BATCH,
                "optimiser": "SGD", "rates": list(_RATES), "initial weights": "He normal",
                "gradient": "by a layer's kernel, on the batch of the step"}
    return Findings(str(data), measures, verdicts, panels, settings)


def _shifts(network: Gradients, batches: Batches, rate: float, size: _Size) -> list[np.ndarray]:
    """The mean shift of the layers at each look of a training."""
    weights, row = network.start, []
    for step in range(size.steps):
        rows, labels = batches.take(1)
        _, gradient, moved = network.at(weights, rows, labels)
        after = along(moved, gradient, rate)
        if step % size.every == 0:
            row.append(_at_step(network, weights, gradient, after, rows, labels))
        weights = after
    return row


def _at_step(network: Gradients, weights: Arrays, gradient: Arrays, after: Arrays, x: np.ndarray,
             y: np.ndarray) -> np.ndarray:
    """Mean shift of the layers above the first."""
    shifts = []
    for i, name in enumerate(network.names):
        if name == "kernel" and i > 0:
            _, then, _ = network.at(after[:i] + weights[i:], x, y)
            shifts.append(shift(gradient[i : i + 1], then[i : i + 1]))
    return np.mean(shifts, axis=0)
