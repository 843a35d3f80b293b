"""Higher learning rates: the largest at which a network still learns."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.evidence.data import Batches, images
from nbbn.evidence.measures import Measure, higher
from nbbn.evidence.networks import accuracy, batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.optimizers import SGD

CLAIM = Claim(
    "higher-rates",
    "With batch norm much larger learning rates do not diverge",
    "Bjorck, Gomes, Selman and Weinberger (2018), section 2; Ioffe and Szegedy (2015), section 3.3",
    "figure 1: a ResNet of 110 layers without batch norm needs a rate of 0.0001, "
    "with it 0.1 trains",
    6,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None
    rates: tuple[float, ...]
    steps: int
    depth: int


_SIZES = {
    "tiny": _Size(600, (0.1, 10.0), 10, 2),
    "quick": _Size(6000, tuple(10.0**e for e in (-2, -1, 0, 1, 2)), 200, 6),
    "full": _Size(None, tuple(10.0 ** (e / 2) for e in range(-6, 6)), 1000, 6),
}
_UNITS, _BATCH = 100, 60
# A network below has learnt nothing: chance is 0.1.
_LEARNS = 0.5
_NETS = {"batch norm": batch_norm, "without": None}


def find(study: Study) -> Findings:
    """Accuracy over learning rates."""
    size = _SIZES[study.size]
    data = images(size.rows)
    scores: dict[str, list[list[float]]] = {name: [] for name in _NETS}
    for _, seed in study.each_run():
        for name, norm in _NETS.items():
            row = []
            for rate in size.rates:
                model = network(dense_stack((_UNITS,) * size.depth, norm=norm), seed, SGD(rate))
                train(model, Batches(data.x_train, data.y_train, _BATCH, seed), size.steps)
                row.append(accuracy(model, data.x_test, data.y_test))
            scores[name].append(row)
    largest = {name: Measure.of(f"largest rate that learns, {name}",
                                [_largest(size.rates, row) for row in runs], log=True)
               for name, runs in scores.items()}
    best = {name: Measure.of(f"best test accuracy of any rate, {name}", np.max(runs, axis=1))
            for name, runs in scores.items()}
    verdicts = [
        higher("the largest rate that learns is larger with batch norm", largest["batch norm"],
               largest["without"]),
        higher("each at its best rate, batch norm is more accurate", best["batch norm"],
               best["without"]),
    ]
    panel = Panel.of(f"After {size.steps:,} steps", "learning rate", "test accuracy", size.rates,
                     scores, log_x=True)
    settings = {"hidden layers": [_UNITS] * size.depth, "activation": "relu", "batch": _BATCH,
                "optimiser": "SGD", "steps": size.steps, "initial weights": "He normal",
                "rates": [float(f"{rate:.3g}") for rate in size.rates],
                "learns": f"test accuracy above {_LEARNS}, all weights finite"}
    return Findings(str(data), [*largest.values(), *best.values()], verdicts, [panel], settings)


def _largest(rates: tuple[float, ...], scores: list[float]) -> float:
    """The largest rate that learns; the smallest of all where none does."""
    return max((rate for rate, score in zip(rates, scores) if score > _LEARNS), default=rates[0])
