"""Gather as layers: rows of a table, and one of several numbers of a row."""

from __future__ import annotations

import numpy as np

from nbbn import layers
from nbbn.formats.onnx.builder import Args, NetworkBuilder
from nbbn.formats.onnx.graph import OnnxNode
from nbbn.formats.onnx.read_images import cut
from nbbn.formats.onnx.read_shapes import without_axis


def gather(net: NetworkBuilder, node: OnnxNode, args: Args) -> None:
    """An Embedding, where a constant is picked from; else a part of rows."""
    if args[0] is not None:
        _embedding(net, node, args[0])
    else:
        _picked(net, node, args[1])


def _embedding(net: NetworkBuilder, node: OnnxNode, table: np.ndarray) -> None:
    if node.attributes.get("axis", 0) not in (0, -table.ndim) or table.dtype.kind != "f":
        raise node.refuse("picks from a constant by rows, but not whole rows of a table of floats")
    if table.ndim not in (1, 2) or not table.size or net.order is not None:
        raise node.refuse(f"picks from a constant of shape {table.shape}; an Embedding is a table "
                          "of two axes")
    alone, before = not net.perm, net.shape
    net.add(layers.Embedding(table.shape[0], table.size // table.shape[0]),
            embeddings=table.reshape(len(table), -1))
    net.dtype = table.dtype
    if table.ndim == 1:
        net.add(layers.Reshape(before))
    elif alone:
        net.add(layers.Flatten())
        net.perm = (0,)
    else:
        net.perm = (*net.perm, len(before))


def _picked(net: NetworkBuilder, node: OnnxNode, indices: np.ndarray | None) -> None:
    """Neighbours along an axis, or a single one, whose axis goes."""
    axis = node.attributes.get("axis", 0)
    if indices is None or indices.dtype.kind != "i" or indices.ndim > 1 or not indices.size:
        raise node.refuse("picks by what is no constant of whole numbers")
    n = net.shape[net.own_axis(axis)]
    places = [int(k) + n if k < 0 else int(k) for k in indices.reshape(-1)]
    if places != list(range(places[0], places[0] + len(places))):
        raise node.refuse(f"picks {places[:5]} of an axis of {n}, which are no neighbours")
    cut(net, node, axis, places[0], places[-1] + 1)
    if indices.ndim == 0:
        without_axis(net, node, axis)
