"""`fit` on Dask's arrays and dataframes, by MPI's ranks beside the workers that hold the rows."""

from __future__ import annotations

import json
import tempfile
import uuid
import warnings
from collections import defaultdict
from contextlib import suppress
from numbers import Integral
from pathlib import Path
from typing import Any

from nbbn.dask import launch, tasks
from nbbn.dask.answers import kind_of


def fit(model: Any, X: Any, y: Any, sample_weight: Any = None, *, shards: int | None = None,
        client: Any = None, scratch: str | None = None) -> Any:
    """Fit an estimator on rows that Dask's workers hold, which stay where they are.

    Each worker writes its partitions to its scratch folder; a rank of MPI beside it maps them, and
    all ranks together fit as `nbbn.distributed.fit` does: one machine's fit on all rows, worker
    after worker, to rounding.

    Parameters
    ----------
    model : MLPClassifier or MLPRegressor
        Without callbacks and functions among its parameters; `random_state` a number or None. Its
        `checkpoint` is a path that every host sees alike.
    X, y : dask.array.Array, dask.dataframe.DataFrame or dask.dataframe.Series
        Rows and their targets, in chunks or partitions of the same rows.
    sample_weight : dask.array.Array or dask.dataframe.Series, optional
        Their weights.
    shards : int, optional
        As of `nbbn.distributed.fit`.
    client : distributed.Client, optional
        The current one by default.
    scratch : str, optional
        A folder on each worker's host for its rows; the workers' own by default.

    Returns
    -------
    object
        The model, fitted, as `nbbn.load` would open it.

    Raises
    ------
    ImportError
        Without Dask, or mpi4py.
    TypeError, ValueError
        For what is no Dask collection or cannot be sent, and as the model's `fit`.
    RuntimeError
        Without MPICH; where a worker dies, or the ranks fail. The model is as it was then.

    Notes
    -----
    The rows' order is that of the workers' first partitions; a checkpoint goes on where Dask places
    the rows alike, and is refused where it does not.

    Linux alone. The workers have this process's Python, packages and MPICH at the same paths, and
    reach this host by its name. Dask's messages may be encrypted (`Security`), MPI's are not: for
    trusted networks only.

    Examples
    --------
    >>> import nbbn.dask as nbd
    >>> with Client(cluster):                                           # doctest: +SKIP
    ...     nbd.fit(nbbn.MLPClassifier(checkpoint="/share/fit.ckpt"), rows, labels)
    """
    # Here, not above: it imports scikit-learn, which answers do without.
    from nbbn.dask.description import described

    given = {name: value for name, value in zip(tasks.NAMES, (X, y, sample_weight))
             if value is not None or name != "sample_weight"}
    parts = _parts(given)
    if shards is not None and not isinstance(shards, Integral):
        raise ValueError(f"shards must be a whole number of at least 1 or None, got {shards!r}")
    shards = None if shards is None else int(shards)
    description = {"model": described(model), "shards": shards}
    launch.mpiexec()
    job, names = launch.Job(_client(client)), {}
    try:
        of_worker = _held(job, parts)
        token = uuid.uuid4().hex
        names = {worker: f"nbbn-fit-{token}-{rank}" for rank, worker in enumerate(of_worker)}
        spilled = job.results(tasks.spill, {
            worker: (scratch, name, description, of_worker[worker])
            for worker, name in names.items()})
        del of_worker  # Dask may forget the partitions now
        if not any(rows for _, rows in spilled.values()):
            raise ValueError("X has no rows")
        hosts = _by_host(list(names))
        order = [worker for workers in hosts.values() for worker in workers]
        folders = [spilled[worker][0] for worker in order]
        launch.run(job, hosts, ["-m", "nbbn.dask.rank", json.dumps(folders)],
                   shown=bool(model.verbose))
        found = job.results(tasks.result_of, {order[0]: (folders[0],)})
        return _taken(model, *found[order[0]])
    finally:
        _remove(job, scratch, names)


def _parts(given: dict[str, Any]) -> list[Any]:
    """Delayed triples of X, y and weights, one for each chunk or partition."""
    blocks = {}
    first = given["X"]
    for name, value in given.items():
        delayed, is_array = kind_of(value, name, tables=name == "X")
        if is_array and value.ndim > 1 and max(value.numblocks[1:]) > 1:
            value = value.rechunk(dict.fromkeys(range(1, value.ndim), -1))
        if is_array and hasattr(first, "chunks") and value.chunks[0] != first.chunks[0]:
            if value.shape[0] == first.shape[0]:  # known, and so not NaN
                value = value.rechunk({0: first.chunks[0]})
        found = value.to_delayed()
        blocks[name] = list(found.ravel()) if is_array else list(found)
    counts = {name: len(found) for name, found in blocks.items()}
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ValueError(f"X, y and sample_weight must have chunks of the same rows, got {shown} "
                         "chunks; rechunk or repartition them alike")
    blocks.setdefault("sample_weight", [None] * counts["X"])
    together = delayed(_together, pure=False)
    return [together(*part) for part in zip(*(blocks[name] for name in tasks.NAMES))]


def _together(*part: Any) -> tuple[Any, ...]:
    return part


def _client(client: Any) -> Any:
    try:
        from distributed import get_client
    except ImportError as err:
        raise ImportError(f"nbbn.dask.fit needs distributed: pip install distributed ({err})"
                          ) from err
    if client is not None:
        return client
    try:
        return get_client()
    except ValueError:
        raise ValueError("there is no current Dask client: make one, distributed.Client(...), or "
                         "give client=") from None


def _held(job: launch.Job, parts: list[Any]) -> dict[str, list[Any]]:
    """The workers that hold the computed parts, in the order of the first that each has."""
    from distributed import wait

    futures = job.client.compute(parts)
    wait(futures)
    for future in futures:
        if future.status != "finished":
            future.result()
    where, found = job.client.who_has(futures), defaultdict(list)
    for future in futures:
        holders = sorted(where.get(future.key, ()))
        if not holders:
            raise RuntimeError("a Dask worker has gone before the fit began: call fit again")
        found[holders[0]].append(future)
    return dict(found)


def _by_host(workers: list[str]) -> dict[str, list[str]]:
    hosts: dict[str, list[str]] = defaultdict(list)
    for worker in workers:
        hosts[launch.host(worker)].append(worker)
    return dict(hosts)


def _taken(model: Any, result: dict[str, Any], file: bytes | None) -> Any:
    """The model, fitted by what the first rank has left, whose warnings are this process's."""
    from nbbn.dask.description import error_of, take, warning_of

    if result["error"] is not None:
        raise error_of(*result["error"])
    assert file is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.safetensors")
        path.write_bytes(file)
        take(model, path)
    for name, text in result["warnings"]:
        warnings.warn(text, warning_of(name), stacklevel=3)
    return model


def _remove(job: launch.Job, scratch: str | None, names: dict[str, str]) -> None:
    """Remove the rows on all workers that are still there."""
    with suppress(Exception):
        there = job.client.nthreads()
        job.results(tasks.remove, {worker: (scratch, name) for worker, name in names.items()
                                   if worker in there})
