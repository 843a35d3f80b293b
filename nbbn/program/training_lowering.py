"""A training program in the making."""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from nbbn import operations as op
from nbbn.errors import LayerError
from nbbn.kernels.winograd import CELLS, POINTS
from nbbn.operations import Computation
from nbbn.optimizers import Optimizer
from nbbn.program.fusion import Node
from nbbn.program.layout import lanes, padded
from nbbn.program.lowering import Lowering, Result
from nbbn.program.program import Buffer, Segment
from nbbn.program.tensors import Tensor
from nbbn.program.updates import Updates
from nbbn.program.weight_layouts import ConvLayout


class TrainingLowering(Lowering):
    """A lowering with an optimiser, and what a step is told besides.

    Parameters
    ----------
    computation, nodes, dtype, rows
        See `Lowering`.
    optimizer, decay
        See `Updates`.
    debias : bool
        Whether running averages are corrected for their start.
    seed : int
        Of dropout and noise.
    weighted : bool or "mean"
        Whether rows have weights; with "mean" batch norms' statistics are weighted too.

    Attributes
    ----------
    updates : Updates
    shares : Buffer or None
        Each row's part of the batch's mass, where rows have weights.
    shard : int
        Which of the process's shards of the batch is at hand.
    places : Buffer or None
        Each row's place in the batch, where processes share it.
    turned : dict
        By node, its kernel as the input's gradient multiplies with it, and its depth.
    """

    def __init__(self, computation: Computation, nodes: list[Node], dtype: np.dtype, *, rows: int,
                 optimizer: Optimizer, decay: float, debias: bool, seed: int, weighted: bool | str):
        super().__init__(computation, nodes, dtype, rows=rows, training=True)
        # Of the shard at hand; where several processes share batches, they may have several each.
        self.shard, self._shares = 0, dict[int, Buffer]()
        self.places: Buffer | None = None
        self.updates = self._updates(optimizer, decay)
        self.debias, self.weighted = debias, weighted
        self.turned: dict[int, tuple[Buffer, int]] = {}
        self._seed = seed
        if weighted == "mean" and any(_has_image_statistics(node) for node in nodes):
            raise LayerError(
                "weighted statistics are supported for batch norms of feature vectors only"
            )
        self._trained: dict[int, bool] = {-1: False}
        for node in nodes:
            own = any(self.is_trained(node, name) for name in node.operation.arrays)
            self._trained[node.index] = own or any(self._trained[k] for k in node.sources)

    def _updates(self, optimizer: Optimizer, decay: float) -> Updates:
        return Updates(self, optimizer, decay)

    @property
    def shares(self) -> Buffer | None:
        return self._shares.get(self.shard)

    @shares.setter
    def shares(self, buffer: Buffer) -> None:
        self._shares[self.shard] = buffer

    def each_shard(self) -> Iterator[int]:
        """Turn to each shard of the batch in turn: all of it is one."""
        yield 0

    def stretches(self) -> list[list[Node]]:
        """Nodes that a shard passes one after the other."""
        return [self.nodes]

    def meets_at(self, node: Node) -> bool:
        """Whether all shards must come to a node together."""
        return False

    def batch_norm(self, node: Node, xs: list[Tensor]) -> list[Result]:
        """A node where all shards meet, forward."""
        raise NotImplementedError

    def batch_norm_backward(self, node: Node, results: list[Result],
                            ds: list[Tensor]) -> list[Tensor]:
        """The same backward."""
        raise NotImplementedError

    def is_trained(self, node: Node, name: str) -> bool:
        """Whether training changes an array of a node."""
        if name == "bias":
            return self.updates.trains_bias(node)
        return self.parameters.is_trained(*node.step.key_of(name))

    def trains_up_to(self, index: int) -> bool:
        """Whether a node or one that it follows from is trained: whether its gradient is needed."""
        return self._trained[index]

    def wants_input_gradient(self, node: Node) -> bool:
        """Whether what a node reads follows from something trained."""
        return any(self._trained[source] for source in node.sources)

    def wanted_gradients(self, node: Node) -> list[bool]:
        """Of each source, whether what it gives follows from something trained."""
        return [self._trained[source] for source in node.sources]

    def seed_of(self, node: Node) -> int:
        """Of a node's random numbers."""
        own = node.operation.seed
        return (self._seed * 1_000_003 + node.layer if own is None else own) & (2**62 - 1)

    def clear_padding(self, y: Tensor, *, always: bool = False) -> None:
        """See `Lowering`; a tensor of one axis keeps the zeros that working memory begins with."""
        if len(y.shape) > 1:
            super().clear_padding(y, always=always)
        elif not always and padded(y.width, self.dtype) > y.width:
            self.lasting.add(y.buffer.name)

    @functools.cached_property
    def points_at_hand(self) -> Buffer:
        """Room for one kernel by points, or for its gradient, one layer after the other."""
        layouts = [block.layout for block in self.parameters.blocks.values()]
        sizes = [POINTS * layout.items(self.dtype) // CELLS for layout in layouts
                 if isinstance(layout, ConvLayout) and layout.size == (3, 3)]
        return self.program.buffer("points", Segment.WORK, max(sizes))

    def partial(self, name: str, items: int) -> Buffer:
        """Room for a sum of each block of rows."""
        return self.program.buffer(name, Segment.WORK, self.blocks * items)

    def merged(self, partial: Buffer, name: str, vectors: int) -> Buffer:
        """The sum over blocks."""
        out = self.program.buffer(name, Segment.WORK, vectors * lanes(self.dtype))
        self.add("merge_partials", partial=partial, out=out, panels=vectors)
        return out


def keeps_columns(node: Node) -> bool:
    """Whether a batch norm's threads own whole columns: rows of one axis, statistics as usual."""
    operation = node.operation
    usual = operation.updates_running and not operation.uses_running
    return len(node.input_shape) == 1 and usual


def _has_image_statistics(node: Node) -> bool:
    return isinstance(node.operation, op.BatchNorm) and not keeps_columns(node)
