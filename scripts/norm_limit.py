#!/usr/bin/env python
"""Print how near batch norm comes to what the machine's memory allows.

    norm_limit.py [--shapes 32x128 256x512 ...] [--threads N] [--seconds 0.2]

The limit is measured in the same minute by a plain function that moves the same bytes and computes
next to nothing: forward it reads an array twice and writes one, backward it reads two twice and
writes one; on one thread or on all, whichever is faster. A share of 0.5 is twice the time of that.
Above 1 are results written past the caches, which the plain function does not. Forward is with
ReLU, float32, channels last. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numba
import numpy as np

import nbbn
from nbbn.functional import batch_norm_backward, batch_norm_train

SHAPES = ("32x128", "256x512", "1024x1024", "8192x256", "65536x256", "32x28x28x32", "64x14x14x256")
ROUNDS = 7
HEAD = ("       shape", "forward, us", "limit, us", "share", "and back, us", "limit, us", "share")


def _read_twice(a: np.ndarray, b: np.ndarray, out: np.ndarray, first: int, end: int) -> float:
    """Read a part of `a` and `b` twice and write that of `out`."""
    total = np.float32(0)
    for i in range(first, end):
        total += a[i] * b[i]
    for i in range(first, end):
        out[i] = a[i] + b[i]
    return total


_part = numba.njit(fastmath=True)(_read_twice)


@numba.njit(nogil=True)
def moved(a: np.ndarray, b: np.ndarray, out: np.ndarray, sums: np.ndarray) -> None:
    """The plain function on one thread; `b` may be `a`, which then is one array."""
    sums[0] = _part(a, b, out, 0, a.size)


@numba.njit(parallel=True)
def moved_by_all(a: np.ndarray, b: np.ndarray, out: np.ndarray, sums: np.ndarray) -> None:
    """A part of the plain function on each thread: as many as there are sums."""
    threads = sums.size
    for t in numba.prange(threads):
        sums[t] = _part(a, b, out, a.size * t // threads, a.size * (t + 1) // threads)


def medians(calls: dict[str, Callable[[], object]], seconds: float) -> dict[str, float]:
    """Median seconds of each call, measured in turn."""
    took: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(ROUNDS):
        for name, call in calls.items():
            began, count = time.perf_counter(), 0
            while count == 0 or time.perf_counter() - began < seconds / ROUNDS:
                call()
                count += 1
            took[name].append((time.perf_counter() - began) / count)
    return {name: statistics.median(values) for name, values in took.items()}


def calls_of(shape: tuple[int, ...], threads: int) -> dict[str, Callable[[], object]]:
    """Batch norm of a shape and what moves the same bytes."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal(shape, "f4"), rng.standard_normal(shape, "f4")
    y, dx = np.empty_like(x), np.empty_like(x)
    gamma, beta = np.ones(shape[-1], "f4"), np.zeros(shape[-1], "f4")
    a, b, c, d = x.reshape(-1), dy.reshape(-1), y.reshape(-1), dx.reshape(-1)
    one, all_threads = np.zeros(1, "f4"), np.zeros(threads, "f4")

    def both() -> object:
        _, cache = batch_norm_train(x, gamma, beta, activation="relu", out=y)
        return batch_norm_backward(dy, cache, out=dx)

    calls: dict[str, Callable[[], object]] = {
        "forward": lambda: batch_norm_train(x, gamma, beta, activation="relu", out=y),
        "both": both,
        "move 1": lambda: moved(a, a, c, one),
        "move both 1": lambda: (moved(a, a, c, one), moved(a, b, d, one)),
    }
    if threads > 1:
        calls["move all"] = lambda: moved_by_all(a, a, c, all_threads)
        calls["move both all"] = lambda: (moved_by_all(a, a, c, all_threads),
                                          moved_by_all(a, b, d, all_threads))
    return calls


def row(shape: str, threads: int, seconds: float) -> list[str]:
    """A line of the table: times in microseconds and the shares of the limit."""
    sizes = tuple(int(n) for n in shape.split("x"))
    took = medians(calls_of(sizes, threads), seconds)
    cells = [shape]
    for own, limit in (("forward", "move "), ("both", "move both ")):
        least = min(took[limit + way] for way in ("1", "all") if limit + way in took)
        cells += [f"{took[own] * 1e6:.1f}", f"{least * 1e6:.1f}", f"{least / took[own]:.2f}"]
    return cells


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="AxB")
    parser.add_argument("--threads", type=int, default=nbbn.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.2, help="of each measurement")
    options = parser.parse_args()
    numba.set_num_threads(options.threads)
    print(f"{options.threads} threads, float32, batch norm and ReLU")
    print("  ".join(HEAD))
    with nbbn.num_threads(options.threads):
        for shape in options.shapes:
            cells = row(shape, options.threads, options.seconds)
            widths = (len(head) for head in HEAD)
            print("  ".join(cell.rjust(width) for cell, width in zip(cells, widths)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
