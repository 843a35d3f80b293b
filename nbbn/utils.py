"""Small helpers that programs written for Keras use."""

from __future__ import annotations

import random
import re
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

__all__ = ["set_random_seed", "to_categorical"]

_seeds = np.random.SeedSequence()


def set_random_seed(seed: int) -> None:
    """Make everything random that follows repeatable.

    That is models made from now on, `random` and `numpy.random`.

    Parameters
    ----------
    seed : int
        At least 0. Each model takes a seed of its own from it when it is made: for its initial
        weights, its shuffles, its dropout and its noise. Without this call the system's entropy
        decides.

    Raises
    ------
    ValueError
        For anything but a whole number of at least 0.

    Examples
    --------
    >>> import nbbn
    >>> nbbn.set_random_seed(0)
    >>> model = nbbn.Sequential([nbbn.layers.Dense(2, input_shape=(2,))])
    >>> first = model.get_weights()[0]
    >>> nbbn.set_random_seed(0)
    >>> again = nbbn.Sequential([nbbn.layers.Dense(2, input_shape=(2,))]).get_weights()[0]
    >>> bool((first == again).all())
    True
    """
    global _seeds
    if isinstance(seed, bool) or not isinstance(seed, Integral) or not 0 <= seed < 2**32:
        raise ValueError(f"seed must be a whole number from 0 to 2**32 - 1, got {seed!r}")
    _seeds = np.random.SeedSequence(int(seed))
    random.seed(int(seed))
    np.random.seed(int(seed))  # noqa: NPY002  Keras does so, and programs draw their data from it


def keras_name(class_name: str) -> str:
    """What Keras calls a layer of a class that has no name: `batch_normalization`, `conv2d`."""
    words = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", class_name)
    return re.sub("([a-z])([A-Z])", r"\1_\2", words).lower()


def new_seed() -> int:
    """The next model's seed, below 2**32."""
    return int(_seeds.spawn(1)[0].generate_state(1)[0])


def to_categorical(x: ArrayLike, num_classes: int | None = None) -> np.ndarray:
    """Class indices as one-hot rows.

    Parameters
    ----------
    x : array-like of int
        Of any shape; a last axis of length 1 is dropped.
    num_classes : int, optional
        Length of a row; None: the largest index and one.

    Returns
    -------
    ndarray of float64, shape (*x.shape, num_classes)

    Raises
    ------
    TypeError
        For indices that are not whole numbers.
    ValueError
        For an index below 0 or beyond `num_classes`.

    Examples
    --------
    >>> from nbbn.utils import to_categorical
    >>> to_categorical([0, 2], num_classes=3)
    array([[1., 0., 0.],
           [0., 0., 1.]])
    """
    x = np.asarray(x)
    if x.dtype.kind not in "iub":
        if x.dtype.kind != "f" or (x != np.floor(x)).any():
            raise TypeError(f"x must hold class indices, whole numbers, got dtype {x.dtype}")
    x = x.astype(np.int64)
    if x.ndim > 1 and x.shape[-1] == 1:
        x = x.reshape(x.shape[:-1])
    classes = int(x.max(initial=-1)) + 1 if num_classes is None else num_classes
    if x.size and not 0 <= x.min() <= x.max() < classes:
        raise ValueError(f"x must hold indices from 0 to num_classes - 1 = {classes - 1}, "
                         f"got {x.min()} to {x.max()}")
    rows = np.zeros((x.size, classes))
    rows[np.arange(x.size), x.ravel()] = 1
    return rows.reshape(*x.shape, classes)


def __dir__() -> list[str]:
    return __all__
