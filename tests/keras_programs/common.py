"""What the programs share: data made on the spot, weights that are the same in both libraries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Program:
    """A program: what it is about, whether both libraries give the same numbers, and itself."""

    title: str
    same: bool
    run: Callable[[Any], Any]


PROGRAMS: dict[str, Program] = {}


def program(title: str, *, same: bool = True) -> Callable:
    """Make a function known as a program."""

    def known(function: Callable) -> Callable:
        PROGRAMS[function.__name__] = Program(title, same, function)
        return function

    return known


def rng(seed: int = 0) -> np.random.Generator:
    """Random numbers of a program."""
    return np.random.default_rng(seed)


def pictures(rows: int = 96, size: int = 8, channels: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Images with a bright half, left, right or everywhere, and which."""
    draw, y = rng(1), np.arange(rows) % 3
    x = 0.3 * draw.random((rows, size, size, channels)).astype("float32")
    x[y == 0, :, : size // 2] += 0.7
    x[y == 1, :, size // 2 :] += 0.7
    x[y == 2] += 0.35
    return x, y


def table(rows: int = 128, columns: int = 6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, numbers and three classes that follow from them."""
    x = rng(2).normal(size=(rows, columns)).astype("float32")
    numbers = (x[:, :1] - 2 * x[:, 1:2] + np.abs(x[:, 2:3])).astype("float32")
    return x, numbers, np.digitize(numbers[:, 0], [-1, 1.5])


def waves(rows: int = 96, steps: int = 16) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a noisy wave, and what comes next."""
    t = np.arange(rows + steps + 1) * 0.4
    wave = (np.sin(t) + 0.1 * rng(3).normal(size=len(t))).astype("float32")
    x = np.lib.stride_tricks.sliding_window_view(wave, steps)[:rows]
    return np.ascontiguousarray(x), wave[steps : steps + rows, None]


def start(model: Any, seed: int = 0) -> Any:
    """Weights that do not depend on the library; statistics of batch norms as they start."""
    draw, found = rng(seed), []
    for array in model.get_weights():
        constant = array.size and (array == array.flat[0]).all()
        found.append(array if constant else 0.4 * draw.normal(size=array.shape))
    model.set_weights(found)
    return model


def curve(history: Any, name: str = "loss") -> list[float]:
    """Figures of a fit."""
    return [float(value) for value in history.history[name]]
