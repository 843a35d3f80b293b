"""The commands on tables as people have them, and what they say of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, read_csv, works
from sklearn.preprocessing import StandardScaler

import nbbn
from nbbn import cli
from nbbn.cli import main
from nbbn.tables import matching, stored

pytestmark = [
    pytest.mark.usefixtures("command_name"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ROOT = Path(__file__).resolve().parents[1]
ROWS = 200
NAMES = ["city", "day", "age", "member", "answer"]
FIT = ("--hidden", "8", "--epochs", "20", "--learning-rate", "0.01")


@pytest.fixture
def columns(rng):
    """Columns as texts, of every kind, with gaps; the answer follows from city and age."""
    city = rng.choice(["K\u00f6ln", "New York, NY", "Berlin"], ROWS)
    age = rng.integers(18, 90, ROWS)
    answer = np.where((age > 50) ^ (city == "Berlin"), "yes", "no")
    gone = rng.random(ROWS) < 0.1
    return {
        "city": city, "day": np.array([f"2024-{i % 12 + 1:02d}-{i % 28 + 1:02d}" for i in range(ROWS)]),
        "age": np.where(gone, "", age.astype(str)), "answer": answer,
        "member": np.array(["True", "False", ""])[rng.integers(0, 3, ROWS)],
    }


def write(path, columns, names=NAMES, sep=",", rows=slice(None)):
    def cell(text):
        return f'"{text}"' if sep in text else text

    lines = [sep.join(map(cell, row)) for row in zip(*(columns[name][rows] for name in names))]
    path.write_text("\n".join([sep.join(names), *lines]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def table(tmp_path, columns):
    return write(tmp_path / "t.csv", columns)


def answers(capsys, model, rows, out, *options):
    works(capsys, "predict", model, rows, out, *options)
    return np.load(out) if out.suffix == ".npy" else read_csv(out)[1]


# -- train and predict


def test_a_table_of_everything(tmp_path, capsys, table, columns):
    model = tmp_path / "m.safetensors"
    text = works(capsys, "train", table, model, *FIT)
    assert "180 rows of 4 columns, as 12 of numbers," in text
    assert float(text.split("accuracy ")[1].split()[0]) > 0.7
    found = answers(capsys, model, table, tmp_path / "p.csv")
    assert np.mean(np.array(found) == columns["answer"]) > 0.8
    # Other orders, more columns, another dialect: the same answers.
    turned = write(tmp_path / "u.csv", columns, NAMES[3::-1], sep=";")
    more = write(tmp_path / "v.tsv", {**columns, "x": columns["day"]}, ["x", *NAMES], sep="\t")
    for rows in (turned, more):
        assert answers(capsys, model, rows, tmp_path / "q.csv") == found
    short = write(tmp_path / "w.csv", columns, ["age", "day", "member"])
    line = fails(capsys, 2, "predict", model, short, tmp_path / "r.csv")
    assert "has no column 'city', which the model was trained on; it has age, day, member" in line
    assert not (tmp_path / "r.csv").exists()


def test_the_model_in_the_file_takes_the_columns_as_they_are(tmp_path, capsys, rng):
    """Standardised columns and targets are within: what the file holds is the fit on both."""
    x = rng.normal(size=(ROWS, 3)) * [1000, 1e-3, 1] + [1e5, 0, -3]
    number = x[:, 0] / 1000 - 2 * x[:, 2] + 40
    label = np.where(number > np.median(number), "a", "b")
    np.savetxt(tmp_path / "x.csv", x, delimiter=",", fmt="%.17g", header="a,b,c", comments="")
    for regression, y in ((False, label), (True, number)):
        rows = [",".join([*map(repr, map(float, row)), str(value)]) for row, value in zip(x, y)]
        (tmp_path / "t.csv").write_text("\n".join(["a,b,c,y", *rows]) + "\n")
        for options in ((), ("--no-batch-norm",)):
            model = tmp_path / "m.safetensors"
            works(capsys, "train", tmp_path / "t.csv", model, *FIT, "--validation", "0",
                  "--batch-size", "50", *options, *(["--regression"] if regression else []))
            cls = nbbn.MLPRegressor if regression else nbbn.MLPClassifier
            ref = cls(hidden_layer_sizes=(8,), batch_size=50, max_iter=20, learning_rate_init=0.01,
                      random_state=0, tol=0.0, n_iter_no_change=20, batch_norm=not options)
            mean, scale = (y.mean(), y.std()) if regression else (0, 1)
            scaler = StandardScaler().fit(x)
            ref.fit(scaler.transform(x), (y - mean) / scale if regression else y)
            loaded = nbbn.load(model)
            if regression:
                want = ref.predict(scaler.transform(x)) * scale + mean
                np.testing.assert_allclose(loaded.predict(x), want, rtol=1e-7)
                np.testing.assert_allclose(
                    answers(capsys, model, tmp_path / "x.csv", tmp_path / "p.npy"), want, rtol=1e-7)
            else:
                want = ref.predict_proba(scaler.transform(x))
                np.testing.assert_allclose(loaded.predict_proba(x), want, atol=1e-7)
                np.testing.assert_allclose(loaded.fold().predict_proba(x), want, atol=1e-7)
                found = answers(capsys, model, tmp_path / "x.csv", tmp_path / "p.npy", "--proba")
                np.testing.assert_allclose(found, want, atol=1e-7)


def test_columns_of_scales_far_apart_are_learnt(tmp_path, capsys, rng):
    x = rng.normal(size=(400, 4))
    y = np.where(x[:, 1] + x[:, 2] > 0, "a", "b")
    rows = [",".join(map(str, [*row, label])) for row, label in zip(x * [1e3, 1e-3, 1e6, 1], y)]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d,y", *rows]) + "\n")
    for options, least, most in (((), 0.9, 1.0), (("--raw",), 0.0, 0.9)):
        text = works(capsys, "train", tmp_path / "t.csv", tmp_path / "m.safetensors", *FIT, *options,
                     "--validation", "0.25")
        assert least <= float(text.split("accuracy ")[1].split()[0]) <= most


@pytest.mark.filterwarnings("default")
def test_dtype(tmp_path, capsys, rng):
    x = rng.normal(size=(ROWS, 2))
    np.savez(tmp_path / "t.npz", X=x, y=(x[:, 0] > 0).astype(int))
    for dtype in ("float32", "float64"):
        works(capsys, "train", tmp_path / "t.npz", tmp_path / "m.safetensors", *FIT, "--dtype", dtype)
        assert nbbn.load(tmp_path / "m.safetensors").network().dtype == dtype
    x[:, 1] += 1e7
    np.savez(tmp_path / "t.npz", X=x, y=(x[:, 0] > 0).astype(int))
    argv = ["train", tmp_path / "t.npz", tmp_path / "m.safetensors", *FIT, "--dtype", "float32"]
    assert main([str(a) for a in argv]) == 0
    assert "column 'column 2' lies far from zero for its deviation" in capsys.readouterr().err


def test_raw_takes_numbers_alone_and_knows_their_names(tmp_path, capsys, table, rng):
    assert "line 2, column 1 is not a number" in fails(
        capsys, 2, "train", table, tmp_path / "m.safetensors", "--raw")
    assert "leave out --ignore" in fails(
        capsys, 2, "train", table, tmp_path / "m.safetensors", "--raw", "--ignore", "age")
    x = rng.normal(size=(ROWS, 2))
    lines = [f"{a},{b},{int(a > b)}" for a, b in x]
    (tmp_path / "n.csv").write_text("\n".join(["a,b,y", *lines]) + "\n")
    model = tmp_path / "m.safetensors"
    works(capsys, "train", tmp_path / "n.csv", model, "--raw", *FIT)
    (tmp_path / "p.csv").write_text("\n".join(["b,a", *(f"{b},{a}" for a, b in x)]) + "\n")
    found = answers(capsys, model, tmp_path / "p.csv", tmp_path / "p.npy")
    np.testing.assert_array_equal(found, nbbn.load(model).predict(x))
    (tmp_path / "p.csv").write_text("b,a\n1,\n")
    assert "the model was trained with --raw" in fails(
        capsys, 2, "predict", model, tmp_path / "p.csv", tmp_path / "p.npy")


@pytest.mark.filterwarnings("default")
def test_gaps_where_training_had_none_are_said(tmp_path, capsys):
    (tmp_path / "t.csv").write_text("a,y\n" + "".join(f"{i},{'xy'[i % 2]}\n" for i in range(60)))
    model = tmp_path / "m.safetensors"
    works(capsys, "train", tmp_path / "t.csv", model, *FIT)
    (tmp_path / "p.csv").write_text("a,b\n3,1\n,2\n")
    assert main(["predict", str(model), str(tmp_path / "p.csv"), "-"]) == 0
    captured = capsys.readouterr()
    assert len(captured.out.splitlines()) == 3
    assert "column a has missing cells, and had none in training: its mean" in captured.err


def test_plain_models_take_other_dialects_too(models, tmp_path, capsys):
    x = np.load(models / "rows.npy")
    text = (models / "rows.csv").read_text()
    (tmp_path / "r.csv").write_text(text.replace(",", ";").replace(".", ","), encoding="utf-16")
    found = answers(capsys, models / "digits.safetensors", tmp_path / "r.csv", tmp_path / "p.npy")
    np.testing.assert_array_equal(found, nbbn.load(models / "digits.safetensors").predict(x))


# -- inspect, fold, verify


def test_inspect_shows_the_card_and_the_columns(tmp_path, capsys, table, monkeypatch):
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    model = tmp_path / "m.safetensors"
    works(capsys, "train", table, model, *FIT)
    text = works(capsys, "inspect", model)
    assert "trained 2023-11-14 on 180 rows to predict 'answer'; accuracy" in text
    assert f"by nbbn {nbbn.__version__}, numpy {np.__version__}, scikit-learn" in text
    for word in ("city", "Berlin, K\u00f6ln", "year first, days from 2024-01-0",
                 "number, may be missing", "found by name"):
        assert word in text
    facts = json.loads(works(capsys, "inspect", model, "--json"))
    assert [column["name"] for column in facts["columns"]] == NAMES[:-1]
    assert facts["columns"][0]["inputs"] == ["city = Berlin", "city = K\u00f6ln",
                                             "city = New York, NY"]
    assert facts["card"]["rows"] == 180 and facts["card"]["options"]["hidden"] == [8]
    assert facts["target"] == "answer"


def test_a_folded_file_keeps_the_table(tmp_path, capsys, table):
    model, folded = tmp_path / "m.safetensors", tmp_path / "f.safetensors"
    works(capsys, "train", table, model, *FIT)
    assert "1 of 1 batch norms folded" in works(capsys, "fold", model, folded, "--check", table)
    assert "same: the models agree" in works(capsys, "verify", model, folded, "--data", table)
    assert isinstance(nbbn.load(folded), nbbn.FoldedModel)
    one, other = (answers(capsys, path, table, tmp_path / "p.npy", "--proba")
                  for path in (model, folded))
    np.testing.assert_allclose(one, other, atol=1e-12)
    text = works(capsys, "fold", model, tmp_path / "f.c")
    assert "f.c takes 12 columns of numbers made of the table's, standardises them itself" in text


def test_the_onnx_file_takes_the_encoded_columns(tmp_path, capsys, table):
    ort = pytest.importorskip("onnxruntime")
    model, out = tmp_path / "m.safetensors", tmp_path / "m.onnx"
    works(capsys, "train", table, model, *FIT)
    works(capsys, "fold", model, out)
    description = stored.description_of(model)
    x = np.concatenate([x for x, _ in matching.encoded_chunks(table, description, set())])
    session = ort.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    found = session.run(None, {"x": x})[1]
    np.testing.assert_allclose(
        found, answers(capsys, model, table, tmp_path / "p.npy", "--proba"), atol=1e-7)


# -- several files


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_partitions_of_everything(tmp_path, capsys, table, columns, kind):
    folder = tmp_path / "data"
    folder.mkdir()
    for i in range(4):
        own = slice(50 * i, 50 * i + 50)
        path = write(folder / f"{i}.csv", columns, NAMES if i % 2 else [*NAMES[::-1][1:], "answer"],
                     rows=own)
        if kind == "parquet":
            parquet = pytest.importorskip("pyarrow.parquet")
            from pyarrow import csv

            options = csv.ConvertOptions(strings_can_be_null=True)
            parquet.write_table(csv.read_csv(path, convert_options=options),
                                path.with_suffix(".parquet"), row_group_size=20)
            path.unlink()
    parts, whole = tmp_path / "parts.safetensors", tmp_path / "whole.safetensors"
    for options in ((), ("--validation", "0")):
        text = works(capsys, "train", folder, parts, *FIT, "--target", "answer", *options)
        assert "rows of 4 columns, as 12 of numbers, 4 partitions of which 4 at a time, in" in text
    works(capsys, "train", table, whole, *FIT, "--validation", "0")
    one, other = (stored.description_of(path) for path in (parts, whole))
    assert sorted(one.encoded_names()) == sorted(other.encoded_names())
    found = {name: (m, s) for name, m, s in zip(one.encoded_names(), one.mean, one.scale)}
    for name, m, s in zip(other.encoded_names(), other.mean, other.scale):
        np.testing.assert_allclose(found[name], (m, s), rtol=1e-12, atol=1e-12)
    works(capsys, "train", folder, parts, *FIT, "--target", "answer", "--window", "1")
    rows = answers(capsys, parts, folder, tmp_path / "p.csv")
    assert len(rows) == ROWS and np.mean(np.array(rows) == columns["answer"]) > 0.7
    assert answers(capsys, parts, table, tmp_path / "p.csv") == rows


def test_partitions_in_one_window_are_the_table(tmp_path, capsys, table, columns):
    for i in range(4):
        write(tmp_path / f"p{i}.csv", columns, rows=slice(50 * i, 50 * i + 50))
    for out, *given in (("one", table), ("other", f"{tmp_path}/p*.csv", "--window", "4")):
        works(capsys, "train", given[0], tmp_path / f"{out}.safetensors", *FIT, "--validation", "0",
              *given[1:])
    one, other = (answers(capsys, tmp_path / f"{out}.safetensors", table, tmp_path / "p.npy",
                          "--proba") for out in ("one", "other"))
    np.testing.assert_allclose(one, other, atol=1e-9)


def test_regression_found_in_partitions(tmp_path, capsys, rng):
    for i in range(3):
        x = rng.normal(size=(60, 2)) * [1, 1e4]
        lines = [f"{a},{b},{1e5 + 1e3 * a + b / 10}" for a, b in x]
        (tmp_path / f"{i}.csv").write_text("\n".join(["a,b,price", *lines]) + "\n")
    model = tmp_path / "m.safetensors"
    text = works(capsys, "train", f"{tmp_path}/?.csv", model, *FIT, "--epochs", "60")
    assert "target 'price' holds 180 different numbers and is taken for regression" in text
    assert float(text.split("R2 ")[1].split()[0]) > 0.8
    assert nbbn.load(model).predict(np.zeros((1, 2)))[0] == pytest.approx(1e5, abs=1000)


# -- compare


def test_compare_takes_the_same_tables(tmp_path, capsys, table):
    found = json.loads(works(capsys, "compare", table, *FIT, "--json"))
    assert found["columns"] == 4 and found["notes"] == []
    scores = {model["name"]: model["scores"][0] for model in found["models"]}
    assert scores["nbbn, batch norm"] > scores["most frequent class"] + 0.1
    assert "200 rows of 4 columns, as 12 of numbers" in works(
        capsys, "compare", table, "--hidden", "4", "--epochs", "1")


# -- in words


def rows_of(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv", tmp_path / "m.safetensors"


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("a,b\n" + "1,x\n2,x\n" * 20, (), "the target 'b' holds one class alone, 'x'"),
        ("a,b\n1,x\n", (), "no rows can be kept aside (there is 1 row)"),
        ("a,b\n1,x\n", ("--validation", "0"), "1 row to train on is too few"),
        ("a,b\n" + "".join(f"{i},{i}\n" for i in range(99)), ("--classification",),
         "class 0 and 98 other classes have one row alone; numbers are predicted with --regression"),
        ("a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(99)), ("--learning-rate", "1e200"),
         "the fit diverges: weights are no longer finite; lower --learning-rate, which is 1e+200"),
    ],
)  # fmt: skip
def test_train_says_what_cannot_be(tmp_path, capsys, text, options, message):
    data, out = rows_of(tmp_path, text)
    with np.errstate(all="ignore"):
        line = fails(capsys, 2, "train", data, out, *options)
    assert message in line and len(line) < 400
    assert not out.exists()
    if "class alone" in message:
        assert message in fails(capsys, 2, "compare", data)


@pytest.mark.filterwarnings("default")
def test_a_fit_that_diverges_and_threads_that_are_not_there_are_said(tmp_path, capsys):
    data, out = rows_of(tmp_path, "a,b\n" + "".join(f"{i},{i % 2}\n" for i in range(99)))
    argv = ["train", str(data), str(out), "--learning-rate", "1e9", "--threads", "1000"]
    assert main(argv) == 0
    said = capsys.readouterr().err
    assert "warning: the fit diverges: the loss " in said
    assert "lower --learning-rate, which is 1e+09" in said
    assert "Training diverged" not in said
    assert "warning: --threads 1000: " in said and "one for each core that there is" in said


def test_did_you_mean(capsys):
    assert "there is no command 'trian'; did you mean train?" in fails(capsys, 2, "trian", "a", "b")
    assert "choose one of demo, train" in fails(capsys, 2, "xyz")
    line = fails(capsys, 2, "train", "a.csv", "b.safetensors", "--lerning-rate", "0.1")
    assert "there is no option --lerning-rate; did you mean --learning-rate?" in line


def test_nbbn_alone_shows_what_there_is(capsys):
    assert main([]) == 2
    captured = capsys.readouterr()
    for name in cli.COMMANDS:
        assert f"\n    {name} " in captured.out
    assert "examples:" in captured.out and "nbbn: name a command" in captured.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_examples_of_every_command_can_be_typed(capsys, name):
    with pytest.raises(SystemExit):
        main([name, "--help"])
    lines = capsys.readouterr().out.split("examples:\n")[1].splitlines()
    assert lines
    for line in lines:
        words = line.replace("'", "").split()
        assert cli.build_parser(name).parse_args(words[1:]).run


def test_completion(tmp_path):
    pytest.importorskip("argcomplete", reason="argcomplete is not installed: pip install argcomplete")

    def completed(line):
        out = tmp_path / "out"
        env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}",
               "_ARGCOMPLETE": "1", "_ARGCOMPLETE_IFS": "\n", "COMP_LINE": line,
               "COMP_POINT": str(len(line)), "_ARGCOMPLETE_STDOUT_FILENAME": str(out)}
        subprocess.run([sys.executable, "-m", "nbbn"], env=env, check=True)
        return out.read_text().split()

    assert completed("nbbn tr") == ["train"]
    assert completed("nbbn train --learn") == ["--learning-rate"]
    assert completed("nbbn train a b --dtype ") == ["float32", "float64"]


def test_completion_without_argcomplete_says_nothing(monkeypatch, capsys):
    monkeypatch.setenv("_ARGCOMPLETE", "1")
    monkeypatch.setitem(sys.modules, "argcomplete", None)
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr() == ("", "")


def test_truths_of_parquet_and_of_text_are_the_same(tmp_path, capsys):
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed: pip install pyarrow")
    from pyarrow import parquet

    truths = [i % 3 == 0 for i in range(60)]
    whole = pyarrow.table({"a": list(range(60)), "b": truths, "y": list("xy" * 30)})
    parquet.write_table(whole, tmp_path / "t.parquet")
    model = tmp_path / "m.safetensors"
    works(capsys, "train", tmp_path / "t.parquet", model, *FIT)
    lines = "".join(f"{truth},{i}\n" for i, truth in enumerate(truths))
    (tmp_path / "p.csv").write_text("b,a\n" + lines)
    one, other = (answers(capsys, model, tmp_path / name, tmp_path / "p.npy", "--proba")
                  for name in ("t.parquet", "p.csv"))
    np.testing.assert_array_equal(one, other)


def test_one_class_in_several_files_is_refused(tmp_path, capsys):
    for name in "st":
        (tmp_path / f"{name}.csv").write_text("a,y\n" + "".join(f"{i},x\n" for i in range(30)))
    assert "'y' holds one class alone, 'x'" in fails(
        capsys, 2, "train", tmp_path / "s.csv", tmp_path / "t.csv", tmp_path / "m.safetensors")
