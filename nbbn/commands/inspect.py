"""Show a model file: its card and table, layers, parameters, batch norms.

Channels whose variance is suspicious are named.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from nbbn import interop
from nbbn.commands import models
from nbbn.fold.report import norm_figures
from nbbn.formats.files import FileError, one_line
from nbbn.layers import BatchNormalization, Layer
from nbbn.tables import stored
from nbbn.tables.description import Description
from nbbn.terminal import print_table

EXAMPLES = (
    "inspect model.safetensors",
    "inspect network.onnx --json",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn inspect`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help=models.HELP)
    parser.add_argument("--json", action="store_true", help="as JSON, all channels included")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn inspect`."""
    facts = _facts(args.model)
    if args.json:
        print(json.dumps(facts, indent=2))
        return
    print(_summary(facts))
    _print_card(facts)
    if facts.get("columns"):
        _print_columns(facts)
    _print_layers(facts["layers"])
    if facts["batch_norms"]:
        _print_norms(facts["batch_norms"])
    else:
        print("no batch norms")


def _facts(path: Path) -> dict:
    """All there is to show, JSON-ready."""
    try:
        return _model_facts(path, interop.open_model(path))
    except FileError:
        if path.suffix.lower() != ".onnx":
            raise
    # A graph that is no chain of layers, or a broken file, of which this says so.
    return _graph_facts(path)


def _graph_facts(path: Path) -> dict:
    from nbbn.formats.onnx.summary import summary

    facts = summary(path)
    size = path.stat().st_size
    return {"path": str(path), "bytes": size, "model": "ONNX graph", "classes": None, **facts}


def _model_facts(path: Path, model: Any) -> dict:
    network, classes = models.network_of(model), getattr(model, "classes_", None)
    description, card = stored.description_of(path), stored.card_of(path)
    own = list(enumerate(zip(network.layers, network.weights)))
    layers = [_layer(i, *each, after) for (i, each), (_, after) in zip(own, network.layer_shapes)]
    norms = [_norm(i, n, arrays) for i, (n, arrays) in own if isinstance(n, BatchNormalization)]
    return {
        "path": str(path), "bytes": path.stat().st_size, "model": type(model).__name__,
        "dtype": network.dtype.name, "input_shape": list(network.input_shape),
        "output_shape": list(network.output_shape),
        "parameters": sum(layer["parameters"] for layer in layers),
        "classes": None if classes is None else np.asarray(classes).tolist(), "layers": layers,
        "batch_norms": norms, **({} if description is None else _table_facts(description)),
        **({} if card is None else {"card": card}),
    }


def _table_facts(description: Description) -> dict:
    """The columns that the model takes, in order, each with what becomes of it."""
    encoded, columns, at = description.encoded_names(), [], 0
    for column in description.columns:
        width = len(column.parts()) + column.missing
        own = slice(at, at + width)
        columns.append({
            "name": column.name, "kind": column.kind, "missing": column.missing,
            "facts": column.facts(), "inputs": encoded[own],
            "mean": description.mean[own].tolist(), "scale": description.scale[own].tolist(),
        })
        at += width
    return {"target": description.target.name, "named": description.named, "columns": columns}


def _layer(i: int, layer: Layer, arrays: dict[str, np.ndarray], after: tuple[int, ...]) -> dict:
    config = layer.config()
    activation = config.get("activation")
    return {
        "index": i, "kind": config["layer"], "name": layer.name,
        "activation": None if activation == "linear" else activation, "output_shape": list(after),
        "parameters": sum(array.size for array in arrays.values()),
    }


def _norm(i: int, layer: BatchNormalization, arrays: dict[str, np.ndarray]) -> dict:
    var = arrays["var"].astype(np.float64)
    gain = arrays.get("gamma", 1.0) / np.sqrt(var + layer.epsilon)
    own = {"layer": i, "name": layer.name, "axis": layer.axis, "momentum": layer.momentum}
    return {**own, **norm_figures(var, gain, layer.epsilon)}


def _summary(facts: dict) -> str:
    if "inputs" in facts:
        ends = " to ".join(
            ", ".join(f"{name} {_shape(shape)}" for name, shape in facts[end].items())
            for end in ("inputs", "outputs")
        )
        return (
            f"{facts['path']}: {facts['model']}, {facts['bytes']:,} bytes\n"
            f"{ends}, {facts['parameters']:,} parameters"
        )
    shapes = (tuple(facts[name]) for name in ("input_shape", "output_shape"))
    lines = [
        f"{facts['path']}: {facts['model']}, {facts['dtype']}, {facts['bytes']:,} bytes",
        "rows of shape {} to outputs of shape {}, ".format(*shapes)
        + f"{facts['parameters']:,} parameters",
    ]
    if labels := facts["classes"]:
        shown = ", ".join(map(str, labels[:10])) + (", ..." if len(labels) > 10 else "")
        lines.append(f"{len(labels)} classes: {shown}")
    return "\n".join(lines)


def _shape(shape: list | None) -> str:
    """A shape; `?` for what is not known."""
    return "?" if shape is None else f"({', '.join('?' if n is None else str(n) for n in shape)})"


def _print_card(facts: dict) -> None:
    """When, on what and with what the model was made, and how good it was."""
    if not (card := facts.get("card")):
        return
    of = f" to predict {one_line(facts['target'], 60)!r}" if facts.get("target") else ""
    line, score = f"trained {card['trained']} on {card['rows']:,} rows{of}", card["score"]
    if score is not None and score["value"] is not None:
        line += f"; {score['name']} {score['value']:.4f} on {score['rows']:,} rows kept aside"
    print(line)
    print("by " + ", ".join(f"{name} {version}" for name, version in card["versions"].items()))


# Columns of a table that are printed; --json has all.
_MOST_COLUMNS = 50


def _print_columns(facts: dict) -> None:
    if not facts["named"] and all(column["kind"] == "number" for column in facts["columns"]):
        count = len(facts["columns"])
        print(f"{count} columns of numbers without names (--json: what standardises them)")
        return
    rows = []
    at = 0
    for column in facts["columns"]:
        width, last = len(column["inputs"]), at + len(column["inputs"]) - 1
        kind = column["kind"] + (", may be missing" if column["missing"] else "")
        what = column["facts"]
        if column["kind"] in ("number", "bool"):
            moments = f"mean {column['mean'][0]:.4g}, deviation {column['scale'][0]:.4g}"
            what = f"{moments}; {what}" if what else moments
        inputs = str(at) if width == 1 else f"{at} to {last}"
        rows.append((one_line(column["name"], 40), kind, inputs, what))
        at += width
    if more := len(rows) - _MOST_COLUMNS:
        rows = rows if more < 0 else [*rows[:_MOST_COLUMNS], (f"{more} more: --json", "", "", "")]
    title = "columns of the table, " + ("found by name" if facts["named"] else "in this order")
    print_table(title, ("column", "kind", "inputs", "what"), rows)


def _print_layers(layers: list[dict]) -> None:
    rows = []
    for layer in layers:
        kind, activation = layer["kind"], layer["activation"]
        shown = f"{kind} ({activation})" if activation else kind
        rows.append((str(layer["index"]), shown, _shape(layer["output_shape"]),
                     f"{layer['parameters']:,}"))
    print_table("layers", ("layer", "kind", "output", "parameters"), rows, right=[3])


def _print_norms(norms: list[dict]) -> None:
    columns = ("layer", "channels", "momentum", "epsilon", "variance", "largest gain", "suspicious")
    rows = []
    for norm in norms:
        momentum = norm.get("momentum", "-")
        rows.append((
            str(norm["layer"]), str(norm["channels"]),
            momentum if momentum == "-" else "mean" if momentum is None else f"{momentum:g}",
            f"{norm['epsilon']:g}",
            f"{norm['smallest_variance']:.3g} to {norm['largest_variance']:.3g}",
            f"{norm['largest_gain']:.4g}", _suspicious(norm["suspicious_channels"]),
        ))
    print_table("batch norms (suspicious: variance below epsilon)", columns, rows)


def _suspicious(channels: list[int]) -> str:
    shown = ", ".join(map(str, channels[:5])) + (", ..." if len(channels) > 5 else "")
    return f"{len(channels)} ({shown})" if channels else "none"
