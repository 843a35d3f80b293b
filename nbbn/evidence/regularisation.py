"""Regularisation: what the noise of a batch's statistics does to test accuracy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn import layers
from nbbn.evidence.data import Batches, images
from nbbn.evidence.measures import Measure, higher, lower
from nbbn.evidence.networks import MOMENTUM, accuracy, batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.layers import Layer
from nbbn.optimizers import SGD

CLAIM = Claim(
    "regularisation",
    "The noise of a batch's statistics regularises: the smaller the batch, the more, "
    "and dropout can go",
    "Ioffe and Szegedy (2015), section 3.4; Luo, Wang, Shao and Peng (2019)",
    "section 3.4: a row's output depends on the rows beside it, which helps generalisation; "
    "dropout could be removed or reduced",
    4,
)


@dataclass(frozen=True)
class _Size:
    rows: int
    test: int | None
    batches: tuple[int, ...]
    epochs: int


_SIZES = {
    "tiny": _Size(128, 200, (16, 64), 1),
    "quick": _Size(500, 2000, (8, 32, 128), 10),
    "full": _Size(1000, None, (4, 8, 16, 32, 64, 128, 256), 60),
}
_WIDTHS, _RATE, _DROPPED = (100, 100), 0.05, 0.3
# The batch size of the table and the verdicts.
_SHOWN = 16


def _deterministic() -> Layer:
    """A batch norm that trains, too, with running statistics: a row's output is its own."""
    return layers.BatchNormalization(momentum=MOMENTUM, use_running=True, update_running=True)


_NETS: dict[str, dict[str, Any]] = {
    "batch statistics": {"norm": batch_norm},
    "running statistics": {"norm": _deterministic},
    "dropout": {"extra": lambda: layers.Dropout(_DROPPED)},
    "none of these": {},
}


def find(study: Study) -> Findings:
    """Test accuracy over batch sizes after so many epochs on few rows."""
    size = _SIZES[study.size]
    data = images(size.rows, size.test)
    tested: dict[str, list[list[float]]] = {name: [] for name in _NETS}
    gaps: dict[str, list[list[float]]] = {name: [] for name in _NETS}
    for _, seed in study.each_run():
        for name, parts in _NETS.items():
            scores, lost = [], []
            for batch in size.batches:
                model = network(dense_stack(_WIDTHS, **parts), seed, SGD(_RATE))
                batches = Batches(data.x_train, data.y_train, batch, seed)
                train(model, batches, size.epochs * len(data.x_train) // batch)
                if name == "batch statistics":
                    model.recalibrate(data.x_train)
                scores.append(accuracy(model, data.x_test, data.y_test))
                lost.append(accuracy(model, data.x_train, data.y_train) - scores[-1])
            tested[name].append(scores)
            gaps[name].append(lost)
    shown = min(size.batches, key=lambda batch: abs(batch - _SHOWN))
    at = size.batches.index(shown)
    measures = {name: Measure.of(f"test accuracy, batch {shown}, {name}", np.array(runs)[:, at])
                for name, runs in tested.items()}
    best = {name: Measure.of(f"best test accuracy of any batch, {name}", np.max(runs, axis=1))
            for name, runs in tested.items()}
    ends = {batch: Measure.of(f"lost to the test rows, batch {batch}, batch statistics",
                              np.array(gaps["batch statistics"])[:, size.batches.index(batch)])
            for batch in (size.batches[0], size.batches[-1])}
    noisy = "batch statistics"
    verdicts = [
        higher(f"at batch {shown} the batch's statistics test better than running ones",
               measures[noisy], measures["running statistics"]),
        higher("each at its best batch, the batch's statistics test better than no batch norm",
               best[noisy], best["none of these"]),
        higher("each at its best batch, the batch's statistics test better than dropout",
               best[noisy], best["dropout"]),
        lower("with batch statistics less is lost to the test rows at the smallest batch than at "
              "the largest", *ends.values()),
    ]
    axes = ("batch size",)
    panels = [
        Panel.of("Test accuracy", *axes, "accuracy", size.batches, tested, log_x=True),
        Panel.of("Lost between training and test rows", *axes, "difference of accuracy",
                 size.batches, gaps, log_x=True),
    ]
    settings = {"hidden layers": list(_WIDTHS), "activation": "relu", "epochs": size.epochs,
                "optimiser": f"SGD, rate {_RATE}", "dropout": _DROPPED,
                "batch statistics": "in inference exact ones, of the training rows",
                "running statistics": f"momentum {MOMENTUM}, in training too"}
    figures = [*measures.values(), *best.values(), *ends.values()]
    return Findings(str(data), figures, verdicts, panels, settings)
