"""The windows of convolutions and pools as the kernels read them (`kernels/window.py`)."""

from __future__ import annotations

import math

import numpy as np

from nbbn.kernels import window as w
from nbbn.layers import Conv2DTranspose, Dense
from nbbn.layers.base import Layer, Shape


def _words(source: Shape, pixel: int, top_left, spread, bordered, kernel, strides, dilation, out: Shape, out_pixel: int):
    words = np.zeros(w.WINDOW_WORDS, np.int64)
    pairs = {
        w.HEIGHT: source[:2], w.TOP: top_left, w.SPREAD_H: spread, w.BORDERED_H: bordered, w.KERNEL_H: kernel,
        w.STRIDE_H: strides, w.DILATION_H: dilation, w.OUT_H: out[:2],
    }  # fmt: skip
    for at, pair in pairs.items():
        words[at + (1 if at == w.HEIGHT else 0)] = pair[1]
        words[at], words[at + 1] = pair
    words[w.PIXEL], words[w.OUT_PIXEL] = pixel, out_pixel
    plain = tuple(bordered) == tuple(source[:2]) and tuple(top_left) == (0, 0) and tuple(spread) == (1, 1)
    words[w.DIRECT] = int(plain)
    return words


def image_shape(shape: Shape) -> Shape:
    """A row's shape as (height, width, channels): axes between the first and the last are one."""
    return (1,) * (3 - len(shape)) + tuple(shape) if len(shape) <= 3 else (math.prod(shape[:-2]), *shape[-2:])


def kernel_size(layer: Layer) -> tuple[int, int]:
    """Of a convolution; a dense layer on rows of several axes is one of a single pixel."""
    return (1, 1) if isinstance(layer, Dense) else layer.kernel_size


def convolution(layer: Layer, before: Shape, after: Shape, pixel: int, out_pixel: int) -> np.ndarray:
    """The window of a forward convolution."""
    before, after, ones = image_shape(before), image_shape(after), (1, 1)
    if isinstance(layer, Dense):
        return _words(before, pixel, (0, 0), ones, before[:2], ones, ones, ones, after, out_pixel)
    spans = [(k - 1) * d for k, d in zip(layer.kernel_size, layer.dilation_rate)]
    if isinstance(layer, Conv2DTranspose):
        start = [span - crop[0] for span, crop in zip(spans, layer.crops(before))]
        bordered = [n + span for n, span in zip(after, spans)]
        return _words(before, pixel, start, layer.strides, bordered, layer.kernel_size, ones, layer.dilation_rate, after,
                      out_pixel)
    pads = layer.pads(before)
    bordered = [n + sum(pad) for n, pad in zip(before, pads)]
    return _words(before, pixel, [pad[0] for pad in pads], ones, bordered, layer.kernel_size, layer.strides,
                  layer.dilation_rate, after, out_pixel)


def input_gradient(forward: np.ndarray) -> np.ndarray:
    """The window of the convolution of `dz` that gives `dx`: strides and spread change places, the kernel is turned round."""
    f = forward
    kernel, dilation = f[[w.KERNEL_H, w.KERNEL_W]], f[[w.DILATION_H, w.DILATION_W]]
    span = (kernel - 1) * dilation
    source, spread = f[[w.HEIGHT, w.WIDTH]], f[[w.SPREAD_H, w.SPREAD_W]]
    start = span - f[[w.TOP, w.LEFT]]
    bordered = (source - 1) * spread + span + 1
    return _words(f[[w.OUT_H, w.OUT_W]], f[w.OUT_PIXEL], start, f[[w.STRIDE_H, w.STRIDE_W]], bordered, kernel, spread, dilation,
                  source, f[w.PIXEL])


def pool(layer: Layer, before: Shape, after: Shape, pixel: int, out_pixel: int) -> np.ndarray:
    """The window of a pool; a global one is as large as the image."""
    height, width, _ = before
    size = getattr(layer, "pool_size", (height, width))
    strides = getattr(layer, "strides", (1, 1))
    pads = layer.pads(before) if hasattr(layer, "pads") else ((0, 0), (0, 0))
    out = after if len(after) == 3 else (1, 1, after[-1])
    return _words(before, pixel, [pad[0] for pad in pads], (1, 1), before[:2], size, strides, (1, 1), out, out_pixel)


def padding(layer: Layer, before: Shape, pixel: int) -> np.ndarray:
    """The window whose bordered image is the output of a ZeroPadding2D."""
    (top, bottom), (left, right) = layer.padding
    bordered = (before[0] + top + bottom, before[1] + left + right)
    return _words(before, pixel, (top, left), (1, 1), bordered, (1, 1), (1, 1), (1, 1), bordered, pixel)


def cropping(forward: np.ndarray) -> np.ndarray:
    """The window that takes a bordered image back to its source: the gradient of `padding`."""
    f = forward
    return _words(f[[w.BORDERED_H, w.BORDERED_W]], f[w.PIXEL], -f[[w.TOP, w.LEFT]], (1, 1), f[[w.HEIGHT, w.WIDTH]], (1, 1),
                  (1, 1), (1, 1), f[[w.HEIGHT, w.WIDTH]], f[w.PIXEL])


def scratch_items(words: np.ndarray) -> int:
    """Floats of the bordered image; 0 where the image itself is read."""
    return 0 if words[w.DIRECT] else int(words[w.BORDERED_H] * words[w.BORDERED_W] * words[w.PIXEL])
