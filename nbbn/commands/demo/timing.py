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
                rounds: int = _ROUNDS) -> dict[str, float]:
    """Median seconds a call of each function, in turn: the machine's drift meets all alike."""
    calls = {name: _calls(function) for name, function in functions.items()}
    times: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(rounds):
        for name, function in functions.items():
            times[name].append(_seconds(function, calls[name]) / calls[name])
    return {name: statistics.median(values) for name, values in times.items()}


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
    """Seconds of `predict_proba`: an entry for each number of rows.

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
        result.append({"rows": rows, **interleaved(calls)})
    return result
