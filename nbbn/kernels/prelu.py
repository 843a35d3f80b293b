"""A ReLU whose slopes below 0 are trained.

The slopes stand for one row, pixel after pixel: `[a][b][panels]`. A step of 0 along an axis, or
`alpha_c` of 0 along the last, means that all of the axis has the same one.
"""

from __future__ import annotations

from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, shift, splat, store, total, where_positive
from nbbn.kernels.team import share, share_lines
from nbbn.kernels.window import clear


@inline
def _slopes(alpha, at, alpha_c):
    """A vector of slopes, or one in all lanes."""
    return load(alpha, at) if alpha_c else splat(alpha, alpha[0])


@kernel(inference=True)
def prelu_forward(x: Read.IMAGES, x_image, x_pixel, alpha: Read.ALL, alpha_a, alpha_b, alpha_c,
                  y: Write.IMAGES, a, b, panels, blocks, rows, thread, threads):
    """`y = x`, or `alpha * x` up to 0; `y` may be `x`."""
    v = lanes(x)
    first, end = share_lines(rows, a * b, blocks, thread, threads)
    for line in range(first, end):
        n, pixel = line // (a * b), line % (a * b)
        at = n * x_image + pixel * x_pixel
        own = shift(alpha, pixel // b * alpha_a + pixel % b * alpha_b)
        for k in range(panels):
            value = load(x, at + k * v)
            store(y, at + k * v,
                  where_positive(value, value, _slopes(own, k * v, alpha_c) * value))


@kernel
def prelu_backward(dy: Write.IMAGES, x: Read.IMAGES, x_image, x_pixel, alpha: Read.ALL, alpha_a,
                   alpha_b, alpha_c, partial: Write.IMAGES, size, a, b, panels, blocks, rows,
                   thread, threads):
    """`dy *= f'(x)`; `partial[block]` of `size` numbers: the gradient by the slopes."""
    v, zero = lanes(x), splat(x, 0.0)
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        sums = shift(partial, block * size)
        clear(sums, size)
        first, end = share(rows, block, blocks)
        for line in range(first * a * b, end * a * b):
            n, pixel = line // (a * b), line % (a * b)
            at = n * x_image + pixel * x_pixel
            place = pixel // b * alpha_a + pixel % b * alpha_b
            own, sum_of = shift(alpha, place), shift(sums, place)
            for k in range(panels):
                value, g = load(x, at + k * v), load(dy, at + k * v)
                part = where_positive(value, zero, g * value)
                if alpha_c:
                    store(sum_of, k * v, load(sum_of, k * v) + part)
                else:
                    sum_of[0] += total(part)
                store(dy, at + k * v, where_positive(value, g, _slopes(own, k * v, alpha_c) * g))
