"""One thread or a team for calls, on times that are made up; and calls that do not wait."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import nbbn
from nbbn import runtime
from nbbn.layers import BatchNormalization, Dense, Input
from nbbn.program import runnable
from nbbn.thread_choice import MOST_CALLS, CallChoice, ThreadChoice


def calls(choice, count, alone, team, rows=32):
    """The times of so many calls, and which were on the team; times may be functions of a call."""
    times, teams = [], []
    for i in range(count):
        on_team = choice.next(rows)
        time = team if on_team else alone
        times.append(time(i) if callable(time) else time)
        teams.append(on_team)
        choice.note(rows, on_team, times[-1])
    return np.array(times), np.array(teams)


def test_calls_stay_on_a_team_that_is_faster():
    _, teams = calls(CallChoice(), 10_000, 40e-6, 20e-6)
    assert teams.mean() > 0.99


@pytest.mark.parametrize("team", [45e-6, 60e-6, 90e-6, 1e-3, 4e-3])
def test_calls_leave_a_team_that_is_no_faster(team):
    """Trials of it cost a tenth, or where it waits for a core fewer than one call in a hundred."""
    times, teams = calls(CallChoice(), 20_000, 40e-6, team)
    assert teams[1000:].mean() < (0.25 if team < 80e-6 else 0.02)
    assert times[1000:].mean() < (1.2 if team < 80e-6 else 1.5) * 40e-6


def test_calls_leave_a_team_that_waits_at_once_and_come_back():
    choice = CallChoice()
    calls(choice, 1000, 40e-6, 20e-6)
    times, teams = calls(choice, 20_000, 50e-6, 4e-3)
    assert teams[:3].sum() <= 2  # the first that waited was the last
    assert np.percentile(times[1000:], 99) < 60e-6 and times.mean() < 2 * 50e-6
    _, teams = calls(choice, 20_000, 40e-6, 20e-6)
    assert teams[MOST_CALLS + 10 :].mean() > 0.99


def test_a_team_that_waits_between_fast_calls_is_left_for_long():
    """Beside busy processes a team is fast until its time slice ends, every hundred calls or so."""
    choice = CallChoice()
    calls(choice, 3000, 40e-6, 20e-6)
    times, _ = calls(choice, 20_000, 45e-6, lambda i: 4e-3 if i % 60 == 0 else 22e-6)
    assert np.percentile(times, 99) < 60e-6 and times.mean() < 1.5 * 45e-6
    _, teams = calls(choice, 20_000, 40e-6, 20e-6)
    assert teams[2 * MOST_CALLS :].mean() > 0.99


@pytest.mark.parametrize("every, slow", [(200, 200e-6), (150, 400e-6), (1000, 4e-3)])
def test_calls_that_are_slow_now_and_then_do_not_end_a_team_that_is_worth_it(every, slow):
    """As a machine's own noise is: seldom, and cheaper than one thread would be."""
    times, teams = calls(CallChoice(), 20_000, 40e-6, lambda i: slow if i % every == 0 else 20e-6)
    assert teams[1000:].mean() > 0.9 and times[1000:].mean() < 32e-6


def test_calls_of_an_unknown_size_are_on_the_team():
    """One large call in the life of a process is on all threads."""
    assert CallChoice().next(60_000)


def test_calls_come_back_soon_from_a_team_that_was_little_slower():
    choice = CallChoice()
    calls(choice, 1000, 40e-6, 20e-6)
    calls(choice, 2000, 40e-6, 44e-6)
    _, teams = calls(choice, 300, 40e-6, 20e-6)
    assert teams[40:].mean() > 0.95


def test_one_slow_call_costs_few_others():
    choice = CallChoice()
    calls(choice, 1000, 40e-6, 20e-6)
    _, teams = calls(choice, 100, 40e-6, lambda i: 1e-3 if i == 0 else 20e-6)
    assert teams.sum() > 90


def test_sizes_are_told_apart():
    """Of few rows one thread is faster, of many the team."""
    choice, seen = CallChoice(), {8: [], 4096: []}
    for i in range(8000):
        rows = (8, 4096)[i % 2]
        team = choice.next(rows)
        seen[rows].append(team)
        choice.note(rows, team, {8: (10e-6, 30e-6), 4096: (4e-3, 2.2e-3)}[rows][team])
    assert np.mean(seen[4096][1000:]) > 0.95 and np.mean(seen[8][1000:]) < 0.05


def steps(choice, seconds, left):
    """Steps by number of threads of so many seconds each."""
    done = {1: 0, 2: 0}
    while left:
        threads, count = choice.next(2, left)
        choice.note(threads, count, count * seconds[threads])
        done[threads] += count
        left -= count
    return done


def test_a_fit_leaves_threads_that_wait_within_some_steps():
    choice = ThreadChoice()
    steps(choice, {1: 3e-4, 2: 1e-4}, 20_000)
    assert steps(choice, {1: 4e-4, 2: 5e-3}, 2000)[2] < 700
    assert steps(choice, {1: 3e-4, 2: 1e-4}, 20_000)[2] > 15_000


@pytest.fixture
def network():
    nbbn.set_random_seed(0)
    layers = [Input((300,)), Dense(256), BatchNormalization(), Dense(200), Dense(3)]
    return nbbn.Sequential(layers).fold()


@pytest.mark.parametrize("rows", [40, 3000])
def test_a_call_does_not_wait_for_another_team(network, rows):
    x = np.random.default_rng(0).normal(size=(rows, 300)).astype(np.float32)
    ref = network.predict(x)
    with runtime._parallel:  # as held by a call whose threads have no core
        done = []
        other = threading.Thread(target=lambda: done.append(network.predict(x)))
        other.start()
        other.join(20)
        assert not other.is_alive()
    np.testing.assert_array_equal(done[0], ref)


@pytest.mark.parametrize("team", [True, False])
def test_the_bits_do_not_depend_on_the_choice(network, team, monkeypatch):
    x = np.random.default_rng(0).normal(size=(500, 300)).astype(np.float32)
    ref = network.predict(x)
    monkeypatch.setattr(runnable.CallChoice, "next", lambda self, rows: team)
    np.testing.assert_array_equal(network.predict(x), ref)


def test_long_steps_are_seldom_tried_on_one_thread():
    """A trial of a step of seconds costs as much as the step."""
    choice, taken = ThreadChoice(), []
    for _ in range(100):
        threads, steps = choice.next(2, 100)
        choice.note(threads, steps, steps * {1: 2.0, 2: 1.0}[threads])
        taken.append(threads)
    assert taken.count(1) <= 5 and taken[-1] == 2
