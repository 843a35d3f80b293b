"""A layer as a function of arrays: the program of one layer, made once.

Each call brings its own weights.
"""

from __future__ import annotations

import copy
import functools
import math
from typing import Any, TypeVar

import numpy as np

from nbbn.layers import Activation, Layer, LayerError
from nbbn.network import computation
from nbbn.program.inference import InferenceProgram
from nbbn.program.parameters import Parameters
from nbbn.program.runnable import InferenceRun

ALayer = TypeVar("ALayer", bound=Layer)
# Programs that are kept, one for each layer, row shape and dtype; they hold no weights and no rows.
_KEPT = 256


def layer_of(kind: type[ALayer], **arguments: object) -> ALayer:
    """A layer with these arguments, made once; LayerError for one that breaks its rule."""
    cls: Any = kind
    rules = cls._rules
    # What the rules leave is hashable, and of one type each: 1.0 never stands for 1.
    applied = {name: rules[name].apply(name, value, None) for name, value in arguments.items()}
    return _layer(cls, **applied)


@functools.lru_cache(maxsize=_KEPT)
def _layer(kind: Any, **arguments: Any) -> Any:
    return kind(**arguments)


def output_shape(layer: Layer, x: np.ndarray) -> tuple[int, ...]:
    """Shape of `layer(x)`, rows in front; ValueError where the layer cannot take such rows."""
    try:
        return len(x), *layer.output_shape(x.shape[1:])
    except LayerError as err:
        raise ValueError(f"x of shape {x.shape} does not fit: {err}") from None


def activation_of(activation: str | None) -> Activation:
    """The layer of an activation's name; TypeError for none, LayerError for an unknown one."""
    if activation is not None and not isinstance(activation, str):
        raise TypeError("activation must be None or a name (nbbn.layers.ACTIVATIONS), "
                        f"got {activation!r}")
    return layer_of(Activation, activation=activation)


@functools.lru_cache(maxsize=_KEPT)
def _lowered(layers: tuple[Layer, ...], row: tuple[int, ...],
             dtype: np.dtype) -> tuple[Parameters, InferenceRun]:
    lowered = InferenceProgram(computation(layers, row).inference, dtype)
    # Each call brings its own parameters.
    return lowered.parameters, InferenceRun(lowered, np.empty(0, np.uint8))


def run(layer: Layer, activation: Activation, x: np.ndarray, row: tuple[int, ...],
        weights: dict[str, np.ndarray], out: np.ndarray) -> None:
    """Write `activation(layer(x))` to `out`, C-contiguous and of x's dtype; may overlap with `x`.

    `layer` and `activation` come from `layer_of` and `activation_of`. `x`, of any layout, is read
    as `(-1, *row)`, and copied unless it is C-contiguous, aligned and writeable. `weights` are in
    the user's layout, by name; what is left out is 1 for gamma and 0 for all else.
    """
    if activation.activation == "softmax" and len(row) > 1:  # whose kernel takes rows of one axis
        run(layer, activation_of(None), x, row, weights, out)
        run_activation(activation, out)
        return
    layers = (layer,) if activation.activation == "linear" else (layer, activation)
    parameters, ready = _lowered(layers, row, x.dtype)
    memory = parameters.memory()
    parameters.upload(memory, [weights])
    own = copy.copy(ready)
    own.params = memory
    # Rows of another kind would make Numba compile anew.
    rows = np.require(x.reshape(-1, math.prod(row)), None, ["C", "A", "W"])
    answers = np.asarray(out).reshape(len(rows), -1)
    # A block of rows is written after all of it was read: in place is safe, other overlaps are not.
    in_place = rows.ctypes.data == answers.ctypes.data and rows.shape == answers.shape
    if not in_place and np.may_share_memory(rows, answers):
        rows = rows.copy()
    own._fill(rows, answers)


def run_activation(activation: Activation, y: np.ndarray) -> None:
    """`y = activation(y)`, in place; `y` is C-contiguous, and a softmax goes over its last axis."""
    if activation.activation != "linear":
        run(activation, activation_of(None), y, y.shape[-1:], {}, y)
