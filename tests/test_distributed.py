"""nbbn.distributed: several ranks fit as one machine does.

Two ranks run on MPICH, more on Open MPI; where either is missing its tests are skipped.
"""

from __future__ import annotations

import functools
import json
import re
import tempfile
from pathlib import Path

import mpi
import numpy as np
import pytest
import rank_jobs

import nbbn.cli
from nbbn.commands.training_partitions import share_of

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

TWO, THREE = ("mpich", [9, 3]), ("openmpi", [15, 5, 0])
NAMES = list(rank_jobs.CASES)


@pytest.fixture(scope="module", autouse=True)
def _ranks_that_stay():
    yield
    mpi.end_all()


@functools.cache
def job(kind, ranks, name, *arguments):
    """A job that several tests look at; its arguments as JSON."""
    return mpi.do(kind, ranks, name, *map(json.loads, arguments))


def cases(kind, counts, shards=None, dtype="float64", names=tuple(NAMES)):
    """The reports of the ranks that fit some cases."""
    arguments = (list(names), counts, shards, dtype)
    return job(kind, len(counts), "cases", *map(json.dumps, arguments)).results


@functools.cache
def alone(name):
    """A case on one machine."""
    return rank_jobs.fitted_alone(name)


@pytest.mark.parametrize("kind, counts", [TWO, THREE], ids=["two", "three"])
@pytest.mark.parametrize("name", NAMES)
def test_ranks_fit_as_one_machine(name, kind, counts):
    """With rows sorted by class, parts of other sizes, and a rank without rows."""
    first, *others = cases(kind, counts)
    model = alone(name)
    for figure, values in rank_jobs.curves(model).items():
        np.testing.assert_allclose(first[name]["curves"][figure], values, rtol=1e-12,
                                   err_msg=figure)
    np.testing.assert_allclose(first[name]["weights"], rank_jobs.weights_of(model), rtol=1e-9,
                               atol=1e-9)
    assert all(other[name]["digest"] == first[name]["digest"] for other in others)


def test_many_rows_in_unequal_parts():
    """15,000, 5,000 and no rows, sorted by class: one machine's losses to twelve digits."""
    found = job("openmpi", 3, "fit_of_many", json.dumps([15_000, 5_000, 0])).results
    assert len({one["digest"] for one in found}) == 1
    model, (x, y, *_) = rank_jobs.many_rows()
    model.fit(x, y)
    np.testing.assert_allclose(found[0]["curves"]["loss"], model.loss_curve_, rtol=1e-12)


@pytest.mark.parametrize("kind, counts", [TWO, THREE], ids=["two", "three"])
def test_graphs_fit_as_on_one_machine(kind, counts):
    first, *others = job(kind, len(counts), "fit_of_graph", json.dumps(counts), "8").results
    model, (x, y) = rank_jobs.graph(), rank_jobs.rows("labels")
    ref = model.fit(x, y, epochs=3, batch_size=64, verbose=0).history["loss"]
    np.testing.assert_allclose(first["loss"], ref, rtol=1e-12)
    assert all(other == first for other in others)


@pytest.mark.parametrize("name", NAMES)
def test_the_same_bits_by_any_mpi(name):
    counts = TWO[1]
    assert cases("mpich", counts)[0][name] == cases("openmpi", counts)[0][name]


SHARDED = ("early stopping", "dropout", "stored elements", "images")


@pytest.mark.parametrize("kind, counts", [
    ("mpich", [2, 1]), ("openmpi", [7, 5, 0]), ("openmpi", [1, 5, 0, 6]),
    ("openmpi", [1, 1, 1, 1, 1, 1, 1, 1]),
], ids=lambda value: str(len(value)) if isinstance(value, list) else value)
def test_shards_give_the_same_bits_on_any_number_of_ranks(kind, counts):
    one = cases("mpich", [1], 8, "float32", SHARDED)[0]
    found = cases(kind, counts, 8, "float32", SHARDED)[0]
    assert {name: found[name]["digest"] for name in SHARDED} == {
        name: one[name]["digest"] for name in SHARDED}


def test_threads_change_no_bit():
    names = ["adam", "images"]
    teams = mpi.run("openmpi", 2, "cases_of_teams", names, TWO[1],
                    env={"NUMBA_NUM_THREADS": "2"}).results
    found = cases("openmpi", TWO[1])
    assert [teams[0][name] for name in names] == [found[0][name] for name in names]


def test_callbacks_are_the_first_ranks():
    first, second = job("mpich", 2, "sequential", "[2, 1]").results
    assert first["history"] == second["history"] and first["weights"] == second["weights"]
    assert len(first["history"]["val_loss"]) == 2  # stopped
    assert first["seen"] == [0, 1] and second["seen"] == []
    assert first["rate"] == second["rate"] == 0.0125
    assert first["again"] == second["again"] == 1


@pytest.mark.parametrize("kind, counts", [TWO, THREE], ids=["two", "three"])
def test_recalibrate(kind, counts):
    for differences in mpi.do(kind, len(counts), "recalibrated", counts).results:
        assert max(differences) < 1e-10


# What is wrong: the error's kind and words.
REFUSED = {
    "nan": ("ValueError", "rank 1: .*NaN"),
    "columns": ("ValueError", r"rank 1 has X with \(columns, .*5.*rank 0 has .*12.*the same"),
    "words": ("ValueError", "words on some ranks and numbers on others"),
    "lengths": ("ValueError", "rank 1: X, y and sample_weight must have as many rows"),
    "weights": ("ValueError", "rank 1 has sample_weight given True, rank 0 has False"),
    "parameters": ("ValueError", "MLPClassifier: rank 1 has alpha 0.1, rank 0 has 0.2"),
    "every rank": ("InvalidParameterError", "^The 'alpha' parameter"),
    "shards": ("ValueError", "shards=1 are fewer than the 2 ranks"),
    "other shards": ("ValueError", "rank 1 has shards 8, rank 0 has 9"),
    "nothing": ("ValueError", "no rank has any rows"),
    "partitions": ("TypeError", "rank 1: X is Partitions.*give each rank its own rows as arrays"),
    "model": ("TypeError", "model must be an estimator or a Sequential"),
    "kernels": ("ValueError", "rank 1 has kernels other"),
    "callback": ("OSError", "the disk is full"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_what_one_rank_refuses_all_raise(what):
    kind, words = REFUSED[what]
    for found in job("mpich", 2, "refused", json.dumps(list(REFUSED))).results:
        name, message, is_fitted = found[what]
        assert name == kind and re.search(words, message), (name, message)
        assert not is_fitted


def test_an_error_of_one_rank_alone_ends_the_job():
    done = mpi.run("mpich", 2, "stumble", [1, 1])
    assert done.status != 0
    assert "rank 1 ends the job of 2 ranks" in done.errors and "the disk is full" in done.errors


def test_ctrl_c_at_one_rank_stops_all_after_the_same_step():
    first, second = mpi.do("mpich", 2, "interrupted", [2, 1]).results
    assert first[0] == second[0] < 50 and first[2] == second[2]
    assert "Training interrupted by user." in first[1]


@functools.cache
def left_behind(kind, counts, killed):
    """The checkpoint of a job of 8 shards of which one rank has died."""
    counts = json.loads(counts)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "disturbed")
        assert mpi.run(kind, len(counts), "checkpointed", str(path), counts, 8, killed).status != 0
        return path.read_bytes()


@pytest.mark.parametrize("killed", [0, 1])
def test_a_rank_that_dies_ends_the_job_and_others_go_on(killed, tmp_path):
    """On another number of ranks, to the bits of a fit that nothing disturbed."""
    expected = job("mpich", 2, "checkpointed", "null", "[1, 1]", "8").results[0]
    path = tmp_path / "disturbed"
    path.write_bytes(left_behind("mpich", "[1, 1]", killed))
    assert mpi.do("mpich", 1, "checkpointed", str(path), [1], 8).results[0] == expected


def test_a_checkpoint_goes_on_on_other_ranks(tmp_path):
    path = tmp_path / "checkpoint"
    expected = job("openmpi", 3, "checkpointed", "null", "[3, 1, 2]", "8").results[0]
    path.write_bytes(left_behind("openmpi", "[3, 1, 2]", 2))
    found = mpi.do("openmpi", 4, "checkpointed", str(path), [1, 1, 0, 1], 8)
    assert found.results[0] == expected


def test_a_checkpoint_of_other_rows_or_shards_is_refused(tmp_path):
    path = tmp_path / "checkpoint"
    path.write_bytes(left_behind("mpich", "[1, 1]", 1))
    done = mpi.do("mpich", 2, "checkpointed", str(path), [1, 1], 4)
    assert done.status != 0 and "differs in shards" in done.errors


def test_without_mpi4py(monkeypatch):
    import sys

    import nbbn.distributed
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    with pytest.raises(ImportError, match="needs mpi4py and an MPI: pip install mpi4py mpich"):
        nbbn.distributed.fit(nbbn.MLPClassifier(), np.zeros((2, 2)), [0, 1])


@pytest.fixture
def table(tmp_path, rng):
    """Numbers and an answer, in a file."""
    x = rng.normal(size=(300, 3))
    path = tmp_path / "table.csv"
    lines = [",".join(map(str, [*row, "yes" if row[0] + row[1] > 0 else "no"])) for row in x]
    path.write_text("\n".join(["a,b,c,answer", *lines]) + "\n")
    return path


def test_train_by_mpirun(table, tmp_path):
    options = ["--hidden", "8", "--epochs", "3"]
    done = mpi.run_command("mpich", 2, "train", table, tmp_path / "two.safetensors", *options)
    assert done.status == 0, done.errors
    assert "3 epochs on 270 rows of 3 columns on 2 ranks" in done.text
    assert done.text.count("written to") == 1
    assert nbbn.cli.main(["train", str(table), str(tmp_path / "one.safetensors"), *options]) == 0
    one, two = (nbbn.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    np.testing.assert_allclose(two.loss_curve_, one.loss_curve_, rtol=1e-12)


def test_what_train_refuses_by_mpirun(table, tmp_path):
    done = mpi.run_command("mpich", 2, "train", tmp_path / "no.csv", tmp_path / "m.safetensors")
    assert done.status == 2
    assert [line for line in done.errors.splitlines() if "no.csv" in line] == [
        f"python -m nbbn train: {tmp_path / 'no.csv'}: No such file or directory"]
    done = mpi.run_command("mpich", 2, "train", table, table, tmp_path / "m.safetensors",
                           "--window", 1)
    assert done.status == 2 and done.errors.count("--window 1: each of 2 ranks") == 1


@pytest.fixture
def pieces(table):
    """The rows of the table, sorted by class, in three files, with texts and gaps."""
    head, *lines = table.read_text().splitlines()
    lines.sort(key=lambda line: line.endswith("yes"))
    for i in range(0, len(lines), 7):
        lines[i] = lines[i][lines[i].index(",") :]
    lines = [f"{'uvw'[i % 3]},{line}" for i, line in enumerate(lines)]
    folder = table.with_name("pieces")
    folder.mkdir()
    for name, some in (("a", lines[:20]), ("b", lines[20:190]), ("c", lines[190:])):
        (folder / f"{name}.csv").write_text("\n".join([f"text,{head}", *some]) + "\n")
    whole = table.with_name("whole.csv")
    whole.write_text("\n".join([f"text,{head}", *lines]) + "\n")
    return folder, whole


def test_ranks_train_on_their_part_of_several_files(pieces, tmp_path, capsys):
    folder, whole = pieces
    options = ["--hidden", "8", "--epochs", "3", "--validation", "0"]
    done = mpi.run_command("mpich", 2, "train", folder, tmp_path / "two.safetensors", *options)
    assert done.status == 0, done.errors
    assert "on 300 rows of 4 columns, as 7 of numbers, on 2 ranks" in done.text
    assert nbbn.cli.main(["train", str(whole), str(tmp_path / "one.safetensors"), *options]) == 0
    one, two = (nbbn.load(tmp_path / f"{name}.safetensors") for name in ("one", "two"))
    np.testing.assert_allclose(two.loss_curve_, one.loss_curve_, rtol=1e-9)
    found = []
    for name in ("one", "two"):
        out = tmp_path / f"{name}.npy"
        assert nbbn.cli.main(["predict", str(tmp_path / f"{name}.safetensors"), str(whole),
                              str(out), "--proba"]) == 0
        found.append(np.load(out))
    np.testing.assert_allclose(found[1], found[0], atol=1e-9)


def test_several_files_by_mpirun_keep_the_same_rows_aside(pieces, tmp_path, capsys):
    folder, _ = pieces
    options = ["--hidden", "8", "--epochs", "3"]
    done = mpi.run_command("mpich", 2, "train", folder, tmp_path / "two.safetensors", *options)
    assert done.status == 0, done.errors
    assert nbbn.cli.main(["train", str(folder), str(tmp_path / "one.safetensors"), *options]) == 0
    for text in (done.text, capsys.readouterr().out):
        assert "on 270 rows" in text and "on the 30 rows kept aside" in text


def test_a_file_that_one_rank_cannot_read_ends_all(pieces, tmp_path):
    folder, _ = pieces
    (folder / "c.csv").write_text("other,columns\n1,2\n")
    done = mpi.run_command("mpich", 2, "train", folder, tmp_path / "m.safetensors")
    assert done.status == 2 and done.errors.count("its columns are not those of") == 1


@pytest.mark.parametrize("rows, ranks, shares", [
    ([5, 5], 2, [(0, 1), (1, 2)]), ([1, 1, 8], 2, [(0, 2), (2, 3)]),
    ([9], 3, [(0, 0), (0, 1), (1, 1)]), ([4, 0, 4, 0], 2, [(0, 1), (1, 3)]),
])  # fmt: skip
def test_partitions_of_ranks_follow_one_another(rows, ranks, shares):
    assert [share_of(rows, rank, ranks) for rank in range(ranks)] == shares
