"""Compare two model files of any format on random and given rows: rounding may explain the rest."""

from __future__ import annotations

import argparse
import math
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from nbbn.commands import models, tables
from nbbn.commands.arguments import positive
from nbbn.commands.errors import UnusableInput, WorkFailed
from nbbn.commands.models import Runnable
from nbbn.fold.check import SEED, check_fold, random_rows
from nbbn.fold.network import norm_at_entrance
from nbbn.formats.files import FileError, Refused
from nbbn.predictor import Predictor
from nbbn.tables import stored

# The rows that differ most are shown, this many of them.
_WORST = 3
_RANDOM_ROWS, _RANDOM_NUMBERS = 256, 1 << 18
# Of the largest output: the bound where neither file is one that nbbn can read, so that nothing can
# be derived from weights.
_FIXED = 1e-4


EXAMPLES = (
    "verify model.safetensors model.onnx",
    "verify a.onnx b.onnx --data rows.npy --tolerance 1e-4",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn verify`."""
    add = parser.add_argument
    add("a", type=Path, metavar="A", help=models.HELP)
    add("b", type=Path, metavar="B", help="another, folded or not, of any of these formats")
    add("--data", type=Path, metavar="X", help="rows (.npy, .csv, .parquet) to compare on as well")
    add("--tolerance", type=positive, metavar="D",
        help="largest difference allowed (default: what rounding explains)")  # fmt: skip


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn verify`."""
    if args.a.suffix.lower() == args.b.suffix.lower() == ".onnx" and find_spec("onnx"):
        _run_graphs(args)
        return
    a, b = models.open_runnable(args.a), models.open_runnable(args.b)
    _check_shapes(a, b)
    rows, given = _random_rows(a, b), 0
    drawn = len(rows)
    if args.data is not None:
        own = _given_rows(args, a.input_shape)
        rows, given = np.concatenate([rows, own]), len(own)
    found = _compare(a, b, rows)
    bound, why = (args.tolerance, "as given") if args.tolerance else _bound(a, b, rows, found)
    for runnable in (a, b):
        if runnable.how != "nbbn":
            print(f"{runnable.path} is run by {runnable.how}")
    difference = f"{found.max_abs:.3g} (relative {found.max_rel:.3g})"
    print(f"largest difference {difference} on {len(rows)} rows")
    print(f"bound {bound:.3g}: {why}")
    _print_rows(found, drawn if given else 0, "the file's" if given else "random")
    if not found.max_abs <= bound:
        raise WorkFailed(f"{args.a} and {args.b} differ by {found.max_abs:.3g}, "
                         f"the bound is {bound:.3g}")
    print("same: the models agree")


def _run_graphs(args: argparse.Namespace) -> None:
    """Two ONNX files: all their inputs and outputs, whatever sizes are fixed."""
    from nbbn.formats.onnx.compare import compare

    given = None if args.data is None else tables.read_rows(args.data)
    with tempfile.TemporaryDirectory() as folder:
        try:
            outputs = compare(args.a, args.b, given, _RANDOM_ROWS, Path(folder))
        except (Refused, TypeError, ValueError) as err:
            if isinstance(err, FileError):
                raise
            raise UnusableInput(f"{args.a} and {args.b} cannot be compared: {err}") from err
    apart = []
    for output in outputs:
        differences, rows = output.differences, len(output.ref)
        if not output.numbers:
            print(f"{output.name}: {int((differences > 0).sum())} of {rows} rows differ")
            bound = 0.0
        else:
            found = _Comparison(*(a.reshape(rows, -1) for a in (output.ref, output.got)))
            bound = args.tolerance or output.bound
            why = "as given" if args.tolerance else "what rounding may account for"
            print(f"{output.name}: largest difference {found.max_abs:.3g} "
                  f"(relative {found.max_rel:.3g}) on {rows} rows, bound {bound:.3g}: {why}")
            _print_rows(found, 0, "")
        if not differences.max(initial=0.0) <= bound:
            apart.append(output.name)
    if apart:
        raise WorkFailed(f"{args.a} and {args.b} differ in {', '.join(apart)} by more than "
                         "the bound is")
    print("same: the models agree")


@dataclass(frozen=True)
class _Comparison:
    ref: np.ndarray
    got: np.ndarray

    @property
    def differences(self) -> np.ndarray:
        """The largest difference of each row."""
        return np.abs(self.got - self.ref).max(axis=1)

    @property
    def largest(self) -> float:
        """The largest output of the first model."""
        return float(np.abs(self.ref).max())

    @property
    def max_abs(self) -> float:
        """The largest difference; NaN where an output is."""
        return float(self.differences.max())

    @property
    def max_rel(self) -> float:
        """The same, as a fraction of the largest output."""
        return self.max_abs / self.largest if self.largest else 0.0


def _check_shapes(a: Runnable, b: Runnable) -> None:
    shapes = {"input_shape": (a.input_shape, b.input_shape)}
    if a.network is not None and b.network is not None:
        shapes["output_shape"] = a.network.output_shape, b.network.output_shape
    for what, (one, other) in shapes.items():
        if one != other and not (what == "input_shape" and models.are_turned(one, other)):
            raise UnusableInput(f"{a.path} and {b.path} differ in {what}: {one} and {other}; "
                                "they cannot compute the same")


def _given_rows(args: argparse.Namespace, shape: tuple[int, ...]) -> np.ndarray:
    path = args.data
    known = (stored.description_of(model) for model in (args.a, args.b))
    description = next((found for found in known if found is not None), None)
    rows = models.rows_for(shape, tables.read_rows(path, description))
    if rows.shape[1:] != shape:
        raise UnusableInput(f"{path} holds rows of shape {rows.shape[1:]}, the models take {shape}")
    return rows


def _random_rows(a: Runnable, b: Runnable) -> np.ndarray:
    """Normal numbers, or what a batch norm at the entrance of one of them expects."""
    # Fewer of large rows: each goes through the networks some ten times.
    count = max(1, min(_RANDOM_ROWS, _RANDOM_NUMBERS // math.prod(a.input_shape)))
    networks = [r.network for r in (a, b) if r.network is not None]
    networks = [network for network in networks if norm_at_entrance(network) is not None]
    if networks:
        return models.turned(random_rows(networks[0], count), a.input_shape)
    return np.random.default_rng(SEED).standard_normal((count, *a.input_shape))


def _compare(a: Runnable, b: Runnable, rows: np.ndarray) -> _Comparison:
    # The same numbers for both: float32, where one of them takes no more.
    if any(r.network is None or r.network.dtype == np.float32 for r in (a, b)):
        rows = rows.astype(np.float32)
    ref, got = (
        np.asarray(r.outputs(models.turned(rows, r.input_shape)), np.float64) for r in (a, b)
    )
    if {ref.shape[1], got.shape[1]} == {1, 2}:
        # A binary classifier, and a plain network's probability of the second class.
        ref, got = ref[:, -1:], got[:, -1:]
    if ref.shape != got.shape:
        numbers = f"{ref.shape[1]} and {got.shape[1]} numbers"
        raise UnusableInput(f"{a.path} and {b.path} differ in their outputs: {numbers} a row; "
                            "they cannot compute the same")
    return _Comparison(ref, got)


def _bound(a: Runnable, b: Runnable, rows: np.ndarray, found: _Comparison) -> tuple[float, str]:
    """What rounding may account for: how far outputs move with the last bits of the weights."""
    networks = [r.network for r in (a, b) if r.network is not None]
    if not networks:
        bound = _FIXED * max(found.largest, 1e-30)
        return bound, f"{_FIXED:g} of the largest output, as neither network can be read"
    # The coarser dtype first: its rounding counts.
    networks.sort(key=lambda network: network.dtype.itemsize)
    rows = models.turned(rows, networks[0].input_shape)
    if networks[0].input_shape != networks[-1].input_shape:  # one was read channels first
        networks = networks[:1]
    checked = check_fold(networks[0], networks[-1], rows, Predictor)
    return checked.bound, "what rounding may account for, from the networks' gains"


def _print_rows(found: _Comparison, first: int, whose: str) -> None:
    """Print the rows that differ most, and how often both models choose the same output."""
    differences, ref, got = found.differences[first:], found.ref[first:], found.got[first:]
    worst = np.argsort(-differences, kind="stable")[:_WORST]
    shown = ", ".join(f"{row + 1} ({differences[row]:.3g})" for row in worst)
    print(f"{whose} rows that differ most: {shown}")
    if ref.shape[1] > 1:
        same = (ref.argmax(1) == got.argmax(1)).sum()
        print(f"largest output in the same place: {same} of {len(ref)} rows")
