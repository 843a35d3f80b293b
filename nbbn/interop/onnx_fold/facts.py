"""What there is to know of an ONNX graph, whatever its form: its nodes, their parameters, its batch norms."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from nbbn.fold.graph import Norm
from nbbn.formats.files import FileError
from nbbn.interop.onnx_fold.graph import graph_of
from nbbn.interop.onnx_fold.model import from_file
from nbbn.interop.onnx_fold.values import Values


def onnx_facts(path) -> dict:
    """The nodes and batch norms of an ONNX file, JSON-ready.

    Parameters
    ----------
    path : path-like
        Of a graph of any form; weights are read one at a time.

    Returns
    -------
    dict
        `inputs` and `outputs` (shape by name, None for sizes that are not fixed), `parameters`, `layers` and `batch_norms`.

    Raises
    ------
    FileError
        For a missing, damaged or foreign file.
    """
    try:
        values = Values(from_file(Path(path)))
        graph, places = graph_of(values)
        nodes = values.graph.node
        layers = [_layer(nodes[places[name].index], name, values) for name in graph.nodes]
        inner = {name: i for i, name in enumerate(graph.nodes)}
        return {
            "inputs": {value.name: values.shape(value.name) for value in values.graph.input},
            "outputs": {value.name: values.shape(value.name) for value in values.graph.output},
            "parameters": sum(layer["parameters"] for layer in layers),
            "layers": [{"index": i, **layer} for i, layer in enumerate(layers)],
            "batch_norms": [_norm(inner[norm.name], norm) for norm in graph.norms() if norm.affine is not None],
        }
    except FileError:
        raise
    except ValueError as err:  # what is wrong with the model is wrong with the file
        raise FileError(f"{path}: {err}") from err


def _layer(node, name: str, values: Values) -> dict:
    constants = (values.constant(read) for read in node.input if read)
    shape = values.shape(node.output[0]) if node.output else None
    return {
        "kind": node.op_type,
        "name": name,
        "activation": None,
        "output_shape": None if shape is None else shape[1:],
        "parameters": sum(math.prod(constant.dims) for constant in constants if constant is not None),
    }


def _norm(layer: int, norm: Norm) -> dict:
    return {
        "layer": layer,
        "name": norm.name,
        "axis": norm.axis,
        "channels": len(norm.var),
        "epsilon": norm.epsilon,
        "smallest_variance": float(norm.var.min()),
        "largest_variance": float(norm.var.max()),
        "largest_gain": float(np.abs(norm.affine.gain).max()),
        "suspicious_channels": np.flatnonzero(norm.var < norm.epsilon).tolist(),
    }
