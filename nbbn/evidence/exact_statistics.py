"""Exact statistics, and what running ones cost a short fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn import layers
from nbbn.evidence.data import Batches, images
from nbbn.evidence.measures import Measure, Verdict, higher
from nbbn.evidence.networks import accuracy, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.optimizers import SGD

CLAIM = Claim(
    "exact-statistics",
    "Exact statistics of the training rows test better than running averages, above all after a "
    "short fit",
    "Wu and Johnson (2021), section 3; Ioffe and Szegedy (2015), algorithm 2",
    "running averages lag behind weights that move fast, so a model is judged wrongly early in "
    "training; statistics of many rows at fixed weights are accurate",
    1,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None
    points: tuple[int, ...]
    exact: int  # rows that the exact statistics are of


_SIZES = {
    "tiny": _Size(600, (5, 10), 200),
    "quick": _Size(6000, (20, 50, 100, 200, 400), 2000),
    "full": _Size(None, (20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000), 10_000),
}
_WIDTHS, _BATCH, _RATE = (100, 100, 100), 60, 0.1
_DEFAULT, _SHORT = 0.99, 0.9
_EXACT = "exact statistics"


def find(study: Study) -> Findings:
    """Accuracy over steps with running and with exact statistics, of the same weights."""
    size = _SIZES[study.size]
    data = images(size.rows)
    running = {f"momentum {momentum}": momentum for momentum in (_DEFAULT, _SHORT)}
    scores: dict[str, list[list[float]]] = {name: [] for name in (_EXACT, *running)}
    for _, seed in study.each_run():
        for name, momentum in running.items():
            stack = dense_stack(
                _WIDTHS, activation="sigmoid",
                norm=lambda m=momentum: layers.BatchNormalization(momentum=m))  # type: ignore[misc]
            model, done = network(stack, seed, SGD(_RATE)), 0
            batches = Batches(data.x_train, data.y_train, _BATCH, seed)
            found: dict[str, list[float]] = {name: [], _EXACT: []}
            for point in size.points:
                train(model, batches, point - done)
                done, weights = point, model.get_weights()
                found[name].append(accuracy(model, data.x_test, data.y_test))
                if momentum == _DEFAULT:  # the weights are the same: one look will do
                    model.recalibrate(data.x_train[: size.exact])
                    found[_EXACT].append(accuracy(model, data.x_test, data.y_test))
                    model.set_weights(weights)
            scores[name].append(found[name])
            if momentum == _DEFAULT:
                scores[_EXACT].append(found[_EXACT])
    measures, verdicts = list[Measure](), list[Verdict]()
    for place in (1, len(size.points) - 1):
        steps = f"after {size.points[place]:,} steps"
        of = {name: Measure.of(f"test accuracy {steps}, {name}", np.array(runs)[:, place])
              for name, runs in scores.items()}
        measures += of.values()
        verdicts += [higher(f"{steps} exact statistics test better than running ones of {name}",
                            of[_EXACT], of[name]) for name in running]
    panel = Panel.of("Test accuracy", "steps", "accuracy", size.points, scores, log_x=True)
    settings = {"hidden layers": list(_WIDTHS), "activation": "sigmoid", "batch": _BATCH,
                "optimiser": f"SGD, rate {_RATE}", "initial weights": "He normal",
                "exact statistics": f"of {min(size.exact, len(data.x_train)):,} training rows"}
    return Findings(str(data), measures, verdicts, [panel], settings)
