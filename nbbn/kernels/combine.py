"""Rows of several sources: combined number by number, or copied beside each other.

A row goes as `[a][b][c]` with `c` in one run; what is `a_step` or `b_step` of 0 goes along with all
of the other's axis, and so does the one number of a row whose `c_step` is 0.
"""

from __future__ import annotations

from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import (
    lanes,
    load,
    maximum,
    minimum,
    shift,
    splat,
    store,
    total,
    where_positive,
)
from nbbn.kernels.team import share_images, share_lines


@inline
def _vector(x, at, c_step):
    """A vector of a row, or its one number in all lanes."""
    return load(x, at) if c_step else splat(x, x[0])


def _combination(name, function, slope_of_x, slope_of_y):
    """Register `combine_NAME`, and `combine_NAME_slope` with `slope(like, x, y, d)` of both."""
    @kernel(inference=True, name=f"combine_{name}")
    def forward(x: Read.IMAGES, x_image, x_a, x_b, x_c, y: Read.IMAGES, y_image, y_a, y_b, y_c,
                out: Write.IMAGES, out_image, out_pixel, a, b, panels, relu, blocks, rows, thread,
                threads):
        """`out = f(x, y)`, with a ReLU where `relu` is 1; `out` may be `x`."""
        v, zero = lanes(x), splat(x, 0.0)
        first, end = share_lines(rows, a * b, blocks, thread, threads)
        for line in range(first, end):
            n, pixel = line // (a * b), line % (a * b)
            i, j = pixel // b, pixel % b
            left = shift(x, n * x_image + i * x_a + j * x_b)
            right = shift(y, n * y_image + i * y_a + j * y_b)
            target = shift(out, n * out_image + pixel * out_pixel)
            for k in range(panels):
                value = function(x, _vector(left, k * v, x_c), _vector(right, k * v, y_c))
                store(target, k * v, maximum(value, zero) if relu else value)

    @kernel(name=f"combine_{name}_slope")
    def backward(d: Read.IMAGES, d_image, d_pixel, x: Read.IMAGES, x_image, x_a, x_b, x_c,
                 y: Read.IMAGES, y_image, y_a, y_b, y_c, dx: Write.IMAGES, dy: Write.IMAGES,
                 wants_x, wants_y, a, b, panels, blocks, rows, thread, threads):
        """`dx` and `dy`, laid out as `x` and `y`: sums over what went along with an axis."""
        first, end = share_images(rows, blocks, thread, threads)
        for n in range(first, end):
            left, right = shift(x, n * x_image), shift(y, n * y_image)
            slopes = shift(d, n * d_image)
            if wants_x:
                _gradient(slope_of_x, slopes, d_pixel, left, x_a, x_b, x_c, right, y_a, y_b, y_c,
                          shift(dx, n * x_image), x_image, x_a, x_b, x_c, a, b, panels)
            if wants_y:
                _gradient(slope_of_y, slopes, d_pixel, left, x_a, x_b, x_c, right, y_a, y_b, y_c,
                          shift(dy, n * y_image), y_image, y_a, y_b, y_c, a, b, panels)


@inline
def _gradient(slope, d, d_pixel, x, x_a, x_b, x_c, y, y_a, y_b, y_c, out, size, out_a, out_b,
              out_c, a, b, panels):
    """The gradient of a row by one of the two, pixel by pixel in their order."""
    v = lanes(x)
    for k in range(0, size, v):
        store(out, k, splat(x, 0.0))
    for i in range(a):
        for j in range(b):
            left, right = shift(x, i * x_a + j * x_b), shift(y, i * y_a + j * y_b)
            slopes, target = shift(d, (i * b + j) * d_pixel), shift(out, i * out_a + j * out_b)
            for k in range(panels):
                value = slope(x, _vector(left, k * v, x_c), _vector(right, k * v, y_c),
                              load(slopes, k * v))
                if out_c:
                    store(target, k * v, load(target, k * v) + value)
                else:
                    target[0] += total(value)


@inline
def _add(like, x, y):
    return x + y


@inline
def _subtract(like, x, y):
    return x - y


@inline
def _multiply(like, x, y):
    return x * y


@inline
def _maximum(like, x, y):
    return maximum(x, y)


@inline
def _minimum(like, x, y):
    return minimum(x, y)


@inline
def _as_it_is(like, x, y, d):
    return d


@inline
def _turned(like, x, y, d):
    return splat(like, 0.0) - d


@inline
def _times_x(like, x, y, d):
    return d * x


@inline
def _times_y(like, x, y, d):
    return d * y


# Where both are the same the first has the gradient, as in TensorFlow.


@inline
def _where_x_is_larger(like, x, y, d):
    return where_positive(y - x, splat(like, 0.0), d)


@inline
def _where_y_is_larger(like, x, y, d):
    return where_positive(y - x, d, splat(like, 0.0))


@inline
def _where_x_is_smaller(like, x, y, d):
    return where_positive(x - y, splat(like, 0.0), d)


@inline
def _where_y_is_smaller(like, x, y, d):
    return where_positive(x - y, d, splat(like, 0.0))


_combination("add", _add, _as_it_is, _as_it_is)
_combination("subtract", _subtract, _as_it_is, _turned)
_combination("multiply", _multiply, _times_y, _times_x)
_combination("maximum", _maximum, _where_x_is_larger, _where_y_is_larger)
_combination("minimum", _minimum, _where_x_is_smaller, _where_y_is_smaller)


@kernel(inference=True)
def copy_block(x: Read.IMAGES, x_image, x_a, x_b, y: Write.IMAGES, y_image, y_a, y_b, a, b, c,
               blocks, rows, thread, threads):
    """`y[i * y_a + j * y_b + k] = x[i * x_a + j * x_b + k]` of each image."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        for i in range(a):
            for j in range(b):
                source = shift(x, n * x_image + i * x_a + j * x_b)
                target = shift(y, n * y_image + i * y_a + j * y_b)
                for k in range(c):
                    target[k] = source[k]
