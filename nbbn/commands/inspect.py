"""Show a saved model: its layers, their parameters, and its batch norms with the channels whose variance is suspicious."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from rich.table import Table

from nbbn.commands.progress import console

HELP = "show the layers, parameters and batch norms of a saved model"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn inspect`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model file that nbbn saved")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn inspect`."""
    from nbbn.interop import native

    network, meta = native.load(args.model)
    out = console()
    out.print(_summary(args.model, network, meta), markup=False, soft_wrap=True)
    out.print(_layers(network))
    norms = [i for i, arrays in enumerate(network.weights) if "var" in arrays]
    if norms:
        out.print(_norms(network, norms))
    else:
        out.print("no batch norms")


def _summary(path, network, meta) -> str:
    parameters = sum(array.size for arrays in network.weights for array in arrays.values())
    lines = [
        f"{path}: {meta.get('model', 'network')}, {network.dtype}, {path.stat().st_size:,} bytes",
        f"rows of shape {network.input_shape} to outputs of shape {network.output_shape}, {parameters:,} parameters",
    ]
    labels = (meta.get("classes") or {}).get("values")
    if labels:
        shown = ", ".join(map(str, labels[:10])) + (", ..." if len(labels) > 10 else "")
        lines.append(f"{len(labels)} classes: {shown}")
    return "\n".join(lines)


def _layers(network) -> Table:
    table = Table("layer", "kind", "output", "parameters", title="layers", title_justify="left")
    table.columns[-1].justify = "right"
    for i, (layer, arrays) in enumerate(zip(network.layers, network.weights)):
        config = layer.config()
        detail = config.get("activation")
        kind = config["layer"] if detail in (None, "linear") else f"{config['layer']} ({detail})"
        count = sum(array.size for array in arrays.values())
        table.add_row(str(i), kind, str(network.shapes[i + 1]), f"{count:,}")
    return table


def _norms(network, norms) -> Table:
    title = "batch norms (suspicious: variance below epsilon)"
    table = Table(
        "layer", "channels", "epsilon", "variance", "largest gain", "suspicious", title=title, title_justify="left"
    )
    for i in norms:
        layer, arrays = network.layers[i], network.weights[i]
        var = arrays["var"].astype(np.float64)
        gain = np.abs(arrays.get("gamma", 1.0)) / np.sqrt(var + layer.epsilon)
        spread = f"{var.min():.3g} to {var.max():.3g}"
        suspicious = np.flatnonzero(var < layer.epsilon)
        shown = ", ".join(map(str, suspicious[:5])) + (", ..." if len(suspicious) > 5 else "")
        names = f"{len(suspicious)} ({shown})" if len(suspicious) else "none"
        table.add_row(str(i), str(len(var)), f"{layer.epsilon:g}", spread, f"{gain.max():.4g}", names)
    return table
