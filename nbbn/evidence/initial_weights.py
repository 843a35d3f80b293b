"""Less sensitive to initial weights: accuracy over six orders of their scale."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.evidence.data import Batches, images
from nbbn.evidence.measures import Measure, higher
from nbbn.evidence.networks import accuracy, batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.initializers import GlorotUniform, VarianceScaling
from nbbn.optimizers import SGD

CLAIM = Claim(
    "initial-weights",
    "With batch norm the scale of the initial weights matters less",
    "Ioffe and Szegedy (2015), section 3.3: scaling a layer's weights does not change its output",
    "an argument without a figure: BN(Wu) = BN((aW)u)",
    2,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None
    scales: tuple[float, ...]
    steps: int


_SIZES = {
    "tiny": _Size(600, (0.1, 1.0), 10),
    "quick": _Size(6000, tuple(10.0**e for e in range(-3, 4)), 200),
    "full": _Size(None, tuple(10.0 ** (e / 2) for e in range(-6, 7)), 1000),
}
_WIDTHS, _BATCH, _RATE = (100, 100, 100), 60, 0.1
# Of a network's own best: so far below still counts as well trained.
_WITHIN = 0.05
_NETS = {"batch norm": batch_norm, "without": None}


def find(study: Study) -> Findings:
    """Accuracy over scales of the hidden layers' initial weights."""
    size = _SIZES[study.size]
    data = images(size.rows)
    scores: dict[str, list[list[float]]] = {name: [] for name in _NETS}
    for _, seed in study.each_run():
        for name, norm in _NETS.items():
            row = []
            for scale in size.scales:
                # 2 of the variance is He's: the scale of the weights is the root of the rest.
                start = VarianceScaling(2 * scale**2, "fan_in", "untruncated_normal")
                stack = dense_stack(_WIDTHS, norm=norm, initializer=start, last=GlorotUniform())
                model = network(stack, seed, SGD(_RATE))
                train(model, Batches(data.x_train, data.y_train, _BATCH, seed), size.steps)
                row.append(accuracy(model, data.x_test, data.y_test))
            scores[name].append(row)
    wide = {name: Measure.of(f"orders of scale within {_WITHIN} of its best, {name}",
                             [_orders(size.scales, row) for row in runs])
            for name, runs in scores.items()}
    worst = {name: Measure.of(f"worst test accuracy of any scale, {name}", np.min(runs, axis=1))
             for name, runs in scores.items()}
    verdicts = [
        higher("more orders of scale train well with batch norm", wide["batch norm"],
               wide["without"]),
        higher("at its worst scale batch norm is more accurate", worst["batch norm"],
               worst["without"]),
    ]
    panel = Panel.of(f"After {size.steps:,} steps", "scale of the initial weights (He's: 1)",
                     "test accuracy", size.scales, scores, log_x=True)
    settings = {"hidden layers": list(_WIDTHS), "activation": "relu", "batch": _BATCH,
                "optimiser": f"SGD, rate {_RATE}", "steps": size.steps,
                "initial weights": "He normal times the scale in hidden layers, "
                                   "Glorot uniform in the last"}
    return Findings(str(data), [*wide.values(), *worst.values()], verdicts, [panel], settings)


def _orders(scales: tuple[float, ...], scores: list[float]) -> float:
    """Powers of ten from the first to the last scale about the best that is nearly as good."""
    good = np.array(scores) >= max(scores) - _WITHIN
    first = last = int(np.argmax(scores))
    while first > 0 and good[first - 1]:
        first -= 1
    while last < len(scales) - 1 and good[last + 1]:
        last += 1
    return float(np.log10(scales[last] / scales[first]))
