"""`Partitions`: rows that do not fit into memory, as a list of parts that do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import Any

import numpy as np

from nbbn.formats.files import FileError, PathLike
from nbbn.partitions.files import sources_of
from nbbn.partitions.read_ahead import ReadAhead
from nbbn.partitions.sources import (
    Arrays,
    Header,
    Made,
    Part,
    Source,
    as_part,
    check_lengths,
    count,
    header_of,
)


@dataclass(frozen=True)
class Choice:
    """Some rows of each partition, drawn at random, or all others."""

    key: int
    drawn: tuple[int, ...]  # how many of each partition
    others: bool

    def mask(self, number: int, rows: int) -> np.ndarray:
        """Which of a partition's rows are meant."""
        mask = np.full(rows, self.others)
        rng = np.random.default_rng([self.key, number, 2])
        mask[rng.permutation(rows)[: self.drawn[number]]] = not self.others
        return mask

    def count(self, number: int, rows: int) -> int:
        """How many these are."""
        return rows - self.drawn[number] if self.others else self.drawn[number]

    def of(self, number: int, part: Part) -> Part:
        """These rows of a partition; its rows may have been left out."""
        known = next((array for array in part if array is not None), None)
        if known is None:
            return part
        mask = self.mask(number, np.shape(known)[0])
        return Part(*(None if a is None else _taken(a, mask) for a in part))


def _taken(array: Any, mask: np.ndarray) -> Any:
    return array.iloc[mask] if hasattr(array, "iloc") else np.asarray(array)[mask]


class Partitions:
    """Rows in partitions, of which a few are in memory at a time.

    `fit`, `partial_fit`, `predict` and all else that takes rows take partitions in place of arrays;
    targets and weights are inside, so that no `y` is given beside them. An epoch sees each row
    once: the partitions in a random order, `window` of them in memory at a time, the rows of a
    window in a random order. Batches go on over the borders of windows, so that the last one of an
    epoch alone may be shorter. A thread reads the next window while the network trains on one.
    The order follows from `random_state` (of a `Sequential`, its seed) alone. Partitions that all
    fit into one window are read once, and the fit is that of the arrays, bit for bit.

    Parameters
    ----------
    partitions : list or iterable
        Each partition is `X`, `(X, y)` or `(X, y, sample_weight)`, arrays of the same number of
        rows, or a function without arguments that returns one of these. A list, or anything else
        with a length that is indexed by numbers, gives them in any order; other iterables are gone
        over once for each pass, from the beginning, and always in their order: shuffled within
        windows alone. An iterator, which can be gone over once, is refused.
    window : int, default=4
        Partitions in memory at a time for training; as many again are being read.
    names : list of str, default=None
        What partitions are called in messages; `partition 1` and so on.

    Attributes
    ----------
    window : int
    rows : list of (int or None)
        Rows of each partition, None for one that has to be read to know.

    See Also
    --------
    Partitions.from_files : Partitions of files.

    Notes
    -----
    Memory is that of two windows and the partition that is being read, whatever the number of
    partitions. A partition may be empty. All have rows of the same shape; where dtypes differ, a
    dtype that holds them all is read (`numpy.result_type`), so that one of float64 makes all of it
    float64. Sparse rows are not supported.

    Iterating gives the partitions in order, as named tuples `(X, y, sample_weight)` with None for
    what is not there, read ahead by a thread.

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> rng = np.random.default_rng(0)
    >>> def part(i):
    ...     X = rng.normal(size=(500, 4))
    ...     return X, X[:, 0] > X[:, i % 2 + 1]
    >>> parts = nbbn.Partitions([part(i) for i in range(8)], window=2)
    >>> model = nbbn.MLPClassifier((8,), max_iter=20, random_state=0, tol=0.1).fit(parts)
    >>> model.predict(parts).shape
    (4000,)
    """

    window: int

    def __init__(self, partitions: Iterable[Any], *, window: int = 4,
                 names: Sequence[str] | None = None):
        if isinstance(window, bool) or not isinstance(window, Integral) or window < 1:
            raise ValueError(f"window must be a whole number of at least 1, got {window!r}")
        self.window = int(window)
        self._choice: Choice | None = None
        self._sources: list[Source] | None = None
        self._iterable: Any = None
        given: Any = partitions
        if isinstance(given, (str, bytes, dict)) or hasattr(given, "__next__") \
                or not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")):
            hint = ("; an iterator can be gone over once: give a list, or an object whose __iter__ "
                    "begins anew" if hasattr(given, "__next__") else
                    "; files are opened by Partitions.from_files" if isinstance(given, str) else "")
            raise TypeError("partitions must be a list of partitions or an iterable, got "
                            f"{type(given).__name__}{hint}")
        if hasattr(given, "__len__") and hasattr(given, "__getitem__"):
            self._sources = _listed(given, names)
            if not self._sources:
                raise ValueError("partitions is empty: give one partition at least")
        elif names is not None:
            raise ValueError("names go with a list of partitions, not with an iterable")
        else:
            self._iterable = given

    @classmethod
    def from_files(cls, files: PathLike | Iterable[Any], *, target: str | int | None = None,
                   sample_weight: str | None = None, window: int = 4) -> Partitions:
        """Partitions of the rows in files; nothing but their descriptions is read at once.

        Parameters
        ----------
        files : path-like or list
            A file, a folder, a pattern (`"data/*.parquet"`, `**` for folders within) or a list of
            these. `.parquet` files (extra `parquet`) hold a column for each feature, `.npz` files
            arrays `X`, `y` and maybe `sample_weight`, `.npy` files rows; tuples of two or three
            `.npy` files hold rows, targets and weights. The files of a folder or pattern follow one
            another by name. A `.parquet` or `.npy` file of more than 64 MB of rows is several
            partitions: row groups, or ranges of rows.
        target : str or int, default=None
            Of Parquet tables the column of the targets, of single `.npy` files its number. None: no
            targets.
        sample_weight : str, default=None
            Of Parquet tables the column of the weights.
        window : int, default=4
            As of `Partitions`.

        Returns
        -------
        partitions : Partitions

        Raises
        ------
        FileError
            Where no file matches, one cannot be read, has no such column, or rows of other columns
            than the first. Columns are found by their names.

        Examples
        --------
        >>> import tempfile, numpy as np, nbbn
        >>> folder = tempfile.mkdtemp()
        >>> for i in range(6):
        ...     X = np.random.default_rng(i).normal(size=(100, 3))
        ...     np.savez(f"{folder}/{i}.npz", X=X, y=X.sum(1))
        >>> parts = nbbn.Partitions.from_files(f"{folder}/*.npz", window=2)
        >>> len(parts), parts.rows[:2]
        (6, [100, 100])
        >>> model = nbbn.MLPRegressor(
        ...     hidden_layer_sizes=(8,), batch_size=32, learning_rate_init=0.01, random_state=0)
        >>> model.fit(parts).score(parts) > 0.9
        True
        """
        return cls.of_sources(sources_of(files, target, sample_weight), window=window)

    @classmethod
    def of_sources(cls, sources: list[Source], *, window: int) -> Partitions:
        """Partitions that know how they are read; FileError for tables of other columns."""
        self = cls(sources, window=window)
        self._sources = _same_columns(sources)
        return self

    def __len__(self) -> int:
        if self._sources is None:
            raise TypeError("partitions of an iterable have no length before they are gone over")
        return len(self._sources)

    def __iter__(self) -> Iterator[Part]:
        with ReadAhead(self._read_all()) as parts:
            for _, part in parts:
                yield part

    @property
    def rows(self) -> list[int | None]:
        """Rows of each partition, None for one that has to be read to know."""
        found = []
        for i, source in enumerate(self._sources or ()):
            header = source.header()
            if header is not None and self._choice is not None:
                header = self._chosen(i, header)
            found.append(None if header is None else header.rows)
        return found

    def __repr__(self) -> str:
        known = "an iterable" if self._sources is None else f"{len(self._sources)} partitions"
        return f"<Partitions: {known}, window={self.window}>"

    # -- for those who train and predict

    @property
    def fit_into_window(self) -> bool:
        """Whether all partitions are in memory at a time."""
        return self._sources is not None and len(self._sources) <= self.window

    @property
    def in_order(self) -> bool:
        """Whether the partitions come in their own order alone."""
        return self._sources is None

    def name(self, number: int) -> str:
        """What a partition is called in messages."""
        return f"partition {number + 1}" if self._sources is None else self._sources[number].name

    def sizes(self) -> list[int | None]:
        """Bytes of the partitions' files."""
        return [None if self._sources is None else s.size for s in self._sources or ()]

    def reader(self) -> Callable[[int], Part]:
        """A function that reads a partition; of an iterable, in their order alone."""
        choice = self._choice
        read = _Cursor(self).read if self._sources is None else self._read
        return read if choice is None else lambda i: choice.of(i, read(i))

    def _read(self, number: int) -> Part:
        assert self._sources is not None
        return self._sources[number].read()

    def _read_all(self) -> Iterator[tuple[int, Part]]:
        """All partitions with their numbers."""
        read, number = self.reader(), 0
        while self._sources is None or number < len(self._sources):
            try:
                part = read(number)
            except EndOfPartitions:
                return
            yield number, part
            number += 1

    def headers(self, see: Callable[[str, Part], None] | None = None) -> list[Header]:
        """What is known of every partition, which reads those that do not tell it.

        `see` is called with each partition's name and its targets and weights; with its rows too,
        where they had to be read. ValueError for rows of other shapes than the first.
        """
        if see is None and self._sources is not None:
            known = [source.header() for source in self._sources]
            if all(header is not None for header in known):
                return self._checked(self.chosen([h for h in known if h is not None]))
        found: list[Header] = []
        with ReadAhead(self._glances(see is not None)) as glances:
            for number, header, part in glances:
                found.append(header)
                self._check(number, header, found[0])
                if see is not None:
                    see(self.name(number), part)
        if not found:
            raise ValueError("partitions is empty: the iterable gave none")
        return found

    def _glances(self, targets: bool) -> Iterator[tuple[int, Header, Part]]:
        if self._sources is None:
            for number, part in self._read_all():
                yield number, header_of(self.name(number), part), part
            return
        for number, source in enumerate(self._sources):
            known = source.header()
            if known is None:
                part = source.read()
            else:
                part = source.read_targets() if targets else Part(None)
            header = header_of(source.name, part) if known is None else known
            if self._choice is not None:
                header, part = self._chosen(number, header), self._choice.of(number, part)
            yield number, header, part

    def _chosen(self, number: int, header: Header) -> Header:
        assert self._choice is not None
        return replace(header, rows=self._choice.count(number, header.rows))

    def chosen(self, headers: list[Header]) -> list[Header]:
        """Headers of whole partitions, with the rows that are chosen of them."""
        if self._choice is None:
            return headers
        return [self._chosen(number, header) for number, header in enumerate(headers)]

    def _checked(self, headers: list[Header]) -> list[Header]:
        for number, header in enumerate(headers):
            self._check(number, header, headers[0])
        return headers

    def _check(self, number: int, header: Header, first: Header) -> None:
        """Refuse a partition that does not go with the first."""
        if header.shape != first.shape and len(header.shape) != 1:
            raise ValueError(f"{self.name(number)}: X has rows of shape {header.shape}, but those "
                             f"of {self.name(0)} have {first.shape}")
        if header.shape != first.shape:
            raise ValueError(f"{self.name(number)}: X has {header.shape[0]} features, but "
                             f"{self.name(0)} has {_features(first.shape)}")
        if header.columns != first.columns and header.columns is not None is not first.columns:
            raise ValueError(f"{self.name(number)}: its columns have other names than those of "
                             f"{self.name(0)}, or another order")

    def split(self, share: float, key: int, headers: list[Header],
              most: int) -> tuple[Partitions, Partitions]:
        """Partitions without a share of their rows, `most` in all, and those rows alone.

        The same share of each partition, drawn by `key`. Partitions are split once.
        """
        assert self._choice is None
        if self._sources is None:
            raise ValueError("rows of an iterable cannot be held out: give rows to validate on, or "
                             "a list of partitions")
        ends = np.cumsum([header.rows for header in headers])
        share = min(share, most / max(1, int(ends[-1])))
        drawn = tuple(int(n) for n in np.diff(np.floor(ends * share + 1e-9), prepend=0.0))
        return self._with(Choice(key, drawn, True)), self._with(Choice(key, drawn, False))

    def _with(self, choice: Choice) -> Partitions:
        other = Partitions.__new__(Partitions)
        other.__dict__ = {**self.__dict__, "_choice": choice}
        return other

    def with_headers(self) -> Iterator[tuple[int, Header, Part]]:
        """All partitions with their numbers and what is known of them, read ahead by a thread.

        ValueError for rows of other shapes than the first.
        """
        first: Header | None = None
        with ReadAhead(self._read_all()) as parts:
            for number, part in parts:
                header = header_of(self.name(number), part)
                known = None if self._sources is None else self._sources[number].header()
                if known is not None:
                    header = replace(known, rows=header.rows)
                first = header if first is None else first
                self._check(number, header, first)
                yield number, header, part
        if first is None:
            raise ValueError("partitions is empty: the iterable gave none")

    def joined(self, parts: Mapping[int, Part]) -> Part:
        """Partitions, by their numbers, as one; of empty ones nothing is known."""
        full = {number: part for number, part in parts.items() if _rows(part)} or parts
        first = next(iter(full.values()))
        for number, part in full.items():
            for what, array, other in zip(Part._fields, part, first):
                if (array is None) != (other is None):
                    has = "has no" if array is None else "has a"
                    raise ValueError(f"{self.name(number)}: {has} {what}, unlike the partitions "
                                     "before; give all of them or none")
                if array is None:
                    continue
                if np.shape(array)[1:] != np.shape(other)[1:]:
                    raise ValueError(f"{self.name(number)}: {what} has entries of shape "
                                     f"{np.shape(array)[1:]}, those of the partitions before have "
                                     f"{np.shape(other)[1:]}")
                if _is_text(array) != _is_text(other):
                    raise ValueError(f"{self.name(number)}: {what} mixes numbers with text, "
                                     "together with the partitions before")
        return Part(*(None if arrays[0] is None else joined(list(arrays))
                      for arrays in zip(*full.values())))


class EndOfPartitions(Exception):
    """There is no partition of this number."""


class _Cursor:
    """An iterable's partitions, one after the other and from the beginning again."""

    def __init__(self, partitions: Partitions):
        self._partitions, self._next = partitions, 0
        self._iterator: Iterator[Any] = iter(())

    def read(self, number: int) -> Part:
        if number == 0:
            self._iterator, self._next = iter(self._partitions._iterable), 0
        assert number == self._next
        name = self._partitions.name(number)
        try:
            given = next(self._iterator)
        except StopIteration:
            raise EndOfPartitions from None
        self._next += 1
        given = given() if callable(given) else given
        return check_lengths(name, as_part(name, given))


def _listed(given: Any, names: Sequence[str] | None) -> list[Source]:
    if names is not None and len(names) != len(given):
        raise ValueError(f"names has {len(names)} entries for {len(given)} partitions")
    if not isinstance(given, (list, tuple)):  # an object that makes them when asked
        return [Made(f"partition {i + 1}" if names is None else str(names[i]),
                     partial(given.__getitem__, i)) for i in range(len(given))]
    found: list[Source] = []
    for i, entry in enumerate(given):
        name = f"partition {i + 1}" if names is None else str(names[i])
        if hasattr(entry, "read_targets"):
            found.append(entry)
        elif callable(entry):
            found.append(Made(name, entry))
        else:
            found.append(Arrays(name, check_lengths(name, as_part(name, entry))))
    return found


def _same_columns(sources: list[Source]) -> list[Source]:
    """Tables with their columns in the first one's order; FileError where one has others."""
    first, *others = sources
    head = first.header()
    if head is None or head.columns is None:
        return sources
    found = [first]
    for source in others:
        own = source.header()
        if own is not None and own.columns is not None and own.columns != head.columns:
            new = [name for name in own.columns if name not in head.columns]
            missing = [name for name in head.columns if name not in own.columns]
            if new or missing:
                said = [f"{what} {', '.join(map(repr, names[:5]))}"
                        for what, names in (("lacks", missing), ("has besides", new)) if names]
                raise FileError(f"{source.name}: its columns are not those of {first.name}: it "
                                f"{' and '.join(said)}")
            source = replace(source, head=replace(own, columns=head.columns))  # type: ignore
        found.append(source)
    return found


def _rows(part: Part) -> int:
    return next((count(array) for array in part if array is not None), 0)


def _is_text(array: Any) -> bool:
    return np.asarray(array[:1]).dtype.kind in "US"


def _features(shape: tuple[int, ...]) -> str:
    return str(shape[0]) if len(shape) == 1 else f"rows of shape {shape}"


def joined(arrays: list[Any]) -> Any:
    """Arrays or frames, one after the other; empty ones do not count."""
    if all(hasattr(array, "iloc") for array in arrays):
        import pandas

        return pandas.concat(arrays, ignore_index=True)
    arrays = [np.asarray(array) for array in arrays]
    full = [array for array in arrays if len(array)] or arrays[:1]
    return np.concatenate(full)
