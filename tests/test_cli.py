"""The command line: what each command does, and that every failure is one line, a status, and no file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

import nbbn
from nbbn.cli import main

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def command_name(monkeypatch):
    """The name that messages begin with, whatever started the tests."""
    monkeypatch.setenv("NBBN_COMMAND", "nbbn")


@pytest.fixture(scope="session")
def models(tmp_path_factory, digits):
    """A folder with saved models of the digits (classifier), of string labels, and of a regression; and rows of each."""
    folder = tmp_path_factory.mktemp("models")
    X, y = digits
    X = X.astype(np.float32)[:400]
    options = {"hidden_layer_sizes": (16, 8), "max_iter": 5, "batch_size": 32, "random_state": 0}
    classifier = nbbn.MLPClassifier(**options).fit(X, y[:400])
    classifier.save(folder / "digits.safetensors")
    classifier.fold().save(folder / "folded.safetensors")
    named = nbbn.MLPClassifier(**options).fit(X, np.where(y[:400] < 5, "low", "high, indeed"))
    named.save(folder / "named.safetensors")
    nbbn.MLPRegressor(**options).fit(X, y[:400].astype(float)).save(folder / "number.safetensors")
    np.save(folder / "rows.npy", X)
    np.savetxt(folder / "rows.csv", X, delimiter=",", header=",".join(f"p{i}" for i in range(64)), comments="")
    return folder


def fails(capsys, status, *argv):
    """Run a command that must fail with this status; return the one line that it wrote to stderr."""
    try:
        got = main([str(a) for a in argv])
    except SystemExit as end:  # argparse's own way out
        got = end.code
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert got == status, captured.err
    assert len(lines) == 1, captured.err
    assert captured.err.isascii()
    return lines[0]


def works(capsys, *argv):
    """Run a command that must work without a word on stderr; return what it wrote to stdout."""
    assert main([str(a) for a in argv]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out


def read_csv(path):
    names, *rows = Path(path).read_text().splitlines()
    return names, rows


# -- fold, verify, inspect


def test_fold_saves_the_same_function_and_prints_the_report(models, tmp_path, capsys):
    out = tmp_path / "new" / "folded.safetensors"
    text = works(capsys, "fold", models / "digits.safetensors", out, "--check", models / "rows.npy")
    assert "2 of 2 batch norms folded" in text and "464 rows" in text
    X = np.load(models / "rows.npy")
    ref, got = nbbn.load(models / "digits.safetensors"), nbbn.load(out)
    assert isinstance(got, nbbn.FoldedModel)
    np.testing.assert_allclose(got.predict_proba(X), ref.predict_proba(X), atol=2e-6)
    assert [p.name for p in out.parent.iterdir()] == [out.name]


def test_fold_report_as_json(models, tmp_path, capsys):
    out = tmp_path / "folded.safetensors"
    report = json.loads(works(capsys, "fold", models / "digits.safetensors", out, "--report", "json"))
    assert report["out"] == str(out)
    assert [entry["folded"] for entry in report["entries"]] == [True, True]
    assert report["max_abs_error"] <= report["bound"]


def test_fold_to_onnx(models, tmp_path, capsys):
    ort = pytest.importorskip("onnxruntime")
    out = tmp_path / "model.onnx"
    works(capsys, "fold", models / "digits.safetensors", out)
    X = np.load(models / "rows.npy")
    label, proba = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"]).run(None, {"x": X})
    ref = nbbn.load(models / "digits.safetensors")
    np.testing.assert_allclose(proba, ref.predict_proba(X), atol=5e-6)
    np.testing.assert_array_equal(label, ref.predict(X))


def test_fold_refuses_to_overwrite_its_input(models, tmp_path, capsys):
    source = tmp_path / "m.safetensors"
    source.write_bytes((models / "digits.safetensors").read_bytes())
    (tmp_path / "link.safetensors").symlink_to(source)
    for out in (source, tmp_path / "link.safetensors", tmp_path / ".." / tmp_path.name / "m.safetensors"):
        assert "is the input itself" in fails(capsys, 2, "fold", source, out)
    assert source.read_bytes() == (models / "digits.safetensors").read_bytes()


def test_fold_strict_fails_where_a_batch_norm_stays(tmp_path, capsys, digits, monkeypatch):
    def refuse(*args, **kwargs):
        raise nbbn.FoldRefused("1 of 2 batch norms could not be folded: ...")

    X, y = digits
    nbbn.MLPClassifier((4,), max_iter=1, random_state=0).fit(X, y).save(tmp_path / "m.safetensors")
    monkeypatch.setattr(nbbn, "fold", refuse)
    line = fails(capsys, 1, "fold", tmp_path / "m.safetensors", tmp_path / "o.safetensors", "--strict")
    assert "could not be folded" in line
    assert not (tmp_path / "o.safetensors").exists()


def test_verify_accepts_a_fold_and_refuses_another_model(models, tmp_path, capsys, digits):
    text = works(capsys, "verify", models / "digits.safetensors", models / "folded.safetensors", "--data",
                 models / "rows.csv")  # fmt: skip
    assert "same: the models agree" in text and "400 of 400 rows" in text
    X, y = digits
    other = nbbn.MLPClassifier((16, 8), max_iter=1, random_state=1).fit(X.astype(np.float32), y)
    other.save(tmp_path / "other.safetensors")
    assert "differ by" in fails(capsys, 1, "verify", models / "digits.safetensors", tmp_path / "other.safetensors")
    line = fails(capsys, 2, "verify", models / "digits.safetensors", models / "number.safetensors")
    assert "output_shape: (10,) and (1,)" in line


def test_inspect_counts_parameters_and_names_suspicious_channels(tmp_path, capsys, digits):
    X, y = digits
    model = nbbn.MLPClassifier((5,), max_iter=2, batch_size=32, random_state=0).fit(X, y)
    model.running_vars_[0][3] = 1e-9
    model.save(tmp_path / "m.safetensors")
    text = works(capsys, "inspect", tmp_path / "m.safetensors")
    assert f"{64 * 5 + 4 * 5 + 5 * 10 + 10:,} parameters" in text
    assert "10 classes: 0, 1, 2" in text and "1 (3)" in text and "BatchNormalization" in text
    model.fold().save(tmp_path / "f.safetensors")
    assert "no batch norms" in works(capsys, "inspect", tmp_path / "f.safetensors")


# -- predict


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
    works(capsys, "predict", "--proba", models / "digits.safetensors", models / "rows.npy", tmp_path / "p.csv")
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
    "rows.parquet": (b"PAR1", "must end with"),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_predict_refuses_bad_rows(models, tmp_path, capsys, name):
    data, message = BAD_ROWS[name]
    (tmp_path / name).write_bytes(data)
    line = fails(capsys, 2, "predict", models / "digits.safetensors", tmp_path / name, tmp_path / "new" / "out.csv")
    assert re.search(message, line), line
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(
    "array", [np.zeros(64), np.zeros((2, 64), complex), np.array([["a"]]), np.full((2, 64), np.nan)]
)
def test_predict_refuses_bad_arrays(models, tmp_path, capsys, array):
    np.save(tmp_path / "x.npy", array)
    fails(capsys, 2, "predict", models / "digits.safetensors", tmp_path / "x.npy", tmp_path / "out.npy")
    assert not (tmp_path / "out.npy").exists()


def test_a_late_bad_row_leaves_the_old_output(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("nbbn.commands.tables._CHUNK_BYTES", 1)
    X = np.load(models / "rows.npy")
    X[399, 5] = np.nan
    np.save(tmp_path / "x.npy", X)
    (tmp_path / "out.csv").write_text("as it was")
    line = fails(capsys, 2, "predict", models / "digits.safetensors", tmp_path / "x.npy", tmp_path / "out.csv")
    assert "row 400, column 6 is nan" in line
    assert (tmp_path / "out.csv").read_text() == "as it was"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.csv", "x.npy"]


def test_predict_proba_of_a_regressor(models, tmp_path, capsys):
    line = fails(
        capsys, 2, "predict", "--proba", models / "number.safetensors", models / "rows.npy", tmp_path / "o.csv"
    )
    assert "is a regressor" in line


# -- train


def write_table(path, X, labels, names):
    rows = [",".join(map(str, [*x, label])) for x, label in zip(X, labels)]
    path.write_text("\n".join([names, *rows]) + "\n")


def test_train_on_a_table_and_predict(tmp_path, capsys, rng):
    X = rng.normal(size=(300, 3))
    y = np.where(X[:, 0] + X[:, 1] > 0, "yes", "no")
    write_table(tmp_path / "t.csv", X, y, "a,b,c,answer")
    args = ["train", tmp_path / "t.csv", tmp_path / "m.safetensors", "--hidden", "8", "--epochs", "30",
            "--learning-rate", "0.01"]  # fmt: skip
    text = works(capsys, *args)
    assert "270 rows of 3 columns" in text and "30 rows kept aside" in text
    model = nbbn.load(tmp_path / "m.safetensors")
    assert model.score(X, y) > 0.9
    assert model.network().dtype == np.float64


def test_train_regression_with_a_named_target(tmp_path, capsys, rng):
    X = rng.normal(size=(300, 3))
    write_table(tmp_path / "t.csv", X[:, 1:], X[:, 0], "a,b,c")
    args = ["train", tmp_path / "t.csv", tmp_path / "m.safetensors", "--target", "a", "--regression", "--epochs", "2"]
    assert "R2" in works(capsys, *args, "--validation", "0.2")
    model = nbbn.load(tmp_path / "m.safetensors")
    assert isinstance(model, nbbn.MLPRegressor) and model.coefs_[0].shape[0] == 2


def test_train_on_an_archive(tmp_path, capsys, digits):
    X, y = digits
    np.savez(tmp_path / "d.npz", X=X.astype(np.float32).reshape(-1, 8, 8), y=y)
    args = ["train", tmp_path / "d.npz", tmp_path / "m.safetensors", "--epochs", "5", "--no-batch-norm"]
    works(capsys, *args, "--validation", "0")
    model = nbbn.load(tmp_path / "m.safetensors")
    assert model.gammas_ == [None, None, None]
    assert model.score(X, y) > 0.8


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n1,x\n2,y\n", (), "kept aside"),
        ("a,b\n1,2\nw,3\n", (), "line 3, column 1 is not a number"),
        ("a,b\n1,2\nnan,3\n", (), "line 3 holds NaN"),
        ("a,b\n1,2,3\n", (), "line 2 has 3 columns"),
        ("a,b\n1,2\n", ("--target", "c"), "no column 'c'"),
        ("a,b\n1,x\n2,y\n", ("--regression",), "line 2, column 2 is not a number"),
        ("a\n1\n", (), "at least two columns"),
        ("", (), "at least two columns"),
    ],
)
def test_train_refuses_bad_tables(tmp_path, capsys, text, options, message):
    (tmp_path / "t.csv").write_text(text)
    line = fails(capsys, 2, "train", tmp_path / "t.csv", tmp_path / "new" / "m.safetensors", *options)
    assert message in line
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


# -- files that are no models, outputs that are no files


def test_bad_model_files(tmp_path, models, capsys):
    (tmp_path / "random.safetensors").write_bytes(os.urandom(500))
    (tmp_path / "cut.safetensors").write_bytes((models / "digits.safetensors").read_bytes()[:-100])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    bad = [*tmp_path.iterdir(), tmp_path / "missing.safetensors", tmp_path]
    for path in bad:
        for argv in (
            ("inspect", path),
            ("fold", path, tmp_path / "o.safetensors"),
            ("verify", models / "digits.safetensors", path),
            ("predict", path, models / "rows.npy", tmp_path / "o.npy"),
        ):
            assert str(path) in fails(capsys, 2, *argv)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        p.name for p in bad if p.parent == tmp_path and p.exists()
    )


def test_bad_outputs(tmp_path, models, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    model = models / "digits.safetensors"
    assert "is a folder" in fails(capsys, 2, "fold", model, tmp_path / "folder.safetensors")
    assert "is a file, not a folder" in fails(capsys, 2, "fold", model, tmp_path / "file" / "m.safetensors")
    assert ".safetensors or .onnx" in fails(capsys, 2, "fold", model, tmp_path / "m.pkl")
    assert ".npy or .csv" in fails(capsys, 2, "predict", model, models / "rows.npy", tmp_path / "m.txt")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.safetensors"]


def test_fold_without_onnx_says_how_to_get_it(tmp_path, models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    line = fails(capsys, 2, "fold", models / "digits.safetensors", tmp_path / "m.onnx")
    assert "pip install" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        (),
        ("unknown",),
        ("fold",),
        ("demo", "--epochs", "0"),
        ("demo", "--hidden", "12,x"),
        ("demo", "--seed", "-1"),
        ("demo", "--batch-size", "1"),
        ("train", "a.csv", "b.safetensors", "--validation", "1"),
        ("train", "a.csv", "b.safetensors", "--learning-rate", "nan"),
        ("cache", "--threads", "2"),
    ],
)
def test_bad_arguments(capsys, argv):
    fails(capsys, 2, *argv)


# -- the machine's side


def test_a_full_disk_is_a_failure_and_leaves_nothing(models, tmp_path, capsys, monkeypatch):
    def full(self, path):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(nbbn.FoldedModel, "save", full)
    line = fails(capsys, 1, "fold", models / "digits.safetensors", tmp_path / "o.safetensors")
    assert "No space left" in line
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_error_is_one_line_and_debug_shows_where(models, capsys, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("what\nnow")

    monkeypatch.setattr("nbbn.interop.native.load", broken)
    assert "unexpected ZeroDivisionError: what now" in fails(capsys, 1, "inspect", models / "digits.safetensors")
    assert main(["inspect", "--debug", str(models / "digits.safetensors")]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_ends_with_130_and_one_line(tmp_path, capsys, digits, monkeypatch):
    @contextmanager
    def bar(title, epochs):
        yield lambda estimator, logs: os.kill(os.getpid(), signal.SIGINT) if logs["epoch"] == 2 else None

    monkeypatch.setattr("nbbn.commands.train.epoch_bar", bar)
    X, y = digits
    np.savez(tmp_path / "d.npz", X=X, y=y)
    line = fails(capsys, 130, "train", tmp_path / "d.npz", tmp_path / "m.safetensors", "--epochs", "1000000")
    assert line == "nbbn train: interrupted"
    assert not (tmp_path / "m.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_reader_that_leaves_ends_the_command_quietly(models, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((300_000, 64), np.float32))
    argv = ["-m", "nbbn", "predict", models / "digits.safetensors", tmp_path / "many.npy", "-"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, *map(str, argv)], env=env, **pipes)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141
    process.stderr.close()


def test_version_and_help(capsys):
    for argv, words in ((["--version"], nbbn.__version__), (["--help"], "inspect"), (["fold", "--help"], "--strict")):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 0
        assert words in capsys.readouterr().out


def test_cache_shows_and_clears_its_own_folder_only(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (tmp_path / "nbbn" / "abc").mkdir(parents=True)
    (tmp_path / "nbbn" / "abc" / "kernel.nbc").write_bytes(b"12")
    (tmp_path / "other").write_text("")
    assert "1 files" in works(capsys, "cache")
    assert "cleared" in works(capsys, "cache", "--clear")
    assert [p.name for p in tmp_path.iterdir()] == ["other"]
