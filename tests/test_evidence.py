"""Claims about batch norm: every study runs, its formulas are right, its command says what it is."""

from __future__ import annotations

import doctest
import importlib
import json
import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, works

from nbbn import evidence
from nbbn.evidence import Measure, Panel, Result, interval
from nbbn.evidence.covariate_shift import shift
from nbbn.evidence.data import Batches, images
from nbbn.evidence.folding import _within
from nbbn.evidence.gradient_explosion import GROWTH, gradient_lengths, growth
from nbbn.evidence.gradients import Gradients, cosine
from nbbn.evidence.higher_rates import _largest
from nbbn.evidence.initial_weights import _orders
from nbbn.evidence.measures import HOLDS, OPEN, OPPOSITE, higher, lower, near
from nbbn.evidence.networks import batch_norm, dense_stack
from nbbn.evidence.smoother_loss import landscape

NAMES = [claim.name for claim in evidence.claims()]


@pytest.fixture(autouse=True)
def small_data(monkeypatch, tmp_path):
    """scikit-learn's digits, whatever the machine has."""
    monkeypatch.delenv("NBBN_DATA", raising=False)
    monkeypatch.setattr("nbbn.evidence.data._KERAS_FILE", tmp_path / "none.npz")


def tiny(name, seed=0):
    return evidence.study(name, 2, "tiny", seed)


# -- the studies


def test_the_claims():
    assert len(NAMES) == len(set(NAMES)) == 12
    for claim in evidence.claims():
        assert claim.sentence and claim.source and claim.paper and claim.minutes > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_claim_runs(name):
    result = tiny(name)
    assert (result.claim, result.runs, result.seed, result.quick) == (name, 2, 0, True)
    assert result.measures and result.verdicts and result.panels and result.settings
    for measure in result.measures:
        assert len(measure.values) == 2
        assert all(v is not None and math.isfinite(v) for v in measure.values), measure
    for panel in result.panels:
        for runs in panel.series.values():
            assert [len(run) for run in runs] == [len(panel.x)] * 2
            assert all(value is not None for run in runs for value in run)
    assert all(v.outcome in (HOLDS, OPPOSITE, OPEN) for v in result.verdicts)
    again = Result.from_json(result.to_json())
    assert again == result
    for part in (result.sentence, result.source, result.verdicts[0].outcome):
        assert part in str(result)


@pytest.mark.parametrize("name", ["faster-training", "smoother-loss", "frozen-transfer"])
def test_the_same_seed_gives_the_same_numbers(name):
    one, other, third = tiny(name), tiny(name), tiny(name, seed=1)
    assert replace(one, seconds=0) == replace(other, seconds=0)
    assert one.measures != third.measures


def test_results_in_files(tmp_path):
    result = tiny("gradient-explosion")
    result.save(tmp_path / "r.json")
    assert Result.load(tmp_path / "r.json") == result
    for text in ("{", "[]", '{"format": 1}', json.dumps({"format": 2})):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(evidence.result.FileError, match=r"bad.json: not a result"):
            Result.load(tmp_path / "bad.json")
    with pytest.raises(evidence.result.FileError, match=r"no\.json"):
        Result.load(tmp_path / "no.json")


def test_a_picture_has_every_curve():
    pytest.importorskip("matplotlib")
    result = tiny("before-or-after")
    axes = result.figure().axes
    assert [ax.get_title() for ax in axes] == [panel.title for panel in result.panels]
    panel = Panel.of("t", "x", "y", [1, 10], {"a": [[1, 100], [100, 10_000]]}, log_x=True,
                     log_y=True)
    (line,) = replace(result, panels=[panel]).figure().axes[0].lines
    np.testing.assert_allclose(line.get_ydata(), [10, 1000])


@pytest.mark.parametrize("arguments, message", [
    ({"claim": "faster-trainin"}, "did you mean 'faster-training'"),
    ({"claim": "folding", "runs": 1}, "runs must be a whole number of at least 2, got 1"),
    ({"claim": "folding", "runs": 2.5}, "runs must be a whole number"),
    ({"claim": "folding", "seed": -1}, "seed must be a whole number of at least 0"),
])
def test_what_show_refuses(arguments, message):
    with pytest.raises(ValueError, match=message):
        evidence.show(**arguments)


def test_examples_in_docstrings():
    finder, ran = doctest.DocTestFinder(recurse=True), 0
    for name in ("nbbn.evidence", "nbbn.evidence.intervals", "nbbn.norm_monitor"):
        for test in finder.find(importlib.import_module(name)):
            ran += len(test.examples)
            assert doctest.DocTestRunner(verbose=False).run(test).failed == 0
    assert ran > 5


# -- the numbers


def test_intervals_by_hand():
    # t of 0.975 for 4 degrees of freedom is 2.7764; the deviation of 1..5 is the root of 2.5.
    found, half = interval([1, 2, 3, 4, 5]), 2.776445 * math.sqrt(2.5 / 5)
    assert found == pytest.approx((3, 3 - half, 3 + half), rel=1e-6)
    logs = interval([1.0, 100.0], log=True)
    assert logs.mean == pytest.approx(10)
    assert logs.low * logs.high == pytest.approx(100)
    assert np.isnan(interval([1.0, None])).all() and np.isnan(interval([], log=True)).all()
    assert np.isnan(interval([1.0, 0.0], log=True)).all()
    one = interval([2.0])
    assert one.mean == 2 and np.isnan(one.low)


def test_verdicts_follow_the_intervals():
    low, high = Measure.of("low", [1, 1.1, 0.9]), Measure.of("high", [5, 5.1, 4.9])
    wide = Measure.of("wide", [0, 10, 5])
    assert higher("s", high, low).outcome == HOLDS
    assert higher("s", low, high).outcome == OPPOSITE
    assert "the other way round" in higher("s", low, high).because
    assert lower("s", low, high).outcome == HOLDS
    assert lower("s", low, high).because.startswith("1 (")
    assert lower("s", high, low).outcome == OPPOSITE
    assert higher("s", wide, low).outcome == OPEN
    assert "overlap" in higher("s", wide, low).because
    assert "not every run" in higher("s", Measure.of("none", [math.nan, 1]), low).because
    assert near("s", low, 1.0, 0.5).outcome == HOLDS
    assert near("s", low, 3.0, 0.5).outcome == OPPOSITE
    assert near("s", wide, 5.0, 0.5).outcome == OPEN
    assert str(higher("high is high", high, low)).startswith("holds here: high is high (5 (")


def test_the_gradient_of_a_network_by_differences(rng):
    x, y = rng.random((20, 6)), rng.integers(0, 10, 20)
    network = Gradients(dense_stack((4,), norm=batch_norm, activation="tanh"), 6, seed=1)
    assert network.names == ["kernel", "gamma", "beta", "", "", "kernel", "bias"]
    weights = network.start
    _, gradient, moved = network.at(weights, x, y)
    for i in (0, 1, 2, 5, 6):
        step = rng.normal(size=weights[i].shape) * 1e-6
        up, down = ([w + sign * step if k == i else w for k, w in enumerate(weights)]
                    for sign in (1, -1))
        slope = (network.at(up, x, y)[0] - network.at(down, x, y)[0]) / 2
        assert np.vdot(gradient[i], step) == pytest.approx(slope, rel=1e-4, abs=1e-12)
    assert not gradient[3].any() and not gradient[4].any()
    z = x @ weights[0]
    np.testing.assert_allclose(moved[3], 0.1 * z.mean(0), rtol=1e-6)
    np.testing.assert_array_equal(moved[0], weights[0])


def test_the_landscape_of_a_parabola():
    # L = sum(a w^2) / 2: the gradient is a w, and along it changes by a per length of the way.
    a, w = np.array([2.0, 2.0]), [np.array([3.0, -4.0])]

    def at(weights):
        return float((a * weights[0] ** 2).sum() / 2), [a * weights[0]]

    seen = landscape(at, w, 0.1)
    # At reach m the weights are w (1 - 0.2 m): the loss is 25 (1 - 0.2 m)^2, m up to 4.
    assert seen.loss == pytest.approx(25 - 25 * 0.2**2)
    assert seen.gradient == pytest.approx(2 * 5 * 0.8)
    assert seen.smoothness == pytest.approx(2.0)


def test_covariate_shift_by_hand():
    before, after = [np.array([[3.0, 0.0]])], [np.array([[0.0, 4.0]])]
    change, relative, angle = shift(before, after)
    assert (change, relative, angle) == (5.0, pytest.approx(5 / 3), 0.0)
    assert cosine(before, [2 * before[0]]) == pytest.approx(1)
    assert math.isnan(shift([np.zeros(2)], [np.ones(2)])[1])


def test_growth_over_depth(rng):
    assert GROWTH == pytest.approx(1.2112, abs=1e-4)
    lengths = [1.5**k for k in range(20, -1, -1)]
    assert growth(lengths) == pytest.approx(1.5)


@pytest.mark.parametrize("kind", ["batch norm", "without", "batch norm, residual sums"])
def test_lengths_of_gradients_by_differences(rng, kind):
    x, dy, step = (rng.normal(size=(8, 5)) for _ in range(3))
    kernels = [rng.normal(size=(5, 5)) for _ in range(3)]

    def output(rows):
        for kernel in kernels:
            z = rows @ kernel
            if kind != "without":
                z = (z - z.mean(0)) / np.sqrt(z.var(0) + 1e-5)
            y = np.maximum(z, 0)
            rows = rows + y if "residual" in kind else y
        return rows

    found = gradient_lengths(x, kernels, dy, kind)
    assert len(found) == 4 and found[-1] == pytest.approx(np.linalg.norm(dy))
    gradient, h = np.zeros_like(x), 1e-6
    for place in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[place] = h
        gradient[place] = ((output(x + e) - output(x - e)) * dy).sum() / (2 * h)
    assert found[0] == pytest.approx(np.linalg.norm(gradient), rel=1e-4)


def test_figures_of_the_studies():
    assert _largest((0.1, 1.0, 10.0), [0.9, 0.8, 0.1]) == 1.0
    assert _largest((0.1, 1.0), [0.1, 0.1]) == 0.1
    assert _orders((0.01, 0.1, 1.0, 10.0), [0.1, 0.88, 0.9, 0.2]) == pytest.approx(1)
    assert _within("net", [1e-6], [1e-5]).outcome == HOLDS
    assert _within("net", [1e-6, 1e-4], [1e-5, 1e-5]).outcome == OPPOSITE


def test_of_many_points_some_are_kept():
    many = np.arange(51)
    panel = Panel.of("t", "x", "y", many, {"a": [many, many + 1]})
    assert panel.x == many[::4].tolist() and panel.series["a"][1] == (many[::4] + 1).tolist()


def test_batches_go_through_all_rows():
    x = np.arange(10)[:, None]
    taken, _ = Batches(x, x[:, 0], 4, seed=0).take(5)
    assert len(taken) == 20
    for rows in (taken[:10], taken[10:]):
        assert sorted(rows[:, 0]) == list(range(10))


def test_images_are_the_digits_or_mnist(monkeypatch, tmp_path):
    assert str(images(100)).startswith("scikit-learn's digits, 100 rows to train on, 500 to test")
    x = np.zeros((3, 28, 28), np.uint8)
    y = np.arange(3, dtype=np.uint8)
    np.savez(tmp_path / "mnist.npz", x_train=x + 255, y_train=y, x_test=x, y_test=y)
    monkeypatch.setenv("NBBN_DATA", str(tmp_path))
    found = images()
    assert found.name == "MNIST" and found.x_train.shape == (3, 784)
    assert found.x_train.dtype == np.float32 and (found.x_train == 1).all()
    assert found.as_squares().x_test.shape == (3, 28, 28, 1)


# -- the command


def test_show_lists_the_claims(capsys, command_name):
    out = works(capsys, "show")
    assert all(name in out for name in NAMES)
    assert "try one: nbbn show faster-training --quick" in out


def test_show_runs_a_claim(capsys, command_name, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(evidence, "show", lambda name, runs, quick, seed, note: evidence.study(
        name, runs, "tiny", seed, note))
    out = works(capsys, "show", "gradient-explosion", "--runs", 2, "--out", tmp_path / "new")
    assert "1.2112" in out and "\n- " in out and "Yang" in out
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "gradient-explosion.png", "gradient-explosion.json"}
    assert (tmp_path / "new" / "gradient-explosion.png").stat().st_size < 80_000
    assert Result.load(tmp_path / "new" / "gradient-explosion.json").runs == 2


def test_what_the_command_refuses(capsys, command_name, tmp_path, monkeypatch):
    assert fails(capsys, 2, "show", "foldin") == (
        "nbbn show: unknown claim 'foldin'; did you mean 'folding'?")
    assert "--runs must be 2 or more" in fails(capsys, 2, "show", "folding", "--runs", 1)
    (tmp_path / "file").write_text("")
    assert "is a file, not a folder" in fails(capsys, 2, "show", "folding", "--out",
                                              tmp_path / "file")
    monkeypatch.setattr("nbbn.commands.show.find_spec", lambda name: None)
    line = fails(capsys, 2, "show", "folding", "--out", tmp_path)
    assert 'install it: python -m pip install "nbbn[plot]"' in line


def test_a_picture_without_matplotlib(monkeypatch):
    result = tiny("gradient-explosion")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r'pip install "nbbn\[plot\]"'):
        result.figure()


# -- what is committed

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.skipif(not (ROOT / "docs").is_dir(), reason="not a clone")
@pytest.mark.parametrize("name", NAMES)
def test_whole_studies_are_there(name):
    folder = ROOT / "docs" / "evidence"
    result = Result.load(folder / f"{name}.json")
    (claim,) = (claim for claim in evidence.claims() if claim.name == name)
    assert (result.claim, result.quick, result.runs) == (name, False, 5)
    assert (result.sentence, result.source, result.paper) == (
        claim.sentence, claim.source, claim.paper)
    assert (folder / f"{name}.json").stat().st_size < 20_000
    assert (folder / f"{name}.png").stat().st_size < 80_000
    (page,) = (ROOT / "examples" / "gallery" / "evidence").glob(
        f"plot_*_{name.replace('-', '_')}.py")
    text = page.read_text()
    assert f'evidence.show("{name}", quick=True)' in text
    assert f"docs/evidence/{name}.json" in text
