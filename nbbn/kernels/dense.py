"""Dense layers: forward (also the input's gradient, with the transposed kernel), bias gradients.

Kernels are stored panel-major, `[panels][depth][lanes]`: a thread owns whole panels, that is
columns of the output.
"""

from __future__ import annotations

from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, shift, store
from nbbn.kernels.team import share, share_rows
from nbbn.kernels.tile import product, product_relu


@inline
def columns_forward(multiply, x, x_stride, depth, weights, weight_depth, bias, z, z_stride, panels,
                    rows, thread, threads):
    """`z[:, own] = x @ weights[:, own] + bias[own]`."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    panel = weight_depth * v
    w, b, c = shift(weights, first * panel), shift(bias, first * v), shift(z, first * v)
    multiply(x, x_stride, 1, 0, 1, depth, w, panel, v, b, c, z_stride, 0, rows, end - first)


@kernel(inference=True)
def dense_forward(x: Read.ALL, x_stride, depth, weights: Read.COLUMNS, weight_depth,
                  bias: Read.COLUMNS, z: Write.COLUMNS, z_stride, panels, rows, thread, threads):
    """`z = x @ weights + bias`, split by columns."""
    columns_forward(product, x, x_stride, depth, weights, weight_depth, bias, z, z_stride, panels,
                    rows, thread, threads)


@kernel(inference=True)
def dense_relu_forward(x: Read.ALL, x_stride, depth, weights: Read.COLUMNS, weight_depth,
                       bias: Read.COLUMNS, z: Write.COLUMNS, z_stride, panels, rows, thread,
                       threads):
    """`z = max(x @ weights + bias, 0)`, split by columns."""
    columns_forward(product_relu, x, x_stride, depth, weights, weight_depth, bias, z, z_stride,
                    panels, rows, thread, threads)


@kernel
def dense_forward_by_rows(x: Read.ROWS, x_stride, depth, weights: Read.ALL, weight_depth,
                          bias: Read.ALL, z: Write.ROWS, z_stride, panels, rows, thread, threads):
    """`z = x @ weights + bias`, split by rows: for few columns."""
    v = lanes(x)
    first, end = share_rows(rows, thread, threads)
    product(x, x_stride, 1, 0, 1, depth, weights, weight_depth * v, v, bias, z, z_stride, first,
            end, panels)


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
