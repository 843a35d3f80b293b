"""Lowering of one training step on rows of any shape: forward and backward of each kind of node that goes image by image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nbbn.layers import BatchNormalization
from nbbn.program import windows
from nbbn.program.layout import padded
from nbbn.program.nodes import Node
from nbbn.program.program import Buffer, Segment
from nbbn.program.tensors import Tensor


class ImageTraining:
    """The nodes of `Images`, forward and backward; the rest of the lowering is `training.py`'s."""

    # -- what the lowering provides: program, layers, images, rows, result, _tensor, _buffer, _train, _first_trained

    def _like(self, name: str, x: Tensor) -> Tensor:
        """A new tensor of the same layout."""
        return replace(x, buffer=self.program.buffer(name, Segment.WORK, self.rows * x.stride), kept=False)

    def _partial(self, name: str, items: int) -> Buffer:
        return self.program.buffer(name, Segment.WORK, self.images.blocks * items)

    def _merge(self, partial: Buffer, name: str, vectors: int) -> Buffer:
        """The sum over blocks."""
        lanes = padded(1, self.program.dtype)
        out = self.program.buffer(name, Segment.WORK, vectors * lanes)
        self.program.add("merge_partials", partial=partial, blocks=self.images.blocks, out=out, panels=vectors)
        return out

    def _mask_by_output(self, node: Node, y: Tensor, d: Tensor) -> None:
        if node.relu:
            self.images.activation_slope("relu", (0.0,), y, d)

    def _bias_gradient(self, node: Node, d: Tensor) -> None:
        if "bias" not in self._trained(node):
            return
        panels = self.images.panels(d.channels)
        partial = self._partial(f"dbias_parts{node.layer}", panels * padded(1, self.program.dtype))
        self.program.add("image_column_sums", x=d.buffer, x_pixel=d.pixel, pixels=d.pixels, partial=partial, panels=panels,
                         blocks=self.images.blocks)
        self.pending.append(lambda: self._train(node, "bias", self._merge(partial, f"dbias{node.layer}", panels), panels))

    # -- convolutions

    def _forward_conv(self, i: int, node: Node, x: Tensor) -> Tensor:
        z = self._tensor(f"z{node.layer}", node.after, kept=node.relu)
        self.images.conv(node, x, z, self.images.convolution(node, x.pixel))
        return z

    def _backward_conv(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor | None:
        self._mask_by_output(node, y, d)
        words = self.images.convolution(node, x.pixel)
        block = self.result.parameters.blocks[node.layer, "kernel"]
        depth, panels = padded(block.form.depth, self.program.dtype), self.images.panels(node.after[-1])
        if "kernel" in self._trained(node):
            partial = self._partial(f"dkernel_parts{node.layer}", block.form.items(self.program.dtype))
            self.program.add("conv_gradient", x=x.buffer, x_image=x.stride,
                             window=self.images.constant(f"window{node.layer}", words), dz=d.buffer, dz_image=d.stride,
                             partial=partial, weight_depth=depth, panels=panels, scratch=self.images.scratch,
                             blocks=self.images.blocks)
        dx = None
        if i > self._first_trained:
            dx = self._like(f"d{node.layer}", x)
            self._conv_input_gradient(node, words, d, dx)
        self._bias_gradient(node, d)
        if "kernel" in self._trained(node):
            self.pending.append(lambda: self._update_conv(node, partial))
        return dx

    def _update_conv(self, node: Node, partial: Buffer) -> None:
        """One step on a convolution's kernel, from its gradient's parts."""
        form = self.result.parameters.blocks[node.layer, "kernel"].form
        vectors = form.items(self.program.dtype) // padded(1, self.program.dtype)
        grad = self._merge(partial, f"dkernel{node.layer}", vectors)
        if form.groups > 1:
            mask = self.result.parameters.add_constant(f"mask{node.layer}", form.mask(self.program.dtype))
            self.program.add("mask_columns", x=grad, mask=mask, panels=vectors)
        self._train(node, "kernel", grad, vectors)

    def _turn_kernels(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        """Before the backward pass: the kernels as the input's gradients multiply with them."""
        for i, (node, x, z) in enumerate(zip(self.nodes, inputs, outputs)):
            if node.kind == "conv" and i > self._first_trained:
                block = self.result.parameters.blocks[node.layer, "kernel"]
                cells = int(np.prod(windows.kernel_size(self.layers[node.layer])))
                depth = padded(cells * z.pixel, self.program.dtype)
                self._turned[node.layer] = self.program.buffer(f"turned{node.layer}", Segment.WORK, depth * x.pixel), depth
                self.program.add("transpose_cells", weights=block.buffer,
                                 weight_depth=padded(block.form.depth, self.program.dtype), cells=cells,
                                 turned=int(_spread(self.images.convolution(node, x.pixel))), pixel=x.pixel,
                                 units_pixel=z.pixel, out=self._turned[node.layer][0], out_depth=depth,
                                 panels=self.images.panels(z.channels))
            elif node.kind == "depthwise" and i > self._first_trained:
                block = self.result.parameters.blocks[node.layer, "kernel"]
                flipped = self.program.buffer(f"flipped{node.layer}", Segment.WORK, block.form.items(self.program.dtype))
                self.program.add("flip_cells", weights=block.buffer, cells=block.form.rows,
                                 panels=self.images.panels(z.channels), out=flipped)
                self._turned[node.layer] = flipped, 0

    def _conv_input_gradient(self, node: Node, words: np.ndarray, d: Tensor, dx: Tensor) -> None:
        """`dx` from `d`: with the transpose of each cell, or, where the image was spread, by a convolution turned round."""
        turned, turned_depth = self._turned[node.layer]
        if _spread(words):
            self.images.convolve(d, dx, f"gradient_window{node.layer}", windows.input_gradient(words), turned,
                                 self._nothing(dx.pixel))
        else:
            self.program.add("conv_input_gradient", dz=d.buffer, dz_image=d.stride,
                             window=self.images.constant(f"window{node.layer}", words), weights=turned,
                             weight_depth=turned_depth, dx=dx.buffer, dx_image=dx.stride,
                             panels=self.images.panels(dx.channels), blocks=self.images.blocks)

    def _forward_depthwise(self, i: int, node: Node, x: Tensor) -> Tensor:
        repeated = self._repeated(node, x)
        z = self._tensor(f"z{node.layer}", node.after)
        blocks = self.result.parameters.blocks
        self.images.depthwise(repeated, z, f"window{node.layer}", self.images.convolution(node, repeated.pixel),
                              blocks[node.layer, "kernel"].buffer, blocks[node.layer, "bias"].buffer)
        return z

    def _repeated(self, node: Node, x: Tensor) -> Tensor:
        times = self.layers[node.layer].depth_multiplier
        if times == 1:
            return x
        if node.layer not in self._repeats:
            self._repeats[node.layer] = out = self._tensor(f"x{node.layer}", (*node.before[:-1], node.before[-1] * times))
            self.images.repeat(node, x, out)
        return self._repeats[node.layer]

    def _backward_depthwise(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor | None:
        repeated = self._repeated(node, x)
        words = self.images.convolution(node, repeated.pixel)
        block = self.result.parameters.blocks[node.layer, "kernel"]
        panels, cells = self.images.panels(node.after[-1]), block.form.rows
        if "kernel" in self._trained(node):
            partial = self._partial(f"dkernel_parts{node.layer}", block.form.items(self.program.dtype))
            self.program.add("depthwise_gradient", x=repeated.buffer, x_image=repeated.stride,
                             window=self.images.constant(f"window{node.layer}", words), dz=d.buffer, dz_image=d.stride,
                             partial=partial, panels=panels, scratch=self.images.scratch, blocks=self.images.blocks)
        dx = None
        if i > self._first_trained:
            flipped, _ = self._turned[node.layer]
            dx = self._like(f"drepeated{node.layer}", repeated)
            self.images.depthwise(d, dx, f"gradient_window{node.layer}", windows.input_gradient(words), flipped,
                                  self._nothing(repeated.pixel))
            if repeated is not x:
                dr, dx = dx, self._like(f"d{node.layer}", x)
                self.program.add("sum_repeats", dy=dr.buffer, dy_image=dr.stride, dy_pixel=dr.pixel, channels=x.channels,
                                 times=self.layers[node.layer].depth_multiplier, dx=dx.buffer, dx_image=dx.stride,
                                 dx_pixel=dx.pixel, pixels=x.pixels, blocks=self.images.blocks)
        self._bias_gradient(node, d)
        if "kernel" in self._trained(node):
            vectors = cells * panels
            self.pending.append(
                lambda: self._train(node, "kernel", self._merge(partial, f"dkernel{node.layer}", vectors), vectors)
            )
        return dx

    # -- pools, and layers that move numbers

    def _forward_pool(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._tensor(f"y{node.layer}", node.after)
        self._windows[node.layer] = self.images.pool(node, x, y)
        return y

    def _backward_max_pool(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        dx = self._like(f"d{node.layer}", x)
        self.program.add("max_pool_backward", x=x.buffer, x_image=x.stride, window=self._windows[node.layer], dy=d.buffer,
                         dy_image=d.stride, dx=dx.buffer, dx_image=dx.stride, panels=self.images.panels(x.channels),
                         blocks=self.images.blocks)
        return dx

    def _backward_average_pool(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        dx = self._like(f"d{node.layer}", x)
        self.program.add("average_pool_backward", window=self._windows[node.layer], dy=d.buffer, dy_image=d.stride,
                         dx=dx.buffer, dx_image=dx.stride, panels=self.images.panels(x.channels), blocks=self.images.blocks)
        return dx

    _forward_max_pool = _forward_average_pool = _forward_pool

    def _forward_repack(self, i: int, node: Node, x: Tensor) -> Tensor:
        if view := as_view(x, node):
            return view
        y = self._tensor(f"y{node.layer}", node.after)
        self.images.repack(x, y)
        return y

    def _backward_repack(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        if y.buffer is x.buffer and d.stride == x.stride:
            return replace(d, shape=x.shape, pixel=x.pixel)
        dx = self._like(f"d{node.layer}", x)
        self.images.repack(d, dx)
        return dx

    def _forward_permute(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._tensor(f"p{i}_{node.layer}", node.after)
        self.images.permute(node.numbers, x, y)
        return y

    def _backward_permute(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        dx = self._like(f"dp{i}_{node.layer}", x)
        self.images.permute(tuple(node.numbers.index(k) for k in range(len(node.numbers))), d, dx)
        return dx

    def _forward_pad(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._tensor(f"y{node.layer}", node.after)
        self.images.pad(f"window{node.layer}", windows.padding(self.layers[node.layer], node.before, x.pixel), x, y)
        return y

    def _backward_pad(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        dx = self._like(f"d{node.layer}", x)
        words = windows.cropping(windows.padding(self.layers[node.layer], node.before, x.pixel))
        self.images.pad(f"crop{node.layer}", words, d, dx)
        return dx

    # -- activations and noise

    def _forward_image_activation(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._like(f"a{node.layer}", x)
        self.images.activate(node.activation, node.numbers, x, y)
        return y

    def _backward_image_activation(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        self.images.activation_slope(node.activation, node.numbers, x, d)
        return d

    def _forward_channel_softmax(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._like(f"a{node.layer}", x)
        self.images.softmax(x, y)
        return replace(y, kept=True)

    def _backward_channel_softmax(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        self.images.softmax_slope(y, d)
        return d

    def _forward_dropout(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._like(f"y{node.layer}", x)
        self._drop(node, x, y)
        return y

    def _backward_dropout(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        self._drop(node, d, d)
        return d

    def _drop(self, node: Node, x: Tensor, y: Tensor) -> None:
        self.program.add("dropout", x=x.buffer, y=y.buffer, image=x.stride, pixel=x.pixel, channels=x.channels,
                         rate_of_loss=self.layers[node.layer].rate, seed=self._seed_of(node), blocks=self.images.blocks)

    def _seed_of(self, node: Node) -> int:
        own = self.layers[node.layer].seed
        return (self.seed * 1_000_003 + node.layer if own is None else own) & (2**62 - 1)

    def _forward_noise(self, i: int, node: Node, x: Tensor) -> Tensor:
        y = self._like(f"y{node.layer}", x)
        self.program.add("gaussian_noise", x=x.buffer, y=y.buffer, image=x.stride, pixel=x.pixel, channels=x.channels,
                         stddev=self.layers[node.layer].stddev, seed=self._seed_of(node), blocks=self.images.blocks)
        return y

    def _backward_noise(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        return d

    # -- norms

    def _norm_statistics(self, node: Node, x: Tensor) -> Buffer:
        """Emit the statistics that a batch norm normalises with; return where they stand."""
        layer: BatchNormalization = self.layers[node.layer]
        panels, dtype, blocks = self.images.panels(x.channels), self.program.dtype, self.images.blocks
        width, state = padded(x.channels, dtype), self.result.parameters.state(node.layer)
        batch = self.program.buffer(f"batch{node.layer}", Segment.WORK, 3 * width)
        momentum, debias = (1.0, 1) if layer.momentum is None else (layer.momentum, int(self.debias))
        if not layer.uses_running or layer.updates_running:
            partial = self._partial(f"moments{node.layer}", 3 * width)
            self.program.add("image_moments", x=x.buffer, pixel=x.pixel, pixels=x.pixels, partial=partial, panels=panels,
                             blocks=blocks)
            self.program.add("image_norm_statistics", partial=partial, pixels=x.pixels, batch=batch, state=state, panels=panels,
                             epsilon=layer.epsilon, momentum=momentum, debias=debias, update=int(layer.updates_running),
                             blocks=blocks)
        if layer.uses_running:
            self.program.add("frozen_norm_statistics", batch=batch, state=state, panels=panels, epsilon=layer.epsilon)
        self._batches[node.layer] = batch
        return batch

    def _forward_image_norm(self, i: int, node: Node, x: Tensor) -> Tensor:
        batch = self._norm_statistics(node, x)
        xhat = self._like(f"xhat{node.layer}", x) if x.kept else x
        y = self._like(f"y{node.layer}", x)
        self.program.add("image_norm_relu_forward" if node.relu else "image_norm_forward", x=x.buffer, xhat=xhat.buffer,
                         y=y.buffer, batch=batch, state=self.result.parameters.state(node.layer), pixel=x.pixel, pixels=x.pixels,
                         panels=self.images.panels(x.channels), blocks=self.images.blocks)
        self._xhats[node.layer] = xhat
        return y

    def _norm_pool(self, node: Node, z: Tensor) -> dict:
        """Operands that the three kernels of a batch norm with its pool share."""
        return {"z": z.buffer, "z_image": z.stride, "window": self._windows[node.layer], "batch": self._batches[node.layer],
                "state": self.result.parameters.state(node.layer), "relu": int(node.relu),
                "panels": self.images.panels(z.channels), "blocks": self.images.blocks}

    def _forward_norm_pool(self, i: int, node: Node, z: Tensor) -> Tensor:
        self._norm_statistics(node, z)
        y = self._tensor(f"y{node.layer}", node.after)
        words = windows.pool(self.layers[int(node.numbers[0])], node.before, node.after, z.pixel, y.pixel)
        self._windows[node.layer] = self.images.constant(f"window{node.layer}", words)
        self.program.add("norm_pool_forward", y=y.buffer, y_image=y.stride, **self._norm_pool(node, z))
        return y

    def _backward_norm_pool(self, i: int, node: Node, z: Tensor, y: Tensor, d: Tensor) -> Tensor:
        panels, common = self.images.panels(z.channels), self._norm_pool(node, z) | {"dy": d.buffer, "dy_image": d.stride}
        partial = self._partial(f"dstate_parts{node.layer}", 2 * padded(z.channels, self.program.dtype))
        self.program.add("norm_pool_sums", partial=partial, **common)
        dstate = self._merge(partial, f"dstate{node.layer}", 2 * panels)
        if i > self._first_trained:
            self.program.add("norm_pool_backward", dstate=dstate, frozen=int(self.layers[node.layer].uses_running), **common)
        self._train_state(node, dstate, panels)
        return z

    def _backward_image_norm(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        layer: BatchNormalization = self.layers[node.layer]
        panels, blocks = self.images.panels(x.channels), self.images.blocks
        state, xhat = self.result.parameters.state(node.layer), self._xhats[node.layer]
        partial = self._partial(f"dstate_parts{node.layer}", 2 * padded(x.channels, self.program.dtype))
        self.program.add("image_norm_relu_sums" if node.relu else "image_norm_sums", dy=d.buffer, xhat=xhat.buffer, state=state,
                         partial=partial, pixel=x.pixel, pixels=x.pixels, panels=panels, blocks=blocks)
        dstate = self._merge(partial, f"dstate{node.layer}", 2 * panels)
        if i > self._first_trained:
            self.program.add("image_norm_backward", dy=d.buffer, xhat=xhat.buffer, batch=self._batches[node.layer], state=state,
                             dstate=dstate, pixel=x.pixel, pixels=x.pixels, panels=panels, frozen=int(layer.uses_running),
                             blocks=blocks)
        self._train_state(node, dstate, panels)
        return d

    def _forward_group_norm(self, i: int, node: Node, x: Tensor) -> Tensor:
        sets = self.images.sets(node)
        count = x.pixels // sets["set_pixels"] * (x.channels // sets["set_channels"])
        invstd = self.program.buffer(f"invstd{node.layer}", Segment.WORK, self.rows * count)
        xhat = self._like(f"xhat{node.layer}", x) if x.kept else x
        y = self._like(f"y{node.layer}", x)
        self.images.group_norm(node, x, xhat, y, invstd)
        self._xhats[node.layer], self._batches[node.layer] = xhat, invstd
        return y

    def _backward_group_norm(self, i: int, node: Node, x: Tensor, y: Tensor, d: Tensor) -> Tensor:
        panels, width = self.images.panels(x.channels), padded(x.channels, self.program.dtype)
        partial = self._partial(f"dstate_parts{node.layer}", 2 * width)
        self.program.add("group_norm_backward", dy=d.buffer, xhat=self._xhats[node.layer].buffer,
                         invstd=self._batches[node.layer], state=self.result.parameters.state(node.layer), partial=partial,
                         width=width, pixel=x.pixel, pixels=x.pixels, channels=x.channels, blocks=self.images.blocks,
                         **self.images.sets(node))
        self._train_state(node, self._merge(partial, f"dstate{node.layer}", 2 * panels), panels)
        return d

    def _train_state(self, node: Node, dstate: Buffer, panels: int) -> None:
        """Steps on gamma and beta, whose gradients are the two rows of `dstate`."""
        width = padded(1, self.program.dtype) * panels
        for row, name in enumerate(("gamma", "beta")):
            if name in self._trained(node):
                grad = dstate.at(row * width, self.program.dtype.itemsize)
                self.pending.append(lambda name=name, grad=grad: self._train(node, name, grad, panels))


def _spread(words: np.ndarray) -> bool:
    """Whether a window reads an image with zeros between its pixels."""
    return bool((words[[windows.w.SPREAD_H, windows.w.SPREAD_W]] > 1).any())


def as_view(x: Tensor, node: Node) -> Tensor | None:
    """The same buffer in another shape, where the numbers stand in order already."""
    tight = x.pixel == x.channels or (len(x.shape) == 1 and x.stride == x.width)
    if not tight or len(node.after) > 1:
        return None
    return replace(x, shape=node.after, pixel=x.stride)
