"""Gradient explosion: how the gradient grows over depth in a network that starts."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from nbbn.evidence.measures import Measure, lower, near
from nbbn.evidence.panel import Panel
from nbbn.evidence.study import Claim, Findings, Study
from nbbn.functional import batch_norm_backward, batch_norm_train, dense

# What Yang et al. derive for ReLU and large batches.
GROWTH = math.sqrt(math.pi / (math.pi - 1))

CLAIM = Claim(
    "gradient-explosion",
    f"At the start batch norm makes gradients grow by {GROWTH:.2f} a layer, on the way back "
    "through a deep network of ReLUs; residual sums cure it",
    "Yang, Pennington, Rao, Sohl-Dickstein and Schoenholz (2019); Luther (2020)",
    f"the root of pi / (pi - 1), {GROWTH:.4f}, for layers much wider than a large batch; none "
    "without batch norm",
    1,
)


@dataclass(frozen=True)
class _Size:
    rows: int
    units: int
    depth: int


_SIZES = {"tiny": _Size(64, 32, 6), "quick": _Size(128, 384, 24), "full": _Size(256, 1024, 50)}
_KINDS = ("batch norm", "without", "batch norm, residual sums")
# Layers at either end that the growth is not measured on: there it has not settled.
_SKIPPED = 0.2


def gradient_lengths(x: np.ndarray, kernels: list[np.ndarray], dy: np.ndarray,
                     kind: str) -> list[float]:
    """Length of the gradient by the input of each layer, of the output last.

    Parameters
    ----------
    x : ndarray of float64, shape (rows, units)
    kernels : list of ndarray of float64, shape (units, units)
    dy : ndarray of float64, shape (rows, units)
        By the output.
    kind : {"batch norm", "without", "batch norm, residual sums"}
        A layer is `relu(norm(x @ kernel))`, `relu(x @ kernel)`, or `x` and the former.
    """
    normed, residual = kind != "without", "residual" in kind
    behind = []
    for kernel in kernels:
        z = dense(x, kernel)
        if normed:
            y, cache = batch_norm_train(z, activation="relu")
        else:
            y, cache = np.maximum(z, 0), None
        behind.append((z, cache))
        x = x + y if residual else y
    lengths = [float(np.linalg.norm(dy))]
    for kernel, (z, cache) in zip(reversed(kernels), reversed(behind)):
        dz = dy * (z > 0) if cache is None else batch_norm_backward(dy, cache)[0]
        back = dz @ kernel.T
        dy = dy + back if residual else back
        lengths.append(float(np.linalg.norm(dy)))
    return lengths[::-1]


def growth(lengths: list[float]) -> float:
    """Factor a layer on the way back, over the middle of the network."""
    skip = int(_SKIPPED * len(lengths))
    middle = lengths[skip : len(lengths) - skip]
    return float((middle[0] / middle[-1]) ** (1 / (len(middle) - 1)))


def find(study: Study) -> Findings:
    """Lengths of gradients over depth."""
    size = _SIZES[study.size]
    found: dict[str, list[list[float]]] = {kind: [] for kind in _KINDS}
    for _, seed in study.each_run():
        rng = np.random.default_rng(seed)
        x, dy = (rng.normal(size=(size.rows, size.units)) for _ in range(2))
        spread = math.sqrt(2 / size.units)
        kernels = [rng.normal(0, spread, (size.units, size.units)) for _ in range(size.depth)]
        for kind in _KINDS:
            found[kind].append(gradient_lengths(x, kernels, dy, kind))
    papers = {"batch norm": f"{GROWTH:.4f}", "without": "1"}
    factors = {kind: Measure.of(f"growth a layer, {kind}", [growth(run) for run in runs],
                                papers.get(kind, ""), log=True) for kind, runs in found.items()}
    whole = {kind: Measure.of(f"growth over {size.depth} layers, {kind}",
                              [run[0] / run[-1] for run in runs], log=True)
             for kind, runs in found.items()}
    normed, plain, residual = (factors[kind] for kind in _KINDS)
    verdicts = [
        near("with batch norm the gradient grows as derived", normed, GROWTH, 0.02),
        near("without, it does not", plain, 1.0, 0.02),
        lower("with residual sums it grows less than without them", residual, normed),
    ]
    layers = range(size.depth + 1)
    lengths = {kind: np.array(runs) / np.array(runs)[:, -1:] for kind, runs in found.items()}
    panel = Panel.of("Gradient by a layer's input, over that by the output", "layer",
                     "length, relative", layers, lengths, log_y=True)
    settings = {"layers": size.depth, "units": size.units, "rows": size.rows, "activation": "relu",
                "initial weights": "He normal", "dtype": "float64"}
    data = f"{size.rows:,} Gaussian rows of {size.units} numbers"
    return Findings(data, [*factors.values(), *whole.values()], verdicts, [panel], settings)
