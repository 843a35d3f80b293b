"""The script that counts what a training step comes to on a team of threads."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from nbbn.kernels.simd import lanes_of
from nbbn.program.costs import HERE, step_seconds

PATH = Path(__file__).resolve().parents[1] / "scripts" / "scaling.py"


@pytest.fixture(scope="module")
def scaling():
    spec = importlib.util.spec_from_file_location("scaling", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def case(scaling):
    return scaling.Case(64, [48], 3, 40)


def test_a_row_counts_the_program(scaling, case):
    for threads, row in zip((1, 2, 16), scaling.table(case, [1, 2, 16], HERE, measure=False)):
        program = case.program(threads)
        assert row[0] == str(threads) and row[3] == str(sum(program.barriers()))
        assert float(row[4]) == round(step_seconds(program, 40, threads) * 1e6)
        assert row[5] == "-"


def test_products_are_those_of_the_layers(scaling, case):
    """Forward and the kernels' gradients of both layers, and the second's input's gradient."""
    vector = lanes_of(4)
    out = -(-3 // vector) * vector
    padded = 40 * (2 * 64 * 48 + 2 * 48 * out + 3 * 48)
    assert sum(c.products for c in case.costs(1, HERE)) == pytest.approx(padded, rel=0.35)


def test_dear_barriers_cost_what_they_are(case):
    program = case.program(2)
    dear = replace(HERE, barrier=HERE.barrier + 1e-3)
    more = step_seconds(program, 40, 2, dear) - step_seconds(program, 40, 2)
    assert more == pytest.approx(1e-3 * sum(program.barriers()))


def test_the_script(scaling, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    page = tmp_path / "page.md"
    words = ["scaling.py", "--features", "64", "--hidden", "48", "--outputs", "3", "--batch", "40",
             "--threads", "1", "2", "--operations", "--measure", "--page", str(page)]
    monkeypatch.setattr(sys, "argv", words)
    assert scaling.main() == 0
    text = page.read_text()
    assert "## 64-48-3, batch 40" in text and "dense_update_adam" in text
    assert (tmp_path / "page.png").stat().st_size > 1000
    assert "predicted, us" in capsys.readouterr().out
