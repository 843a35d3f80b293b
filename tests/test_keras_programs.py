"""The programs after tutorials run, and give Keras's numbers where it is installed."""

from __future__ import annotations

import numpy as np
import pytest
from keras_programs import PROGRAMS

import nbbn


def flat(found):
    """All numbers of what a program gives."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return np.concatenate([flat(part) for part in found]) if len(found) else np.zeros(0)
    return np.ravel(np.asarray(found, float))


def test_there_are_enough():
    assert len(PROGRAMS) >= 40 and len({one.title for one in PROGRAMS.values()}) == len(PROGRAMS)


# Programs that need losses behind layers which cannot have them yet.
PENDING = {"denoising", "segmentation"}


@pytest.mark.filterwarnings("ignore::nbbn.warning.ShortFitWarning")
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=pytest.mark.xfail(raises=ValueError, strict=False)
                 if name in PENDING else ()) for name in PROGRAMS])
def test_runs(name):
    numbers = flat(PROGRAMS[name].run(nbbn))
    assert numbers.size and np.isfinite(numbers).all()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name, one in PROGRAMS.items() if one.same])
def test_the_same_numbers_as_keras(name):
    keras = pytest.importorskip("keras")
    ours, theirs = flat(PROGRAMS[name].run(nbbn)), flat(PROGRAMS[name].run(keras))
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=2e-4)
