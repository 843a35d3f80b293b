"""The programs after tutorials run, and give Keras's numbers where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from keras_programs import PROGRAMS

import nbbn
from nbbn.names_of_keras import KERAS


def flat(found):
    """All numbers of what a program gives."""
    if isinstance(found, dict):
        found = list(found.values())
    if isinstance(found, list | tuple):
        return np.concatenate([flat(part) for part in found]) if len(found) else np.zeros(0)
    return np.ravel(np.asarray(found, float))


def test_there_are_enough():
    assert len(PROGRAMS) >= 40 and len({one.title for one in PROGRAMS.values()}) == len(PROGRAMS)


@pytest.mark.filterwarnings("ignore::nbbn.warning.ShortFitWarning")
@pytest.mark.parametrize("name", PROGRAMS)
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


def test_the_page_has_every_name_and_program():
    """`scripts/keras_surface.py` writes it anew."""
    text = (Path(__file__).parents[1] / "docs" / "howto" / "keras_names.md").read_text()
    assert [one.title for one in PROGRAMS.values() if f"| {one.title} | runs" not in text] == []
    names = {name for listed in KERAS.values() for name in listed.split()}
    assert [name for name in sorted(names) if f"`{name}`" not in text] == []
    assert "no counterpart" not in text and "| stops: " not in text
