"""Two threads against one: the time of each, and how many times faster two are."""

from __future__ import annotations

import nbbn

from .contest import ratio
from .norm import Inputs
from .timed import Call, Timed
from .workloads import fit, make_images

WORKS = ["epoch, batch 32", "epoch, batch 1024", "folded, 10,000 rows", "batch norm, (8192, 256)"]


def work(name: str) -> Call:
    """A call without arguments."""
    if name.startswith("epoch"):
        batch, (x, y) = int(name.split()[-1]), make_images(20_000)
        return lambda: fit(x, y, batch)
    if name.startswith("folded"):
        x, y = make_images(10_000)
        model = fit(x[:2000], y[:2000], 256).fold()
        return lambda: model.predict_proba(x)
    inputs = Inputs((8192, 256), "float32")
    return lambda: inputs.forward("relu")


def on(threads: int, call: Call) -> Call:
    """The call, on so many threads; a machine with fewer skips."""
    if threads > nbbn.get_num_threads():
        own = nbbn.get_num_threads()
        raise NotImplementedError(f"this machine has {own} threads, not {threads}")

    def limited() -> None:
        with nbbn.num_threads(threads):
            call()

    return limited


class Threads(Timed):
    """The work on one thread and on two."""

    params = (WORKS, [1, 2])
    param_names = ("work", "threads")
    version = "1"

    def prepare(self, name: str, threads: int) -> Call:
        return on(threads, work(name))

    def time_work(self, *_: object) -> None:
        self.call()


class Speedup:
    """Time on one thread over time on two, measured in turn; 2 is the most there is."""

    params = WORKS
    param_names = ("work",)
    version = "1"
    unit = "times faster on two threads"

    def setup(self, name: str) -> None:
        call = work(name)
        self.one, self.two = on(1, call), on(2, call)

    def track_speedup(self, _: object) -> float:
        return ratio(self.two, self.one)
