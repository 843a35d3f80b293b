"""The command line itself: every failure is one line, a status, and no file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from command_line import fails, works

import nbbn
from nbbn.cli import main

pytestmark = [
    pytest.mark.usefixtures("command_name"),
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
]

ROOT = Path(__file__).resolve().parents[1]


# -- files that are no models, outputs that are no files


def test_bad_model_files(tmp_path, models, capsys):
    (tmp_path / "random.safetensors").write_bytes(os.urandom(500))
    (tmp_path / "cut.safetensors").write_bytes((models / "digits.safetensors").read_bytes()[:-100])
    (tmp_path / "empty.safetensors").write_bytes(b"")
    bad = [*tmp_path.iterdir(), tmp_path / "missing.safetensors", tmp_path]
    for path in bad:
        for argv in (
            ("inspect", path),
            ("fold", path, tmp_path / "o.safetensors"),
            ("verify", models / "digits.safetensors", path),
            ("predict", path, models / "rows.npy", tmp_path / "o.npy"),
        ):
            assert str(path) in fails(capsys, 2, *argv)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        p.name for p in bad if p.parent == tmp_path and p.exists()
    )


def test_bad_outputs(tmp_path, models, capsys):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.safetensors").mkdir()
    model = models / "digits.safetensors"
    assert "is a folder" in fails(capsys, 2, "fold", model, tmp_path / "folder.safetensors")
    assert "is a file, not a folder" in fails(
        capsys, 2, "fold", model, tmp_path / "file" / "m.safetensors"
    )
    assert ".safetensors or .onnx" in fails(capsys, 2, "fold", model, tmp_path / "m.pkl")
    assert ".npy or .csv" in fails(
        capsys, 2, "predict", model, models / "rows.npy", tmp_path / "m.txt"
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder.safetensors"]


def test_fold_without_onnx_says_how_to_get_it(tmp_path, models, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    line = fails(capsys, 2, "fold", models / "digits.safetensors", tmp_path / "m.onnx")
    assert "pip install" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "argv",
    [
        (), ("unknown",), ("fold",), ("demo", "--epochs", "0"), ("demo", "--hidden", "12,x"),
        ("demo", "--seed", "-1"), ("demo", "--batch-size", "1"),
        ("train", "a.csv", "b.safetensors", "--validation", "1"),
        ("train", "a.csv", "b.safetensors", "--learning-rate", "nan"), ("cache", "--threads", "2"),
    ],
)
def test_bad_arguments(capsys, argv):
    fails(capsys, 2, *argv)


# -- the machine's side


@pytest.mark.parametrize(
    ("command", "name"),
    [("fold", "o.safetensors"), ("fold", "o.c"), ("predict", "o.npy"), ("predict", "o.csv")],
)
def test_a_full_disk_is_a_failure_and_leaves_nothing(
    models, tmp_path, capsys, monkeypatch, command, name
):
    """An output is one temporary file until it is whole."""
    beside = []

    def full(source, target):
        beside.extend(path.name for path in tmp_path.iterdir())
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    inputs = [models / "digits.safetensors", *([models / "rows.npy"] * (command == "predict"))]
    line = fails(capsys, 1, command, *inputs, tmp_path / name)
    assert "No space left" in line and str(tmp_path / name) in line
    assert len(beside) == 1 and beside[0].endswith(".tmp")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_midway_leaves_nothing(models, tmp_path, capsys, monkeypatch):
    def full(self, rows):
        self._file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("nbbn.commands.writers.NpyWriter.write", full)
    model, rows = models / "digits.safetensors", models / "rows.npy"
    assert "No space left" in fails(capsys, 1, "predict", model, rows, tmp_path / "o.npy")
    assert list(tmp_path.iterdir()) == []


def test_only_the_chosen_command_is_imported():
    code = (
        "import sys\n"
        "from nbbn.cli import main\n"
        "assert main(['cache']) == 0\n"
        "own = [m for m in sys.modules if m.startswith('nbbn.commands.')]\n"
        "assert own == ['nbbn.commands.errors', 'nbbn.commands.cache'], own\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert len([m for m in sys.modules if m.startswith('nbbn.commands.')]) == 2"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True)


def test_an_unexpected_error_is_one_line_and_debug_shows_where(models, capsys, monkeypatch):
    def broken(*args):
        raise ZeroDivisionError("what\nnow")

    monkeypatch.setattr("nbbn.formats.native.load", broken)
    assert "unexpected ZeroDivisionError: what now" in fails(
        capsys, 1, "inspect", models / "digits.safetensors"
    )
    assert main(["inspect", "--debug", str(models / "digits.safetensors")]) == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.fixture
def ctrl_c():
    """Python's own way with Ctrl-C, which a process that a test runner started need not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_a_command_with_one_line(
    number, tmp_path, capsys, digits, monkeypatch, ctrl_c
):
    @contextmanager
    def bar(title, epochs):
        yield (
            lambda estimator, logs: (
                os.kill(os.getpid(), number) if logs["epoch"] == 2 else None
            )
        )

    monkeypatch.setattr("nbbn.commands.train.epoch_bar", bar)
    X, y = digits
    np.savez(tmp_path / "d.npz", X=X, y=y)
    line = fails(
        capsys, 128 + number, "train", tmp_path / "d.npz", tmp_path / "m.safetensors", "--epochs", "1000000"
    )
    assert line == "nbbn train: interrupted"
    assert not (tmp_path / "m.safetensors").exists()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.slow
def test_a_reader_that_leaves_ends_the_command_quietly(models, tmp_path):
    np.save(tmp_path / "many.npy", np.zeros((300_000, 64), np.float32))
    argv = ["-m", "nbbn", "predict", models / "digits.safetensors", tmp_path / "many.npy", "-"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, *map(str, argv)], env=env, **pipes)
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == ""
    assert process.wait(60) == 141
    process.stderr.close()


def test_version_and_help(capsys):
    for argv, words in (
        (["--version"], nbbn.__version__),
        (["--help"], "inspect"),
        (["fold", "--help"], "--strict"),
    ):
        with pytest.raises(SystemExit) as end:
            main(argv)
        assert end.value.code == 0
        assert words in capsys.readouterr().out


def test_cache_shows_and_clears_its_own_folder_only(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    (tmp_path / "nbbn" / "abc").mkdir(parents=True)
    (tmp_path / "nbbn" / "abc" / "kernel.nbc").write_bytes(b"12")
    (tmp_path / "other").write_text("")
    assert "1 files" in works(capsys, "cache")
    assert "cleared" in works(capsys, "cache", "--clear")
    assert [p.name for p in tmp_path.iterdir()] == ["other"]
