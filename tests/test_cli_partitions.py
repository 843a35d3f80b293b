"""The commands train and predict on several files, or a table larger than memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from command_line import fails, read_csv, works

import nbbn
from nbbn.commands import training_partitions

pytestmark = [
    pytest.mark.usefixtures("command_name"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:X does not have valid feature names"),
]

FILES, ROWS = 6, 50
KINDS = pytest.mark.parametrize("kind", ["parquet", "npz", "csv", "tsv"])


def write(path, X, y, names=("a", "b", "c", "label")):
    kind = path.suffix[1:]
    if kind == "npz":
        np.savez(path, X=X.reshape(len(X), 1, -1), y=y)
    elif kind == "parquet":
        pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
        import pyarrow.parquet as parquet

        columns = [*X.T, y]
        table = pyarrow.table({name: np.ascontiguousarray(c) for name, c in zip(names, columns)})
        parquet.write_table(table, path, row_group_size=20)
    else:
        mark = "," if kind == "csv" else "\t"
        lines = [mark.join(map(str, [*row, label])) for row, label in zip(X, y)]
        path.write_text("\n".join([mark.join(names), *lines]) + "\n")


@pytest.fixture
def data(rng):
    X = rng.normal(size=(FILES * ROWS, 3))
    return X, np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")


def written(folder, kind, data):
    folder.mkdir()
    X, y = data
    for i in range(FILES):
        own = slice(i * ROWS, i * ROWS + ROWS)
        write(folder / f"{i}.{kind}", X[own], y[own])
    return folder


def train(*given, out):
    return ["train", *given, out, "--hidden", "8", "--epochs", "30", "--learning-rate", "0.01"]


@KINDS
def test_train_on_a_pattern_a_folder_and_files(kind, tmp_path, capsys, data):
    folder = written(tmp_path / "data", kind, data)
    out = tmp_path / "m.safetensors"
    text = works(capsys, *train(f"{folder}/*.{kind}", out=out), "--window", "2")
    assert "270 rows of 3 columns, 6 partitions of which 2 at a time, in" in text
    assert "accuracy" in text and "30 rows kept aside" in text
    model, bits = nbbn.load(out), out.read_bytes()
    assert model.score(*data) > 0.9 and model.t_ == 30 * 270
    for given in ([folder], sorted(folder.iterdir())):
        assert "6 partitions" in works(capsys, *train(*given, out=out), "--window", "2")
        assert out.read_bytes() == bits
    works(capsys, *train(folder, out=out), "--window", "3")
    assert out.read_bytes() != bits
    assert "300 rows" in works(capsys, *train(folder, out=out), "--validation", "0")


@pytest.mark.parametrize("kind", ["parquet", "csv"])
def test_predict_on_several_files(kind, tmp_path, capsys, data):
    folder = written(tmp_path / "data", kind, data)
    model, out = tmp_path / "m.safetensors", tmp_path / "p.csv"
    works(capsys, *train(folder, out=model))
    if kind == "csv":
        for i, path in enumerate(sorted(folder.iterdir())):
            write(path, data[0][i * ROWS : i * ROWS + ROWS, :2], data[0][i * ROWS : i * ROWS + ROWS, 2])
    text = works(capsys, "predict", model, f"{folder}/*.{kind}", out)
    assert f"300 rows predicted, written to {out}" in text
    assert read_csv(out)[1] == nbbn.load(model).predict(data[0]).tolist()
    works(capsys, "predict", model, folder, tmp_path / "p.npy", "--proba")
    ref = nbbn.load(model).predict_proba(data[0])
    np.testing.assert_allclose(np.load(tmp_path / "p.npy"), ref, rtol=1e-12)


def test_regression_and_a_named_target(tmp_path, capsys, data):
    folder = written(tmp_path / "data", "parquet", (data[0], data[0].sum(1)))
    out = tmp_path / "m.safetensors"
    assert "R2" in works(capsys, *train(folder, out=out), "--regression", "--target", "b")
    model = nbbn.load(out)
    assert isinstance(model, nbbn.MLPRegressor)
    assert model.feature_names_in_.tolist() == ["a", "c", "label"]
    works(capsys, "predict", out, folder, tmp_path / "p.npy")
    assert np.load(tmp_path / "p.npy").shape == (300,)


def test_one_large_table_is_read_in_pieces(tmp_path, capsys, data, monkeypatch):
    write(tmp_path / "t.parquet", *data)
    out = tmp_path / "m.safetensors"
    assert "partitions" not in works(capsys, *train(tmp_path / "t.parquet", out=out))
    monkeypatch.setattr(training_partitions, "_memory", lambda: 30_000.0)
    monkeypatch.setattr("nbbn.partitions.files.PIECE_BYTES", 500)
    text = works(capsys, *train(tmp_path / "t.parquet", out=out))
    assert "270 rows of 3 columns, 15 partitions of which 4 at a time" in text
    assert nbbn.load(out).score(*data) > 0.9


def test_kept_aside_are_so_many_bytes_at_most(tmp_path, capsys, data, monkeypatch):
    folder = written(tmp_path / "data", "npz", data)
    monkeypatch.setattr(training_partitions, "_ASIDE_BYTES", 24 * 12)
    text = works(capsys, *train(folder, out=tmp_path / "m.safetensors"), "--validation", "0.5")
    assert "288 rows" in text and "12 rows kept aside" in text


def test_what_is_refused(tmp_path, capsys, data):
    X, y = data
    folder = written(tmp_path / "data", "parquet", data)
    out = tmp_path / "new" / "m.safetensors"

    def refused(*given, **options):
        return fails(capsys, 2, *train(*given, out=out), *options.get("more", ()))

    assert "none*.parquet: no file matches the pattern" in refused(f"{folder}/none*.parquet")
    assert "none.parquet: does not exist" in refused(f"{folder}/none.parquet", folder)
    assert "no column 'z' for target" in refused(folder, more=["--target", "z"])
    (tmp_path / "empty").mkdir()
    assert "the folder holds no .csv or .tsv or .parquet or .npz" in refused(tmp_path / "empty")
    assert "the name must end with" in refused(folder / "0.parquet", tmp_path / "t.txt")
    write(folder / "3.parquet", X[:9, :2], y[:9], ("a", "b", "label"))
    assert "3.parquet: its columns are not those" in refused(folder)
    bad = np.where(np.arange(9)[:, None] == 4, np.nan, X[:9])
    write(folder / "3.parquet", bad, y[:9])
    line = refused(folder, more=["--validation", "0", "--raw"])
    assert f"{folder}/3.parquet: Input X contains NaN" in line
    write(folder / "3.parquet", X[:0], y[:0])
    assert not out.parent.exists()
    works(capsys, *train(folder, out=tmp_path / "m.safetensors"))  # an empty file is none
    write(folder / "3.parquet", X[:9], np.arange(9) % 2)
    assert "3.parquet: " in refused(folder)
    (folder / "3.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert "3.parquet is not a Parquet file, or broken" in refused(folder)
    assert "is the input itself" in fails(
        capsys, 2, "predict", tmp_path / "m.safetensors", folder, folder / "1.parquet")
    assert not out.parent.exists()


def test_predictions_appear_whole_or_not_at_all(tmp_path, capsys, data):
    X, y = data
    model, out = tmp_path / "m.safetensors", tmp_path / "p.csv"
    np.savez(tmp_path / "t.npz", X=X, y=y)
    works(capsys, *train(tmp_path / "t.npz", out=model))
    for i in range(3):
        np.save(tmp_path / f"x{i}.npy", X if i < 2 else X[:, :2])
    line = fails(capsys, 2, "predict", model, f"{tmp_path}/x*.npy", out)
    assert "x2.npy: X has 2 features, but MLPClassifier is expecting 3" in line
    bad = np.where(np.arange(len(X))[:, None] == 4, np.nan, X)
    np.save(tmp_path / "x2.npy", bad)
    assert "x2.npy: row 5, column 1 is nan" in fails(
        capsys, 2, "predict", model, f"{tmp_path}/x*.npy", out)
    assert not out.exists() and not list(tmp_path.glob(".*"))
    np.save(tmp_path / "x2.npy", X[:0])
    assert "600 rows predicted" in works(capsys, "predict", model, f"{tmp_path}/x*.npy", out)
    assert "no rows" in fails(capsys, 2, "predict", model, tmp_path / "x2.npy", tmp_path / "q.csv")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals")
def test_a_stop_in_the_middle_leaves_nothing(tmp_path, data):
    folder = written(tmp_path / "data", "npz", data)
    for number in (signal.SIGINT, signal.SIGTERM):
        command = [sys.executable, "-m", "nbbn", "train", folder, tmp_path / "m.safetensors",
                   "--epochs", "100000", "--window", "1"]  # fmt: skip
        child = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        time.sleep(8)
        child.send_signal(number)
        _, said = child.communicate(timeout=20)
        assert child.returncode == 128 + number and "interrupted" in said
        assert [path.name for path in tmp_path.iterdir()] == ["data"]
