"""Small batches: the error of batch, layer and group norm over batch sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nbbn import layers
from nbbn.evidence.data import CLASSES, Batches, images
from nbbn.evidence.measures import Measure, Verdict, higher
from nbbn.evidence.networks import Norm, accuracy, batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.layers import Layer
from nbbn.optimizers import SGD

CLAIM = Claim(
    "small-batches",
    "With small batches batch norm's error rises; that of norms over a row's own channels does not",
    "Wu and He (2018), section 4.1, figure 1 and table 2",
    "a ResNet-50 on ImageNet, validation error at 32 and at 2 images a worker: batch norm "
    "23.6 and 34.7 %, group norm 24.1 and 24.1 %",
    9,
)


@dataclass(frozen=True)
class _Size:
    rows: int
    test: int | None
    batches: tuple[int, ...]
    epochs: int


_SIZES = {
    "tiny": _Size(64, 200, (2, 32), 1),
    "quick": _Size(1000, 1000, (2, 8, 32), 3),
    "full": _Size(6000, None, (2, 4, 8, 16, 32, 64), 5),
}
_FILTERS, _WIDTHS, _GROUPS = (8, 16), (100, 100), 4
# The rate of a batch of 32; others are in proportion (Goyal et al., 2017).
_RATE, _MOMENTUM = 0.1, 0.9
_NORMS: dict[str, Norm] = {
    "batch norm": batch_norm,
    "layer norm": lambda: layers.GroupNormalization(groups=1),
    "group norm": lambda: layers.GroupNormalization(groups=_GROUPS),
}
_PAPER = {("batch norm", 2): "34.7 %", ("group norm", 2): "24.1 %", ("batch norm", 32): "23.6 %",
          ("group norm", 32): "24.1 %"}


def _convolutions(norm: Norm) -> list[Layer]:
    stack = list[Layer]()
    for filters in _FILTERS:
        stack += [layers.Conv2D(filters, (3, 3), strides=(2, 2), padding="same", use_bias=False,
                                kernel_initializer="he_normal"), norm(),
                  layers.Activation("relu")]
    return [*stack, layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]


def _dense(norm: Norm) -> list[Layer]:
    return [layers.Flatten(), *dense_stack(_WIDTHS, norm=norm)]


def find(study: Study) -> Findings:
    """Test error over batch sizes, of the same number of epochs."""
    size = _SIZES[study.size]
    data = images(size.rows, size.test).as_squares()
    errors: dict[tuple[str, str], list[list[float]]] = {
        (kind, name): [] for kind in _KINDS for name in _NORMS}
    for _, seed in study.each_run():
        for kind, name in errors:
            row = []
            for batch in size.batches:
                model = network(_KINDS[kind](_NORMS[name]), seed,
                                SGD(_RATE * batch / 32, _MOMENTUM))
                batches = Batches(data.x_train, data.y_train, batch, seed)
                train(model, batches, size.epochs * len(data.x_train) // batch)
                if name == "batch norm":
                    model.recalibrate(data.x_train)
                row.append(1 - accuracy(model, data.x_test, data.y_test))
            errors[kind, name].append(row)
    measures, verdicts, panels = list[Measure](), list[Verdict](), list[Panel]()
    for kind in _KINDS:
        curves = {name: np.array(errors[kind, name]) for name in _NORMS}
        shown, found = _told(kind, curves, size)
        measures += shown
        verdicts += found
        panels.append(Panel.of(f"{kind.capitalize()}, after {size.epochs} epochs", "batch size",
                               "test error", size.batches, curves, log_x=True))
    settings = {"convolutions": f"3 x 3 of {' and '.join(map(str, _FILTERS))} filters, strides 2, "
                                "relu; dense",
                "dense": f"hidden layers {', '.join(map(str, _WIDTHS))}, relu",
                "groups": _GROUPS, "layer norm": "over all of a row: one group",
                "epochs": size.epochs, "batch norm's statistics": "exact, of the training rows",
                "optimiser": f"SGD, rate {_RATE} x batch / 32, momentum {_MOMENTUM}"}
    return Findings(str(data), measures, verdicts, panels, settings)


def _told(kind: str, curves: dict[str, np.ndarray],
          size: _Size) -> tuple[list[Measure], list[Verdict]]:
    """The figures of the smallest batch and of 32, and what they say."""
    small, large = 2, 32
    at = {batch: size.batches.index(batch) for batch in (small, large)}
    papers = _PAPER if kind == "convolutions" else {}
    of = {(name, batch): Measure.of(f"test error at batch {batch}, {kind}, {name}", runs[:, i],
                                    papers.get((name, batch), ""))
          for batch, i in at.items() for name, runs in curves.items()}
    rise = {name: Measure.of(f"error at batch {small} less that at {large}, {kind}, {name}",
                             runs[:, at[small]] - runs[:, at[large]])
            for name, runs in curves.items()}
    normed = "batch norm"
    verdicts = [
        higher(f"{kind}: batch norm's error is larger at batch {small} than at batch {large}",
               of[normed, small], of[normed, large]),
        *(higher(f"{kind}: at batch {small} batch norm's error is larger than {other}'s",
                 of[normed, small], of[other, small]) for other in ("group norm", "layer norm")),
        higher(f"{kind}: from batch {large} to {small} batch norm loses more than group norm",
               rise[normed], rise["group norm"]),
    ]
    return [*of.values(), *rise.values()], verdicts


_KINDS: dict[str, Callable[[Norm], list[Layer]]] = {"convolutions": _convolutions, "dense": _dense}
