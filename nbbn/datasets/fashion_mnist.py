"""Fashion-MNIST: 70,000 images of clothes of 28 x 28 pixels (Xiao, Rasul and Vollgraf, 2017)."""

from __future__ import annotations

import importlib.util
import os

import numpy as np

from nbbn.datasets.files import Split, checked, folder_of, read_idx
from nbbn.formats.files import FileError

__all__ = ["load_data"]

NAME = "fashion-mnist"
_TRAIN_ROWS = 60_000
_HINT = ("copy Keras's four files, such as train-images-idx3-ubyte.gz, to this machine, and give "
         "their folder to load_data(path)")


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """The images and labels.

    Parameters
    ----------
    path : path-like, optional
        A folder with the set's four gzipped files. By default a folder `fashion-mnist` beside or in
        what the environment variable NBBN_DATA names is looked for, then Keras's own
        (`~/.keras/datasets/fashion-mnist`), then OpenML is asked through scikit-learn.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : tuples of ndarray of uint8
        60,000 and 10,000 images `(n, 28, 28)` and labels `(n,)`.

    Raises
    ------
    FileError
        For files that are not there or not of that kind, and where OpenML cannot be reached.

    Examples
    --------
    >>> import nbbn
    >>> train, test = nbbn.datasets.fashion_mnist.load_data()  # doctest: +SKIP
    >>> train[0].shape                                         # doctest: +SKIP
    (60000, 28, 28)
    """
    try:
        folder = folder_of(NAME, path, _HINT)
    except FileError as error:
        if path is not None:
            raise
        return _fetched(str(error))
    images = [read_idx(folder / f"{part}-images-idx3-ubyte.gz") for part in ("train", "t10k")]
    labels = [read_idx(folder / f"{part}-labels-idx1-ubyte.gz") for part in ("train", "t10k")]
    return checked(folder, ((images[0], labels[0]), (images[1], labels[1])), (28, 28))


def _fetched(missing: str) -> tuple[Split, Split]:
    """From OpenML."""
    from sklearn.datasets import fetch_openml

    # The quick reader needs pandas.
    parser = "pandas" if importlib.util.find_spec("pandas") else "liac-arff"
    try:
        data = fetch_openml("Fashion-MNIST", version=1, as_frame=False, parser=parser)
    except Exception as error:  # a network fails in many ways
        raise FileError(f"{missing}. Nor could it be fetched from OpenML ({error})") from None
    x, y = data.data.astype(np.uint8).reshape(-1, 28, 28), data.target.astype(np.uint8)
    return (x[:_TRAIN_ROWS], y[:_TRAIN_ROWS]), (x[_TRAIN_ROWS:], y[_TRAIN_ROWS:])


def __dir__() -> list[str]:
    return __all__
