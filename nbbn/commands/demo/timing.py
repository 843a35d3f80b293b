"""Timing folded against unfolded inference."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from nbbn.estimators import MLPClassifier
from nbbn.folded_model import FoldedModel
from nbbn.loading import for_inference

_ROUNDS = 21
# A timed block lasts about so long, whatever one call takes.
_BLOCK_SECONDS = 0.005


def interleaved(functions: Mapping[str, Callable[[], object]],
                rounds: int | None = None) -> dict[str, list[float]]:
    """Seconds a call of each function, round by round: the machine's drift meets all alike."""
    calls = {name: _calls(function) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(_ROUNDS if rounds is None else rounds):
        for name, function in functions.items():
            times[name].append(_seconds(function, calls[name]) / calls[name])
    return times


def _calls(function: Callable[[], object]) -> int:
    function()
    return max(1, round(_BLOCK_SECONDS / _seconds(function, 1)))


def _seconds(function: Callable[[], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - start


def folded_against_unfolded(estimator: MLPClassifier, folded: FoldedModel,
                            x: np.ndarray) -> list[dict[str, Any]]:
    """Seconds of `predict_proba`: an entry for each number of rows, medians of the rounds.

    `quartiles` are those of unfolded / folded within a round: what the machine does besides moves
    both, so where they stand on both sides of 1 the two are not told apart.

    `unfolded` is the estimator's network in a `FoldedModel` as it is, so that the two differ by
    their batch norms alone; `estimator` is the estimator's own method, with scikit-learn's checks
    of the input.
    """
    unfolded = for_inference(estimator)
    models: dict[str, Any] = {"estimator": estimator, "unfolded": unfolded, "folded": folded}
    result: list[dict[str, Any]] = []
    for rows in sorted({n for n in (1, 32, 1000, len(x)) if n <= len(x)}):
        some = np.ascontiguousarray(x[:rows])
        calls = {name: partial(model.predict_proba, some) for name, model in models.items()}
        times = interleaved(calls)
        ratios = [a / b for a, b in zip(times["unfolded"], times["folded"])]
        low, _, high = statistics.quantiles(ratios, n=4, method="inclusive")
        result.append({"rows": rows, **{name: statistics.median(t) for name, t in times.items()},
                       "ratio": statistics.median(ratios), "quartiles": [low, high]})
    return result
