"""A network, a loss and an optimiser lowered to the program of one training step."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.errors import LayerError
from nbbn.kernels.tile import UPDATE_HEIGHT
from nbbn.losses import LossRecord, record_of
from nbbn.operations import Computation
from nbbn.optimizers import Optimizer
from nbbn.program.backward import BACKWARD, add_gradients, turn_kernels
from nbbn.program.forward import copied, copy_along
from nbbn.program.fusion import Node, fused
from nbbn.program.inference import InferenceProgram
from nbbn.program.layout import lanes, padded, stride_of
from nbbn.program.losses import (
    Head,
    Kept,
    Outside,
    add_loss,
    collect_losses,
    keep_outputs,
    leave_step,
    weigh_rows,
)
from nbbn.program.lowering import Result
from nbbn.program.parameters import Block, Parameters
from nbbn.program.placement import share_memory
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.sharded import ShardedLowering
from nbbn.program.shards import World
from nbbn.program.sparse import sparse_input
from nbbn.program.tensors import Tensor
from nbbn.program.training_forward import FORWARD
from nbbn.program.training_lowering import TrainingLowering

Loss = str | tuple[Head, ...]


@dataclass
class TrainingProgram:
    """What the trainer runs.

    Attributes
    ----------
    computation : Computation
    program : Program
    parameters : Parameters
    nodes : list of Node
    slots : dict
        Optimiser state: (layer, array name, slot) -> block in the parameter segment.
    squares : list of (Buffer, int)
        Running sums of squares of each kernel's panels (float64), before each step.
    penalties : list of (Buffer, int)
        Sums over steps and their rows of each regularised array's penalty, a number a vector
        (float64), before each step.
    targets : int
        Columns of the target matrix; 0 where labels are used.
    outputs : list of (Buffer, Buffer)
        Of each of several outputs its rows' losses and hits (float64), summed over steps.
    rows_of_outputs : int
        How many rows' there are.
    outside : list of Outside
        Where a step is left for a loss that NumPy computes.
    kept : list of Kept
        What each step leaves of the outputs in the caller's array, where that is asked for.
    """

    computation: Computation
    program: Program
    parameters: Parameters
    nodes: list[Node]
    slots: dict[tuple[int, str, int], Block]
    squares: list[tuple[Buffer, int]]
    penalties: list[tuple[Buffer, int]]
    targets: int
    outputs: list[tuple[Buffer, Buffer]]
    rows_of_outputs: int
    outside: list[Outside]
    kept: list[Kept]

    @functools.cached_property
    def inference(self) -> InferenceProgram:
        """The network in inference, on the trained parameters or with constants of its own."""
        # Others bring constants, for which the trained parameters' memory has no room.
        of_rows = all(len(node.input_shape) == 1 and not isinstance(node.operation, op.Affine)
                      for node in self.nodes)
        return InferenceProgram(self.computation.inference, self.program.dtype,
                                self.parameters if of_rows else None)

    @functools.cached_property
    def work_per_row(self) -> int:
        """Multiply-adds of a row on its way forward."""
        return sum(node.work for node in self.nodes)


def lower_training(computation: Computation, dtype: np.dtype, rows: int, loss: Loss,
                   optimizer: Optimizer, *, decay: float = 0.0, debias: bool = False, seed: int = 0,
                   loss_parameter: float = 1.0, weighted: bool | str = False,
                   sparse: bool = False, world: World | None = None,
                   keeps: bool = False, share: bool = True) -> TrainingProgram:
    """Lower one training step on up to `rows` rows.

    Parameters
    ----------
    computation : Computation
        Of a network in training.
    dtype : numpy.dtype
        float32 or float64.
    rows : int
        The largest batch.
    loss : str or tuple of Head
        Name of a record of `nbbn.losses`; of a network of several outputs a loss of each.
    optimizer : Optimizer
    decay : float
        L2 penalty: `decay * kernel / rows` joins a kernel's gradient.
    debias : bool
        Whether the running averages are corrected for their start.
    seed : int
        Of dropout and noise.
    loss_parameter : float
        Read by losses that have one, such as Huber's `delta`.
    weighted : bool or "mean"
        Whether rows have weights; with "mean" batch norms' statistics are weighted too.
    sparse : bool
        Whether rows come as stored elements, which the first layer, a dense one, reads.
    world : World, optional
        Where several processes share each batch: who has which part of it.
    keeps : bool
        Whether a step leaves its outputs in an array of the caller's, a row for each row.
    share : bool
        Whether buffers that are never in use at the same time share memory.

    Raises
    ------
    LayerError
        For a network that cannot be trained by this loss, or on such rows.
    """
    heads = (Head(loss, loss_parameter),) if isinstance(loss, str) else loss
    records = [record_of(head.loss) for head in heads]
    nodes, ends = _up_to_the_losses(computation, records)
    settings: dict[str, Any] = {"rows": rows, "optimizer": optimizer, "decay": decay,
                                "debias": debias, "seed": seed, "weighted": weighted}
    low: TrainingLowering
    if world is None:
        low = TrainingLowering(computation, nodes, dtype, **settings)
    else:
        low = ShardedLowering(computation, nodes, dtype, world=world, **settings)
    alone = len(records) == 1 and (records[0].takes_labels or records[0].outside)
    width = 0 if alone else sum(nodes[end].width for end in ends)
    inputs, targets = [], []
    for _ in low.each_shard():
        inputs.append(sparse_input(low) if sparse else _gather_input(low))
        if weighted:
            low.shares = low.program.buffer("shares", Segment.WORK, rows)
            low.add("gather_shares", weights=_WEIGHTS, order=_ORDER, shares=low.shares)
        targets.append(_gather(low, "target", _Y, width) if width else None)
    results, gradients = _forward(low, inputs), []
    sums = [_sums_of_rows(low, k) for k in range(len(heads))] if len(heads) > 1 else []
    outside: list[Outside] = []
    kept = _places_of_kept(nodes, ends, records) if keeps else []
    for shard in low.each_shard():
        if kept:
            keep_outputs(low, kept, [results[shard][end].y for end in ends])
        gradients.append(_losses(low, heads, ends, results[shard], targets[shard], sums, outside))
    turn_kernels(low, results[0])
    _backward(low, results, gradients)
    updates = low.updates
    made = TrainingProgram(computation, low.program, low.parameters, nodes, updates.slots,
                           updates.squares, updates.penalties, width, sums, rows, outside, kept)
    return _with_shared_memory(made, low.lasting) if share else made


def _with_shared_memory(made: TrainingProgram, lasting: set[str]) -> TrainingProgram:
    """With working memory by need; what is read behind the steps keeps a place of its own."""
    read = [*(pair[0] for pair in made.squares + made.penalties), *chain(*made.outputs)]
    at = share_memory(made.program, lasting | {buffer.name for buffer in read})
    return replace(
        made, squares=[(at(sums), count) for sums, count in made.squares],
        penalties=[(at(sums), count) for sums, count in made.penalties],
        outputs=[(at(losses), at(hits)) for losses, hits in made.outputs],
        outside=[place.moved(at) for place in made.outside])


def _places_of_kept(nodes: list[Node], ends: list[int], records: list[LossRecord]) -> list[Kept]:
    """Where each output's numbers stand in a row of the caller's array."""
    first, found = 0, []
    for end, record in zip(ends, records):
        found.append(Kept(first, nodes[end].output_shape, record.end))
        first += nodes[end].width
    return found


def _sums_of_rows(low: TrainingLowering, head: int) -> tuple[Buffer, Buffer]:
    """Room for an output's losses and hits, summed over steps."""
    losses, hits = (low.program.buffer(f"{name}_of_output{head}", Segment.WORK, low.rows,
                                       itemsize=8) for name in ("losses", "hits"))
    return losses, hits


def _losses(low: TrainingLowering, heads: tuple[Head, ...], ends: list[int],
            results: list[Result], targets: Tensor | None,
            sums: list[tuple[Buffer, Buffer]], outside: list[Outside]) -> dict[int, Tensor]:
    """Emit the losses of all outputs; the gradients, by the node that gives an output.

    `outside` gets those that NumPy computes.
    """
    gradients: dict[int, Tensor] = {}
    first, several = 0, len(heads) > 1
    if several:
        whole = low.program.buffer("losses_of_outputs", Segment.WORK, low.rows, itemsize=8)
    for k, (head, end) in enumerate(zip(heads, ends)):
        y, own, shares = results[end].y, targets, low.shares
        record = record_of(head.loss)
        if record.end is not None and not _may_be_overwritten(low, ends, end):
            y = copied(low, f"output{k}", y)
        if targets is not None and several:
            own = low.tensor(f"target{k}", (y.width,))
            copy_along(low, 0, targets, first, own, 0, y.width)
            low.clear_padding(own)
            first += y.width
        if record.outside:
            outside.append(leave_step(low, k, low.shard, y, low.shares))
            d, shares = outside[-1].written, outside[-1].own_shares
        else:
            d = add_loss(low, record, y, own, parameter=head.parameter,
                         name=str(k) if several else "")
        if shares:
            weigh_rows(low, d, shares)
        if several:
            collect_losses(low, k, head.weight, d, sums[k], whole)
        gradients[end] = add_gradients(low, low.nodes[end], gradients[end], d) \
            if end in gradients else d
    return gradients


_X, _Y, _ORDER, _WEIGHTS = (Buffer("X", Segment.X), Buffer("Y", Segment.Y),
                            Buffer("order", Segment.ORDER), Buffer("weights", Segment.WEIGHTS))


def _up_to_the_losses(computation: Computation,
                      records: list[LossRecord]) -> tuple[list[Node], list[int]]:
    """The nodes without the activations that losses begin before, and those that losses read."""
    nodes, place = fused(computation, training=True)
    ends = computation.ends or (len(computation.steps) - 1,)
    if len(ends) != len(records):
        raise LayerError(f"{len(records)} losses for a network of {len(ends)} outputs")
    found, chains, gone = [], list[list[int]](), set[int]()
    readers = Counter(source for node in nodes for source in node.sources)
    for end, record in zip(ends, records):
        at = place[end] if end >= 0 else -1
        if record.end is not None and computation.ends_as(end) != record.end:
            raise LayerError(f"loss {record.engine} needs a network that ends with {record.end}, "
                             f"this one ends with {computation.ends_as(end)}")
        if record.end not in (None, "linear"):
            closing = computation.closing(end, record.end)
            assert closing is not None
            chain = [place[step] for step in computation.between(closing, end)]
            at = nodes[chain[0]].sources[0]
            chains.append(chain)
        found.append(at)
    for chain in chains:
        for k in reversed(chain):
            if readers[k] or k in found:  # others read it
                break
            if k not in gone:
                gone.add(k)
                readers.subtract(nodes[k].sources)
    number = {node.index: k for k, node in enumerate(node for node in nodes
                                                     if node.index not in gone)}
    number[-1] = -1
    kept = [replace(node, index=number[node.index],
                    sources=tuple(number[source] for source in node.sources))
            for node in nodes if node.index not in gone]
    if not kept or min(found) < 0:
        raise LayerError("a network without a layer that computes cannot be trained; "
                         "add a Dense layer")
    return kept, [number[at] for at in found]


def _may_be_overwritten(low: TrainingLowering, ends: list[int], end: int) -> bool:
    """Whether a loss may write its gradient over the logits: neither another node nor the backward
    pass of the one that gives them reads them."""
    node = low.nodes[end]
    plain = isinstance(node.operation, op.Dense) and len(node.input_shape) == 1 and not node.relu
    return plain and not low.is_read(end) and ends.count(end) == 1


def _gather(low: TrainingLowering, name: str, source: Buffer, width: int) -> Tensor:
    """The step's rows of an array of the caller's."""
    x = low.tensor(name, (width,))
    low.add("gather_rows", x=source, order=_ORDER, out=x, width=width)
    low.clear_padding(x)
    return x


def _gather_for_products(low: TrainingLowering, width: int) -> Tensor:
    """The step's rows for a dense layer: a copy for each thread, or one that all fill and share."""
    stride, panel, in_panels = stride_of(width, low.dtype), 0, _in_panels(low, width)
    items = low.rows * stride
    if in_panels:
        stride, panel = lanes(low.dtype), (low.rows + 1) * lanes(low.dtype)  # off powers of two
        items = low.panels(width) * panel
    own = low.program.buffer("x", Segment.PRIVATE, items)
    low.program.shared[own] = low.program.buffer("x", Segment.WORK, items)
    x = Tensor(own, stride, (width,), stride, panel=panel)
    kernel = "gather_all_panels" if in_panels else "gather_all_rows"
    low.add(kernel, x=_X, order=_ORDER, out=x, width=width)
    return x


# Rows of more bytes than this, all together, stand in panels: down their columns, as a kernel's
# gradient reads them, the caches would not keep up.
_PANEL_BYTES = 1 << 18


def _in_panels(low: TrainingLowering, width: int) -> bool:
    """Whether rows for a dense layer stand in panels: many, and of few numbers of padding."""
    if lanes(low.dtype) < UPDATE_HEIGHT:
        return False
    large = low.rows * width * low.dtype.itemsize > _PANEL_BYTES
    return large and 10 * (padded(width, low.dtype) - width) <= width


def _gather_input(low: TrainingLowering) -> Tensor:
    """The step's rows as the first node takes them."""
    first = low.nodes[0]
    shape, width = first.input_shape, first.input_width
    if isinstance(first.operation, op.Part):
        shape = (width,)
    if len(shape) == 1:
        # A norm writes over its input, column by column, and its threads must meet over one copy.
        if isinstance(first.operation, op.Dense):
            return _gather_for_products(low, width)
        return _gather(low, "x", _X, width)
    stride = stride_of(width, low.dtype)
    buffer = low.program.buffer("x", Segment.WORK, low.rows * stride)
    raw = Tensor(buffer, stride, shape, shape[-1])
    low.add("gather_images", x=_X, order=_ORDER, out=raw, width=width)
    if first.reads_rows_as_they_are:
        return raw
    x = low.tensor("x_padded", shape)
    low.repack(raw, x)
    return x


def _forward(low: TrainingLowering, inputs: list[Tensor]) -> list[list[Result]]:
    """Emit the forward pass; each node's result, for each shard of the batch."""
    results: list[list[Result]] = [[] for _ in inputs]

    def sources(node: Node, shard: int) -> list[Tensor]:
        return [inputs[shard] if k < 0 else results[shard][k].y for k in node.sources]

    for nodes in low.stretches():
        if low.meets_at(nodes[0]):
            met = low.batch_norm(nodes[0], [sources(nodes[0], k)[0] for k in range(len(inputs))])
            for own, result in zip(results, met):
                own.append(low.noted(nodes[0], result))
            continue
        for shard in low.each_shard():
            for node in nodes:
                result = FORWARD[type(node.operation)](low, node, *sources(node, shard))
                results[shard].append(low.noted(node, result))
    return results


def _backward(low: TrainingLowering, results: list[list[Result]],
              gradients: list[dict[int, Tensor]]) -> None:
    """Emit the backward pass, from the gradients of each shard by node.

    Updates come one phase late: all threads have used the old weights.
    """

    def leave(shard: int, node: Node, befores: Sequence[Tensor | None]) -> None:
        """Add what goes back to a node's sources to what came from other nodes."""
        own = gradients[shard]
        for source, before in zip(node.sources, befores):
            if before is not None and source in own:
                own[source] = add_gradients(low, node, own[source], before)
            elif before is not None:
                own[source] = before

    for nodes in reversed(low.stretches()):
        if low.meets_at(nodes[0]):
            (node,) = nodes
            if low.trains_up_to(node.index):
                of_shards = [own[node.index] for own in results]
                met = low.batch_norm_backward(node, of_shards,
                                              [own.pop(node.index) for own in gradients])
                for shard, dx in enumerate(met):
                    leave(shard, node, (dx,))
            continue
        for shard in low.each_shard():
            for node in reversed(nodes):
                if not low.trains_up_to(node.index):
                    continue
                d = gradients[shard].pop(node.index)
                before = BACKWARD[type(node.operation)](low, node, results[shard][node.index], d)
                leave(shard, node, before if isinstance(before, tuple) else (before,))
    low.updates.finish()
