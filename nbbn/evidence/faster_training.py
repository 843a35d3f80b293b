"""Faster training: Ioffe and Szegedy's first figure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nbbn.evidence.data import Batches, images
from nbbn.evidence.measures import Measure, higher, lower
from nbbn.evidence.networks import accuracy, batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.initializers import RandomNormal
from nbbn.models.sequential import Sequential
from nbbn.optimizers import SGD

CLAIM = Claim(
    "faster-training",
    "With batch norm a network of sigmoids learns in fewer steps and ends more accurate; "
    "the inputs of its last sigmoid move less",
    "Ioffe and Szegedy (2015), section 4.1 and figure 1",
    "figure 1: the test accuracy of the network with batch norm rises earlier and ends higher "
    "within 50,000 steps, and the 15th, 50th and 85th percentiles of an input of the last "
    "sigmoid stay where they are",
    12,
)


@dataclass(frozen=True)
class _Size:
    rows: int | None
    points: tuple[int, ...]  # steps after which is looked
    early: int  # one of them


_SIZES = {
    "tiny": _Size(600, (5, 10), 5),
    "quick": _Size(6000, (30, 100, 300, 600), 100),
    "full": _Size(None, (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 35_000, 50_000),
                  1000),
}
_WIDTHS, _BATCH, _RATE, _STDDEV = (100, 100, 100), 60, 0.1, 0.1
_PERCENTILES = (15, 50, 85)
_NETS = {"batch norm": batch_norm, "without": None}


def find(study: Study) -> Findings:
    """Accuracy over steps, and where the inputs of the last sigmoid are."""
    size = _SIZES[study.size]
    data = images(size.rows)
    accuracies: dict[str, list] = {name: [] for name in _NETS}
    places: dict[str, list] = {name: [] for name in _NETS}
    for _, seed in study.each_run():
        for name, norm in _NETS.items():
            start = RandomNormal(stddev=_STDDEV)
            stack = dense_stack(_WIDTHS, activation="sigmoid", norm=norm, initializer=start)
            model, done = network(stack, seed, SGD(_RATE)), 0
            batches = Batches(data.x_train, data.y_train, _BATCH, seed)
            scores, inputs = [], []
            for point in size.points:
                train(model, batches, point - done)
                done = point
                scores.append(accuracy(model, data.x_test, data.y_test))
                inputs.append(np.percentile(_last_inputs(model, data.x_test), _PERCENTILES, axis=0))
            accuracies[name].append(scores)
            places[name].append(inputs)  # (points, percentiles, units)
    early, last = size.points.index(size.early), size.points[-1]

    def of(label: str, column: int) -> dict[str, Measure]:
        return {name: Measure.of(f"{label}, {name}", [run[column] for run in runs])
                for name, runs in accuracies.items()}

    soon = of(f"test accuracy after {size.early:,} steps", early)
    end = of(f"test accuracy after {last:,} steps", -1)
    path = {name: Measure.of(f"way of the last sigmoid's inputs, {name}",
                             [np.abs(np.diff(run, axis=0)).sum(0).mean() for run in runs])
            for name, runs in places.items()}
    verdicts = [
        higher(f"ahead after {size.early:,} steps", soon["batch norm"], soon["without"]),
        higher(f"ahead after {last:,} steps", end["batch norm"], end["without"]),
        lower("the inputs of the last sigmoid move less (percentiles, summed over the points "
              "looked at, mean over the units)", path["batch norm"], path["without"]),
    ]
    panels = [Panel.of("Test accuracy", "steps", "accuracy", size.points, accuracies, log_x=True)]
    panels += [
        Panel.of(f"Input of a last sigmoid, {name}", "steps", "percentiles", size.points,
                 {f"{p}th": [[point[i][0] for point in run] for run in runs]
                  for i, p in enumerate(_PERCENTILES)}, log_x=True)
        for name, runs in places.items()
    ]
    settings = {"hidden layers": list(_WIDTHS), "activation": "sigmoid", "batch": _BATCH,
                "optimiser": f"SGD, rate {_RATE}", "steps": last,
                "initial weights": f"Gaussian, standard deviation {_STDDEV}"}
    measures = [*soon.values(), *end.values(), *path.values()]
    return Findings(str(data), measures, verdicts, panels, settings)


def _last_inputs(model: Sequential, x: np.ndarray) -> np.ndarray:
    """What goes into the last sigmoids, in inference."""
    last = max(i for i, layer in enumerate(model.layers)
               if getattr(layer, "activation", None) == "sigmoid")
    inputs = Sequential()
    for layer in model.layers[:last]:
        inputs.add(layer)
    return inputs.predict(x, verbose=0)
