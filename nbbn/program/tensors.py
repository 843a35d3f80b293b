"""Buffers of rows: a batch of feature vectors or images inside a program."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from nbbn.operations import Shape
from nbbn.program.layout import padded, stride_of
from nbbn.program.program import Buffer


@dataclass(frozen=True)
class Tensor:
    """A buffer of rows.

    Attributes
    ----------
    buffer : Buffer
    stride : int
        Floats from row to row.
    shape : tuple of int
        Of a row.
    pixel : int
        Floats from pixel to pixel: the channels, padded. Of a feature vector, which is one pixel,
        the stride.
    kept : bool
        Whether the backward pass needs the contents as they are.
    shared : bool
        Whether several nodes read it: none of them may write over it.
    panel : int
        Floats from panel to panel where rows stand in panels, `[panels][rows][lanes]`; 0 where
        each is one run.
    """

    buffer: Buffer
    stride: int
    shape: Shape
    pixel: int
    kept: bool = False
    shared: bool = False
    panel: int = 0

    def moved(self, at: Callable[[Buffer], Buffer]) -> Tensor:
        """The same in the place of its buffer now."""
        return replace(self, buffer=at(self.buffer))

    @property
    def width(self) -> int:
        """Numbers of a row."""
        return math.prod(self.shape)

    @property
    def channels(self) -> int:
        """Length of the last axis."""
        return self.shape[-1]

    @property
    def pixels(self) -> int:
        """Product of all axes but the last."""
        return math.prod(self.shape[:-1])


def layout_of(shape: Shape, dtype: np.dtype) -> tuple[int, int]:
    """Stride and pixel of a new tensor."""
    if len(shape) == 1:
        stride = stride_of(shape[0], dtype)
        return stride, stride
    pixel = padded(shape[-1], dtype)
    return math.prod(shape[:-1]) * pixel, pixel


def as_view(x: Tensor, shape: Shape) -> Tensor | None:
    """The same buffer as rows of one axis, where the numbers stand in order already.

    Or of other axes before the last.
    """
    if len(shape) > 1:
        same = len(x.shape) > 1 and shape[-1] == x.channels
        return replace(x, shape=shape) if same else None
    tight = x.pixel == x.channels or x.pixels == 1
    return replace(x, shape=shape, pixel=x.stride) if tight else None
