"""Frozen batch norm in transfer: few rows of new classes, small batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from nbbn import layers
from nbbn.evidence.data import CLASSES, Batches, images
from nbbn.evidence.measures import Measure, Verdict, higher
from nbbn.evidence.networks import accuracy, batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.layers import BatchNormalization
from nbbn.models.sequential import Sequential
from nbbn.optimizers import SGD

CLAIM = Claim(
    "frozen-transfer",
    "A trained network goes on better on few new rows with its batch norms frozen",
    "the practice of fine-tuning in small batches, as in detection: see Wu and Johnson (2021) on "
    "frozen batch norm; Keras freezes statistics where trainable is False",
    "a practice, without a figure to compare with",
    1,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None  # of the first half of the classes
    before: int  # steps on them
    new: int  # rows of the other half
    batches: tuple[int, ...]
    epochs: int


_SIZES = {
    "tiny": _Size(600, 10, 40, (4, 20), 1),
    "quick": _Size(6000, 300, 100, (2, 4, 16, 50), 10),
    "full": _Size(None, 3000, 200, (2, 4, 8, 16, 32, 64), 20),
}
_WIDTHS, _BATCH, _RATE, _NEW_RATE = (100, 100, 100), 100, 0.1, 0.02
_HALF = CLASSES // 2
_KINDS = ("frozen", "batch statistics")


def _transferred(trained: Sequential, seed: int, frozen: bool) -> Sequential:
    """The trained layers with a new last one."""
    model = network([], seed, SGD(_NEW_RATE))
    for layer in trained.layers[:-1]:
        model.add(layer)
    model.add(layers.Dense(CLASSES, activation="softmax"))
    norms: list[Any] = [n for n in model.layers if isinstance(n, BatchNormalization)]
    for norm in norms if frozen else ():
        norm.trainable = False
    return model


def find(study: Study) -> Findings:
    """Test accuracy on the new classes over batch sizes."""
    size = _SIZES[study.size]
    data = images(size.rows)
    old, new, tested = data.y_train < _HALF, data.y_train >= _HALF, data.y_test >= _HALF
    scores: dict[str, list[list[float]]] = {kind: [] for kind in _KINDS}
    for _, seed in study.each_run():
        trained = network(dense_stack(_WIDTHS, norm=batch_norm), seed, SGD(_RATE))
        train(trained, Batches(data.x_train[old], data.y_train[old], _BATCH, seed), size.before)
        some = np.random.default_rng([seed, 2]).permutation(np.flatnonzero(new))[: size.new]
        x, y = data.x_train[some], data.y_train[some]
        for kind in _KINDS:
            row = []
            for batch in size.batches:
                model = _transferred(trained, seed, kind == "frozen")
                train(model, Batches(x, y, batch, seed), size.epochs * len(x) // batch)
                row.append(accuracy(model, data.x_test[tested], data.y_test[tested]))
            scores[kind].append(row)
    measures, verdicts = list[Measure](), list[Verdict]()
    for i, batch in enumerate(size.batches):
        of = {kind: Measure.of(f"test accuracy at batch {batch}, {kind}", np.array(runs)[:, i])
              for kind, runs in scores.items()}
        measures += of.values()
        verdicts.append(higher(f"at batch {batch} frozen batch norms test better",
                               of["frozen"], of["batch statistics"]))
    panel = Panel.of(f"{size.new} rows of new classes, {size.epochs} epochs", "batch size",
                     "test accuracy on them", size.batches, scores, log_x=True)
    settings = {"hidden layers": list(_WIDTHS), "activation": "relu",
                "before": f"{size.before:,} steps on classes 0 to {_HALF - 1}, rate {_RATE}, "
                          f"batch {_BATCH}",
                "then": f"{size.new} rows of classes {_HALF} to {CLASSES - 1}, rate {_NEW_RATE}, "
                        "all other weights trained, the last layer new"}
    return Findings(str(data), measures, verdicts, [panel], settings)
