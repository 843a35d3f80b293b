"""Matrix products of any size from register tiles.

`b` is panel-major: panels of one vector width, each `[depth][lanes]`, so that a thread may own any
range of panels. `c` is row-major. Each element of `c` is one sum over the depth in order, whatever
tile computes it: the bits do not depend on the split.
"""

from __future__ import annotations

from nbbn.kernels.registry import inline
from nbbn.kernels.simd import (
    REGISTERS,
    VECTOR_BYTES,
    lanes,
    multiply_strip,
    multiply_tile,
    prefetch,
    shift,
)

# Rows of the main tile, two panels wide. 32 registers: 16 accumulators, 239 GFLOP/s on a Zen 5 core
# where 14 x 2 gives 248 but divides fewer sizes. 16 registers: 12 accumulators.
HEIGHT = 8 if REGISTERS == 32 else 6
# Columns of `x` whose gradients are summed at once, against two panels: they divide a vector.
UPDATE_HEIGHT = 8 if VECTOR_BYTES == 64 else 4


def _columns(height: int, width: int):
    """A strip of `height` rows against `panels` panels: tiles of `width`, then of half of it."""
    rest = _columns(height, width // 2) if width > 1 else None
    @inline
    def columns(a, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, bias, c, c_row, panels,
                floor):
        v = lanes(a)
        p = 0
        while p + width <= panels:
            bp, start, cp = shift(b, p * b_panel), shift(bias, p * v), shift(c, p * v)
            multiply_tile(height, width, a, a_row, a_step, a_run, runs, depth, bp, b_panel, b_step,
                          depth * b_step, start, cp, c_row, v, floor)
            p += width
        if rest is not None and p < panels:
            rest(a, a_row, a_step, a_run, runs, depth, shift(b, p * b_panel), b_panel, b_step,
                 shift(bias, p * v), shift(c, p * v), c_row, panels - p, floor)
    return columns


# A single row is taken against eight panels: as many sums as hide the latency of an FMA.
_main, _half, _single = _columns(HEIGHT, 2), _columns(4, 2), _columns(1, 8)


@inline
def product(a, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, bias, c, c_row, first, end,
            panels, floor, ahead):
    """Rows `first` to `end` of `c = max(a @ b + bias, floor)`; pointers stand at row 0, panel 0.

    A row of `a` is read in `runs` of `depth`, which `b` has one behind the other. With `ahead` the
    rows of the next tile are asked for: another core has written them.
    """
    row = first
    while row + HEIGHT <= end:
        if ahead != 0:
            for r in range(row + HEIGHT, min(row + 2 * HEIGHT, end)):
                for k in range(0, depth, lanes(a)):
                    prefetch(a, r * a_row + k)
        at, ct = shift(a, row * a_row), shift(c, row * c_row)
        _main(at, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, bias, ct, c_row, panels,
              floor)
        row += HEIGHT
    while row + 4 <= end:
        at, ct = shift(a, row * a_row), shift(c, row * c_row)
        _half(at, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, bias, ct, c_row, panels,
              floor)
        row += 4
    while row < end:
        at, ct = shift(a, row * a_row), shift(c, row * c_row)
        _single(at, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, bias, ct, c_row, panels,
                floor)
        row += 1


# Heights of the tiles that images' rows are cut into, all two panels wide, the tallest with as many
# accumulators as registers allow. Few, because each is compiled into every kernel that multiplies.
HEIGHTS = (1, 4, 8, 10, 11, 13, 14) if REGISTERS == 32 else (1, 4, 6)
HEIGHTS_ONTO = (1, 3, 4, 8, 11, 12) if REGISTERS == 32 else (1, 3, 4, 6)
_CHOICES, _CHOICES_ONTO = sum(1 << h for h in HEIGHTS), sum(1 << h for h in HEIGHTS_ONTO)


@inline
def best_height(rows):
    """The height whose strips cover the rows with the least work; the last may overlap."""
    best, least = 1, rows * 4  # a single row waits for its own sums
    for height in HEIGHTS[1:]:
        work = (rows + height - 1) // height * height
        if height <= rows and work <= least:
            best, least = height, work
    return best


@inline
def strip(height, a, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, b_run, bias, c, c_row,
          c_panel, panels):
    """`c = a @ b + bias` of `height` rows, one of `HEIGHTS`."""
    v = lanes(a)
    p = 0
    while p + 2 <= panels:
        multiply_strip(_CHOICES, 2, height, a, a_row, a_step, a_run, runs, depth,
                       shift(b, p * b_panel), b_panel, b_step, b_run, shift(bias, p * v),
                       shift(c, p * c_panel), c_row, c_panel)
        p += 2
    if p < panels:
        multiply_strip(_CHOICES, 1, height, a, a_row, a_step, a_run, runs, depth,
                       shift(b, p * b_panel), b_panel, b_step, b_run, shift(bias, p * v),
                       shift(c, p * c_panel), c_row, c_panel)


@inline
def strips(height, a, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, b_run, bias, c, c_row,
           c_panel, rows, panels):
    """`c = a @ b + bias` in strips of `height` rows; what two strips share is computed twice."""
    for start in range(0, rows, height):
        first = min(start, rows - height)
        strip(height, shift(a, first * a_row), a_row, a_step, a_run, runs, depth, b, b_panel,
              b_step, b_run, bias, shift(c, first * c_row), c_row, c_panel, panels)


@inline
def strips_onto(a, a_row, a_step, a_run, runs, depth, b, b_panel, b_step, b_run, c, c_row, c_panel,
                rows, panels):
    """`c += a @ b`."""
    first = 0
    while first < rows:
        height = 1
        for taller in HEIGHTS_ONTO[1:]:
            if first + taller <= rows:
                height = taller
        at, ct = shift(a, first * a_row), shift(c, first * c_row)
        p = 0
        while p + 2 <= panels:
            multiply_strip(_CHOICES_ONTO, 2, height, at, a_row, a_step, a_run, runs, depth,
                           shift(b, p * b_panel), b_panel, b_step, b_run, None,
                           shift(ct, p * c_panel), c_row, c_panel)
            p += 2
        if p < panels:
            multiply_strip(_CHOICES_ONTO, 1, height, at, a_row, a_step, a_run, runs, depth,
                           shift(b, p * b_panel), b_panel, b_step, b_run, None,
                           shift(ct, p * c_panel), c_row, c_panel)
        first += height
