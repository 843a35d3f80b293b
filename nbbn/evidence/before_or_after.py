"""Batch norm before or after the activation."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn.evidence.data import Batches, images
from nbbn.evidence.measures import Measure, Verdict, higher
from nbbn.evidence.networks import accuracy, batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.optimizers import SGD

CLAIM = Claim(
    "before-or-after",
    "Batch norm belongs before the activation",
    "Ioffe and Szegedy (2015), section 3.2; Mishkin, Sergievskiy and Matas (2017) find otherwise",
    "an argument: inputs of the activation are more symmetric than its outputs; Mishkin et al. "
    "measure after a ReLU to be slightly better",
    2,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None
    points: tuple[int, int]


_SIZES = {"tiny": _Size(600, (5, 10)), "quick": _Size(6000, (50, 300)),
          "full": _Size(None, (200, 3000))}
_WIDTHS, _BATCH, _RATE = (100, 100, 100), 60, 0.1
_ACTIVATIONS = ("relu", "tanh", "sigmoid")
_PLACES: dict[str, dict[str, Any]] = {
    "before": {"norm": batch_norm}, "after": {"norm": batch_norm, "before": False}, "without": {},
}


def find(study: Study) -> Findings:
    """Accuracy early and late, for each activation and place."""
    size = _SIZES[study.size]
    data = images(size.rows)
    # (runs, activations, points)
    scores: dict[str, list[list[list[float]]]] = {place: [] for place in _PLACES}
    for _, seed in study.each_run():
        for place, options in _PLACES.items():
            of_run = []
            for activation in _ACTIVATIONS:
                stack = dense_stack(_WIDTHS, activation=activation, **options)
                model, done, row = network(stack, seed, SGD(_RATE)), 0, list[float]()
                batches = Batches(data.x_train, data.y_train, _BATCH, seed)
                for point in size.points:
                    train(model, batches, point - done)
                    done = point
                    row.append(accuracy(model, data.x_test, data.y_test))
                of_run.append(row)
            scores[place].append(of_run)
    values = {place: np.array(runs) for place, runs in scores.items()}
    measures, verdicts, panels = list[Measure](), list[Verdict](), list[Panel]()
    for p, point in enumerate(size.points):
        steps = f"after {point:,} steps"
        for a, activation in enumerate(_ACTIVATIONS):
            of = {place: Measure.of(f"test accuracy {steps}, {activation}, {place}", v[:, a, p])
                  for place, v in values.items()}
            measures += of.values()
            verdicts.append(higher(f"{activation}, {steps}: before tests better than after",
                                   of["before"], of["after"]))
        panels.append(Panel.of(f"After {point:,} steps", "activation", "test accuracy",
                               _ACTIVATIONS, {n: v[:, :, p] for n, v in values.items()}))
    settings = {"hidden layers": list(_WIDTHS), "batch": _BATCH, "initial weights": "He normal",
                "optimiser": f"SGD, rate {_RATE}"}
    return Findings(str(data), measures, verdicts, panels, settings)
