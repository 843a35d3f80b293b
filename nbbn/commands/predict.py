"""Predict for the rows of files, in chunks: memory does not grow with them."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from nbbn import interop
from nbbn.commands import models, tables, writers
from nbbn.commands.arguments import add_threads, threads_of
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_output, check_suffix, input_files, with_folder
from nbbn.commands.parquet import ParquetWriter
from nbbn.commands.progress import fraction_bar
from nbbn.formats.files import one_line, whole_file
from nbbn.tables import stored

EXAMPLES = (
    "predict model.safetensors new.csv out.csv",
    "predict model.safetensors new.parquet - --proba",
    "predict model.safetensors 'data/*.csv' out.parquet",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn predict`."""
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help=models.HELP)
    add("rows", nargs="+", metavar="IN",
        help="rows: .npy, .csv, .tsv (a line of names may come first) or .parquet; several files, "
             "a folder or a quoted pattern: all of them, in this order")  # fmt: skip
    add("out", metavar="OUT",
        help="predictions, in any of these formats; - writes CSV to standard output")  # fmt: skip
    add("--proba", action="store_true", help="probabilities of the classes instead of the class")
    add_threads(parser)


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn predict`."""
    files = input_files(args.rows, tables.SUFFIXES)
    if args.out != "-":
        check_suffix(Path(args.out), tables.SUFFIXES)
        check_output(Path(args.out), inputs=[args.model, *files])
    model: Any = interop.open_model(args.model)
    shape = models.network_of(model).input_shape
    classes = getattr(model, "classes_", None)
    if args.proba and classes is None:
        raise UnusableInput(f"{args.model} is no classifier: "
                            "it has no classes to give probabilities of")
    own = model.predict_proba if args.proba else model.predict

    def predict(path: Path, rows: np.ndarray) -> np.ndarray:
        try:
            return models.joined(own(models.rows_for(shape, rows)))
        except ValueError as err:
            if len(files) == 1:
                raise
            raise UnusableInput(f"{path}: {err}") from err

    description, unexpected = stored.description_of(args.model), set[str]()
    if description is None:
        chunks = tables.read_many(files, list(getattr(model, "feature_names_in_", [])) or None)
    else:
        chunks = tables.read_described(files, description, unexpected)
    with threads_of(args), fraction_bar("predicting") as show:
        # The first chunk is predicted before OUT is opened: a file that does not fit the model
        # leaves no folder behind.
        path, first, fraction = next(chunks)
        predictions = predict(path, first)
        names = _names(classes, predictions, args.proba)
        # Labels of Python objects are written as text, as wide as the longest of them.
        text = predictions.dtype == object
        dtype = np.asarray(classes, str).dtype if text else predictions.dtype
        rows = 0
        with _writer(args.out, names) as out:
            while True:
                out.write(predictions.astype(dtype, copy=False))
                rows += len(predictions)
                show(fraction)
                chunk = next(chunks, None)
                if chunk is None:
                    break
                predictions, fraction = predict(*chunk[:2]), chunk[2]
    for name in sorted(unexpected):
        warnings.warn(f"column {one_line(name, 60)} has missing cells, and had none in training: "
                      "its mean, or no category, stands for them", stacklevel=2)
    if args.out != "-":
        print(f"{rows} rows predicted, written to {args.out}")


def _names(classes: np.ndarray | None, predictions: np.ndarray, proba: bool) -> list[str]:
    """The columns' names."""
    if proba and classes is not None:
        return [f"probability of {label}" for label in classes]
    kind = "prediction" if classes is None else "class"
    count = int(np.prod(predictions.shape[1:]))
    return [kind] if predictions.ndim == 1 else [f"{kind} {i}" for i in range(count)]


@contextmanager
def _writer(out: str, names: list[str]) -> Iterator[writers.Writer]:
    if out == "-":
        yield writers.TextWriter(sys.stdout, names, ",")
        return
    suffix = Path(out).suffix.lower()
    with whole_file(with_folder(Path(out))) as part:
        if suffix == ".npy":
            with writers.NpyWriter(part) as npy:
                yield npy
        elif suffix == ".parquet":
            with ParquetWriter(part, names) as parquet:
                yield parquet
        else:
            with open(part, "w", encoding="utf-8", newline="") as file:
                yield writers.TextWriter(file, names, tables.DELIMITERS[suffix])
