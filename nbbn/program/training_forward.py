"""The forward pass of what training does in its own way: batch norms, dropout and noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nbbn import operations as op
from nbbn.errors import LayerError
from nbbn.kernels.norm import BATCH_ROWS
from nbbn.operations import Operation
from nbbn.program import window_words
from nbbn.program.forward import SHARED, pixels_of, steps_of
from nbbn.program.fusion import Node
from nbbn.program.layout import padded
from nbbn.program.lowering import Result
from nbbn.program.program import Buffer, Segment
from nbbn.program.tensors import Tensor
from nbbn.program.training_lowering import TrainingLowering, keeps_columns


def batch_norm(low: TrainingLowering, node: Node, x: Tensor) -> Result:
    """Normalise with the batch's statistics, by columns or by blocks of images."""
    if keeps_columns(node):
        return _norm_of_columns(low, node, x)
    statistics = _image_statistics(low, node, x)
    if node.pool:
        return norm_and_pool(low, node, x, statistics)
    y = low.like(f"y{node.index}", x)
    low.add("image_norm_forward", x=x.buffer, y=y.buffer, batch=statistics, state=low.state(node),
            relu=int(node.relu), pixel=x.pixel, pixels=x.pixels, panels=low.panels(x.channels))
    return Result(y, x, statistics=statistics)


def room_for_statistics(low: TrainingLowering, node: Node, x: Tensor) -> Buffer:
    """Where what a batch norm normalises with shall stand."""
    width = BATCH_ROWS * padded(x.channels, low.dtype)
    return low.program.buffer(f"batch{node.index}", Segment.WORK, width)


def momentum_operands(low: TrainingLowering, node: Node) -> dict[str, float]:
    """How far a batch norm's running statistics move in a step."""
    momentum = node.operation.momentum
    if momentum is None:  # the mean over all batches
        return {"momentum": 1.0, "debias": 1}
    return {"momentum": momentum, "debias": int(low.debias)}


def _norm_of_columns(low: TrainingLowering, node: Node, x: Tensor) -> Result:
    y, batch = low.tensor(f"y{node.index}", node.output_shape), room_for_statistics(low, node, x)
    kernel, shares = by_weight(low, "forward")
    low.add(kernel, x=x, y=y, batch=batch, state=low.state(node), relu=int(node.relu),
            panels=low.panels(x.width), epsilon=node.operation.epsilon,
            **momentum_operands(low, node), **shares)
    return Result(y, x, statistics=batch)


def by_weight(low: TrainingLowering, direction: str) -> tuple[str, dict[str, Buffer | None]]:
    """The kernel of a norm of columns, and what it takes where rows have weights."""
    if low.weighted == "mean":
        return f"norm_weighted_{direction}", {"shares": low.shares}
    return f"norm_{direction}", {}


def _image_statistics(low: TrainingLowering, node: Node, x: Tensor) -> Buffer:
    """Emit the statistics that a batch norm normalises with; return where they stand."""
    operation, panels = node.operation, low.panels(x.channels)
    batch, state = room_for_statistics(low, node, x), low.state(node)
    if not operation.uses_running or operation.updates_running:
        partial = low.partial(f"moments{node.index}", BATCH_ROWS * padded(x.channels, low.dtype))
        low.add(
            "image_moments", x=x.buffer, pixel=x.pixel, pixels=x.pixels, partial=partial,
            panels=panels,
        )  # fmt: skip
        low.add("image_norm_statistics", partial=partial, pixels=x.pixels, batch=batch, state=state,
                panels=panels, epsilon=operation.epsilon, update=int(operation.updates_running),
                **momentum_operands(low, node))
    if operation.uses_running:
        low.add(
            "frozen_norm_statistics", batch=batch, state=state, panels=panels,
            epsilon=operation.epsilon,
        )  # fmt: skip
    return batch


def norm_and_pool(low: TrainingLowering, node: Node, z: Tensor, statistics: Buffer) -> Result:
    """Normalise, and keep the largest of each window."""
    assert node.pool
    y, window = low.tensor(f"y{node.index}", node.output_shape), node.pool.operation.window
    words = window_words.pool(window, node.input_shape, node.output_shape, z.pixel, y.pixel)
    result = Result(y, z, low.constant(f"window{node.index}", words), statistics)
    low.add("norm_pool_forward", y=y, **norm_pool_operands(low, node, result))
    return result


def norm_pool_operands(low: TrainingLowering, node: Node, result: Result) -> dict[str, Any]:
    """Operands that the three kernels of a batch norm with its pool share."""
    return {
        "z": result.x, "window": result.window, "batch": result.statistics,
        "state": low.state(node), "relu": int(node.relu), "panels": low.panels(result.x.channels),
    }


def disturb(low: TrainingLowering, node: Node, x: Tensor) -> Result:
    """Dropout or noise."""
    if node.operation.noise_shape is not None:
        return _drop_together(low, node, x)
    y = low.like(f"y{node.index}", x)
    if node.operation.kind == "dropout":
        add_dropout(low, node, x, y)
    else:
        _add_noise(low, "gaussian_noise", node, x, y, stddev=node.operation.amount)
    return Result(y, x)


def _drop_together(low: TrainingLowering, node: Node, x: Tensor) -> Result:
    """Dropout with one draw for whole axes: by a mask that goes along with all of them."""
    of_batch, *noise = node.operation.noise_shape
    if of_batch == 1:
        raise LayerError(f"layer {node.layer} (Dropout): noise_shape is not supported in training "
                         "with one draw for all rows; begin it with None")
    if len(noise) > 3:
        raise LayerError(f"layer {node.layer} (Dropout): noise_shape is not supported in training "
                         "for rows of more than three axes")
    shape = tuple(1 if n == 1 else length for n, length in zip(noise, x.shape))
    ones, y = low.tensor(f"ones{node.index}", shape), low.like(f"y{node.index}", x)
    low.lasting.add(ones.buffer.name)  # numbers times 0
    low.add("image_affine", x=ones.buffer, y=ones.buffer, image=ones.stride, scale=0.0,
            offset=1.0)
    mask = low.like(f"mask{node.index}", ones)
    add_dropout(low, node, ones, mask)
    add_product(low, node, x, mask, y)
    return Result(y, x, others=(mask,))


def add_product(low: TrainingLowering, node: Node, x: Tensor, mask: Tensor, out: Tensor) -> None:
    """`out = x * mask`, of which `x` may be `out`."""
    a, b = pixels_of(node.output_shape)
    low.add("combine_multiply", **steps_of("x", x, node), **steps_of("y", mask, node), out=out,
            a=a, b=b, panels=low.panels(out.channels), relu=0)
    if mask.channels < out.channels:
        low.clear_padding(out, always=True)


def add_dropout(low: TrainingLowering, node: Node, x: Tensor, y: Tensor) -> None:
    """`y = x` with the node's zeros, which are the same forward and backward."""
    _add_noise(low, "dropout", node, x, y, rate_of_loss=node.operation.amount)


def _add_noise(low: TrainingLowering, kernel: str, node: Node, x: Tensor, y: Tensor,
               **amount: float) -> None:
    """Numbers that depend on a row's place in the batch."""
    placed = {} if low.places is None else {"places": low.places}
    low.add(f"placed_{kernel}" if placed else kernel, x=x.buffer, y=y.buffer, image=x.stride,
            pixel=x.pixel, channels=x.channels, seed=low.seed_of(node), **amount, **placed)


FORWARD: dict[type[Operation], Callable[..., Result]] = {
    **SHARED, op.BatchNorm: batch_norm, op.Disturb: disturb,
}
