"""Optimisers: one step on vectors of parameters, alone or in the epilogue of a dense gradient.

An optimiser is a function `(p, g, param, slots, i, size, constants, rate)` that stores the new
parameters at `param[i]`. Its state stands in `slots`, one array of `size` floats after the other:
as many as its specification in `nbbn.optimizers` asks for. `constants` are the specification's.
"""

from __future__ import annotations

from nbbn.kernels.registry import Read, Real, Write, inline, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    maximum,
    multiply_tile,
    scalar,
    shift,
    splat,
    sqrt,
    stack,
    store,
    total,
)
from nbbn.kernels.team import share
from nbbn.kernels.tile import HEIGHT

TILE_VECTORS = 2 * HEIGHT


def optimizer(function):
    """Register `update_NAME` and `dense_update_NAME` of one optimiser."""
    step = inline(function)

    def update(param: Write.COLUMNS, grad: Read.COLUMNS, slots: Write.COLUMNS, constants: Read.ALL,
               panels, rate, thread, threads):
        """One step on a bias, gamma or beta."""
        v = lanes(param)
        first, end = share(panels, thread, threads)
        for i in range(first * v, end * v, v):
            step(load(param, i), load(grad, i), param, slots, i, panels * v, constants, rate)

    def dense(x: Read.ALL, x_stride, depth, dz: Read.COLUMNS, dz_stride, weights: Write.COLUMNS,
              slots: Write.COLUMNS, constants: Read.ALL, decay: Real, squares: Write.COLUMNS_F64,
              panels, rows, rate, mass, thread, threads):
        """`step(weights, x.T @ dz + decay * weights / mass)`, own columns of a dense kernel.

        The gradient never leaves the registers' tile. `mass` is the number of rows, or the sum of
        their weights. The padding of the weights' depth stays 0: that of `x` need not be (a sigmoid
        makes it 0.5). Adds the sum of squares of the weights before the step, times `rows / mass`,
        to `squares`, one number a panel.
        """
        v = lanes(x)
        first, end = share(panels, thread, threads)
        padded = (depth + v - 1) // v * v
        size = panels * padded * v
        grad = stack(x, TILE_VECTORS)
        nothing = stack(x, 2)
        for q in range(2):
            store(nothing, q * v, splat(x, 0.0))
        decays = splat(x, scalar(x, decay) / mass)
        panel = first
        while panel < end:
            width = min(2, end - panel)
            squares_0 = splat(x, 0.0)
            squares_1 = splat(x, 0.0)
            k = 0
            while k < depth:
                tall = min(HEIGHT, padded - k)
                b = shift(dz, panel * v)
                if tall == HEIGHT and width == 2:
                    multiply_tile(HEIGHT, 2, False, shift(x, k), 1, x_stride, 0, 1, rows, b, v,
                                  dz_stride, 0, nothing, grad, 2 * v, v)
                elif tall == HEIGHT:
                    multiply_tile(HEIGHT, 1, False, shift(x, k), 1, x_stride, 0, 1, rows, b, v,
                                  dz_stride, 0, nothing, grad, 2 * v, v)
                else:
                    tall = min(tall, 2)
                    for q in range(width):
                        multiply_tile(2, 1, False, shift(x, k), 1, x_stride, 0, 1, rows,
                                      shift(b, q * v), v, dz_stride, 0, nothing,
                                      shift(grad, q * v), 2 * v, v)
                for q in range(width):
                    for t in range(min(tall, depth - k)):
                        i = ((panel + q) * padded + k + t) * v
                        p = load(weights, i)
                        g = fma(decays, p, load(grad, (2 * t + q) * v))
                        if q == 0:
                            squares_0 = fma(p, p, squares_0)
                        else:
                            squares_1 = fma(p, p, squares_1)
                        step(p, g, weights, slots, i, size, constants, rate)
                k += tall
            squares[panel] += total(squares_0) * (rows / mass)
            if width == 2:
                squares[panel + 1] += total(squares_1) * (rows / mass)
            panel += width

    update.__name__, dense.__name__ = f"update_{step.__name__}", f"dense_update_{step.__name__}"
    kernel(update)
    kernel(dense)
    return step


@inline
def moments(g, param, slots, i, size, constants):
    """`adam`'s averages of the gradient and of its square, kept in the first two slots."""
    m = fma(splat(param, constants[0]), load(slots, i), splat(param, constants[3]) * g)
    v = fma(splat(param, constants[1]), load(slots, size + i), splat(param, constants[4]) * (g * g))
    store(slots, i, m)
    store(slots, size + i, v)
    return m, v


@optimizer
def sgd(p, g, param, slots, i, size, constants, rate):
    """`v = momentum * v - rate * g; p += v`."""
    momentum = splat(param, constants[0])
    v = fma(momentum, load(slots, i), splat(param, -rate) * g)
    store(slots, i, v)
    store(param, i, p + v)


@optimizer
def nesterov(p, g, param, slots, i, size, constants, rate):
    """`v = momentum * v - rate * g; p += momentum * v - rate * g` (Sutskever et al., 2013)."""
    momentum, step = splat(param, constants[0]), splat(param, -rate) * g
    v = fma(momentum, load(slots, i), step)
    store(slots, i, v)
    store(param, i, p + fma(momentum, v, step))


@optimizer
def rmsprop(p, g, param, slots, i, size, constants, rate):
    """`v = rho * v + (1 - rho) * g^2; p -= rate * g / sqrt(v + epsilon)`, as in Keras.

    Tieleman and Hinton (2012). `constants` is rho, 1 - rho, epsilon.
    """
    v = fma(splat(param, constants[0]), load(slots, i), splat(param, constants[1]) * (g * g))
    store(slots, i, v)
    store(param, i, p - splat(param, rate) * g / sqrt(v + splat(param, constants[2])))


@optimizer
def adam(p, g, param, slots, i, size, constants, rate):
    """Kingma and Ba (2015), algorithm 1 in the form of section 2's end.

    `rate` holds both bias corrections; `constants` is beta_1, beta_2, epsilon, 1 - beta_1,
    1 - beta_2 (the differences taken in float64).
    """
    m, v = moments(g, param, slots, i, size, constants)
    store(param, i, p - splat(param, rate) * m / (sqrt(v) + splat(param, constants[2])))


@optimizer
def rmsprop_momentum(p, g, param, slots, i, size, constants, rate):
    """RMSprop with momentum, centred or not, as in Keras.

    `step = rate * g / sqrt(v - centered * mean^2 + epsilon)`. `constants` is rho, 1 - rho, epsilon,
    momentum, centered (0 or 1); the slots are v, the gradient's mean, and the steps' sum.
    """
    rho, new = splat(param, constants[0]), splat(param, constants[1])
    v = fma(rho, load(slots, i), new * (g * g))
    mean = fma(rho, load(slots, size + i), new * g)
    centered, epsilon = splat(param, constants[4]), splat(param, constants[2])
    step = splat(param, rate) * g / sqrt(v - centered * (mean * mean) + epsilon)
    step = fma(splat(param, constants[3]), load(slots, 2 * size + i), step)
    store(slots, i, v)
    store(slots, size + i, mean)
    store(slots, 2 * size + i, step)
    store(param, i, p - step)


@optimizer
def amsgrad(p, g, param, slots, i, size, constants, rate):
    """`adam`, divided by the root of the largest `v` so far (Reddi, Kale and Kumar, 2018)."""
    m, v = moments(g, param, slots, i, size, constants)
    largest = maximum(load(slots, 2 * size + i), v)
    store(slots, 2 * size + i, largest)
    store(param, i, p - splat(param, rate) * m / (sqrt(largest) + splat(param, constants[2])))


@optimizer
def gradient(p, g, param, slots, i, size, constants, rate):
    """No step: the gradient goes to `slots`."""
    store(slots, i, g)
