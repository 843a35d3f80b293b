"""`python -m nbbn.dask.rank FOLDERS`: a rank fits on the rows that a worker left in its folder.

FOLDERS is a list in JSON, a folder for each rank. The first one's gets `result.json`, and
`model.safetensors` where the fit did well.
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from nbbn.dask.description import made
from nbbn.distributed import fit
from nbbn.distributed.comm import mpi

# Bytes from which rows are mapped rather than read.
_LARGE = 1 << 20


def _array(path: Path) -> Any:
    if not path.exists():
        return None
    return np.load(path, mmap_mode="r" if path.stat().st_size > _LARGE else None)


def _rows(folder: Path, columns: list[str] | None) -> Any:
    rows = _array(folder / "X.npy")
    if columns is None:
        return rows
    import pandas as pd

    return pd.DataFrame(rows, columns=columns, copy=False)


def main(folders: list[str]) -> None:
    """Fit; an error that all ranks raise is a result like another."""
    comm = mpi().COMM_WORLD
    folder, first = Path(folders[comm.rank]), comm.rank == 0
    job = json.loads((folder / "job.json").read_text())
    model, error = made(job["model"]), None
    given = (_rows(folder, job["columns"]), *(_array(folder / f"{name}.npy")
                                              for name in ("y", "sample_weight")))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            fit(model, *given, shards=job["shards"])
        except Exception as err:  # of all ranks: that of one alone has ended the job
            error = [type(err).__name__, str(err)]
    if not first:
        return
    if error is None:
        model.save(folder / "model.safetensors")
    words = [[w.category.__name__, str(w.message)] for w in caught]
    (folder / "result.json").write_text(json.dumps({"error": error, "warnings": words}))


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
