"""Activations: each a function and its slope, by whole vectors or number by number.

A row at the end of a section registers the kernels `image_NAME` and `image_NAME_slope`, over own
images of any shape; a function whose slope is known from its outputs also `NAME_forward` and
`NAME_backward`, in place on own columns of rows of features. NAME is that of the record in
`nbbn.activations.ELEMENTWISE`, and so are the names of the parameters, which stand last.
"""

from __future__ import annotations

import inspect
import math

from nbbn.activations import SELU_ALPHA, SELU_SCALE
from nbbn.kernels import elementary
from nbbn.kernels.registry import Read, Write, inline, kernel
from nbbn.kernels.simd import (
    absolute,
    fma,
    lanes,
    load,
    maximum,
    minimum,
    scalar,
    shift,
    splat,
    store,
    total,
    where_above,
    where_positive,
)
from nbbn.kernels.team import share, share_images, share_lines, share_rows

# Names of those that have kernels in place on columns.
BY_OUTPUT: list[str] = []


def _numbers(function) -> tuple[str, ...]:
    """Names of the parameters that stand behind the first two."""
    return tuple(inspect.signature(function.py_func).parameters)[2:]


# -- by vectors: `(like, x, *parameters)`, and the slope `(like, x, dy, *parameters)`


def _by_vector(function, slope, name: str = "") -> None:
    """Register an activation of vectors, under its function's name."""
    name = name or function.py_func.__name__
    @kernel(numbers=_numbers(function), inference=True, name=f"image_{name}")
    def forward(x: Read.IMAGES, y: Write.IMAGES, image, blocks, rows, thread, threads, *numbers):
        """`y = f(x)`; `y` may be `x`."""
        v = lanes(x)
        first, end = share_lines(rows, image // v, blocks, thread, threads)
        for i in range(first * v, end * v, v):
            store(y, i, function(x, load(x, i), *numbers))

    @kernel(numbers=_numbers(function), name=f"image_{name}_slope")
    def backward(dy: Write.IMAGES, x: Read.IMAGES, image, blocks, rows, thread, threads, *numbers):
        """`dy *= f'(x)`."""
        first, end = share_images(rows, blocks, thread, threads)
        for i in range(first * image, end * image, lanes(x)):
            store(dy, i, slope(x, load(x, i), load(dy, i), *numbers))


@inline
def leaky_relu(like, x, slope):
    """`x`, or `slope * x` up to 0: 0 where the slope is 0, of -inf too."""
    if slope == 0.0:
        return maximum(x, splat(like, 0.0))
    return where_positive(x, x, splat(like, slope) * x)


@inline
def leaky_relu_slope(like, x, dy, slope):
    """`dy`, or `slope * dy` up to 0."""
    return where_positive(x, dy, splat(like, slope) * dy)


@inline
def elu(like, x, alpha):
    """`x`, or `alpha * (exp(x) - 1)` up to 0 (Clevert, Unterthiner and Hochreiter, 2016)."""
    return where_positive(x, x, splat(like, alpha) * elementary.expm1(like, x))


@inline
def elu_slope(like, x, dy, alpha):
    """`dy`, or `alpha * exp(x) * dy` up to 0."""
    return where_positive(x, dy, splat(like, alpha) * elementary.exp(like, x) * dy)


@inline
def selu(like, x):
    """A scaled ELU (Klambauer et al., 2017, eq. 2)."""
    return splat(like, SELU_SCALE) * elu(like, x, SELU_ALPHA)


@inline
def selu_slope(like, x, dy):
    """Its slope."""
    return elu_slope(like, x, splat(like, SELU_SCALE) * dy, SELU_ALPHA)


@inline
def silu(like, x):
    """`x * sigmoid(x)`."""
    return x * elementary.sigmoid(like, x)


@inline
def silu_slope(like, x, dy):
    """`dy * s * (1 + x * (1 - s))` with `s = sigmoid(x)`."""
    s, one = elementary.sigmoid(like, x), splat(like, 1.0)
    return dy * (s * fma(x, one - s, one))


@inline
def exponential_slope(like, x, dy):
    """`dy * exp(x)`."""
    return dy * elementary.exp(like, x)


@inline
def softsign(like, x):
    """`x / (1 + |x|)` (Turian, Bergstra and Bengio, 2009)."""
    return x / (splat(like, 1.0) + absolute(x))


@inline
def softsign_slope(like, x, dy):
    """`dy / (1 + |x|)^2`."""
    share = splat(like, 1.0) / (splat(like, 1.0) + absolute(x))
    return dy * share * share


@inline
def tanh_of_softplus(like, x):
    """`tanh(log(1 + exp(x)))` from `t = exp(-|x|)`, which cannot overflow."""
    one, two = splat(like, 1.0), splat(like, 2.0)
    t = elementary.exp(like, splat(like, 0.0) - absolute(x))
    above, below = fma(two, t, one), t * (t + two)
    return where_positive(x, above / fma(two * t, t, above), below / (below + two))


@inline
def mish(like, x):
    """`x * tanh(softplus(x))` (Misra, 2019)."""
    return x * tanh_of_softplus(like, x)


@inline
def mish_slope(like, x, dy):
    """`dy * (t + x * sigmoid(x) * (1 - t^2))` with `t = tanh(softplus(x))`."""
    t = tanh_of_softplus(like, x)
    rest = fma(splat(like, 0.0) - t, t, splat(like, 1.0))
    return dy * fma(x * elementary.sigmoid(like, x), rest, t)


@inline
def clipped_relu(like, x, slope, top, threshold):
    """`min(x, top)` above `threshold`, else `slope * (x - threshold)`: 0 where the slope is 0."""
    bound, below = splat(like, threshold), splat(like, 0.0)
    if slope != 0.0:
        below = splat(like, slope) * (x - bound)
    return where_above(x, bound, minimum(x, splat(like, top)), below)


@inline
def clipped_relu_slope(like, x, dy, slope, top, threshold):
    """`dy` above `threshold` and below `top`, 0 from there on, else `slope * dy`."""
    within = where_positive(splat(like, top) - x, dy, splat(like, 0.0))
    return where_above(x, splat(like, threshold), within, splat(like, slope) * dy)


@inline
def affine(like, x, scale, offset):
    """`scale * x + offset`."""
    return fma(splat(like, scale), x, splat(like, offset))


@inline
def affine_slope(like, x, dy, scale, offset):
    """`scale * dy`."""
    return splat(like, scale) * dy


@inline
def _clipped(like, x, low, high):
    """`x` between two numbers; NaN stays."""
    return minimum(maximum(x, splat(like, low)), splat(like, high))


@inline
def _within(like, x, low, high, yes):
    """`yes` where `low < x < high`, else 0."""
    zero = splat(like, 0.0)
    below = where_positive(splat(like, high) - x, yes, zero)
    return where_positive(x - splat(like, low), below, zero)


@inline
def relu6(like, x):
    """`min(max(x, 0), 6)`."""
    return _clipped(like, x, 0.0, 6.0)


@inline
def relu6_slope(like, x, dy):
    """`dy` between 0 and 6."""
    return _within(like, x, 0.0, 6.0, dy)


@inline
def hard_sigmoid(like, x):
    """`relu6(x + 3) / 6`."""
    return _clipped(like, x + splat(like, 3.0), 0.0, 6.0) / splat(like, 6.0)


@inline
def hard_sigmoid_slope(like, x, dy):
    """`dy / 6` between -3 and 3."""
    return _within(like, x, -3.0, 3.0, dy / splat(like, 6.0))


@inline
def hard_silu(like, x):
    """`x * relu6(x + 3) / 6` (Howard et al., 2019, eq. 1)."""
    return x * hard_sigmoid(like, x)


@inline
def hard_silu_slope(like, x, dy):
    """`dy * (relu6(x + 3) / 6 + x / 6)`, without the second beyond -3 and 3."""
    return fma(dy, hard_sigmoid(like, x), x * hard_sigmoid_slope(like, x, dy))


@inline
def hard_tanh(like, x):
    """`x` between -1 and 1."""
    return _clipped(like, x, -1.0, 1.0)


@inline
def hard_tanh_slope(like, x, dy):
    """`dy` between -1 and 1."""
    return _within(like, x, -1.0, 1.0, dy)


@inline
def hard_shrink(like, x):
    """`x` beyond -0.5 and 0.5, else 0; NaN stays."""
    return where_above(absolute(x), splat(like, 0.5), x, splat(like, 0.0))


@inline
def shrink_slope(like, x, dy):
    """`dy` beyond -0.5 and 0.5."""
    return where_positive(absolute(x) - splat(like, 0.5), dy, splat(like, 0.0))


@inline
def soft_shrink(like, x):
    """What `x` reaches beyond -0.5 and 0.5."""
    return x - _clipped(like, x, -0.5, 0.5)


@inline
def sparse_sigmoid(like, x):
    """`(x + 1) / 2` between 0 and 1."""
    return splat(like, 0.5) * _clipped(like, x + splat(like, 1.0), 0.0, 2.0)


@inline
def sparse_sigmoid_slope(like, x, dy):
    """`dy / 2` between -1 and 1."""
    return _within(like, x, -1.0, 1.0, splat(like, 0.5) * dy)


@inline
def sparse_plus(like, x):
    """0 up to -1, `(x + 1)^2 / 4` up to 1, then `x`."""
    one = splat(like, 1.0)
    near = splat(like, 0.25) * ((x + one) * (x + one))
    below = where_positive(x + one, near, splat(like, 0.0))
    return where_above(x, one, x, below)


@inline
def sparse_plus_slope(like, x, dy):
    """`dy * sparse_sigmoid(x)`."""
    return dy * sparse_sigmoid(like, x)


for _function, _slope in ((leaky_relu, leaky_relu_slope), (elu, elu_slope), (selu, selu_slope),
                          (silu, silu_slope), (softsign, softsign_slope), (mish, mish_slope),
                          (affine, affine_slope), (clipped_relu, clipped_relu_slope),
                          (relu6, relu6_slope),
                          (hard_sigmoid, hard_sigmoid_slope), (hard_silu, hard_silu_slope),
                          (hard_tanh, hard_tanh_slope), (hard_shrink, shrink_slope),
                          (soft_shrink, shrink_slope), (sparse_sigmoid, sparse_sigmoid_slope),
                          (sparse_plus, sparse_plus_slope)):
    _by_vector(_function, _slope)
_by_vector(elementary.exp, exponential_slope, "exponential")


# -- with a slope by the output: `(like, x)`, and the slope `(like, y, dy)`


def _by_output(function, slope) -> None:
    """Register an activation of vectors that has kernels in place on columns too."""
    name = function.py_func.__name__
    @inline
    def slope_by_input(like, x, dy):
        return slope(like, function(like, x), dy)

    @kernel(inference=True, name=f"{name}_forward")
    def forward(x: Write.COLUMNS, x_stride, panels, rows, thread, threads):
        """`x = f(x)`."""
        v = lanes(x)
        first, end = share(panels, thread, threads)
        for r in range(rows):
            for panel in range(first, end):
                i = r * x_stride + panel * v
                store(x, i, function(x, load(x, i)))

    @kernel(name=f"{name}_backward")
    def backward(dy: Write.COLUMNS, dy_stride, y: Read.COLUMNS, y_stride, panels, rows, thread,
                 threads):
        """`dy *= f'`, from the outputs `y`."""
        v = lanes(dy)
        first, end = share(panels, thread, threads)
        for r in range(rows):
            for panel in range(first, end):
                i, j = r * dy_stride + panel * v, r * y_stride + panel * v
                store(dy, i, slope(dy, load(y, j), load(dy, i)))

    BY_OUTPUT.append(name)
    _by_vector(function, slope_by_input)


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


_by_output(relu, relu_slope)
_by_output(elementary.sigmoid, sigmoid_slope)
_by_output(elementary.tanh, tanh_slope)


# -- number by number in float64: `(x, dy, *parameters)` gives `f(x)` and `dy * f'(x)`


def _by_number(function) -> None:
    """Register an activation of single numbers, under its function's name."""
    name = function.py_func.__name__
    @kernel(numbers=_numbers(function), inference=True, name=f"image_{name}")
    def forward(x: Read.IMAGES, y: Write.IMAGES, image, blocks, rows, thread, threads, *numbers):
        """`y = f(x)`; `y` may be `x`."""
        first, end = share_lines(rows, image, blocks, thread, threads)
        for i in range(first, end):
            y[i] = scalar(y, function(float(x[i]), 0.0, *numbers)[0])

    @kernel(numbers=_numbers(function), name=f"image_{name}_slope")
    def backward(dy: Write.IMAGES, x: Read.IMAGES, image, blocks, rows, thread, threads, *numbers):
        """`dy *= f'(x)`."""
        first, end = share_images(rows, blocks, thread, threads)
        for i in range(first * image, end * image):
            dy[i] = scalar(dy, function(float(x[i]), float(dy[i]), *numbers)[1])


@inline
def gelu(x, dy):
    """`x * Phi(x)` (Hendrycks and Gimpel, 2016)."""
    phi = 0.5 * (1.0 + math.erf(x * 0.7071067811865476))
    return x * phi, dy * (phi + x * 0.3989422804014327 * math.exp(-0.5 * x * x))


@inline
def softplus(x, dy):
    """`log(1 + exp(x))`."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x))), dy / (1.0 + math.exp(-x))


@inline
def log_sigmoid(x, dy):
    """`log(sigmoid(x))`."""
    return min(x, 0.0) - math.log1p(math.exp(-abs(x))), dy / (1.0 + math.exp(x))


@inline
def tanh_shrink(x, dy):
    """`x - tanh(x)`, near 0 by Lambert's continued fraction (1761), which loses no digits."""
    t = math.tanh(x)
    if abs(x) > 1.0:
        return x - t, dy * t * t
    square = x * x
    below = 15.0 + square / 17.0
    for odd in range(13, 1, -2):
        below = odd + square / below
    rest = square / below
    return x * (rest / (1.0 + rest)), dy * t * t


@inline
def squareplus(x, dy):
    """`(x + sqrt(x^2 + 4)) / 2` (Barron, 2021), of negative numbers without a difference."""
    root = math.sqrt(x * x + 4.0)
    y = 0.5 * (x + root) if x > 0.0 else 2.0 / (root - x)
    return y, dy * y / root


_by_number(gelu)
_by_number(softplus)
_by_number(log_sigmoid)
_by_number(tanh_shrink)
_by_number(squareplus)


# -- softmax: of rows of features, and of the channels of each pixel

# A logit whose exponential is 0.
NO_LOGIT = -1e30


@inline
def softmax_row(z, units, panels):
    """`z = exp(z - max)` over one row, 0 beyond the last unit; return the maximum and the sum."""
    v = lanes(z)
    for j in range(units, panels * v):
        z[j] = scalar(z, NO_LOGIT)
    top = z[0]
    for j in range(1, units):
        top = max(top, z[j])
    peak = splat(z, top)
    acc = splat(z, 0.0)
    for panel in range(panels):
        e = elementary.exp(z, load(z, panel * v) - peak)
        store(z, panel * v, e)
        acc = acc + e
    return top, total(acc)


@kernel(inference=True)
def softmax_forward(x: Write.ROWS, x_stride, units, panels, rows, thread, threads):
    """Softmax of each row, in place, split by rows; lanes beyond the last unit become 0."""
    from_row, to_row = share_rows(rows, thread, threads)
    v = lanes(x)
    for r in range(from_row, to_row):
        row = shift(x, r * x_stride)
        _, denominator = softmax_row(row, units, panels)
        scale = splat(x, 1.0 / denominator)
        for panel in range(panels):
            store(row, panel * v, load(row, panel * v) * scale)


@kernel(inference=True)
def channel_softmax(x: Read.IMAGES, y: Write.IMAGES, pixel, channels, pixels, blocks, rows, thread,
                    threads):
    """`y = exp(x - max) / sum` over the channels of each pixel, in float64; `y` may be `x`."""
    first, end = share_lines(rows, pixels, blocks, thread, threads)
    for r in range(first, end):
        at = r * pixel
        peak = x[at]
        for c in range(1, channels):
            peak = max(peak, x[at + c])
        denominator = 0.0
        for c in range(channels):
            denominator += math.exp(float(x[at + c]) - float(peak))
        for c in range(channels):
            y[at + c] = scalar(y, math.exp(float(x[at + c]) - float(peak)) / denominator)


@kernel(inference=True)
def channel_log_softmax(x: Read.IMAGES, y: Write.IMAGES, pixel, channels, pixels, blocks, rows,
                        thread, threads):
    """`y = x - max - log(sum)` over the channels of each pixel, in float64; `y` may be `x`."""
    first, end = share_lines(rows, pixels, blocks, thread, threads)
    for r in range(first, end):
        at = r * pixel
        peak = x[at]
        for c in range(1, channels):
            peak = max(peak, x[at + c])
        total_of_pixel = 0.0
        for c in range(channels):
            total_of_pixel += math.exp(float(x[at + c]) - float(peak))
        rest = math.log(total_of_pixel)
        for c in range(channels):
            y[at + c] = scalar(y, float(x[at + c]) - float(peak) - rest)


@kernel
def channel_log_softmax_slope(dy: Write.IMAGES, y: Read.IMAGES, pixel, channels, pixels, blocks,
                              rows, thread, threads):
    """`dx = dy - exp(y) * sum(dy)` over the channels of each pixel, over `dy`."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        at = r * pixel
        total_of_pixel = 0.0
        for c in range(channels):
            total_of_pixel += float(dy[at + c])
        for c in range(channels):
            dy[at + c] = scalar(dy, float(dy[at + c]) - math.exp(float(y[at + c])) * total_of_pixel)


@kernel
def channel_softmax_slope(dy: Write.IMAGES, y: Read.IMAGES, pixel, channels, pixels, blocks, rows,
                          thread, threads):
    """`dx = y * (dy - sum(y * dy))` over the channels of each pixel, over `dy`."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        at = r * pixel
        total_of_pixel = 0.0
        for c in range(channels):
            total_of_pixel += float(y[at + c]) * float(dy[at + c])
        for c in range(channels):
            dy[at + c] = scalar(dy, float(y[at + c]) * (float(dy[at + c]) - total_of_pixel))
