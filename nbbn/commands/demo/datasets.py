"""The images that the demonstration trains on: scikit-learn's digits, or MNIST from a file."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from nbbn.commands.errors import UnusableInput
from nbbn.datasets.mnist import ARRAYS
from nbbn.formats.files import read_npz


class Images(NamedTuple):
    """A data set, ready to train on: grey values `(rows, pixels)` in [0, 1], float32; labels."""

    name: str
    x_train: np.ndarray
    y_train: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def digits(seed: int) -> Images:
    """scikit-learn's bundled 8 x 8 digits, a fifth of them to test on."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    x, y = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    x_train, x_test, y_train, y_test = train_test_split(
        x, y, test_size=0.2, stratify=y, random_state=seed
    )
    return Images("digits", x_train, y_train, x_test, y_test)


def mnist(path: Path) -> Images:
    """Images of grey values 0 to 255 from a file in the layout of Keras's `mnist.npz`."""
    arrays = read_npz(path)
    if missing := [name for name in ARRAYS if name not in arrays]:
        raise UnusableInput(f"{path} lacks {', '.join(missing)}; it must hold {', '.join(ARRAYS)}, "
                            "as Keras's mnist.npz does")
    _check(path, arrays)
    x_train, y_train, x_test, y_test = (arrays[name] for name in ARRAYS)
    y_train, y_test = y_train.astype(np.int64), y_test.astype(np.int64)
    return Images(path.stem, _pixels(x_train), y_train, _pixels(x_test), y_test)


def _pixels(x: np.ndarray) -> np.ndarray:
    return (x.reshape(len(x), -1) / np.float32(255)).astype(np.float32)


def _check(path: Path, arrays: dict[str, np.ndarray]) -> None:
    for part in ("train", "test"):
        x, y = arrays[f"x_{part}"], arrays[f"y_{part}"]
        if x.ndim not in (2, 3) or x.dtype.kind not in "uif" or 0 in x.shape:
            raise UnusableInput(f"{path}: x_{part} must hold images (rows, height, "
                                f"width) of numbers, got {x.dtype} {x.shape}")
        if y.shape != (len(x),) or y.dtype.kind not in "ui":
            raise UnusableInput(f"{path}: y_{part} must hold {len(x)} whole numbers, one an image, "
                                f"got {y.dtype} {y.shape}")
        if not np.isfinite(x).all() or x.min() < 0 or x.max() > 255:
            raise UnusableInput(f"{path}: x_{part} must hold grey values from 0 to 255")
    if arrays["x_train"].shape[1:] != arrays["x_test"].shape[1:]:
        shapes = f"{arrays['x_train'].shape[1:]} and {arrays['x_test'].shape[1:]}"
        raise UnusableInput(f"{path}: images to train and to test on must have one shape, "
                            f"got {shapes}")
    if len(np.unique(arrays["y_train"])) < 2:
        raise UnusableInput(f"{path}: y_train holds a single class; nothing can be learned from it")
    unknown = np.setdiff1d(arrays["y_test"], arrays["y_train"])
    if len(unknown):
        raise UnusableInput(f"{path}: y_test holds class {unknown[0]}, which y_train does not")
