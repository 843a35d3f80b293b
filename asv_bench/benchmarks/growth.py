"""How the time of an epoch grows with rows, width and depth.

From 20,000 rows of 256 features, two layers of 128, batch 128.
"""

from __future__ import annotations

from .timed import Call, Timed
from .workloads import fit, make_rows

ROWS, FEATURES, WIDTH, DEPTH, BATCH = 20_000, 256, 128, 2, 128


def epoch(rows: int = ROWS, width: int = WIDTH, depth: int = DEPTH) -> Call:
    """A call that fits one epoch."""
    x, y = make_rows(rows, FEATURES)
    return lambda: fit(x, y, BATCH, hidden=(width,) * depth)


class Rows(Timed):
    """Should be proportional."""

    params = [5_000, 20_000, 80_000]
    param_names = ("rows",)
    version = "1"

    def prepare(self, rows: int) -> Call:
        return epoch(rows=rows)

    def time_fit(self, _: object) -> None:
        self.call()


class Width(Timed):
    """Grows towards its square: the second layer's weights do."""

    params = [32, 128, 512]
    param_names = ("width",)
    version = "1"

    def prepare(self, width: int) -> Call:
        return epoch(width=width)

    def time_fit(self, _: object) -> None:
        self.call()


class Depth(Timed):
    """Should be proportional to the layers of 128."""

    params = [1, 2, 4, 8]
    param_names = ("depth",)
    version = "1"

    def prepare(self, depth: int) -> Call:
        return epoch(depth=depth)

    def time_fit(self, _: object) -> None:
        self.call()
