"""Warnings that point at the user's line, however deep in the package they come up."""

from __future__ import annotations

import sys
import warnings

__all__ = ["ShortFitWarning"]

# Modules between a user's call and ours: pipelines, searches, and what wraps `fit`.
_BETWEEN = ("nbbn.", "sklearn.", "joblib.")


def warn(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn whoever called the package."""
    frame, level = sys._getframe(1), 3  # the level of its caller
    while frame.f_back and frame.f_back.f_globals.get("__name__", "").startswith(_BETWEEN):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


class ShortFitWarning(UserWarning):
    """A fit has ended before the running statistics of its batch norms have left their start.

    Examples
    --------
    >>> import warnings
    >>> import nbbn
    >>> warnings.filterwarnings("ignore", category=nbbn.warning.ShortFitWarning)
    """


def __dir__() -> list[str]:
    return __all__
