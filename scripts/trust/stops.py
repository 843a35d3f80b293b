"""Commands that are stopped, or run out of disk, leave no half-written file.

Each command gets SIGTERM at a random moment, or a limit of file size in the middle of its output.

Run: python scripts/trust/stops.py --stops 100
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np

import nbbn


def prepare(folder: Path) -> dict[str, list[str]]:
    """Inputs, and the arguments of each command by the file that it writes."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(4000, 200)).astype(np.float32), np.arange(4000) % 3
    np.save(folder / "x.npy", x)
    np.savez(folder / "xy.npz", X=x, y=y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nbbn.MLPClassifier((300, 200), max_iter=1, random_state=0).fit(x, y).save(
            folder / "m.safetensors")
    return {
        "f.safetensors": ["fold", "m.safetensors", "f.safetensors"],
        "f.onnx": ["fold", "m.safetensors", "f.onnx"], "f.c": ["fold", "m.safetensors", "f.c"],
        "p.csv": ["predict", "m.safetensors", "x.npy", "p.csv", "--proba"],
        "p.npy": ["predict", "m.safetensors", "x.npy", "p.npy", "--proba"],
        "t.safetensors": ["train", "xy.npz", "t.safetensors", "--epochs", "3"],
    }


def limited(size: int | None) -> None:
    if size is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def run(folder: Path, argv: list[str], seconds: float | None, size: int | None) -> int:
    """The status of a command, stopped after some seconds or with files of a limited size."""
    child = subprocess.Popen([sys.executable, "-m", "nbbn", *argv], cwd=folder,
                             stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                             preexec_fn=lambda: limited(size))
    try:
        _, said = child.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate()
    if "Traceback" in said:
        raise SystemExit(f"{argv[0]} showed a traceback: {said}")
    return child.returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    rng, whole, none = random.Random(args.seed), 0, 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        commands, refs, took = prepare(folder), {}, {}
        for file, argv in commands.items():
            run(folder, argv, None, None)  # kernels are compiled now
            began = time.perf_counter()
            if run(folder, argv, None, None) != 0:
                raise SystemExit(f"{argv} failed undisturbed")
            took[file], refs[file] = time.perf_counter() - began, (folder / file).read_bytes()
            (folder / file).unlink()
        before = sorted(p.name for p in folder.iterdir())
        for i in range(args.stops):
            file = rng.choice(list(commands))
            disk_is_full = i % 2
            seconds = None if disk_is_full else rng.uniform(0.2, 1.0) * took[file]
            size = rng.randrange(1, len(refs[file])) if disk_is_full else None
            status = run(folder, commands[file], seconds, size)
            if (folder / file).exists():
                same = file.startswith("t.") or (folder / file).read_bytes() == refs[file]
                if (status == 0 and not same) or (status != 0 and not same):
                    raise SystemExit(f"{file} is half-written")
                whole += 1
                (folder / file).unlink()
            else:
                none += 1
                if status == 0:
                    raise SystemExit(f"{commands[file]} said that it was done, and wrote nothing")
            left = [p for p in folder.iterdir() if p.name not in before]
            if left:
                raise SystemExit(f"{commands[file]} left {left}")
    print(f"{args.stops} commands stopped or out of disk: {whole} outputs whole, {none} not there")


if __name__ == "__main__":
    main()
