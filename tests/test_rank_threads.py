"""Threads of a rank: its part of the cores that launchers let it run on."""

from __future__ import annotations

import pytest

from nbbn.distributed.fit import share_of_cores

ALL = [0, 1, 2, 3, 4, 5, 6, 7]
SHARES = {
    "alone": ([ALL], [8]),
    "all on all cores": ([ALL, ALL], [4, 4]),
    "bound to halves": ([ALL[:4], ALL[4:]], [4, 4]),
    "bound to cores": ([[0], [1], [2]], [1, 1, 1]),
    "unequal parts": ([ALL[:6], ALL[6:]], [6, 2]),
    "overlapping": ([[0, 1, 2, 3], [2, 3, 4, 5]], [3, 3]),
    "more ranks than cores": ([[0, 1]] * 3, [0, 0, 0]),
    "three on eight": ([ALL] * 3, [2, 2, 2]),
}


@pytest.mark.parametrize("of_ranks, shares", SHARES.values(), ids=SHARES)
def test_share_of_cores(of_ranks, shares):
    got = [share_of_cores(mine, of_ranks) for mine in of_ranks]
    assert got == shares
    assert sum(got) <= len({core for cores in of_ranks for core in cores})
