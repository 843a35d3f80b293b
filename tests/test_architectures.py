"""ResNets, MobileNets, U-Nets and their kin: Keras's numbers, bits, races, memory, new heads."""

from __future__ import annotations

import numpy as np
import pytest
from architecture_numbers import (
    OPTIMIZERS,
    kept,
    kept_numbers,
    keras_in_float64,
    trained,
)
from architectures import NAMES

import nbbn

KERAS = kept_numbers()
# What differs from Keras, which adds in another order: of an array's largest number.
RELATIVE = 1e-11


@pytest.fixture(scope="module")
def keras():
    with keras_in_float64() as found:
        yield found


def assert_close(got, ref, scale=None):
    """Equal but for a share of the largest number, or of `scale`."""
    scale = np.abs(ref).max() if scale is None else scale
    np.testing.assert_allclose(got, ref, rtol=0, atol=RELATIVE * scale + 1e-14)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_numbers_of_keras(name, optimizer):
    """Losses, all arrays after three steps, and predictions, as Keras computed them once."""
    ref, found = KERAS[name][optimizer], trained(nbbn, name, optimizer)
    got = kept(found)
    assert_close(got["losses"], ref["losses"])
    assert got["weights"].keys() == ref["weights"].keys()
    for layer, arrays in found.weights.items():
        scales = [np.sqrt(a.size) * np.abs(a).max() for a in arrays]
        for one, other, scale in zip(got["weights"][layer], ref["weights"][layer], scales):
            assert_close(one, other, scale)
    for when in ("before", "after"):
        for array, one, other in zip(getattr(found, when), got[when], ref[when], strict=True):
            assert_close(one, other, np.sqrt(array.size) * np.abs(array).max())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", NAMES)
def test_is_keras(keras, name, optimizer):
    """The same beside Keras itself, number by number."""
    ref, got = (trained(namespace, name, optimizer) for namespace in (keras, nbbn))
    assert_close(got.losses, ref.losses)
    assert got.weights.keys() == ref.weights.keys()
    for layer, arrays in ref.weights.items():
        for one, other in zip(got.weights[layer], arrays, strict=True):
            assert_close(one, other)
    for when in ("before", "after"):
        for one, other in zip(getattr(got, when), getattr(ref, when), strict=True):
            assert_close(one, other)
