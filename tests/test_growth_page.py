"""The picture and the page of scripts/growth.py."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "scripts" / "growth.py"


@pytest.fixture(scope="module")
def growth():
    spec = importlib.util.spec_from_file_location("growth", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("seconds", "labels"), [
    ([0.03, 0.031], ["0.02", "0.05", "0.1"]),
    ([0.004, 0.13], ["0.002", "0.005", "0.01", "0.02", "0.05", "0.1", "0.2"]),
    ([1.0], ["0.5", "1", "2"]),
])
def test_every_axis_of_times_has_three_labels_at_least(growth, seconds, labels):
    figure = pytest.importorskip("matplotlib.figure", reason="extra plot").Figure()
    axis = figure.subplots()
    axis.loglog(range(1, len(seconds) + 1), seconds)
    growth.label_times(axis, seconds)
    assert [label.get_text() for label in axis.get_yticklabels()] == labels
    low, high = axis.get_ylim()
    assert low < min(seconds) and max(seconds) < high


def test_numbers_below_an_axis_are_short(growth):
    assert [growth.short(n) for n in (16, 1024, 2500, 20_000)] == ["16", "1024", "2.5k", "20k"]


def test_the_page_escapes_what_it_shows(growth):
    page = growth.page("kernel cache: <none>")
    assert "kernel cache: &lt;none&gt;" in page and "growth.json" in page and "viewport" in page


def test_the_picture_is_drawn(growth, tmp_path):
    pytest.importorskip("matplotlib", reason="extra plot")
    results = {name: {"values": values or [1, 2], "seconds": [0.03] * len(values or [1, 2])}
               for name, (values, _) in growth.SWEEPS.items()}
    results["memory"] = {"values": [10_000, 20_000], "megabytes": [1.0, 2.0]}
    growth.draw(results, tmp_path / "growth.png")
    assert (tmp_path / "growth.png").stat().st_size > 10_000
