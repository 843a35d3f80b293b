"""Train a network with and without batch norm, compare, fold the norms away, time, draw curves."""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nbbn.commands.arguments import add_network, threads_of
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_folder, with_folder
from nbbn.commands.progress import epoch_bar
from nbbn.formats.files import write_whole
from nbbn.runtime import get_num_threads
from nbbn.terminal import console
from nbbn.version import __version__

if TYPE_CHECKING:
    from nbbn.commands.demo.datasets import Images
    from nbbn.commands.demo.training import Run
    from nbbn.folded_model import FoldedModel

EXAMPLES = (
    "demo",
    "demo --data mnist.npz --epochs 4 --output figures",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn demo`."""
    add = parser.add_argument
    add("--data", type=Path, metavar="PATH",
        help="an mnist.npz in Keras's layout (default: small digits)")  # fmt: skip
    add("--output", type=Path, default=Path("nbbn-demo"), metavar="FOLDER",
        help="for the files (nbbn-demo)")  # fmt: skip
    add_network(parser, epochs="20 on the small digits, else 10")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn demo`."""
    from nbbn.commands.demo import datasets, tables, timing

    check_folder(args.output)
    images = datasets.digits(args.seed) if args.data is None else datasets.mnist(args.data)
    rows, pixels = images.x_train.shape
    if rows < 2 or args.batch_size < 2:
        raise UnusableInput(
            "batch norm needs at least 2 rows to train on and a --batch-size of at least 2"
        )
    out, tests = console(), len(images.x_test)
    params = _parameters(args, rows)
    layers = " - ".join(map(str, (pixels, *args.hidden, len(np.unique(images.y_train)))))
    out.print(f"{images.name}: {rows:,} images to train on, {tests:,} to validate and test on")
    out.print(f"network: {layers}, {args.activation}, Adam, batches of {params['batch_size']}, "
              f"{params['max_iter']} epochs")
    out.print("getting the kernels ready (the first run compiles them, later runs find them)")
    with threads_of(args):
        runs = _train(images, params)
        out.print(tables.epochs(runs))
        model = runs[0].model
        folded = model.fold(check=images.x_test)
        out.print(f"fold, checked on the {tests:,} test images besides random rows:")
        out.print(tables.folds(folded.report))
        for line in folded.report.remarks():
            out.print(line, markup=False, soft_wrap=True)
        times = timing.folded_against_unfolded(model, folded, images.x_test)
    out.print(tables.inference(times))
    title = f"{images.name}: {layers}, {args.activation}, with and without batch norm"
    results = _results(args, images, layers, runs, folded, times)
    written = _write(args.output, runs, folded, title, results)
    out.print("written:")
    for path in written:  # a line each, so that a double click takes it
        out.print(str(path), markup=False, soft_wrap=True)
    names = [str(args.output / name) for name in ("model.safetensors", "folded.safetensors")]
    out.print(f"next: {args.program} verify {' '.join(names)}", soft_wrap=True)


def _parameters(args: argparse.Namespace, rows: int) -> dict[str, Any]:
    """The parameters that both estimators share."""
    epochs = args.epochs or (20 if args.data is None else 10)
    return {
        "hidden_layer_sizes": args.hidden, "activation": args.activation,
        "learning_rate_init": args.learning_rate, "batch_size": min(args.batch_size, rows),
        "max_iter": epochs, "random_state": args.seed, "alpha": 0.0,
        # Every epoch is run: the comparison is epoch by epoch.
        "tol": 0.0, "n_iter_no_change": epochs,
    }  # fmt: skip


def _train(images: Images, params: dict[str, Any]) -> list[Run]:
    from nbbn.commands.demo import training

    training.compile_kernels(images, **params)
    runs = []
    for name, batch_norm in (("with batch norm", True), ("without", False)):
        with epoch_bar(name, params["max_iter"]) as show:
            runs.append(training.train(name, batch_norm, images, show, **params))
    return runs


def _results(args: argparse.Namespace, images: Images, layers: str, runs: list[Run],
             folded: FoldedModel, times: list[dict]) -> dict[str, Any]:
    """All figures, JSON-ready."""
    import numba

    accuracy = float((folded.predict(images.x_test) == images.y_test).mean())
    return {
        "data": {"name": images.name, "training_rows": len(images.x_train),
                 "test_rows": len(images.x_test)},
        "network": {"layers": layers, "activation": args.activation},
        "settings": {"batch_size": args.batch_size, "learning_rate": args.learning_rate,
                     "seed": args.seed},
        "machine": {"processor": platform.machine(),
                    "threads": args.threads or get_num_threads()},
        "versions": {"nbbn": __version__, "numba": numba.__version__, "numpy": np.__version__,
                     "python": platform.python_version()},
        "runs": {run.name: {"total_seconds": run.total, **run.curves()} for run in runs},
        "fold": {"test_accuracy": accuracy, **folded.report.to_dict()},
        "predict_proba_seconds": times,
    }  # fmt: skip


def _write(folder: Path, runs: list[Run], folded: FoldedModel, title: str,
           results: dict[str, Any]) -> list[Path]:
    """Write models, figures and the picture; return the files."""
    from nbbn.commands.demo.picture import draw

    text = json.dumps(results, indent=2) + "\n"
    writers: dict[str, Callable[[Path], None]] = {
        "model.safetensors": runs[0].model.save,
        "folded.safetensors": folded.save,
        "results.json": lambda path: write_whole(path, text.encode()),
        "curves.png": lambda path: draw(path, runs, title),
    }
    written = []
    for name, write in writers.items():
        try:
            write(with_folder(folder / name))
            written.append(folder / name)
        except ImportError as error:
            console().print(f"no picture: {error}; to get it: python -m pip install matplotlib",
                            soft_wrap=True)
    return written
