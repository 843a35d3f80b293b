"""The windows of convolutions and pools as the kernels read them (`kernels/window.py`)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from nbbn import operations as op
from nbbn.kernels import window as w
from nbbn.operations import Operation, Shape, Sides, Window
from nbbn.program.fusion import Node
from nbbn.program.layout import padded

_ONES = (1, 1)
Numbers = Sequence[int] | np.ndarray


def _words(source: Numbers, pixel: int, top_left: Numbers, spread: Numbers, bordered: Numbers,
           kernel: Numbers, strides: Numbers, dilation: Numbers, out: Numbers,
           out_pixel: int) -> np.ndarray:
    words = np.zeros(w.WINDOW_WORDS, np.int64)
    pairs = {
        w.HEIGHT: source[:2], w.TOP: top_left, w.SPREAD_H: spread, w.BORDERED_H: bordered,
        w.KERNEL_H: kernel, w.STRIDE_H: strides, w.DILATION_H: dilation, w.OUT_H: out[:2],
    }  # fmt: skip
    for at, pair in pairs.items():
        words[at], words[at + 1] = pair
    words[w.PIXEL], words[w.OUT_PIXEL] = pixel, out_pixel
    plain = (*bordered,) == (*source[:2],) and (*top_left,) == (0, 0) and (*spread,) == _ONES
    words[w.DIRECT] = int(plain)
    return words


def image_shape(shape: Shape) -> Shape:
    """A row's shape as (height, width, channels): axes between the first and the last are one."""
    if len(shape) <= 3:
        return (1,) * (3 - len(shape)) + tuple(shape)
    return math.prod(shape[:-2]), *shape[-2:]


def window_of(operation: Operation) -> Window:
    """Of a convolution; a dense layer on rows of several axes is one of a single pixel."""
    return getattr(operation, "window", Window(_ONES))


def convolution(operation: Operation, before: Shape, after: Shape, pixel: int,
                out_pixel: int) -> np.ndarray:
    """The window of a forward convolution."""
    window, source, out = window_of(operation), image_shape(before), image_shape(after)
    if isinstance(operation, op.ConvolveTransposed):
        spans = [span - 1 for span in window.span]
        start = [span - crop[0] for span, crop in zip(spans, window.sides)]
        bordered = [n + span for n, span in zip(out, spans)]
        spread, strides = window.strides, _ONES
    else:
        start = [side[0] for side in window.sides]
        bordered = [n + sum(side) for n, side in zip(source, window.sides)]
        spread, strides = _ONES, window.strides
    return _words(source, pixel, start, spread, bordered, window.size, strides, window.dilation,
                  out, out_pixel)


def of_node(node: Node, pixel: int, dtype: DTypeLike) -> np.ndarray:
    """The window of a node that reads pixels of `pixel` floats."""
    before, after = node.input_shape, node.step.output_shape
    return convolution(node.operation, before, after, pixel, padded(after[-1], dtype))


def is_pointwise(words: np.ndarray) -> bool:
    """Whether each pixel gives the one at its place: a matrix product over all pixels."""
    ones = words[[w.KERNEL_H, w.KERNEL_W, w.STRIDE_H, w.STRIDE_W]] == 1
    return bool(ones.all() and words[w.DIRECT])


def as_one_line(words: np.ndarray) -> np.ndarray:
    """The window on an image whose lines stand one behind the other in a single one."""
    line = words.copy()
    for height, width in ((w.HEIGHT, w.WIDTH), (w.BORDERED_H, w.BORDERED_W), (w.OUT_H, w.OUT_W)):
        line[height], line[width] = 1, words[height] * words[width]
    return line


def input_gradient(forward: np.ndarray) -> np.ndarray:
    """The window of the convolution of `dz` that gives `dx`.

    Strides and spread change places, the kernel is turned round.
    """
    f = forward
    kernel, dilation = f[[w.KERNEL_H, w.KERNEL_W]], f[[w.DILATION_H, w.DILATION_W]]
    span = (kernel - 1) * dilation
    source, spread = f[[w.HEIGHT, w.WIDTH]], f[[w.SPREAD_H, w.SPREAD_W]]
    start = span - f[[w.TOP, w.LEFT]]
    bordered = (source - 1) * spread + span + 1
    out, strides = f[[w.OUT_H, w.OUT_W]], f[[w.STRIDE_H, w.STRIDE_W]]
    return _words(out, f[w.OUT_PIXEL], start, strides, bordered, kernel, spread, dilation, source,
                  f[w.PIXEL])


def pool(window: Window, before: Shape, after: Shape, pixel: int, out_pixel: int) -> np.ndarray:
    """The window of a pool."""
    start = [side[0] for side in window.sides]
    return _words(before, pixel, start, _ONES, before[:2], window.size, window.strides, _ONES,
                  after, out_pixel)


def padding(sides: Sides, before: Shape, pixel: int) -> np.ndarray:
    """The window whose bordered image is the output of a `Pad`."""
    (top, bottom), (left, right) = sides
    bordered = (before[0] + top + bottom, before[1] + left + right)
    return _words(before, pixel, (top, left), _ONES, bordered, _ONES, _ONES, _ONES, bordered, pixel)


def cropping(forward: np.ndarray) -> np.ndarray:
    """The window that takes a bordered image back to its source: the gradient of `padding`."""
    f = forward
    bordered, source = f[[w.BORDERED_H, w.BORDERED_W]], f[[w.HEIGHT, w.WIDTH]]
    start, pixel = -f[[w.TOP, w.LEFT]], f[w.PIXEL]
    return _words(bordered, pixel, start, _ONES, source, _ONES, _ONES, _ONES, source, pixel)


def depth(words: np.ndarray) -> int:
    """Numbers of a patch, those of the padding of pixels included."""
    return int(words[w.KERNEL_H] * words[w.KERNEL_W] * words[w.PIXEL])


def scratch_items(words: np.ndarray) -> int:
    """Floats of the bordered image; 0 where the image itself is read."""
    return 0 if words[w.DIRECT] else int(words[w.BORDERED_H] * words[w.BORDERED_W] * words[w.PIXEL])


def is_spread(words: np.ndarray) -> bool:
    """Whether a window reads an image with zeros between its pixels."""
    return bool((words[[w.SPREAD_H, w.SPREAD_W]] > 1).any())
