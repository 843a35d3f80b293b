"""Activations of images, and those with parameters: `y = f(x)` and `dy *= f'(x)`, over own images.

A function takes `(like, x, alpha)` and its slope `(like, x, dy, alpha)`, both on vectors.
"""

from __future__ import annotations

import math

from nbbn.kernels import elementary
from nbbn.kernels.registry import READ_IMAGES, WRITE_IMAGES, Real, inline, kernel
from nbbn.kernels.simd import fma, lanes, load, maximum, scalar, shift, splat, store, where_positive
from nbbn.kernels.window import share_images

# Klambauer, Unterthiner, Mayr and Hochreiter (2017), eq. 2.
SELU_ALPHA, SELU_SCALE = 1.6732632423543772, 1.0507009873554805


@inline
def relu(like, x, alpha):
    """`max(x, 0)`."""
    return maximum(x, splat(like, 0.0))


@inline
def relu_slope(like, x, dy, alpha):
    """`dy` where `x` is positive."""
    return where_positive(x, dy, splat(like, 0.0))


@inline
def leaky_relu(like, x, alpha):
    """`x`, or `alpha * x` below 0."""
    return where_positive(x, x, splat(like, alpha) * x)


@inline
def leaky_relu_slope(like, x, dy, alpha):
    """`dy`, or `alpha * dy` below 0."""
    return where_positive(x, dy, splat(like, alpha) * dy)


@inline
def elu(like, x, alpha):
    """`x`, or `alpha * (exp(x) - 1)` below 0 (Clevert, Unterthiner and Hochreiter, 2016)."""
    below = splat(like, alpha) * (elementary.exp(like, x) - splat(like, 1.0))
    return where_positive(x, x, below)


@inline
def elu_slope(like, x, dy, alpha):
    """`dy`, or `alpha * exp(x) * dy` below 0."""
    return where_positive(x, dy, splat(like, alpha) * elementary.exp(like, x) * dy)


@inline
def selu(like, x, alpha):
    """A scaled ELU (Klambauer et al., 2017, eq. 2)."""
    return splat(like, SELU_SCALE) * elu(like, x, SELU_ALPHA)


@inline
def selu_slope(like, x, dy, alpha):
    """Its slope."""
    return elu_slope(like, x, splat(like, SELU_SCALE) * dy, SELU_ALPHA)


@inline
def silu(like, x, alpha):
    """`x * sigmoid(x)`."""
    return x * elementary.sigmoid(like, x)


@inline
def silu_slope(like, x, dy, alpha):
    """`dy * s * (1 + x * (1 - s))` with `s = sigmoid(x)`."""
    s, one = elementary.sigmoid(like, x), splat(like, 1.0)
    return dy * (s * fma(x, one - s, one))


@inline
def sigmoid(like, x, alpha):
    """`1 / (1 + exp(-x))`."""
    return elementary.sigmoid(like, x)


@inline
def sigmoid_slope(like, x, dy, alpha):
    """`dy * s * (1 - s)`."""
    s = elementary.sigmoid(like, x)
    return dy * (s * (splat(like, 1.0) - s))


@inline
def tanh(like, x, alpha):
    """The hyperbolic tangent."""
    return elementary.tanh(like, x)


@inline
def tanh_slope(like, x, dy, alpha):
    """`dy * (1 - t^2)`."""
    t = elementary.tanh(like, x)
    return dy * fma(splat(like, 0.0) - t, t, splat(like, 1.0))


@inline
def exponential(like, x, alpha):
    """`exp(x)`."""
    return elementary.exp(like, x)


@inline
def exponential_slope(like, x, dy, alpha):
    """`dy * exp(x)`."""
    return dy * elementary.exp(like, x)


def _vector_kernels(name: str, function, slope) -> None:
    """Register `image_NAME` and `image_NAME_slope`."""

    def forward(x: READ_IMAGES, y: WRITE_IMAGES, image, alpha: Real, blocks, rows, thread, threads):
        """`y = f(x)`; `y` may be `x`."""
        first, end = share_images(rows, blocks, thread, threads)
        for i in range(first * image, end * image, lanes(x)):
            store(y, i, function(x, load(x, i), alpha))

    def backward(dy: WRITE_IMAGES, x: READ_IMAGES, image, alpha: Real, blocks, rows, thread, threads):
        """`dy *= f'(x)`."""
        first, end = share_images(rows, blocks, thread, threads)
        for i in range(first * image, end * image, lanes(x)):
            store(dy, i, slope(x, load(x, i), load(dy, i), alpha))

    forward.__name__, backward.__name__ = f"image_{name}", f"image_{name}_slope"
    kernel(forward)
    kernel(backward)


for _function, _slope in [
    (relu, relu_slope), (leaky_relu, leaky_relu_slope), (elu, elu_slope), (selu, selu_slope), (silu, silu_slope),
    (sigmoid, sigmoid_slope), (tanh, tanh_slope), (exponential, exponential_slope),
]:
    _vector_kernels(_function.__name__, _function, _slope)


@inline
def gelu(x, dy):
    """`x * Phi(x)` and `dy` times its slope (Hendrycks and Gimpel, 2016)."""
    phi = 0.5 * (1.0 + math.erf(x * 0.7071067811865476))
    return x * phi, dy * (phi + x * 0.3989422804014327 * math.exp(-0.5 * x * x))


@inline
def softplus(x, dy):
    """`log(1 + exp(x))` and `dy` times its slope."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x))), dy / (1.0 + math.exp(-x))


def _scalar_kernels(name: str, both) -> None:
    """Register `image_NAME` and `image_NAME_slope` of a function computed number by number in float64."""

    def forward(x: READ_IMAGES, y: WRITE_IMAGES, image, alpha: Real, blocks, rows, thread, threads):
        """`y = f(x)`; `y` may be `x`."""
        first, end = share_images(rows, blocks, thread, threads)
        for i in range(first * image, end * image):
            y[i] = scalar(y, both(float(x[i]), 0.0)[0])

    def backward(dy: WRITE_IMAGES, x: READ_IMAGES, image, alpha: Real, blocks, rows, thread, threads):
        """`dy *= f'(x)`."""
        first, end = share_images(rows, blocks, thread, threads)
        for i in range(first * image, end * image):
            dy[i] = scalar(dy, both(float(x[i]), float(dy[i]))[1])

    forward.__name__, backward.__name__ = f"image_{name}", f"image_{name}_slope"
    kernel(forward)
    kernel(backward)


_scalar_kernels("gelu", gelu)
_scalar_kernels("softplus", softplus)


@kernel
def image_clipped_relu(x: READ_IMAGES, y: WRITE_IMAGES, image, alpha: Real, top: Real, threshold: Real, blocks, rows, thread,
                       threads):
    """`min(x, top)` above `threshold`, else `alpha * (x - threshold)`."""
    first, end = share_images(rows, blocks, thread, threads)
    for i in range(first * image, end * image):
        value = x[i]
        y[i] = scalar(y, min(value, top) if value > threshold else alpha * (value - threshold))


@kernel
def image_clipped_relu_slope(dy: WRITE_IMAGES, x: READ_IMAGES, image, alpha: Real, top: Real, threshold: Real, blocks, rows,
                             thread, threads):
    """`dy` between `threshold` and `top`, 0 above, `alpha * dy` below."""
    first, end = share_images(rows, blocks, thread, threads)
    for i in range(first * image, end * image):
        value = x[i]
        if value <= threshold:
            dy[i] = scalar(dy, alpha * dy[i])
        elif value >= top:
            dy[i] = scalar(dy, 0.0)


@kernel
def channel_softmax(x: READ_IMAGES, y: WRITE_IMAGES, pixel, channels, pixels, blocks, rows, thread, threads):
    """`y = exp(x - max) / sum` over the channels of each pixel, in float64; `y` may be `x`."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        at = r * pixel
        peak = x[at]
        for c in range(1, channels):
            peak = max(peak, x[at + c])
        norm = 0.0
        for c in range(channels):
            norm += math.exp(float(x[at + c]) - float(peak))
        for c in range(channels):
            y[at + c] = scalar(y, math.exp(float(x[at + c]) - float(peak)) / norm)


@kernel
def channel_softmax_slope(dy: WRITE_IMAGES, y: READ_IMAGES, pixel, channels, pixels, blocks, rows, thread, threads):
    """`dx = y * (dy - sum(y * dy))` over the channels of each pixel, over `dy`."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        at = r * pixel
        total = 0.0
        for c in range(channels):
            total += float(y[at + c]) * float(dy[at + c])
        for c in range(channels):
            dy[at + c] = scalar(dy, float(y[at + c]) * (float(dy[at + c]) - total))


@kernel
def clear_padding(x: WRITE_IMAGES, pixel, channels, pixels, blocks, rows, thread, threads):
    """Zeros behind the channels of each pixel: what a function with `f(0) != 0` left there."""
    first, end = share_images(rows, blocks, thread, threads)
    for r in range(first * pixels, end * pixels):
        for c in range(channels, pixel):
            x[r * pixel + c] = scalar(x, 0.0)


@kernel
def repack(x: READ_IMAGES, x_image, x_pixel, x_channels, y: WRITE_IMAGES, y_image, y_pixel, y_channels, count, blocks, rows,
           thread, threads):
    """Copy each image's `count` numbers, in order, from pixels of one width to pixels of another: Flatten and Reshape."""
    first, end = share_images(rows, blocks, thread, threads)
    for n in range(first, end):
        source, target = shift(x, n * x_image), shift(y, n * y_image)
        a, c, b, d = 0, 0, 0, 0
        for _ in range(count):
            target[b + d] = source[a + c]
            c += 1
            d += 1
            if c == x_channels:
                a, c = a + x_pixel, 0
            if d == y_channels:
                b, d = b + y_pixel, 0
