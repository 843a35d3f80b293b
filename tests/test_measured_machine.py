"""What a meeting of threads takes, as measured, and what follows from it."""

from __future__ import annotations

import numba
import pytest

from nbbn.program import measured
from nbbn.program.costs import HERE


@pytest.fixture(autouse=True)
def nothing_kept():
    measured.machine.cache_clear()
    yield
    measured.machine.cache_clear()


def test_threads_meet_as_often_as_asked():
    """It ends, on as many threads as there are, and takes some time."""
    threads = min(2, numba.config.NUMBA_NUM_THREADS)
    assert 0 < measured._seconds(threads) < 1


def test_what_was_measured_counts(monkeypatch):
    monkeypatch.setattr(measured, "_seconds", lambda threads: 1e-7 * threads)
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 7)
    assert measured.machine(1) == measured.machine(8) == HERE
    for threads in (2, 7):
        assert measured.machine(threads).meeting(threads) == pytest.approx(1e-7 * threads)


def test_threads_without_a_core_tell_nothing(monkeypatch):
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 8)
    monkeypatch.setattr(measured, "_seconds", lambda threads: 5e-3)
    assert measured.machine(8) == HERE


def test_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(numba.config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(measured, "_seconds", lambda threads: calls.append(threads) or 1e-7)
    assert measured.machine(3) == measured.machine(3)
    assert calls == [3]
