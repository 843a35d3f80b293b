"""What Dask's workers do for a fit: write rows, run a proxy of MPI's launcher, read results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

TIED = str(Path(__file__).with_name("tied.py"))
NAMES = ("X", "y", "sample_weight")


def _folder(scratch: str | None, name: str) -> Path:
    from distributed import get_worker

    return Path(scratch or get_worker().local_directory).absolute() / name


def spill(scratch: str | None, name: str, job: dict[str, Any], parts: list[Any]) -> tuple[str, int]:
    """Write partitions as files that a rank maps: the folder, and how many rows there are."""
    for part in parts:
        _check_lengths(part)
    folder = _folder(scratch, name)
    folder.mkdir(parents=True)
    for own, pieces in zip(NAMES, zip(*parts)):
        if pieces[0] is not None:
            _write(folder / f"{own}.npy", [_array(piece, own) for piece in pieces])
    columns = getattr(parts[0][0], "columns", None)
    names = None if columns is None else [str(column) for column in columns]
    (folder / "job.json").write_text(json.dumps({**job, "columns": names}))
    return str(folder), sum(len(part[0]) for part in parts)


def _check_lengths(part: tuple[Any, ...]) -> None:
    counts = [len(piece) for piece in part if piece is not None]
    if len(set(counts)) > 1:
        raise ValueError("X, y and sample_weight must have as many rows as each other in each "
                         f"chunk or partition, got {', '.join(map(str, counts))}; rechunk or "
                         "repartition them alike")


def _array(piece: Any, name: str) -> np.ndarray:
    """A partition as an array of numbers or words."""
    if hasattr(piece, "tocsr"):
        raise TypeError(f"{name} is sparse, which is not supported: give dense rows, or use "
                        "nbbn.distributed.fit in a script of ranks")
    found = piece.to_numpy() if hasattr(piece, "to_numpy") else np.asarray(piece)
    if found.dtype.kind == "O":
        found = np.array(found.tolist()) if len(found) else found.astype(str)
    if found.dtype.kind not in "fiubUS":
        raise TypeError(f"{name} must be numbers or words, got dtype {found.dtype}")
    return found


def _write(path: Path, pieces: list[np.ndarray]) -> None:
    """One file of them all, piece by piece."""
    full = [piece for piece in pieces if len(piece)] or pieces[:1]
    dtype, rows = np.result_type(*full), sum(map(len, full))
    if not rows:
        np.save(path, full[0], allow_pickle=False)
        return
    whole = np.lib.format.open_memmap(path, "w+", dtype, (rows, *full[0].shape[1:]))
    start = 0
    for piece in full:
        whole[start : start + len(piece)] = piece
        start += len(piece)
    whole.flush()


def run_proxy(command: list[str]) -> None:
    """Run one proxy of the launcher, which starts ranks and ends with them, or with this worker."""
    from distributed import secede

    secede()  # it waits: other tasks, and the proxies of other fits, need this thread's place
    if not os.path.exists(command[0]):
        command = [str(Path(sys.executable).with_name(os.path.basename(command[0]))), *command[1:]]
    done = subprocess.run([sys.executable, TIED, str(os.getpid()), *command], text=True,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode:
        raise RuntimeError(f"{command[0]} ended with {done.returncode}: {done.stdout[-2000:]}")


def result_of(folder: str) -> tuple[dict[str, Any], bytes | None]:
    """What the first rank has left: how it went, and the model's file."""
    model = Path(folder, "model.safetensors")
    result = json.loads(Path(folder, "result.json").read_text())
    return result, model.read_bytes() if model.exists() else None


def remove(scratch: str | None, name: str) -> None:
    """Remove what `spill` wrote."""
    shutil.rmtree(_folder(scratch, name), ignore_errors=True)
