"""A program: rows of kernel calls over named buffers.

Barriers stand where the kernels' own declarations demand them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np

from nbbn.kernels import KERNELS
from nbbn.kernels.executor import ARRIVAL, BARRIER, BLOCKS_SHIFT, GROUP_SHIFT
from nbbn.kernels.registry import OPERANDS, SEGMENT_SHIFT, Access, Real
from nbbn.kernels.team import BY_ROWS, ROW_GROUP
from nbbn.program.layout import ALIGNMENT


class Segment(IntEnum):
    """What a buffer lives in; each has a base address that is bound when the program runs."""

    PARAMS = 0  # parameters and optimiser state
    WORK = 1  # activations and gradients
    X = 2
    Y = 3
    ORDER = 4
    LOSSES = 5
    HITS = 6
    OUT = 7
    GAMMA = 8
    BETA = 9
    PRIVATE = 10  # working memory that each thread has for itself
    WEIGHTS = 11  # of the caller's rows
    # Of rows of stored elements, whose values are X, and of a step's elements sorted by column.
    X_COLUMNS = 12
    X_STARTS = 13
    ENTRY_ROWS = 14
    ENTRIES = 15
    # Of a batch that several processes share: each row's place in it, and where each shard begins.
    PLACES = 16
    SHARDS = 17


@dataclass(frozen=True)
class Buffer:
    """A named piece of a segment."""

    name: str
    segment: Segment
    offset: int = 0  # bytes

    @property
    def operand(self) -> int:
        """The word that stands for it in a program row."""
        return (int(self.segment) << SEGMENT_SHIFT) | self.offset

    def at(self, items: int, itemsize: int) -> Buffer:
        """The same buffer from an item on."""
        return Buffer(self.name, self.segment, self.offset + items * itemsize)


@dataclass
class Operation:
    """One kernel call of a step."""

    kernel: str
    operands: dict[str, Any]

    def accesses(self) -> Iterator[tuple[str, Access, int | None]]:
        """`(buffer name, Access, panels)` of each buffer that threads share."""
        for name, access in KERNELS[self.kernel].buffers().items():
            if self.operands[name].segment != Segment.PRIVATE:
                if self.grid is not None:
                    access = replace(access, split=self._split(access.split))
                yield self.operands[name].name, access, self.operands.get("panels")

    @property
    def grid(self) -> str | None:
        """The operand that says how the threads stand in a grid, of an operation with one."""
        return next((name for name in GRIDS if name in self.operands), None)

    def _split(self, split: str) -> str:
        """What a split in a grid comes to: with one part of the rows, columns; with all, rows."""
        if self.grid is None or not split.startswith("grid"):
            return split
        parts = self.operands[self.grid]
        if parts == 1:
            return {"grid": "columns", "grid rows": "all", "grid columns": "columns"}[split]
        if parts == BY_ROWS and self.grid == "row_parts":
            return {"grid": "rows", "grid rows": "rows", "grid columns": "all"}[split]
        return f"{self.grid} {parts}" if split == "grid" else "all"

    def by_image(self) -> bool:
        """Whether threads share it out by blocks of images, and by nothing else."""
        splits = {access.split for _, access, _ in self.accesses() if access.writes}
        return "blocks" in self.operands and splits == {"images"}

    def parallelism(self, rows: int) -> int:
        """The most threads that it has work for: a panel each, or a cell of a grid."""
        panels = self.operands.get("panels", 1)
        if self.grid is None:
            return panels
        long = rows if self.grid == "row_parts" else self.operands["depth"]
        return panels * -(-long // ROW_GROUP)

    def __str__(self) -> str:
        shown = []
        for name, value in self.operands.items():
            shown.append(
                f"{name}={value.name}" if isinstance(value, Buffer) else f"{name}={value:g}"
            )
        return f"{self.kernel}({', '.join(shown)})"


# Operands that say in how many parts the rows of a grid are cut, those of a batch or of a kernel.
GRIDS = ("row_parts", "depth_parts")
# An access of an operation: buffer name, how, panels.
_Access = tuple[str, Access, int | None]
# By a buffer's name those that share some of its memory.
_Overlaps = dict[str, frozenset[str]]


def _meet(a: _Access, b: _Access, overlaps: _Overlaps, *, same_step: bool) -> bool:
    """Must all threads be through with access `a` before `b` begins?

    The next step may have fewer rows: then other threads own them.
    """
    if not (a[1].writes or b[1].writes):
        return False
    if a[0] != b[0]:
        return b[0] in overlaps.get(a[0], ())
    split = a[1].split
    kept = split in ("columns", "alone") or split.startswith("depth_parts")
    kept = kept or (same_step and (split in ("rows", "images") or split.startswith("row_parts")))
    same_columns = split in ("alone", "rows", "images") or a[2] == b[2]
    return not (split == b[1].split and kept and same_columns)


def _meet_where_due(due: list[bool], accesses: list[list[_Access]], overlaps: _Overlaps) -> None:
    """Add the barriers that are due, besides those that there are, in a step or two of them.

    The second step sees what the first one's end leaves for the next one's beginning.
    """
    count = len(due)
    unmet: dict[str, list[tuple[int, _Access]]] = {}  # by buffer, with their step
    for at, mine in enumerate(accesses):
        step, i = divmod(at, count)
        if any(_meet(a, b, overlaps, same_step=s == step) for b in mine
               for name in (b[0], *overlaps.get(b[0], ())) for s, a in unmet.get(name, ())):
            due[i - 1] = True
            unmet = {}
        for access in mine:
            unmet.setdefault(access[0], []).append((step, access))
        if due[i]:
            unmet = {}


@dataclass
class Program:
    """Operations over buffers of one dtype.

    Attributes
    ----------
    dtype : numpy.dtype
        float32 or float64.
    operations : list of Operation
    sizes : dict
        Bytes of the segments that the program lays out itself.
    shared : dict
        Of what each thread may have for itself, the place where threads could share one.
    splits : dict
        What `nbbn.program.splits` has made of the program, once it is whole.
    tag : str
        Joins the names of new buffers, which tell barriers apart.
    in_step : bool
        Whether all threads meet after every operation, as they must where buffers share memory
        whatever barriers there are.
    pieces : dict
        First byte and bytes of each working buffer, by name.
    overlaps : dict
        Of each working buffer those that share some of its memory, by name.
    """

    dtype: np.dtype
    operations: list[Operation] = field(default_factory=list)
    sizes: dict[Segment, int] = field(default_factory=dict)
    shared: dict[Buffer, Buffer] = field(default_factory=dict, repr=False)
    splits: dict[Any, Program] = field(default_factory=dict, repr=False)
    tag: str = ""
    in_step: bool = False
    pieces: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    overlaps: _Overlaps = field(default_factory=dict, repr=False)
    _tables: dict[tuple[str, bool], np.ndarray] = field(default_factory=dict, repr=False)

    def buffer(self, name: str, segment: Segment, items: int,
               itemsize: int | None = None) -> Buffer:
        """A new buffer at the end of a segment, on a cache line of its own."""
        offset = self.sizes.get(segment, 0)
        size = items * (itemsize or self.dtype.itemsize)
        whole = -(-size // ALIGNMENT) * ALIGNMENT
        self.sizes[segment] = offset + whole
        made = Buffer(f"{name}{self.tag}", segment, offset)
        if segment == Segment.WORK:
            if made.name in self.pieces:
                raise ValueError(f"two working buffers are named {made.name}")
            self.pieces[made.name] = offset, whole
        return made

    def with_operations(self, operations: list[Operation]) -> Program:
        """Other operations on the same memory."""
        return Program(self.dtype, operations, self.sizes, pieces=self.pieces,
                       overlaps=self.overlaps)

    def add(self, kernel: str, **operands: Any) -> None:
        """Append a kernel call; every operand of the kernel must be named."""
        wanted = KERNELS[kernel].operands
        if set(wanted) != set(operands):
            raise TypeError(f"{kernel} takes {wanted}, got {sorted(operands)}")
        self.operations.append(Operation(kernel, {name: operands[name] for name in wanted}))
        self._tables.clear()

    def share_memory(self, segment: Segment) -> None:
        """Give the buffers of a segment memory by lifetime, first fit: from first use to last.

        For a program whose operations run in order on one thread, and that leaves nothing behind.
        """
        self._tables.clear()
        uses = self.uses(segment)
        ends = [*sorted(first for first, _, _ in uses.values()), self.sizes.get(segment, 0)]
        size = {name: ends[ends.index(first) + 1] - first for name, (first, _, _) in uses.items()}
        placed: dict[str, int] = {}
        for name, (_, begin, end) in sorted(uses.items(), key=lambda use: use[1][1]):
            taken = sorted(
                (at, at + size[other])
                for other, at in placed.items()
                if uses[other][1] <= end and begin <= uses[other][2]
            )
            placed[name] = first_gap(taken, size[name])
        moved = {name: placed[name] - first for name, (first, _, _) in uses.items()}
        for operation in self.operations:
            for key, value in operation.operands.items():
                if isinstance(value, Buffer) and value.segment == segment:
                    offset = value.offset + moved[value.name]
                    operation.operands[key] = Buffer(value.name, segment, offset)
        self.sizes[segment] = max((placed[name] + size[name] for name in placed), default=0)

    def move(self, moves: Callable[[Buffer], Buffer], places: dict[str, int], size: int) -> None:
        """Give working buffers other places, which they may share.

        Parameters
        ----------
        moves : callable
            From a buffer, or a part of one, to where it stands then.
        places : dict
            First byte of each that has a place, by name.
        size : int
            Bytes of all together.
        """
        self._tables.clear()
        for operation in self.operations:
            operation.operands = {key: moves(value) if isinstance(value, Buffer) else value
                                  for key, value in operation.operands.items()}
        self.shared = {own: moves(place) for own, place in self.shared.items()}
        self.pieces = {name: (at, self.pieces[name][1]) for name, at in places.items()}
        self.overlaps = _overlaps(self.pieces)
        self.sizes[Segment.WORK] = size

    def uses(self, segment: Segment) -> dict[str, tuple[int, int, int]]:
        """Each buffer's first byte, and the first and last operation that use it."""
        uses: dict[str, tuple[int, int, int]] = {}
        for i, operation in enumerate(self.operations):
            for value in operation.operands.values():
                if isinstance(value, Buffer) and value.segment == segment:
                    start, begin, _ = uses.get(value.name, (value.offset, i, i))
                    uses[value.name] = min(start, value.offset), begin, i
        return uses

    def parallelism(self, rows: int) -> int:
        """The most threads that any operation has work for; more would only wait."""
        blocks = max(op.operands.get("blocks", 0) for op in self.operations)
        return blocks or max(op.parallelism(rows) for op in self.operations)

    def barriers(self, *, repeats: bool = True) -> list[bool]:
        """After which operations all threads must meet.

        `repeats` for steps that follow each other without end.
        """
        due = [self.in_step] * len(self.operations)
        accesses = [list(op.accesses()) for op in self.operations] * (2 if repeats else 1)
        _meet_where_due(due, accesses, {})
        # Of shared memory afterwards: most of it is taken over behind a barrier that is there.
        if self.overlaps:
            _meet_where_due(due, accesses, self.overlaps)
        return due

    def arrivals(self, barriers: list[bool]) -> list[bool]:
        """After which operations threads arrive at the barrier that comes next.

        As soon as all is done that others read or write behind it. What a thread does between its
        arrival and the barrier nobody waits for.
        """
        count = len(self.operations)
        due, waits = [False] * count, [i for i, barrier in enumerate(barriers) if barrier]
        accesses = [list(op.accesses()) for op in self.operations]
        groups = self.groups(barriers)
        for k, wait in enumerate(waits):
            after = waits[k + 1] if k + 1 < len(waits) else waits[0] + count
            first = waits[k - 1] + 1 if k > 0 else 0
            # Of the last step's end, too, which has no barrier behind it.
            before = range(waits[k - 1] + 1 - (0 if k > 0 else count), wait + 1)
            arrival = max((i for i in before for j in range(wait + 1, after + 1)
                           if self._conflict(accesses, i, j)), default=first)
            arrival = wait if self.in_step else max(arrival, first)
            while arrival < wait and groups[arrival + 1] == 0:  # a group is done as a whole
                arrival += 1
            due[arrival] = True
        return due

    def _conflict(self, accesses: list[list[_Access]], i: int, j: int) -> bool:
        """Whether operation `j` may only begin when all threads are through with `i`.

        Those of the step before have numbers below 0, those of the next one follow on.
        """
        count = len(accesses)
        same = i // count == j // count
        return any(_meet(a, b, self.overlaps, same_step=same)
                   for a in accesses[i % count] for b in accesses[j % count])

    def groups(self, barriers: list[bool]) -> list[int]:
        """For each operation how many, from it on, can go block by block; 0 within such a run."""
        groups, i = [1] * len(self.operations), 0
        while i < len(self.operations):
            end = i
            while end < len(self.operations) and self.operations[end].by_image():
                end += 1
                if barriers[end - 1]:
                    break
            for k in range(i, end):
                groups[k] = end - i if k == i else 0
            i = max(end, i + 1)
        return groups

    def table(self, source: np.dtype | None = None, *, repeats: bool = True) -> np.ndarray:
        """The rows as the executor reads them: int64, address, barrier flag, operands.

        Compiles the kernels it names. Made once, and not to be changed.

        Parameters
        ----------
        source : numpy.dtype, optional
            Of the caller's rows; the program's own by default.
        repeats : bool
            Whether the program runs step after step.
        """
        key = np.dtype(source or self.dtype).name, repeats
        if key not in self._tables:
            self._tables[key] = self._table(source, repeats)
        return self._tables[key]

    def _table(self, source: np.dtype | None, repeats: bool) -> np.ndarray:
        width = OPERANDS + max(len(op.operands) for op in self.operations)
        table = np.zeros((len(self.operations), width), np.int64)
        barriers = self.barriers(repeats=repeats)
        marks = zip(barriers, self.arrivals(barriers), self.groups(barriers))
        for row, op, (barrier, arrival, group) in zip(table, self.operations, marks):
            kernel = KERNELS[op.kernel]
            reads_x = any(
                isinstance(b, Buffer) and b.segment == Segment.X for b in op.operands.values()
            )
            row[0] = kernel.address(self.dtype, source if reads_x else None)
            row[1] = barrier * BARRIER | arrival * ARRIVAL
            if group > 1 and op.operands["blocks"] > 1:
                row[1] |= group << GROUP_SHIFT | op.operands["blocks"] << BLOCKS_SHIFT
            for k, (name, value) in enumerate(op.operands.items()):
                if isinstance(value, Buffer):
                    row[OPERANDS + k] = value.operand
                elif kernel.parameters[name] is Real:
                    row[OPERANDS + k] = np.float64(value).view(np.int64)
                else:
                    row[OPERANDS + k] = value
        return table

    def __str__(self) -> str:
        lines, barriers = [], self.barriers()
        for op, barrier, arrival in zip(self.operations, barriers, self.arrivals(barriers)):
            lines.append(str(op))
            if arrival and not barrier:
                lines.append("-> arrived")
            if barrier:
                lines.append("--")
        return "\n".join(lines)


def _overlaps(pieces: dict[str, tuple[int, int]]) -> _Overlaps:
    """By name the others that have some bytes of a piece `(first byte, bytes)`."""
    found: dict[str, set[str]] = {name: set() for name in pieces}
    open_: list[tuple[int, str]] = []  # end, name
    for name, (start, size) in sorted(pieces.items(), key=lambda piece: piece[1]):
        open_ = [(end, other) for end, other in open_ if end > start]
        for _, other in open_:
            found[name].add(other)
            found[other].add(name)
        open_.append((start + size, name))
    return {name: frozenset(others) for name, others in found.items() if others}


def first_gap(taken: list[tuple[int, int]], size: int) -> int:
    """The first place for `size` bytes between pieces `(start, end)`, ascending by start."""
    at = 0
    for start, end in taken:
        if at + size <= start:
            break
        at = max(at, end)
    return at
