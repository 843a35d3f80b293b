"""Activations on their own, split by columns; a backward kernel needs the outputs alone."""

from __future__ import annotations

from nbbn.kernels import elementary
from nbbn.kernels.registry import READ_COLUMNS, WRITE_COLUMNS, WRITE_ROWS, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, scalar, shift, splat, store, total, where_positive
from nbbn.kernels.team import share, share_rows

# A logit whose exponential is 0: what lanes beyond the last unit hold.
NO_LOGIT = -1e30


@inline
def relu(like, x):
    """`max(x, 0)`."""
    return maximum(x, splat(like, 0.0))


@inline
def relu_slope(like, y, dy):
    """`dy` where the output is positive."""
    return where_positive(y, dy, splat(like, 0.0))


@inline
def sigmoid_slope(like, y, dy):
    """`dy * y * (1 - y)`."""
    return dy * (y * (splat(like, 1.0) - y))


@inline
def tanh_slope(like, y, dy):
    """`dy * (1 - y^2)`."""
    return dy * fma(splat(like, 0.0) - y, y, splat(like, 1.0))


@inline
def apply_columns(function, x, x_stride, panels, rows, thread, threads):
    """`x = function(x)` on own columns."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for r in range(rows):
        for panel in range(first, end):
            i = r * x_stride + panel * v
            store(x, i, function(x, load(x, i)))


@inline
def chain_columns(slope, dy, dy_stride, y, y_stride, panels, rows, thread, threads):
    """`dy = slope(y, dy)` on own columns."""
    v = lanes(dy)
    first, end = share(panels, thread, threads)
    for r in range(rows):
        for panel in range(first, end):
            i, j = r * dy_stride + panel * v, r * y_stride + panel * v
            store(dy, i, slope(dy, load(y, j), load(dy, i)))


def _kernels_of(name: str, function, slope) -> None:
    """Register `NAME_forward` and `NAME_backward` of one activation."""

    def forward(x: WRITE_COLUMNS, x_stride, panels, rows, thread, threads):
        """The activation in place."""
        apply_columns(function, x, x_stride, panels, rows, thread, threads)

    def backward(dy: WRITE_COLUMNS, dy_stride, y: READ_COLUMNS, y_stride, panels, rows, thread, threads):
        """Its slope on `dy`, in place."""
        chain_columns(slope, dy, dy_stride, y, y_stride, panels, rows, thread, threads)

    forward.__name__, backward.__name__ = f"{name}_forward", f"{name}_backward"
    kernel(forward)
    kernel(backward)


_kernels_of("relu", relu, relu_slope)
_kernels_of("sigmoid", elementary.sigmoid, sigmoid_slope)
_kernels_of("tanh", elementary.tanh, tanh_slope)


@inline
def softmax_row(z, panels):
    """`z = exp(z - max)` over one row; return the maximum and the sum. Lanes without a class hold -1e30, so 0 after it."""
    v = lanes(z)
    top = z[0]
    for j in range(1, panels * v):
        top = max(top, z[j])
    peak = splat(z, top)
    acc = splat(z, 0.0)
    for panel in range(panels):
        e = elementary.exp(z, load(z, panel * v) - peak)
        store(z, panel * v, e)
        acc = acc + e
    return top, total(acc)


@kernel
def softmax_forward(x: WRITE_ROWS, x_stride, units, panels, rows, thread, threads):
    """Softmax of each row, in place, split by rows; lanes beyond the last unit become 0."""
    from_row, to_row = share_rows(rows, thread, threads)
    v = lanes(x)
    for r in range(from_row, to_row):
        row = shift(x, r * x_stride)
        for j in range(units, panels * v):
            row[j] = scalar(x, NO_LOGIT)
        _, norm = softmax_row(row, panels)
        scale = splat(x, 1.0 / norm)
        for panel in range(panels):
            store(row, panel * v, load(row, panel * v) * scale)
