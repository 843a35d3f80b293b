"""Train and predict on more rows than fit into memory, and watch how much is held.

Writes partitions of random rows to a temporary folder, runs `nbbn train` and `nbbn predict` on a
few of them and on all, and compares the peaks: they must not grow with the rows.

Run: python scripts/trust/stream_memory.py --gigabytes 20 --limit 2
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

COLUMNS, WINDOW = 100, 4
# Megabytes by which two runs of the same command may differ: threads, allocators, compiled kernels.
NOISE = 96


def write(folder: Path, kind: str, count: int, rows: int) -> None:
    """Partitions of float32 rows and three classes; each has rows of its own."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, COLUMNS)).astype(np.float32)
    for i in range(count):
        moved = np.roll(x, i, axis=1)
        y = (moved[:, 0] > 0.4).astype(np.int64) + (moved[:, 1] > 0.4)
        path = folder / f"{i:05}.{kind}"
        if kind == "npz":
            np.savez(path, X=moved, y=y)
            continue
        import pyarrow
        import pyarrow.parquet as parquet

        columns = {f"x{j}": np.ascontiguousarray(moved[:, j]) for j in range(COLUMNS)}
        table = pyarrow.table({**columns, "y": y})
        parquet.write_table(table, path, compression="none", use_dictionary=False)


def status(process: subprocess.Popen, field: str) -> float:
    """Megabytes of a process by a field of /proc; 0 where it is gone."""
    try:
        text = Path(f"/proc/{process.pid}/status").read_text()
    except OSError:
        return 0.0
    return int(text.split(f"{field}:")[1].split()[0]) / 1024 if f"{field}:" in text else 0.0


def watched(arguments: list[str], limit: float) -> tuple[float, float]:
    """Seconds of a command and the most megabytes that it held; it ends where that is too much."""
    began, peak = time.perf_counter(), 0.0
    child = subprocess.Popen([sys.executable, "-m", "nbbn", *arguments], stdout=subprocess.DEVNULL)
    while child.poll() is None:
        peak = max(peak, status(child, "VmHWM"))
        if peak > limit:
            child.kill()
            child.wait()
            raise SystemExit(f"{arguments[0]} held {peak:.0f} MB, more than {limit:.0f}")
        time.sleep(0.02)
    if child.returncode != 0:
        raise SystemExit(f"{arguments[0]} failed with status {child.returncode}")
    return time.perf_counter() - began, peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--gigabytes", type=float, default=20.0, help="of rows, in all")
    add("--megabytes", type=float, default=100.0, help="of a partition")
    add("--limit", type=float, default=2.0, help="gigabytes that a command may hold")
    add("--kind", choices=("parquet", "npz"), default="parquet")
    add("--epochs", type=int, default=1)
    add("--folder", type=Path, help="where to write (the system's folder of temporary files)")
    args = parser.parse_args()
    rows = round(args.megabytes * 1e6 / (4 * COLUMNS))
    count = max(3 * WINDOW, round(args.gigabytes * 1e9 / (4 * COLUMNS * rows)))
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        free = shutil.disk_usage(folder).free
        if free < 1.2 * count * args.megabytes * 1e6:
            raise SystemExit(f"{folder} has {free / 1e9:.0f} GB free; give another --folder")
        (folder / "data").mkdir()
        write(folder / "data", args.kind, count, rows)
        pattern, model = f"{folder}/data/*.{args.kind}", str(folder / "m.safetensors")
        few = [str(path) for path in sorted((folder / "data").iterdir())[: 2 * WINDOW]]
        options = ["--epochs", str(args.epochs), "--batch-size", "1024", "--hidden", "64,32",
                   "--window", str(WINDOW)]  # fmt: skip
        commands = {"train": ["train", "{}", model, *options]}
        if args.kind == "parquet":
            commands["predict"] = ["predict", model, "{}", str(folder / "p.npy")]
        watched(["train", *few[:WINDOW], model, *options], 1e9)  # kernels are compiled now
        for command, given in commands.items():
            at = given.index("{}")
            _, base = watched([*given[:at], *few, *given[at + 1 :]], 1e9)
            seconds, peak = watched([*given[:at], pattern, *given[at + 1 :]], 1e3 * args.limit)
            size = count * rows * 4 * COLUMNS / 1e9
            print(f"{command}: {size:.2f} GB of rows in {count} partitions of "
                  f"{args.megabytes:.0f} MB: {peak:.0f} MB at the peak ({base:.0f} MB with "
                  f"{2 * WINDOW} partitions), {peak / size:.0f} MB per GB, {seconds:.0f} s, "
                  f"{count * rows * (args.epochs if command == 'train' else 1) / seconds:,.0f} "
                  "rows/s", flush=True)
            if peak > base + NOISE + 2 * args.megabytes:
                raise SystemExit(f"{command}: memory grows with the rows")
    print("memory does not grow with the rows")


if __name__ == "__main__":
    main()
