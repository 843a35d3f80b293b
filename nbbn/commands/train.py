"""Train a classifier or regressor on tables, score it on rows kept aside, and save it.

Started as several processes, by `mpirun -n 8 nbbn train DATA OUT`, they train on a part each.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.commands import training_partitions, training_table
from nbbn.commands.arguments import add_network, count, share, threads_of
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_output, check_suffix, input_files, with_folder
from nbbn.commands.progress import epoch_bar
from nbbn.group import ALONE, Group


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn train`."""
    training_table.add_data(parser, several=True)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="the model file: .safetensors")
    add("--no-batch-norm", action="store_true", help="leave batch norm out")
    add("--validation", type=share, default=0.1, metavar="SHARE",
        help="of the rows, kept aside (0.1); of several files 64 MB of rows at most")  # fmt: skip
    add("--window", type=count, metavar="N",
        help="partitions in memory at a time: files, or pieces of 64 MB of Parquet files (4)")
    add_network(parser, epochs="20")


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

    kind = MLPRegressor if args.regression else MLPClassifier
    with group.together():
        data = _read(_files(args), args, kind(), group)
    epochs = args.epochs or 20
    start = time.perf_counter()
    with threads_of(args), epoch_bar("training", epochs) as show, warnings.catch_warnings():
        # The number of epochs was chosen; that more would help is no news.
        warnings.filterwarnings("ignore", message="Stochastic Optimizer")
        model = kind(
            hidden_layer_sizes=args.hidden, activation=args.activation,
            batch_size=min(args.batch_size, data.rows), max_iter=epochs,
            learning_rate_init=args.learning_rate, random_state=args.seed,
            batch_norm=not args.no_batch_norm, tol=0.0, n_iter_no_change=epochs, callbacks=[show],
        )  # fmt: skip
        if group.ranks == 1:
            model.fit(data.x, data.y, **data.aside)
        else:
            _fit_parts(model, group, data)
    if group.rank > 0:
        return
    model.save(with_folder(args.out))
    seconds = time.perf_counter() - start
    ranks = f" on {group.ranks} ranks" if group.ranks > 1 else ""
    print(f"{epochs} epochs on {data.rows:,} rows of {model.n_features_in_} columns"
          f"{data.where}{ranks} in {seconds:.1f} s")
    print(f"training loss {model.loss_:.6g}{_score(model, data, args.regression)}")
    print(f"written to {args.out}")


def _files(args: argparse.Namespace) -> list[Path]:
    """The files to read, which are such as can be, and none of them the one to write."""
    check_suffix(args.out, (".safetensors",))
    files = input_files(args.data, training_table.SUFFIXES)
    for path in files:
        check_suffix(path, training_table.SUFFIXES)
    check_output(args.out, inputs=files)
    return files


def _read(files: list[Path], args: argparse.Namespace, model: Any,
          group: Group) -> training_partitions.Data:
    """What to train on, and what is kept aside; several processes all read the whole."""
    if group.ranks > 1 and (len(files) > 1 or args.window is not None):
        given = f"{len(files)} files" if len(files) > 1 else f"--window {args.window}"
        raise UnusableInput(f"{group.ranks} ranks train on one file, which each of them reads "
                            f"whole, got {given}: start nbbn train without mpirun, or let each "
                            "rank give its own rows to nbbn.distributed.fit, in Python")
    if group.ranks == 1 and training_partitions.streams(files, args.window):
        return training_partitions.read(files, args, model)
    args.data = files[0]
    return _keep_aside(*training_table.read(args), args)


def _fit_parts(model: Any, group: Group, data: training_partitions.Data) -> None:
    """Fit on this rank's part of the rows, which all have read."""
    from nbbn.distributed import fit

    def part(array: np.ndarray) -> np.ndarray:
        first, end = (len(array) * (group.rank + k) // group.ranks for k in range(2))
        return array[first:end]

    parts: dict[str, Any] = {name: part(array) for name, array in data.aside.items()}
    fit(model, part(data.x), part(data.y), **parts)


def _keep_aside(x: np.ndarray, y: np.ndarray,
                args: argparse.Namespace) -> training_partitions.Data:
    """Rows to train on, their targets, and the others as keyword arguments of `fit`."""
    if args.validation == 0:
        return training_partitions.Data(x, y, len(x))
    x, x_val, y, y_val = training_table.split(x, y, args.validation, args.seed, args.regression)
    return training_partitions.Data(x, y, len(x), {"X_val": x_val, "y_val": y_val}, len(x_val))


def _score(model: Any, data: training_partitions.Data, regression: bool) -> str:
    """What to say about the rows kept aside."""
    if not data.aside:
        return ""
    name = "R2" if regression else "accuracy"
    score = model.score(data.aside["X_val"], data.aside["y_val"])
    return f", {name} {score:.4f} on the {data.kept_aside:,} rows kept aside"
