"""Types of command-line arguments, and arguments that several commands share."""

from __future__ import annotations

import argparse
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from nbbn.runtime import get_num_threads, num_threads

Number = TypeVar("Number", int, float)


def _number(kind: Callable[[str], Number], holds: Callable[[Number], bool],
            rule: str) -> Callable[[str], Number]:
    """The type of an argument: a number for which `holds` is true."""

    def read(text: str) -> Number:
        try:
            value = kind(text)
            if holds(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"{text!r} is not a {rule}")

    return read


count = _number(int, lambda n: n >= 1, "whole number of at least 1")
seed = _number(int, lambda n: 0 <= n < 2**32, "whole number from 0 to 4294967295")
positive = _number(float, lambda x: 0 < x < math.inf, "number above 0")
share = _number(float, lambda x: 0 <= x < 1, "number from 0 to below 1")


def sizes(text: str) -> tuple[int, ...]:
    """Layer widths: `128,64,32`."""
    try:
        return tuple(count(part.strip()) for part in text.split(","))
    except argparse.ArgumentTypeError:
        message = f"{text!r} is not a list of layer widths such as 128,64,32"
        raise argparse.ArgumentTypeError(message) from None


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add `--threads`."""
    parser.add_argument("--threads", type=count, metavar="N",
                        help="threads to use (default: all cores)")


@contextmanager
def threads_of(args: argparse.Namespace) -> Iterator[None]:
    """Within, nbbn uses `--threads` threads; a warning where there are fewer."""
    with num_threads(args.threads):
        if args.threads is not None and (used := get_num_threads()) < args.threads:
            warnings.warn(f"--threads {args.threads}: {used} used, one for each core that there is",
                          stacklevel=3)
        yield


def add_network(parser: argparse.ArgumentParser, *, epochs: str,
                rate: float | None = 1e-3) -> None:
    """Add the arguments of a network and its training.

    `epochs` says the default of `--epochs`; `rate` is that of `--learning-rate`, None for the
    estimator's own.
    """
    activations = ("relu", "tanh", "logistic")
    add = parser.add_argument
    add("--hidden", type=sizes, default=(128, 64, 32), metavar="N,N,...",
        help="hidden layers (128,64,32)")  # fmt: skip
    add("--epochs", type=count, metavar="N", help=f"passes over the training rows ({epochs})")
    add("--batch-size", type=count, default=32, metavar="N", help="rows a step (32)")
    own = "0.002, without batch norm 0.001" if rate is None else f"{rate:g}"
    add("--learning-rate", type=positive, default=rate, metavar="RATE",
        help=f"Adam's step size ({own})")  # fmt: skip
    add("--activation", choices=activations, default="relu", help="of the hidden layers (relu)")
    add("--seed", type=seed, default=0, metavar="N", help="of every random choice (0)")
    add_threads(parser)
