"""CIFAR-10: 60,000 coloured images of 32 x 32 pixels, of 10 kinds of things (Krizhevsky, 2009)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from nbbn.datasets.files import Split, checked, folder_of, in_words, read_pickled

__all__ = ["load_data"]

NAME = "cifar-10-batches-py"
_HINT = ("copy the unpacked folder of cifar-10-python.tar.gz (https://www.cs.toronto.edu/~kriz/"
         "cifar.html) to this machine, and give its path to load_data(path)")


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """The images and labels.

    Parameters
    ----------
    path : path-like, optional
        The folder of the set's six batches. By default a folder `cifar-10-batches-py` beside or in
        what the environment variable NBBN_DATA names is looked for, then Keras's own
        (`~/.keras/datasets`). The batches are pickled arrays; nothing else in them is unpickled.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : tuples of ndarray of uint8
        50,000 and 10,000 images `(n, 32, 32, 3)` and labels `(n, 1)`.

    Raises
    ------
    FileError
        For files that are not there or not of that kind.

    Examples
    --------
    >>> import nbbn
    >>> train, test = nbbn.datasets.cifar10.load_data()  # doctest: +SKIP
    >>> train[0].shape, train[1].shape                   # doctest: +SKIP
    ((50000, 32, 32, 3), (50000, 1))
    """
    if path is None:  # Keras 3 unpacks it one folder deeper
        deeper = Path("~/.keras/datasets").expanduser() / f"{NAME}-target" / NAME
        path = deeper if deeper.is_dir() else None
    folder = folder_of(NAME, path, _HINT)
    names = [f"data_batch_{k}" for k in range(1, 6)], ["test_batch"]

    def read() -> tuple[Split, Split]:
        train, test = (_split([folder / name for name in part]) for part in names)
        return train, test

    return checked(folder, in_words(read, folder), (32, 32, 3))


def _split(paths: list[Path]) -> Split:
    found = [read_pickled(path) for path in paths]
    x = np.concatenate([batch[b"data"] for batch in found]).reshape(-1, 3, 32, 32)
    y = np.concatenate([np.asarray(batch[b"labels"], np.uint8) for batch in found])
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)), y[:, None]


def __dir__() -> list[str]:
    return __all__
