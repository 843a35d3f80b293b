"""Compare two saved models on random rows, and on given ones: pass if they differ by no more than rounding explains."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nbbn.commands import tables
from nbbn.commands.errors import UnusableInput, WorkFailed

HELP = "compare the outputs of two saved models"
# The rows that differ most are shown, this many of them.
_WORST = 3


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn verify`."""
    parser.add_argument("a", type=Path, metavar="A", help="a model file that nbbn saved")
    parser.add_argument("b", type=Path, metavar="B", help="another, folded or not")
    parser.add_argument("--data", type=Path, metavar="X", help="rows (.npy, .csv) to compare on as well")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn verify`."""
    from nbbn.fold.check import check_fold
    from nbbn.interop import native

    (a, _), (b, _) = native.load(args.a), native.load(args.b)
    for what in ("input_shape", "output_shape"):
        if getattr(a, what) != getattr(b, what):
            shapes = f"{getattr(a, what)} and {getattr(b, what)}"
            raise UnusableInput(f"{args.a} and {args.b} differ in {what}: {shapes}; they cannot compute the same")
    rows = None if args.data is None else tables.read_rows(args.data)
    found = check_fold(a, b, rows, _runner)
    print(f"largest difference {found.max_abs:.3g} (relative {found.max_rel:.3g}) on {found.rows} rows")
    print(f"bound {found.bound:.3g}: what rounding may account for")
    if rows is not None:
        _compare_rows(_runner(a)(rows), _runner(b)(rows))
    if found.max_abs > found.bound:
        raise WorkFailed(f"{args.a} and {args.b} differ by {found.max_abs:.3g}, the bound is {found.bound:.3g}")
    print("same: the models agree")


def _runner(network):
    """The network as a function of rows of any numbers."""
    from nbbn.predictor import Predictor

    predictor = Predictor(network)
    return lambda rows: predictor(np.ascontiguousarray(rows, network.dtype))


def _compare_rows(ref: np.ndarray, got: np.ndarray) -> None:
    """Print the rows of the given file that differ most, and how often both models choose the same output."""
    difference = np.abs(got.astype(np.float64) - ref).max(axis=1)
    worst = np.argsort(-difference, kind="stable")[:_WORST]
    print("rows that differ most: " + ", ".join(f"{row + 1} ({difference[row]:.3g})" for row in worst))
    if ref.shape[1] > 1:
        same = (ref.argmax(1) == got.argmax(1)).sum()
        print(f"largest output in the same place: {same} of {len(ref)} rows")
