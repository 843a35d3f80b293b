"""Every claim of batch norm, tried: a study of each, with seeds, intervals and a picture.

`claims()` lists them, `show(name)` runs one. Of several runs each figure is a mean with its
interval at 95 %, and a claim holds here where the intervals are apart.
"""

import importlib
import platform
import time
from collections.abc import Callable
from numbers import Integral
from types import ModuleType

import numpy as np

from nbbn.evidence.intervals import Interval, interval
from nbbn.evidence.measures import Measure, Verdict
from nbbn.evidence.panel import Panel
from nbbn.evidence.result import Result
from nbbn.evidence.study import Claim, Study
from nbbn.names import find
from nbbn.runtime import num_threads
from nbbn.version import __version__

__all__ = ["Claim", "Interval", "Measure", "Panel", "Result", "Verdict", "claims", "interval",
           "show"]

# Each claim's module: a CLAIM, and find(study).
_MODULES = {
    "faster-training": "nbbn.evidence.faster_training",
    "higher-rates": "nbbn.evidence.higher_rates",
    "initial-weights": "nbbn.evidence.initial_weights",
    "regularisation": "nbbn.evidence.regularisation",
    "smoother-loss": "nbbn.evidence.smoother_loss",
    "covariate-shift": "nbbn.evidence.covariate_shift",
    "gradient-explosion": "nbbn.evidence.gradient_explosion",
    "small-batches": "nbbn.evidence.small_batches",
    "exact-statistics": "nbbn.evidence.exact_statistics",
    "before-or-after": "nbbn.evidence.before_or_after",
    "frozen-transfer": "nbbn.evidence.frozen_transfer",
    "folding": "nbbn.evidence.folding",
}


def claims() -> list[Claim]:
    """The claims there are, in order.

    Returns
    -------
    list of Claim
        Each with its name, its sentence, its source and the minutes that its study takes.

    Examples
    --------
    >>> from nbbn import evidence
    >>> evidence.claims()[0].name
    'faster-training'
    """
    return [importlib.import_module(module).CLAIM for module in _MODULES.values()]


def show(claim: str, runs: int = 5, quick: bool = False, seed: int = 0,
         note: Callable[[str], None] | None = None) -> Result:
    """Study a claim.

    Parameters
    ----------
    claim : str
        A name of `claims()`.
    runs : int
        How often, each with initial weights and an order of the rows of its own; 2 or more.
    quick : bool
        A short study of about 10 s instead of the minutes that the claim tells.
    seed : int
        All random numbers follow from it: the same figures again, times apart.
    note : callable, optional
        Told in words how far it is.

    Returns
    -------
    Result
        Prints as a table with verdicts in words; `figure()` is its picture.

    Raises
    ------
    ValueError
        For a name that is none, and numbers out of range.

    Notes
    -----
    MNIST is used where its file is found (the environment variable NBBN_DATA, or Keras's cache
    folder), else scikit-learn's digits; the result says which.

    Examples
    --------
    >>> from nbbn import evidence
    >>> result = evidence.show("gradient-explosion", runs=2, quick=True)
    >>> print(result.verdicts[0].outcome)
    holds here
    """
    return study(claim, runs, "quick" if quick else "full", seed, note)


def study(claim: str, runs: int, size: str, seed: int,
          note: Callable[[str], None] | None = None) -> Result:
    """A study of a claim in a size of `nbbn.evidence.study.SIZES`."""
    module: ModuleType = importlib.import_module(find("claim", claim, _MODULES, {}))
    for name, value, least in (("runs", runs, 2), ("seed", seed, 0)):
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    plan = Study(int(runs), int(seed), size) if note is None else Study(runs, seed, size, note)
    began, told = time.perf_counter(), module.CLAIM
    with num_threads(1):  # the networks are small, and other work may share the cores
        found = module.find(plan)
    seconds = round(time.perf_counter() - began, 1)
    versions = {"nbbn": __version__, "numpy": np.__version__, "python": platform.python_version()}
    return Result(claim, told.sentence, told.source, told.paper, found.data, found.settings,
                  found.measures, found.verdicts, found.panels, int(runs), int(seed),
                  size != "full", seconds, versions)


def __dir__() -> list[str]:
    return __all__
