"""Train a classifier or regressor on a table, score it on rows kept aside, and save it.

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

from nbbn.commands import training_table
from nbbn.commands.arguments import add_network, share, threads_of
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_output, check_suffix, with_folder
from nbbn.commands.progress import epoch_bar
from nbbn.group import ALONE, Group


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn train`."""
    training_table.add_data(parser)
    add = parser.add_argument
    add("out", type=Path, metavar="OUT", help="the model file: .safetensors")
    add("--no-batch-norm", action="store_true", help="leave batch norm out")
    add("--validation", type=share, default=0.1, metavar="SHARE",
        help="of the rows, kept aside (0.1)")  # fmt: skip
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

    with group.together():
        check_suffix(args.out, (".safetensors",))
        check_output(args.out, inputs=[args.data])
        x, y, held = _keep_aside(*training_table.read(args), args)
    epochs = args.epochs or 20
    kind = MLPRegressor if args.regression else MLPClassifier
    start = time.perf_counter()
    with threads_of(args), epoch_bar("training", epochs) as show, warnings.catch_warnings():
        # The number of epochs was chosen; that more would help is no news.
        warnings.filterwarnings("ignore", message="Stochastic Optimizer")
        model = kind(
            hidden_layer_sizes=args.hidden, activation=args.activation,
            batch_size=min(args.batch_size, len(x)), max_iter=epochs,
            learning_rate_init=args.learning_rate, random_state=args.seed,
            batch_norm=not args.no_batch_norm, tol=0.0, n_iter_no_change=epochs, callbacks=[show],
        )  # fmt: skip
        if group.ranks == 1:
            model.fit(x, y, **held)
        else:
            _fit_parts(model, group, x, y, held)
    if group.rank > 0:
        return
    model.save(with_folder(args.out))
    seconds = time.perf_counter() - start
    ranks = f" on {group.ranks} ranks" if group.ranks > 1 else ""
    print(f"{epochs} epochs on {len(x):,} rows of {x.shape[1]} columns{ranks} in {seconds:.1f} s")
    print(f"training loss {model.loss_:.6g}{_score(model, held, args.regression)}")
    print(f"written to {args.out}")


def _fit_parts(model: Any, group: Group, x: np.ndarray, y: np.ndarray,
               held: dict[str, np.ndarray]) -> None:
    """Fit on this rank's part of the rows, which all have read."""
    from nbbn.distributed import fit

    def part(array: np.ndarray) -> np.ndarray:
        first, end = (len(array) * (group.rank + k) // group.ranks for k in range(2))
        return array[first:end]

    parts: dict[str, Any] = {name: part(array) for name, array in held.items()}
    fit(model, part(x), part(y), **parts)


def _keep_aside(x: np.ndarray, y: np.ndarray,
                args: argparse.Namespace) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Rows to train on, their targets, and the others as keyword arguments of `fit`."""
    if args.validation == 0:
        return x, y, {}
    x, x_val, y, y_val = training_table.split(x, y, args.validation, args.seed, args.regression)
    return x, y, {"X_val": x_val, "y_val": y_val}


def _score(model: Any, held: dict[str, np.ndarray], regression: bool) -> str:
    """What to say about the rows kept aside."""
    if not held:
        return ""
    name = "R2" if regression else "accuracy"
    score = model.score(held["X_val"], held["y_val"])
    return f", {name} {score:.4f} on the {len(held['y_val']):,} rows kept aside"
