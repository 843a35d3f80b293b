"""Folding: the same numbers, and how much faster where."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nbbn import layers
from nbbn.evidence.data import CLASSES, Batches, Images, images
from nbbn.evidence.measures import HOLDS, OPPOSITE, Measure, Verdict, higher
from nbbn.evidence.networks import batch_norm, dense_stack, network, train
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.folded_model import FoldedModel
from nbbn.layers import Layer
from nbbn.optimizers import SGD

CLAIM = Claim(
    "folding",
    "Batch norms fold into the layers beside them: the same outputs but for rounding, sooner",
    "Ioffe and Szegedy (2015), section 3.1: in inference batch norm is a linear transform of each "
    "activation",
    "an argument without a figure",
    1,
)


@dataclass(frozen=True)
class _Size:
    rows: int
    steps: int
    batches: tuple[int, ...]
    blocks: int
    seconds: float  # a block lasts about so long


_SIZES = {
    "tiny": _Size(300, 5, (1, 8), 1, 1e-4),
    "quick": _Size(1000, 50, (1, 32), 9, 2e-3),
    "full": _Size(4000, 300, (1, 32, 1000), 21, 4e-3),
}


def _dense() -> list[Layer]:
    return dense_stack((128, 64, 32), norm=batch_norm)


def _dense_after() -> list[Layer]:
    return dense_stack((128, 64, 32), norm=batch_norm, before=False)


def _images() -> list[Layer]:
    stack = list[Layer]()
    for filters in (8, 16):
        stack += [layers.Conv2D(filters, (3, 3), padding="same"), batch_norm(),
                  layers.Activation("relu"), layers.MaxPooling2D((2, 2))]
    return [*stack, layers.Flatten(), layers.Dense(CLASSES, activation="softmax")]


_NETS: dict[str, Callable[[], list[Layer]]] = {
    "dense, norm before relu": _dense, "dense, norm after relu": _dense_after,
    "convolutions": _images,
}


def find(study: Study) -> Findings:
    """Largest difference of outputs, and ratios of times."""
    size = _SIZES[study.size]
    data = images(size.rows, max(*size.batches, 200))
    errors: dict[str, list[float]] = {name: [] for name in _NETS}
    bounds: dict[str, list[float]] = {name: [] for name in _NETS}
    ratios: dict[str, list[list[float]]] = {name: [] for name in _NETS}
    for _, seed in study.each_run():
        for name, stack in _NETS.items():
            rows = data.as_squares() if name == "convolutions" else data
            whole, folded = _both(stack(), rows, seed, size)
            expected, got = whole.predict_proba(rows.x_test), folded.predict_proba(rows.x_test)
            errors[name].append(float(np.abs(expected - got).max()))
            bounds[name].append(folded.report.bound or 0.0)
            ratios[name].append([_ratio(whole, folded, rows.x_test[:n], size)
                                 for n in size.batches])
    error = {name: Measure.of(f"largest difference of a probability, {name}", values)
             for name, values in errors.items()}
    faster = {(name, n): Measure.of(f"times faster, {_rows(n)}, {name}", np.array(runs)[:, i],
                                    log=True)
              for name, runs in ratios.items() for i, n in enumerate(size.batches)}
    none = Measure("as it was", [1.0] * study.runs, log=True)
    verdicts = [_within(name, errors[name], bounds[name]) for name in _NETS]
    verdicts += [higher(f"{name}, {_rows(n)}: folded is faster", measure, none)
                 for (name, n), measure in faster.items()]
    panel = Panel.of("Folded", "rows of a call", "times faster", [f"{n}" for n in size.batches],
                     ratios)
    settings = {"networks": "dense 128, 64, 32; convolutions 3 x 3 of 8 and 16 filters with "
                            "pools of 2", "dtype": "float32",
                "times": f"one thread; medians of {size.blocks} blocks of each, in turn"}
    return Findings(str(data), [*error.values(), *faster.values()], verdicts, [panel], settings)


def _rows(count: int) -> str:
    return f"{count} row" if count == 1 else f"{count} rows"


def _both(stack: list[Layer], data: Images, seed: int,
          size: _Size) -> tuple[FoldedModel, FoldedModel]:
    """The trained network as it is, and folded; both answer by the same object."""
    model = network(stack, seed, SGD(0.05))
    train(model, Batches(data.x_train, data.y_train, 50, seed), size.steps)
    classes = np.arange(CLASSES)
    whole = FoldedModel(model.network(), kind="classifier", classes=classes)
    return whole, FoldedModel.of(model.network(), "classifier", classes)


def _within(name: str, errors: list[float], bounds: list[float]) -> Verdict:
    """Whether every difference is one that rounding explains."""
    holds = all(error <= bound for error, bound in zip(errors, bounds))
    return Verdict(f"{name}: the outputs are the same but for rounding",
                   HOLDS if holds else OPPOSITE,
                   f"largest difference {max(errors):.2g}, bound of the fold's check at least "
                   f"{min(bounds):.2g}")


def _ratio(whole: FoldedModel, folded: FoldedModel, x: np.ndarray, size: _Size) -> float:
    """How many times faster the folded one is: the ratio of medians of blocks in turn."""
    x = np.ascontiguousarray(x)
    models = (whole, folded)
    for model in models:
        model.predict_proba(x)
    calls = max(1, round(size.seconds / max(_seconds(whole, x, 1), 1e-9)))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(size.blocks):
        for model, taken in zip(models, times):
            taken.append(_seconds(model, x, calls))
    return statistics.median(times[0]) / statistics.median(times[1])


def _seconds(model: FoldedModel, x: np.ndarray, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        model.predict_proba(x)
    return time.perf_counter() - start
