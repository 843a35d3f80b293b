"""The gate on speed: a planted slowdown is found, identical code passes, and nothing measured is no
success.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

pytest.importorskip("asv", reason="the gate measures with asv")
if shutil.which("git") is None:
    pytest.skip("the gate compares commits of git", allow_module_level=True)

from asv_bench.dashboard.gate import Comparison, Limits, compare, verdict  # noqa: E402

BENCHMARKS = """
import tiny


class Sleep:
    params = [1, 2]
    param_names = ("naps",)
    version = "1"
    number, repeat, rounds, warmup_time = 1, 1, 1, 0

    def time_work(self, naps):
        for _ in range(naps):
            tiny.work()


def time_other():
    tiny.other()


time_other.number = time_other.repeat = time_other.rounds = 1
time_other.warmup_time = 0
time_other.version = "1"
"""
QUICK = (
    "import time\n\n\ndef work():\n    time.sleep(0.02)\n\n\ndef other():\n    time.sleep(0.02)\n"
)
SLOW = QUICK.replace("time.sleep(0.02)", "time.sleep(0.2)", 1)
BROKEN = QUICK.replace("def other():\n", "def other():\n    raise RuntimeError('planted')\n")


def git(folder, *arguments):
    own = [
        "-c", "user.name=tests", "-c", "user.email=tests@example.org", "-c", "commit.gpgsign=false",
    ]
    done = subprocess.run(
        ["git", "-C", str(folder), *own, *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A project of one module with one suite, and its commits by name."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny").mkdir()
    benchmarks = folder / "asv_bench" / "benchmarks"
    benchmarks.mkdir(parents=True)
    conf = {"version": 1, "project": "tiny", "environment_type": "virtualenv"}
    (folder / "asv_bench" / "asv.conf.json").write_text(json.dumps(conf))
    (benchmarks / "__init__.py").write_text("")
    (benchmarks / "suite.py").write_text(BENCHMARKS)
    git(folder, "init", "--quiet", "--initial-branch", "main")
    commits = {}
    for name, code in (
        ("quick", QUICK), ("same", QUICK + "\n"), ("slow", SLOW), ("broken", BROKEN),
    ):
        (folder / "tiny" / "__init__.py").write_text(code)
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", name)
        commits[name] = git(folder, "rev-parse", "HEAD")
    return folder, commits


def gate(repository, base, head, *options, home):
    """The finished process of the gate on two commits of the repository."""
    folder, commits = repository
    script = [sys.executable, str(ROOT / "scripts" / "check_regression.py")]
    arguments = [
        commits.get(base, base), commits.get(head, head), "--repo", str(folder), "--rounds", "1",
        *options,
    ]
    env = {**os.environ, "HOME": str(home)}
    return subprocess.run(
        [*script, *arguments], capture_output=True, text=True, timeout=120, env=env
    )


def test_planted_slowdown_fails(repository, tmp_path):
    done = gate(repository, "quick", "slow", "--factor", "3", "--seconds", "0.05", home=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "slower: suite.Sleep.time_work(1)" in done.stdout
    assert "slower: suite.Sleep.time_work(2)" in done.stdout
    assert "slower: suite.time_other" not in done.stdout
    assert "3 compared, 2 slower, 0 no longer run" in done.stdout
    assert git(repository[0], "worktree", "list").count("\n") == 0


def test_same_code_passes(repository, tmp_path):
    done = gate(repository, "quick", "same", "--factor", "3", "--seconds", "0.5", home=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 compared, 0 slower, 0 no longer run" in done.stdout


def test_a_benchmark_that_no_longer_runs_fails(repository, tmp_path):
    done = gate(repository, "quick", "broken", "--bench", "time_other", home=tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no longer runs: suite.time_other" in done.stdout


def test_nothing_measured_is_no_success(repository, tmp_path):
    done = gate(repository, "quick", "same", "--bench", "there_is_no_such", home=tmp_path)
    assert done.returncode == 2
    assert "nothing was measured" in done.stderr


@pytest.mark.parametrize(
    ("base", "options", "message"),
    [
        ("no-such-commit", [], "'no-such-commit' names no commit of this repository"),
        ("quick", ["--rounds", "0"], "--rounds must be >= 1"),
        ("quick", ["--python", sys.executable + "-absent"], "--python must name a Python"),
    ],
)
def test_unusable_arguments(repository, tmp_path, base, options, message):
    done = gate(repository, base, "same", *options, home=tmp_path)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# -- the rule


def slower(base, head, factor=1.5, seconds=0.001):
    return Comparison("b", base, head).slower(Limits(factor, seconds))


def test_slower_needs_factor_and_seconds_and_every_round():
    assert slower([0.010, 0.011, 0.012], [0.020, 0.021, 0.022])
    assert not slower([0.010, 0.011, 0.012], [0.014, 0.015, 0.016])  # the factor
    assert not slower([1e-5, 1e-5, 1e-5], [2e-5, 2e-5, 2e-5])  # the seconds
    assert not slower([0.010, 0.011, 0.030], [0.020, 0.021, 0.022])  # not in the last round
    assert not slower([0.020, 0.021], [0.010, 0.011])


def test_only_whole_rounds_are_compared(capsys):
    key, half, gone = ("a", ("1",)), ("b", ()), ("c", ())
    found = {
        "base": {key: [1.0, 1.0], half: [1.0], gone: [1.0, 1.0]},
        "head": {key: [1.0, 1.0], half: [9.0, 9.0]},
    }
    both, lost = compare(found, 2)
    assert [c.name for c in both] == ["a(1)"]
    assert lost == ["c"]
    assert verdict(both, lost, Limits()) == 1
    assert "no longer runs: c" in capsys.readouterr().out
    assert verdict(both, [], Limits()) == 0
    assert verdict([], [], Limits()) == 2
