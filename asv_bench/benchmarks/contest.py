"""Calls measured side by side in one process, in turn: the machine's drift hits all alike."""

from __future__ import annotations

import json
import os
import statistics
import time

from .timed import Call

ROUNDS = int(os.environ.get("NBBN_BENCH_ROUNDS", "15"))
SECONDS = float(os.environ.get("NBBN_BENCH_SECONDS", "60"))  # after which 3 rounds are enough
BLOCK_SECONDS = 0.05
LONG_SECONDS = 0.5


def settle(slice_seconds: float = 0.002, limit: float = 2.0) -> None:
    """Wait until no thread of this process runs.

    Thread pools spin for a while after their work in case there is more; one library's threads must
    not take the cores from the next one.
    """
    end = time.perf_counter() + limit
    while time.perf_counter() < end:
        before = time.process_time()
        time.sleep(slice_seconds)
        if time.process_time() - before < slice_seconds / 5:
            return


def wake(call: Call, seconds: float) -> None:
    """Call for a while.

    Threads that slept wake one by one, and the system takes some 20 ms to spread them over the
    cores.
    """
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        call()


def block(call: Call, inner: int, waking: float) -> float:
    """Seconds a call in a block of `inner`, after `waking` seconds of uncounted ones."""
    settle()
    wake(call, waking)
    start = time.perf_counter()
    for _ in range(inner):
        call()
    return (time.perf_counter() - start) / inner


def plan(call: Call) -> tuple[int, float]:
    """How many calls make a block, and how long to wake before it.

    Not at all for calls that outlast the waking by far.
    """
    call()  # compiles
    if block(call, 1, 0) > LONG_SECONDS:
        return 1, 0
    return max(1, round(BLOCK_SECONDS / block(call, 1, BLOCK_SECONDS))), BLOCK_SECONDS


def in_turn(
    calls: dict[str, Call], rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, list[float]]:
    """Seconds of each of `calls`, round by round; every other round goes backwards."""
    plans = {name: plan(call) for name, call in calls.items()}
    taken: dict[str, list[float]] = {name: [] for name in calls}
    end = time.perf_counter() + seconds
    for i in range(rounds):
        if i >= 3 and time.perf_counter() > end:
            break
        for name in list(calls)[:: 1 if i % 2 == 0 else -1]:
            taken[name].append(block(calls[name], *plans[name]))
    return taken


def medians(
    calls: dict[str, Call], rounds: int = ROUNDS, seconds: float = SECONDS
) -> dict[str, float]:
    """Median seconds of each of `calls`."""
    taken = in_turn(calls, rounds, seconds)
    return {name: statistics.median(each) for name, each in taken.items()}


def spread(values: list[float]) -> list[float]:
    """First quartile, median, third quartile."""
    if len(values) == 1:
        return values * 3
    return statistics.quantiles(values, n=4, method="inclusive")


def figures(own: Call, peer: Call, rounds: int = ROUNDS) -> dict:
    """Seconds of both and the ratio of their medians, with what the rounds tell of the spread.

    `ratios` are the quartiles of the ratio within a round, `sure` says whether every round has the
    same one ahead.
    """
    taken = in_turn({"own": own, "peer": peer}, rounds)
    each = [peer / own for own, peer in zip(taken["own"], taken["peer"])]
    found = {name: spread(seconds) for name, seconds in taken.items()}
    return {
        "ratio": found["peer"][1] / found["own"][1],
        **found,
        "ratios": spread(each),
        "sure": len(each) > 2 and (min(each) > 1 or max(each) < 1),
        "rounds": len(each),
    }


def ratio(own: Call, peer: Call, rounds: int = ROUNDS) -> float:
    """The peer's time over the own: above 1, the own is faster."""
    return figures(own, peer, rounds)["ratio"]


def keep(benchmark: str, params: tuple[object, ...], found: dict) -> None:
    """Add a line to the file that NBBN_BENCH_DETAILS names, if any; asv keeps a number alone."""
    path = os.environ.get("NBBN_BENCH_DETAILS")
    if path:
        named = {"benchmark": benchmark, "parameters": [repr(each) for each in params]}
        line = json.dumps({**named, **found})
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")
