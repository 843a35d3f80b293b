"""Train a classifier or regressor on a table, score it on rows kept aside, and save it."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.commands import training_table
from nbbn.commands.arguments import add_network, share, threads_of
from nbbn.commands.files import check_output, check_suffix, with_folder
from nbbn.commands.progress import epoch_bar


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
    from nbbn.estimators import MLPClassifier, MLPRegressor

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
        ).fit(x, y, **held)  # fmt: skip
    model.save(with_folder(args.out))
    seconds = time.perf_counter() - start
    print(f"{epochs} epochs on {len(x):,} rows of {x.shape[1]} columns in {seconds:.1f} s")
    print(f"training loss {model.loss_:.6g}{_score(model, held, args.regression)}")
    print(f"written to {args.out}")


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
