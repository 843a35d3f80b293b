"""How each kind of parameter stands in the engine's memory.

A layout takes an array of the user's, in any shape of the same numbers in C order, and gives it
back in the shape in which the operation reads it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike

from nbbn.kernels.winograd import CELLS, POINTS
from nbbn.program.layout import lanes, pack_kernel, padded, panels_of, unpack_kernel


@dataclass(frozen=True)
class VectorLayout:
    """One number a unit, padded to whole vectors."""

    units: int

    def items(self, dtype: DTypeLike) -> int:
        """Items in memory."""
        return padded(self.units, dtype)

    def write(self, flat: np.ndarray, array: np.ndarray) -> None:
        """Take an array of the user's layout; the padding stays as it is."""
        flat[: self.units] = array.reshape(-1)

    def read(self, flat: np.ndarray) -> np.ndarray:
        """A copy in the user's layout."""
        return flat[: self.units].copy()


@dataclass(frozen=True)
class MatrixLayout:
    """A dense kernel `(depth, units)` in panels, `[panels][padded depth][lanes]`."""

    depth: int
    units: int

    def items(self, dtype: DTypeLike) -> int:
        """Items in memory."""
        return padded(self.depth, dtype) * padded(self.units, dtype)

    def _panels(self, flat: np.ndarray) -> np.ndarray:
        return flat.reshape(panels_of(self.units, flat.dtype), -1, lanes(flat.dtype))

    def write(self, flat: np.ndarray, array: np.ndarray) -> None:
        """Take an array of the user's layout; the padding stays as it is."""
        pack_kernel(array, self._panels(flat))

    def read(self, flat: np.ndarray) -> np.ndarray:
        """A copy in the user's layout."""
        return unpack_kernel(self._panels(flat), self.depth, self.units)


@dataclass(frozen=True)
class ConvLayout:
    """A convolution's kernel as the matrix `(kernel_h * kernel_w * pixel, filters)`.

    Rows of padding are 0. Groups that do not mix are blocks of one matrix, 0 elsewhere. A
    transposed kernel `(h, w, filters, in)` stands as that of the convolution which it is of the
    spread image: turned round.
    """

    size: tuple[int, int]
    channels: int
    pixel: int
    filters: int
    groups: int = 1
    transposed: bool = False

    @property
    def depth(self) -> int:
        """Rows of the matrix."""
        return self.size[0] * self.size[1] * self.pixel

    @property
    def _matrix(self) -> MatrixLayout:
        return MatrixLayout(self.depth, self.filters)

    def items(self, dtype: DTypeLike) -> int:
        """Items in memory."""
        return self._matrix.items(dtype)

    def write(self, flat: np.ndarray, array: np.ndarray) -> None:
        """Take an array of the user's layout."""
        if self.transposed:
            array = array.reshape(*self.size, self.filters, self.channels)
            array = array[::-1, ::-1].transpose(0, 1, 3, 2)
        array = array.reshape(*self.size, -1, self.filters)
        whole = np.zeros((*self.size, self.pixel, self.filters), flat.dtype)
        deep, wide = self.channels // self.groups, self.filters // self.groups
        for g in range(self.groups):
            columns = slice(g * wide, (g + 1) * wide)
            whole[:, :, g * deep : (g + 1) * deep, columns] = array[..., columns]
        self._matrix.write(flat, whole.reshape(self.depth, self.filters))

    def read(self, flat: np.ndarray) -> np.ndarray:
        """A copy in the user's layout: `(h, w, in / groups, filters)`; transposed, in last."""
        whole = self._matrix.read(flat).reshape(*self.size, self.pixel, self.filters)
        deep, wide = self.channels // self.groups, self.filters // self.groups
        array = np.empty((*self.size, deep, self.filters), flat.dtype)
        for g in range(self.groups):
            columns = slice(g * wide, (g + 1) * wide)
            array[..., columns] = whole[:, :, g * deep : (g + 1) * deep, columns]
        if self.transposed:
            return np.ascontiguousarray(array[::-1, ::-1].transpose(0, 1, 3, 2))
        return array

    def mask(self, dtype: DTypeLike) -> np.ndarray:
        """1 where a grouped kernel has a weight."""
        flat = np.zeros(self.items(dtype), dtype)
        self.write(flat, np.ones((*self.size, self.channels // self.groups, self.filters), dtype))
        return flat


@dataclass(frozen=True)
class RowsLayout:
    """Rows of padded channels: a depthwise kernel `(h, w, in, multiplier)`, a row a cell."""

    shape: tuple[int, ...]
    rows: int

    @property
    def _width(self) -> int:
        return math.prod(self.shape) // self.rows

    def items(self, dtype: DTypeLike) -> int:
        """Items in memory."""
        return self.rows * padded(self._width, dtype)

    def write(self, flat: np.ndarray, array: np.ndarray) -> None:
        """Take an array of the user's layout."""
        flat.reshape(self.rows, -1)[:, : self._width] = array.reshape(self.rows, -1)

    def read(self, flat: np.ndarray) -> np.ndarray:
        """A copy in the user's layout."""
        return flat.reshape(self.rows, -1)[:, : self._width].reshape(self.shape).copy()


@dataclass(frozen=True)
class PointsLayout:
    """A convolution's kernel of 3 x 3 cells as `kernels/winograd.py` multiplies with it.

    Attributes
    ----------
    kernel : ConvLayout
        As it stands otherwise.
    """

    kernel: ConvLayout

    def items(self, dtype: DTypeLike) -> int:
        """Items in memory."""
        return POINTS * self.kernel.items(dtype) // CELLS

    def write(self, flat: np.ndarray, array: np.ndarray) -> None:
        """Take an array of the user's layout; by the kernel `winograd_kernel`, bit for bit."""
        cells = np.zeros(self.kernel.items(flat.dtype), flat.dtype)
        self.kernel.write(cells, array)
        panels = panels_of(self.kernel.filters, flat.dtype)
        g = cells.reshape(panels, 3, 3, -1)
        lines = np.empty((panels, 4, 3, g.shape[-1]), flat.dtype)
        _points_along(np.moveaxis(g, 1, 0), np.moveaxis(lines, 1, 0))
        _points_along(np.moveaxis(lines, 2, 0),
                      np.moveaxis(flat.reshape(panels, 4, 4, -1), 2, 0))

    def read(self, flat: np.ndarray) -> np.ndarray:
        """The points as they stand."""
        return flat.copy()


def _points_along(cells: np.ndarray, out: np.ndarray) -> None:
    """`G g` along the first axis: four points of three cells."""
    a, b, c = cells
    half, outer = cells.dtype.type(0.5), a + c
    out[0], out[3] = a, c
    np.add(outer, b, out=out[1])
    np.subtract(outer, b, out=out[2])
    out[1:3] *= half


WeightLayout = VectorLayout | MatrixLayout | ConvLayout | RowsLayout | PointsLayout
