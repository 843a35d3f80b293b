"""The dashboard: what asv stored is read right, the page says it, and what cannot be measured is
refused.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sample_results import git, make_sample

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("asv", reason="the dashboard reads asv's results")
if shutil.which("git") is None:
    pytest.skip("the dashboard asks git for commits", allow_module_level=True)

from asv_bench.dashboard import charts, command, commits, page, records, sections, suite, summary  # noqa: E402  # noqa: E402
from asv_bench.dashboard.paths import SUITE, DashboardError, Data, default_data  # noqa: E402

RATIO = "versus.Inference.track_ratio"


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """A data folder with three commits' results, their repository, and their hashes."""
    return make_sample(tmp_path_factory.mktemp("sample"))


# -- reading


def test_records_expand_parameters(sample):
    data, _, hashes = sample
    found = {(r.commit, *r.key): r for r in records.load_records(data.results)}
    assert found[hashes[0], RATIO, ("1", "PyTorch")].value == 2.0
    assert found[hashes[0], RATIO, ("1", "JAX")].value == 4.0
    assert found[hashes[2], RATIO, ("1000", "PyTorch")].value == 0.5
    skipped = found[hashes[2], RATIO, ("1000", "JAX")]
    assert math.isnan(skipped.value)
    assert not skipped.measured
    failed = found[hashes[2], "versus.ConvolutionalTraining.track_ratio", ("PyTorch",)]
    assert failed.value is None
    assert not failed.measured
    assert found[hashes[1], "norm.Forward.time_nbbn", ("(32, 128)",)].value == 6e-6
    assert len(found) == 3 * (4 + 1 + 2) + 1 + 2


def test_records_of_another_version_are_not_read(sample, tmp_path):
    data, _, hashes = sample
    other = Data(tmp_path / "data")
    shutil.copytree(data.results, other.results)
    described = other.results / "benchmarks.json"
    text = described.read_text()
    described.write_text(re.sub(r'("type": "time".*?"version": )"1"', r'\1"2"', text))
    assert described.read_text() != text
    assert "norm.Forward.time_nbbn" not in {
        r.benchmark for r in records.load_records(other.results)
    }


def test_of_two_environments_the_latest_counts(sample, tmp_path):
    data, _, hashes = sample
    other = Data(tmp_path / "data")
    shutil.copytree(data.results, other.results)
    first = other.results / "bench-box" / f"{hashes[0][:8]}-existing-py.json"
    later = first.read_text().replace("8e-06", "9e-06").replace('"existing-py"', '"existing-new"')
    later = later.replace("1700000000000, 1.0", "1800000000000, 1.0")
    first.with_name(f"{hashes[0][:8]}-existing-new.json").write_text(later)
    found = {(r.commit, *r.key): r.value for r in records.load_records(other.results)}
    assert found[hashes[0], "norm.Forward.time_nbbn", ("(32, 128)",)] == 9e-6


@pytest.mark.parametrize(
    ("stored", "read"),
    [("'JAX'", "JAX"), ('"it"', "it"), ("(32, 128)", "(32, 128)"), ("1", "1"), ("'", "'")],
)
def test_parameters_lose_their_quotes(stored, read):
    assert records.readable(stored) == read


def test_no_results_is_an_error(tmp_path):
    with pytest.raises(DashboardError, match=r"no benchmarks\.json"):
        records.load_records(tmp_path)
    with pytest.raises(DashboardError, match="no results of commits on this branch"):
        records.latest_machine([])


# -- summary


def topics_of(sample):
    data, _, hashes = sample
    found = records.load_records(data.results)
    return {
        t.name: t
        for t in summary.summarize(found, records.load_benchmarks(data.results), list(hashes))
    }


def test_rows_stand_under_their_peer(sample):
    topic = topics_of(sample)[RATIO]
    assert list(topic.rows) == ["PyTorch", "JAX"]
    one, thousand = topic.rows["PyTorch"]
    assert (one.label, one.values) == ("rows 1", [2.0, 2.2, 4.0])
    assert (thousand.label, thousand.points) == ("rows 1000", [(0, 3.0), (1, 3.3), (2, 0.5)])
    assert topic.rows["JAX"][1].latest is None
    assert topic.rows["JAX"][1].missing == "not measured"


def test_mean_is_geometric_and_of_the_same_work(sample):
    rows = topics_of(sample)[RATIO].rows
    assert [i for i, *_ in summary.means(rows["PyTorch"])] == [0, 1, 2]
    assert [v for _, v, _ in summary.means(rows["PyTorch"])] == pytest.approx(
        [6**0.5, 7.26**0.5, 2**0.5]
    )
    # Not before each of the works has a figure; one without is carried on.
    partly = [summary.Row("a", [(0, 2.0), (1, 4.0), (3, 9.0)]), summary.Row("b", [(1, 100.0)])]
    assert summary.means(partly) == [(1, pytest.approx(20.0), 0), (3, pytest.approx(30.0), 1)]
    assert summary.means([summary.Row("a")]) == []


def test_a_tile_and_the_charts_beside_it_are_of_the_same_figures(sample):
    """A tile once said 0.416 beside a chart that ended at 1.36."""
    topics = list(topics_of(sample).values())
    for peer, found in summary.standing(topics, newest=2).items():
        whole = [row for topic in topics for row in topic.rows.get(peer, []) if row.points]
        assert found.rows == whole
        assert summary.means(whole)[-1][1] == pytest.approx(found.mean)
        parts = [(summary.means(rows)[-1][1], len(rows)) for rows in found.topics.values()]
        count = sum(n for _, n in parts)
        together = math.exp(sum(n * math.log(mean) for mean, n in parts) / count)
        assert together == pytest.approx(found.mean)


def test_standing_counts_works_ahead(sample):
    found = summary.standing(list(topics_of(sample).values()), newest=2)
    assert list(found) == ["PyTorch", "JAX"]
    pytorch = found["PyTorch"]
    assert sorted(pytorch.ratios) == [0.5, 2.5, 4.0]
    assert (pytorch.ahead, pytorch.older) == (2, 1)  # 2.5 is of the commit before
    assert pytorch.mean == pytest.approx(5 ** (1 / 3))


def test_texts_are_the_classes_own():
    texts = summary.documentation(SUITE)
    assert texts["versus.Inference"].startswith("Probabilities of the folded")
    assert "norm.Forward" in texts


# -- drawings and page


def test_bars_grow_from_one():
    assert 'class="ahead" x="50.0" y="1" width="10.0"' in charts.bar(2.0)
    assert 'class="behind" x="40.0" y="1" width="10.0"' in charts.bar(0.5)
    assert 'x="0.0"' in charts.bar(1e-6)


def test_ticks_hold_the_figures():
    assert charts.ticks(1.0, 7.0) == [1, 2, 5, 10]
    assert charts.ticks(0.4, 1.0) == [0.2, 0.5, 1]
    assert charts.ticks(1.0, 1.0) == [1, 2]


def test_history_marks_every_figure():
    points = {"A & B": [(0, 2.0, 0), (2, 4.0, 3)]}
    drawn = charts.history(points, ["a", "b", "c"], {"A & B": 1})
    assert drawn.count("<circle") == 2 and drawn.count("carried") == 1
    assert "A &amp; B: 2 at a<" in drawn
    assert "A &amp; B: 4 at c, 3 of its figures of an earlier commit" in drawn
    assert charts.history({}, ["a"], {}) == ""


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.25, "seconds", "250 ms"), (2.0, "s", "2 s"), (5e-6, "seconds", "5 &micro;s"),
        (2**20 * 3, "bytes", "3 MiB"), (0.5, "share", "0.5 share"),
    ],
)
def test_figures_read_well(value, unit, text):
    assert sections.figure(value, unit) == text


def test_page_says_what_was_measured(sample, tmp_path):
    data, repository, hashes = sample
    text = page.write_page(data, tmp_path, "main", repo=repository).read_text()
    plain = " ".join(re.sub(r"<[^>]+>", " ", text.split("</style>")[1]).split())
    assert f"{hashes[2][:10]} Change 2 &lt;of three&gt;" in plain
    assert "Some CPU, 2 cores, Linux" in plain
    assert "8 GiB" in plain
    assert "numba 0.68.1, torch 2.13.0, jax not installed" in plain
    assert re.search(
        r"PyTorch\s+1\.71&times;\s+geometric mean of 3 works; ahead in 2 of 3, the least 0\.5&times;; 1 measured at",
        plain,
    )
    assert re.search(r"rows 1000\s+0\.5&times;", plain)
    assert "not measured: rows 1000" in plain
    assert re.search(
        rf"all\s+failed at {hashes[2][:8]}\s*; at {hashes[1][:8]}, 2023-11-15\s+2\.5&times;", plain
    )
    assert "do not trust" not in plain
    # Times and spread stand beside the ratios; what rounds do not agree on is said.
    assert "nbbn 10 &micro;s, PyTorch 40 &micro;s; half of 5 rounds within 3.8 to 4.3" in plain
    assert "PyTorch 1 ms; half of 5 rounds within 0.4 to 1.2: not told apart from 1" in plain
    assert "openblas 0.3.30 with kernels for Haswell on 2 threads" in plain
    assert "OPENBLAS_CORETYPE=Haswell" in plain
    # The tile names its parts, with the figures that the topics' charts end with.
    assert re.search(r"Inference\s+1\.41&times;\s+2 works", plain)
    assert re.search(r"Convolutional training\s+2\.5&times;\s+one work", plain)
    assert re.search(r"by commit\.\s+PyTorch 1\.41&times;\s+JAX 8&times;", plain)
    # A change is marked where the spreads of both figures do not meet.
    assert '<span class="change sure">-17 %' in text
    assert '<span class="change unsure" title="within the spread of both figures">+0 %' in text
    assert "4.5 &micro;s to 5.4 &micro;s, 99 % confidence" in plain
    assert not re.search(r'(?:src|href)="(?:https?:)?//', text)


def test_page_shows_the_source_of_each_benchmark(sample, tmp_path):
    data, repository, _ = sample
    text = page.write_page(data, tmp_path, "main", repo=repository).read_text()
    section = text.split('<section id="versus.Inference.track_ratio"')[1].split("</section>")[0]
    assert "class Inference(_Ratio):" in section and "def prepare(self, rows: int" in section
    assert summary.sources(SUITE)["norm.Forward"].startswith("class Forward(")


def test_the_figures_can_be_had_as_data(sample, tmp_path):
    data, repository, hashes = sample
    page.write_page(data, tmp_path, "main", repo=repository)
    found = json.loads((tmp_path / "figures.json").read_text())
    by_name = {(each["benchmark"], *each["parameters"]): each for each in found}
    inference = by_name[RATIO, "1", "PyTorch"]
    assert inference["figures"] == dict(zip(hashes, [2.0, 2.2, 4.0]))
    assert inference["details"][hashes[2]]["own"] == [9e-6, 1e-5, 1.1e-5]
    forward = by_name["norm.Forward.time_nbbn", "(32, 128)"]
    assert forward["intervals"][hashes[2]] == [4.5e-6, 5.4e-6] and forward["unit"] == "seconds"


@pytest.mark.parametrize(("address", "web"), [
    ("https://example.org/some/nbbn.git", "https://example.org/some/nbbn/commit/"),
    ("https://me:secret@example.org/some/nbbn", "https://example.org/some/nbbn/commit/"),
    ("git@example.org:some/nbbn.git", "https://example.org/some/nbbn/commit/"),
    ("ssh://git@example.org:22/some/nbbn/", "https://example.org/some/nbbn/commit/"),
    ("/home/me/nbbn", None), ("../nbbn", None), ("https://localhost/nbbn.git", None),
    ("http://127.0.0.1:8000/nbbn.git", None), (None, None),
])
def test_commits_are_linked_where_their_page_is_known(sample, tmp_path, address, web):
    data, source, hashes = sample
    repository = tmp_path / "repository"
    shutil.copytree(source, repository)
    if address is not None:
        git(repository, "remote", "add", "origin", address)
    git(repository, "tag", "v1", hashes[1])
    git(repository, "tag", "-m", "x", "v2", hashes[1])
    assert commits.page_of_commits(repository) == web
    text = page.write_page(data, tmp_path, "main", repo=repository).read_text()
    links = [f'<a href="{web}{commit}"><code>{commit[:10]}</code></a>' for commit in hashes]
    assert all((link in text) == (web is not None) for link in links)
    listed = text.split('<details id="commits">')[1]
    assert f"<code>{hashes[0][:10]}</code>" in listed and "Change 0 &lt;of three&gt;" in listed
    assert "v1, v2, 2023-11-15: Change 1" in listed
    assert "secret" not in text and "/home/me" not in text


def test_details_of_several_runs_are_put_together(tmp_path):
    data, lines = Data(tmp_path / "data"), tmp_path / "lines"
    for params, ratio in ((["1", "'JAX'"], 2.0), (["1", "'JAX'"], 3.0), (["(32, 128)"], 4.0)):
        monkey = {"benchmark": "versus.A.track_ratio", "parameters": params, "ratio": ratio}
        lines.write_text(json.dumps(monkey) + "\n")
        records.save_details(data, "box", "f" * 40, lines)
    lines.unlink()
    records.save_details(data, "box", "f" * 40, lines)
    assert records.load_details(data, "box", "f" * 40) == {
        ("versus.A.track_ratio", ("1", "JAX")): {"ratio": 3.0},
        ("versus.A.track_ratio", ("(32, 128)",)): {"ratio": 4.0},
    }
    assert records.load_details(data, "box", "0" * 40) == {}


def test_context_says_which_blas_and_what_is_set(monkeypatch):
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")
    found = suite.context_of(sys.executable, ROOT, "quick")
    assert found["pinned"]["OPENBLAS_CORETYPE"] == "Haswell"
    assert any("openblas" in each and " threads" in each for each in found["blas"])


def test_changed_files_are_named_whole(sample, tmp_path):
    """The first one's name once lacked its first letter."""
    _, source, _ = sample
    repository = tmp_path / "repository"
    shutil.copytree(source, repository)
    (repository / "file").write_text("changed")
    assert commits.changed("file", repo=repository) == ["file"]


def test_an_unknown_commit_is_named(sample):
    with pytest.raises(DashboardError, match=r"^'nosuch' names no commit of this repository; give a br"):
        commits.commit_of("nosuch", sample[1])


def test_own_figures_stand_under_their_topic(sample, tmp_path):
    data, repository, _ = sample
    text = page.write_page(data, tmp_path, "main", repo=repository).read_text()
    assert re.findall('<h3 id="([a-z]+)">', text) == ["load", "norm", "start"]
    load = text.split('<h3 id="load">')[1].split("<h3")[0]
    assert "Latency under load" in load
    for name, figure in (("track_mean", "150 us"), ("track_99th_percentile", "900 us")):
        section = load.split(f'<details id="load.Predict.{name}" ')[1].split("</details>")[0]
        assert figure in section


def test_page_warns_of_other_load(sample):
    assert "do not trust" in page.load_text(1.5)
    assert page.load_text(None) == ""


def test_page_leaves_out_commits_of_other_branches(sample, tmp_path):
    """Such as those that a rebase has taken out of the repository.

    Asv's page breaks where it meets one.
    """
    data, repository, hashes = sample
    other = Data(tmp_path / "data")
    shutil.copytree(data.results, other.results)
    first = other.results / "bench-box" / f"{hashes[0][:8]}-existing-py.json"
    text = first.read_text().replace(hashes[0], "0" * 40)
    first.with_name("00000000-existing-py.json").write_text(text)
    assert "3 commits" in page.write_page(other, tmp_path, "main", repo=repository).read_text()
    conf = other.configuration(SUITE, "main", tmp_path / "asv", repository)
    assert suite.asv("publish", "--config", str(conf), "--no-pull", "main", quiet=True) == 0
    first.unlink()
    assert "2 commits" in page.write_page(other, tmp_path, "main", repo=repository).read_text()
    with pytest.raises(DashboardError, match="name a --branch that was measured"):
        page.selected(
            [r for r in records.load_records(other.results) if r.commit == "0" * 40], None, "main",
            repository,
        )


def test_page_of_an_unknown_machine(sample, tmp_path):
    data, repository, _ = sample
    with pytest.raises(DashboardError, match="no figure of the machine 'nowhere'"):
        page.write_page(data, tmp_path, "main", machine="nowhere", repo=repository)


# -- running


def test_what_is_left_out_is_left_out():
    (_, pattern) = suite.selection("versus", r"torch\.compile|float64")
    assert re.search(pattern, "versus.Training.track_ratio(32, 'JAX')")
    assert not re.search(pattern, "versus.Training.track_ratio(32, 'torch.compile')")
    assert not re.search(pattern, "norm.Forward.time_nbbn((32, 128))")
    assert not re.search(pattern, "versus.Norm.track_ratio((32, 128), 'float64')")
    assert suite.selection(None, None) == []
    assert suite.selection("norm", None) == ["--bench", "(?:norm)"]


@pytest.mark.parametrize(
    ("benchmark", "kept"),
    [
        ("load.Predict.track_99th_percentile(2, 4)", True),
        ("load.Predict.track_99th_percentile(6, 4)", False),
        ("load.Predict.track_mean(0, 16)", False),
        ("load.OneThread.track_mean(0, 1)", False),
        ("scaling.Speedup.track_speedup('folded, one image', 'all')", True),
        ("scaling.Speedup.track_speedup('step of 1000-1024-1024-10, batch 256', 2)", True),
        ("scaling.Speedup.track_speedup('step of 1000-1024-1024-10, batch 2048', 2)", False),
        ("training.OverPlain.track_ratio_to_plain(1024, 'dropout')", True),
        ("training.OverPlain.track_ratio_to_plain(32, 'dropout')", False),
        ("versus.ConvolutionalTraining.track_ratio('PyTorch')", True),
        ("versus.ConvolutionalTraining.track_ratio('JAX')", False),
        ("versus.MaxPool.track_ratio((64, 28, 28, 32), 2, 'PyTorch')", True),
        ("versus.MaxPool.track_ratio((1, 28, 28, 32), 2, 'PyTorch')", False),
        ("versus.BatchNorm.track_ratio((8192, 256), 'inference', 'JAX')", True),
        ("versus.SparseRows.track_ratio('predict_proba', 'scikit-learn')", True),
        ("versus.SparseRows.track_ratio('fit', 'scikit-learn')", False),
        ("repeated.Iris.time_fit('lbfgs')", True),
    ],
)
def test_quick_profile_chooses_by_name_and_parameters(benchmark, kept):
    (_, pattern) = suite.selection(None, suite.PROFILES["quick"].left_out)
    assert bool(re.search(pattern, benchmark)) == kept


def test_asvs_remarks_on_setup_are_not_shown():
    head, other = "[1 %] For parameters: 1\n", "   For parameters: 2\n"
    remark, said = (
        "   asv: a.B.time_c: setup hooks re-run between the 9 calls\n",
        "   asv: skipped: NotImplementedError()\n",
    )
    lines = ["a\n", head, remark, "\n", other, said, head, remark, other, remark, said, head]
    assert "".join(suite.without_remarks(lines)) == "".join(["a\n", "\n", other, said, said, head])


def test_data_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    monkeypatch.delenv("NBBN_BENCH_DATA", raising=False)
    assert default_data() == tmp_path / "nbbn-bench"
    monkeypatch.setenv("NBBN_BENCH_DATA", str(tmp_path / "own"))
    assert default_data() == tmp_path / "own"


def test_uncommitted_changes_are_not_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(command.commits, "changed", lambda *paths: ["nbbn/model.py"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert command.main(["--data", str(tmp_path / "data")]) == 2
    assert "nbbn/model.py differ from the commit" in capsys.readouterr().err


def test_context_goes_to_the_machine_that_measured(sample, tmp_path):
    data, _, hashes = sample
    assert command.machine_of(data, hashes[0]) == "bench-box"
    with pytest.raises(DashboardError, match="asv kept no result of 0000000000"):
        command.machine_of(data, "0" * 40)


def test_interrupted(monkeypatch, tmp_path, capsys):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", interrupted)
    assert command.main(["--data", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err


def test_python_that_imports_another_nbbn_is_refused(tmp_path):
    (tmp_path / "asv_bench").mkdir()
    shutil.copy(SUITE / "asv.conf.json", tmp_path / "asv_bench")
    (tmp_path / "nbbn").mkdir()
    (tmp_path / "nbbn" / "__init__.py").write_text("__file__ = '/elsewhere/nbbn/__init__.py'")
    with pytest.raises(
        DashboardError, match=r"imports /elsewhere/nbbn/__init__\.py, not nbbn from"
    ):
        suite.check_source(sys.executable, tmp_path)
    (tmp_path / "nbbn" / "__init__.py").write_text("raise ImportError('planted')")
    with pytest.raises(DashboardError, match=r"cannot import nbbn from .*planted"):
        suite.check_source(sys.executable, tmp_path)


def test_missing_asv_names_the_extra(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "asv", None)
    assert command.main(["--data", str(tmp_path), "--no-run"]) == 2
    assert "nbbn[bench]" in capsys.readouterr().err


def test_empty_data_folder_says_what_to_do(tmp_path, capsys):
    script = ROOT / "scripts" / "dashboard.py"
    arguments = [sys.executable, str(script), "--no-run", "--data", str(tmp_path)]
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "run the benchmarks first" in done.stderr
    assert "Traceback" not in done.stderr


def test_empty_range_is_an_error(sample):
    _, repository, hashes = sample
    assert commits.commits_in("main~2..main", repository) == hashes[1:]
    with pytest.raises(DashboardError, match=r"the range 'main\.\.main' has no commit"):
        commits.commits_in("main..main", repository)
