"""Small helpers that programs written for Keras use."""

from __future__ import annotations

import random
import re
from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from nbbn import names_of_keras
from nbbn.drawing import plot_model

__all__ = ["PyDataset", "Sequence", "clear_session", "normalize", "plot_model", "set_random_seed",
           "to_categorical"]

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


def clear_session(free_memory: bool = True) -> None:
    """Nothing: models that no name holds are gone.

    Parameters
    ----------
    free_memory
        Keras's; without effect.

    Examples
    --------
    >>> import nbbn
    >>> nbbn.utils.clear_session()
    """


class PyDataset:
    """Data by batches, for `fit`, `evaluate` and `predict`; a subclass says what they are.

    A subclass has `__len__`, the number of batches, and `__getitem__(k)`, batch k: `(x, y)` or
    `(x, y, sample_weight)`. `on_epoch_end`, where there is one, is called after each epoch. Objects
    that have these methods need not derive from this class.

    Parameters
    ----------
    workers, use_multiprocessing, max_queue_size
        Keras's; without effect: one thread asks for batches while the network trains.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> class Squares(nbbn.utils.PyDataset):
    ...     def __len__(self):
    ...         return 3
    ...     def __getitem__(self, k):
    ...         x = np.arange(4.0)[:, None] + k
    ...         return x, x**2
    ...
    >>> model = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(1,))])
    >>> model.compile("sgd", "mse")
    >>> model.fit(Squares(), epochs=2, verbose=0).epoch
    [0, 1]
    """

    def __init__(self, workers: int = 1, use_multiprocessing: bool = False,
                 max_queue_size: int = 10):
        self.workers, self.use_multiprocessing = workers, use_multiprocessing
        self.max_queue_size = max_queue_size

    def __getitem__(self, index: int) -> Any:
        raise NotImplementedError(f"{type(self).__name__} needs a method __getitem__(index): the "
                                  "batch of this number")

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} needs a method __len__(): the number of "
                                  "batches")

    def on_epoch_end(self) -> None:
        """After an epoch; to shuffle rows, say."""


Sequence = PyDataset


def normalize(x: ArrayLike, axis: int = -1, order: int = 2) -> np.ndarray:
    """Rows divided by their length; those of zeros stay.

    Parameters
    ----------
    x : array-like
    axis : int
        Along which numbers are one row.
    order : int
        Of the norm: 2 is Euclid's.

    Examples
    --------
    >>> from nbbn.utils import normalize
    >>> normalize([[3.0, 4.0]])
    array([[0.6, 0.8]])
    """
    x = np.asarray(x)
    lengths = np.atleast_1d(np.linalg.norm(x, order, axis))
    lengths[lengths == 0] = 1
    return x / np.expand_dims(lengths, axis)


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


def __getattr__(name: str) -> Any:
    """Keras's other names of what is here; what to use in place of the rest."""
    return names_of_keras.attribute(__name__, name)


def __dir__() -> list[str]:
    return __all__
