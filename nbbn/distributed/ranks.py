"""The group of several processes: MPI's ranks."""

from __future__ import annotations

import pickle
import signal
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from nbbn.distributed import comm as words
from nbbn.distributed import order as orders
from nbbn.distributed.order import Layout
from nbbn.group import Group, Order, OwnOrder, Share
from nbbn.program.shards import World

T = TypeVar("T")

# Seconds that a rank with an error waits for the others to have one too, before it ends the job.
PATIENCE = 10.0


class Ranks(Group):
    """The ranks of a communicator.

    Parameters
    ----------
    comm : mpi4py.MPI.Comm
        Of the group's own: errors on it end the job.
    """

    def __init__(self, comm: Any):
        self.comm, self.rank, self.ranks = comm, comm.rank, comm.size
        # Whether Ctrl-C was heard, and what it did before; the group of some rows shares it.
        self._signals: dict[str, Any] = {"heard": False, "handler": signal.default_int_handler}
        self._host = comm.Split_type(words.mpi().COMM_TYPE_SHARED)

    def lay_out(self, layout: Layout, owned: list[int], fixed_shards: int | None = None) -> None:
        """Say which rows this rank has, and how many shards each has."""
        self.fixed_shards = fixed_shards
        calls = words.calls(self.comm) if self.ranks > 1 else None
        self.layout, self.world = layout, World(self.rank, tuple(owned), calls)

    @property
    def on_host(self) -> int:
        """Ranks of this machine."""
        return int(self._host.size)

    def on_host_gathered(self, value: T) -> list[T]:
        """What each rank of this machine gives."""
        return self._host.allgather(value)

    def free(self) -> None:
        """Give the communicators back."""
        self._host.Free()
        self.comm.Free()

    # -- what all have to say

    def gathered(self, value: T) -> list[T]:
        return self.comm.allgather(value)

    def from_first(self, value: T) -> T:
        return self.comm.bcast(value)

    def at_first(self, function: Callable[[], T]) -> T:
        found: tuple[Any, BaseException | None] = None, None
        if self.rank == 0:
            try:
                found = function(), None
            except (Exception, KeyboardInterrupt) as error:
                found = None, _sendable(error)
        value, refused = self.comm.bcast(found)
        if refused is not None:
            raise refused
        return value

    @contextmanager
    def together(self) -> Iterator[None]:
        own: Exception | None = None
        try:
            yield
        except Exception as error:
            own = error
        found = self.comm.allgather(None if own is None else _sendable(own))
        refused = {rank: error for rank, error in enumerate(found) if error is not None}
        if not refused:
            return
        first = next(iter(refused.values()))
        alike = [rank for rank, error in refused.items() if str(error) == str(first)]
        if len(alike) == self.ranks:
            raise own or first
        names = f"rank {alike[0]}" if len(alike) == 1 else f"ranks {', '.join(map(str, alike))}"
        raise _renamed(first, f"{names}: {first}") from own

    def all_true(self, flag: bool) -> bool:
        return all(self.comm.allgather(bool(flag)))

    def measured(self, function: Callable[..., T], *arrays: Any) -> T:
        gathered = [self.comm.gather(array) for array in arrays]

        def measure() -> T:
            return function(*(_joined(parts) for parts in gathered))

        return self.at_first(measure)

    # -- rows

    def count(self, rows: int) -> int:
        return sum(self.comm.allgather(rows))

    def whole(self, array: Any) -> Any:
        return _joined(self.comm.allgather(array))

    def own(self, chosen: np.ndarray) -> np.ndarray:
        return self.layout.of(chosen)

    def narrowed(self, chosen: np.ndarray) -> Ranks:
        found = object.__new__(Ranks)
        found.__dict__.update(self.__dict__, layout=self.layout.narrowed(chosen))
        return found

    def has_orders_of(self, rows: int) -> bool:
        return rows <= orders.MOST_ROWS

    def in_order(self, first: int, end: int) -> Order:
        if self.has_orders_of(end - first):
            return super().in_order(first, end)
        return self.layout.in_order(first, end)

    def keyed_order(self, rows: int, key: bytes) -> OwnOrder:
        return self.layout.keyed(rows, key)

    def share(self, order: Order, edges: np.ndarray) -> Share:
        return self.layout.share(order, edges)

    def masses(self, weights: np.ndarray, order: Order, edges: np.ndarray) -> np.ndarray:
        share, shards = self.layout.share(order, edges), len(self.layout.edges) - 1
        assert share.of_shard is not None
        batch = np.repeat(np.arange(len(edges) - 1), np.diff(share.edges))
        own = np.bincount(batch * shards + share.of_shard, weights[share.order],
                          (len(edges) - 1) * shards)
        return _in_order(self.comm.allgather(list(own.reshape(-1, shards).T)))

    def total(self, values: np.ndarray, share: Share) -> float:
        shards = range(len(self.layout.edges) - 1)
        own = [values[share.of_shard == k].sum() for k in shards]
        return float(_in_order(self.comm.allgather(own)))

    # -- steps

    def compiled(self, function: Callable[[], T]) -> T:
        if self._host.rank == 0:
            found = function()
        self._host.Barrier()
        if self._host.rank != 0:
            found = function()
        return found

    def steps(self, wanted: int) -> int:
        found = np.array([wanted if self.rank == 0 else 0, self._signals["heard"]], np.int64)
        self.comm.Allreduce(words.mpi().IN_PLACE, found)
        if found[1]:
            self._signals["heard"] = False
            self._signals["handler"](signal.SIGINT, None)  # on all ranks, before the same step
            raise KeyboardInterrupt
        return int(found[0])

    def check_same(self, arrays: list[np.ndarray]) -> None:
        sums = 0
        for array in arrays:
            sums = zlib.crc32(array.data, sums)
        found = self.comm.allgather(sums)
        others = [rank for rank, value in enumerate(found) if value != found[0]]
        if others:
            raise RuntimeError(f"ranks {', '.join(map(str, others))} have other weights than rank "
                               "0: their machines compute differently, or their memory is faulty")

    # -- a call's beginning and end

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within, an error that this rank alone has ends the job, and Ctrl-C waits for a step."""
        with self._noted_interrupts():
            try:
                yield
            except BaseException as error:
                self._end_job_unless_all_have_one(error)
                raise

    @contextmanager
    def _noted_interrupts(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def note(number: int, frame: Any) -> None:
            if self._signals["heard"]:  # nothing came of the last one
                self._signals["handler"](number, frame)
            self._signals["heard"] = True

        before = signal.signal(signal.SIGINT, note)
        if callable(before):
            self._signals["handler"] = before
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _end_job_unless_all_have_one(self, error: BaseException) -> None:
        """Errors that all ranks have, they have at the same moment."""
        request, until = self.comm.Ibarrier(), time.monotonic() + PATIENCE
        while not request.Test():
            if time.monotonic() > until:
                print(f"rank {self.rank} ends the job of {self.ranks} ranks:", file=sys.stderr)
                traceback.print_exception(error)
                sys.stderr.flush()
                self.comm.Abort(1)
            time.sleep(0.01)


def _in_order(parts: list[list[Any]]) -> Any:
    """The sum of what the ranks' shards have, shard after shard."""
    first, *rest = [value for own in parts for value in own]
    for value in rest:
        first = first + value
    return first


def _joined(parts: list[Any]) -> Any:
    """Rows of all ranks; None where they have none to give."""
    given = [part for part in parts if part is not None]
    return np.concatenate(given) if given else None


def _sendable(error: BaseException) -> BaseException:
    """The error, or one of its words where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return _renamed(error, str(error))
    return error


def _renamed(error: BaseException, message: str) -> BaseException:
    """An error of the kind with another message."""
    for kind in (type(error), *(k for k in (ValueError, TypeError) if isinstance(error, k))):
        try:
            return kind(message)
        except Exception:
            continue
    return RuntimeError(message)
