"""`fit` on the rows of several processes."""

from __future__ import annotations

import os
import re
import warnings
from collections import Counter
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

from nbbn.distributed import comm as words
from nbbn.distributed.agree import check_alike, environment
from nbbn.distributed.order import Layout, owners, shard_edges
from nbbn.distributed.ranks import Ranks
from nbbn.distributed.rows import check_arrays, count_of, settled
from nbbn.group import ALONE
from nbbn.network import Graph
from nbbn.runtime import get_num_threads, num_threads


def fit(model: Any, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None,
        y_val: Any = None, shards: int | None = None, comm: Any = None, **options: Any) -> Any:
    """Fit a model on the rows of all ranks, each of which has some of them.

    Every rank calls it with its own rows, and ends with the same fitted model: that of one
    machine's `fit` on all rows, rank after rank, to rounding. The rows may be shared out in any
    way; a rank may have none. Batches are those of one machine, and so are batch norms' statistics,
    which are of whole batches.

    Parameters
    ----------
    model : estimator, Sequential or Model
        Of nbbn, with the same parameters on every rank.
    X, y : array-like
        This rank's rows and their targets, as the model's `fit` takes them, but no Partitions;
        None, or arrays of no rows, where it has none. Rows that do not fit into memory may be
        memory-mapped arrays.
    sample_weight : array-like, optional
        Their weights: of every rank or none.
    X_val, y_val : array-like, optional
        This rank's part of the rows to validate on.
    shards : int, optional
        Sums are taken in so many parts of the rows and merged in one order: the bits are then the
        same on any number of ranks up to that. A part that several ranks have some rows of goes to
        the one with most.
    comm : mpi4py.MPI.Comm, optional
        The ranks; all of them by default.
    **options
        Further arguments of the model's `fit`, such as `epochs` of a Sequential.

    Returns
    -------
    object
        What the model's `fit` returns.

    Raises
    ------
    ImportError
        Without mpi4py.
    ValueError, TypeError
        As the model's `fit`, on all ranks, for what any rank gives; and where ranks differ in what
        they must have alike.

    Notes
    -----
    Callbacks are the first rank's; so is what is printed, and `checkpoint`. Threads a rank are the
    machine's cores over its ranks, unless the model's `n_jobs` or `nbbn.num_threads` says how many.
    An error on one rank alone ends the job of all. Messages are neither encrypted nor
    authenticated: for trusted networks only.

    Examples
    --------
    >>> import nbbn, nbbn.distributed as nd
    >>> # script.py, by: mpirun -n 4 python -m mpi4py script.py
    >>> model = nbbn.MLPClassifier((128, 64), batch_size=1024, random_state=0)
    >>> model = nd.fit(model, X_mine, y_mine)                # doctest: +SKIP
    >>> net = nbbn.Sequential([nbbn.layers.Dense(1, input_shape=(8,))])
    >>> net.compile("adam", "mse")
    >>> history = nd.fit(net, X_mine, y_mine, epochs=5)      # doctest: +SKIP
    """
    with _group(comm, model) as group:
        with group.together():
            check_arrays(X=X, y=y, sample_weight=sample_weight, X_val=X_val, y_val=y_val)
            _check_shards(shards, group)
            own = count_of(X, y, sample_weight)
        rows = group.gathered(own)
        if sum(rows) == 0:
            raise ValueError("no rank has any rows; give each rank its own part")
        check_alike(group, "fit", {"shards": shards, **_options(options)})
        if group.ranks == 1 and shards is None:
            return model.fit_in_group(ALONE, X, y, sample_weight, X_val, y_val, **options)
        X, y, sample_weight = _laid_out(group, rows, shards, (X, y, sample_weight))
        if not count_of(X_val):
            X_val = y_val = None
        return model.fit_in_group(group, X, y, sample_weight, X_val, y_val, **options)


def recalibrate(model: Any, X: Any, *, comm: Any = None) -> Any:
    """Give every batch norm the exact statistics of the rows of all ranks.

    Parameters
    ----------
    model : estimator, Sequential or Model
        Fitted, the same on every rank.
    X : array-like
        This rank's rows; None, or an array of no rows, where it has none.
    comm : mpi4py.MPI.Comm, optional
        The ranks; all of them by default.

    Returns
    -------
    object
        What the model's `recalibrate` returns.

    Raises
    ------
    ImportError, ValueError, TypeError
        As `fit` does.

    Examples
    --------
    >>> import nbbn, nbbn.distributed as nd
    >>> model = nbbn.load("model.safetensors")               # doctest: +SKIP
    >>> model = nd.recalibrate(model, X_mine)                # doctest: +SKIP
    """
    with _group(comm, model) as group:
        with group.together():
            check_arrays(X=X)
            own = count_of(X)
        rows = group.gathered(own)
        if sum(rows) == 0:
            raise ValueError("no rank has any rows; give each rank its own part")
        (X,) = _laid_out(group, rows, None, (X,))
        return model.recalibrate_in_group(group, X)


@contextmanager
def _group(comm: Any, model: Any) -> Iterator[Ranks]:
    """The ranks of a communicator, which agree that they can work together."""
    own = (words.mpi().COMM_WORLD if comm is None else comm).Dup()
    own.Set_errhandler(words.mpi().ERRORS_ARE_FATAL)
    group = Ranks(own)
    try:
        with group.running(), _quiet(group.rank > 0):
            check_alike(group, "this machine", environment())
            with group.together():
                _check_model(model)
            check_alike(group, type(model).__name__, _facts(model))
            with num_threads(_threads(group)):
                yield group
    finally:  # all ranks are here
        group.free()


def _check_model(model: Any) -> None:
    if not hasattr(model, "fit_in_group"):
        raise TypeError("model must be an estimator or a Sequential or Model of nbbn, got "
                        f"{type(model).__name__}")
    graph = _links(model)
    if graph is not None and (len(graph.inputs) > 1 or len(graph.outputs) > 1):
        raise TypeError("model has several inputs or outputs, which nbbn.distributed does not "
                        "take: fit it on one machine")


def _links(model: Any) -> Graph | None:
    """How a Model's layers read each other; None for others."""
    return getattr(getattr(model, "_layers", None), "graph", None)


def _facts(model: Any) -> dict[str, Any]:
    """What ranks must have said alike of their models."""
    found: dict[str, Any] = {"class": type(model).__name__}
    if hasattr(model, "get_params"):
        free = ("verbose", "n_jobs", "callbacks", "random_state")
        found |= {name: _shown(value) for name, value in model.get_params(deep=False).items()
                  if name not in free}
    elif hasattr(model, "layers"):
        found["layers"] = [_shown(layer) for layer in model._layers.layers]
        found["links"] = _shown(_links(model))
        if model.compiled:
            found |= {"optimizer": _shown(model.optimizer), "loss": _shown(model.loss)}
    return found


def _options(options: dict[str, Any]) -> dict[str, str]:
    return {name: _shown(value) for name, value in options.items()
            if name not in ("verbose", "callbacks", "sample_weight_val")}


def _shown(value: Any) -> str:
    """Words that are the same on every rank for what is the same."""
    return re.sub(r" at 0x[0-9a-f]+", "", repr(value))


def _check_shards(shards: int | None, group: Ranks) -> None:
    if shards is None:
        return
    if isinstance(shards, bool) or not isinstance(shards, int | np.integer) or shards < 1:
        raise ValueError(f"shards must be a whole number of at least 1 or None, got {shards!r}")
    if shards < group.ranks:
        raise ValueError(f"shards={shards} are fewer than the {group.ranks} ranks: give at least "
                         "as many")


def _laid_out(group: Ranks, rows: list[int], shards: int | None,
              arrays: tuple[Any, ...]) -> list[Any]:
    """Say who has which rows; the arrays of this rank's rows, which are whole shards."""
    total, ends = sum(rows), np.append(0, np.cumsum(rows))
    if shards is None:
        group.lay_out(Layout(int(ends[group.rank]), np.array([0, rows[group.rank]]), total),
                      [1] * group.ranks)
        return [array if rows[group.rank] else None for array in arrays]
    of_rank, edges = owners(rows, shards), shard_edges(total, shards)
    owned = np.bincount(of_rank, minlength=group.ranks).tolist()
    before = np.append(0, np.cumsum(owned))
    own = edges[before[group.rank] : before[group.rank + 1] + 1]
    if len(own) == 1:  # no shards: one without rows
        own = np.append(own, own)
    group.lay_out(Layout(int(own[0]), own - own[0], total), owned, shards)
    return settled(group, arrays, ends, edges[before])


def _threads(group: Ranks) -> int:
    """This rank's part of its machine's cores, no more than it was given threads."""
    if hasattr(os, "sched_getaffinity"):
        of_ranks = group.on_host_gathered(sorted(os.sched_getaffinity(0)))
        own = share_of_cores(os.sched_getaffinity(0), of_ranks)
    else:
        own = (os.cpu_count() or 1) // group.on_host
    return max(1, min(get_num_threads(), own))


def share_of_cores(mine: Collection[int], of_ranks: list[list[int]]) -> int:
    """Whole cores of a rank, where ranks that may run on the same core have equal parts of it.

    Launchers bind ranks to cores of their own (Slurm, Open MPI), or to all (MPICH).
    """
    ranks_of = Counter(core for cores in of_ranks for core in cores)
    return int(sum(Fraction(1, ranks_of[core]) for core in mine))


@contextmanager
def _quiet(others: bool) -> Iterator[None]:
    """Warnings are the first rank's."""
    with warnings.catch_warnings():
        if others:
            warnings.simplefilter("ignore")
        yield
