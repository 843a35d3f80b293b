"""Data sets: where MNIST is looked for, and what is said where it is not."""

from __future__ import annotations

import numpy as np
import pytest
import sklearn.datasets

import nbbn
from nbbn.datasets import mnist as dataset


@pytest.fixture
def arrays(rng):
    """A small set in the file's layout."""
    return {
        "x_train": rng.integers(0, 256, (7, 28, 28)).astype(np.uint8),
        "y_train": rng.integers(0, 10, 7).astype(np.uint8),
        "x_test": rng.integers(0, 256, (3, 28, 28)).astype(np.uint8),
        "y_test": rng.integers(0, 10, 3).astype(np.uint8),
    }


@pytest.fixture(autouse=True)
def nowhere(monkeypatch, tmp_path):
    """No file anywhere, and no network."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("NBBN_DATA", raising=False)

    def fetch(*args, **how):
        raise OSError("no network")

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)


def save(folder, arrays, name="mnist.npz"):
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / name, **arrays)
    return folder / name


def check(data, arrays):
    (x_train, y_train), (x_test, y_test) = data
    for got, name in (
        (x_train, "x_train"), (y_train, "y_train"), (x_test, "x_test"), (y_test, "y_test"),
    ):
        np.testing.assert_array_equal(got, arrays[name])
        assert got.dtype == np.uint8


def test_a_file_or_a_folder(arrays, tmp_path):
    path = save(tmp_path / "data", arrays)
    check(nbbn.datasets.mnist.load_data(path), arrays)
    check(dataset.load_data(str(path.parent)), arrays)


def test_the_environment_before_the_cache(arrays, tmp_path, monkeypatch):
    others = {name: array.copy() for name, array in arrays.items()}
    others["y_test"] = (others["y_test"] + 1) % 10
    save(tmp_path / "home" / ".keras" / "datasets", others)
    check(dataset.load_data(), others)
    path = save(tmp_path / "data", arrays)
    for told in (path, path.parent):
        monkeypatch.setenv("NBBN_DATA", str(told))
        check(dataset.load_data(), arrays)


def test_openml(monkeypatch, rng):
    x, y = rng.integers(0, 256, (60_003, 784)).astype(np.float32), rng.integers(0, 10, 60_003)

    def fetch(name, *, version, as_frame, parser):
        assert (name, version, as_frame) == ("mnist_784", 1, False)
        return sklearn.utils.Bunch(data=x, target=y.astype(str))

    monkeypatch.setattr(sklearn.datasets, "fetch_openml", fetch)
    images = x.astype(np.uint8).reshape(-1, 28, 28)
    at = 60_000
    check(
        dataset.load_data(),
        {"x_train": images[:at], "y_train": y[:at], "x_test": images[at:], "y_test": y[at:]},
    )
    x, y = x[:100], y[:100]
    with pytest.raises(nbbn.FileError, match=r"OpenML gave 100 images, not MNIST's 70,000"):
        dataset.load_data()


def test_offline():
    says = (
        r"neither at .*mnist\.npz nor could it be fetched from OpenML \(no network\); copy an mnist\.npz in Keras's layout .*"
        r"load_data\(path\) or in the environment variable NBBN_DATA"
    )
    with pytest.raises(nbbn.FileError, match=says) as caught:
        dataset.load_data()
    # One traceback, not those of four retries before it.
    assert caught.value.__cause__ is None and caught.value.__suppress_context__


def test_a_file_that_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(
        nbbn.FileError,
        match=r"mnist\.npz: does not exist; give the path of an mnist\.npz in Keras's layout",
    ):
        dataset.load_data(tmp_path)
    monkeypatch.setenv("NBBN_DATA", str(tmp_path / "typo.npz"))
    with pytest.raises(nbbn.FileError, match=r"typo\.npz: does not exist"):
        dataset.load_data()


def test_other_files(arrays, tmp_path):
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 cut short")
    with pytest.raises(nbbn.FileError, match=r"broken\.npz: cannot be read"):
        dataset.load_data(broken)
    with pytest.raises(nbbn.FileError, match=r"lacks one of the arrays x_train, y_train"):
        dataset.load_data(save(tmp_path, {"x_train": arrays["x_train"]}, "part.npz"))
    arrays["x_test"] = arrays["x_test"].astype(np.float32)
    with pytest.raises(
        nbbn.FileError,
        match=r"holds float32 of shape \(3, 28, 28\), labels of shape \(3,\); not MNIST",
    ):
        dataset.load_data(save(tmp_path, arrays, "floats.npz"))


def test_the_real_one(mnist):
    assert mnist["x_train"].shape == (60_000, 28, 28) and mnist["x_test"].shape == (10_000, 28, 28)
