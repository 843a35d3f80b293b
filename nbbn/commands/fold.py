"""Fold the batch norms of a saved model into its weights, check the result on numbers, and save it."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from nbbn.commands import tables
from nbbn.commands.files import check_output, check_suffix, whole_file

HELP = "fold the batch norms of a saved model into its weights"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn fold`."""
    parser.add_argument("model", type=Path, metavar="IN", help="a model file that nbbn saved")
    parser.add_argument("out", type=Path, metavar="OUT", help="the folded model: .safetensors, or .onnx (extra onnx)")
    parser.add_argument("--strict", action="store_true", help="fail (status 1) unless every batch norm can be folded")
    parser.add_argument("--check", type=Path, metavar="X", help="rows (.npy, .csv) to compare both models on as well")
    parser.add_argument("--report", choices=("text", "json"), default="text", help="how to print the report (text)")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn fold`."""
    import nbbn

    check_suffix(args.out, (".safetensors", ".onnx"))
    check_output(args.out, inputs=[path for path in (args.model, args.check) if path])
    model = nbbn.load(args.model)
    rows = None if args.check is None else tables.read_rows(args.check)
    folded = nbbn.fold(model, strict=args.strict, check=rows)
    with whole_file(args.out) as part:
        (folded.to_onnx if part.suffix.lower() == ".onnx" else folded.save)(part)
    if args.report == "json":
        print(json.dumps({**folded.report.to_dict(), "out": str(args.out)}, indent=2))
    else:
        print(f"{folded.report}\nwritten to {args.out}")
