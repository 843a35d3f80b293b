"""The command predict.

Every kind of table in, every kind out, and every failure one line and no file.
"""

from __future__ import annotations

import os
import re
import sys

import numpy as np
import pytest
from command_line import fails, read_csv, works

import nbbn

pytestmark = [
    pytest.mark.usefixtures("command_name"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


@pytest.mark.parametrize("chunk", [None, 300])
@pytest.mark.parametrize("rows", ["rows.npy", "rows.csv"])
@pytest.mark.parametrize("model", ["digits", "folded", "named", "number"])
def test_predictions_are_the_models_own(models, tmp_path, capsys, monkeypatch, model, rows, chunk):
    if chunk:  # in bytes: a row or two at a time
        monkeypatch.setattr("nbbn.commands.tables._CHUNK_BYTES", chunk)
    X = np.load(models / "rows.npy")
    path = models / f"{model}.safetensors"
    ref = nbbn.load(path).predict(X)
    text = works(capsys, "predict", path, models / rows, tmp_path / "out.npy")
    assert "400 rows predicted" in text
    got = np.load(tmp_path / "out.npy")
    assert got.shape == ref.shape
    if model == "number":
        np.testing.assert_allclose(got, ref, rtol=1e-5)
    else:
        np.testing.assert_array_equal(got, ref)


def test_probabilities_to_csv_read_back_exactly(models, tmp_path, capsys):
    works(
        capsys, "predict", "--proba", models / "digits.safetensors", models / "rows.npy",
        tmp_path / "p.csv",
    )
    names, rows = read_csv(tmp_path / "p.csv")
    assert names.startswith("probability of 0,probability of 1,")
    got = np.array([row.split(",") for row in rows], dtype=np.float32)
    ref = nbbn.load(models / "digits.safetensors").predict_proba(np.load(models / "rows.npy"))
    np.testing.assert_array_equal(got, ref)


def test_labels_with_the_delimiter_are_quoted_and_go_to_stdout(models, capsys):
    text = works(capsys, "predict", models / "named.safetensors", models / "rows.npy", "-")
    assert set(text.splitlines()) == {"class", "low", '"high, indeed"'}


def test_csv_with_byte_order_mark_blank_lines_and_no_header(models, tmp_path, capsys):
    lines = (models / "rows.csv").read_text().splitlines()[1:3]
    (tmp_path / "r.csv").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join([*lines, ""]).encode())
    works(capsys, "predict", models / "digits.safetensors", tmp_path / "r.csv", tmp_path / "o.npy")
    ref = nbbn.load(models / "digits.safetensors").predict(np.load(models / "rows.npy")[:2])
    np.testing.assert_array_equal(np.load(tmp_path / "o.npy"), ref)


BAD_ROWS = {
    "nan.csv": (b"a,b\n1,2\n3,nan\n", "row 2 .*column 2 is nan"),
    "inf.csv": (b"1,2\n3,-inf\n", "column 2 is -inf"),
    "word.csv": (b"1,2\n3,x\n", "line 2, column 2: 'x' is not a number"),
    "hole.csv": (b"1,2\n,4\n", "line 2, column 1: '' is not a number"),
    "ragged.csv": (b"1,2\n3,4,5\n", "line 2 has 3 columns"),
    "narrow.csv": (b"1,2\n3,4\n", "2 features"),
    "empty.csv": (b"", "no rows"),
    "names.csv": (b"a,b\n", "no rows"),
    "random.csv": (bytes(range(128, 256)) * 4, "not text|not a number|no rows"),
    "random.npy": (os.urandom(200), "not a NumPy array file"),
    "short.npy": (b"\x93NUMPY\x01\x00v\x00", "not a NumPy array file"),
    "rows.xls": (b"1,2", "must end with .npy or .csv or .tsv or .parquet"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_predict_refuses_bad_rows(models, tmp_path, capsys, name):
    data, message = BAD_ROWS[name]
    (tmp_path / name).write_bytes(data)
    line = fails(
        capsys, 2, "predict", models / "digits.safetensors", tmp_path / name,
        tmp_path / "new" / "out.csv",
    )
    assert re.search(message, line), line
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "array", [np.zeros(64), np.zeros((2, 64), complex), np.array([["a"]]), np.full((2, 64), np.nan)]
)
def test_predict_refuses_bad_arrays(models, tmp_path, capsys, array):
    np.save(tmp_path / "x.npy", array)
    fails(
        capsys, 2, "predict", models / "digits.safetensors", tmp_path / "x.npy",
        tmp_path / "out.npy",
    )
    assert not (tmp_path / "out.npy").exists()


def test_a_late_bad_row_leaves_the_old_output(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nbbn.commands.tables._CHUNK_BYTES", 1)
    X = np.load(models / "rows.npy")
    X[399, 5] = np.nan
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "out.csv").write_text("as it was")
    line = fails(
        capsys, 2, "predict", models / "digits.safetensors", tmp_path / "x.npy",
        tmp_path / "out.csv",
    )
    assert "row 400, column 6 is nan" in line
    assert (tmp_path / "out.csv").read_text() == "as it was"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "x.npy"]


def test_predict_proba_of_a_regressor(models, tmp_path, capsys):
    line = fails(
        capsys, 2, "predict", "--proba", models / "number.safetensors", models / "rows.npy",
        tmp_path / "o.csv",
    )
    assert "is no classifier" in line


# -- images, plain networks, Parquet


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """A folder with a network on images of 4 x 4 x 1, and rows: as images and as a table."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(3)
    layers = (nbbn.layers.Conv2D(2, 3), nbbn.layers.BatchNormalization())
    weights = [
        {"kernel": rng.normal(size=(3, 3, 1, 2)), "bias": rng.normal(size=2)},
        {name: rng.uniform(0.5, 2, 2) for name in ("gamma", "beta", "mean", "var")},
    ]
    weights = [
        {name: array.astype(np.float32) for name, array in arrays.items()} for arrays in weights
    ]
    nbbn.FoldedModel(nbbn.Network(layers, (4, 4, 1), weights, np.dtype("f4"))).save(
        folder / "net.safetensors"
    )
    x = rng.normal(size=(30, 4, 4, 1)).astype(np.float32)
    np.save(folder / "x.npy", x)
    np.savetxt(folder / "x.csv", x.reshape(30, -1), delimiter=",", fmt="%.9g")
    return folder


@pytest.mark.parametrize("rows", ["x.npy", "x.csv"])
def test_a_tables_columns_become_images(images, tmp_path, capsys, rows):
    ref = nbbn.load(images / "net.safetensors").predict(np.load(images / "x.npy"))
    works(capsys, "predict", images / "net.safetensors", images / rows, tmp_path / "p.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), ref)
    works(capsys, "predict", images / "net.safetensors", images / rows, tmp_path / "p.csv")
    names, lines = read_csv(tmp_path / "p.csv")
    assert names == ",".join(f"prediction {i}" for i in range(8))
    got = np.array([line.split(",") for line in lines], np.float32)
    np.testing.assert_array_equal(got, ref.reshape(30, 8))


def test_images_channels_first_are_turned(tmp_path, capsys):
    layers = (nbbn.layers.Flatten(), nbbn.layers.Dense(1, use_bias=False))
    weights = [{}, {"kernel": np.arange(24, dtype=np.float32)[:, None]}]
    model = nbbn.FoldedModel(nbbn.Network(layers, (4, 3, 2), weights, np.dtype("f4")))
    model.save(tmp_path / "net.safetensors")
    x = np.random.default_rng(1).normal(size=(5, 4, 3, 2)).astype(np.float32)
    np.save(tmp_path / "first.npy", x.transpose(0, 3, 1, 2))
    works(
        capsys, "predict", tmp_path / "net.safetensors", tmp_path / "first.npy", tmp_path / "p.npy"
    )
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), model.predict(x))


def test_another_programs_model(models, tmp_path, capsys, monkeypatch):
    """What `nbbn.interop.open_model` makes of a file is used as any other model."""
    opened = []

    def open_model(path):
        opened.append(path.name)
        return nbbn.load(models / "folded.safetensors")

    monkeypatch.setitem(vars(nbbn.interop), "open_model", open_model)
    for name in ("m.onnx", "m.keras", "m.h5", "M.HDF5"):
        works(capsys, "predict", tmp_path / name, models / "rows.npy", tmp_path / "p.npy")
    assert opened == ["m.onnx", "m.keras", "m.h5", "M.HDF5"]
    ref = nbbn.load(models / "folded.safetensors").predict(np.load(models / "rows.npy"))
    np.testing.assert_array_equal(np.load(tmp_path / "p.npy"), ref)


def test_without_pyarrow(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "x.parquet").write_bytes(b"PAR1")
    for rows, out in (
        (tmp_path / "x.parquet", tmp_path / "p.npy"),
        (models / "rows.npy", tmp_path / "p.parquet"),
    ):
        line = fails(capsys, 2, "predict", models / "digits.safetensors", rows, out)
        assert "need the package pyarrow: python -m pip install pyarrow" in line
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def parquet(path, columns, **options):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    import pyarrow.parquet as writer

    writer.write_table(pyarrow.table(columns), path, **options)
    return writer


@pytest.mark.parametrize("chunk", [None, 20_000])
@pytest.mark.parametrize("model", ["digits", "named", "number"])
def test_parquet_in_and_out(models, tmp_path, capsys, monkeypatch, model, chunk):
    if chunk:
        monkeypatch.setattr("nbbn.commands.tables._CHUNK_BYTES", chunk)
    X, path = np.load(models / "rows.npy"), models / f"{model}.safetensors"
    columns = {f"p{i}": X[:, i] for i in range(64)}
    writer = parquet(tmp_path / "x.parquet", columns, row_group_size=130)
    works(capsys, "predict", path, tmp_path / "x.parquet", tmp_path / "p.parquet")
    table = writer.read_table(tmp_path / "p.parquet")
    assert table.schema.names == ["prediction" if model == "number" else "class"]
    got, ref = table.column(0).to_numpy(), nbbn.load(path).predict(X)
    np.testing.assert_allclose(
        got, ref, rtol=1e-5
    ) if model == "number" else np.testing.assert_array_equal(got, ref)
    if model == "digits":
        works(capsys, "predict", path, tmp_path / "x.parquet", tmp_path / "q.parquet", "--proba")
        table = writer.read_table(tmp_path / "q.parquet")
        assert table.schema.names[9] == "probability of 9"
        np.testing.assert_array_equal(
            table.column(9).to_numpy(), nbbn.load(path).predict_proba(X)[:, 9]
        )


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["a", "b"], "column 'p1' holds no numbers"),
        ([1.0, None], "column 'p1' has 1 missing values"),
        ([1.0, float("inf")], "row 2, column 2 is inf"),
        ([], "holds no rows"),
    ],
)
def test_parquet_refused(models, tmp_path, capsys, column, message):
    parquet(tmp_path / "x.parquet", {"p0": [1.0, 2.0][: len(column)], "p1": column})
    line = fails(
        capsys, 2, "predict", models / "digits.safetensors", tmp_path / "x.parquet",
        tmp_path / "p.npy",
    )
    assert message in line
    assert [p.name for p in tmp_path.iterdir()] == ["x.parquet"]


def test_a_broken_parquet_file(models, tmp_path, capsys):
    parquet(tmp_path / "x.parquet", {f"p{i}": np.arange(9.0) for i in range(64)})
    whole = (tmp_path / "x.parquet").read_bytes()
    for data in (whole[:100], b"PAR1", b"", whole[:40] + bytes(60) + whole[100:]):
        (tmp_path / "x.parquet").write_bytes(data)
        line = fails(
            capsys, 2, "predict", models / "digits.safetensors", tmp_path / "x.parquet",
            tmp_path / "p.npy",
        )
        assert "broken" in line
