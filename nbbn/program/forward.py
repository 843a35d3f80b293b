"""The forward pass of each operation, as training and inference share it.

A function `(lowering, node, x) -> Result` emits the kernels of a node that reads the tensor `x`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.activations import ELEMENTWISE
from nbbn.kernels import KERNELS
from nbbn.kernels.norm import BETA, GAMMA, RUNNING_MEAN, RUNNING_VAR, STATE_ROWS
from nbbn.operations import Operation, Pair, Shape
from nbbn.program import patches, window_words, winograd
from nbbn.program.fusion import Node
from nbbn.program.layout import padded
from nbbn.program.lowering import Lowering, Result
from nbbn.program.program import Buffer, Segment
from nbbn.program.sparse import SparseTensor, sparse_dense
from nbbn.program.tensors import Tensor, as_view

# Kinds of pools -> their kernels.
POOLS = {"max": "max_pool", "mean": "average_pool"}


def dense(low: Lowering, node: Node, x: Tensor) -> Result:
    """`z = x @ kernel + bias`; on rows of several axes a convolution of single pixels."""
    if node.is_convolution:
        return convolve(low, node, x)
    if isinstance(x, SparseTensor):
        return sparse_dense(low, node, x)
    z = low.tensor(f"z{node.index}", node.output_shape, kept=node.relu)
    common: dict[str, Any] = {
        "x": x, "weights": low.block(node, "kernel"), "weight_depth": padded(x.width, low.dtype),
        "bias": low.block(node, "bias"), "z": z, "panels": low.panels(z.width), "depth": x.width,
        "row_parts": 1, "relu": int(node.relu),
    }
    if x.panel:
        low.add("dense_forward_panels", **common)
    else:
        low.add("dense_forward", shared=int(x.buffer.segment == Segment.WORK), **common)
    return Result(z, x)


def convolve(low: Lowering, node: Node, x: Tensor, *others: Tensor) -> Result:
    """`z = clip(x * kernel + bias + other)`, and the maxima of its windows where a pool joined."""
    words = low.window(node, x.pixel)
    window = low.constant(f"window{node.index}", words)
    weights, bias = low.block(node, "kernel"), low.block(node, "bias")
    points = low.points(node, words)
    if node.pool and points is None:
        return _convolve_and_pool(low, node, x, window, weights, bias)
    z = low.tensor(f"z{node.index}", node.output_shape, kept=node.relu)
    other = _laid_out_as(low, z, others[0]) if node.adds else None
    add_convolution(low, x, z, window, words, weights, bias, points=points, other=other,
                    relu=node.relu, most=node.most, pooled=bool(node.pool))
    return Result(z, x)


def _laid_out_as(low: Lowering, z: Tensor, x: Tensor) -> Tensor:
    """`x` with the distances of `z`."""
    if (x.pixel, x.stride) == (z.pixel, z.stride):
        return x
    y = low.like(f"like_{z.buffer.name}", z)
    low.repack(x, y)
    return y


def add_convolution(low: Lowering, x: Tensor, z: Tensor, window: Buffer, words: np.ndarray,
                    weights: Buffer, bias: Buffer, *, points: Buffer | None = None,
                    other: Tensor | None = None, relu: bool = False,
                    most: float = math.inf, pooled: bool = False) -> None:
    """A convolution of `x` with any weights of a node's window, and what `finish` does.

    By tiles where the weights stand by `points`, each of them `pooled` where a pool joined.
    """
    common: dict[str, Any] = {
        "x": x, "window": window, "bias": bias, "adds": int(other is not None),
        "other": other or z, "z": z, "relu": int(relu), "most": most,
        "panels": low.panels(z.channels),
    }
    if points is not None:
        low.add("winograd_forward", **common, points=points, zeros=low.zeros(z.pixel),
                pooled=int(pooled), held=winograd.held(words, low.rows, low.dtype))
        return
    common |= {"weights": weights, "weight_depth": padded(window_words.depth(words), low.dtype)}
    held = patches.held(words, low.rows, low.dtype)
    if held and z.stride == z.pixels * z.pixel:
        low.add("conv_patches_forward", **common, held=held, patch=patches.patch(words, low.dtype))
    else:
        low.add("conv_forward", **common)


def node_cells(node: Node) -> int:
    """Taps of a node's window."""
    height, width = window_words.window_of(node.operation).size
    return height * width


def _convolve_and_pool(low: Lowering, node: Node, x: Tensor, window: Buffer, weights: Buffer,
                       bias: Buffer) -> Result:
    assert node.pool
    y, pixel = low.tensor(f"y{node.index}", node.output_shape), node.step.output_shape[-1]
    pixel = padded(pixel, low.dtype)
    pool = node.pool.operation.window
    words = window_words.pool(pool, node.pool.input_shape, node.output_shape, pixel, y.pixel)
    height, width, _ = window_words.image_shape(node.step.output_shape)
    room = (height if width == 1 else pool.size[0] * width) * pixel
    low.add("conv_pool_forward", x=x, window=window, weights=weights,
            weight_depth=padded(node_cells(node) * x.pixel, low.dtype), bias=bias,
            relu=int(node.relu), most=node.most, pool=low.constant(f"pool{node.index}", words),
            y=y, panels=low.panels(y.channels),
            strip_out=low.program.buffer(f"strip{node.index}", low.own_segment, room))
    return Result(y, x)


def depthwise(low: Lowering, node: Node, x: Tensor) -> Result:
    """`z[c] = x[c] * kernel[c] + bias[c]`, of channels that are repeated first where they must."""
    repeated = x
    if node.operation.multiplier > 1:
        repeated = add_repeat(low, f"x{node.index}", x, node.operation.multiplier)
    z = low.tensor(f"z{node.index}", node.output_shape)
    window = low.constant(f"window{node.index}", low.window(node, repeated.pixel))
    add_depthwise(low, repeated, z, window, low.block(node, "kernel"), low.block(node, "bias"),
                  relu=node.relu, most=node.most)
    return Result(z, repeated)


def add_depthwise(low: Lowering, x: Tensor, z: Tensor, window: Buffer, weights: Buffer,
                  bias: Buffer, *, relu: bool = False, most: float = math.inf) -> None:
    """A depthwise convolution with any weights, clipped where a ReLU has joined."""
    low.add("depthwise_forward", x=x, window=window, weights=weights, bias=bias, relu=int(relu),
            most=most, z=z, panels=low.panels(z.channels))


def add_repeat(low: Lowering, name: str, x: Tensor, times: int) -> Tensor:
    """Each number of the last axis `times` in a row."""
    y = low.tensor(name, (*x.shape[:-1], x.channels * times))
    low.add("repeat_channels", x=x, channels=x.channels, times=times, y=y, pixels=x.pixels)
    low.clear_padding(y)
    return y


def pool(low: Lowering, node: Node, x: Tensor) -> Result:
    """Maximum or average of windows."""
    y = low.tensor(f"y{node.index}", node.output_shape)
    window = node.operation.window
    words = window_words.pool(window, node.input_shape, node.output_shape, x.pixel, y.pixel)
    buffer = low.constant(f"window{node.index}", words)
    kernel = f"{POOLS[node.operation.kind]}_forward"
    low.add(kernel, x=x, window=buffer, y=y, panels=low.panels(x.channels))
    return Result(y, x, window=buffer)


def row_norm(low: Lowering, node: Node, x: Tensor) -> Result:
    """Layer and group norm."""
    sets = x.pixels // node.operation.pixels * (x.channels // node.operation.channels)
    invstd = low.program.buffer(f"invstd{node.index}", Segment.WORK, low.rows * sets)
    in_place = low.training and not (x.kept or x.shared)
    xhat = x if in_place else low.like(f"xhat{node.index}", x)
    y = low.like(f"y{node.index}", x)
    low.add("group_norm_forward", x=x, xhat=xhat, y=y, invstd=invstd, state=low.state(node),
            epsilon=node.operation.epsilon, **row_norm_sizes(low, node, x))
    low.clear_padding(y)
    return Result(y, xhat, statistics=invstd)


def row_norm_sizes(low: Lowering, node: Node, x: Tensor) -> dict[str, int]:
    """What the kernels of layer and group norm must know of rows and sets."""
    return {
        "width": padded(x.channels, low.dtype), "pixel": x.pixel, "pixels": x.pixels,
        "channels": x.channels, "set_pixels": node.operation.pixels,
        "set_channels": node.operation.channels,
    }


def elementwise(low: Lowering, node: Node, x: Tensor) -> Result:
    """`y = f(x)`: in place in inference, and where the slope follows from `y`."""
    name = node.operation.function
    if len(x.shape) == 1 and f"{name}_forward" in KERNELS and not (x.kept or x.shared):
        low.add(f"{name}_forward", x=x, panels=low.panels(x.width))
        y = replace(x, kept=low.training)
        return Result(y, y)
    y = low.like(f"a{node.index}", x) if low.training or x.shared else x
    numbers = ELEMENTWISE[name].named(node.operation.numbers)
    low.add(f"image_{name}", x=x.buffer, y=y.buffer, image=x.stride, **numbers)
    if ELEMENTWISE[name].moves_zero(node.operation.numbers):
        low.clear_padding(y, always=True)
    return Result(y, x)


def affine(low: Lowering, node: Node, x: Tensor) -> Result:
    """`y = (x - mean) * scale + offset`: the norm of inference, with fixed numbers."""
    y = copied(low, f"y{node.index}", x) if low.training or x.shared else x
    add_affine(low, node, y, **node.operation.of_channels(x.channels))
    return Result(y, x)


def add_affine(low: Lowering, node: Node, x: Tensor, scale: np.ndarray,
               offset: np.ndarray | float = 0.0, mean: np.ndarray | float = 0.0) -> None:
    """The same in place."""
    width = padded(x.channels, low.dtype)
    state = np.zeros((STATE_ROWS, width))
    state[RUNNING_VAR] = 1.0
    for row, values in ((GAMMA, scale), (BETA, offset), (RUNNING_MEAN, mean)):
        state[row, : x.channels] = values
    name = f"affine{len(low.program.operations)}"
    low.add("norm_inference", x=x.buffer, pixel=x.pixel, pixels=x.pixels,
            state=low.constant(name, state.ravel()), relu=0, panels=low.panels(x.channels),
            epsilon=0.0)


def prelu(low: Lowering, node: Node, x: Tensor) -> Result:
    """`y = x`, or `alpha * x` up to 0."""
    y = low.like(f"y{node.index}", x) if low.training or x.shared else x
    low.add("prelu_forward", x=x, y=y.buffer, **prelu_operands(low, node, x))
    return Result(y, x)


def prelu_operands(low: Lowering, node: Node, x: Tensor) -> dict[str, Any]:
    """The slopes, and how they go along with pixels."""
    shape = low.parameters.of(node, "alpha").shape
    a, b = pixels_of(x.shape)
    of_a, of_b = pixels_of(shape)
    pixel = padded(shape[-1], low.dtype)
    return {"alpha": low.block(node, "alpha"), "alpha_a": of_b * pixel if of_a > 1 else 0,
            "alpha_b": pixel if of_b > 1 else 0, "alpha_c": int(shape[-1] == x.channels),
            "a": a, "b": b, "panels": low.panels(x.channels)}


def embed(low: Lowering, node: Node, x: Tensor) -> Result:
    """`y[p] = embeddings[x[p]]`."""
    y = low.tensor(f"y{node.index}", node.output_shape)
    low.add("embed_forward", x=x, count=x.width, table=low.block(node, "embeddings"),
            rows_of_table=node.operation.count, y=y, panels=low.panels(y.channels))
    return Result(y, x)


def dot(low: Lowering, node: Node, x: Tensor, y: Tensor) -> Result:
    """`out[i, j] = x[i] @ y[j]`."""
    out = low.tensor(f"y{node.index}", node.output_shape)
    low.add("dot_forward", x=x, y=y, out=out, **dot_sizes(node, x, y), out_pixel=dot_step(x, out))
    low.clear_padding(out)
    return Result(out, x, others=(y,))


def dot_step(x: Tensor, out: Tensor) -> int:
    """From the products of one vector of `x` to those of the next: with one vector they are a row.
    """
    return 1 if len(x.shape) > 1 and len(out.shape) == 1 else out.pixel


def dot_sizes(node: Node, x: Tensor, y: Tensor) -> dict[str, int]:
    """What the kernels of products must know of rows."""
    return {"a": x.pixels, "b": y.pixels, "depth": x.channels,
            "cosine": int(node.operation.cosine)}


def softmax(low: Lowering, node: Node, x: Tensor) -> Result:
    """`y = softmax(x)` over the last axis, or its logarithm."""
    if len(x.shape) == 1 and not (low.training or x.shared or node.operation.log):
        low.add("softmax_forward", x=x, units=x.width, panels=low.panels(x.width))
        return Result(x, x)
    y = low.like(f"a{node.index}", x) if low.training or x.shared else x
    low.add(f"channel_{node.operation.name}", x=x.buffer, y=y.buffer, pixel=x.pixel,
            channels=x.channels, pixels=x.pixels)
    if y.buffer is not x.buffer:
        low.clear_padding(y)
    return Result(replace(y, kept=low.training), x)


def reshape(low: Lowering, node: Node, x: Tensor) -> Result:
    """The same numbers in another shape: the same buffer where they stand in order."""
    if view := as_view(x, node.output_shape):
        return Result(view, x)
    y = low.tensor(f"y{node.index}", node.output_shape)
    low.repack(x, y)
    return Result(y, x)


def permute(low: Lowering, node: Node, x: Tensor) -> Result:
    """Axes in another order."""
    return Result(add_permutation(low, f"y{node.index}", x, node.operation), x)


def add_permutation(low: Lowering, name: str, x: Tensor, operation: op.Permute) -> Tensor:
    """Axes in another order; the same tensor where they stay."""
    order = operation.order
    if order == tuple(range(len(order))):
        return x
    y, lead = low.tensor(name, operation.output_shape(x.shape)), 3 - len(x.shape)
    shape = (1,) * lead + x.shape
    middle = ((1,) * lead + y.shape)[1]
    steps = (middle * y.pixel, y.pixel, 1)
    place = [0] * 3
    for k, axis in enumerate(order):
        place[axis + lead] = steps[k + lead]
    low.add("permute", x=x, y=y, a=shape[0], b=shape[1], c=shape[2], x_a=shape[1] * x.pixel,
            x_b=x.pixel, y_a=place[0], y_b=place[1], y_c=place[2])
    low.clear_padding(y)
    return y


def pad(low: Lowering, node: Node, x: Tensor) -> Result:
    """Zeros around images."""
    y = low.tensor(f"y{node.index}", node.output_shape)
    words = window_words.padding(node.operation.sides, node.input_shape, x.pixel)
    low.add("pad_images", x=x, window=low.constant(f"window{node.index}", words), y=y)
    return Result(y, x)


def repeat(low: Lowering, node: Node, x: Tensor) -> Result:
    """Each number several times along each axis."""
    y = x
    for i, (order, times) in enumerate(repeats_of_last(node.operation)):
        y = add_permutation(low, f"turned{node.index}_{i}", y, order)
        if times > 1:
            y = add_repeat(low, f"y{node.index}_{i}", y, times)
    return Result(y, x)


def repeats_of_last(operation: op.Repeat) -> list[tuple[op.Permute, int]]:
    """Other orders of axes, and how often numbers of the then last axis stand in a row."""
    rank = len(operation.times)
    moves, at = [], list(range(rank))
    for axis in reversed(range(rank)):
        if operation.times[axis] > 1:
            place = at.index(axis)
            order = (*(k for k in range(rank) if k != place), place)
            moves.append((op.Permute(order), operation.times[axis]))
            at = [at[k] for k in order]
    return [*moves, (op.Permute(tuple(at)).inverse, 1)]


# -- several sources, several readers


def copied(low: Lowering, name: str, x: Tensor) -> Tensor:
    """A tensor of its own with the same numbers."""
    y = low.like(name, x)
    low.add("copy_block", x=x, x_a=0, x_b=0, y=y, y_a=0, y_b=0, a=1, b=1, c=x.stride)
    return y


def combine(low: Lowering, node: Node, x: Tensor, y: Tensor) -> Result:
    """Number by number, with the ReLU that has joined."""
    out = low.tensor(f"y{node.index}", node.output_shape, kept=node.relu)
    a, b = pixels_of(node.output_shape)
    low.add(f"combine_{node.operation.kind}", **steps_of("x", x, node), **steps_of("y", y, node),
            out=out, a=a, b=b, panels=low.panels(out.channels), relu=int(node.relu))
    if any(z.channels < out.channels for z in (x, y)):
        low.clear_padding(out, always=True)
    return Result(out, x, others=(y,))


def pixels_of(shape: Shape) -> Pair:
    """Lengths of what comes before the last axis, as two axes."""
    before = shape[:-1]
    return (1, math.prod(before)) if len(before) != 2 else (before[0], before[1])


def steps_of(name: str, x: Tensor, node: Node) -> dict[str, Any]:
    """How a source of a combination moves with its result: 0 along an axis that it has not."""
    shape = (1,) * (len(node.output_shape) - len(x.shape)) + x.shape
    a, b = pixels_of(shape)
    width = 1 if len(shape) != 3 else shape[1]
    return {name: x, f"{name}_a": width * x.pixel if a > 1 else 0,
            f"{name}_b": x.pixel if b > 1 else 0,
            f"{name}_c": int(x.channels == node.output_shape[-1])}


def concatenate(low: Lowering, node: Node, *xs: Tensor) -> Result:
    """One after the other along an axis."""
    y, axis, first = low.tensor(f"y{node.index}", node.output_shape), node.operation.axis, 0
    for x in xs:
        copy_along(low, axis, x, 0, y, first, x.shape[axis])
        first += x.shape[axis]
    low.clear_padding(y)
    return Result(y, xs[0], others=xs[1:])


def copy_along(low: Lowering, axis: int, x: Tensor, x_first: int, y: Tensor, y_first: int,
               length: int) -> None:
    """`length` numbers along an axis, from one place in `x` to another in `y`."""
    of_last = axis == len(x.shape) - 1
    behind = 1 if of_last else math.prod(x.shape[axis + 1 : -1])
    a, b, c = ((1, x.pixels, length) if of_last else
               (math.prod(x.shape[:axis]), length * behind, x.channels))
    operands: dict[str, Any] = {}
    for name, tensor, first in (("x", x, x_first), ("y", y, y_first)):
        items = first if of_last else first * behind * tensor.pixel
        operands |= {
            name: tensor.buffer.at(items, low.dtype.itemsize), f"{name}_image": tensor.stride,
            f"{name}_a": 0 if of_last else tensor.shape[axis] * behind * tensor.pixel,
            f"{name}_b": tensor.pixel,
        }
    low.add("copy_block", **operands, a=a, b=b, c=c)


def part(low: Lowering, node: Node, x: Tensor) -> Result:
    """Some numbers of a row."""
    y = low.tensor(f"y{node.index}", node.output_shape)
    low.add("copy_block", x=x.buffer.at(node.operation.first, low.dtype.itemsize),
            x_image=x.stride, x_a=0, x_b=y.channels, y=y, y_a=0, y_b=y.pixel, a=1, b=y.pixels,
            c=y.channels)
    low.clear_padding(y)
    return Result(y, x)


Forward = Callable[..., Result]
# What training and inference share; a batch norm and what disturbs training they do in their own
# way.
SHARED: dict[type[Operation], Forward] = {
    op.Dense: dense, op.Convolve: convolve, op.ConvolveTransposed: convolve,
    op.ConvolveDepthwise: depthwise, op.Pool: pool, op.RowNorm: row_norm,
    op.Elementwise: elementwise, op.Softmax: softmax, op.Permute: permute, op.Reshape: reshape,
    op.Pad: pad, op.Repeat: repeat, op.Combine: combine, op.Concatenate: concatenate,
    op.Part: part, op.Affine: affine, op.PRelu: prelu, op.Embed: embed, op.Dot: dot,
}
