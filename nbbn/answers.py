"""What a network's outputs answer: which class, which labels, which numbers."""

from __future__ import annotations

import numpy as np


def chosen(outputs: np.ndarray, kind: str | None) -> np.ndarray:
    """What the outputs `(n, units)` of a network of some kind answer.

    Parameters
    ----------
    outputs : ndarray of shape (n, units)
    kind : {None, "classifier", "multilabel", "regressor"}

    Returns
    -------
    ndarray
        Of a classifier the index of each row's class, int64 `(n,)`: the first of the largest
        outputs, or of one output whether it is above 0.5. Of a multilabel network 1 for the outputs
        above 0.5, int64 `(n, units)`. Else the outputs; of a regressor with one `(n,)`.
    """
    if kind == "multilabel":
        return (outputs > 0.5).astype(np.int64)
    if kind == "classifier" and outputs.shape[1] > 1:
        return outputs.argmax(1)
    if kind == "classifier":
        return (outputs[:, 0] > 0.5).astype(np.int64)
    return outputs[:, 0] if kind == "regressor" and outputs.shape[1] == 1 else outputs


def probabilities(outputs: np.ndarray) -> np.ndarray:
    """Probabilities `(n, classes)` of a classifier; of one output those of both classes."""
    return outputs if outputs.shape[1] > 1 else np.hstack([1 - outputs, outputs])
