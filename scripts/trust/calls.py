"""Random calls from eight threads: no wrong row, no memory that grows.

Run: python scripts/trust/calls.py --minutes 60
"""

from __future__ import annotations

import argparse
import random
import threading
import time
import warnings
from pathlib import Path

import numpy as np

import nbbn
from nbbn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input, ReLU

THREADS = 8


def resident() -> float:
    """Megabytes that this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


def models() -> list[tuple[nbbn.FoldedModel, np.ndarray, np.ndarray]]:
    """Models with rows and their answers on one thread."""
    rng, found = np.random.default_rng(0), []
    x = rng.normal(size=(3000, 60)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.append((nbbn.MLPClassifier((128, 64), max_iter=1, random_state=0)
                      .fit(x, np.arange(3000) % 4).fold(), x))
    images = rng.normal(size=(300, 12, 12, 3)).astype(np.float32)
    net = nbbn.Sequential([Input((12, 12, 3)), Conv2D(16, 3), BatchNormalization(), ReLU(),
                           Flatten(), Dense(5)])
    found.append((net.fold(), images))
    with nbbn.num_threads(1):
        return [(model, rows, model.predict(rows)) for model, rows in found]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    args = parser.parse_args()
    served, end = models(), time.monotonic() + 60 * args.minutes
    wrong, calls, held = [], [0] * THREADS, []

    def work(number: int) -> None:
        choose = random.Random(number)
        while time.monotonic() < end and not wrong:
            model, rows, ref = served[choose.randrange(len(served))]
            first = choose.randrange(len(rows))
            part = slice(first, first + choose.choice((1, 3, 32, 500, len(rows))))
            with nbbn.num_threads(choose.choice((None, 1, 2))):
                got = model.predict(np.ascontiguousarray(rows[part]))
            if not np.array_equal(got, ref[part]):
                wrong.append(part)
            calls[number] += 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(THREADS)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(5.0, 6 * args.minutes))
        held.append(resident())
    if wrong:
        raise SystemExit(f"rows {wrong[0]} were answered otherwise")
    settled = held[len(held) // 4 :] or held
    print(f"{sum(calls)} calls from {THREADS} threads, no wrong row; memory {settled[0]:.0f} MB "
          f"after a quarter, {settled[-1]:.0f} MB at the end")
    if settled[-1] > settled[0] + 5:
        raise SystemExit("memory grew by more than 5 MB")


if __name__ == "__main__":
    main()
