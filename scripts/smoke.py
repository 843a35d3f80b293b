#!/usr/bin/env python
"""Build the wheel and the source distribution, install each afresh, and use what came of it.

    python scripts/smoke.py [--keep FOLDER]

The wheel goes into an environment with all that it depends on: fit, fold, save, the commands. The
source distribution goes into one with NumPy and safetensors alone, where the saved model predicts.
Needs the package `build` (extra `test`) and a package index. Status 0: all of it worked.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

FULL = """
import numpy as np
from sklearn.datasets import load_iris
import nbbn

X, y = load_iris(return_X_y=True)
X = X.astype("float32")
clf = nbbn.MLPClassifier((16,), max_iter=500, learning_rate_init=0.01, tol=1e-3, random_state=0)
clf.fit(X, y)
assert clf.score(X, y) > 0.9, clf.score(X, y)
folded = clf.fold(check=X)
assert folded.report.n_folded == 1
folded.save("model.safetensors")
np.save("X.npy", X)
np.save("labels.npy", folded.predict(X))
"""
LIGHT = """
import sys
import numpy as np
import nbbn

model = nbbn.load("model.safetensors")
assert (model.predict(np.load("X.npy")) == np.load("labels.npy")).all()
assert not {"numba", "sklearn", "rich"} & set(sys.modules)
"""


def run(command: list[str | Path], folder: Path) -> str:
    """What a command prints; SystemExit with its output where it fails."""
    kept = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PIP_TARGET")}
    done = subprocess.run(
        list(map(str, command)), cwd=folder, text=True, stdin=subprocess.DEVNULL,
        env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_USER": "0"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    if done.returncode:
        shown = " ".join(str(c).strip().split("\n")[0] for c in command)
        raise SystemExit(f"{done.stdout}\nsmoke.py: failed with {done.returncode}: {shown}")
    return done.stdout


def say(text: str, since: list[float]) -> None:
    now = time.monotonic()
    print(f"{text} ({now - since[0]:.0f} s)", flush=True)
    since[0] = now


def check_contents(wheel: Path, source: Path) -> None:
    """What users and packagers look for."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    assert "nbbn/py.typed" in names
    assert any(name.endswith("licenses/LICENSE") for name in names), sorted(names)[-10:]
    assert not [n for n in names if not n.startswith(("nbbn/", "nbbn-"))]
    with tarfile.open(source) as archive:
        inside = {name.partition("/")[2] for name in archive.getnames()}
    for wanted in ("README.md", "CHANGELOG.md", "LICENSE", "tests/conftest.py", "docs/conf.py",
                   "examples/Dockerfile", "scripts/run.py", "pyproject.toml"):  # fmt: skip
        assert wanted in inside, wanted
    assert not [n for n in inside if n.startswith(("docs/_build", ".venv"))]


def environment(folder: Path) -> Path:
    """The Python of a new environment."""
    run([sys.executable, "-m", "venv", folder], folder.parent)
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def smoke(folder: Path) -> None:
    since = [time.monotonic()]
    run([sys.executable, "-m", "build", "--outdir", folder / "dist", ROOT], folder)
    (wheel,), (source,) = (folder / "dist").glob("*.whl"), (folder / "dist").glob("*.tar.gz")
    check_contents(wheel, source)
    say(f"built {wheel.name} and {source.name}", since)

    python = environment(folder / "full")
    run([python, "-m", "pip", "install", "-q", wheel], folder)
    command = [python, "-m", "nbbn"]
    run([python, "-c", FULL], folder)
    run([*command, "--help"], folder)
    run([*command, "inspect", "model.safetensors"], folder)
    run([*command, "predict", "model.safetensors", "X.npy", "answers.csv"], folder)
    say("the wheel fits, folds, saves and predicts", since)

    python = environment(folder / "light")
    run([python, "-m", "pip", "install", "-q", "numpy", "safetensors"], folder)
    run([python, "-m", "pip", "install", "-q", "--no-deps", source], folder)
    run([python, "-c", LIGHT], folder)
    say("the source distribution predicts on NumPy alone", since)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="leave all of it there")
    args = parser.parse_args()
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        smoke(args.keep.resolve())
        return 0
    with tempfile.TemporaryDirectory() as folder:
        smoke(Path(folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
