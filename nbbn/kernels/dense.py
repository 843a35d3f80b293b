"""Dense layers: forward (also the input's gradient, with the transposed kernel), bias gradients.

Kernels are stored panel-major, `[panels][depth][lanes]`. A thread computes a block of the output:
certain rows and whole panels of columns, in a grid whose form the program chooses. The bits do not
depend on it.
"""

from __future__ import annotations

import math

from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, shift, splat, store, transpose
from nbbn.kernels.team import grid_part, share, share_grid, share_rows
from nbbn.kernels.tile import product


@inline
def block_forward(x, x_row, x_run, runs, run, weights, weight_depth, bias, relu, z, z_stride,
                  panels, row_parts, ahead, rows, thread, threads):
    """`z = x @ weights + bias` of own rows and columns; a row of `x` is read in `runs` of `run`.

    With `relu` its positive part. With `ahead` rows are asked for before they are needed: other
    threads have written them.
    """
    v = lanes(x)
    part, parts, _, _ = grid_part(row_parts, thread, threads)
    top, bottom = share_rows(rows, part, parts)
    first, end = share_grid(panels, row_parts, thread, threads)
    panel, floor = weight_depth * v, splat(x, 0.0 if relu != 0 else -math.inf)
    w, b, c = shift(weights, first * panel), shift(bias, first * v), shift(z, first * v)
    product(x, x_row, 1, x_run, runs, run, w, panel, v, b, c, z_stride, top, bottom, end - first,
            floor, ahead)


@kernel(inference=True)
def dense_forward(x: Read.GRID_ROWS, x_stride, depth, weights: Read.GRID_COLUMNS, weight_depth,
                  bias: Read.GRID_COLUMNS, relu, z: Write.GRID, z_stride, panels, row_parts, shared,
                  rows, thread, threads):
    """`z = x @ weights + bias`, with `relu` clipped at 0; `shared` if others have written `x`."""
    ahead = shared if threads > 1 else 0
    block_forward(x, x_stride, 0, 1, depth, weights, weight_depth, bias, relu, z, z_stride, panels,
                  row_parts, ahead, rows, thread, threads)


@kernel
def dense_forward_panels(x: Read.GRID_ROWS, x_panel, depth, weights: Read.GRID_COLUMNS,
                         weight_depth, bias: Read.GRID_COLUMNS, relu, z: Write.GRID, z_stride,
                         panels, row_parts, rows, thread, threads):
    """`dense_forward` of `x` in panels, the padding of the last of which is 0."""
    v = lanes(x)
    block_forward(x, v, x_panel, weight_depth // v, v, weights, weight_depth, bias, relu, z,
                  z_stride, panels, row_parts, 0, rows, thread, threads)


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
            transpose(shift(source, block * v * v), v, target, v)


@kernel
def column_sum(x: Read.COLUMNS, x_stride, out: Write.COLUMNS, panels, rows, thread, threads):
    """`out = x.sum(0)`: a bias's gradient."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for panel in range(first, end):
        at = panel * v
        total = load(x, at) if rows > 0 else splat(x, 0.0)
        for r in range(1, rows):
            total = total + load(x, r * x_stride + at)
        store(out, at, total)
