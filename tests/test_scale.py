"""The script that counts what a fit on several machines gains."""

import importlib.util
import math
import os
import sys
from pathlib import Path

import mpi
import numpy as np
import pytest

from nbbn.kernels.norm_shards import MOMENT_ROWS
from nbbn.kernels.simd import lanes_of

SCRIPTS = Path(__file__).resolve().parents[1] / "scripts"
SIZES = 64, (48, 24), 3


@pytest.fixture
def scale(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS)
    spec = importlib.util.spec_from_file_location("scale", SCRIPTS / "scale.py")
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "scale", module)  # its dataclasses look for it
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_messages_are_those_of_the_layers(scale, ranks):
    """Moments of each norm, their gradients' sums backward, and all other gradients in pieces."""
    found, vector = scale.messages(SIZES, 40, ranks), lanes_of(4)
    widths = [-(-units // vector) * vector * 4 for units in (48, 24)]
    assert [m.kind for m in found] == ["all-gather"] * 4 + ["all-to-all", "all-gather"]
    assert [m.size for m in found[:4]] == [
        MOMENT_ROWS * widths[0], MOMENT_ROWS * widths[1], 2 * widths[1], 2 * widths[0]]
    numbers = 64 * 48 + 48 * 24 + 24 * 3 + 3
    for message in found[4:]:
        assert message.size * ranks >= 4 * numbers
    assert found[4].size == found[5].size


def test_one_machine_sends_nothing(scale):
    assert scale.messages(SIZES, 40, 1) == []


def test_a_message_takes_latency_and_bytes(scale):
    way, message = scale.Network("a", 3.0, 10.0), scale.Message("all-gather", 5)
    assert [way.seconds(message, ranks) for ranks in (1, 2, 4, 5)] == [
        0.0, 3 + 0.5, 6 + 1.5, 9 + 2.0]


@pytest.mark.parametrize("ranks", [2, 8])
def test_dear_messages_cost_what_they_are(scale, ranks, monkeypatch):
    monkeypatch.setattr(scale, "alone", lambda *_: 1.0)
    monkeypatch.setattr(scale, "of_rank", lambda *_: 0.5)
    quick = scale.Network("a", 0.0, math.inf)
    assert scale.step_seconds(SIZES, 40, ranks, quick) == 0.5
    slow = scale.Network("b", 1e-3, math.inf)
    count = len(scale.messages(SIZES, 40, ranks))
    assert scale.step_seconds(SIZES, 40, ranks, slow) == pytest.approx(
        0.5 + 1e-3 * count * math.log2(ranks))
    row = scale.table(SIZES, 40, [1, ranks], quick)[1]
    assert row[0] == str(ranks) and row[3] == str(count) and row[-1] == "2.00"
    assert scale.table(SIZES, 40, [1], slow)[0][3:] == ["0", "0", "0", "1000000", "1.00"]


def test_the_busiest_rank_has_more_than_its_part(scale):
    assert scale.busiest(256, 1) == 256
    for ranks in (2, 8, 64):
        assert 256 / ranks < scale.busiest(256, ranks) < 256
        assert scale.busiest(1 << 20, ranks) < 1.05 * (1 << 20) / ranks


def test_the_step_of_a_rank_is_measured_on_rows_in_its_order(scale):
    case = scale.Case(*SIZES, 40, scale.OneShard())
    share = case.group.share(np.arange(80), np.array([0, 40, 80]))
    assert share.places.tolist() == [*range(40), *range(40)]
    assert case.trainer.lowered.program.operations[-1].kernel
    assert scale.of_rank(SIZES, 40, 1) > 0


def run(scale, monkeypatch, *more):
    words = ["scale.py", "--features", "64", "--hidden", "48", "24", "--outputs", "3", "--batch",
             "40", "--machines", "1", "2", "4", *map(str, more)]
    monkeypatch.setattr(sys, "argv", words)
    return scale.main()


def test_the_script(scale, monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    page = tmp_path / "page.md"
    assert run(scale, monkeypatch, "--page", page) == 0
    text = page.read_text()
    for way in scale.NETWORKS:
        assert f"## 64-48-24-3: {way.name}" in text
    assert (tmp_path / "page.png").stat().st_size > 1000
    assert "speed-up" in capsys.readouterr().out


def test_a_network_of_ones_own(scale, monkeypatch, capsys):
    assert run(scale, monkeypatch, "--latency", 25, "--bandwidth", 3.1) == 0
    shown = capsys.readouterr().out
    assert "A message takes 25 us, and a rank receives 3.1 GB/s" in shown and "Ethernet" not in shown


@pytest.mark.parametrize("words, why", [
    (["--latency", 3], "give both"), (["--latency", 3, "--bandwidth", 0], "above 0"),
    (["--machines", 41], "--batch at least as many"), (["--ranks", 1], "--ranks must be 2 to"),
])
def test_what_cannot_be(scale, monkeypatch, capsys, words, why):
    with pytest.raises(SystemExit):
        run(scale, monkeypatch, *words)
    assert why in capsys.readouterr().err


def test_ranks_of_this_machine(scale, monkeypatch, capsys):
    launcher, why = mpi.mpiexec("mpich")
    if launcher is None or (os.cpu_count() or 1) < 2:
        pytest.skip(why or "MPICH's ranks spin: 2 of them need as many cores")
    more = "--ranks", 2, "--python", mpi.PYTHONS["mpich"], "--launcher", launcher
    assert run(scale, monkeypatch, *more) == 0
    assert "| batch | one core, us | predicted, us | measured, us |" in capsys.readouterr().out
