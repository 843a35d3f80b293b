"""Lowering of what goes image by image: each operation, as training and inference share it."""

from __future__ import annotations

import numpy as np

from nbbn.activations import ELEMENTWISE
from nbbn.layers import GroupNormalization, Layer
from nbbn.program import windows
from nbbn.program.layout import padded, panels_of
from nbbn.program.nodes import Node
from nbbn.program.parameters import Parameters
from nbbn.program.program import Buffer, Program, Segment
from nbbn.program.tensors import Tensor


class Images:
    """Emits forward operations on rows of any shape.

    Parameters
    ----------
    program, parameters
        What is lowered into.
    layers : tuple of Layer
    blocks : int
        Blocks of rows that threads own.
    scratch : Segment
        Where each thread finds room for a bordered image.
    """

    def __init__(self, program: Program, parameters: Parameters, layers: tuple[Layer, ...], blocks: int, scratch: Segment):
        self.program, self.parameters, self.layers, self.blocks = program, parameters, layers, blocks
        self._segment, self._scratch, self._room = scratch, None, 0

    def reserve_scratch(self, nodes: list[Node], *, gradients: bool) -> None:
        """One bordered image for all convolutions, as large as the largest needs."""
        room = 0
        for at, node in enumerate(nodes):
            if node.kind in ("conv", "depthwise"):
                words = self.convolution(node, self._pixel_in(nodes, at))
                room = max(room, windows.scratch_items(words))
                if gradients:
                    room = max(room, windows.scratch_items(windows.input_gradient(words)))
        self._scratch = self.program.buffer("scratch", self._segment, max(room, 1))

    def _pixel_in(self, nodes: list[Node], at: int) -> int:
        from nbbn.program.parameters import input_pixel

        pixel = input_pixel(nodes, at, self.program.dtype)
        if nodes[at].kind == "depthwise":
            pixel = padded(nodes[at].before[-1] * self.layers[nodes[at].layer].depth_multiplier, self.program.dtype)
        return pixel

    def panels(self, channels: int) -> int:
        """Vectors of a pixel."""
        return panels_of(channels, self.program.dtype)

    def convolution(self, node: Node, pixel: int) -> np.ndarray:
        """The window of a convolution that reads pixels of `pixel` floats."""
        layer = self.layers[node.layer]
        return windows.convolution(layer, node.before, node.after, pixel, padded(node.after[-1], self.program.dtype))

    def constant(self, name: str, words: np.ndarray) -> Buffer:
        """A window as an operand."""
        return self.parameters.add_constant(name, words)

    # -- forward

    def conv(self, node: Node, x: Tensor, z: Tensor, words: np.ndarray) -> None:
        """`z = activation(x * kernel + bias)`."""
        blocks = self.parameters.blocks
        self.convolve(x, z, f"window{node.layer}", words, blocks[node.layer, "kernel"].buffer, blocks[node.layer, "bias"].buffer,
                      relu=node.relu)

    def convolve(self, x: Tensor, z: Tensor, name: str, words: np.ndarray, weights: Buffer, bias: Buffer, *,
                 relu: bool = False) -> None:
        """A convolution with any weights."""
        depth = int(words[windows.w.KERNEL_H] * words[windows.w.KERNEL_W]) * x.pixel
        self.program.add("conv_forward", x=x.buffer, x_image=x.stride, window=self.constant(name, words), weights=weights,
                         weight_depth=padded(depth, self.program.dtype), bias=bias, relu=int(relu), z=z.buffer,
                         z_image=z.stride, panels=self.panels(z.channels), scratch=self._scratch, blocks=self.blocks)

    def conv_pool(self, node: Node, pool: Node, x: Tensor, y: Tensor, words: np.ndarray) -> None:
        """A convolution and the maxima of its windows in one go."""
        blocks, pixel = self.parameters.blocks, padded(node.after[-1], self.program.dtype)
        tall = windows.pool(self.layers[pool.layer], pool.before, pool.after, pixel, y.pixel)
        strip = self.program.buffer(f"strip{node.layer}", self._segment, int(tall[windows.w.KERNEL_H]) * node.after[1] * pixel)
        self.program.add("conv_pool_forward", x=x.buffer, x_image=x.stride, window=self.constant(f"window{node.layer}", words),
                         weights=blocks[node.layer, "kernel"].buffer,
                         weight_depth=padded(blocks[node.layer, "kernel"].form.depth, self.program.dtype),
                         bias=blocks[node.layer, "bias"].buffer, relu=int(node.relu),
                         pool=self.constant(f"window{pool.layer}", tall), y=y.buffer, y_image=y.stride,
                         panels=self.panels(y.channels), scratch=self._scratch, strip=strip, blocks=self.blocks)

    @property
    def scratch(self) -> Buffer:
        """Room for a bordered image."""
        return self._scratch

    def repeat(self, node: Node, x: Tensor, out: Tensor) -> None:
        """The input of a depthwise layer, each channel as often as the layer multiplies it."""
        self.program.add("repeat_channels", x=x.buffer, x_image=x.stride, x_pixel=x.pixel, channels=x.channels,
                         times=self.layers[node.layer].depth_multiplier, y=out.buffer, y_image=out.stride, y_pixel=out.pixel,
                         pixels=x.pixels, blocks=self.blocks)
        self._clear(out)

    def depthwise(self, x: Tensor, z: Tensor, name: str, words: np.ndarray, weights: Buffer, bias: Buffer) -> None:
        """`z[c] = x[c] * kernel[c] + bias[c]`."""
        self.program.add("depthwise_forward", x=x.buffer, x_image=x.stride, window=self.constant(name, words), weights=weights,
                         bias=bias, z=z.buffer, z_image=z.stride, panels=self.panels(z.channels), scratch=self._scratch,
                         blocks=self.blocks)

    def pool(self, node: Node, x: Tensor, y: Tensor) -> Buffer:
        """Maximum or average of windows; return the window."""
        words = windows.pool(self.layers[node.layer], node.before, node.after, x.pixel, y.pixel)
        window = self.constant(f"window{node.layer}", words)
        self.program.add(f"{node.kind}_forward", x=x.buffer, x_image=x.stride, window=window, y=y.buffer, y_image=y.stride,
                         panels=self.panels(x.channels), blocks=self.blocks)
        return window

    def pad(self, name: str, words: np.ndarray, x: Tensor, y: Tensor) -> None:
        """Zeros around images, or the inner part of them."""
        self.program.add("pad_images", x=x.buffer, x_image=x.stride, window=self.constant(name, words), y=y.buffer,
                         y_image=y.stride, blocks=self.blocks)

    def repack(self, x: Tensor, y: Tensor) -> None:
        """The same numbers in another shape."""
        self.program.add("repack", x=x.buffer, x_image=x.stride, x_pixel=x.pixel, x_channels=x.channels, y=y.buffer,
                         y_image=y.stride, y_pixel=y.pixel, y_channels=y.channels, count=x.width, blocks=self.blocks)
        self._clear(y)

    def _clear(self, y: Tensor, *, always: bool = False) -> None:
        """Zeros behind the channels of `y`: working memory begins as zeros in training, and as anything in inference."""
        if (always or self._segment == Segment.WORK) and y.pixel > y.channels and len(y.shape) > 1:
            self.program.add("clear_padding", x=y.buffer, pixel=y.pixel, channels=y.channels, pixels=y.pixels,
                             blocks=self.blocks)

    def permute(self, order: tuple[int, ...], x: Tensor, y: Tensor) -> None:
        """Axis `k` of `y` is axis `order[k]` of `x`."""
        lead = 3 - len(x.shape)
        shape = (1,) * lead + x.shape
        middle = ((1,) * lead + y.shape)[1]
        steps = (middle * y.pixel, y.pixel, 1)
        place = [0] * 3
        for k, axis in enumerate(order):
            place[axis + lead] = steps[k + lead]
        self.program.add("permute", x=x.buffer, x_image=x.stride, y=y.buffer, y_image=y.stride, a=shape[0], b=shape[1],
                         c=shape[2], x_a=shape[1] * x.pixel, x_b=x.pixel, y_a=place[0], y_b=place[1], y_c=place[2],
                         blocks=self.blocks)
        self._clear(y)

    def activate(self, name: str, numbers: tuple[float, ...], x: Tensor, y: Tensor) -> None:
        """`y = f(x)`; `y` may be `x`."""
        self.program.add(f"image_{name}", x=x.buffer, y=y.buffer, image=x.stride, blocks=self.blocks, **_named(name, numbers))
        if ELEMENTWISE[name].moves_zero(tuple(_named(name, numbers).values())):
            self._clear(y, always=True)

    def softmax(self, x: Tensor, y: Tensor) -> None:
        """`y = softmax(x)` over the channels; `y` may be `x`."""
        self.program.add("channel_softmax", x=x.buffer, y=y.buffer, pixel=x.pixel, channels=x.channels, pixels=x.pixels,
                         blocks=self.blocks)

    def softmax_slope(self, y: Tensor, d: Tensor) -> None:
        """The gradient before a softmax from the one after it."""
        self.program.add("channel_softmax_slope", dy=d.buffer, y=y.buffer, pixel=d.pixel, channels=d.channels, pixels=d.pixels,
                         blocks=self.blocks)

    def activation_slope(self, name: str, numbers: tuple[float, ...], x: Tensor, d: Tensor) -> None:
        """`d *= f'(x)`."""
        self.program.add(f"image_{name}_slope", dy=d.buffer, x=x.buffer, image=x.stride, blocks=self.blocks,
                         **_named(name, numbers))

    def sets(self, node: Node) -> dict[str, int]:
        """What a layer or group norm normalises together."""
        layer, pixels = self.layers[node.layer], int(np.prod(node.before[:-1]))
        channels = node.before[-1]
        if isinstance(layer, GroupNormalization):
            return {"set_pixels": pixels, "set_channels": 1 if layer.groups == -1 else channels // layer.groups}
        return {"set_pixels": 1, "set_channels": channels}

    def group_norm(self, node: Node, x: Tensor, xhat: Tensor, y: Tensor, invstd: Buffer) -> None:
        """Layer and group norm."""
        self.program.add("group_norm_forward", x=x.buffer, xhat=xhat.buffer, y=y.buffer, invstd=invstd,
                         state=self.parameters.state(node.layer), width=padded(x.channels, self.program.dtype), pixel=x.pixel,
                         pixels=x.pixels, channels=x.channels, epsilon=self.layers[node.layer].epsilon, blocks=self.blocks,
                         **self.sets(node))
        self._clear(y)


def pools_a_conv(conv: Node, pool: Node, layers: tuple[Layer, ...]) -> bool:
    """Whether a pool's windows neither overlap nor leave gaps, and the convolution before it has whole runs."""
    layer = layers[pool.layer]
    if conv.kind != "conv" or pool.kind != "max_pool" or getattr(layers[conv.layer], "dilation_rate", (1, 1))[1] > 1:
        return False
    return getattr(layer, "padding", "") == "valid" and layer.strides == layer.pool_size


def _named(name: str, numbers: tuple[float, ...]) -> dict[str, float]:
    return dict(zip(ELEMENTWISE[name].parameters, numbers))
