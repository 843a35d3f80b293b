"""Dense layers: forward (also the input's gradient, with the transposed kernel), bias gradients.

Kernels are stored panel-major, `[panels][depth][lanes]`. A thread computes a block of the output:
certain rows and whole panels of columns, in a grid whose form the program chooses. The bits do not
depend on it.
"""

from __future__ import annotations

from nbbn.kernels.registry import BYTES, INDICES, Read, Write, inline, kernel
from nbbn.kernels.simd import (
    ROWS_AHEAD,
    lanes,
    load,
    multiply_tile_ahead,
    shift,
    stack,
    store,
)
from nbbn.kernels.team import grid_part, share, share_grid, share_rows
from nbbn.kernels.tile import HEIGHT, product, product_relu


@inline
def block_forward(multiply, x, x_stride, depth, weights, weight_depth, bias, z, z_stride, panels,
                  row_parts, rows, thread, threads):
    """`z = x @ weights + bias` of own rows and columns."""
    v = lanes(x)
    part, parts, _, _ = grid_part(row_parts, thread, threads)
    top, bottom = share_rows(rows, part, parts)
    first, end = share_grid(panels, row_parts, thread, threads)
    panel = weight_depth * v
    w, b, c = shift(weights, first * panel), shift(bias, first * v), shift(z, first * v)
    multiply(x, x_stride, 1, 0, 1, depth, w, panel, v, b, c, z_stride, top, bottom, end - first)


@kernel(inference=True)
def dense_forward(x: Read.GRID_ROWS, x_stride, depth, weights: Read.GRID_COLUMNS, weight_depth,
                  bias: Read.GRID_COLUMNS, z: Write.GRID, z_stride, panels, row_parts, rows, thread,
                  threads):
    """`z = x @ weights + bias`."""
    block_forward(product, x, x_stride, depth, weights, weight_depth, bias, z, z_stride, panels,
                  row_parts, rows, thread, threads)


@kernel(inference=True)
def dense_relu_forward(x: Read.GRID_ROWS, x_stride, depth, weights: Read.GRID_COLUMNS, weight_depth,
                       bias: Read.GRID_COLUMNS, z: Write.GRID, z_stride, panels, row_parts, rows,
                       thread, threads):
    """`z = max(x @ weights + bias, 0)`."""
    block_forward(product_relu, x, x_stride, depth, weights, weight_depth, bias, z, z_stride,
                  panels, row_parts, rows, thread, threads)


def _ahead(name: str, relu: bool) -> None:
    """Register the product of the step's first layer, which reads rows in panels."""
    rest = product_relu if relu else product

    @kernel(name=name)
    def ahead(x: Read.ALL, x_panel, depth, weights: Read.GRID_COLUMNS, weight_depth,
              bias: Read.GRID_COLUMNS, z: Write.GRID, z_stride, panels, row_parts, source: BYTES,
              order: INDICES, row_bytes, first, rows, ahead, thread, threads):
        """`z = x @ weights + bias`, with ReLU where named so.

        Meanwhile the caller's rows of the step after it are asked for, a few lines at a time, so
        that they are there when they are gathered.
        """
        v = lanes(x)
        part, parts, _, _ = grid_part(row_parts, thread, threads)
        top, bottom = share_rows(rows, part, parts)
        begin, end = share_grid(panels, row_parts, thread, threads)
        panel, runs = weight_depth * v, weight_depth // v
        places = stack(order, 1)
        pairs, tall = (end - begin) // 2, top + (bottom - top) // HEIGHT * HEIGHT
        tiles, done, asked = max(1, (tall - top) // HEIGHT * pairs), 0, 0
        for row in range(top, tall, HEIGHT):
            a, c = shift(x, row * v), shift(z, row * z_stride)
            for p in range(begin, begin + 2 * pairs, 2):
                done += 1
                last = min(asked + ROWS_AHEAD, ahead * done // tiles)
                for k in range(ROWS_AHEAD):
                    at = first + rows + min(asked + k, max(asked, last - 1))
                    places[k] = order[min(at, first + rows + ahead - 1)] * row_bytes
                asked = last
                multiply_tile_ahead(HEIGHT, 2, relu, a, v, 1, x_panel, runs, v,
                                    shift(weights, p * panel), panel, v, v * v, shift(bias, p * v),
                                    shift(c, p * v), z_stride, v, source, places, row_bytes // runs)
        w, b, c = shift(weights, begin * panel), shift(bias, begin * v), shift(z, begin * v)
        rest(x, v, 1, x_panel, runs, v, w, panel, v, b, c, z_stride, tall, bottom, end - begin)
        w, b, c = shift(w, 2 * pairs * panel), shift(b, 2 * pairs * v), shift(c, 2 * pairs * v)
        rest(x, v, 1, x_panel, runs, v, w, panel, v, b, c, z_stride, top, tall, (end - begin) % 2)


_ahead("dense_forward_ahead", False)
_ahead("dense_relu_forward_ahead", True)


@kernel
def transpose_weights(weights: Read.COLUMNS, weight_depth, out: Write.STEPS, out_depth, panels,
                      thread, threads):
    """`out = weights.T`, panel-major too: what the input's gradient multiplies with.

    Split by the columns of `weights`, which are the steps of each panel of `out`: a thread writes
    whole vectors.
    """
    v = lanes(weights)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        source = shift(weights, panel * weight_depth * v)
        for block in range(weight_depth // v):
            target = shift(out, (block * out_depth + panel * v) * v)
            corner = shift(source, block * v * v)
            for i in range(v):
                for j in range(v):
                    target[i * v + j] = corner[j * v + i]


@kernel
def column_sum(x: Read.COLUMNS, x_stride, out: Write.COLUMNS, panels, rows, thread, threads):
    """`out = x.sum(0)`: a bias's gradient."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        total = load(x, at)
        for r in range(1, rows):
            total = total + load(x, r * x_stride + at)
        store(out, at, total)
