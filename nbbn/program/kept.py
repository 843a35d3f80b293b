"""Programs that are lowered once: networks, losses and optimisers that read the same share them.

A program holds no weights and no rows, and nobody changes it once it is made. Repeated fits of a
small network, as in cross-validation, took most of their time to lower it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nbbn.operations import Computation
from nbbn.optimizers import Optimizer
from nbbn.program.inference import InferenceProgram
from nbbn.program.training import Loss, TrainingProgram, lower_training

# Programs that are kept; those asked for least lately go first.
_KEPT = 64


@dataclass(unsafe_hash=True)
class _Wanted:
    """A program as text. The text tells 1 from 1.0 and 0.0 from -0.0, which are equal."""

    text: str
    make: Callable[[], Any] | None = field(compare=False)


@functools.lru_cache(maxsize=_KEPT)
def _made(wanted: _Wanted) -> Any:
    make, wanted.make = wanted.make, None  # it may hold a user's function of the learning rate
    assert make is not None
    return make()


def training_program(computation: Computation, dtype: np.dtype, rows: int, loss: Loss,
                     optimizer: Optimizer, **settings: Any) -> TrainingProgram:
    """`lower_training` of these arguments, not to be changed."""
    if settings.get("world") is None:
        settings.pop("world", None)
    clips = optimizer.clipnorm, optimizer.clipvalue, optimizer.global_clipnorm
    rule = (optimizer.kernel, optimizer.slots, optimizer.constants(), clips,
            bool(optimizer.weight_decay))
    wanted = f"training {(computation, dtype.name, rows, loss, rule, settings)}"
    return _made(_Wanted(wanted, lambda: lower_training(computation, dtype, rows, loss, optimizer,
                                                        **settings)))


def inference_program(computation: Computation, dtype: np.dtype, *,
                      sparse: bool = False) -> InferenceProgram:
    """`InferenceProgram` of these arguments, not to be changed."""
    wanted = f"inference {(computation, dtype.name, sparse)}"
    return _made(_Wanted(wanted, lambda: InferenceProgram(computation, dtype, sparse=sparse)))
