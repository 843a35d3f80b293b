"""`Partitions` by themselves: what they are made of, their order, their files, the thread."""

from __future__ import annotations

import doctest
import threading
import time
import zipfile
from itertools import chain, islice, pairwise

import numpy as np
import pytest

import nbbn
from nbbn import FileError, Partitions
from nbbn.partitions import files
from nbbn.partitions.read_ahead import ReadAhead
from nbbn.partitions.sources import common_dtype
from nbbn.partitions.stream import Order, Stream
from nbbn.trainer import batches
from nbbn.training_loop import Samples


def numbered(counts):
    """Partitions whose rows and targets are the row's number in all."""
    ends = np.cumsum([0, *counts])
    return [
        (np.arange(a, b, dtype=float)[:, None] * [1, 10], np.arange(a, b))
        for a, b in pairwise(ends)
    ]


def prepared(number, part):
    return Samples(np.asarray(part.X), np.asarray(part.y), part.sample_weight)


def epochs(parts, batch_size, window, key, count, *, merge_tail=False):
    """Of some epochs the numbers of the rows of each batch."""
    partitions = Partitions(parts, window=window)
    headers = partitions.headers()
    counts = tuple(header.rows for header in headers)
    edges = batches(sum(counts), batch_size, merge_tail=merge_tail)
    like = Samples(np.empty((1, 2)), np.empty(1, int))
    found = []
    order = Order(counts, window, key, not partitions.in_order)
    with Stream(partitions, order, edges, prepared, like, range(count)) as stream:
        for plan in islice(stream.plans(), count):
            found.append([])
            for stretch in plan.stretches:
                samples, order_, own = stretch.samples, stretch.order, stretch.edges
                assert len(samples) <= sum(sorted(counts)[-window:]) + batch_size * 1.25
                for a, b in pairwise(own):
                    rows = order_[a:b]
                    np.testing.assert_array_equal(samples.x[rows, 1], 10.0 * samples.y[rows])
                    found[-1].append(samples.y[rows].tolist())
            assert len(found[-1]) == plan.steps
    return found


def rows_of(epoch):
    return list(chain.from_iterable(epoch))


COUNTS = [[40, 7, 0, 63, 25, 1, 30], [5] * 30, [3, 100, 2], [64], [0, 9, 0]]


@pytest.mark.parametrize("counts", COUNTS, ids=str)
@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("batch_size", [4, 16, 200])
def test_each_row_once_an_epoch_in_full_batches(counts, window, batch_size):
    for merge_tail in (False, True):
        for epoch in epochs(numbered(counts), batch_size, window, 3, 3, merge_tail=merge_tail):
            assert sorted(rows_of(epoch)) == list(range(sum(counts)))
            assert {len(batch) for batch in epoch[:-2]} <= {batch_size}
            sizes = np.diff(batches(sum(counts), batch_size, merge_tail=merge_tail))
            assert [len(batch) for batch in epoch] == sizes.tolist()


def test_order_follows_from_the_key_alone():
    given = numbered([20] * 9)
    one = epochs(given, 8, 3, 1, 3)
    assert one == epochs(given, 8, 3, 1, 3)
    assert one != epochs(given, 8, 3, 2, 3)
    assert one[0] != one[1] != one[2]
    # Of the first three partitions seen, all rows come before any other.
    first = rows_of(one[0])[:60]
    assert len({row // 20 for row in first}) == 3 and first != sorted(first)
    assert {row // 20 for row in first} != {row // 20 for row in rows_of(one[1])[:60]}
    functions = [lambda part=part: part for part in given]
    assert one == epochs(functions, 8, 3, 1, 3)


def test_without_a_key_rows_come_as_they_lie():
    for epoch in epochs(numbered([11, 0, 5, 40]), 8, 2, None, 2):
        assert rows_of(epoch) == list(range(56))


class Again:
    """An iterable that begins anew each time."""

    def __init__(self, parts):
        self.parts, self.begun = parts, 0

    def __iter__(self):
        self.begun += 1
        return iter(self.parts)


def test_an_iterable_is_shuffled_within_windows():
    again = Again(numbered([10, 0, 10, 10, 10]))
    found = epochs(again, 5, 2, 1, 3)
    for epoch in found:
        rows = rows_of(epoch)
        assert sorted(rows) == list(range(40)) and rows != sorted(rows)
        assert sorted(rows[:10]) != list(range(10)) or sorted(rows[:20]) == list(range(20))
    assert again.begun == 4  # to know the rows, and for three epochs
    assert next(part.y.tolist() for part in Partitions(again)) == list(range(10))
    with pytest.raises(TypeError, match="no length"):
        len(Partitions(again))


class Batches:
    """What Keras calls a Sequence."""

    def __init__(self, parts):
        self.parts = parts

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


def test_an_indexed_object_is_shuffled_like_a_list():
    given = numbered([10] * 6)
    assert epochs(Batches(given), 5, 2, 1, 2) == epochs(given, 5, 2, 1, 2)


def test_parts_are_named_tuples_in_order():
    parts = Partitions([np.ones((2, 3)), lambda: (np.zeros((1, 3)), [5], [0.5])])
    first, second = parts
    assert first.X.shape == (2, 3) and first.y is first.sample_weight is None
    assert second.y == [5] and second.sample_weight == [0.5]
    assert len(parts) == 2 and parts.rows == [2, None]
    assert repr(parts) == "<Partitions: 2 partitions, window=4>"


@pytest.mark.parametrize(
    ("given", "options", "error", "match"),
    [
        (iter([]), {}, TypeError, "an iterator can be gone over once"),
        ("data", {}, TypeError, "Partitions.from_files"), (3, {}, TypeError, "got int"),
        ({}, {}, TypeError, "got dict"), ([], {}, ValueError, "one partition at least"),
        ([np.ones((2, 2))], {"window": 0}, ValueError, "window must be a whole number"),
        ([np.ones((2, 2))], {"names": ["a", "b"]}, ValueError, "names has 2 entries for 1"),
        ([(np.ones((2, 2)), [1])], {}, ValueError, "partition 1: X has 2 rows, but y has 1"),
        ([(np.ones((2, 2)),) * 4], {}, ValueError, "got a tuple of 4"),
        ([{}], {}, TypeError, "partition 1: a partition must be X"),
        ([(np.ones((2, 2)), [1, 2], [1])], {"names": ["a"]}, ValueError, "a: X has 2 rows, but sam"),
        (Again([]), {"names": ["a"]}, ValueError, "names go with a list"),
    ],
)  # fmt: skip
def test_what_is_no_partitions(given, options, error, match):
    with pytest.raises(error, match=match):
        Partitions(given, **options)


def test_rows_of_other_shapes():
    parts = Partitions([np.ones((2, 2)), np.ones((2, 3))], names=["a", "b"])
    with pytest.raises(ValueError, match="b: X has 3 features, but a has 2"):
        parts.headers()
    with pytest.raises(ValueError, match=r"partition 2: X has rows of shape \(2, 1\)"):
        list(Partitions([lambda: np.ones((2, 2)), lambda: np.ones((2, 2, 1))]).with_headers())
    with pytest.raises(ValueError, match="the iterable gave none"):
        Partitions(Again([])).headers()


def test_another_number_of_rows_than_before():
    calls = []

    def shrinks():
        calls.append(1)
        return numbered([10 - len(calls) // 3])[0]

    with pytest.raises(ValueError, match=r"partition 2: has 9 rows now, it had 10"):
        epochs([numbered([10])[0], shrinks], 4, 1, 0, 3)


def test_dtypes():
    def of(*names):
        return common_dtype([np.dtype(name) for name in names]).name

    assert of("float32") == of("float32", "float32") == "float32"
    assert of("uint8") == of("bool") == "uint8"
    assert of("float32", "float64") == of("float16") == of("int64", "float32") == "float64"
    assert of("uint8", "float32") == "float32" and of("object") == "float64"
    assert of(">f4") == "float32"


# -- a thread that reads ahead


def alive():
    return [t for t in threading.enumerate() if t.name == "nbbn read-ahead"]


def test_two_items_are_there_at_a_time():
    made = []

    def items():
        for i in range(6):
            made.append(i)
            yield i

    with ReadAhead(items()) as ahead:
        for item in ahead:
            deadline = time.monotonic() + 5
            while len(made) < min(6, item + 2) and time.monotonic() < deadline:
                time.sleep(0.001)
            assert made[-1] == min(5, item + 1)
    assert alive() == []


def test_the_thread_is_one():
    with ReadAhead(nbbn.get_num_threads() for _ in range(1)) as ahead:
        assert list(ahead) == [1]


def test_errors_of_the_thread_come_out():
    def fails():
        yield 1
        raise FileError("data/3.npz: is broken")

    with pytest.raises(FileError, match=r"data/3\.npz"), ReadAhead(fails()) as ahead:
        assert next(ahead) == 1
        next(ahead)
    assert alive() == []
    with ReadAhead(iter([1])) as ahead:
        assert list(ahead) == [1] and list(ahead) == []
    assert alive() == []


def test_leaving_early_ends_the_thread():
    parts = Partitions(numbered([5] * 20))
    for part in parts:
        assert len(part.y) == 5
        break
    del part
    deadline = time.monotonic() + 5
    while alive() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert alive() == []


# -- files


def write(folder, kind, parts, **more):
    """A file for each part; what `from_files` takes besides."""
    for i, (X, y) in enumerate(parts):
        if kind == "npz":
            np.savez(folder / f"{i}.npz", X=X, y=y, **more)
        elif kind == "npy":
            np.save(folder / f"x{i}.npy", X)
            np.save(folder / f"y{i}.npy", y)
        else:
            pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
            import pyarrow.parquet as parquet

            columns = {f"c{j}": X[:, j] for j in range(X.shape[1])}
            columns = {"y": y, **columns} if i % 2 else {**dict(reversed(columns.items())), "y": y}
            if i == 0:
                columns = {"c0": columns["c0"], "y": y, "c1": columns["c1"]}
            parquet.write_table(pyarrow.table(columns), folder / f"{i}.parquet", row_group_size=7)
    if kind == "npy":
        return [(folder / f"x{i}.npy", folder / f"y{i}.npy") for i in range(len(parts))], {}
    return folder, {"target": "y"} if kind == "parquet" else {}


KINDS = pytest.mark.parametrize("kind", ["npz", "npy", "parquet"])


@KINDS
def test_files(kind, tmp_path):
    given = numbered([30, 0, 21, 8])
    where, options = write(tmp_path, kind, given)
    parts = Partitions.from_files(where, window=2, **options)
    assert parts.rows == [30, 0, 21, 8] and parts.window == 2
    headers = parts.headers()
    assert {header.shape for header in headers} == {(2,)}
    for (X, y), part, header in zip(given, parts, headers):
        np.testing.assert_array_equal(part.X, X)
        np.testing.assert_array_equal(part.y, y)
        assert part.sample_weight is None and header.dtype == part.X.dtype == np.float64
    assert headers[0].columns == (("c0", "c1") if kind == "parquet" else None)
    seen = []
    parts.headers(lambda name, part: seen.append((name, part)))
    assert all(part.X is None for _, part in seen)
    np.testing.assert_array_equal(seen[2][1].y, given[2][1])
    assert all(str(tmp_path) in name for name, _ in seen)
    pattern = f"{tmp_path}/x[02].npy" if kind == "npy" else f"{tmp_path}/[02].{kind}"
    assert Partitions.from_files(pattern).rows == [30, 21]


@pytest.mark.parametrize("kind", ["npy", "parquet"])
def test_large_files_are_several_partitions(kind, tmp_path, monkeypatch):
    given = numbered([100])
    where, options = write(tmp_path, kind, given)
    monkeypatch.setattr(files, "PIECE_BYTES", 400)
    parts = Partitions.from_files(where, **options)
    assert parts.rows == [25] * 4 if kind == "npy" else parts.rows == [21] * 4 + [16]
    assert f"(piece 2 of {len(parts)})" in parts.name(1)
    np.testing.assert_array_equal(np.concatenate([part.X for part in parts]), given[0][0])
    np.testing.assert_array_equal(np.concatenate([part.y for part in parts]), given[0][1])


def test_weights_in_files(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((2, 3)), y=[0, 1], sample_weight=[1.0, 2.0])
    (part,) = Partitions.from_files(tmp_path / "a.npz")
    assert part.sample_weight.tolist() == [1, 2]
    np.save(tmp_path / "x.npy", np.arange(6).reshape(2, 3))
    np.save(tmp_path / "w.npy", [3.0, 4.0])
    paths = tuple(tmp_path / f"{name}.npy" for name in ("x", "w", "w"))
    (part,) = Partitions.from_files([paths])
    assert part.sample_weight.tolist() == [3, 4]
    (part,) = Partitions.from_files(tmp_path / "x.npy", target=-1)
    assert part.y.tolist() == [2, 5] and part.X.tolist() == [[0, 1], [3, 4]]
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    import pyarrow.parquet as parquet

    table = pyarrow.table({"a": [1, 2], "w": [0.5, 1.5], "y": ["no", "yes"]})
    parquet.write_table(table, tmp_path / "t.parquet")
    (part,) = Partitions.from_files(tmp_path / "t.parquet", target="y", sample_weight="w")
    assert part.X.tolist() == [[1], [2]] and part.X.dtype == np.int64
    assert part.y.tolist() == ["no", "yes"] and part.sample_weight.tolist() == [0.5, 1.5]


def table(path, **columns):
    pyarrow = pytest.importorskip("pyarrow", reason="pip install pyarrow")
    import pyarrow.parquet as parquet

    parquet.write_table(pyarrow.table(columns), path)


def refused(where, match, **options):
    with pytest.raises(FileError, match=match):
        Partitions.from_files(where, **options)


def test_files_that_are_refused(tmp_path):
    refused(tmp_path / "none-*.npz", "none-.*: no file matches the pattern")
    refused(tmp_path / "none.npz", "none.npz: does not exist")
    refused(tmp_path, "the folder holds no .parquet or .npz or .npy file")
    refused([], "names no file")
    (tmp_path / "t.csv").write_text("1,2\n")
    refused(tmp_path / "t.csv", "other files are read by functions")
    for name in ("b.npz", "b.npy", "b.parquet"):
        for content in (b"nothing", b""):
            (tmp_path / name).write_bytes(content)
            refused(tmp_path / name, name)
    np.savez(tmp_path / "c.npz", x=np.ones((2, 2)))
    refused(tmp_path / "c.npz", "must hold an array X, and y for targets; it holds x")
    np.savez(tmp_path / "c.npz", X=np.array(["a", "b"]))
    refused(tmp_path / "c.npz", "rows and columns of numbers")
    refused(tmp_path / "c.npz", "target='y' names a column of a table", target="y")
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive, archive.open("X.npy", "w") as file:
        header = {"descr": "<f8", "fortran_order": False, "shape": (10**12, 4)}
        np.lib.format.write_array_header_1_0(file, header)
    np.savez(tmp_path / "e.npz", X=np.ones((2, 2)))
    refused(tmp_path / "d.npz", "d.npz: cannot be read: it is no readable .npz")
    (tmp_path / "e.npz").rename(tmp_path / "e.npy")
    refused(tmp_path / "e.npy", "e.npy is not a NumPy array file")
    np.save(tmp_path / "x.npy", np.ones((3, 2)))
    np.save(tmp_path / "y.npy", np.ones(2))
    refused([(tmp_path / "x.npy", tmp_path / "y.npy")], "y.npy: holds an array of shape")
    refused(tmp_path / "x.npy", "a .npy has none", target="y")
    refused(tmp_path / "x.npy", "target=5 is no column", target=5)
    refused(tmp_path / "y.npy", "must have rows and columns")


def test_tables_that_are_refused(tmp_path):
    table(tmp_path / "1.parquet", a=[1.0], b=[2.0], y=[0])
    table(tmp_path / "2.parquet", b=[1.0], y=[0], a=[2.0])
    parts = Partitions.from_files(tmp_path, target="y")
    assert [part.X.tolist() for part in parts] == [[[1, 2]], [[2, 1]]]
    table(tmp_path / "3.parquet", a=[1.0], c=[2.0], y=[0])
    refused(tmp_path, r"3.parquet: its columns are not those of .*1.parquet: it lacks 'b' and has "
            "besides 'c'", target="y")
    table(tmp_path / "3.parquet", a=[1.0], y=[0])
    refused(tmp_path, r"3.parquet: its columns are not those.*lacks 'b'", target="y")
    table(tmp_path / "3.parquet", a=[1.0], b=[2.0])
    refused(tmp_path, "3.parquet has no column 'y' for target; it has a, b", target="y")
    table(tmp_path / "3.parquet", a=[1.0], b=["x"], y=[0])
    refused(tmp_path, "3.parquet: column 'b' holds no numbers", target="y")
    table(tmp_path / "3.parquet", a=[None, 1.0], b=[1.0, 2.0], y=[0, 1])
    with pytest.raises(FileError, match=r"3\.parquet: column 'a' has 1 missing values"):
        list(Partitions.from_files(tmp_path, target="y"))


@KINDS
def test_a_file_that_vanishes(kind, tmp_path):
    where, options = write(tmp_path, kind, numbered([30, 4, 21, 8]))
    parts = Partitions.from_files(where, **options)
    for path in tmp_path.glob("*2.*"):
        path.unlink()
    with pytest.raises(FileError, match=r"2\.\w+: does not exist"):
        list(parts)
    assert alive() == []


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_examples():
    assert nbbn.Partitions is Partitions
    finder = doctest.DocTestFinder(recurse=True)
    tests = [test for test in finder.find(Partitions, "Partitions") if test.examples]
    assert len(tests) == 2
    for test in tests:
        assert doctest.DocTestRunner(verbose=False).run(test).failed == 0
