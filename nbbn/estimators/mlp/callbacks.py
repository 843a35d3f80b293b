"""Callbacks during a fit: functions of ours, and scikit-learn's protocol where it is there."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from nbbn.estimators.mlp.parameters import Parameters
from nbbn.group import Group

try:
    from sklearn.callback import (
        AutoPropagatedCallback,
        CallbackSupportMixin,
        FitCallback,
        with_callbacks,
    )
except ImportError:  # scikit-learn before 1.9
    AutoPropagatedCallback = FitCallback = None

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Stands for scikit-learn's, which this version does not have."""

    def with_callbacks(method: Callable[..., Any]) -> Callable[..., Any]:
        """Stands for scikit-learn's, which this version does not have."""
        return method


def split(callbacks: Any) -> tuple[list[Callable[..., Any]], list[Any]]:
    """Functions, and objects of scikit-learn's protocol, of `callbacks`; TypeError for others."""
    if callbacks is None:
        return [], []
    given = list(callbacks) if isinstance(callbacks, (list, tuple)) else [callbacks]
    functions, objects = [], []
    for callback in given:
        if isinstance(callback, type):
            name = callback.__name__
            raise TypeError(f"callbacks holds the class {name}; make an object of it: {name}(...)")
        if FitCallback is not None and isinstance(callback, FitCallback):
            objects.append(callback)
        elif callable(callback):
            functions.append(callback)
        else:
            raise TypeError("callbacks must be functions (estimator, "
                            f"logs) or scikit-learn's callbacks (from 1.9), got {callback!r}")
    return functions, objects


def register(estimator: Parameters, objects: list[Any]) -> None:
    """Add callbacks of the parameter to those of `set_callbacks`, for one fit.

    TypeError for one that propagates itself, in an estimator within another.
    """
    if not objects:
        return
    own = [callback for callback in objects if isinstance(callback, AutoPropagatedCallback)]
    if own and hasattr(estimator, "_parent_callback_ctx"):
        names = [type(callback).__name__ for callback in own]
        raise TypeError(f"The estimator ({type(estimator).__name__}) within another one can't have "
                        f"auto-propagated callbacks ({names}) among its callbacks. Register them "
                        "directly on the outer estimator, with set_callbacks.")
    held = getattr(estimator, "_skl_callbacks", [])
    estimator._skl_callbacks = [*held, *(c for c in objects if c not in held)]


class FitCallbacks:
    """The callbacks of one fit.

    `attributes` gives the estimator's attributes at this moment, for a copy of it, and `publish`
    makes them its own; `given` are `X`, `y` and `metadata`, as the user gave them. Those of the
    group's first process are called, and whether they want to stop is said to all.
    """

    def __init__(self, estimator: Any, functions: list[Callable[..., Any]],
                 publish: Callable[[], None], attributes: Callable[[], dict[str, Any]],
                 given: dict[str, Any], group: Group):
        self._estimator, self._functions, self._publish = estimator, functions, publish
        self._group = group
        self._told = {"estimator": estimator, **given}
        self._told_of_epoch = {"reconstruction_attributes": attributes, **self._told}
        self._context: Any = None
        self._of_epoch: Any = None

    def begin(self, most: int) -> None:
        """The fit begins; it has at most so many epochs."""
        self._group.at_first(partial(self._begin, most))

    def _begin(self, most: int) -> None:
        if hasattr(self._estimator, "_init_callback_context"):
            self._context = self._estimator._init_callback_context(max_subtasks=most)
            self._context.call_on_fit_task_begin(**self._told)

    def end(self) -> None:
        """The fit is over, the estimator's attributes are set."""
        self._group.at_first(self._end)

    def _end(self) -> None:
        if self._context is not None:
            self._context.call_on_fit_task_end(**self._told, reconstruction_attributes={})

    def epoch_begins(self) -> None:
        """An epoch begins."""
        self._group.at_first(self._epoch_begins)

    def _epoch_begins(self) -> None:
        if self._context is not None and getattr(self._estimator, "_skl_callbacks", None):
            self._of_epoch = self._context.subcontext(task_name="epoch")
            self._of_epoch.call_on_fit_task_begin(**self._told_of_epoch)

    def epoch_ends(self, logs: dict[str, Any]) -> bool:
        """An epoch is over; whether a callback wants to stop."""
        return self._group.at_first(partial(self._epoch_ends, logs))

    def _epoch_ends(self, logs: dict[str, Any]) -> bool:
        stop = False
        if self._of_epoch is not None:
            stop = self._of_epoch.call_on_fit_task_end(**self._told_of_epoch)
        if self._functions:
            self._publish()
        for function in self._functions:
            stop = function(self._estimator, dict(logs)) is True or stop
        return bool(stop)
