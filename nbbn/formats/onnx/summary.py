"""What there is to show of an ONNX graph: its nodes, their parameters, its batch norms."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nbbn.fold.report import norm_figures
from nbbn.formats.files import FileError
from nbbn.formats.onnx.file import from_file
from nbbn.formats.onnx.fold_graph import graph_of, looked_through
from nbbn.formats.onnx.graph import OnnxGraph, OnnxNode


def summary(path: Path) -> dict[str, Any]:
    """Inputs, outputs, parameters, layers and batch norms of an ONNX file of any form, JSON-ready.

    Weights are read one at a time. Raises FileError for a missing, damaged or foreign file.
    """
    try:
        source = looked_through(from_file(Path(path)))
        graph, places = graph_of(source)
        layers = [_layer(source.nodes[places[name].node], name, source) for name in graph.nodes]
        at = {name: i for i, name in enumerate(graph.nodes)}
        return {
            "inputs": {value.name: source.shape(value.name) for value in source.proto.input},
            "outputs": {value.name: source.shape(value.name) for value in source.proto.output},
            "parameters": sum(layer["parameters"] for layer in layers),
            "layers": [{"index": i, **layer} for i, layer in enumerate(layers)],
            "batch_norms": [
                {
                    "layer": at[norm.name], "name": norm.name, "axis": norm.axis,
                    **norm_figures(norm.var, norm.affine.gain, norm.epsilon),
                }
                for norm in graph.norms()
                if norm.affine is not None and norm.var is not None
            ],
        }
    except FileError:
        raise
    except ValueError as err:  # what is wrong with the model is wrong with the file
        raise FileError(f"{path}: {err}") from err


def _layer(node: OnnxNode, name: str, source: OnnxGraph) -> dict[str, Any]:
    constants = (source.constant(read) for read in node.inputs if read)
    shape = source.shape(node.output) if node.outputs else None
    return {
        "kind": node.operator, "name": name, "activation": None,
        "output_shape": None if shape is None else shape[1:],
        "parameters": sum(math.prod(c.dims) for c in constants if c is not None),
    }
