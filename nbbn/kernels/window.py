"""Windows that move over images: where they read, and the bordered copy that padding asks for.

Images stand one behind the other, channels last, each pixel `PIXEL` floats. A convolution reads a
*bordered* image: source pixel (i, j) at (TOP + i * SPREAD_H, LEFT + j * SPREAD_W), zero elsewhere.
Output pixel (i, j) reads, for every kernel cell (k, l), the bordered pixel (i * STRIDE_H + k *
DILATION_H, j * STRIDE_W + l * DILATION_W). Where nothing is padded or spread the image itself is
read.
"""

from __future__ import annotations

from nbbn.kernels.registry import inline
from nbbn.kernels.simd import scalar, shift
from nbbn.kernels.team import BY_LINES

# What a window's words mean.
(
    HEIGHT, WIDTH, PIXEL, TOP, LEFT, SPREAD_H, SPREAD_W, BORDERED_H, BORDERED_W, KERNEL_H, KERNEL_W,
    STRIDE_H, STRIDE_W, DILATION_H, DILATION_W, OUT_H, OUT_W, OUT_PIXEL, DIRECT,
) = range(19)  # fmt: skip
WINDOW_WORDS = 19


@inline
def lines_of(w):
    """The output as lines of pixels: how many, pixels of one, and floats of the bordered image from
    line to line and from pixel to pixel.

    Its rows; an output one pixel wide is one line downwards.
    """
    down, right = w[STRIDE_H] * w[BORDERED_W] * w[PIXEL], w[STRIDE_W] * w[PIXEL]
    if w[OUT_W] == 1:
        return 1, w[OUT_H], right, down
    return w[OUT_H], w[OUT_W], down, right


@inline
def pieces_of(lines, blocks, threads):
    """Into how many parts the pixels of a line are cut: threads without a line of their own share
    one.
    """
    return (threads + lines - 1) // lines if blocks == BY_LINES else 1


@inline
def rows_of_pieces(down, height, parts, first, end):
    """First and last-plus-one row of an output of `height` rows that pieces of its lines are in."""
    if down:
        return height * first // parts, height * end // parts
    return first // parts, (end + parts - 1) // parts


@inline
def runs_of(w):
    """Runs of floats that a kernel of undilated rows reads: how many, and floats of one.

    Its rows; those as wide as the bordered image follow one another.
    """
    run = w[KERNEL_W] * w[PIXEL]
    if w[BORDERED_W] * w[DILATION_H] == w[KERNEL_W]:
        return 1, w[KERNEL_H] * run
    return w[KERNEL_H], run


@inline
def pixel_at(w, i, j):
    """Where pixel (i, j) of an image begins."""
    return (i * w[WIDTH] + j) * w[PIXEL]


@inline
def out_at(w, i, j):
    """Where pixel (i, j) of the output begins."""
    return (i * w[OUT_W] + j) * w[OUT_PIXEL]


@inline
def rows_of(w, i):
    """First and last-plus-one row of the image in the windows of output row `i`."""
    top = i * w[STRIDE_H] - w[TOP]
    return max(0, top), min(w[HEIGHT], top + w[KERNEL_H])


@inline
def columns_of(w, j):
    """First and last-plus-one column of the image in the windows of output column `j`."""
    left = j * w[STRIDE_W] - w[LEFT]
    return max(0, left), min(w[WIDTH], left + w[KERNEL_W])


@inline
def clear(x, count):
    """`x[:count] = 0`."""
    for i in range(count):
        x[i] = scalar(x, 0.0)


@inline
def copy(x, y, count):
    """`y[:count] = x[:count]`."""
    for i in range(count):
        y[i] = x[i]


@inline
def clear_border(w, scratch):
    """Zeros for a bordered image, once for all images of a thread."""
    if w[DIRECT] == 0:
        clear(scratch, w[BORDERED_H] * w[BORDERED_W] * w[PIXEL])


@inline
def rows_read(w, first, end):
    """First and last-plus-one row of the bordered image that some rows of the output read."""
    span = (w[KERNEL_H] - 1) * w[DILATION_H] + 1
    return first * w[STRIDE_H], (end - 1) * w[STRIDE_H] + span


@inline
def bordered(w, image, scratch, top, bottom):
    """The image as the window reads it: itself, or its copy in `scratch`, whose zeros stay.

    Of the copy rows `top` to `bottom` are made.
    """
    if w[DIRECT] != 0:
        return image
    pixel, width = w[PIXEL], w[BORDERED_W]
    first = max(0, -w[LEFT])  # pixels beyond the border are never read
    count = min(w[WIDTH], width - w[LEFT]) - first
    for i in range(w[HEIGHT]):
        row = w[TOP] + i * w[SPREAD_H]
        if top <= row < bottom:
            source = shift(image, (i * w[WIDTH]) * pixel)
            target = shift(scratch, (row * width + w[LEFT]) * pixel)
            if w[SPREAD_W] == 1:
                copy(shift(source, first * pixel), shift(target, first * pixel), count * pixel)
            else:
                for j in range(w[WIDTH]):
                    column = w[LEFT] + j * w[SPREAD_W]
                    if 0 <= column < width:
                        copy(shift(source, j * pixel), shift(target, j * w[SPREAD_W] * pixel),
                             pixel)
    return scratch
