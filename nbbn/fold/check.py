"""Every fold is checked on numbers: rows through both networks, and what rounding explains."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from nbbn import markup
from nbbn.fold.network import fold_network, norm_at_entrance
from nbbn.fold.report import FoldReport
from nbbn.network import Network, Weights


class Runner(Protocol):
    """A network made ready once, for rows and for other weights."""

    def __call__(self, x: np.ndarray, /) -> np.ndarray:
        """Outputs for rows, both in the network's dtype."""

    def with_weights(self, weights: Weights, /) -> Runner:
        """The same network with other weights."""


Run = Callable[[Network], Runner]

# Fewer of large rows: about this many numbers, as each row goes through the networks ten times.
RANDOM_ROWS, _RANDOM_NUMBERS = 64, 1 << 18
SEED = 20150211
# The bound: this many times the spread that perturbed weights show. Correct folds of random
# networks (1 to 4 hidden layers, 1 to 784 wide, three in four float32, gains up to 650) differed by
# at most 0.11 of the bound in NumPy (2000 networks) and 0.18 on the engine (600). Of wrong ones, a
# bias or kernel off by 0.1 to 1 %, it caught 96 %; most of the rest moved no output by more than a
# correct fold does.
FACTOR = 4.0
# Fewer where there are so many weights that each output's move is the sum of very many of theirs.
PERTURBATIONS, FEW_PERTURBATIONS, _MANY_WEIGHTS = 4, 2, 1 << 20
# Enough rows to meet the largest difference, few enough that the bound costs little: about as many
# as take this many multiply-adds. Of ResNet-18 a bound of 8 rows and 2 moves was 0.7 to 1.0 of one
# of 64 rows and 4, and correct folds differed by at most 0.01 of either.
BOUND_ROWS, _LEAST_ROWS, _BOUND_WORK = 256, 8, 1 << 31
# Exponentials, and outputs that saturate and so show no spread: a few roundings of the largest.
FLOOR = 8.0


class FoldCheckFailed(ValueError):
    """A folded network whose outputs differ from the source's by more than rounding.

    Examples
    --------
    >>> import nbbn
    >>> issubclass(nbbn.FoldCheckFailed, ValueError)
    True
    """


class Check(NamedTuple):
    """Outcome of a numeric check.

    Attributes
    ----------
    max_abs : float
        Largest difference of an output.
    max_rel : float
        The same, as a fraction of the largest output of the unfolded network.
    bound : float
        What rounding may account for, in the unit of `max_abs`.
    rows : int
        Number of rows compared.

    Examples
    --------
    >>> from nbbn.fold import Check
    >>> check = Check(max_abs=2e-7, max_rel=2e-7, bound=5e-6, rows=64)
    >>> check.max_abs <= check.bound
    True
    """

    max_abs: float
    max_rel: float
    bound: float
    rows: int

    def _repr_html_(self) -> str:
        """For notebooks: the figures, and whether rounding explains the difference."""
        holds = "rounding explains the difference" if self.max_abs <= self.bound else (
            "the networks differ by more than rounding explains")
        row = (f"{self.max_abs:.3g}", f"{self.max_rel:.3g}", f"{self.bound:.3g}", f"{self.rows:,}")
        heads = ("largest difference", "relative", "bound", "rows")
        return markup.block(markup.heading(holds), markup.table(heads, [row], (0, 1, 2, 3)))


def check_fold(before: Network, after: Network, rows: ArrayLike | None, run: Run) -> Check:
    """Compare two networks that should be the same function.

    Parameters
    ----------
    before, after : Network
        The source and the folded network.
    rows : array of shape (n, *before.input_shape) or None
        Rows to compare on, besides random ones, which are always used: 64, or as many as hold
        262,144 numbers; converted to the network's dtype.
    run : callable
        Makes a `Runner` of a network, once for each of the two.

    Returns
    -------
    Check
        `max_abs <= bound` says that the fold holds.

    Raises
    ------
    TypeError, ValueError
        For rows that are not numeric, of another shape, or not finite.
    FoldCheckFailed
        Where outputs are not finite, so that nothing can be compared.

    Notes
    -----
    The random rows are normal; where a batch norm reads them, they follow its running statistics.

    The bound is measured, not derived layer by layer (Monte Carlo arithmetic; Parker, 1997): each
    weight of both networks is multiplied by `1 +- eps * sqrt(n)`, eps the dtype's machine epsilon
    and n the fan-in, which moves an output as the roundings of a sum of n terms would. Gains,
    cancellation against a large mean and depth thus count as much as they do in this network on
    these rows, and a layer type needs no rule of its own. The largest of 4 such moves of each
    network, of 2 from 2**20 weights on, times 4, plus 8 eps of the largest output, is the bound. It
    is taken on the 256 rows that differ most, on fewer of large networks: as many as take 2**31
    multiply-adds, and 8 at least.

    Examples
    --------
    >>> import nbbn
    >>> from nbbn.fold import check_fold, fold_network
    >>> from nbbn.predictor import Predictor
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> before = model.network()
    >>> after, report = fold_network(before)
    >>> check = check_fold(before, after, None, Predictor)
    >>> check.max_abs <= check.bound, check.rows
    (True, 64)
    """
    x = np.concatenate([random_rows(before).astype(before.dtype), _given_rows(before, rows)])
    unfolded, folded = run(before), run(after)
    ref, got = _outputs(unfolded, x, "unfolded"), _outputs(folded, x, "folded")
    difference = np.abs(got - ref).reshape(len(x), -1)
    largest, max_abs = (float(of.max(initial=0.0)) for of in (np.abs(ref), difference))
    some = max(_LEAST_ROWS, min(BOUND_ROWS, _BOUND_WORK // max(1, _work(before))))
    worst = np.argsort(-difference.max(axis=1, initial=0.0), kind="stable")[:some]
    spread = _spread(before, unfolded, x[worst], ref[worst])
    spread += _spread(after, folded, x[worst], got[worst])
    bound = FACTOR * spread + FLOOR * float(np.finfo(before.dtype).eps) * largest
    return Check(max_abs, max_abs / largest if largest else 0.0, bound, len(x))


def fold_checked(network: Network, *, strict: bool = False, check: ArrayLike | None = None,
                 run: Run) -> tuple[Network, FoldReport]:
    """`fold_network`, then `check_fold` on random rows and on the rows `check`.

    Where no batch norm was folded nothing is checked: the weights are the same.

    Returns
    -------
    network : Network
    report : FoldReport
        With the figures of the check.

    Raises
    ------
    FoldRefused, FoldCheckFailed, LayerError, TypeError, ValueError
        As `fold_network` and `check_fold`; `FoldCheckFailed` also where the difference exceeds the
        bound.

    Examples
    --------
    >>> import nbbn
    >>> from nbbn.fold import fold_checked
    >>> from nbbn.predictor import Predictor
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> network, report = fold_checked(model.network(), run=Predictor)
    >>> report.rows_checked
    64
    """
    folded, report = fold_network(network, strict=strict)
    if not report.n_folded:
        _given_rows(network, check)  # refused all the same where they do not fit
        return folded, report
    found = check_fold(network, folded, check, run)
    if found.max_abs > found.bound:
        raise FoldCheckFailed(f"the folded network differs by {found.max_abs:.3g} on {found.rows} "
                              f"rows, where rounding explains {found.bound:.3g} (largest gain "
                              f"{report.largest_gain:.3g}): do not use it; keep the unfolded "
                              "network and report the layers as a bug")
    report = replace(report, max_abs_error=found.max_abs, max_rel_error=found.max_rel)
    return folded, replace(report, bound=found.bound, rows_checked=found.rows)


def random_rows(network: Network, count: int = RANDOM_ROWS) -> np.ndarray:
    """Normal numbers (float64), or what a batch norm at the entrance expects; always the same.

    `count` of them, or as many as hold 262,144 numbers.
    """
    count = max(1, min(count, _RANDOM_NUMBERS // max(1, math.prod(network.input_shape))))
    rows = np.random.default_rng(SEED).standard_normal((count, *network.input_shape))
    norm = norm_at_entrance(network)
    if norm is not None and norm.affine is not None:
        shape = [-1 if i == norm.axis else 1 for i in range(rows.ndim)]
        rows = rows * np.sqrt(norm.var).reshape(shape) + norm.affine.mean.reshape(shape)
    return rows


def _given_rows(network: Network, rows: ArrayLike | None) -> np.ndarray:
    """The caller's rows in the network's dtype; none for None."""
    if rows is None:
        return np.empty((0, *network.input_shape), network.dtype)
    rows = np.asarray(rows)
    if rows.dtype.kind not in "fiub":
        raise TypeError(f"check must hold real numbers, got {rows.dtype}; convert the rows first")
    if rows.shape[1:] != network.input_shape or rows.ndim == 0:
        want = ", ".join(["n", *map(str, network.input_shape)])
        raise ValueError(f"check must have shape ({want}), the rows that the network takes; "
                         f"got {rows.shape}")
    with np.errstate(over="ignore"):
        rows = rows.astype(network.dtype)
    if not np.isfinite(rows).all():
        raise ValueError(f"check holds NaN, infinity or values beyond {network.dtype}; "
                         "pass finite rows")
    return rows


def _outputs(runner: Runner, rows: np.ndarray, which: str) -> np.ndarray:
    """Outputs as float64, so that differences are not rounded."""
    outputs = np.asarray(runner(rows), np.float64)
    if not np.isfinite(outputs).all():
        bad = (~np.isfinite(outputs).reshape(len(rows), -1).all(axis=1)).sum()
        raise FoldCheckFailed(f"outputs of the {which} network are not finite on {bad} of "
                              f"{len(rows)} rows, so the fold cannot be checked; use smaller "
                              "weights or rows, or float64")
    return outputs


def _spread(network: Network, runner: Runner, rows: np.ndarray, outputs: np.ndarray) -> float:
    """How far outputs move when each weight moves by about the roundings it takes part in."""
    rng, largest = np.random.default_rng(SEED), 0.0
    weights = sum(array.size for arrays in network.weights for array in arrays.values())
    for _ in range(PERTURBATIONS if weights < _MANY_WEIGHTS else FEW_PERTURBATIONS):
        moved = np.asarray(runner.with_weights(_perturbed(network, rng))(rows), np.float64)
        largest = max(largest, float(np.abs(moved - outputs).max(initial=0.0)))
    return largest


def _work(network: Network) -> int:
    """Multiply-adds of a row, about."""
    return sum(network.weights[layer][name].size * math.prod(step.output_shape[:-1])
               for step in network.computation().steps for layer, name in step.keys
               if name in network.weights[layer])


def _perturbed(network: Network, rng: np.random.Generator) -> Weights:
    def moved(array: np.ndarray) -> np.ndarray:
        fan_in = max(1, int(np.prod(array.shape[:-1])))
        step = np.finfo(array.dtype).eps * np.sqrt(fan_in)
        factors, drawn = np.array([1 - step, 1 + step]), rng.bytes(-(-array.size // 8))
        bits = np.unpackbits(np.frombuffer(drawn, np.uint8), count=array.size)
        return (array * factors[bits].reshape(array.shape)).astype(array.dtype)

    return [{name: moved(array) for name, array in arrays.items()} for arrays in network.weights]
