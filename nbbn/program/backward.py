"""The backward pass of each operation: from the gradient by what came out to that by what went in.

A function `(lowering, node, result, d) -> dx` emits the kernels; it may write over `d`, and gives
None where nothing before it is trained.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from nbbn import operations as op
from nbbn.activations import ELEMENTWISE
from nbbn.errors import LayerError
from nbbn.operations import Operation
from nbbn.program import patches, window_words, winograd
from nbbn.program.forward import (
    POOLS,
    add_affine,
    add_convolution,
    add_depthwise,
    add_permutation,
    copied,
    copy_along,
    dot_sizes,
    dot_step,
    node_cells,
    pixels_of,
    prelu_operands,
    repeats_of_last,
    row_norm_sizes,
    steps_of,
)
from nbbn.program.fusion import Node
from nbbn.program.layout import lanes, padded
from nbbn.program.lowering import Result
from nbbn.program.program import Buffer, Segment
from nbbn.program.tensors import Tensor
from nbbn.program.training_forward import (
    add_dropout,
    add_product,
    by_weight,
    norm_pool_operands,
)
from nbbn.program.training_lowering import TrainingLowering, keeps_columns
from nbbn.program.weight_layouts import ConvLayout

# -- dense layers and convolutions


def dense(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor | None:
    """`dx = d @ kernel.T`, and a step on the layer."""
    if node.is_convolution:
        return convolve(low, node, result, d)
    x = result.x
    if node.relu:
        _mask("relu", low, result.y, d)
    low.updates.emit(keep=1)
    dx = None
    if low.wants_input_gradient(node):
        dx = low.like(f"d{node.index}", x)
        low.add("dense_forward", x=d, depth=node.width,
                weights=low.parameters.add_transposed(node).buffer,
                weight_depth=padded(node.width, low.dtype),
                bias=low.zeros(padded(x.width, low.dtype)), z=dx, panels=low.panels(x.width),
                row_parts=1, shared=1, relu=0)
    low.updates.later(lambda: low.updates.dense(node, x, d))
    return dx


def _mask(name: str, low: TrainingLowering, y: Tensor, d: Tensor) -> None:
    """`d *= f'`, which follows from the values `y` of the activation."""
    low.add(f"{name}_backward", dy=d, y=y, panels=low.panels(y.width))


def _mask_images(low: TrainingLowering, node: Node, y: Tensor, d: Tensor) -> None:
    if node.relu:
        _slope(low, "relu", {}, y, d)


def _slope(low: TrainingLowering, name: str, numbers: dict[str, float], x: Tensor,
           d: Tensor) -> None:
    """`d *= f'(x)`."""
    low.add(f"image_{name}_slope", dy=d.buffer, x=x.buffer, image=x.stride, **numbers)


def convolve(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor | None:
    """The input's gradient and steps on kernel and bias."""
    x = result.x
    _mask_images(low, node, result.y, d)
    words = low.window(node, x.pixel)
    layout = low.parameters.of(node, "kernel").layout
    assert isinstance(layout, ConvLayout)
    if low.is_trained(node, "kernel"):
        gradient = _kernel_gradient(low, node, words, layout, x, d)
    dx = None
    if low.wants_input_gradient(node):
        dx = low.like(f"d{node.index}", x)
        _convolution_input_gradient(low, node, words, d, dx)
    _bias_gradient(low, node, d)
    if low.is_trained(node, "kernel"):
        low.updates.later(lambda: _update_convolution(low, node, layout, gradient()))
    return dx


def _kernel_gradient(low: TrainingLowering, node: Node, words: np.ndarray, layout: ConvLayout,
                     x: Tensor, d: Tensor) -> Callable[[], Buffer]:
    """Emit the gradient of a convolution's kernel; return what gives all of it, when it is due."""
    operands: dict[str, Any] = {
        "x": x, "window": low.constant(f"gradient_reads{node.index}", words), "dz": d,
        "weight_depth": padded(layout.depth, low.dtype), "panels": low.panels(d.channels),
    }
    if winograd.is_faster(words, low.dtype):
        gradient = low.updates.gradient_of(node, "kernel")
        low.add("winograd_gradient", **operands, gradient=gradient, sums=low.points_at_hand,
                held=winograd.held_for_gradient(words, low.rows, low.dtype))
        return lambda: gradient
    parts = low.partial(f"dkernel_parts{node.index}", layout.items(low.dtype))
    held = patches.held_for_gradient(words, low.rows, low.dtype)
    if held and d.stride == d.pixels * d.pixel:
        low.add("conv_patches_gradient", **operands, partial=parts, held=held,
                patch=patches.patch(words, low.dtype))
    else:
        low.add("conv_gradient", **operands, partial=parts)
    return lambda: low.merged(parts, f"dkernel{node.index}", low.updates.vectors(node, "kernel"))


def _update_convolution(low: TrainingLowering, node: Node, layout: ConvLayout,
                        gradient: Buffer) -> None:
    """One step on a convolution's kernel."""
    vectors = low.updates.vectors(node, "kernel")
    if layout.groups > 1:
        mask = low.constant(f"mask{node.index}", layout.mask(low.dtype))
        low.add("mask_columns", x=gradient, mask=mask, panels=vectors)
    low.updates.train(node, "kernel", gradient, vectors)


def _bias_gradient(low: TrainingLowering, node: Node, d: Tensor) -> None:
    if not low.is_trained(node, "bias"):
        return
    panels = low.panels(d.channels)
    parts = low.partial(f"dbias_parts{node.index}", panels * lanes(low.dtype))
    low.add("image_column_sums", x=d, pixels=d.pixels, partial=parts, panels=panels)

    def update() -> None:
        gradient = low.merged(parts, f"dbias{node.index}", panels)
        low.updates.train(node, "bias", gradient, panels)

    low.updates.later(update)


def turn_kernels(low: TrainingLowering, results: list[Result]) -> None:
    """Before the backward pass: the kernels as the input's gradients multiply with them."""
    for node, result in zip(low.nodes, results):
        if not (node.has_kernel and low.wants_input_gradient(node)):
            continue
        if isinstance(node.operation, op.ConvolveDepthwise):
            low.turned[node.index] = _flipped(low, node, result.y)
        elif node.is_convolution:
            low.turned[node.index] = _transposed(low, node, result.x, result.y)


def _flipped(low: TrainingLowering, node: Node, z: Tensor) -> tuple[Buffer, int]:
    items = low.parameters.of(node, "kernel").layout.items(low.dtype)
    flipped = low.program.buffer(f"flipped{node.index}", Segment.WORK, items)
    low.add("flip_cells", weights=low.block(node, "kernel"), cells=node_cells(node),
            panels=low.panels(z.channels), out=flipped)
    return flipped, 0


def _transposed(low: TrainingLowering, node: Node, x: Tensor, z: Tensor) -> tuple[Buffer, int]:
    cells = node_cells(node)
    depth = padded(cells * z.pixel, low.dtype)
    turned = low.program.buffer(f"turned{node.index}", Segment.WORK, depth * x.pixel)
    words = low.window(node, x.pixel)
    low.add("transpose_cells", weights=low.block(node, "kernel"),
            weight_depth=padded(cells * x.pixel, low.dtype), cells=cells,
            turned=int(_is_turned(words)), pixel=x.pixel,
            units_pixel=z.pixel, out=turned, out_depth=depth, panels=low.panels(z.channels))
    return turned, depth


def _convolution_input_gradient(low: TrainingLowering, node: Node, words: np.ndarray, d: Tensor,
                                dx: Tensor) -> None:
    """By a convolution turned round; where it would read zeros between pixels cell by cell."""
    turned, depth = low.turned[node.index]
    if _is_turned(words):
        words = window_words.input_gradient(words)
        window = low.constant(f"gradient_window{node.index}", words)
        points = None
        if winograd.is_faster(words, low.dtype):
            points = low.points_at_hand
            low.add_points(turned, d.pixel, dx.channels, points)
        add_convolution(low, d, dx, window, words, turned, low.zeros(dx.pixel), points=points)
        return
    low.add("conv_input_gradient", dz=d, window=low.constant(f"gradient_window{node.index}", words),
            weights=turned, weight_depth=depth, dx=dx, panels=low.panels(dx.channels))


def _is_turned(words: np.ndarray) -> bool:
    """Whether the input's gradient is a convolution without zeros between the pixels it reads."""
    return not window_words.is_spread(window_words.input_gradient(words))


def depthwise(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor | None:
    """The input's gradient and steps on kernel and bias."""
    repeated, panels = result.x, low.panels(d.channels)
    words = low.window(node, repeated.pixel)
    if low.is_trained(node, "kernel"):
        items = low.parameters.of(node, "kernel").layout.items(low.dtype)
        parts = low.partial(f"dkernel_parts{node.index}", items)
        low.add("depthwise_gradient", x=repeated,
                window=low.constant(f"gradient_reads{node.index}", words), dz=d, partial=parts,
                panels=panels)
    dx = None
    if low.wants_input_gradient(node):
        flipped, _ = low.turned[node.index]
        dx = low.like(f"drepeated{node.index}", repeated)
        window = low.constant(f"gradient_window{node.index}", window_words.input_gradient(words))
        add_depthwise(low, d, dx, window, flipped, low.zeros(repeated.pixel))
        if node.operation.multiplier > 1:
            dx = _sum_repeats(low, f"d{node.index}", dx, node.operation.multiplier)
    _bias_gradient(low, node, d)
    if low.is_trained(node, "kernel"):
        vectors = low.updates.vectors(node, "kernel")

        def update() -> None:
            gradient = low.merged(parts, f"dkernel{node.index}", vectors)
            low.updates.train(node, "kernel", gradient, vectors)

        low.updates.later(update)
    return dx


def _sum_repeats(low: TrainingLowering, name: str, d: Tensor, times: int) -> Tensor:
    dx = low.tensor(name, (*d.shape[:-1], d.channels // times))
    low.add("sum_repeats", dy=d, channels=dx.channels, times=times, dx=dx, pixels=dx.pixels)
    low.clear_padding(dx)
    return dx


# -- pools, and what moves numbers


def pool(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """To the largest of each window, or to all of it."""
    dx = low.like(f"d{node.index}", result.x)
    values = {"x": result.x} if node.operation.kind == "max" else {}
    low.add(f"{POOLS[node.operation.kind]}_backward", window=result.window, dy=d, dx=dx,
            panels=low.panels(dx.channels), **values)
    return dx


def reshape(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """Back to the shape before."""
    x, y = result.x, result.y
    if y.buffer is x.buffer and d.stride == x.stride:
        return replace(d, shape=x.shape, pixel=x.pixel)
    dx = low.like(f"d{node.index}", x)
    low.repack(d, dx)
    return dx


def permute(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """Back to the order before."""
    return add_permutation(low, f"d{node.index}", d, node.operation.inverse)


def pad(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """The inner part."""
    dx = low.like(f"d{node.index}", result.x)
    forward = window_words.padding(node.operation.sides, node.input_shape, result.x.pixel)
    window = low.constant(f"crop{node.index}", window_words.cropping(forward))
    low.add("pad_images", x=d, window=window, y=dx)
    return dx


def repeat(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """The sum over the repeats, axis by axis."""
    for i, (order, times) in enumerate(reversed(repeats_of_last(node.operation))):
        if times > 1:
            d = _sum_repeats(low, f"d{node.index}_{i}", d, times)
        d = add_permutation(low, f"dturned{node.index}_{i}", d, order.inverse)
    return d


# -- activations, and what disturbs


def elementwise(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """`d *= f'`, from the values where they stand in the place of what went in."""
    name = node.operation.function
    if result.x.buffer is result.y.buffer:
        _mask(name, low, result.y, d)
    else:
        numbers = ELEMENTWISE[name].named(node.operation.numbers)
        _slope(low, name, numbers, result.x, d)
    return d


def affine(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """`d *= scale`."""
    add_affine(low, node, d, node.operation.of_channels(d.channels)["scale"])
    return d


def prelu(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """In place, and a step on the slopes."""
    x, vectors = result.x, low.updates.vectors(node, "alpha")
    size = vectors * lanes(low.dtype)
    parts = low.partial(f"dalpha_parts{node.index}", size)
    low.add("prelu_backward", dy=d.buffer, x=x, partial=parts, size=size,
            **prelu_operands(low, node, x))
    _train_later(low, node, "alpha", parts)
    return d


def embed(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> None:
    """A step on the table; whole numbers have no gradient."""
    if low.wants_input_gradient(node):
        raise LayerError(f"layer {node.layer} (Embedding) reads what trained layers give, which "
                         "have no gradient by it; let it read whole numbers of the input")
    if low.is_trained(node, "embeddings"):
        x, vectors = result.x, low.updates.vectors(node, "embeddings")
        parts = low.partial(f"dembeddings_parts{node.index}", vectors * lanes(low.dtype))
        low.add("embed_gradient", x=x, count=x.width, rows_of_table=node.operation.count, dy=d,
                partial=parts, panels=low.panels(d.channels))
        _train_later(low, node, "embeddings", parts)


def _train_later(low: TrainingLowering, node: Node, name: str, parts: Buffer) -> None:
    """A step on an array whose gradient stands in parts, one a block."""
    def update() -> None:
        vectors = low.updates.vectors(node, name)
        gradient = low.merged(parts, f"d{name}{node.index}", vectors)
        low.updates.train(node, name, gradient, vectors)

    if low.is_trained(node, name):
        low.updates.later(update)


def softmax(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """The gradient before a softmax from the one after it."""
    low.add(f"channel_{node.operation.name}_slope", dy=d.buffer, y=result.y.buffer, pixel=d.pixel,
            channels=d.channels, pixels=d.pixels)
    return d


def disturb(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """The same zeros again; noise adds nothing."""
    if result.others:
        (mask,) = result.others
        add_product(low, node, d, mask, d)
    elif node.operation.kind == "dropout":
        add_dropout(low, node, d, d)
    return d


# -- norms


def batch_norm(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """In place, but with a pool: over what went in."""
    if keeps_columns(node):
        return _norm_of_columns(low, node, result, d)
    x, panels = result.x, low.panels(result.x.channels)
    items = 2 * padded(x.channels, low.dtype)
    parts = low.partial(f"dstate_parts{node.index}", items)
    frozen = int(node.operation.uses_running)
    if node.pool:
        common = norm_pool_operands(low, node, result) | {"dy": d}
        low.add("norm_pool_sums", partial=parts, **common)
        dstate = low.merged(parts, f"dstate{node.index}", 2 * panels)
        if low.wants_input_gradient(node):
            low.add("norm_pool_backward", dstate=dstate, frozen=frozen, **common)
        d = x
    else:
        common = {
            "dy": d.buffer, "x": x.buffer, "batch": result.statistics, "state": low.state(node),
            "relu": int(node.relu), "pixel": x.pixel, "pixels": x.pixels, "panels": panels,
        }
        low.add("image_norm_sums", partial=parts, **common)
        dstate = low.merged(parts, f"dstate{node.index}", 2 * panels)
        if low.wants_input_gradient(node):
            low.add("image_norm_backward", dstate=dstate, frozen=frozen, **common)
    _train_state(low, node, dstate, panels)
    return d


def _norm_of_columns(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    panels = low.panels(result.x.width)
    width = panels * lanes(low.dtype)
    gradient = low.program.buffer(f"dstate{node.index}", Segment.WORK, 2 * width)
    kernel, shares = by_weight(low, "backward")
    low.add(kernel, dy=d, x=result.x, batch=result.statistics, state=low.state(node),
            dstate=gradient, relu=int(node.relu), panels=panels, **shares)
    for row, name in enumerate(("gamma", "beta")):
        if low.is_trained(node, name):
            place = gradient.at(row * width, low.dtype.itemsize)
            low.updates.train(node, name, place, panels)
    return d


def row_norm(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> Tensor:
    """In place."""
    xhat, panels = result.x, low.panels(result.x.channels)
    items = 2 * padded(xhat.channels, low.dtype)
    parts = low.partial(f"dstate_parts{node.index}", items)
    low.add("group_norm_backward", dy=d.buffer, xhat=xhat.buffer, invstd=result.statistics,
            state=low.state(node), partial=parts, **row_norm_sizes(low, node, xhat))
    _train_state(low, node, low.merged(parts, f"dstate{node.index}", 2 * panels), panels)
    return d


def _train_state(low: TrainingLowering, node: Node, dstate: Buffer, panels: int) -> None:
    """Steps on gamma and beta, whose gradients are the two rows of `dstate`."""
    width = panels * lanes(low.dtype)
    for row, name in enumerate(("gamma", "beta")):
        if low.is_trained(node, name):
            gradient = dstate.at(row * width, low.dtype.itemsize)
            low.updates.later(partial(low.updates.train, node, name, gradient, panels))


# -- several sources, several readers


def combine(low: TrainingLowering, node: Node, result: Result,
            d: Tensor) -> tuple[Tensor | None, ...]:
    """To both; of a sum to each as it is."""
    xs, wanted = (result.x, *result.others), low.wanted_gradients(node)
    if node.relu:
        _slope(low, "relu", {}, result.y, d)
    if node.operation.kind == "add" and all(x.shape == result.y.shape for x in xs):
        first, second = wanted
        other = copied(low, f"d{node.index}", d) if first and second else d
        return d if first else None, other if second else None
    dxs = [low.like(f"d{node.index}_{k}", x) if wants else None
           for k, (x, wants) in enumerate(zip(xs, wanted))]
    a, b = pixels_of(node.output_shape)
    # What is not wanted is not written: any buffer stands for it.
    low.add(f"combine_{node.operation.kind}_slope", d=d, **steps_of("x", xs[0], node),
            **steps_of("y", xs[1], node), dx=(dxs[0] or d).buffer, dy=(dxs[1] or d).buffer,
            wants_x=int(wanted[0]), wants_y=int(wanted[1]), a=a, b=b,
            panels=low.panels(result.y.channels))
    return tuple(dxs)


def dot(low: TrainingLowering, node: Node, result: Result,
        d: Tensor) -> tuple[Tensor | None, ...]:
    """To both."""
    xs, wanted = (result.x, *result.others), low.wanted_gradients(node)
    dxs = [low.like(f"d{node.index}_{k}", x) if wants else None
           for k, (x, wants) in enumerate(zip(xs, wanted))]
    x, y = xs
    # What is not wanted is not written: any buffer stands for it.
    low.add("dot_backward", d=d, x=x, y=y, dx=(dxs[0] or d).buffer, dy=(dxs[1] or d).buffer,
            wants_x=int(wanted[0]), wants_y=int(wanted[1]), **dot_sizes(node, x, y),
            d_pixel=dot_step(x, d))
    return tuple(dxs)


def concatenate(low: TrainingLowering, node: Node, result: Result,
                d: Tensor) -> tuple[Tensor | None, ...]:
    """To each its part."""
    dxs: list[Tensor | None] = []
    axis, first = node.operation.axis, 0
    for k, (x, wants) in enumerate(zip((result.x, *result.others), low.wanted_gradients(node))):
        dx = low.like(f"d{node.index}_{k}", x) if wants else None
        if dx is not None:
            copy_along(low, axis, d, first, dx, 0, x.shape[axis])
            low.clear_padding(dx)
        dxs.append(dx)
        first += x.shape[axis]
    return tuple(dxs)


def part(low: TrainingLowering, node: Node, result: Result, d: Tensor) -> None:
    """Nothing before an input is trained."""


def add_gradients(low: TrainingLowering, node: Node, total: Tensor, d: Tensor) -> Tensor:
    """The sum of gradients that come from two nodes, over the first."""
    a, b = pixels_of(total.shape)
    place = {name: {f"{name}_a": b * x.pixel if a > 1 else 0, f"{name}_b": x.pixel,
                    f"{name}_c": 1} for name, x in (("x", total), ("y", d))}
    low.add("combine_add", x=total, y=d, out=total, a=a, b=b, panels=low.panels(total.channels),
            relu=0, **place["x"], **place["y"])
    return total


Backward = Callable[[TrainingLowering, Node, Result, Tensor],
                    Tensor | tuple[Tensor | None, ...] | None]
BACKWARD: dict[type[Operation], Backward] = {
    op.Dense: dense, op.Convolve: convolve, op.ConvolveTransposed: convolve,
    op.ConvolveDepthwise: depthwise, op.Pool: pool, op.BatchNorm: batch_norm, op.RowNorm: row_norm,
    op.Elementwise: elementwise, op.Softmax: softmax, op.Permute: permute, op.Reshape: reshape,
    op.Pad: pad, op.Repeat: repeat, op.Combine: combine, op.Concatenate: concatenate,
    op.Part: part, op.Disturb: disturb, op.Affine: affine, op.PRelu: prelu, op.Embed: embed,
    op.Dot: dot,
}
