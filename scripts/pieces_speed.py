#!/usr/bin/env python
"""Measure fits from a generator against fits of the same batches in memory.

    pieces_speed.py              all cases
    pieces_speed.py mlp-32       those whose names begin so
    pieces_speed.py --short      few rows, one round: whether it runs, not what to quote
    pieces_speed.py --profile mlp-32-float32   where Python's time goes in a fit from a generator

The generator gives views of arrays in memory, so what is measured is the feeding alone. Both ways
train the same network on the same batches in the same order and are timed in turn; the ratio is
the median over the rounds of the generator's seconds over the others'. 1.2 or less is asked for.
Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

import nbbn
from nbbn import layers as L

Arrays = tuple[np.ndarray, np.ndarray]
SLOWEST = 1.2


@dataclass(frozen=True)
class Case:
    """A network, a size of batches and the dtype of the rows."""

    network: str
    size: int
    dtype: str
    rows: int

    @property
    def name(self) -> str:
        return f"{self.network}-{self.size}-{self.dtype}"

    def model(self) -> nbbn.Sequential:
        nbbn.set_random_seed(0)
        if self.network == "mlp":
            model = nbbn.Sequential([L.Input((784,))])
            for units in (128, 64, 32):
                for layer in (L.Dense(units), L.BatchNormalization(), L.ReLU()):
                    model.add(layer)
        else:
            model = nbbn.Sequential([
                L.Input((28, 28, 1)), L.Conv2D(8, 3), L.BatchNormalization(), L.ReLU(),
                L.MaxPooling2D(), L.Conv2D(16, 3), L.BatchNormalization(), L.ReLU(),
                L.MaxPooling2D(), L.Flatten()])
        model.add(L.Dense(10, activation="softmax"))
        model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        return model

    def arrays(self) -> Arrays:
        rng = np.random.default_rng(0)
        x = rng.integers(0, 256, (self.rows, *self.model().input_shape[1:]), np.uint8)
        if self.dtype != "uint8":
            x = (x / 255).astype(self.dtype)
        return x, rng.integers(0, 10, self.rows)


CASES = (
    *(Case("mlp", size, dtype, 20000) for size in (32, 128, 256, 1024)
      for dtype in ("float32", "uint8", "float64")),
    Case("cnn", 32, "float32", 4000), Case("cnn", 32, "uint8", 4000),
)


def batches(arrays: Arrays, size: int) -> Iterator[Arrays]:
    """Views of them, one after the other."""
    x, y = arrays
    for first in range(0, len(x), size):
        yield x[first : first + size], y[first : first + size]


def in_memory(model: nbbn.Sequential, arrays: Arrays, size: int) -> None:
    """An epoch of arrays."""
    model.fit(*arrays, batch_size=size, shuffle=False, verbose=0)


def generated(model: nbbn.Sequential, arrays: Arrays, size: int) -> None:
    """An epoch of batches."""
    model.fit(batches(arrays, size), verbose=0)


def seconds_of(way, *given) -> float:
    began = time.perf_counter()
    way(*given)
    return time.perf_counter() - began


def measure(case: Case, seconds: float) -> tuple[float, float, float]:
    """Medians: an epoch in memory and generated, in seconds, and the ratio."""
    arrays, ways = case.arrays(), (in_memory, generated)
    models = [case.model() for _ in ways]
    for way, model in zip(ways, models):
        for _ in range(2):
            way(model, arrays, case.size)
    if not all((a == b).all() for a, b in zip(*(model.get_weights() for model in models))):
        raise RuntimeError(f"{case.name}: a generator's weights are others than those of arrays")
    rounds: list[list[float]] = []
    until = time.perf_counter() + seconds
    while not rounds or time.perf_counter() < until:
        turn = (0, 1) if len(rounds) % 2 == 0 else (1, 0)
        found = [0.0, 0.0]
        for k in turn:
            found[k] = seconds_of(ways[k], models[k], arrays, case.size)
        rounds.append(found)
    memory, pieces = (statistics.median(column) for column in zip(*rounds))
    return memory, pieces, statistics.median(b / a for a, b in rounds)


def profile(case: Case) -> None:
    """Where the time of a fit from a generator goes."""
    arrays, model = case.arrays(), case.model()
    generated(model, arrays, case.size)
    with cProfile.Profile() as watched:
        generated(model, arrays, case.size)
    pstats.Stats(watched).sort_stats("tottime").print_stats(25)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="first letters of the cases' names")
    parser.add_argument("--short", action="store_true", help="whether it runs")
    parser.add_argument("--profile", action="store_true", help="where the time goes")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each case")
    given = parser.parse_args()
    chosen = [case for case in CASES if case.name.startswith(tuple(given.names or ("",)))]
    if given.short:
        chosen = [Case(case.network, case.size, case.dtype, 2 * case.size) for case in chosen]
    if not chosen:
        parser.error(f"no case is called so: {', '.join(case.name for case in CASES)}")
    if given.profile:
        for case in chosen:
            profile(case)
        return
    print(f"{'case':20} {'in memory':>12} {'generator':>12}  ratio")
    for case in chosen:
        memory, pieces, ratio = measure(case, 0.0 if given.short else given.seconds)
        print(f"{case.name:20} {1e3 * memory:9.1f} ms {1e3 * pieces:9.1f} ms  {ratio:.2f}"
              f"{'' if ratio <= SLOWEST else '  above ' + str(SLOWEST)}", flush=True)


if __name__ == "__main__":
    main()
