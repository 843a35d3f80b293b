"""What a claim is and what its study gets and gives."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbbn.evidence.measures import Measure, Verdict
from nbbn.evidence.panel import Panel

SIZES = ("tiny", "quick", "full")


@dataclass(frozen=True)
class Claim:
    """A claim about batch norm.

    Attributes
    ----------
    name : str
        What `show` calls it.
    sentence : str
        What is claimed.
    source : str
        By whom, and where.
    paper : str
        What was found there.
    minutes : int
        What the whole study takes on two cores, about.

    Examples
    --------
    >>> from nbbn import evidence
    >>> claim = evidence.claims()[0]
    >>> claim.name, claim.minutes >= 1
    ('faster-training', True)
    """

    name: str
    sentence: str
    source: str
    paper: str
    minutes: int


@dataclass(frozen=True)
class Study:
    """How a claim is looked at."""

    runs: int
    seed: int
    size: str  # of SIZES
    note: Callable[[str], None] = lambda text: None

    def each_run(self) -> Iterator[tuple[int, int]]:
        """The number of each run and a seed of its own."""
        seeds = np.random.SeedSequence(self.seed).generate_state(self.runs)
        for run, seed in enumerate(seeds):
            self.note(f"run {run + 1} of {self.runs}")
            yield run, int(seed)


@dataclass(frozen=True)
class Findings:
    """What a study gives."""

    data: str
    measures: list[Measure]
    verdicts: list[Verdict]
    panels: list[Panel]
    settings: dict[str, Any] = field(default_factory=dict)
