"""Optimisers: one step of SGD, RMSprop or Adam on vectors of parameters, alone or in the epilogue of a dense gradient.

An optimiser is a function `(p, g, param, slots, i, size, hyper, rate)` that stores the new parameters at `param[i]`; its state
stands in `slots`, one array of `size` floats after the other. `hyper` holds its constants.
"""

from __future__ import annotations

from nbbn.kernels.registry import (
    READ_ALL,
    READ_COLUMNS,
    WRITE_COLUMNS,
    WRITE_COLUMNS_F64,
    inline,
    kernel,
)
from nbbn.kernels.simd import fma, lanes, load, maximum, multiply_tile, shift, splat, sqrt, stack, store, total
from nbbn.kernels.team import share
from nbbn.kernels.tile import HEIGHT

# Constants in `hyper`: the optimiser's own, then these.
DECAY = 6  # L2 penalty of a kernel: added to the gradient as `decay * p / mass`; the mass is the rows', or their weights' sum
HYPER_WORDS = 8
TILE_VECTORS = 2 * HEIGHT


@inline
def sgd(p, g, param, slots, i, size, hyper, rate):
    """`v = momentum * v - rate * g; p += v`."""
    momentum = splat(param, hyper[0])
    v = fma(momentum, load(slots, i), splat(param, -rate) * g)
    store(slots, i, v)
    store(param, i, p + v)


@inline
def nesterov(p, g, param, slots, i, size, hyper, rate):
    """`v = momentum * v - rate * g; p += momentum * v - rate * g` (Sutskever et al., 2013)."""
    momentum, step = splat(param, hyper[0]), splat(param, -rate) * g
    v = fma(momentum, load(slots, i), step)
    store(slots, i, v)
    store(param, i, p + fma(momentum, v, step))


@inline
def rmsprop(p, g, param, slots, i, size, hyper, rate):
    """`v = rho * v + (1 - rho) * g^2; p -= rate * g / sqrt(v + epsilon)` (Tieleman and Hinton, 2012, as in Keras)."""
    v = fma(splat(param, hyper[0]), load(slots, i), splat(param, hyper[1]) * (g * g))
    store(slots, i, v)
    store(param, i, p - splat(param, rate) * g / sqrt(v + splat(param, hyper[2])))


@inline
def adam(p, g, param, slots, i, size, hyper, rate):
    """Kingma and Ba (2015), algorithm 1 in the form of section 2's end: `rate` holds both bias corrections.

    `hyper` is beta_1, beta_2, epsilon, 1 - beta_1, 1 - beta_2 (the differences taken in float64).
    """
    m = fma(splat(param, hyper[0]), load(slots, i), splat(param, hyper[3]) * g)
    v = fma(splat(param, hyper[1]), load(slots, size + i), splat(param, hyper[4]) * (g * g))
    store(slots, i, m)
    store(slots, size + i, v)
    store(param, i, p - splat(param, rate) * m / (sqrt(v) + splat(param, hyper[2])))


@inline
def rmsprop_momentum(p, g, param, slots, i, size, hyper, rate):
    """RMSprop with momentum, centred or not: `step = rate * g / sqrt(v - centered * mean^2 + epsilon)`, as in Keras.

    `hyper` is rho, 1 - rho, epsilon, momentum, centered (0 or 1); the slots are v, the gradient's mean, and the steps' sum.
    """
    rho, new = splat(param, hyper[0]), splat(param, hyper[1])
    v = fma(rho, load(slots, i), new * (g * g))
    mean = fma(rho, load(slots, size + i), new * g)
    step = splat(param, rate) * g / sqrt(v - splat(param, hyper[4]) * (mean * mean) + splat(param, hyper[2]))
    step = fma(splat(param, hyper[3]), load(slots, 2 * size + i), step)
    store(slots, i, v)
    store(slots, size + i, mean)
    store(slots, 2 * size + i, step)
    store(param, i, p - step)


@inline
def amsgrad(p, g, param, slots, i, size, hyper, rate):
    """`adam`, divided by the root of the largest `v` so far (Reddi, Kale and Kumar, 2018)."""
    m = fma(splat(param, hyper[0]), load(slots, i), splat(param, hyper[3]) * g)
    v = fma(splat(param, hyper[1]), load(slots, size + i), splat(param, hyper[4]) * (g * g))
    largest = maximum(load(slots, 2 * size + i), v)
    store(slots, i, m)
    store(slots, size + i, v)
    store(slots, 2 * size + i, largest)
    store(param, i, p - splat(param, rate) * m / (sqrt(largest) + splat(param, hyper[2])))


@inline
def gradient(p, g, param, slots, i, size, hyper, rate):
    """No step: the gradient goes to `slots`."""
    store(slots, i, g)


@inline
def update_columns(step, param, grad, slots, hyper, panels, rate, thread, threads):
    """One step on an array of `panels` vectors, own columns."""
    v = lanes(param)
    first, end = share(panels, thread, threads)
    for i in range(first * v, end * v, v):
        step(load(param, i), load(grad, i), param, slots, i, panels * v, hyper, rate)


@inline
def dense_update(step, x, x_stride, depth, dz, dz_stride, weights, slots, hyper, squares, panels, rows, rate, mass, thread,
                 threads):
    """`step(weights, x.T @ dz + decay * weights / mass)`, own columns; the gradient never leaves the registers' tile.

    The padding of the weights' depth stays 0: the padding of `x` need not be (a sigmoid makes it 0.5).
    Adds the sum of squares of the weights before the step, times `rows / mass`, to `squares`, one number a panel.
    """
    v = lanes(x)
    first, end = share(panels, thread, threads)
    padded = (depth + v - 1) // v * v
    size = panels * padded * v
    grad = stack(x, TILE_VECTORS)
    nothing = stack(x, 2)
    for q in range(2):
        store(nothing, q * v, splat(x, 0.0))
    decay = splat(x, hyper[DECAY] / mass)
    panel = first
    while panel < end:
        width = min(2, end - panel)
        norm = splat(x, 0.0)
        norm2 = splat(x, 0.0)
        k = 0
        while k < depth:
            tall = min(HEIGHT, padded - k)
            b = shift(dz, panel * v)
            if tall == HEIGHT and width == 2:
                multiply_tile(HEIGHT, 2, False, shift(x, k), 1, x_stride, 0, 1, rows, b, v, dz_stride, 0, nothing, grad, 2 * v,
                              v)
            elif tall == HEIGHT:
                multiply_tile(HEIGHT, 1, False, shift(x, k), 1, x_stride, 0, 1, rows, b, v, dz_stride, 0, nothing, grad, 2 * v,
                              v)
            else:
                tall = min(tall, 2)
                for q in range(width):
                    multiply_tile(2, 1, False, shift(x, k), 1, x_stride, 0, 1, rows, shift(b, q * v), v, dz_stride, 0, nothing,
                                  shift(grad, q * v), 2 * v, v)
            for q in range(width):
                for t in range(min(tall, depth - k)):
                    i = ((panel + q) * padded + k + t) * v
                    p = load(weights, i)
                    g = fma(decay, p, load(grad, (2 * t + q) * v))
                    if q == 0:
                        norm = fma(p, p, norm)
                    else:
                        norm2 = fma(p, p, norm2)
                    step(p, g, weights, slots, i, size, hyper, rate)
            k += tall
        squares[panel] += total(norm) * (rows / mass)
        if width == 2:
            squares[panel + 1] += total(norm2) * (rows / mass)
        panel += width


def _kernels_of(step) -> None:
    """Register `update_NAME` and `dense_update_NAME` of one optimiser."""

    def update(param: WRITE_COLUMNS, grad: READ_COLUMNS, slots: WRITE_COLUMNS, hyper: READ_ALL, panels, rate, thread, threads):
        """One step on a bias, gamma or beta."""
        update_columns(step, param, grad, slots, hyper, panels, rate, thread, threads)

    def dense(x: READ_ALL, x_stride, depth, dz: READ_COLUMNS, dz_stride, weights: WRITE_COLUMNS, slots: WRITE_COLUMNS,
              hyper: READ_ALL, squares: WRITE_COLUMNS_F64, panels, rows, rate, mass, thread, threads):
        """A dense kernel's gradient and one step on it."""
        dense_update(step, x, x_stride, depth, dz, dz_stride, weights, slots, hyper, squares, panels, rows, rate, mass,
                     thread, threads)

    update.__name__, dense.__name__ = f"update_{step.__name__}", f"dense_update_{step.__name__}"
    kernel(update)
    kernel(dense)


for _step in (gradient, sgd, nesterov, rmsprop, rmsprop_momentum, adam, amsgrad):
    _kernels_of(_step)
