"""Train nbbn's network with and without batch norm, scikit-learn's and simple models on one table.

All get the same rows on the same splits, encoded as nbbn train encodes them; columns, and targets
of a regression, are standardised by the mean and the deviation of the training rows.
"""

from __future__ import annotations

import argparse
import json
import pickle
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from nbbn.commands import training_table
from nbbn.commands.arguments import add_network, count, share, threads_of
from nbbn.commands.errors import UnusableInput
from nbbn.commands.progress import fraction_bar
from nbbn.tables.learning import Rows, TargetScale, with_moments
from nbbn.tables.moments import Moments
from nbbn.tables.standard import standardised
from nbbn.tables.survey import check_classes
from nbbn.terminal import console

# Rows of a prediction that is timed are repeated up to so many, which spreads a call's own cost;
# and it is timed so many times.
_TIMED_ROWS, _TIMINGS = 1000, 5


EXAMPLES = (
    "compare table.csv --splits 5",
    "compare table.csv --target price --regression --epochs 100 --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn compare`."""
    training_table.add_data(parser)
    add = parser.add_argument
    add("--validation", type=share, default=0.2, metavar="SHARE",
        help="of the rows, kept aside (0.2)")  # fmt: skip
    add("--splits", type=count, default=1, metavar="N", help="random splits to average over (1)")
    add("--json", action="store_true", help="as JSON, each split's figures included")
    add_network(parser, epochs="20")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn compare`."""
    if args.validation == 0:
        raise UnusableInput("--validation must be above 0: "
                            "the models are compared on rows kept aside")
    rows = training_table.read(args)
    if not rows.regression and rows.y.ndim == 1:
        check_classes(rows.y, rows.description.target.name)
    contestants = _contestants(args, rows.regression)
    results = [Result(name) for name, _ in contestants]
    with threads_of(args), fraction_bar("comparing") as show:
        for k in range(args.splits):
            data = _split(rows, args, args.seed + k)
            for i, (result, (_, make)) in enumerate(zip(results, contestants)):
                _measure(result, make(args.seed + k), *data)
                show((k * len(results) + i + 1) / (args.splits * len(results)))
    if args.json:
        shown = [vars(result) for result in results]
        columns = len(rows.description.columns)
        print(json.dumps({"rows": len(rows.x), "columns": columns, "notes": rows.notes,
                          "models": shown}, indent=2))
        return
    for note in rows.notes:
        print(note)
    print(f"{len(rows.x):,} rows of {_columns(rows)}, {args.validation:g} of them kept aside, "
          f"{args.splits} split(s)")
    console().print(_table(results, "R2" if rows.regression else "accuracy"))


def _columns(rows: Rows) -> str:
    given, width = len(rows.description.columns), rows.x.shape[1]
    return f"{given} columns" + (f", as {width} of numbers" if width != given else "")


@dataclass
class Result:
    """What was measured of one model, a number a split."""

    name: str
    scores: list[float] = field(default_factory=list)  # accuracy or R2
    fit_seconds: list[float] = field(default_factory=list)
    row_seconds: list[float] = field(default_factory=list)  # of a prediction, by row
    # Bytes: of nbbn's folded model as a file, of others pickled.
    sizes: list[int] = field(default_factory=list)


def _contestants(args: argparse.Namespace,
                 regression: bool) -> list[tuple[str, Callable[[int], Any]]]:
    """Names, and functions of a seed that make the models."""
    from sklearn import neural_network
    from sklearn.dummy import DummyClassifier, DummyRegressor
    from sklearn.linear_model import LogisticRegression, Ridge

    from nbbn.estimators import MLPClassifier, MLPRegressor

    epochs = args.epochs or 20
    common = {
        "hidden_layer_sizes": args.hidden, "activation": args.activation, "max_iter": epochs,
        "learning_rate_init": args.learning_rate, "batch_size": args.batch_size,
        "n_iter_no_change": epochs, "tol": 0.0,
    }  # fmt: skip
    ours: Any
    simple: list[tuple[str, Callable[[int], Any]]]
    if regression:
        ours, theirs = MLPRegressor, neural_network.MLPRegressor
        simple = [
            ("ridge regression", lambda seed: Ridge()),
            ("mean", lambda seed: DummyRegressor()),
        ]
    else:
        ours, theirs = MLPClassifier, neural_network.MLPClassifier
        simple = [
            ("logistic regression", lambda seed: LogisticRegression(max_iter=1000)),
            ("most frequent class", lambda seed: DummyClassifier()),
        ]
    return [
        ("nbbn, batch norm", lambda seed: ours(**common, random_state=seed)),
        ("nbbn, no batch norm", lambda seed: ours(**common, random_state=seed, batch_norm=False)),
        ("scikit-learn MLP", lambda seed: theirs(**common, random_state=seed)),
        *simple,
    ]


def _split(rows: Rows, args: argparse.Namespace, seed: int) -> tuple[np.ndarray, ...]:
    """Training rows and those kept aside, with their targets."""
    x_train, x_test, y_train, y_test = training_table.split(
        rows.x, rows.y, args.validation, seed, rows.regression
    )
    if len(x_train) < 2:
        raise UnusableInput(f"{args.data}: {len(x_train)} row to train on is too few")
    if not args.raw:
        moments = Moments(x_train.shape[1]).add(x_train)
        description = with_moments(rows.description, moments)
        x_train, x_test = (standardised(x, description) for x in (x_train, x_test))
        if rows.regression:
            scale = TargetScale.of_targets(y_train)
            y_train, y_test = scale.applied(y_train), scale.applied(y_test)
    return x_train, x_test, y_train, y_test


def _measure(result: Result, model: Any, x_train: np.ndarray, x_test: np.ndarray,
             y_train: np.ndarray, y_test: np.ndarray) -> None:
    from sklearn.base import clone

    if getattr(model, "batch_size", 0):
        model.batch_size = min(model.batch_size, len(x_train))
    with warnings.catch_warnings():
        # The number of epochs was chosen; that more would help is no news.
        warnings.filterwarnings("ignore", message="Stochastic Optimizer|lbfgs failed")
        if hasattr(model, "fold") and not result.scores:
            # What a process compiles or loads once is not timed.
            clone(model).set_params(max_iter=1).fit(x_train, y_train)
        start = time.perf_counter()
        model.fit(x_train, y_train)
    result.fit_seconds.append(time.perf_counter() - start)
    result.scores.append(float(model.score(x_test, y_test)))
    served = model.fold() if hasattr(model, "fold") else model
    result.sizes.append(_size(served))
    result.row_seconds.append(_seconds_a_row(served.predict, x_test))


def _size(model: Any) -> int:
    """Bytes that are kept to predict with."""
    if not hasattr(model, "save"):
        return len(pickle.dumps(model))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        return path.stat().st_size


def _seconds_a_row(predict: Callable[[np.ndarray], object], x: np.ndarray) -> float:
    rows = np.resize(x, (max(_TIMED_ROWS, len(x)), x.shape[1]))
    times = []
    predict(rows)
    for _ in range(_TIMINGS):
        start = time.perf_counter()
        predict(rows)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / len(rows)


def _table(results: list[Result], score: str) -> Table:
    """The results, the best score first."""
    table = Table("model", score, "fit, s", "size, bytes", "predict, us a row")
    for column in table.columns[1:]:
        column.justify = "right"
    for r in sorted(results, key=lambda r: -np.mean(r.scores)):
        spread = f" +- {np.std(r.scores):.4f}" if len(r.scores) > 1 else ""
        table.add_row(r.name, f"{np.mean(r.scores):.4f}{spread}", f"{np.mean(r.fit_seconds):.3g}",
                      f"{round(float(np.mean(r.sizes))):,}", f"{1e6 * np.mean(r.row_seconds):.3g}")
    return table
