"""The commands that train: train and compare."""

from __future__ import annotations

import json

import numpy as np
import pytest
from command_line import fails, works

import nbbn

pytestmark = [
    pytest.mark.usefixtures("command_name"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]


def write_table(path, X, labels, names):
    rows = [",".join(map(str, [*x, label])) for x, label in zip(X, labels)]
    path.write_text("\n".join([names, *rows]) + "\n")


def test_train_on_a_table_and_predict(tmp_path, capsys, rng):
    X = rng.normal(size=(300, 3))
    y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    write_table(tmp_path / "t.csv", X, y, "a,b,c,answer")
    args = [
        "train", tmp_path / "t.csv", tmp_path / "m.safetensors", "--hidden", "8", "--epochs", "30",
        "--learning-rate", "0.01",
    ]
    text = works(capsys, *args)
    assert "270 rows of 3 columns" in text and "30 rows kept aside" in text
    model = nbbn.load(tmp_path / "m.safetensors")
    assert model.score(X, y) > 0.9
    assert model.network().dtype == np.float64


def test_train_regression_with_a_named_target(tmp_path, capsys, rng):
    X = rng.normal(size=(300, 3))
    write_table(tmp_path / "t.csv", X[:, 1:], X[:, 0], "a,b,c")
    args = [
        "train", tmp_path / "t.csv", tmp_path / "m.safetensors", "--target", "a", "--regression",
        "--epochs", "2",
    ]
    assert "R2" in works(capsys, *args, "--validation", "0.2")
    model = nbbn.load(tmp_path / "m.safetensors")
    assert isinstance(model, nbbn.MLPRegressor) and model.coefs_[0].shape[0] == 2


def test_train_on_an_archive(tmp_path, capsys, digits):
    X, y = digits
    np.savez(tmp_path / "d.npz", X=X.astype(np.float32).reshape(-1, 8, 8), y=y)
    args = [
        "train", tmp_path / "d.npz", tmp_path / "m.safetensors", "--epochs", "5", "--no-batch-norm",
    ]
    works(capsys, *args, "--validation", "0")
    model = nbbn.load(tmp_path / "m.safetensors")
    assert model.gammas_ == [None, None, None]
    assert model.score(X, y) > 0.8


def test_train_with_shortcuts(tmp_path, capsys, digits):
    X, y = digits
    np.savez(tmp_path / "d.npz", X=X.astype(np.float32), y=y)
    args = ["train", tmp_path / "d.npz", tmp_path / "m.safetensors", "--epochs", "2", "--residual"]
    works(capsys, *args, "--hidden", "24,24,24")
    model = nbbn.load(tmp_path / "m.safetensors")
    assert model.residual and model.fold().report.n_folded == 3
    line = fails(capsys, 2, *args)
    assert "--residual needs hidden layers of one width, got --hidden 128,64,32" in line
    assert line.endswith("give --hidden 128,128,128, say")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,x\n2,y\n", (), "kept aside"),
        ("a,b\n1,2\nw,3\n", ("--raw",), "line 3, column 1 is not a number"),
        ("a,b\n1,2\nnan,3\n", ("--raw",), "line 3 holds NaN"), ("a,b\n1,2,3\n", (), "line 2 has 3 columns"),
        ("a,b\n1,2\n", ("--target", "c"), "no column 'c'"),
        ("a,b\n1,x\n2,y\n", ("--raw", "--regression"), "line 2, column 2 is not a number"),
        ("a,b\n1,x\n2,y\n", ("--regression",), "line 2, column 'b': 'x' is not a finite number"),
        ("a\n1\n", (), "at least two columns"), ("", (), "at least two columns"),
    ],
)
def test_train_refuses_bad_tables(tmp_path, capsys, text, options, message):
    (tmp_path / "t.csv").write_text(text)
    line = fails(
        capsys, 2, "train", tmp_path / "t.csv", tmp_path / "new" / "m.safetensors", *options
    )
    assert message in line
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


def test_train_on_parquet(tmp_path, capsys, rng):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    import pyarrow.parquet as parquet

    X = rng.normal(size=(300, 3)).astype(np.float32)
    y = np.where(X[:, 0] > 0, "yes", "no")
    columns = {"a": X[:, 0], "answer": y, "b": X[:, 1], "c": X[:, 2]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "t.parquet", row_group_size=70)
    common = (
        "train", tmp_path / "t.parquet", tmp_path / "m.safetensors", "--epochs", "2", "--hidden",
        "4",
    )
    works(capsys, *common, "--target", "answer")
    model = nbbn.load(tmp_path / "m.safetensors")
    assert list(model.classes_) == ["no", "yes"] and model.network().dtype == np.float32
    assert "column 'answer' holds no numbers" in fails(capsys, 2, *common, "--raw")
    assert "has no column 'd'" in fails(capsys, 2, *common, "--target", "d")
    line = fails(capsys, 2, *common, "--target", "answer", "--regression", "--raw")
    assert "column 'answer' holds no numbers" in line
    line = fails(capsys, 2, *common, "--target", "answer", "--regression")
    assert "row 1, column 'answer'" in line and "is not a finite number" in line
    parquet.write_table(pyarrow.table({"a": [1.0, np.nan], "b": [1, 2]}), tmp_path / "t.parquet")
    assert "row 2 holds NaN" in fails(capsys, 2, *common, "--raw")
    parquet.write_table(pyarrow.table({"a": [1.0, 2.0]}), tmp_path / "t.parquet")
    assert "at least two columns" in fails(capsys, 2, *common)


# -- compare


@pytest.fixture
def table(tmp_path, rng):
    """A table of 300 rows whose class is a curve in two of three columns, of scales far apart."""
    X = rng.normal(size=(300, 3))
    y = np.where(X[:, 0] ** 2 + X[:, 1] > 1, "out", "in")
    write_table(tmp_path / "t.csv", X * [1, 100, 0.01], y, "a,b,c,answer")
    return tmp_path / "t.csv"


def test_compare_prints_one_table(table, capsys):
    text = works(
        capsys, "compare", table, "--hidden", "16", "--epochs", "40", "--learning-rate", "0.01"
    )
    assert "300 rows of 3 columns, 0.2 of them kept aside, 1 split(s)" in text
    for name in (
        "nbbn, batch norm", "nbbn, no batch norm", "scikit-learn MLP", "logistic regression",
        "most frequent class",
    ):
        assert name in text
    for column in ("accuracy", "fit, s", "size, bytes", "predict, us a row"):
        assert column in text


def test_compare_measures_every_split(table, capsys):
    options = (
        "--hidden", "16", "--epochs", "40", "--learning-rate", "0.01", "--splits", "2", "--json",
    )
    found = json.loads(works(capsys, "compare", table, *options))
    assert found["rows"] == 300 and found["columns"] == 3
    models = {model["name"]: model for model in found["models"]}
    for model in models.values():
        assert all(
            len(model[name]) == 2 for name in ("scores", "fit_seconds", "row_seconds", "sizes")
        )
        assert min(model["fit_seconds"] + model["row_seconds"] + model["sizes"]) > 0
    mean = {name: np.mean(model["scores"]) for name, model in models.items()}
    # A network sees the curve, a constant does not; without batch norm nbbn's network is
    # scikit-learn's.
    assert (
        min(mean["nbbn, batch norm"], mean["nbbn, no batch norm"])
        > mean["most frequent class"] + 0.1
    )
    assert models["nbbn, no batch norm"]["scores"] == pytest.approx(
        models["scikit-learn MLP"]["scores"], abs=0.02
    )


def test_compare_is_repeatable_and_standardises(table, capsys):
    def scores(*options):
        found = json.loads(
            works(capsys, "compare", table, "--hidden", "8", "--epochs", "2", "--json", *options)
        )
        return [model["scores"] for model in found["models"]]

    assert scores("--seed", "3") == scores("--seed", "3")
    assert scores("--seed", "3") != scores("--seed", "3", "--raw")


def test_compare_regression(tmp_path, capsys, rng):
    X = rng.normal(size=(200, 3))
    write_table(tmp_path / "t.csv", X, X[:, 0] - 2 * X[:, 1], "a,b,c,y")
    found = json.loads(
        works(capsys, "compare", tmp_path / "t.csv", "--regression", "--epochs", "2", "--json")
    )
    scores = {model["name"]: model["scores"][0] for model in found["models"]}
    assert scores["ridge regression"] > 0.99 and scores["mean"] < 0.01
    assert "R2" in works(capsys, "compare", tmp_path / "t.csv", "--regression", "--epochs", "1")


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,x\n2,y\n", (), "no rows can be kept aside"),
        ("a,b\n1,2\nw,3\n", ("--raw",), "line 3, column 1 is not a number"),
        (
            "a,b\n1,1\n2,2\n",
            ("--regression", "--validation", "0.5"),
            "1 row to train on is too few",
        ),
        ("a,b\n1,1\n2,2\n", ("--validation", "0"), "must be above 0"),
    ],
)
def test_compare_refuses(tmp_path, capsys, text, options, message):
    (tmp_path / "t.csv").write_text(text)
    assert message in fails(capsys, 2, "compare", tmp_path / "t.csv", *options)
