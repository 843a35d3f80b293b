"""Train a classifier or regressor on tables, score it on rows kept aside, and save it.

Started as several processes, by `mpirun -n 8 nbbn train DATA OUT`, they train on a part each.
"""

from __future__ import annotations

import argparse
import math
import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.commands import training_partitions, training_table
from nbbn.commands.arguments import add_network, count, share, threads_of
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_output, check_suffix, input_files, with_folder
from nbbn.commands.progress import epoch_bar
from nbbn.group import ALONE, Group
from nbbn.tables import stored
from nbbn.tables.description import Description
from nbbn.tables.learning import Rows, TargetScale, with_moments
from nbbn.tables.moments import Moments
from nbbn.tables.standard import absorb, absorb_targets, far_from_zero, standardised
from nbbn.tables.survey import check_classes
from nbbn.training_loop import diverged

EXAMPLES = (
    "train table.csv model.safetensors --target price --regression",
    "train table.csv model.safetensors --ignore id --categories postcode --epochs 100",
    "train 'data/*.parquet' model.safetensors --window 2",
    "train arrays.npz model.safetensors --hidden 256,128 --dtype float32",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn train`."""
    training_table.add_data(parser, several=True)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="the model file: .safetensors")
    add("--no-batch-norm", action="store_true", help="leave batch norm out")
    add("--residual", action="store_true",
        help="add what a hidden layer reads to what it gives; all have one width then")  # fmt: skip
    add("--validation", type=share, default=0.1, metavar="SHARE",
        help="of the rows, kept aside (0.1); of several files 64 MB of rows at most")  # fmt: skip
    add("--window", type=count, metavar="N",
        help="partitions in memory at a time: files, or pieces of 64 MB of Parquet files (4)")
    add("--dtype", choices=("float32", "float64"),
        help="what to compute in (float32 of a Parquet table or arrays of float32, else float64)")
    add_network(parser, epochs="20", rate=None)


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn train`."""
    group = _group()
    try:
        _run(args, group)
    except Exception as error:
        if group.rank == 0:
            raise
        # The first rank says what is wrong.
        unusable = isinstance(error, (UnusableInput, ValueError, TypeError, OSError))
        raise SystemExit(2 if unusable else 1) from None


def _group() -> Group:
    """The processes that `mpirun` has started, or this one alone."""
    if not any(name.startswith(_LAUNCHERS) for name in os.environ):
        return ALONE
    from nbbn.distributed.job import ranks_of_job

    return ranks_of_job() or ALONE


# How variables begin that the launchers of ranks set.
_LAUNCHERS = ("OMPI_COMM_WORLD_", "PMI_", "SLURM_STEP_")


def _run(args: argparse.Namespace, group: Group) -> None:
    from nbbn.estimators import MLPClassifier, MLPRegressor
    from nbbn.estimators.mlp.defaults import value_of

    _check_widths(args)
    data = _read(args, group)
    with group.together():
        _check_rows(data)
    if group.rank == 0:
        for note in data.notes:
            print(note)
    epochs = args.epochs or 20
    start = time.perf_counter()
    with threads_of(args), epoch_bar("training", epochs) as show, warnings.catch_warnings():
        # The number of epochs was chosen; that more would help is no news.
        warnings.filterwarnings("ignore", message="Stochastic Optimizer")
        # Said in the command's own words below.
        warnings.filterwarnings("ignore", message="Training diverged")
        model = (MLPRegressor if data.regression else MLPClassifier)(
            hidden_layer_sizes=args.hidden, activation=args.activation,
            batch_size=min(args.batch_size, data.rows), max_iter=epochs,
            learning_rate_init=args.learning_rate, random_state=args.seed, dtype=args.dtype,
            batch_norm=not args.no_batch_norm, residual=args.residual, tol=0.0,
            n_iter_no_change=epochs, callbacks=[show],
        )  # fmt: skip
        args.learning_rate = value_of(model, "learning_rate_init")
        with _divergence_named(args):
            if group.ranks == 1:
                model.fit(data.x, data.y, **data.aside)
            else:
                _fit_parts(model, group, data)
    if group.rank > 0:
        return
    seconds = time.perf_counter() - start
    _warn_of_divergence(model, args)
    score = _score(model, data)
    _take_in(model, data)
    description = data.description if data.description and data.description.columns else None
    card = stored.card(data.rows, score, _options(args))
    stored.save(with_folder(args.out), model, description, card)
    ranks = f" on {group.ranks} ranks" if group.ranks > 1 else ""
    columns = _columns(model, description)
    comma = "," if "," in columns and not data.where else ""
    print(f"{epochs} epochs on {data.rows:,} rows of {columns}{comma}{data.where}{ranks} "
          f"in {seconds:.1f} s")
    print(f"training loss {model.loss_:.6g}{_shown(score)}")
    print(f"written to {args.out}")


def _check_widths(args: argparse.Namespace) -> None:
    """Raise UnusableInput for hidden layers that cannot have shortcuts."""
    if args.residual and len(set(args.hidden)) > 1:
        one = ",".join([str(max(args.hidden))] * len(args.hidden))
        raise UnusableInput("--residual needs hidden layers of one width, got --hidden "
                            f"{','.join(map(str, args.hidden))}: give --hidden {one}, say")


def _check_rows(data: training_partitions.Data) -> None:
    """Raise UnusableInput for rows that nothing can be learnt from."""
    if data.rows < 2:
        raise UnusableInput(f"{data.rows} row to train on is too few: give more rows")
    if not data.regression and not data.shared and data.y is not None and np.ndim(data.y) == 1:
        check_classes(data.y, data.description.target.name if data.description else None)


def _columns(model: Any, description: Description | None) -> str:
    """How many columns there are, in words."""
    width = model.n_features_in_
    given = width if description is None else len(description.columns)
    shown = f"{given} columns" if given > 1 else "1 column"
    return shown if given == width else f"{shown}, as {width} of numbers"


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """The arguments that a card keeps."""
    kept = {name: getattr(args, name) for name in (
        "batch_size", "learning_rate", "activation", "seed", "validation")}
    return {"hidden": list(args.hidden), "epochs": args.epochs or 20, **kept,
            "batch_norm": not args.no_batch_norm, "residual": args.residual}


@contextmanager
def _divergence_named(args: argparse.Namespace) -> Iterator[None]:
    """Weights that became infinite, said in the command's own words."""
    try:
        yield
    except ValueError as err:
        if "non-finite" not in str(err):
            raise
        raise UnusableInput("the fit diverges: weights are no longer finite; lower "
                            f"--learning-rate, which is {args.learning_rate:g}") from err


def _warn_of_divergence(model: Any, args: argparse.Namespace) -> None:
    """Say so where the loss has grown instead of falling, or is huge."""
    curve = model.loss_curve_
    what = diverged(curve) or (f"the loss is {curve[-1]:.3g}" if curve[-1] > _HUGE else "")
    if what:
        warnings.warn(f"the fit diverges: {what}; the model is of no use, lower --learning-rate, "
                      f"which is {args.learning_rate:g}", stacklevel=2)


# No loss at the end of a fit of standardised columns and targets: that of a guess is about 1.
_HUGE = 1e3


def _take_in(model: Any, data: training_partitions.Data) -> None:
    """Make the model one of the rows and targets as they are in the table."""
    if data.description is not None and data.description.standardises:
        absorb(model, data.description)
        if model.network().dtype == np.float32 and (far := far_from_zero(data.description)):
            warnings.warn(f"column {far[0]!r} lies far from zero for its deviation, of which "
                          "float32 keeps few digits: --dtype float64", stacklevel=2)
    if data.targets is not None:
        absorb_targets(model, data.targets.mean, data.targets.scale)


def _files(args: argparse.Namespace) -> list[Path]:
    """The files to read, which are such as can be, and none of them the one to write."""
    check_suffix(args.out, (".safetensors",))
    files = input_files(args.data, training_table.SUFFIXES)
    for path in files:
        check_suffix(path, training_table.SUFFIXES)
    check_output(args.out, inputs=files)
    return files


def _read(args: argparse.Namespace, group: Group) -> training_partitions.Data:
    """What to train on, and what is kept aside.

    Of several files each of several processes reads its part; one file all read whole.
    """
    with group.together():
        files = _files(args)
        if group.ranks > 1 and args.window is not None:
            raise UnusableInput(f"--window {args.window}: each of {group.ranks} ranks has its part "
                                "of the rows in memory; leave --window out, or start nbbn train "
                                "without mpirun")
        streams = training_partitions.streams(files, args.window)
        if not streams:
            args.data = files[0]
            return _standardised(training_table.read(args), args)
    if group.ranks == 1:
        return training_partitions.read(files, args)
    return training_partitions.read_share(files, args, group)


def _fit_parts(model: Any, group: Group, data: training_partitions.Data) -> None:
    """Fit on this rank's part of the rows."""
    from nbbn.distributed import fit

    def part(array: np.ndarray) -> np.ndarray:
        first, end = (len(array) * (group.rank + k) // group.ranks for k in range(2))
        return array[first:end]

    parts: dict[str, Any] = {name: part(array) for name, array in data.aside.items()}
    x, y = (data.x, data.y) if data.shared else (part(data.x), part(data.y))
    fit(model, x, y, **parts)


def _standardised(rows: Rows, args: argparse.Namespace) -> training_partitions.Data:
    """Rows to train on and rows kept aside, standardised by the former."""
    x, y, aside = rows.x, rows.y, {}
    if args.validation > 0:
        x, x_val, y, y_val = training_table.split(x, y, args.validation, args.seed,
                                                  rows.regression)
        aside = {"X_val": x_val, "y_val": y_val}
    data = training_partitions.Data(x, y, len(x), rows.regression, rows.description, None,
                                    rows.notes, aside, len(aside.get("y_val", ())))
    if args.raw:
        return data
    description = with_moments(rows.description, Moments(x.shape[1]).add(x))
    scale = None
    if rows.regression:
        scale = TargetScale.of_targets(y)
        y = scale.applied(y)
        aside = {name: scale.applied(a) if name == "y_val" else a for name, a in aside.items()}
    aside = {name: standardised(a, description) if name == "X_val" else a
             for name, a in aside.items()}
    return replace(data, x=standardised(x, description), y=y, aside=aside, description=description,
                   targets=scale)


def _score(model: Any, data: training_partitions.Data) -> dict[str, Any] | None:
    """The score on the rows kept aside; None for none."""
    if not data.aside:
        return None
    value = float(model.score(data.aside["X_val"], data.aside["y_val"]))
    return {"name": "R2" if data.regression else "accuracy", "rows": data.kept_aside,
            "value": value if math.isfinite(value) else None}


def _shown(score: dict[str, Any] | None) -> str:
    """What to say of it."""
    if score is None:
        return ""
    value = math.nan if score["value"] is None else score["value"]
    return f", {score['name']} {value:.4f} on the {score['rows']:,} rows kept aside"
