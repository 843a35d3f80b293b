"""Looking over the caller's rows at the speed of memory."""

from __future__ import annotations

from nbbn.kernels.registry import READ_ROWS, WRITE_ROWS, kernel
from nbbn.kernels.simd import fma, lanes, load, shift, splat, total
from nbbn.kernels.team import share


@kernel(inference=True)
def scan_finite(x: READ_ROWS, size, blocks, out: WRITE_ROWS, thread, threads):
    """`out[block] = 0`, or NaN where a block of the flat array holds NaN or infinity.

    That is the sum of `0 * x`.
    """
    v = lanes(x)
    zero = splat(x, 0.0)
    first_block, end_block = share(blocks, thread, threads)
    for block in range(first_block, end_block):
        first, end = share(size, block, blocks)
        a, b, c, d = zero, zero, zero, zero
        at = first
        while at + 4 * v <= end:
            p = shift(x, at)
            a, b = fma(load(p, 0), zero, a), fma(load(p, v), zero, b)
            c, d = fma(load(p, 2 * v), zero, c), fma(load(p, 3 * v), zero, d)
            at += 4 * v
        found = total((a + b) + (c + d))
        while at < end:
            found += x[at] * 0
            at += 1
        out[block] = found
