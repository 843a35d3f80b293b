"""Gradients in memory, and optimisers: a step on vectors, alone or behind a dense gradient.

An optimiser is a function `(p, g, param, slots, i, size, constants, rate)` that stores the new
parameters at `param[i]`. Its state stands in `slots`, one array of `size` floats after the other:
as many as its specification in `nbbn.optimizers` asks for. `constants` are the specification's.
"""

from __future__ import annotations

import math

from nbbn.kernels.registry import INDICES, INDICES_32, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import (
    fma,
    lanes,
    load,
    maximum,
    minimum,
    multiply_tile,
    scalar,
    shift,
    splat,
    sqrt,
    stack,
    store,
    total,
    where_positive,
)
from nbbn.kernels.sparse import sparse_update
from nbbn.kernels.team import grid_part, share, share_grid
from nbbn.kernels.tile import UPDATE_HEIGHT
from nbbn.kernels.window import clear

TILE_VECTORS = 2 * UPDATE_HEIGHT


# -- gradients in memory: partial sums merged in block order, penalties, clipping


@kernel
def merge_partials(partial: Read.ALL, blocks, out: Write.COLUMNS, panels, thread, threads):
    """`out = partial.sum(0)`, in block order; own columns."""
    v = lanes(partial)
    first, end = share(panels, thread, threads)
    for i in range(first * v, end * v, v):
        merged = load(partial, i)
        for block in range(1, blocks):
            merged = merged + load(partial, block * panels * v + i)
        store(out, i, merged)


@kernel
def add_columns(x: Write.COLUMNS, y: Read.COLUMNS, panels, thread, threads):
    """`x += y` on own columns: the gradients of a layer that is called several times."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for i in range(first * v, end * v, v):
        store(x, i, load(x, i) + load(y, i))


@kernel
def mask_columns(x: Write.COLUMNS, mask: Read.ALL, panels, thread, threads):
    """`x *= mask` on own columns: keeps the zeros of a grouped kernel."""
    v = lanes(x)
    first, end = share(panels, thread, threads)
    for i in range(first * v, end * v, v):
        store(x, i, load(x, i) * load(mask, i))


@kernel
def image_column_sums(x: Read.IMAGES, x_pixel, pixels, partial: Write.IMAGES, panels, blocks, rows,
                      thread, threads):
    """`partial[block] = sum of own pixels`: a bias's gradient, by block of images."""
    v = lanes(x)
    begin, stop = share(blocks, thread, threads)
    for block in range(begin, stop):
        first, end = share(rows, block, blocks)
        for panel in range(panels):
            column = splat(x, 0.0)
            for r in range(first * pixels, end * pixels):
                column = column + load(x, r * x_pixel + panel * v)
            store(partial, (block * panels + panel) * v, column)


@kernel
def add_penalty(grad: Write.COLUMNS, param: Read.COLUMNS, l1: Real, l2: Real,
                penalties: Write.COLUMNS_F64, panels, batch_rows, thread, threads):
    """`grad += 2 * l2 * param + l1 * sign(param)`.

    `penalties[i] += batch_rows * (l2 * sum(param**2) + l1 * sum(abs(param)))` of each vector.
    """
    v = lanes(grad)
    first, end = share(panels, thread, threads)
    zero, one, two = splat(grad, 0.0), splat(grad, l1), splat(grad, 2.0 * l2)
    for i in range(first, end):
        p, g = load(param, i * v), load(grad, i * v)
        slope = where_positive(p, one, where_positive(zero - p, zero - one, zero))
        store(grad, i * v, g + fma(two, p, slope))
        size = where_positive(p, p, zero - p)
        penalties[i] += batch_rows * (l2 * total(p * p) + l1 * total(size))


@kernel
def add_decay(grad: Write.COLUMNS, param: Read.COLUMNS, decay: Real, squares: Write.COLUMNS_F64,
              panels, batch_rows, mass, thread, threads):
    """`grad += decay * param / mass`, and the sums of squares as `dense_update` adds them up."""
    v = lanes(grad)
    first, end = share(panels, thread, threads)
    decays = splat(grad, scalar(grad, decay) / mass)
    for i in range(first, end):
        p = load(param, i * v)
        store(grad, i * v, fma(decays, p, load(grad, i * v)))
        squares[i] += total(p * p) * (batch_rows / mass)


@kernel
def add_to_gradient_norm(grad: Read.ALL, squared_norm: Write.ALONE_F64, restart, panels, thread):
    """`squared_norm[0] += sum(grad**2)`, from 0 with `restart`."""
    if thread != 0:
        return
    v = lanes(grad)
    squares = 0.0 if restart != 0 else squared_norm[0]
    for i in range(panels):
        value = load(grad, i * v)
        squares += total(value * value)
    squared_norm[0] = squares


@kernel
def clip_by_gradient_norm(grad: Write.COLUMNS, squared_norm: Read.ALL_F64, bound: Real, panels,
                          thread, threads):
    """`grad *= bound / length`, of all gradients, above `bound` (Pascanu et al., 2013, alg. 1)."""
    length = math.sqrt(squared_norm[0])
    if length <= bound:
        return
    v = lanes(grad)
    first, end = share(panels, thread, threads)
    scale = splat(grad, bound / length)
    for i in range(first * v, end * v, v):
        store(grad, i, load(grad, i) * scale)


@kernel
def clip_by_value(grad: Write.COLUMNS, bound: Real, panels, thread, threads):
    """`grad` within `[-bound, bound]`."""
    v = lanes(grad)
    first, end = share(panels, thread, threads)
    low, high = splat(grad, -bound), splat(grad, bound)
    for i in range(first * v, end * v, v):
        store(grad, i, maximum(minimum(load(grad, i), high), low))


@kernel
def shrink_columns(param: Write.COLUMNS, panels, shrink, thread, threads):
    """`param -= shrink * param`: decoupled weight decay (Loshchilov and Hutter, 2019)."""
    v = lanes(param)
    first, end = share(panels, thread, threads)
    factor = splat(param, shrink)
    for i in range(first * v, end * v, v):
        p = load(param, i)
        store(param, i, p - p * factor)


# -- optimisers


@inline
def dense_update(step, x, x_stride, x_panel, depth, dz, dz_stride, weights, slots, gradient,
                 constants, decay, squares, panels, depth_parts, chunk, rows, rate, mass, thread,
                 threads):
    """`step(weights, x.T @ dz + decay * weights / mass)`, own depth and columns.

    Rows are taken in chunks of `chunk`, each small enough to stay in the cache; between two of them
    the gradient stands in `gradient`, of the weights' layout, else it never leaves the registers'
    tile. `mass` is the number of rows, or the sum of their weights. The padding of the weights'
    depth stays 0: that of `x` need not be (a sigmoid makes it 0.5). With `decay`, adds the sum of
    squares of the weights before the step, times `rows / mass`, to `squares`, a number for each
    vector of the depth and panel.
    """
    v = lanes(x)
    part, parts, _, _ = grid_part(depth_parts, thread, threads)
    first, end = share_grid(panels, depth_parts, thread, threads)
    padded = (depth + v - 1) // v * v
    unit = max(v, UPDATE_HEIGHT)
    begin, stop = share((padded + unit - 1) // unit, part, parts)
    size = panels * padded * v
    row, apart = (x_stride, v) if x_panel == 0 else (v, x_panel)
    tile, zeros = stack(x, TILE_VECTORS), stack(x, 2)
    clear(zeros, 2 * v)
    decays = splat(x, scalar(x, decay) / mass)
    for start in range(0, rows, chunk):
        count = min(chunk, rows - start)
        begins, ends = start == 0, start + count == rows
        for panel in range(first, end, 2):
            width = min(2, end - panel)
            b = shift(dz, start * dz_stride + panel * v)
            for k in range(begin * unit, min(stop * unit, depth), UPDATE_HEIGHT):
                tall = min(UPDATE_HEIGHT, padded - k)
                at = panel * padded * v + k * v
                out, out_panel = shift(gradient, at), padded * v
                if begins and ends:
                    out, out_panel = tile, UPDATE_HEIGHT * v
                a = shift(x, start * row + k // v * apart + k % v)
                if begins:
                    gradient_tile(a, row, count, b, dz_stride, zeros, out, out_panel, tall, width)
                else:
                    gradient_tile(a, row, count, b, dz_stride, None, out, out_panel, tall, width)
                if ends:
                    for q in range(width):
                        squared = splat(x, 0.0)
                        for t in range(min(tall, depth - k)):
                            i = at + (q * padded + t) * v
                            p = load(weights, i)
                            squared = fma(p, p, squared)
                            g = fma(decays, p, load(out, q * out_panel + t * v))
                            step(p, g, weights, slots, i, size, constants, rate)
                        if decay != 0:
                            squares[k // v * panels + panel + q] += total(squared) * (rows / mass)
                        # Between chunks the sums of the padding of `x` stand there, too.
                        for t in range(min(tall, depth - k), 0 if begins else tall):
                            store(gradient, at + (q * padded + t) * v, splat(x, 0.0))


@inline
def gradient_tile(x, x_row, rows, dz, dz_stride, start, out, out_panel, tall, width):
    """`out = start + x.T @ dz`, or `+=` without `start`, of `tall` columns and `width` panels."""
    v = lanes(x)
    if tall == UPDATE_HEIGHT and width == 2:
        multiply_tile(UPDATE_HEIGHT, 2, x, 1, x_row, 0, 1, rows, dz, v, dz_stride, 0, start,
                      out, v, out_panel, None)
    elif tall == UPDATE_HEIGHT:
        multiply_tile(UPDATE_HEIGHT, 1, x, 1, x_row, 0, 1, rows, dz, v, dz_stride, 0, start,
                      out, v, out_panel, None)
    else:
        for t in range(0, tall, 2):
            for q in range(width):
                multiply_tile(2, 1, shift(x, t), 1, x_row, 0, 1, rows, shift(dz, q * v), v,
                              dz_stride, 0, start, shift(out, q * out_panel + t * v), v, out_panel,
                              None)


def optimizer(function):
    """Register `update_NAME`, `dense_update_NAME` and `sparse_update_NAME` of one optimiser."""
    step = inline(function)

    @kernel(name=f"update_{step.__name__}")
    def update(param: Write.COLUMNS, grad: Read.COLUMNS, slots: Write.COLUMNS, constants: Read.ALL,
               panels, rate, thread, threads):
        """One step on a bias, gamma or beta."""
        v = lanes(param)
        first, end = share(panels, thread, threads)
        for i in range(first * v, end * v, v):
            step(load(param, i), load(grad, i), param, slots, i, panels * v, constants, rate)

    @kernel(name=f"dense_update_{step.__name__}")
    def dense(x: Read.ALL, x_stride, x_panel, depth, dz: Read.GRID_COLUMNS, dz_stride,
              weights: Write.GRID, slots: Write.GRID, gradient: Write.GRID, constants: Read.ALL,
              decay: Real, squares: Write.GRID_F64, panels, depth_parts, chunk, rows, rate, mass,
              thread, threads):
        """A dense kernel's gradient and one step on it."""
        dense_update(step, x, x_stride, x_panel, depth, dz, dz_stride, weights, slots, gradient,
                     constants, decay, squares, panels, depth_parts, chunk, rows, rate, mass,
                     thread, threads)

    @kernel(name=f"sparse_update_{step.__name__}")
    def sparse(ends: INDICES, entry_rows: INDICES_32, entries: Read.ALL, depth, dz: Read.COLUMNS,
               dz_stride, weights: Write.COLUMNS, slots: Write.COLUMNS, constants: Read.ALL,
               decay: Real, squares: Write.COLUMNS_F64, panels, rows, rate, mass, thread, threads):
        """The same on rows of stored elements."""
        sparse_update(step, ends, entry_rows, entries, depth, dz, dz_stride, weights, slots,
                      constants, decay, squares, panels, rows, rate, mass, thread, threads)

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
def nadam(p, g, param, slots, i, size, constants, rate):
    """Adam with Nesterov's momentum (Dozat, 2016), as in Keras.

    `constants` is beta_1, beta_2, epsilon, 1 - beta_1, 1 - beta_2. What follows from the step's
    number alone stands in slots, too, since a step is told one number, as 1 minus it: the product
    of all `u`, 0.96^t and beta_2^t.
    """
    one, decay = splat(param, 1.0), splat(param, 0.96)
    beta_1, beta_2 = splat(param, constants[0]), splat(param, constants[1])
    m, v = moments(g, param, slots, i, size, constants)
    power = decay * (one - load(slots, 3 * size + i))
    half = splat(param, 0.5)
    u, following = beta_1 * (one - half * power), beta_1 * (one - half * (decay * power))
    product = (one - load(slots, 2 * size + i)) * u
    faded = beta_2 * (one - load(slots, 4 * size + i))
    store(slots, 2 * size + i, one - product)
    store(slots, 3 * size + i, one - power)
    store(slots, 4 * size + i, one - faded)
    ahead = following * m / (one - product * following) + (one - u) * g / (one - product)
    root = sqrt(v / (one - faded)) + splat(param, constants[2])
    store(param, i, p - splat(param, rate) * ahead / root)


@optimizer
def adagrad(p, g, param, slots, i, size, constants, rate):
    """`a += g^2; p -= rate * g / sqrt(a + epsilon)` (Duchi, Hazan and Singer, 2011).

    `constants` is what `a` begins with, which the slot leaves out, and epsilon.
    """
    a = fma(g, g, load(slots, i))
    store(slots, i, a)
    root = sqrt(a + splat(param, constants[0]) + splat(param, constants[1]))
    store(param, i, p - splat(param, rate) * g / root)


@optimizer
def adadelta(p, g, param, slots, i, size, constants, rate):
    """Zeiler (2012), algorithm 1, times `rate`; `constants` is rho, 1 - rho, epsilon."""
    rho, new, epsilon = (splat(param, constants[0]), splat(param, constants[1]),
                         splat(param, constants[2]))
    a = fma(rho, load(slots, i), new * (g * g))
    moved = load(slots, size + i)
    step = sqrt(moved + epsilon) * g / sqrt(a + epsilon)
    store(slots, i, a)
    store(slots, size + i, fma(rho, moved, new * (step * step)))
    store(param, i, p - splat(param, rate) * step)


@optimizer
def adamax(p, g, param, slots, i, size, constants, rate):
    """Kingma and Ba (2015), algorithm 2; `rate` holds the bias correction.

    `constants` is beta_1, beta_2, epsilon, 1 - beta_1.
    """
    m = fma(splat(param, constants[0]), load(slots, i), splat(param, constants[3]) * g)
    size_of_g = maximum(g, splat(param, 0.0) - g)
    u = maximum(splat(param, constants[1]) * load(slots, size + i), size_of_g)
    store(slots, i, m)
    store(slots, size + i, u)
    store(param, i, p - splat(param, rate) * m / (u + splat(param, constants[2])))


@optimizer
def lion(p, g, param, slots, i, size, constants, rate):
    """The sign of a mean of gradients (Chen et al., 2023, algorithm 2).

    `constants` is beta_1, beta_2, 1 - beta_1, 1 - beta_2.
    """
    before, zero, one = load(slots, i), splat(param, 0.0), splat(param, 1.0)
    c = fma(splat(param, constants[0]), before, splat(param, constants[2]) * g)
    sign = where_positive(c, one, where_positive(zero - c, zero - one, zero))
    store(slots, i, fma(splat(param, constants[1]), before, splat(param, constants[3]) * g))
    store(param, i, p - splat(param, rate) * sign)


@optimizer
def ftrl(p, g, param, slots, i, size, constants, rate):
    """Follow the regularised leader (McMahan et al., 2013, algorithm 1), as in Keras.

    `constants` is what the sum of squares begins with, which the slot leaves out, l1, 2 * l2,
    2 * l2_shrinkage, beta.
    """
    first, zero = splat(param, constants[0]), splat(param, 0.0)
    before = load(slots, i)
    squares = fma(g, g, before)
    root = sqrt(first + squares)
    slope = fma(splat(param, constants[3]), p, g)
    z = load(slots, size + i) + slope - (root - sqrt(first + before)) / splat(param, rate) * p
    store(slots, i, squares)
    store(slots, size + i, z)
    bound = splat(param, constants[1])
    kept = maximum(minimum(z, bound), zero - bound)
    weight = (root + splat(param, constants[4])) / splat(param, rate) + splat(param, constants[2])
    store(param, i, (kept - z) / weight)


@optimizer
def gradient(p, g, param, slots, i, size, constants, rate):
    """No step: the gradient goes to `slots`."""
    store(slots, i, g)
