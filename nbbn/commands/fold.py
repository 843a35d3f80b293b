"""Fold the batch norms of a model file into its weights, check the result on numbers, save it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from nbbn import interop, loading
from nbbn.commands import models, tables
from nbbn.commands.files import check_output, check_suffix, with_folder
from nbbn.fold import FoldReport
from nbbn.formats import WRITERS, native
from nbbn.tables import stored

_OUT = (native.SUFFIX, *WRITERS)


EXAMPLES = (
    "fold model.safetensors folded.safetensors",
    "fold network.keras network.onnx --strict",
    "fold model.safetensors model.c --check rows.csv",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn fold`."""
    *first, last = [native.SUFFIX, *(f"{name} ({row.what})" for name, row in WRITERS.items())]
    add = parser.add_argument
    add("model", type=Path, metavar="IN", help=models.HELP)
    add("out", type=Path, metavar="OUT", help=f"the folded model: {', '.join(first)} or {last}")
    add("--strict", action="store_true",
        help="fail (status 1) unless every batch norm can be folded")  # fmt: skip
    add("--check", type=Path, metavar="X",
        help="rows to compare both models on, besides random ones")  # fmt: skip
    add("--report", choices=("text", "json"), default="text", help="how to print the report (text)")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn fold`."""
    check_suffix(args.out, _OUT)
    check_output(args.out, inputs=[path for path in (args.model, args.check) if path])
    rows = None if args.check is None else \
        tables.read_rows(args.check, stored.description_of(args.model))
    if args.model.suffix.lower() == args.out.suffix.lower() == ".onnx":
        report = _fold_graph(args, rows)
    else:
        report = _fold_model(args, rows)
    if args.report == "json":
        print(json.dumps({**report.to_dict(), "out": str(args.out)}, indent=2))
    else:
        print(f"{report}\nwritten to {args.out}")
        _print_order(args)


def _print_order(args: argparse.Namespace) -> None:
    """What another format's file takes, which does not know the table."""
    description = stored.description_of(args.model)
    if description is None or args.out.suffix.lower() == native.SUFFIX:
        return
    what = "the table's columns" if description.plain else "columns of numbers made of the table's"
    print(f"{args.out} takes {len(description.encoded_names())} {what}, standardises them itself; "
          f"their order: nbbn inspect {args.model}")


def _fold_graph(args: argparse.Namespace, rows: np.ndarray | None) -> FoldReport:
    """ONNX to ONNX: what the graph holds besides stays as it is."""
    from nbbn.formats.onnx.fold import fold_onnx_file

    return fold_onnx_file(args.model, with_folder(args.out), strict=args.strict, check=rows)


def _fold_model(args: argparse.Namespace, rows: np.ndarray | None) -> FoldReport:
    model = interop.open_model(args.model)
    if rows is not None:
        rows = models.rows_for(models.network_of(model).input_shape, rows)
    folded = loading.fold(model, strict=args.strict, check=rows)
    if args.out.suffix.lower() == native.SUFFIX:
        stored.save_folded(with_folder(args.out), folded, args.model)
    else:
        folded.write(with_folder(args.out))
    return folded.report
