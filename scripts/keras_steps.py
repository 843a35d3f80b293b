#!/usr/bin/env python
"""Time a training step of each optimiser and of each loss beside Keras's.

    keras_steps.py                      all optimisers and losses
    keras_steps.py Adam dice            these
    keras_steps.py --short              few steps: whether it runs, not what to quote

A step is one of `fit` on rows in memory, of dense layers with batch norms, in float32, from the
same weights. Optimisers are timed with a cross-entropy of labels, losses with SGD. Both libraries
are timed in turn, round by round, with pauses, since thread pools spin for a while after their last
call; what is shown is the median. A ratio is Keras's time over nbbn's: above 1, nbbn is faster.
Without Keras its columns are empty. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("KERAS_BACKEND", "jax")

import numpy as np

import nbbn

OPTIMIZERS = ("SGD", "RMSprop", "Adam", "AdamW", "Nadam", "Adamax", "Adagrad", "Adadelta", "Lion",
              "Ftrl")
# By the kind of targets: labels, one-hot rows, or numbers.
LABELS = ("SparseCategoricalCrossentropy", "SparseCategoricalCrossentropy, ignore_class",
          "CategoricalGeneralizedCrossEntropy")
ONE_HOT = ("CategoricalCrossentropy", "CategoricalFocalCrossentropy", "BinaryCrossentropy",
           "BinaryFocalCrossentropy", "CategoricalHinge", "KLDivergence", "Dice", "Tversky")
NUMBERS = ("MeanSquaredError", "MeanAbsoluteError", "Huber", "LogCosh", "Hinge",
           "SquaredHinge", "Poisson", "CosineSimilarity", "MeanAbsolutePercentageError",
           "MeanSquaredLogarithmicError")
ENDS = {"BinaryCrossentropy": "sigmoid", "BinaryFocalCrossentropy": "sigmoid",
        "Poisson": "softplus"}
FEATURES, HIDDEN, OUTPUTS = 784, (128, 64), 10
# Seconds before each turn.
PAUSE = 0.2


class Fit:
    """A model of a library, ready to be timed."""

    def __init__(self, library: Any, name: str, batch: int, steps: int):
        rng = np.random.default_rng(0)
        optimizer, loss = (name, LABELS[0]) if name in OPTIMIZERS else ("SGD", name)
        self._x = rng.normal(size=(batch * steps, FEATURES)).astype(np.float32)
        self._y = rng.integers(OUTPUTS, size=len(self._x))
        if loss not in LABELS:
            self._y = np.eye(OUTPUTS, dtype=np.float32)[self._y]
        layers = library.layers
        end = ENDS.get(loss, "linear" if loss in NUMBERS else "softmax")
        hidden = [layer for units in HIDDEN for layer in (
            layers.Dense(units, use_bias=False), layers.BatchNormalization(), layers.ReLU())]
        self._model = library.Sequential([library.Input((FEATURES,)), *hidden,
                                          layers.Dense(OUTPUTS, activation=end)])
        ignoring = {"ignore_class": 0} if loss == LABELS[1] else {}
        self._model.compile(getattr(library.optimizers, optimizer)(),
                            getattr(library.losses, loss.partition(",")[0])(**ignoring))
        self._batch, self._steps = batch, steps
        self.seconds()

    def seconds(self) -> float:
        """Of a step: the mean of an epoch's."""
        began = time.perf_counter()
        self._model.fit(self._x, self._y, batch_size=self._batch, shuffle=False, verbose=0)
        return (time.perf_counter() - began) / self._steps


def row(name: str, libraries: list[Any], batch: int, steps: int, rounds: int) -> str:
    """A line of the table: microseconds of each library, and the ratio."""
    fits = [Fit(library, name, batch, steps) for library in libraries]
    found: list[list[float]] = [[] for _ in fits]
    for _ in range(rounds):
        for times, fit in zip(found, fits):
            time.sleep(PAUSE)
            times.append(1e6 * fit.seconds())
    medians = [statistics.median(times) for times in found]
    cells = [f"{median:.0f}" for median in medians]
    cells += [f"{medians[1] / medians[0]:.1f}"] if len(medians) > 1 else ["", ""]
    return f"| {name} | {' | '.join(cells)} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = (*OPTIMIZERS, *LABELS, *ONE_HOT, *NUMBERS)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(every)}")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--short", action="store_true", help="few steps, to try it")
    args = parser.parse_args()
    wanted = {name.lower() for name in args.names}
    names = [name for name in every if not wanted or name.lower() in wanted]
    if len(names) < len(wanted):
        parser.error(f"choose names of {', '.join(every)}")
    libraries: list[Any] = [nbbn]
    if find_spec("keras") is not None:
        import keras

        libraries.append(keras)
    steps, rounds = (2, 1) if args.short else (40, args.rounds)
    sizes = "-".join(map(str, (FEATURES, *HIDDEN, OUTPUTS)))
    print(f"{sizes}, batch {args.batch}, {nbbn.get_num_threads()} threads, us a step\n")
    print("| | nbbn | Keras | Keras / nbbn |\n|---|---|---|---|")
    for name in names:
        print(row(name, libraries, args.batch, steps, rounds), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
