"""A thread that makes the next item while the last one is used."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

from nbbn.runtime import num_threads

T = TypeVar("T")

# Seconds after which a wait looks whether Ctrl-C was pressed, where a wait cannot be interrupted.
_PATIENCE = 0.5


class _Raised:
    def __init__(self, error: BaseException):
        self.error = error


class ReadAhead(Generic[T]):
    """The items of an iterator, one made ahead by a thread.

    An item may be written over as soon as the next one is asked for: two are there at a time. What
    the iterator raises is raised by `next`. The thread begins with the first item that is asked
    for; a `with` block, or `close`, ends it. That waits for the item that is being made, no longer
    than `patience` seconds where they are given: behind them the thread is left to itself.
    """

    def __init__(self, items: Iterator[T], patience: float | None = None):
        self._patience = patience
        self._items, self._holds, self._stopped, self._over = items, False, False, False
        self._free = threading.Semaphore(2)
        self._made: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="nbbn read-ahead", daemon=True)

    def _work(self) -> None:
        try:
            with num_threads(1):  # the others belong to those who use the items
                while True:
                    self._free.acquire()
                    if self._stopped:
                        return
                    self._made.put(next(self._items))
        except BaseException as error:
            self._made.put(_Raised(error))

    def __iter__(self) -> ReadAhead[T]:
        return self

    def __next__(self) -> T:
        if self._over:
            raise StopIteration
        if self._holds:
            self._free.release()
        elif self._thread.ident is None:
            self._thread.start()
        self._holds = True
        item = self._wait()
        if isinstance(item, _Raised):
            self._over = True
            raise item.error
        return item  # type: ignore[return-value]

    def _wait(self) -> object:
        while True:
            try:
                return self._made.get(timeout=_PATIENCE)
            except queue.Empty:
                continue

    def close(self) -> None:
        """End the thread, after the item that it is making."""
        self._over = self._stopped = True
        self._free.release()
        if self._thread.ident is not None:
            self._thread.join(self._patience)
            if self._thread.is_alive():
                return
        if (close := getattr(self._items, "close", None)) is not None:
            close()

    def __enter__(self) -> ReadAhead[T]:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
