"""Standardised columns within a network: its first kernel takes the columns as they are."""

from __future__ import annotations

from typing import Any

import numpy as np

from nbbn.layers import BatchNormalization
from nbbn.tables.description import Description

# From this ratio of mean to deviation on, float32 keeps less than three digits of the deviation.
_FAR = 1e4


def standardised(x: np.ndarray, description: Description) -> np.ndarray:
    """`x` less the mean, by the deviation; the mean where there is NaN."""
    found = (x - description.mean) / description.scale
    found[np.isnan(found)] = 0.0
    return found.astype(np.float32 if x.dtype == np.float32 else np.float64, copy=False)


def absorb(model: Any, description: Description) -> None:
    """Make a fitted MLP of standardised columns one of the columns as they are, in place.

    `(x - mean) / scale @ W + b` is `x @ (W / scale) + b - mean / scale @ W`; a layer before a batch
    norm has no bias: there the running mean takes the difference.
    """
    kernel = model.coefs_[0].astype(np.float64)
    own = kernel / description.scale[:, None]
    moved = (description.mean / description.scale) @ kernel
    _replace(model.coefs_, own)
    first, second, *_ = model.network().layers
    if first.use_bias:
        _replace(model.intercepts_, model.intercepts_[0] - moved)
    elif isinstance(second, BatchNormalization):
        _replace(model.running_means_, model.running_means_[0] + moved)
    else:
        raise ValueError("a first layer without bias can be standardised before a batch norm alone")


def absorb_targets(model: Any, mean: np.ndarray, scale: np.ndarray) -> None:
    """Make a fitted MLP of standardised targets one of the targets as they are, in place."""
    _replace(model.coefs_, model.coefs_[-1].astype(np.float64) * scale, -1)
    _replace(model.intercepts_, model.intercepts_[-1] * scale + mean, -1)


def _replace(arrays: list[np.ndarray], own: np.ndarray, at: int = 0) -> None:
    """A new array in place of one: predictions are compiled for the arrays that they meet."""
    arrays[at] = own.astype(arrays[at].dtype)


def far_from_zero(description: Description) -> list[str]:
    """Columns whose deviation float32 cannot tell from their mean."""
    far = np.abs(description.mean) > _FAR * description.scale
    names = description.encoded_names()
    return [names[i] for i in np.flatnonzero(far & (description.scale != 1.0))]
