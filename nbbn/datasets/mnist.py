"""MNIST: 70,000 handwritten digits of 28 x 28 pixels (LeCun, Bottou, Bengio and Haffner, 1998)."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np

from nbbn.formats.files import FileError, read_npz

__all__ = ["load_data"]

FILE = "mnist.npz"
_TRAIN_ROWS = 60_000
ARRAYS = ("x_train", "y_train", "x_test", "y_test")
Split = tuple[np.ndarray, np.ndarray]


def load_data(path: str | os.PathLike[str] | None = None) -> tuple[Split, Split]:
    """The images and labels.

    Parameters
    ----------
    path : path-like, optional
        A file in the layout of Keras's `mnist.npz`, or a folder with one. By default the
        environment variable NBBN_DATA (a file or a folder) is asked, then Keras's own cache folder
        (`~/.keras/datasets`), then OpenML through scikit-learn, which keeps what it has fetched.

    Returns
    -------
    (x_train, y_train), (x_test, y_test) : tuples of ndarray of uint8
        60,000 and 10,000 images `(n, 28, 28)` and labels `(n,)`.

    Raises
    ------
    FileError
        For a file that is not there or not of that layout, and where OpenML cannot be reached.

    Examples
    --------
    >>> import nbbn
    >>> (x_train, y_train), (x_test, y_test) = nbbn.datasets.mnist.load_data()  # doctest: +SKIP
    >>> x_train.shape, y_train.dtype                                            # doctest: +SKIP
    ((60000, 28, 28), dtype('uint8'))
    """
    if path is not None:
        return _read(_file(Path(path).expanduser()))
    if told := os.environ.get("NBBN_DATA"):
        return _read(_file(Path(told).expanduser()))
    cached = Path("~/.keras/datasets").expanduser() / FILE
    return _read(cached) if cached.is_file() else _fetch(cached)


def _file(path: Path) -> Path:
    file = path / FILE if path.is_dir() else path
    if not file.is_file():
        raise FileError(f"{file}: does not exist; give the path of an {FILE} in Keras's layout, "
                        "or of a folder with one")
    return file


def _read(path: Path) -> tuple[Split, Split]:
    arrays = read_npz(path)
    if not set(ARRAYS) <= set(arrays):
        raise FileError(f"{path}: lacks one of the arrays {', '.join(ARRAYS)}; "
                        f"give an {FILE} in Keras's layout")
    x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
    for x, y in ((x_train, y_train), (x_test, y_test)):
        if (
            x.shape[1:] != (28, 28)
            or x.dtype != np.uint8
            or y.shape != x.shape[:1]
            or y.dtype.kind not in "iu"
        ):
            raise FileError(f"{path}: holds {x.dtype} of shape {x.shape}, "
                            f"labels of shape {y.shape}; not MNIST in Keras's layout")
    return (x_train, y_train.astype(np.uint8)), (x_test, y_test.astype(np.uint8))


def _fetch(cached: Path) -> tuple[Split, Split]:
    """From OpenML."""
    from sklearn.datasets import fetch_openml

    # The quick reader needs pandas.
    parser = "pandas" if importlib.util.find_spec("pandas") else "liac-arff"
    try:
        data = fetch_openml("mnist_784", version=1, as_frame=False, parser=parser)
    except Exception as err:  # a network fails in many ways
        raise FileError(f"MNIST is neither at {cached} nor could it be fetched from OpenML "
                        f"({err}); copy an {FILE} in Keras's layout to this machine, and give its "
                        "path to load_data(path) or in the environment variable NBBN_DATA"
                        ) from None
    x, y = data.data.astype(np.uint8).reshape(-1, 28, 28), data.target.astype(np.uint8)
    if len(x) <= _TRAIN_ROWS:
        raise FileError(f"OpenML gave {len(x)} images, not MNIST's 70,000; try again later, "
                        "or give load_data(path) a file")
    return (x[:_TRAIN_ROWS], y[:_TRAIN_ROWS]), (x[_TRAIN_ROWS:], y[_TRAIN_ROWS:])


def __dir__() -> list[str]:
    return __all__
