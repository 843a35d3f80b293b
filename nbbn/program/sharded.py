"""The step of one rank on its shards of a batch: where it meets the others, and with what.

Batch norms gather every shard's moments and merge them, forward, and every shard's sums, backward.
All other gradients stand in one flat buffer, a copy for each shard; they are added up in the tree
of `World`, and then every rank takes the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.kernels.norm_shards import MOMENT_ROWS
from nbbn.operations import Computation
from nbbn.optimizers import Optimizer
from nbbn.program.fusion import Node
from nbbn.program.layout import lanes, padded
from nbbn.program.lowering import Result
from nbbn.program.program import Buffer, Segment
from nbbn.program.shards import Pairs, World, additions
from nbbn.program.sparse import SparseTensor, kernel_update, sort_elements
from nbbn.program.tensors import Tensor
from nbbn.program.training_forward import (
    momentum_operands,
    norm_and_pool,
    norm_pool_operands,
    room_for_statistics,
)
from nbbn.program.training_lowering import TrainingLowering, keeps_columns
from nbbn.program.updates import Updates, chunk_of

_EDGES = Buffer("shards", Segment.SHARDS)


class ShardedLowering(TrainingLowering):
    """A lowering of a rank's part of a step; see `TrainingLowering`."""

    updates: ShardedUpdates

    def __init__(self, computation: Computation, nodes: list[Node], dtype: np.dtype, *, rows: int,
                 optimizer: Optimizer, decay: float, debias: bool, seed: int, weighted: bool | str,
                 world: World):
        self.world = world
        super().__init__(computation, nodes, dtype, rows=rows, optimizer=optimizer, decay=decay,
                         debias=debias, seed=seed, weighted=weighted)
        self.places = Buffer("places", Segment.PLACES)
        self._shard_places = self.constant("shard_places", np.array(world.places))

    def _updates(self, optimizer: Optimizer, decay: float) -> Updates:
        return ShardedUpdates(self, optimizer, decay, self.world)

    # -- shards

    def each_shard(self) -> Iterator[int]:
        """Turn to each of the rank's shards in turn."""
        for shard in range(self.world.here):
            self.shard = shard
            if self.world.here > 1:
                self.program.tag = f" {shard}"
                self.add("take_shard", edges=_EDGES, shards=self.world.here, shard=shard)
            yield shard
        self.program.tag = ""

    def stretches(self) -> list[list[Node]]:
        """Nodes that a shard passes on its own, and between them norms, where all meet."""
        found: list[list[Node]] = []
        for node in self.nodes:
            alone = not found or self.meets_at(node) or self.meets_at(found[-1][0])
            if alone:
                found.append([])
            found[-1].append(node)
        return found

    def meets_at(self, node: Node) -> bool:
        """Whether a node takes statistics of the whole batch."""
        operation = node.operation
        return isinstance(operation, op.BatchNorm) and (
            operation.updates_running or not operation.uses_running)

    # -- what ranks exchange

    def gather(self, buffer: Buffer, items: int) -> None:
        """Every rank's `items` numbers for each of its shards."""
        calls = self.world.calls
        if calls is not None:
            self.add("gather_in_place", buffer=buffer, count=self.world.most * items,
                     function=calls.gather, in_place=calls.in_place,
                     kind=calls.kinds[self.dtype.name], comm=calls.comm)

    def exchange(self, function: str, source: Buffer, target: Buffer, count: int) -> None:
        """Call a function with a buffer to send and another to receive."""
        calls = self.world.calls
        assert calls is not None
        self.add("exchange", source=source, target=target, count=count,
                 function=getattr(calls, function), kind=calls.kinds[self.dtype.name],
                 comm=calls.comm)

    def parts_of_shards(self, name: str, items: int) -> Buffer:
        """Room for what each shard of every rank leaves."""
        count = self.world.ranks * self.world.most
        return self.program.buffer(name, Segment.WORK, count * items)

    def place_of(self, parts: Buffer, items: int) -> Buffer:
        """Where the shard at hand leaves its part."""
        return parts.at(self.world.place(self.shard) * items, self.dtype.itemsize)

    # -- batch norms

    def batch_norm(self, node: Node, xs: list[Tensor]) -> list[Result]:
        """Normalise each shard's rows with the statistics of all ranks' shards."""
        operation, (x, *_) = node.operation, xs
        panels, width = self.panels(x.channels), padded(x.channels, self.dtype)
        parts = self.parts_of_shards(f"moments{node.index}", MOMENT_ROWS * width)
        for shard in self.each_shard():
            self._moments(node, xs[shard], self.place_of(parts, MOMENT_ROWS * width))
        self.gather(parts, MOMENT_ROWS * width)
        batch = room_for_statistics(self, node, x)
        self.add("merge_shard_moments", partial=parts, places=self._shard_places,
                 shards=self.world.shards, pixels=x.pixels, batch=batch, state=self.state(node),
                 panels=panels, epsilon=operation.epsilon, update=int(operation.updates_running),
                 **momentum_operands(self, node))
        if operation.uses_running:
            self.add("frozen_norm_statistics", batch=batch, state=self.state(node), panels=panels,
                     epsilon=operation.epsilon)
        return [self._normalised(node, xs[shard], batch) for shard in self.each_shard()]

    def _moments(self, node: Node, x: Tensor, out: Buffer) -> None:
        panels = self.panels(x.channels)
        if not keeps_columns(node):
            blocks = self.partial(f"block_moments{node.index}", 3 * padded(x.channels, self.dtype))
            self.add("image_moments", x=x.buffer, pixel=x.pixel, pixels=x.pixels, partial=blocks,
                     panels=panels)
            self.add("merge_block_moments", partial=blocks, pixels=x.pixels, out=out,
                     panels=panels)
        elif self.weighted == "mean":
            self.add("shard_weighted_moments", x=x, shares=self.shares, out=out, panels=panels)
        else:
            self.add("shard_moments", x=x, out=out, panels=panels)

    def _normalised(self, node: Node, x: Tensor, batch: Buffer) -> Result:
        if node.pool:
            return norm_and_pool(self, node, x, batch)
        common: dict[str, Any] = {"batch": batch, "state": self.state(node),
                                  "relu": int(node.relu), "panels": self.panels(x.channels)}
        if keeps_columns(node):
            y = self.tensor(f"y{node.index}", node.output_shape)
            self.add("shard_norm_forward", x=x, y=y, **common)
        else:
            y = self.like(f"y{node.index}", x)
            self.add("image_norm_forward", x=x.buffer, y=y.buffer, pixel=x.pixel, pixels=x.pixels,
                     **common)
        return Result(y, x, statistics=batch)

    def batch_norm_backward(self, node: Node, results: list[Result],
                            ds: list[Tensor]) -> list[Tensor]:
        """`dx` of each shard's rows over `d`, from the sums of all ranks' shards."""
        (result, *_), dxs = results, ds
        x = result.x
        panels, items = self.panels(x.channels), 2 * padded(x.channels, self.dtype)
        parts = self.parts_of_shards(f"sums{node.index}", items)
        for shard in self.each_shard():
            self._sums(node, results[shard], ds[shard], self.place_of(parts, items))
        self.gather(parts, items)
        dstate = self.program.buffer(f"dstate{node.index}", Segment.WORK, items)
        self.add("merge_shards", partial=parts, places=self._shard_places, count=self.world.shards,
                 out=dstate, panels=2 * panels)
        if self.wants_input_gradient(node) or keeps_columns(node):
            dxs = [self._norm_dx(node, results[shard], ds[shard], dstate)
                   for shard in self.each_shard()]
        for row, name in enumerate(("gamma", "beta")):
            if self.is_trained(node, name):
                place = dstate.at(row * items // 2, self.dtype.itemsize)
                self.updates.train_merged(node, name, place, panels)
        return dxs

    def _norm_operands(self, node: Node, result: Result) -> dict[str, Any]:
        """What the kernels share that go back through a norm without a pool."""
        x = result.x
        of_images = {} if keeps_columns(node) else {"pixel": x.pixel, "pixels": x.pixels}
        return {"batch": result.statistics, "state": self.state(node), "relu": int(node.relu),
                "panels": self.panels(x.channels), **of_images}

    def _sums(self, node: Node, result: Result, d: Tensor, out: Buffer) -> None:
        x = result.x
        if keeps_columns(node):
            self.add("shard_norm_sums", dy=d, x=x, out=out, **self._norm_operands(node, result))
            return
        blocks = self.partial(f"block_sums{node.index}", 2 * padded(x.channels, self.dtype))
        if node.pool:
            self.add("norm_pool_sums", partial=blocks, dy=d,
                     **norm_pool_operands(self, node, result))
        else:
            self.add("image_norm_sums", partial=blocks, dy=d.buffer, x=x.buffer,
                     **self._norm_operands(node, result))
        self.add("merge_partials", partial=blocks, out=out, panels=2 * self.panels(x.channels))

    def _norm_dx(self, node: Node, result: Result, d: Tensor, dstate: Buffer) -> Tensor:
        x, frozen = result.x, int(node.operation.uses_running)
        if node.pool:
            self.add("norm_pool_backward", dstate=dstate, frozen=frozen, dy=d,
                     **norm_pool_operands(self, node, result))
            return x
        common = {"dstate": dstate, **self._norm_operands(node, result)}
        if not keeps_columns(node):
            self.add("image_norm_backward", dy=d.buffer, x=x.buffer, frozen=frozen, **common)
        elif self.weighted == "mean":
            self.add("shard_weighted_norm_backward", dy=d, x=x, shares=self.shares, **common)
        else:
            self.add("shard_norm_backward", dy=d, x=x, **common)
        return d


class ShardedUpdates(Updates):
    """Collects each shard's gradients, and emits the steps when those of all ranks are summed."""

    _low: ShardedLowering

    def __init__(self, low: ShardedLowering, optimizer: Optimizer, decay: float, world: World):
        super().__init__(low, optimizer, decay)
        self._world = world
        # Of each array its place in the flat gradient and its vectors.
        self._places: dict[tuple[Node, str], tuple[int, int]] = {}
        self._merged: list[tuple[Node, str, Buffer, int]] = []
        parameters = low.parameters
        arrays = [(node, name) for node in low.nodes for name in node.operation.arrays
                  if not low.meets_at(node) and parameters.is_trained(*node.step.key_of(name))
                  and (name != "bias" or self.trains_bias(node))]
        at = 0
        for node, name in arrays:
            vectors = self.vectors(node, name)
            self._places[node, name] = at, vectors
            at += vectors * lanes(low.dtype)
        step = world.ranks * lanes(low.dtype)
        self._piece = max(1, -(-at // step)) * lanes(low.dtype)
        self._whole = self._piece * world.ranks
        self._flat = low.program.buffer("gradients", Segment.WORK, world.here * self._whole)
        low.lasting.add(self._flat.name)  # beyond the last array nobody writes

    def _of_shard(self, node: Node, name: str) -> Buffer:
        """Where the shard at hand leaves its gradient of an array."""
        at = self._low.shard * self._whole + self._places[node, name][0]
        return self._flat.at(at, self._low.dtype.itemsize)

    # -- gradients, shard by shard

    def later(self, update: Callable[[], object]) -> None:
        """At once: no step is taken before all gradients are there."""
        update()

    def emit(self, keep: int = 0) -> None:
        """Nothing is kept."""

    def train(self, node: Node, name: str, gradient: Buffer, vectors: int) -> bool:
        """Note a shard's gradient of an array."""
        self._low.add("merge_partials", partial=gradient, blocks=1, out=self._of_shard(node, name),
                      panels=vectors)
        return False

    def train_merged(self, node: Node, name: str, gradient: Buffer, vectors: int) -> None:
        """Note a gradient that is of all shards already."""
        self._merged.append((node, name, gradient, vectors))

    def dense(self, node: Node, x: Tensor, dz: Tensor) -> None:
        """A shard's gradients of a dense layer."""
        low, panels = self._low, self._low.panels(node.width)
        if low.is_trained(node, "kernel"):
            gradient = self._of_shard(node, "kernel")
            update, source = kernel_update(x)
            squares = low.program.buffer(f"unused{node.index}", Segment.WORK,
                                         low.panels(x.width) * panels, itemsize=8)
            operands = {**source, "dz": dz, "weights": low.block(node, "kernel"),
                        "squares": squares, "panels": panels, "constants": self._constants,
                        "decay": 0.0, "slots": gradient}
            if isinstance(x, SparseTensor):
                if self._world.here > 1:  # those of the last shard stand there
                    sort_elements(low, x)
            else:
                length = padded(x.width, low.dtype) * lanes(low.dtype)
                low.add("clear_if_empty", x=gradient, length=length, panels=panels)
                operands |= {"chunk": chunk_of(low.rows, x, low.dtype), "gradient": gradient,
                             "depth_parts": 1}
            low.add(f"{update}_gradient", **operands)
        if self.trains_bias(node):
            low.add("column_sum", x=dz, out=self._of_shard(node, "bias"), panels=panels)

    # -- steps, when all shards are through

    def finish(self) -> None:
        """Add up the gradients of all shards of all ranks, and take the steps."""
        low = self._low
        if self._places:
            self._reduce()
        decayed = [node for node in low.nodes
                   if (node, "kernel") in self._places and isinstance(node.operation, op.Dense)
                   and not node.is_convolution]
        for (node, name), (at, vectors) in self._places.items():
            gradient = self._flat.at(at, low.dtype.itemsize)
            if name == "kernel" and node in decayed and self._decay:
                self._add_decay(node, gradient, vectors)
            super().train(node, name, gradient, vectors)
        for found in self._merged:
            super().train(*found)
        if self._clipped:
            self._emit_clipped()
            return
        for node in decayed:
            self._transpose(node)

    def _add_decay(self, node: Node, gradient: Buffer, vectors: int) -> None:
        low = self._low
        squares = low.program.buffer(f"squares{node.index}", Segment.WORK, vectors, itemsize=8)
        self.squares.append((squares, vectors))
        low.add("add_decay", grad=gradient, param=low.block(node, "kernel"), decay=self._decay,
                squares=squares, panels=vectors)

    def _reduce(self) -> None:
        """Leave the sums over all shards in the first shard's place."""
        low, world = self._low, self._world
        own, first = world.trees(world.rank), world.first(world.rank)
        at = {(first + k, first + k + 1): k for k in range(world.owned[world.rank])}
        self._add_up("own_additions", self._flat, self._whole,
                     [pair for tree in own for pair in additions(*tree, world.shards, at)])
        if world.calls is None:
            return
        itemsize, piece = low.dtype.itemsize, self._piece
        received = low.program.buffer("received", Segment.WORK, world.slots * world.ranks * piece)
        for slot in range(world.slots):
            shard = own[slot][0] - first if slot < len(own) else 0  # nobody reads the latter
            low.exchange("scatter", self._flat.at(shard * self._whole, itemsize),
                         received.at(slot * world.ranks * piece, itemsize), piece)
        at = {tree: slot * world.ranks + rank for rank in range(world.ranks)
              for slot, tree in enumerate(world.trees(rank))}
        self._add_up("additions", received, piece, additions(0, world.shards, world.shards, at))
        root = at[next(tree for tree in at if tree[0] == 0)]
        low.exchange("gather", received.at(root * piece, itemsize), self._flat, piece)

    def _add_up(self, name: str, x: Buffer, apart: int, pairs: Pairs) -> None:
        low = self._low
        if pairs:
            words = low.constant(name, np.array(pairs).ravel())
            low.add("add_in_order", x=x, pairs=words, count=len(pairs), apart=apart,
                    panels=apart // lanes(low.dtype))

