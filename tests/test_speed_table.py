"""The table of speed: what is measured, how it is written, where it goes."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
SCRIPT = ROOT / "scripts" / "speed_table.py"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("speed_table", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def figures(own, peer, ratios, sure=True, rounds=15):
    return {"own": [own, own, own], "peer": [peer, peer, peer], "ratio": peer / own,
            "ratios": ratios, "sure": sure, "rounds": rounds}


CONTEXT = {"threads": 2, "packages": {"numba": "0.68.1", "jax": None, "torch": "2.13.0"},
           "blas": ["openblas 0.3.30 with kernels for Haswell on 2 threads"]}


def test_a_row(script):
    found = {"PyTorch": figures(2e-3, 8e-3, [3.5, 4.0, 4.5]),
             "JAX": figures(4e-3, 6e-3, [1.4, 1.5, 1.6])}
    assert script.row_of("train", found) == (
        "| train | 3 ms | JAX 6 ms (1.50), PyTorch 8 ms (4.00) | 1.50 | 1.40 to 1.60 |")
    unsure = {"JAX": figures(1e-6, 1.1e-6, [0.9, 1.1, 1.3], sure=False)}
    assert script.row_of("predict", unsure) == (
        "| predict | 1 us | JAX 1.1 us (1.10) | about 1 (1.10) | 0.90 to 1.30 |")


@pytest.mark.parametrize(("seconds", "text"), [
    (2.345, "2.35 s"), (0.0123, "12.3 ms"), (4.5e-6, "4.5 us"), (9.5e-8, "0.095 us"),
    (1234.0, "1234 s"),
])
def test_times(script, seconds, text):
    assert script.time_of(seconds) == text


def test_the_table(script):
    results = [("train", {"JAX": figures(4e-3, 6e-3, [1.4, 1.5, 1.6])}), ("skipped", {}),
               ("predict", {"JAX": figures(1e-6, 2e-6, [1.9, 2.0, 2.1], rounds=9)})]
    lines = script.table_of(results, CONTEXT, "a machine", "Nothing else ran.").splitlines()
    assert lines[0] == script.BEGIN and lines[-1] == script.END
    assert lines[1].startswith("Measured on a machine; numba 0.68.1, torch 2.13.0; openblas 0.3.30 "
                               "with kernels for Haswell on 2 threads; float32, 2 threads; medians "
                               "of 9 to 15 rounds")
    assert lines[1].endswith("Nothing else ran.")
    assert [line.split(" |")[0] for line in lines[5:-1]] == ["| train", "| predict"]
    assert len({line.count("|") for line in lines[3:-1]}) == 1


def test_the_table_goes_between_its_markers(script):
    text = f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n"
    assert script.replaced(text, "NEW") == "before\nNEW\nafter\n"
    with pytest.raises(ValueError, match="lacks the markers"):
        script.replaced("nothing", "NEW")


def test_a_document_has_the_markers(script):
    page = script.page_with_markers()
    assert page is not None
    text = page.read_text(encoding="utf-8")
    assert script.END in text and script.replaced(text, "").count("|---|") < text.count("|---|")


def test_peers_get_the_blas_that_users_have(script, monkeypatch):
    for name in (*script.PINNED, "OPENBLAS_NUM_THREADS"):
        monkeypatch.setenv(name, "1")
    env = script.environment(7, 2.5)
    assert not set(script.PINNED) & set(env) and env["OPENBLAS_NUM_THREADS"] == "1"
    assert (env["NBBN_BENCH_ROUNDS"], env["NBBN_BENCH_SECONDS"]) == ("7", "2.5")


def test_every_work_is_a_contest(script):
    from asv_bench.benchmarks import versus

    assert len({title for title, *_ in script.WORKS}) == len(script.WORKS)
    for title, name, params in script.WORKS:
        axes = getattr(versus, name).params
        axes = axes if isinstance(axes, tuple) else (axes,)
        assert len(axes) == len(params) + 1 and script.peers_of(name)
        assert all(given in axis for given, axis in zip(params, axes)), title
    assert len([w for w, *_ in script.WORKS if re.search(script.SHORT, w)]) == 2


def test_unusable_arguments(script, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text("nothing")
    assert script.main(["--page", str(page)]) == 2
    assert "lacks the markers" in capsys.readouterr().err
    assert script.main(["--works", "no such"]) == 2
    assert "no work is called 'no such': train 784" in capsys.readouterr().err
    assert script.main(["--page", str(tmp_path / "absent.md")]) == 2
    assert "absent.md" in capsys.readouterr().err


def test_without_a_peer_nothing_is_written(script, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(script, "measured", lambda works, env: [(w, {}) for w, *_ in works])
    page = tmp_path / "page.md"
    page.write_text(f"{script.BEGIN}\nold\n{script.END}\n")
    assert script.main(["--page", str(page)]) == 2
    assert "no peer is installed: python -m pip install" in capsys.readouterr().err
    assert "old" in page.read_text()


@pytest.mark.slow
def test_from_end_to_end(script, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime", reason="the peer that is measured")
    monkeypatch.setattr(script, "peers_of", lambda name: ("ONNX Runtime",))
    page = tmp_path / "page.md"
    page.write_text(f"before\n{script.BEGIN}\nold\n{script.END}\nafter\n")
    works = ["--works", "^predict 784-128-64-32-10, 1 rows"]
    assert script.main([*works, "--rounds", "3", "--page", str(page)]) == 0
    text = page.read_text()
    assert text.startswith(f"before\n{script.BEGIN}\nMeasured on ") and text.endswith("\nafter\n")
    assert re.search(r"^\| predict 784-128-64-32-10, 1 rows \| [\d.]+ \w+ \| ONNX Runtime [\d.]+ us "
                     r"\([\d.]+\) \| ", text, re.M)
    assert "with kernels for" in text and "old" not in text
