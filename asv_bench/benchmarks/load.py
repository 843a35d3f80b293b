"""Latency under load: predictions beside busy processes, and of several callers at once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np

import nbbn

from .workloads import fit, make_images

BUSY = [0, 1, 2, 6]
CALLERS = [1, 4, 16]
SECONDS = 1.0
_SPIN = "import time\nend = time.time() + 60\nwhile time.time() < end: pass"


class Predict:
    """Microseconds of a call of 32 rows through the folded 784-128-64-32-10, and their 99th
    percentile.
    """

    params = (BUSY, CALLERS)
    param_names = ("busy processes", "callers")
    unit = "us"
    version = "1"
    timeout = 300

    def setup(self, busy: int, callers: int) -> None:
        x, y = make_images(2000)
        self.model = fit(x, y, 256).fold()
        self.x = np.ascontiguousarray(x[:32])
        self.model.predict_proba(self.x)
        self.busy = [subprocess.Popen([sys.executable, "-c", _SPIN]) for _ in range(busy)]
        self.times = self._calls(callers)

    def teardown(self, *_: object) -> None:
        for process in self.busy:
            process.kill()
            process.wait()

    def _calls(self, callers: int) -> np.ndarray:
        """Seconds of each call."""
        found: list[float] = []
        end = time.perf_counter() + SECONDS

        def call() -> None:
            while (start := time.perf_counter()) < end:
                self.model.predict_proba(self.x)
                found.append(time.perf_counter() - start)

        threads = [threading.Thread(target=call) for _ in range(callers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return np.array(found)

    def track_mean(self, *_: object) -> float:
        return 1e6 * float(self.times.mean())

    def track_99th_percentile(self, *_: object) -> float:
        return 1e6 * float(np.percentile(self.times, 99))


class OneThread(Predict):
    """The same on one thread, which a busy machine is measured against."""

    version = "1"

    def setup(self, busy: int, callers: int) -> None:
        nbbn.set_num_threads(1)
        super().setup(busy, callers)
