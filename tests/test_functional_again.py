"""Batch norm called again with arrays like those before: checked fast, and as well."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from nbbn.functional import batch_norm, batch_norm_backward, batch_norm_train

SHAPE = (17, 5)


@pytest.fixture
def usual(rng):
    """A call that went through, and what came out."""
    batch_norm._known.clear()
    x, gamma, beta = (rng.normal(size=s).astype(np.float32) for s in (SHAPE, 5, 5))
    y, cache = batch_norm_train(x, gamma, beta, activation="relu")
    assert batch_norm._known
    return x, gamma, beta, y, cache


def test_the_same_numbers_again(usual):
    x, gamma, beta, y, cache = usual
    out = np.empty_like(x)
    again, other = batch_norm_train(x, gamma, beta, activation="relu", out=out)
    assert again is out
    np.testing.assert_array_equal(again, y)
    np.testing.assert_array_equal(other.var, cache.var)
    dy = np.ones_like(x)
    for given, wanted in zip(batch_norm_backward(dy, other, out=np.empty_like(x)),
                             batch_norm_backward(np.asfortranarray(dy), cache)):  # fmt: skip
        np.testing.assert_array_equal(given, wanted)
    plain, _ = batch_norm_train(x, gamma, beta)
    assert (plain < 0).any()


@pytest.mark.parametrize("change, message", [
    ({"gamma": np.ones(4, np.float32)}, "gamma must have shape"),
    ({"beta": np.ones((5, 1), np.float32)}, "beta must have shape"),
    ({"epsilon": -1e-5}, "epsilon must be above 0"),
    ({"epsilon": [1e-5]}, "'>' not supported"),
    ({"activation": "elu"}, "activation must be"),
    ({"activation": ["relu"]}, "activation must be"),
    ({"axis": 2}, "axis 2 is not an axis"),
    ({"out": np.empty(SHAPE)}, "out must be an ndarray of dtype float32"),
    ({"out": np.empty((17, 6), np.float32)}, "out must have shape"),
    ({"x": np.ones(SHAPE, np.int64)}, "x must be float32 or float64"),
    ({"x": np.ones((1, 5), np.float32)}, "its variance is not defined"),
])  # fmt: skip
def test_the_same_errors(usual, change, message):
    x, gamma, beta, _, _ = usual
    arguments = {"x": x, "gamma": gamma, "beta": beta, "activation": "relu", **change}
    with pytest.raises((TypeError, ValueError), match=message):
        batch_norm_train(arguments.pop("x"), **arguments)


def other_kinds(x, gamma, beta):
    """The same numbers in arrays that take a longer way."""
    still = x.copy()
    still.flags.writeable = False
    shifted = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
    shifted[...] = x
    yield still, gamma, beta
    yield shifted, gamma, beta
    yield np.asfortranarray(x), gamma, beta
    yield np.repeat(x, 2, 0)[::2], gamma, beta
    yield x, gamma.astype(np.float64), beta.tolist()
    yield x, np.repeat(gamma, 2)[::2], beta
    yield np.ma.array(x), gamma, beta


def test_other_kinds_of_arrays(usual):
    x, gamma, beta, y, _ = usual
    for arrays in other_kinds(x, gamma, beta):
        found, cache = batch_norm_train(*arrays, activation="relu")
        np.testing.assert_array_equal(found, y)
        batch_norm_backward(np.ones_like(x), cache)


def test_over_the_rows_themselves(usual):
    x, gamma, beta, y, cache = usual
    dy = np.linspace(-1, 1, x.size, dtype=np.float32).reshape(x.shape)
    expected = batch_norm_backward(dy, cache)
    for rows in (x.copy(), np.vstack([x, x])[: len(x)]):
        out, own = batch_norm_train(rows, gamma, beta, activation="relu", out=rows)
        assert out is rows
        np.testing.assert_array_equal(out, y)
        for given, wanted in zip(batch_norm_backward(dy.copy(), own), expected):
            np.testing.assert_array_equal(given, wanted)
    own = dy.copy()
    assert batch_norm_backward(own, cache, out=own)[0] is own
    np.testing.assert_array_equal(own, expected[0])


def test_no_more_are_known_than_there_is_room_for(rng):
    for n in range(2, batch_norm._MOST_KNOWN + 9):
        batch_norm_train(rng.normal(size=(n, 2)))
    assert len(batch_norm._known) <= batch_norm._MOST_KNOWN


def test_threads_at_once(usual):
    x, gamma, beta, y, _ = usual
    wrong = []

    def work():
        for _ in range(300):
            found, cache = batch_norm_train(x, gamma, beta, activation="relu")
            if not np.array_equal(found, y) or not np.isfinite(cache.var).all():
                wrong.append(found)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
