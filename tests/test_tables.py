"""Tables as people have them: how they are read, what their columns are, what becomes of them."""

from __future__ import annotations

import datetime
import json
import re
import zlib

import numpy as np
import pytest
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from nbbn.formats.files import FileError
from nbbn.tables import dialect, learning, matching, reading, survey
from nbbn.tables.cells import Cells, number_of, seconds_of
from nbbn.tables.description import Description
from nbbn.tables.moments import Moments
from nbbn.tables.standard import standardised

ROWS = 40


def write(path, *columns, names=None, sep=",", encoding="utf-8"):
    """A text table of these columns."""
    lines = [] if names is None else [names]
    lines += [sep.join(map(str, row)) for row in zip(*columns)]
    path.write_bytes("\n".join([*lines, ""]).encode(encoding))
    return path


def learnt(path, **options):
    """A table's rows, and their description with means and deviations."""
    rows = learning.read_whole(reading.open_table(path), survey.Options(**options))
    moments = Moments(rows.x.shape[1]).add(rows.x)
    return rows, learning.with_moments(rows.description, moments)


def encoded(path, description):
    unexpected = set()
    parts = [x for x, _ in matching.encoded_chunks(path, description, unexpected)]
    return np.concatenate(parts), unexpected


def labels(rows=ROWS):
    return ["yn"[i % 2] for i in range(rows)]


# -- dialects

NUMBERS = {
    "1.5": (1.5, None), "1,5": (None, 1.5), "1.234,5": (None, 1234.5), "1e3": (1000.0, 1000.0),
    "-7": (-7.0, -7.0), "1_000": (None, None), "": (None, None), "x": (None, None), ".5": (0.5, None),
    ",5": (None, 0.5), "1.234": (1.234, 1234.0), "1.23": (1.23, None), "3.4.2024": (None, None),
}  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_numbers_with_points_and_commas(text):
    assert (number_of(text), number_of(text, ",")) == NUMBERS[text]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be",
                                      "utf-32", "latin-1"])  # fmt: skip
@pytest.mark.parametrize("sep", [",", ";", "\t", "|"])
def test_encodings_and_delimiters_are_found(tmp_path, encoding, sep):
    path = write(tmp_path / "t.csv", range(ROWS), ["\u00e4\u00f6"[i % 2] for i in range(ROWS)],
                 labels(), names=sep.join(["gr\u00f6\u00dfe", "ort", "ziel"]), sep=sep,
                 encoding=encoding)
    rows, _ = learnt(path)
    assert rows.description.names == ["gr\u00f6\u00dfe", "ort"]
    np.testing.assert_array_equal(rows.x[:, 0], np.arange(ROWS))
    np.testing.assert_array_equal(rows.x[:, 1], np.arange(ROWS) % 2 == 0)
    assert rows.y.tolist() == labels()


def test_a_late_letter_of_another_encoding_is_found(tmp_path):
    texts = ["plain"] * 20_000 + ["caf\u00e9"]
    path = write(tmp_path / "t.csv", texts, labels(len(texts)), names="a,b", encoding="cp1252")
    assert dialect.find(path).encoding == "cp1252"
    assert learnt(path)[0].description.columns[0].texts == ("caf\u00e9", "plain")


def test_decimal_commas_and_thousands(tmp_path):
    path = write(tmp_path / "t.csv", [f"{i},5" for i in range(ROWS)],
                 [f"1.{i:03d},25" for i in range(ROWS)], labels(), names="a;b;c", sep=";")
    rows, _ = learnt(path)
    np.testing.assert_array_equal(rows.x[:, 0], np.arange(ROWS) + 0.5)
    np.testing.assert_array_equal(rows.x[:, 1], 1000.25 + np.arange(ROWS))
    assert rows.notes == [f"{path} is read as: fields between ';', decimal commas"]


def test_quotes_and_line_breaks_within(tmp_path):
    cells = ['"a, b"', '"say ""hi"""', '"two\nlines"', "plain"] * 10
    path = write(tmp_path / "t.csv", cells, range(ROWS), labels(), names="t,n,y")
    rows, description = learnt(path)
    assert rows.description.columns[0].texts == ("a, b", "plain", 'say "hi"', "two\nlines")
    np.testing.assert_array_equal(rows.x[:, 4], np.arange(ROWS))
    (tmp_path / "p.csv").write_text('n,t\n1,"two\nlines"\noops,plain\n')
    with pytest.raises(FileError, match=r"p.csv: line 4, column 'n': 'oops' is no number"):
        encoded(tmp_path / "p.csv", description)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "must hold rows of at least two columns"), (b"\n \n", "at least two columns"),
        (b"a,b\n", "no row with a target"), (b"a\n1\n2\n", "at least two columns"),
        (b"a,b\n1,2\n3\n", "line 3 has 1 columns, the first line has 2; mend it"),
        (b'a,b\n1,2\n"3,4\n5,6\n', "a quotation mark may be left open there"),
        (b"a,b\n1,\x00\n", "line 2 is not text"), (bytes(range(256)), "is not text"),
        (b"a,b\n1,x\ninf,y\n", "line 3, column 'a': 'inf' is infinite"),
        (b"a,b\n1,x\n1e400,y\n", "'1e400' is infinite"),
        (b"a,b\n,x\n,y\n", "no column is left to predict from: column 'a' is empty"),
    ],
)
def test_files_that_are_refused(tmp_path, data, message):
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(FileError, match=re.escape(message)):
        learnt(tmp_path / "t.csv")


# -- what columns are


def column(tmp_path, cells, **options):
    """The kind of a column of these cells, its numbers, and what was said."""
    path = write(tmp_path / "t.csv", cells, labels(len(cells)), names="a,y")
    rows, description = learnt(path, **options)
    return rows.description.columns[0], rows.x, rows.notes, description


def test_missing_numbers_get_the_mean_and_a_column_of_their_own(tmp_path):
    cells = ["3", "", "NA", "5", "n/a", "-", "?", "null"] * 5
    found, x, notes, description = column(tmp_path, cells)
    assert (found.kind, found.missing, notes) == ("number", True, [])
    assert description.encoded_names() == ["a", "a is missing"]
    np.testing.assert_array_equal(x[:4], [[3, 0], [np.nan, 1], [np.nan, 1], [5, 0]])
    assert description.mean[0] == 4.0
    z = standardised(x, description)
    np.testing.assert_allclose(z[:3, 0], [-2, 0, 0])  # a deviation of 1 in a quarter of the rows


def test_a_few_texts_among_numbers_count_as_missing_and_it_is_said(tmp_path):
    cells = [str(i) for i in range(ROWS)]
    cells[7] = "oops"
    found, x, notes, description = column(tmp_path, cells)
    assert found.lenient and np.isnan(x[7, 0]) and x[7, 1] == 1
    assert notes == ["column 'a': 1 of 40 cells are no numbers, the first 'oops' (line 9, column "
                     "'a'); they count as missing (--categories a makes texts of all)"]
    (tmp_path / "p.csv").write_text("a\nwhat\n3\n")
    np.testing.assert_array_equal(
        encoded(tmp_path / "p.csv", description)[0], [[description.mean[0], 1], [3, 0]])


def test_half_texts_are_categories(tmp_path):
    found, x, _, _ = column(tmp_path, ["7", "low"] * 20)
    assert found.kind == "category" and found.texts == ("7", "low") and x.shape == (ROWS, 2)


@pytest.mark.parametrize("texts", [("True", "False"), ("true", "FALSE")])
def test_truths(tmp_path, texts):
    found, x, _, description = column(tmp_path, [texts[0], texts[1], ""] * 13)
    assert (found.kind, found.missing) == ("bool", True)
    np.testing.assert_array_equal(x[:3], [[1, 0], [0, 0], [np.nan, 1]])
    (tmp_path / "p.csv").write_text("a\nmaybe\n")
    with pytest.raises(FileError, match="line 2, column 'a': 'maybe' is neither True nor False"):
        encoded(tmp_path / "p.csv", description)


DATES = {
    "{y}-{m:02d}-{d:02d}": "year first", "{y}/{m}/{d}": "year first", "{d}.{m}.{y}": "day first",
    "{m}/{d}/{y}": "month first", "{d}/{m}/{y}": "day first",
    "{y}-{m:02d}-{d:02d} 06:30": "year first", "{y}-{m:02d}-{d:02d}T06:30:00.5Z": "year first",
}  # fmt: skip


@pytest.mark.parametrize("form", DATES)
def test_dates(tmp_path, form):
    days = [datetime.date(2023, 12, 9) + datetime.timedelta(9 * i) for i in range(ROWS)]
    found, x, notes, description = column(
        tmp_path, [form.format(y=d.year, m=d.month, d=d.day) for d in days])
    times = "06:30" in form
    assert (found.kind, found.order, found.times, notes) == ("date", DATES[form], times, [])
    part = 6.5 / 24 if times else 0.0
    np.testing.assert_allclose(x[:, 0], 9.0 * np.arange(ROWS) + part)
    since = np.array([(d - datetime.date(1970, 1, 1)).days for d in days]) + part
    np.testing.assert_allclose(x[:, 1], np.sin(2 * np.pi * since / 365.2425), atol=1e-9)
    np.testing.assert_allclose(x[:, 4], np.cos(2 * np.pi * since / 7), atol=1e-9)
    assert x.shape[1] == (7 if times else 5)
    if times:
        np.testing.assert_allclose(x[:, 5], np.sin(2 * np.pi * part), atol=1e-9)
    (tmp_path / "p.csv").write_text("a\n2024-02-30\n")
    with pytest.raises(FileError, match="'2024-02-30' is no date"):
        encoded(tmp_path / "p.csv", description)


def test_dates_that_may_be_read_in_two_ways(tmp_path):
    found, _, notes, _ = column(tmp_path, [f"{i % 12 + 1}/{i % 11 + 1}/2020" for i in range(ROWS)])
    assert found.order == "month first" and "read as month first" in notes[0]
    found, _, notes, _ = column(tmp_path, [f"{i % 12 + 1}.{i % 11 + 1}.2020" for i in range(ROWS)])
    assert found.order == "day first" and notes == []
    assert seconds_of("29.2.2023", "day first") is None


def test_unknown_categories_have_no_one(tmp_path):
    _, x, _, description = column(tmp_path, ["u", "v", "w", ""] * 10)
    assert description.encoded_names() == ["a = u", "a = v", "a = w", "a is missing"]
    np.testing.assert_array_equal(x[:4], np.eye(4))
    (tmp_path / "p.csv").write_text("a,y\nzz,\n,\nv,\n")
    np.testing.assert_array_equal(
        encoded(tmp_path / "p.csv", description)[0], [[0, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]])


def test_of_many_categories_the_frequent_ones_stand_alone(tmp_path):
    texts = [f"t{i:03d}" for i in range(100) for _ in range(2 + (i < 48))]
    found, x, _, description = column(tmp_path, texts)
    assert found.texts == tuple(f"t{i:03d}" for i in range(48)) and found.shared == 16
    assert x.shape[1] == 64 and (x.sum(axis=1) == 1).all()
    (tmp_path / "p.csv").write_text("a,y\nt099,\nnew,\nt000,\n")
    places = encoded(tmp_path / "p.csv", description)[0].argmax(1)
    assert places.tolist() == [48 + zlib.crc32(b"t099") % 16, 48 + zlib.crc32(b"new") % 16, 0]


def test_a_column_of_names_is_left_out_but_for_who_wants_it(tmp_path):
    names = [f"id{i}" for i in range(200)]
    path = write(tmp_path / "t.csv", names, range(200), labels(200), names="id,n,y")
    rows, _ = learnt(path)
    assert rows.description.names == ["n"]
    assert rows.notes == ["column 'id' is left out: 200 different texts in 200 rows (--categories "
                          "id takes it)"]
    rows, _ = learnt(path, categories=("id",))
    assert rows.description.names == ["id", "n"] and rows.x.shape == (200, 65)
    rows, _ = learnt(path, categories=("n",), ignore=("id",))
    assert rows.description.columns[0].kind == "category" and rows.x.shape == (200, 64)
    with pytest.raises(FileError, match="no column 'z' for --ignore; it has id, n, y"):
        learnt(path, ignore=("z",))


def test_a_hundred_thousand_texts(tmp_path):
    count = 100_000
    path = write(tmp_path / "t.csv", [f"c{i % 40_000}" for i in range(count)], labels(count),
                 names="a,y")
    rows, _ = learnt(path)
    assert rows.x.shape == (count, 64) and (rows.x.sum(axis=1) == 1).all()
    assert len(json.dumps(rows.description.to_json())) < 2000


def test_empty_and_constant_columns_and_the_index_of_pandas(tmp_path):
    path = write(tmp_path / "t.csv", range(ROWS), [""] * ROWS, [5] * ROWS, ["k"] * ROWS, labels(),
                 names=",e,c,k,y")
    rows, description = learnt(path)
    assert rows.description.names == ["c", "k"]
    assert rows.notes == ["a column without a name numbers the rows and is left out",
                          "column 'e' is empty and left out"]
    np.testing.assert_array_equal(standardised(rows.x, description), np.zeros((ROWS, 2)))
    np.testing.assert_array_equal(description.scale, 1)


def test_whole_numbers_beyond_all_bounds(tmp_path):
    found, x, _, _ = column(tmp_path, [str(10**25 + i * 10**22) for i in range(ROWS)])
    assert found.kind == "number"
    np.testing.assert_array_equal(x[:, 0], [float(10**25 + i * 10**22) for i in range(ROWS)])


# -- headers


def test_headers(tmp_path):
    path = write(tmp_path / "t.csv", range(ROWS), range(ROWS), labels(), names="a,a,a")
    assert reading.open_table(path).names == ["a", "a.1", "a.2"]
    path = write(tmp_path / "t.csv", range(ROWS), ["pq"[i % 2] for i in range(ROWS)], labels())
    table = reading.open_table(path)
    assert (table.named, table.names) == (False, ["column 1", "column 2", "column 3"])
    rows, description = learnt(path)
    assert rows.x.shape == (ROWS, 3) and not description.named
    (tmp_path / "p.csv").write_text("3,p\n4,q\n")
    assert encoded(tmp_path / "p.csv", description)[0].tolist() == [[3, 1, 0], [4, 0, 1]]
    (tmp_path / "p.csv").write_text("n,t\n4,q\n")
    assert encoded(tmp_path / "p.csv", description)[0].tolist() == [[4, 0, 1]]
    (tmp_path / "p.csv").write_text("3,p,y\n")
    with pytest.raises(FileError, match="has 3 columns, but the model takes 2 and it names no"):
        encoded(tmp_path / "p.csv", description)


def test_columns_are_found_by_name(tmp_path):
    path = write(tmp_path / "t.csv", range(ROWS), ["pq"[i % 2] for i in range(ROWS)], labels(),
                 names="n,t,y")
    _, description = learnt(path)
    for text in ("n,t\n3,q\n", "t,n\nq,3\n", "y,t,more,n\n,q,9,3\n", "3,q\n", "t;n\nq;3\n",
                 "n,t,y\n3,q\n"):  # the target named, but not there
        (tmp_path / "p.csv").write_text(text)
        assert encoded(tmp_path / "p.csv", description)[0].tolist() == [[3, 0, 1]], text
    (tmp_path / "p.csv").write_text("n,u\n3,q\n")
    with pytest.raises(FileError, match="has no column 't', which the model was trained on; it has n, u"):
        encoded(tmp_path / "p.csv", description)
    (tmp_path / "p.csv").write_text("n,t\n,q\n3,\n")
    found, unexpected = encoded(tmp_path / "p.csv", description)
    assert found.tolist() == [[19.5, 0, 1], [3, 0, 0]] and unexpected == {"n", "t"}


# -- targets

TARGETS = {
    "fractions": ([i / 8 for i in range(ROWS)], True), "halves": ([0.5, 1.5] * 20, False),
    "few": ([i % 20 for i in range(400)], False), "many": (list(range(60)), True),
    "ages": ([18 + i % 40 for i in range(400)], True),
    "letters": ([i % 26 for i in range(2000)], False), "texts": (labels(), False),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_which_targets_are_of_regression(tmp_path, name):
    y, regression = TARGETS[name]
    path = write(tmp_path / "t.csv", range(len(y)), y, names="a,b")
    rows, _ = learnt(path)
    assert rows.regression == regression
    assert bool(rows.notes) == regression
    if name == "texts":
        return
    assert rows.y.dtype == (np.float64 if regression else "U3" if name == "halves" else np.int64)
    assert learnt(path, regression=True)[0].y.tolist() == y
    assert not learnt(path, regression=False)[0].regression


def test_rows_without_a_target_are_left_out(tmp_path):
    y = ["" if i % 4 == 0 else "07" for i in range(ROWS)]
    rows, _ = learnt(write(tmp_path / "t.csv", range(ROWS), y, names="a,b"))
    assert rows.x[:, 0].tolist() == [i for i in range(ROWS) if i % 4] and set(rows.y) == {7}
    assert rows.notes == ["10 rows without a target are left out"]
    with pytest.raises(FileError, match="line 3, column 'b': 'x' is not a finite number"):
        learnt(write(tmp_path / "t.csv", [1, 2], [3, "x"], names="a,b"), regression=True)


# -- numbers


def test_moments_are_numpys_however_rows_come(rng):
    x = rng.normal(1e6, 1, size=(1000, 4)) * [1, 10, 1e-3, 1]
    x[:, 3] = 0.1
    x[rng.random((1000, 4)) < 0.2] = np.nan
    whole = Moments(4).add(x)
    parts = Moments(4)
    for part in np.array_split(x, [0, 1, 500]):
        parts.add(part)
    filled = np.where(np.isnan(x), np.nanmean(x, axis=0), x)
    for found in (whole, parts):
        np.testing.assert_allclose(found.mean(), np.nanmean(x, axis=0), rtol=1e-14)
        np.testing.assert_allclose(found.scale()[:3], filled.std(axis=0)[:3], rtol=1e-8)
        assert found.scale()[3] == 1


def test_numbers_are_those_of_a_scikit_learn_pipeline(tmp_path, rng):
    pandas = pytest.importorskip("pandas")
    count = 300
    frame = pandas.DataFrame({
        "a": rng.normal(5, 3, count), "b": rng.integers(0, 9, count).astype(float),
        "c": rng.choice(["u", "v", "w"], count), "d": rng.choice(["x", "y"], count),
    })
    frame.loc[rng.random(count) < 0.1, "b"] = np.nan
    frame.assign(y=labels(count)).to_csv(tmp_path / "t.csv", index=False)
    rows, description = learnt(tmp_path / "t.csv")
    steps = ColumnTransformer([
        ("a", SimpleImputer(), ["a"]), ("b", SimpleImputer(add_indicator=True), ["b"]),
        ("c", OneHotEncoder(handle_unknown="ignore", sparse_output=False), ["c", "d"]),
    ])
    pipeline = make_pipeline(steps, StandardScaler()).fit(frame)
    np.testing.assert_allclose(
        standardised(rows.x, description), pipeline.transform(frame), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(pipeline[-1].scale_, description.scale, rtol=1e-9)


# -- what a file keeps


def test_a_description_goes_through_json(tmp_path):
    path = write(tmp_path / "t.csv", range(ROWS), ["pq"[i % 2] for i in range(ROWS)],
                 [f"2024-01-{i % 28 + 1:02d}" for i in range(ROWS)], ["True", ""] * 20, labels(),
                 names="n,t,d,b,y")
    _, description = learnt(path)
    text = json.dumps(description.to_json(), allow_nan=False)
    again = Description.from_json(json.loads(text))
    assert again.columns == description.columns and again.target == description.target
    np.testing.assert_array_equal(encoded(path, again)[0], encoded(path, description)[0])


BROKEN = {
    "version": lambda d: d.update(version=2), "kind": lambda d: d["columns"][0].update(kind="what"),
    "mean": lambda d: d["mean"].pop(), "name": lambda d: d["columns"][0].update(name=3),
    "shared": lambda d: d["columns"][1].update(shared=10**9), "lacking": lambda d: d.pop("target"),
    "scale": lambda d: d["scale"].__setitem__(0, 0.0), "infinite": lambda d: d["mean"].__setitem__(0, 1e999),
    "day": lambda d: d["columns"].append({"kind": "date", "name": "d", "order": "day first", "origin": 1e999, "times": False}),
    "more": lambda d: d["columns"][0].update(more=1), "text": lambda d: d.update(scale="abc"),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_broken_descriptions_are_refused(tmp_path, name):
    path = write(tmp_path / "t.csv", range(ROWS), ["pq"[i % 2] for i in range(ROWS)], labels(),
                 names="n,t,y")
    found = learnt(path)[1].to_json()
    BROKEN[name](found)
    with pytest.raises(ValueError, match="not the description of a table"):
        Description.from_json(found)


def test_cells_of_every_kind_of_array():
    numbers = Cells("f", "a", np.array([1, 2], np.int8))
    assert numbers.texts == ["1", "2"] and numbers.truths.tolist() == [1, 2]
    floats = Cells("f", "a", np.array([1.0, np.nan]))
    assert floats.texts == ["1", ""] and floats.missing.tolist() == [False, True]
    times = Cells("f", "a", np.array(["2024-01-02", "NaT"], "datetime64[D]"))
    assert times.missing.tolist() == [False, True] and times.seconds("year first")[0] == 1704153600
    mixed = Cells("f", "a", [None, True, "x "])
    assert mixed.texts == ["", "True", "x"] and mixed.missing.tolist() == [True, False, False]


# -- lines that are parsed at once


@pytest.fixture
def small_pieces(monkeypatch):
    """Pieces of eight lines."""
    monkeypatch.setattr(reading, "_PIECE_CELLS", 8)


LATE = {"gap": "", "text": "low", "quotes": '"7"', "blank line": None, "infinite": "inf"}


@pytest.mark.parametrize("late", LATE)
def test_what_comes_after_many_lines_of_numbers(tmp_path, small_pieces, monkeypatch, late):
    """What a column is does not depend on where its odd cell stands."""
    cells = [str(i % 4) for i in range(ROWS)]
    lines = [f"{cell},{i / 2},{'yn'[i % 2]}" for i, cell in enumerate(cells)]
    if LATE[late] is None:
        lines.insert(30, "")
    else:
        lines[30] = f"{LATE[late]},15.0,y"
    (tmp_path / "t.csv").write_text("\n".join(["a,b,y", *lines, ""]))
    if late == "infinite":
        with pytest.raises(FileError, match="line 32, column 'a': 'inf' is infinite"):
            learnt(tmp_path / "t.csv")
        return
    rows, _ = learnt(tmp_path / "t.csv")
    np.testing.assert_array_equal(rows.x[:, -1], np.arange(ROWS) / 2)
    assert rows.y.tolist() == labels()
    found = rows.description.columns[0]
    assert (found.kind, found.missing) == ("number", late in ("gap", "text"))
    for category in ((), ("a",)):
        options = survey.Options(categories=category)
        at_once = learning.read_whole(reading.open_table(tmp_path / "t.csv"), options).x
        with monkeypatch.context() as patched:
            patched.setattr(reading.TextTable, "_plain_pieces", lambda *given: iter(()))
            one_by_one = learning.read_whole(reading.open_table(tmp_path / "t.csv"), options).x
        np.testing.assert_array_equal(at_once, one_by_one)


def test_texts_after_numbers_are_counted_with_them(tmp_path, small_pieces):
    path = write(tmp_path / "t.csv", [str(i % 3) for i in range(20)] + ["x", "y"] * 10, labels(),
                 names="a,y")
    assert learnt(path)[0].description.columns[0].texts == ("0", "1", "2", "x", "y")


def test_predictions_name_the_line_after_plain_ones(tmp_path, small_pieces):
    path = write(tmp_path / "t.csv", range(ROWS), range(ROWS), labels(), names="a,b,y")
    _, description = learnt(path)
    lines = [f"{i},{i}" for i in range(ROWS)]
    lines[25] = "25,oops"
    (tmp_path / "p.csv").write_text("\n".join(["b,a", *lines]))
    with pytest.raises(FileError, match="line 27, column 'a': 'oops' is no number"):
        encoded(tmp_path / "p.csv", description)
    lines[25] = "25,"
    (tmp_path / "p.csv").write_text("\n".join(["b,a", *lines]))
    found, unexpected = encoded(tmp_path / "p.csv", description)
    assert unexpected == {"a"} and found[25].tolist() == [description.mean[0], 25]
    np.testing.assert_array_equal(np.delete(found[:, 0], 25), np.delete(np.arange(ROWS), 25))
