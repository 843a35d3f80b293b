"""Rows of a table by number."""

from __future__ import annotations

from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, shift, store
from nbbn.kernels.team import share, share_images
from nbbn.kernels.window import clear


@inline
def _row(x, at, rows_of_table):
    """A number as one of the table's rows; others have been refused, the nearest is safe."""
    return min(max(int(x[at]), 0), rows_of_table - 1)


@kernel(inference=True)
def embed_forward(x: Read.IMAGES, x_image, x_pixel, x_channels, count, table: Read.ALL,
                  rows_of_table, y: Write.IMAGES, y_image, y_pixel, panels, blocks, rows, thread,
                  threads):
    """`y[p] = table[x[p]]` for the `count` numbers of each image."""
    v = lanes(y)
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for p in range(count):
            at = n * x_image + p // x_channels * x_pixel + p % x_channels
            source = shift(table, _row(x, at, rows_of_table) * panels * v)
            target = shift(y, n * y_image + p * y_pixel)
            for k in range(panels):
                store(target, k * v, load(source, k * v))


@kernel
def embed_gradient(x: Read.IMAGES, x_image, x_pixel, x_channels, count, rows_of_table,
                   dy: Read.IMAGES, dy_image, dy_pixel, partial: Write.IMAGES, panels, blocks, rows,
                   thread, threads):
    """`partial[block][x[p]] += dy[p]` of own images, in their order."""
    v = lanes(dy)
    size = rows_of_table * panels * v
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        sums = shift(partial, block * size)
        clear(sums, size)
        first, end = share(rows, block, blocks)
        for n in range(first, end):
            for p in range(count):
                at = n * x_image + p // x_channels * x_pixel + p % x_channels
                target = shift(sums, _row(x, at, rows_of_table) * panels * v)
                source = shift(dy, n * dy_image + p * dy_pixel)
                for k in range(panels):
                    store(target, k * v, load(target, k * v) + load(source, k * v))
