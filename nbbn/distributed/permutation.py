"""A permutation of many numbers that nobody holds: where one of them goes follows from a key.

A Feistel network (Luby and Rackoff, 1988) over the numbers below `a * b`, which are pairs of one
below `a` and one below `b`: each round adds to one of the pair what a function that the key chooses
makes of the other. What leaves the range goes through it again until it is back ("cycle walking":
Black and Rogaway, 2002, "Ciphers with arbitrary finite domains"); with `a` and `b` about the
square root few do. It is no cipher: its rounds mix well and quickly, and keep no secret.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from nbbn.group import KEY_BYTES

ROUNDS = KEY_BYTES // 8
# Numbers that are worked on at a time, so that they stay in a core's cache.
_BLOCK = 1 << 15


class Permutation:
    """A permutation of the numbers below `count`.

    Parameters
    ----------
    count : int
        At least 1, below 2**62.
    key : bytes
        KEY_BYTES of them, drawn at random.
    """

    def __init__(self, count: int, key: bytes):
        self._count, self._keys = count, np.frombuffer(key, "<u8", ROUNDS).astype(np.uint64)
        low = math.isqrt(count - 1) + 1
        self._moduli = np.uint64(low), np.uint64(-(-count // low))

    def places(self, first: int, end: int) -> np.ndarray:
        """Where each number from `first` to `end` goes."""
        return self._walked(self._there, first, end)

    def numbers(self, first: int, end: int) -> np.ndarray:
        """Which number goes to each place from `first` to `end`."""
        return self._walked(self._back, first, end)

    def _walked(self, step: Callable[[np.ndarray], np.ndarray], first: int,
                end: int) -> np.ndarray:
        found = np.empty(end - first, np.int64)
        for at in range(first, end, _BLOCK):
            block = step(np.arange(at, min(at + _BLOCK, end), dtype=np.uint64))
            while len(outside := np.flatnonzero(block >= self._count)):
                block[outside] = step(block[outside])
            found[at - first : at - first + len(block)] = block
        return found

    def _there(self, x: np.ndarray) -> np.ndarray:
        pair = self._pair(x)
        for k, key in enumerate(self._keys):
            side, modulus = k % 2, self._moduli[k % 2]
            pair[side] = _reduced(pair[side] + _drawn(pair[1 - side], key, modulus), modulus)
        return pair[1] * self._moduli[0] + pair[0]

    def _back(self, x: np.ndarray) -> np.ndarray:
        pair = self._pair(x)
        for k in reversed(range(ROUNDS)):
            side, modulus = k % 2, self._moduli[k % 2]
            drawn = _drawn(pair[1 - side], self._keys[k], modulus)
            pair[side] = _reduced(pair[side] + (modulus - drawn), modulus)
        return pair[1] * self._moduli[0] + pair[0]

    def _pair(self, x: np.ndarray) -> list[np.ndarray]:
        high, low = np.divmod(x, self._moduli[0])
        return [low, high]


def _reduced(x: np.ndarray, modulus: np.uint64) -> np.ndarray:
    """What is below twice the modulus, below it."""
    return np.where(x < modulus, x, x - modulus)


def _drawn(x: np.ndarray, key: np.uint64, modulus: np.uint64) -> np.ndarray:
    """Numbers below a modulus that follow from others and the key (MurmurHash3's last steps)."""
    x = x ^ key
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xFF51AFD7ED558CCD)
    x ^= x >> np.uint64(33)
    x *= np.uint64(0xC4CEB9FE1A85EC53)
    x ^= x >> np.uint64(33)
    x >>= np.uint64(32)
    x *= modulus
    x >>= np.uint64(32)
    return x
