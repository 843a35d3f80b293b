"""The tables of formats: what a row brings, and that opening one format imports no other's."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nbbn
from nbbn import formats
from nbbn.formats.files import read_npz
from nbbn.interop import open_model

ROOT = Path(__file__).resolve().parents[1]
X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)


@pytest.fixture(scope="module")
def folded():
    layers = nbbn.layers
    model = nbbn.Sequential([nbbn.Input((4,)), layers.Dense(5), layers.BatchNormalization()])
    return model.fold()


def test_rows_name_functions_that_are_there():
    for row in formats.READERS:
        assert callable(row.read)
    for suffix, row in formats.WRITERS.items():
        assert suffix.startswith(".") and callable(row.write)
    assert formats.shown_names() == "nbbn's own, .keras, .h5 or .onnx"


def test_a_new_row_is_a_new_format(folded, tmp_path, monkeypatch):
    """Opened, written, and named in what a user reads."""
    kept = []
    reader = formats.Reader((".txt",), ".txt", lambda start, _: start[:4] == b"text", "here:read")
    monkeypatch.setattr(formats, "READERS", (*formats.READERS, reader))
    monkeypatch.setitem(formats.WRITERS, ".txt", formats.Writer("plain text", "here:write"))
    functions = {
        "here:read": lambda path: formats.of_layers(folded.network, "there"),
        "here:write": lambda network, path, *, kind, classes: kept.append((network, path)),
    }
    monkeypatch.setattr("pkgutil.resolve_name", functions.__getitem__)
    path = tmp_path / "a.txt"
    folded.write(path)
    assert kept == [(folded.network, path)]
    for content in (b"text", b""):  # what it begins with, or its name
        path.write_bytes(content)
        opened = open_model(path)
        assert isinstance(opened, nbbn.Sequential) and opened.name == "there"
        np.testing.assert_array_equal(opened.predict(X), folded.predict(X))
    assert formats.shown_names().endswith(".onnx or .txt")


def test_write_goes_by_the_name(folded, tmp_path):
    folded.write(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(
        nbbn.load(tmp_path / "m.safetensors").predict(X), folded.predict(X)
    )
    folded.write(str(tmp_path / "net.C"))
    assert "void net_predict(" in (tmp_path / "net.C").read_text()
    with pytest.raises(ValueError, match=r"must end in one of \.safetensors, \.onnx, \.c"):
        folded.write(tmp_path / "m.pkl")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.safetensors", "net.C"]


def test_opening_a_format_imports_no_other(folded, tmp_path):
    folded.save(tmp_path / "m")
    code = (
        "import sys\n"
        "from nbbn.interop import open_model\n"
        f"open_model({str(tmp_path / 'm')!r})\n"
        "others = ('keras', 'torch', 'csource', 'onnx')\n"
        "own = [m.split('.')[2] for m in sys.modules if m.startswith('nbbn.formats.')]\n"
        "print([name for name in own if name in others])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_archives_of_arrays(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, x=X, y=X[0])
    read = read_npz(path)
    assert set(read) == {"x", "y"}
    np.testing.assert_array_equal(read["x"], X)
    for content in (b"", b"PK\x03\x04 cut", os.urandom(200), path.read_bytes()[:-200]):
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(
            nbbn.FileError, match=r"b\.npz: cannot be read: it is no readable \.npz"
        ):
            read_npz(tmp_path / "b.npz")
    np.savez(path, x=np.array([None]))
    with pytest.raises(nbbn.FileError, match="holds more than plain numbers"):
        read_npz(path)
    np.save(tmp_path / "c.npz.npy", X)
    with pytest.raises(nbbn.FileError, match="cannot be read"):
        read_npz(tmp_path / "c.npz.npy")
    with pytest.raises(nbbn.FileError, match="is a folder"):
        read_npz(tmp_path)
    with pytest.raises(nbbn.FileError, match="does not exist"):
        read_npz(tmp_path / "none.npz")
