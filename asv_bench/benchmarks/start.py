"""Start: import and first call, each in a process of its own.

With an empty and a filled kernel cache.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile

import nbbn

# The folder that nbbn was imported from, for the processes started here: asv takes PYTHONPATH out
# of theirs.
SOURCE = os.path.dirname(os.path.dirname(os.path.abspath(nbbn.__file__)))

IMPORT = """
import time
start = time.perf_counter()
import {module}
print(time.perf_counter() - start)
"""

FIRST_CALLS = """
import time, warnings
import numpy as np
import nbbn
warnings.simplefilter("ignore")
rng = np.random.default_rng(0)
x = rng.standard_normal((512, 20)).astype(np.float32)
y = x[:, 0] > 0
start = time.perf_counter()
model = nbbn.MLPClassifier((32,), max_iter=2, random_state=0).fit(x, y)
model.predict(x)
model.fold().predict(x)
print(time.perf_counter() - start)
"""


def seconds(code: str, cache: str | None) -> float:
    """The seconds that `code` prints in a fresh interpreter.

    Its kernels are kept in the folder `cache`; None: as always.
    """
    env = {**os.environ, "PYTHONPATH": SOURCE, **({"NUMBA_CACHE_DIR": cache} if cache else {})}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    return float(done.stdout)


class _Start:
    unit = "s"
    timeout = 300

    def setup(self, *_: object) -> None:
        self.folder = tempfile.TemporaryDirectory()

    def teardown(self, *_: object) -> None:
        self.folder.cleanup()


class Import(_Start):
    """Seconds of an import, beside that of what nbbn builds on."""

    params = ["nbbn", "sklearn.neural_network", "numba"]
    param_names = ("module",)
    version = "1"

    def track_import(self, module: str) -> float:
        return min(seconds(IMPORT.format(module=module), self.folder.name) for _ in range(5))


class FirstCall(_Start):
    """Seconds of the first fit, predict and fold of a process."""

    version = "2"

    def track_empty_cache(self) -> float:
        return seconds(FIRST_CALLS, self.folder.name)

    def track_filled_cache(self) -> float:
        seconds(FIRST_CALLS, None)
        return min(seconds(FIRST_CALLS, None) for _ in range(3))
