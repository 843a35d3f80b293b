"""One thread, two and all there are: the time of each, and how many times faster more are."""

from __future__ import annotations

from collections.abc import Callable

import nbbn

from .contest import ratio
from .norm import Inputs
from .timed import Call, Timed
from .workloads import CNN_BATCH, cnn, cnn_fit, fit, make_images, make_rows, mlp, pictures


def epoch(batch_size: int) -> Call:
    """An epoch of 784-128-64-32-10 over 20,000 rows."""
    x, y = make_images(20_000)
    return lambda: fit(x, y, batch_size)


def step(rows: int) -> Call:
    """A training step of 1000-1024-1024-10."""
    (x, y), model = make_rows(rows, 1000), mlp(1000, (1024, 1024))
    return lambda: model.train_on_batch(x, y)


def images_epoch() -> Call:
    """An epoch of the README's convolutional network over 640 images."""
    (x, y), model = pictures(5 * CNN_BATCH), cnn()
    return lambda: cnn_fit(model, x, y)


def folded_rows() -> Call:
    """Probabilities of 10,000 rows."""
    x, y = make_images(10_000)
    model = fit(x[:2000], y[:2000], 256).fold()
    return lambda: model.predict_proba(x)


def folded_image() -> Call:
    """Probabilities of a single image."""
    x, y = pictures(5 * CNN_BATCH)
    model, x = cnn_fit(cnn(), x, y).fold(), x[:1].copy()
    return lambda: model.predict(x)


def batch_norm() -> Call:
    """Batch norm and ReLU of (8192, 256)."""
    inputs = Inputs((8192, 256), "float32")
    return lambda: inputs.forward("relu")


WORKS: dict[str, Callable[[], Call]] = {
    "epoch, batch 32": lambda: epoch(32),
    "epoch, batch 1024": lambda: epoch(1024),
    "step of 1000-1024-1024-10, batch 256": lambda: step(256),
    "step of 1000-1024-1024-10, batch 2048": lambda: step(2048),
    "convolutional epoch": images_epoch,
    "folded, 10,000 rows": folded_rows,
    "folded, one image": folded_image,
    "batch norm, (8192, 256)": batch_norm,
}
Count = int | str  # of threads; or "all"


def on(threads: Count, call: Call) -> Call:
    """The call, on so many threads; a machine with fewer skips, and "all" where they are two."""
    own = nbbn.get_num_threads()
    if threads == "all" and own <= 2:
        raise NotImplementedError(f"all threads of this machine are {own}: measured by that number")
    count = own if threads == "all" else int(threads)
    if count > own:
        raise NotImplementedError(f"this machine has {own} threads, not {count}")

    def limited() -> None:
        with nbbn.num_threads(count):
            call()

    return limited


class Threads(Timed):
    """The work on one thread, on two and on all."""

    params = (list(WORKS), [1, 2, "all"])
    param_names = ("work", "threads")
    version = "1"

    def prepare(self, name: str, threads: Count) -> Call:
        return on(threads, WORKS[name]())

    def time_work(self, *_: object) -> None:
        self.call()


class Speedup:
    """Time on one thread over time on more, in turn; their number is the most there is."""

    params = (list(WORKS), [2, "all"])
    param_names = ("work", "threads")
    version = "2"
    unit = "times faster than on one thread"

    def setup(self, name: str, threads: Count) -> None:
        call = WORKS[name]()
        self.one, self.more = on(1, call), on(threads, call)

    def track_speedup(self, *_: object) -> float:
        return ratio(self.more, self.one)
