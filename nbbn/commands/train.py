"""Train a classifier or regressor on tables, score it on rows kept aside, and save it."""

from __future__ import annotations

import argparse
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.commands import training_partitions, training_table
from nbbn.commands.arguments import add_network, count, share, threads_of
from nbbn.commands.files import check_output, check_suffix, input_files, with_folder
from nbbn.commands.progress import epoch_bar


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
    from nbbn.estimators import MLPClassifier, MLPRegressor

    check_suffix(args.out, (".safetensors",))
    files = input_files(args.data, training_table.SUFFIXES)
    for path in files:
        check_suffix(path, training_table.SUFFIXES)
    check_output(args.out, inputs=files)
    epochs = args.epochs or 20
    kind = MLPRegressor if args.regression else MLPClassifier
    streams = training_partitions.streams(files, args.window)
    if streams:
        data = training_partitions.read(files, args, kind())
    else:
        args.data = files[0]
        data = _keep_aside(*training_table.read(args), args)
    start = time.perf_counter()
    with threads_of(args), epoch_bar("training", epochs) as show, warnings.catch_warnings():
        # The number of epochs was chosen; that more would help is no news.
        warnings.filterwarnings("ignore", message="Stochastic Optimizer")
        model = kind(
            hidden_layer_sizes=args.hidden, activation=args.activation,
            batch_size=min(args.batch_size, data.rows), max_iter=epochs,
            learning_rate_init=args.learning_rate, random_state=args.seed,
            batch_norm=not args.no_batch_norm, tol=0.0, n_iter_no_change=epochs, callbacks=[show],
        ).fit(data.x, data.y, **data.aside)  # fmt: skip
    model.save(with_folder(args.out))
    seconds = time.perf_counter() - start
    print(f"{epochs} epochs on {data.rows:,} rows of {model.n_features_in_} columns"
          f"{data.where} in {seconds:.1f} s")
    print(f"training loss {model.loss_:.6g}{_score(model, data, args.regression)}")
    print(f"written to {args.out}")


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
