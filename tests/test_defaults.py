"""The study of default parameters: a run goes on where it stopped, and writes its page."""

import csv
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[1] / "scripts" / "defaults.py"
ARMS = ["sklearn", "bn epochs=3 targets gamma=glorot beta=draw exact fixed=1"]


@pytest.fixture(scope="module")
def defaults():
    spec = importlib.util.spec_from_file_location("defaults", PATH)
    module = importlib.util.module_from_spec(spec)
    sys.modules["defaults"] = module  # which its dataclass asks for
    spec.loader.exec_module(module)
    yield module
    del sys.modules["defaults"]


@pytest.fixture
def study(defaults, monkeypatch, tmp_path):
    """A study of two tables and two arms; what it prints is how many runs there were."""
    results, page = tmp_path / "results.jsonl", tmp_path / "page.md"

    def run(*more):
        words = ["defaults.py", "--results", str(results), "--data", "iris", "linnerud",
                 "--splits", "2", "--arms", *ARMS, "--page", str(page), *more]
        monkeypatch.setattr(sys, "argv", words)
        assert defaults.main() == 0
        return defaults.read_results(results)

    run.results, run.page = results, page
    return run


def key(result):
    return result["data"], result["split"], result["arm"]


def test_a_study_goes_on_where_it_stopped(study, capsys):
    whole = study()
    assert len(whole) == 8 and capsys.readouterr().out.startswith("8 runs\n")
    kept = study.results.read_text().splitlines()[:5]
    study.results.write_text("\n".join(kept) + '\n{"data": "iris", "spl')  # it was cut off
    assert sorted(map(key, study())) == sorted(map(key, whole))
    assert capsys.readouterr().out.startswith("3 runs\n")


def test_the_page(study):
    study()
    text = study.page.read_text()
    assert "| iris | accuracy | - |" not in text
    assert f"| `{ARMS[1]}` | 2 | " in text and "## What was tried" in text
    rows = list(csv.DictReader(study.page.with_suffix(".csv").read_text().splitlines()))
    assert [(row["data"], row["arm"]) for row in rows] == [
        (name, arm) for name in ("iris", "linnerud") for arm in ARMS
    ]
    assert {row["splits"] for row in rows} == {"2"}


def test_figures(defaults):
    results = [
        {"data": "iris", "split": k, "arm": arm, "score": score}
        for arm, scores in {"sklearn": [0.5, 0.7], "bn": [0.4, 0.6], "default": [0.9, 0.7]}.items()
        for k, score in enumerate(scores)
    ] + [{"data": "engel", "split": 0, "arm": "sklearn", "score": -7.0}]
    scores = defaults.scores_of(results)
    assert scores["engel"]["sklearn"] == [-1.0]
    assert defaults.error_of(scores["iris"]["sklearn"]) == pytest.approx(0.1)
    assert defaults.worse_on(scores, "bn", "sklearn") == []  # by a standard error, not more
    scores["iris"]["bn"] -= 0.01
    assert defaults.worse_on(scores, "bn", "sklearn") == ["iris"]
    assert defaults.rows_of_arms(scores, ["sklearn", "bn", "default"]) == [
        ["`bn`", "1", "2.00", "0/0/1", "-0.1100", "-", "iris"],
        ["`default`", "1", "1.00", "1/0/0", "+0.2000", "-", "none"],
    ]


def test_an_unknown_arm_is_refused_before_anything_runs(study):
    with pytest.raises(ValueError, match="'bn speed=3' is no arm"):
        study("--arms", "bn speed=3")
    assert not study.results.exists()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_default_starts_are_the_estimators(defaults):
    """An arm that says how the weights start, and says nothing new, has the same network."""
    x, y = defaults.TABLES["diabetes"]()
    own, told = (defaults.Arm.of(arm).fit(x[:100], y[:100], False, 0)
                 for arm in ("default epochs=1 rate=1e-30", "default epochs=1 rate=1e-30 out=0"))
    np.testing.assert_allclose(told(x), own(x), rtol=1e-5)
