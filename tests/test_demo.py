"""The demonstration, on the digits and on files in MNIST's layout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nbbn
from nbbn.cli import main
from nbbn.commands.demo import datasets, timing

ROOT = Path(__file__).resolve().parents[1]
FILES = ["curves.png", "folded.safetensors", "model.safetensors", "results.json"]


@pytest.fixture
def quick(monkeypatch):
    """A handful of rounds of timing.

    These tests look at what is timed, not at how long it takes.
    """
    monkeypatch.setenv("NBBN_COMMAND", "nbbn")
    monkeypatch.setattr(timing, "_ROUNDS", 3)
    monkeypatch.setattr(timing, "_BLOCK_SECONDS", 1e-4)


def demo(capsys, *argv):
    """Run `nbbn demo`; return what it wrote to stdout, having checked that it wrote nothing else."""
    assert main(["demo", *map(str, argv)]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    assert "\x1b" not in captured.out
    return captured.out


def write_images(path, **changed):
    """A file in Keras's layout, of 300 and 60 little images.

    `changed` replaces arrays, None leaves one out.
    """
    rng = np.random.default_rng(3)
    arrays = {}
    for part, rows in (("train", 300), ("test", 60)):
        y = rng.integers(0, 3, rows)
        x = rng.integers(0, 60, (rows, 6, 5)) + 90 * (np.arange(5) == y[:, None])[:, None]
        arrays |= {f"x_{part}": x.astype(np.uint8), f"y_{part}": y.astype(np.uint8)}
    arrays |= changed
    np.savez(path, **{k: v for k, v in arrays.items() if v is not None})
    return arrays


def test_digits_end_to_end(tmp_path, capsys, quick):
    out = tmp_path / "some" / "folder"
    text = demo(capsys, "--output", out, "--epochs", "8", "--threads", "1")
    assert sorted(p.name for p in out.iterdir()) == FILES
    results = json.loads((out / "results.json").read_text())
    # The files hold what was trained: the saved network scores what the last epoch's validation
    # did, folded too.
    images = datasets.digits(seed=0)
    model, folded = nbbn.load(out / "model.safetensors"), nbbn.load(out / "folded.safetensors")
    score = results["runs"]["with batch norm"]["val_accuracy"][-1]
    assert model.score(images.x_test, images.y_test) == pytest.approx(score)
    assert (
        np.mean(folded.predict(images.x_test) == images.y_test) == results["fold"]["test_accuracy"]
    )
    assert score > 0.9
    np.testing.assert_allclose(
        folded.predict_proba(images.x_test), model.predict_proba(images.x_test), atol=1e-5
    )
    # And the words say what the files hold.
    assert "3 of 3 batch norms folded" in text
    assert f"{score:.2%}" in text
    assert f"on {len(images.x_test) + 64} rows" in text
    assert [entry["rows"] for entry in results["predict_proba_seconds"]] == [1, 32, 360]
    assert text.splitlines()[-1].startswith("next: nbbn verify ")
    # A path a line, whole, whatever the width.
    lines = text.splitlines()
    at = lines.index("written:")
    assert sorted(lines[at + 1 : at + 5]) == [str(out / name) for name in FILES]
    assert "seconds of the fit" in text and "+--" not in text
    for entry in results["predict_proba_seconds"]:
        low, high = entry["quartiles"]
        assert 0 < low <= entry["ratio"] <= high
        assert f"{entry['ratio']:.2f} ({low:.2f} to {high:.2f})" in text


def test_timings_that_noise_explains_are_said_to_be_noisy():
    from rich.console import Console

    from nbbn.commands.demo import tables

    def shown(*quartiles):
        times = [{"rows": n, "estimator": 3e-5, "unfolded": 2e-6, "folded": 1e-6, "ratio": 1.5,
                  "quartiles": pair} for n, pair in zip((1, 32), quartiles)]
        console = Console(width=200)
        with console.capture() as captured:
            console.print(tables.inference(times))
        return " ".join(captured.get().split())

    clear = shown([1.2, 1.8], [1.1, 2.0])
    assert "1.50 (1.20 to 1.80)" in clear and "noise" not in clear
    assert "of 32 rows this machine's noise now is larger" in shown([1.2, 1.8], [0.9, 2.0])
    assert "of 1 and 32 rows this machine's noise" in shown([0.8, 1.8], [0.9, 2.0])
    assert "of 1 row this machine's noise" in shown([0.8, 1.8], [1.9, 2.0])


def test_rounds_are_taken_in_turn():
    order = []
    times = timing.interleaved({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert {name: len(seconds) for name, seconds in times.items()} == {"a": 3, "b": 3}
    assert all(second > 0 for seconds in times.values() for second in seconds)


def test_both_networks_differ_by_batch_norm_alone(tmp_path, capsys, quick):
    demo(
        capsys, "--output", tmp_path, "--epochs", "2", "--hidden", "16,8", "--activation",
        "logistic",
    )
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert list(runs) == ["with batch norm", "without"]
    images = datasets.digits(seed=0)
    for batch_norm, run in zip((True, False), runs.values()):
        model = nbbn.MLPClassifier(
            (16, 8), activation="logistic", batch_size=32, max_iter=2, random_state=0, alpha=0.0,
            batch_norm=batch_norm, learning_rate_init=0.001,
        )
        with pytest.warns(match="hasn't converged"):
            model.fit(images.x_train, images.y_train, X_val=images.x_test, y_val=images.y_test)
        assert model.loss_curve_ == run["loss"]
        assert model.validation_loss_curve_ == run["val_loss"]
        assert {
            len(run[k]) for k in ("loss", "val_loss", "accuracy", "val_accuracy", "seconds")
        } == {2}


def test_the_picture_has_two_panels(tmp_path, capsys, quick):
    demo(capsys, "--output", tmp_path, "--epochs", "2", "--hidden", "8")
    from matplotlib.image import imread

    picture = imread(tmp_path / "curves.png")
    assert picture.shape[0] > 400 and picture.shape[1] > 1000
    # Both networks' colours are drawn in both halves.
    half = picture.shape[1] // 2
    for panel in (picture[:, :half, :3], picture[:, half:, :3]):
        for colour in ((0x00, 0x72, 0xB2), (0xD5, 0x5E, 0x00)):
            assert (np.abs(panel - np.array(colour) / 255).max(axis=2) < 0.02).sum() > 50


def test_without_matplotlib_everything_else_is_written(tmp_path, capsys, quick, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    text = demo(capsys, "--output", tmp_path, "--epochs", "1", "--hidden", "8")
    assert "no picture" in text and "pip install matplotlib" in text
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        name for name in FILES if name != "curves.png"
    ]


@pytest.mark.slow
def test_same_seed_same_bits(tmp_path, capsys, quick):
    for name, threads in (("a", 1), ("b", 2)):
        demo(
            capsys, "--output", tmp_path / name, "--epochs", "2", "--hidden", "16", "--seed", "5",
            "--threads", threads,
        )
    files = [tmp_path / name / "folded.safetensors" for name in ("a", "b")]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_a_file_in_mnists_layout(tmp_path, capsys, quick):
    arrays = write_images(tmp_path / "mine.npz")
    data = ("--data", tmp_path / "mine.npz", "--hidden", "8", "--learning-rate", "0.01")
    text = demo(capsys, *data, "--output", tmp_path / "out")
    assert "mine: 300 images to train on, 60 to validate" in text and "30 - 8 - 3" in text
    folded = nbbn.load(tmp_path / "out" / "folded.safetensors")
    x = arrays["x_test"].reshape(60, -1) / np.float32(255)
    assert np.mean(folded.predict(x) == arrays["y_test"]) > 0.9


@pytest.mark.slow
def test_mnist(mnist, tmp_path, capsys, quick):
    np.savez(tmp_path / "mnist.npz", **mnist)
    demo(
        capsys, "--data", tmp_path / "mnist.npz", "--output", tmp_path / "out", "--epochs", "2",
        "--batch-size", "128",
    )
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    assert results["data"] == {"name": "mnist", "training_rows": 60_000, "test_rows": 10_000}
    assert results["fold"]["test_accuracy"] > 0.96


X, Y = np.zeros((300, 6, 5), np.uint8), np.arange(300) % 3


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"y_test": None, "x_test": None}, "lacks x_test, y_test"),
        ({"x_train": X[:10]}, "y_train must hold 10 whole numbers"),
        ({"y_train": Y / 2}, "y_train must hold 300 whole numbers"),
        ({"x_train": X.astype("U1")}, "x_train must hold images"),
        ({"x_train": X.astype(object)}, "no readable .npz"),
        ({"x_test": X[:60, :5]}, "must have one shape"), ({"x_train": X - 1.0}, "grey values"),
        ({"x_train": X * np.nan}, "grey values"), ({"y_train": 0 * Y}, "a single class"),
        ({"y_test": Y[:60] + 1}, "class 3"),
        ({"x_test": X[:0], "y_test": Y[:0]}, "x_test must hold images"),
    ],
)
def test_bad_data_is_refused_before_anything_is_written(tmp_path, capsys, changed, message):
    write_images(tmp_path / "d.npz", **changed)
    assert main(["demo", "--data", str(tmp_path / "d.npz"), "--output", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert message in err and len(err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["d.npz"]


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 nothing", bytes(range(256))])
def test_files_that_are_no_archives(tmp_path, capsys, content):
    path = tmp_path / "d.npz"
    if content is not None:
        path.write_bytes(content)
    assert main(["demo", "--data", str(path), "--output", str(tmp_path / "out")]) == 2
    err = capsys.readouterr().err
    assert str(path) in err and len(err.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file(tmp_path, capsys):
    (tmp_path / "out").write_text("")
    assert main(["demo", "--output", str(tmp_path / "out")]) == 2
    assert "is a file, not a folder" in capsys.readouterr().err


def run_demo(output, **options):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "FORCE_COLOR": "1"}
    argv = [
        sys.executable, "-m", "nbbn", "demo", "--epochs", "2", "--hidden", "8", "--output",
        str(output),
    ]
    return subprocess.run(argv, env=env, timeout=200, **options)


@pytest.mark.slow
def test_logs_hold_no_control_characters(tmp_path):
    done = run_demo(tmp_path / "out", capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "\x1b" not in done.stdout and "\r" not in done.stdout


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="pseudo-terminals are POSIX's")
def test_a_terminal_shows_the_bar(tmp_path):
    import pty

    ours, theirs = pty.openpty()
    done = run_demo(tmp_path / "out", stdout=subprocess.DEVNULL, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 1 << 16).decode()
    os.close(ours)
    assert done.returncode == 0
    assert "with batch norm" in shown and "2/2" in shown
