"""scikit-learn's own tests of its MLPs, on ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sklearn_as_nbbn
from estimator_helpers import newest

HERE = Path(__file__).parent


@pytest.mark.slow
@newest  # its suite was read; that of an older scikit-learn has other items
def test_suite_passes(tmp_path):
    """All items but the exceptions, each of which is there and named with its reason."""
    path = os.pathsep.join([str(HERE), str(HERE.parent)])
    done = subprocess.run(
        [
            sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "sklearn_as_nbbn",
            "--pyargs", "sklearn.neural_network.tests.test_mlp",
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=1200,
    )
    last = done.stdout.strip().splitlines()[-1]
    assert done.returncode == 0, done.stdout[-5000:]
    count = len(sklearn_as_nbbn.EXCEPTED)
    assert f"{59 - count} passed, {count} skipped" in last
