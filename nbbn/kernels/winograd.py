"""Convolutions of 3 x 3 cells by minimal filtering: Winograd's F(2 x 2, 3 x 3).

A tile of 2 x 2 outputs takes 16 products a channel in place of 36 (Lavin and Gray 2016, "Fast
Algorithms for Convolutional Neural Networks", equation 8):

    y = A' [(G g G') * (B' d B)] A

of the kernel `g` and the tile's 4 x 4 inputs `d`. At each of the 16 *points* the sum over channels
is a matrix product of all tiles with that point of the kernel. Kernels stand by points as
`[panels][16][PIXEL][lanes]`; a group of tiles stands as `[16][tiles][PIXEL]` before the products,
and as `[16][tiles][panels][lanes]` behind them. The gradients are those of the same formula.
"""

from __future__ import annotations

from nbbn.kernels.registry import INDICES, Read, Real, Write, inline, kernel
from nbbn.kernels.simd import lanes, load, maximum, minimum, shift, splat, store
from nbbn.kernels.team import BY_LINES, share, share_images
from nbbn.kernels.tile import best_height, strip, strips_onto
from nbbn.kernels.window import (
    HEIGHT,
    LEFT,
    OUT_H,
    OUT_PIXEL,
    OUT_W,
    PIXEL,
    TOP,
    WIDTH,
    clear,
)

POINTS, CELLS = 16, 9
# Tiles a thread must have before threads share an image by tiles and not by panels.
_TILES = 28


# -- what stands by points


@inline
def _of_kernel(half, a, b, c):
    """A line of `G g`."""
    outer = a + c
    return a, half * (outer + b), half * (outer - b), c


@inline
def _of_inputs(a, b, c, d):
    """A line of `B' d`."""
    return a - c, b + c, c - b, b - d


@inline
def _outputs(a, b, c, d):
    """A line of `A' m`."""
    return a + b + c, b - c - d


@inline
def _of_gradients(zero, a, b):
    """A line of `A dy`, the transpose of `A'`."""
    return a, a + b, a - b, zero - b


@inline
def _to_cells(half, a, b, c, d):
    """A line of `G' m`."""
    inner, outer = half * (b + c), half * (b - c)
    return a + inner, outer, inner + d


@inline
def _store_column(out, at, apart, values):
    """A point of each of four lines: every fourth."""
    store(out, at, values[0])
    store(out, at + 4 * apart, values[1])
    store(out, at + 8 * apart, values[2])
    store(out, at + 12 * apart, values[3])


@inline
def _store_line(out, at, apart, values):
    """Four points that follow one another."""
    store(out, at, values[0])
    store(out, at + apart, values[1])
    store(out, at + 2 * apart, values[2])
    store(out, at + 3 * apart, values[3])


@inline
def _store_points(out, at, apart, r0, r1, r2, r3):
    """The four columns of four lines, changed as the lines have been."""
    _store_column(out, at, apart, _of_inputs(r0[0], r1[0], r2[0], r3[0]))
    _store_column(out, at + apart, apart, _of_inputs(r0[1], r1[1], r2[1], r3[1]))
    _store_column(out, at + 2 * apart, apart, _of_inputs(r0[2], r1[2], r2[2], r3[2]))
    _store_column(out, at + 3 * apart, apart, _of_inputs(r0[3], r1[3], r2[3], r3[3]))


@kernel
def winograd_kernel(weights: Read.ALL, weight_depth, pixel, out: Write.ALL, panels, thread,
                    threads):
    """`G g G'`: a kernel as the tiles multiply with it."""
    v, half = lanes(weights), splat(weights, 0.5)
    first, end = share(panels * pixel, thread, threads)
    apart = pixel * v
    for place in range(first, end):
        panel, channel = place // pixel, place % pixel
        g = shift(weights, (panel * weight_depth + channel) * v)
        to = shift(out, (panel * POINTS * pixel + channel) * v)
        r0 = _of_kernel(half, load(g, 0), load(g, 3 * apart), load(g, 6 * apart))
        r1 = _of_kernel(half, load(g, apart), load(g, 4 * apart), load(g, 7 * apart))
        r2 = _of_kernel(half, load(g, 2 * apart), load(g, 5 * apart), load(g, 8 * apart))
        _store_line(to, 0, apart, _of_kernel(half, r0[0], r1[0], r2[0]))
        _store_line(to, 4 * apart, apart, _of_kernel(half, r0[1], r1[1], r2[1]))
        _store_line(to, 8 * apart, apart, _of_kernel(half, r0[2], r1[2], r2[2]))
        _store_line(to, 12 * apart, apart, _of_kernel(half, r0[3], r1[3], r2[3]))


@inline
def _tiles(w, pooled):
    """Tiles down and across an image: all that have an output, or all whole ones."""
    return (w[OUT_H] + 1 - pooled) // 2, (w[OUT_W] + 1 - pooled) // 2


@inline
def _place(w, tile, pooled):
    """The image of a tile, and its place there."""
    down, across = _tiles(w, pooled)
    within = tile % (down * across)
    return tile // (down * across), within // across, within % across


@inline
def _line(x, c, pixel):
    return _of_inputs(load(x, c), load(x, c + pixel), load(x, c + 2 * pixel),
                      load(x, c + 3 * pixel))


@inline
def _cell(x, at, inside):
    """A vector, or zeros."""
    value = splat(x, 0.0)
    if inside:
        value = load(x, at)
    return value


@inline
def _line_at_border(x, at, pixel, inside, in_0, in_1, in_2, in_3):
    return _of_inputs(_cell(x, at, inside and in_0), _cell(x, at + pixel, inside and in_1),
                      _cell(x, at + 2 * pixel, inside and in_2),
                      _cell(x, at + 3 * pixel, inside and in_3))


@inline
def _read_tile(w, image, i, j, begin, stop, out, apart):
    """`B' d B` of tile (i, j), channels `begin` to `stop`; points stand `apart`."""
    v, pixel, row = lanes(image), w[PIXEL], w[WIDTH] * w[PIXEL]
    top, left = 2 * i - w[TOP], 2 * j - w[LEFT]
    x = shift(image, top * row + left * pixel)
    if top >= 0 and left >= 0 and top + 4 <= w[HEIGHT] and left + 4 <= w[WIDTH]:
        for c in range(begin, stop, v):
            _store_points(out, c - begin, apart, _line(x, c, pixel), _line(x, c + row, pixel),
                          _line(x, c + 2 * row, pixel), _line(x, c + 3 * row, pixel))
        return
    in_0, in_1 = 0 <= left < w[WIDTH], 0 <= left + 1 < w[WIDTH]
    in_2, in_3 = 0 <= left + 2 < w[WIDTH], 0 <= left + 3 < w[WIDTH]
    for c in range(begin, stop, v):
        r0 = _line_at_border(x, c, pixel, 0 <= top < w[HEIGHT], in_0, in_1, in_2, in_3)
        r1 = _line_at_border(x, c + row, pixel, 0 <= top + 1 < w[HEIGHT], in_0, in_1, in_2, in_3)
        r2 = _line_at_border(x, c + 2 * row, pixel, 0 <= top + 2 < w[HEIGHT], in_0, in_1, in_2,
                             in_3)
        r3 = _line_at_border(x, c + 3 * row, pixel, 0 <= top + 3 < w[HEIGHT], in_0, in_1, in_2,
                             in_3)
        _store_points(out, c - begin, apart, r0, r1, r2, r3)


# -- forward


@inline
def _own_part(tiles, panels, rows, blocks, thread, threads):
    """Tiles of all images, and panels, of a thread: all of its images', or where all threads share
    each image a part of the tiles, of few tiles a part of the panels.
    """
    if blocks != BY_LINES:
        first, end = share_images(rows, blocks, thread, threads)
        return first * tiles, end * tiles, 0, panels
    if rows * tiles >= _TILES * threads:
        first, end = share(rows * tiles, thread, threads)
        return first, end, 0, panels
    begin, stop = share((panels + 1) // 2, thread, threads)
    return 0, rows * tiles, 2 * begin, min(2 * stop, panels)


@inline
def _finish(z, other, at, adds, relu, most, value):
    """One output, as `kernels/conv.py` finishes them."""
    if adds != 0:
        value = value + load(other, at)
    if relu != 0:
        value = minimum(maximum(value, splat(z, 0.0)), splat(z, most))
    return value


@kernel(inference=True)
def winograd_forward(x: Read.IMAGES, x_image, window: INDICES, points: Read.ALL, bias: Read.ALL,
                     zeros: Read.ALL, other: Read.IMAGES, adds, relu, most: Real, pooled,
                     z: Write.IMAGES, z_image, panels, patches: Write.ALL, held, blocks, rows,
                     thread, threads):
    """`conv_forward` of tiles, `held` of them at once, with the kernel's `points`.

    With `pooled` the largest output of each whole tile.
    """
    w, v = window, lanes(x)
    pixel, out_pixel = w[PIXEL], w[OUT_PIXEL]
    down, across = _tiles(w, pooled)
    begin, stop, p_first, p_end = _own_part(down * across, panels, rows, blocks, thread, threads)
    deep, wide = pixel | v, out_pixel | v
    products = shift(patches, POINTS * held * deep)
    for first in range(begin, stop, held):
        count = min(held, stop - first)
        for q in range(count):
            image, i, j = _place(w, first + q, pooled)
            _read_tile(w, shift(x, image * x_image), i, j, 0, pixel, shift(patches, q * deep),
                       held * deep)
        height = best_height(count)
        for k in range(POINTS):
            for start in range(0, count, height):
                q = k * held + min(start, count - height)
                strip(height, shift(patches, q * deep), deep, 1, 0, 1, pixel,
                      shift(points, (p_first * POINTS + k) * pixel * v), POINTS * pixel * v, v, 0,
                      zeros, shift(products, q * wide + p_first * v), wide, v, p_end - p_first)
        for q in range(count):
            image, i, j = _place(w, first + q, pooled)
            place = i * across + j if pooled != 0 else 2 * (i * w[OUT_W] + j)
            at = image * z_image + place * out_pixel
            below, beside = 2 * i + 1 < w[OUT_H], 2 * j + 1 < w[OUT_W]
            _write_tile(shift(products, q * wide), held * wide, bias, shift(other, at), adds, relu,
                        most, pooled, shift(z, at), out_pixel, w[OUT_W] * out_pixel, below, beside,
                        p_first, p_end)


@inline
def _outputs_of_column(m, at, apart):
    return _outputs(load(m, at), load(m, at + 4 * apart), load(m, at + 8 * apart),
                    load(m, at + 12 * apart))


@inline
def _write_tile(m, apart, bias, other, adds, relu, most, pooled, z, pixel, row, below, beside,
                p_first, p_end):
    """`A' m A + bias` of one tile, whose second row and column may be `below` and `beside`."""
    v = lanes(m)
    for p in range(p_first, p_end):
        c = p * v
        c0, c1 = _outputs_of_column(m, c, apart), _outputs_of_column(m, c + apart, apart)
        c2 = _outputs_of_column(m, c + 2 * apart, apart)
        c3 = _outputs_of_column(m, c + 3 * apart, apart)
        y0, y1 = _outputs(c0[0], c1[0], c2[0], c3[0]), _outputs(c0[1], c1[1], c2[1], c3[1])
        start = load(bias, c)
        if pooled != 0:
            best = maximum(maximum(y0[0], y0[1]), maximum(y1[0], y1[1])) + start
            store(z, c, _finish(z, other, c, adds, relu, most, best))
            continue
        store(z, c, _finish(z, other, c, adds, relu, most, y0[0] + start))
        if beside:
            store(z, c + pixel, _finish(z, other, c + pixel, adds, relu, most, y0[1] + start))
        if below:
            store(z, c + row, _finish(z, other, c + row, adds, relu, most, y1[0] + start))
            if beside:
                at = c + row + pixel
                store(z, at, _finish(z, other, at, adds, relu, most, y1[1] + start))


# -- the kernel's gradient


@inline
def _read_gradients(w, dz, i, j, first, end, out, apart):
    """`A dy A'` of tile (i, j), panels `first` to `end`; points stand `apart`."""
    v, pixel, row = lanes(dz), w[OUT_PIXEL], w[OUT_W] * w[OUT_PIXEL]
    below, beside, zero = 2 * i + 1 < w[OUT_H], 2 * j + 1 < w[OUT_W], splat(dz, 0.0)
    y = shift(dz, 2 * (i * row + j * pixel))
    for p in range(first, end):
        c, to = p * v, (p - first) * v
        left = _of_gradients(zero, load(y, c), _cell(y, c + row, below))
        right = _of_gradients(zero, _cell(y, c + pixel, beside),
                              _cell(y, c + row + pixel, below and beside))
        _store_line(out, to, apart, _of_gradients(zero, left[0], right[0]))
        _store_line(out, to + 4 * apart, apart, _of_gradients(zero, left[1], right[1]))
        _store_line(out, to + 8 * apart, apart, _of_gradients(zero, left[2], right[2]))
        _store_line(out, to + 12 * apart, apart, _of_gradients(zero, left[3], right[3]))


@inline
def _own_sums(vectors, panels, thread, threads):
    """Vectors of channels and panels of a thread, in a grid with as many parts of pairs of panels
    as go.
    """
    pairs = (panels + 1) // 2
    across = min(threads, pairs)
    while threads % across != 0:
        across -= 1
    c_first, c_end = share(vectors, thread // across, threads // across)
    first, end = share(pairs, thread % across, across)
    return c_first, c_end, 2 * first, min(2 * end, panels)


@kernel
def winograd_gradient(x: Read.ALL, x_image, window: INDICES, dz: Read.ALL, dz_image,
                      sums: Write.ALL, gradient: Write.ALL, weight_depth, panels,
                      patches: Write.ALL, held, rows, thread, threads):
    """`gradient = sum of x.T @ dz` over all images: `G' [sum of (B' d B).T @ (A dy A')] G`.

    A thread owns some channels of some panels, whose `sums` by points stand as the kernel's do.
    """
    w, v = window, lanes(x)
    pixel = w[PIXEL]
    c_first, c_end, p_first, p_end = _own_sums(pixel // v, panels, thread, threads)
    c_first, c_end, own = c_first * v, c_end * v, p_end - p_first
    deep, wide = (c_end - c_first) | v, (own * v) | v
    if own == 0 or c_first == c_end:
        return
    for p in range(p_first, p_end):
        for k in range(POINTS):
            clear(shift(sums, ((p * POINTS + k) * pixel + c_first) * v), (c_end - c_first) * v)
    down, across = _tiles(w, 0)
    tiles = rows * down * across
    slopes = shift(patches, POINTS * held * deep)
    for first in range(0, tiles, held):
        count = min(held, tiles - first)
        for q in range(count):
            image, i, j = _place(w, first + q, 0)
            _read_tile(w, shift(x, image * x_image), i, j, c_first, c_end,
                       shift(patches, q * deep), held * deep)
            _read_gradients(w, shift(dz, image * dz_image), i, j, p_first, p_end,
                            shift(slopes, q * wide), held * wide)
        for k in range(POINTS):
            strips_onto(shift(patches, k * held * deep), 1, deep, 0, 1, count,
                        shift(slopes, k * held * wide), v, wide, 0,
                        shift(sums, ((p_first * POINTS + k) * pixel + c_first) * v), v,
                        POINTS * pixel * v, c_end - c_first, own)
    _from_points(sums, pixel, c_first, c_end, p_first, p_end, gradient, weight_depth)


@inline
def _from_points(sums, pixel, c_first, c_end, p_first, p_end, gradient, weight_depth):
    """`G' m G` of each channel of each panel."""
    v, half, apart = lanes(sums), splat(sums, 0.5), pixel * lanes(sums)
    for p in range(p_first, p_end):
        for c in range(c_first, c_end):
            m = shift(sums, (p * POINTS * pixel + c) * v)
            out = shift(gradient, (p * weight_depth + c) * v)
            r0, r1 = _column_to_cells(half, m, 0, apart), _column_to_cells(half, m, apart, apart)
            r2 = _column_to_cells(half, m, 2 * apart, apart)
            r3 = _column_to_cells(half, m, 3 * apart, apart)
            row_0 = _to_cells(half, r0[0], r1[0], r2[0], r3[0])
            row_1 = _to_cells(half, r0[1], r1[1], r2[1], r3[1])
            row_2 = _to_cells(half, r0[2], r1[2], r2[2], r3[2])
            _store_three(out, 0, apart, row_0)
            _store_three(out, 3 * apart, apart, row_1)
            _store_three(out, 6 * apart, apart, row_2)


@inline
def _column_to_cells(half, m, at, apart):
    return _to_cells(half, load(m, at), load(m, at + 4 * apart), load(m, at + 8 * apart),
                     load(m, at + 12 * apart))


@inline
def _store_three(out, at, apart, values):
    store(out, at, values[0])
    store(out, at + apart, values[1])
    store(out, at + 2 * apart, values[2])
