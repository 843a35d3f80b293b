"""Fold the batch norms of a model file into its weights, check the result on numbers, and save it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nbbn.commands import models, tables
from nbbn.commands.files import check_output, check_suffix, whole_file

HELP = "fold the batch norms of a model file into its weights"
_OUT = (".safetensors", ".onnx", ".c")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn fold`."""
    parser.add_argument("model", type=Path, metavar="IN", help=models.HELP)
    parser.add_argument(
        "out", type=Path, metavar="OUT", help="the folded model: .safetensors, .onnx (extra onnx) or .c (C99 source)"
    )
    parser.add_argument("--strict", action="store_true", help="fail (status 1) unless every batch norm can be folded")
    parser.add_argument("--check", type=Path, metavar="X", help="rows to compare both models on, besides random ones")
    parser.add_argument("--report", choices=("text", "json"), default="text", help="how to print the report (text)")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn fold`."""
    check_suffix(args.out, _OUT)
    check_output(args.out, inputs=[path for path in (args.model, args.check) if path])
    rows = None if args.check is None else tables.read_rows(args.check)
    if args.model.suffix.lower() == args.out.suffix.lower() == ".onnx":
        report = _fold_graph(args, rows)
    else:
        report = _fold_model(args, rows)
    if args.report == "json":
        print(json.dumps({**report.to_dict(), "out": str(args.out)}, indent=2))
    else:
        print(f"{report}\nwritten to {args.out}")


def _fold_graph(args: argparse.Namespace, rows):
    """ONNX to ONNX: what the graph holds besides stays as it is."""
    from nbbn.interop.onnx_fold.folding import fold_onnx_file

    with whole_file(args.out) as part:
        return fold_onnx_file(args.model, part, strict=args.strict, check=rows)


def _fold_model(args: argparse.Namespace, rows):
    import nbbn

    model = models.open_model(args.model)
    if rows is not None:
        rows = models.rows_for(models.network_of(model).input_shape, rows)
    folded = nbbn.fold(model, strict=args.strict, check=rows)
    with whole_file(args.out) as part:
        if part.suffix.lower() == ".c":
            from nbbn.formats.csource import name_for

            folded.to_c(part, name=name_for(args.out))
        elif part.suffix.lower() == ".onnx":
            folded.to_onnx(part)
        else:
            folded.save(part)
    return folded.report
