"""Rows of stored elements as a network's input: what its first dense layer reads then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbbn import operations as op
from nbbn.errors import LayerError
from nbbn.program.fusion import Node
from nbbn.program.layout import lanes, padded
from nbbn.program.lowering import Lowering, Result
from nbbn.program.program import Buffer, Segment
from nbbn.program.tensors import Tensor
from nbbn.program.weight_layouts import RowsLayout

_X = Buffer("X", Segment.X)
# The caller's `SparseRows`, and which of them the step takes.
_ROWS = {"values": _X, "columns": Buffer("x_columns", Segment.X_COLUMNS),
         "starts": Buffer("x_starts", Segment.X_STARTS), "order": Buffer("order", Segment.ORDER)}
# The step's elements by column.
_ENTRIES = {"entry_rows": Buffer("entry_rows", Segment.ENTRY_ROWS),
            "entries": Buffer("entries", Segment.ENTRIES)}


@dataclass(frozen=True)
class SparseTensor(Tensor):
    """The caller's rows of stored elements, which nobody makes dense.

    Attributes
    ----------
    ends : Buffer or None
        In training: where each column ends in the step's elements, sorted by column.
    """

    ends: Buffer | None = None


def reads_stored_elements(nodes: list[Node]) -> bool:
    """Whether rows of stored elements will do: a dense layer reads them, and nothing else."""
    readers = [node for node in nodes if -1 in node.sources]
    return (len(readers) == 1 and readers[0] is nodes[0] and not nodes[0].is_convolution
            and isinstance(nodes[0].operation, op.Dense))


def sparse_input(low: Lowering) -> SparseTensor:
    """The input; in training it is sorted by column, too, for the kernel's gradient."""
    if not reads_stored_elements(low.nodes):
        raise LayerError("rows of stored elements need a network that begins with a Dense layer")
    depth, ends = low.nodes[0].input_width, None
    if low.training:
        ends = low.program.buffer("column_ends", Segment.WORK, depth + 1, itemsize=8)
    x = SparseTensor(_X, 0, (depth,), depth, ends=ends)
    if low.training:
        sort_elements(low, x)
    return x


def sort_elements(low: Lowering, x: SparseTensor) -> None:
    """The elements of the rows at hand in the place of those of others, by column."""
    low.add("sort_by_column", **_ROWS, depth=x.width, ends=x.ends, **_ENTRIES)


def sparse_dense(low: Lowering, node: Node, x: SparseTensor) -> Result:
    """`z = x @ kernel + bias`."""
    z = low.tensor(f"z{node.index}", node.output_shape, kept=node.relu)
    low.add("sparse_dense_forward", **_ROWS, weights=low.block(node, "kernel"),
            bias=low.block(node, "bias"), relu=int(node.relu), z=z, panels=low.panels(z.width),
            **_weight_steps(low, node))
    return Result(z, x)


def _weight_steps(low: Lowering, node: Node) -> dict[str, int]:
    """How far apart the weights of two columns stand, and of two panels."""
    vector = lanes(low.dtype)
    if isinstance(low.parameters.of(node, "kernel").layout, RowsLayout):
        return {"weight_step": padded(node.width, low.dtype), "weight_panel": vector}
    return {"weight_step": vector, "weight_panel": padded(node.input_width, low.dtype) * vector}


def kernel_update(x: Tensor) -> tuple[str, dict[str, Any]]:
    """How a step on a dense layer's kernel begins its kernel's name, and how it gets the input."""
    if isinstance(x, SparseTensor):
        return "sparse_update", {"ends": x.ends, "depth": x.width, **_ENTRIES}
    return "dense_update", {"x": x, "depth": x.width}
