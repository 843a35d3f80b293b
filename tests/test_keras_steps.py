"""The script that times steps of optimisers and losses beside Keras."""

import importlib.util
import sys
from pathlib import Path

import pytest

import nbbn

PATH = Path(__file__).resolve().parents[1] / "scripts" / "keras_steps.py"


@pytest.fixture
def steps(monkeypatch):
    spec = importlib.util.spec_from_file_location("keras_steps", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    return module


def test_it_knows_all_names(steps):
    named = {*steps.LABELS, *steps.ONE_HOT, *steps.NUMBERS}
    known = {name for name in nbbn.losses.__all__ if name[0].isupper()} - {"Loss", "CustomLoss"}
    assert {name.partition(",")[0] for name in named} == known
    assert set(steps.OPTIMIZERS) == {
        name for name in nbbn.optimizers.__all__ if name not in ("Optimizer", "get")}


@pytest.mark.filterwarnings("ignore")
def test_it_times_what_is_named(steps, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["keras_steps.py", "--short", "lion", "Dice"])
    assert steps.main() == 0
    rows = [line.split("|") for line in capsys.readouterr().out.splitlines() if " us" not in line]
    assert [row[1].strip() for row in rows[-2:]] == ["Lion", "Dice"]
    assert all(float(row[2]) > 0 and row[3].strip() == "" for row in rows[-2:])
    monkeypatch.setattr(sys, "argv", ["keras_steps.py", "Lyon"])
    with pytest.raises(SystemExit):
        steps.main()
