"""Races of a program.

Pairs of accesses that two threads may make at the same time to the same memory, one of them a
write.

No threads and no luck: the program's table is walked as the executor walks it, for several numbers
of threads and for two steps in a row, the second of fewer rows. Every access of every thread is
compared with those of the others that no barrier sets apart: what is done before a thread arrives
at a barrier is apart from what others do behind it. What a thread touches follows from the meaning
of the split that its kernel declares:

- `columns`: its share of the panels; `rows`: its share of the rows, in groups of eight, or of the kernel's own blocks; `images`:
  its share of the blocks of images, that is certain rows, and as many partial results;
- `alone`: all of it in the first thread, nothing in the others;
- `grid`: certain rows (of a batch, or of a kernel) of certain panels, by the operand that says how
  many parts of the rows there are; `grid rows` and `grid columns`: the rows or the panels of these;
- `all` and `steps`: any of it.

Parts that are cut in different ways have numbers in common, whatever these are. So have any parts
of two buffers that share memory.
"""

from __future__ import annotations

import functools

import pytest

from nbbn.kernels import KERNELS
from nbbn.kernels.executor import ARRIVAL, BARRIER, BLOCKS_SHIFT, GROUP_MASK, GROUP_SHIFT
from nbbn.kernels.registry import Kernel
from nbbn.kernels.team import ROW_GROUP
from nbbn.program.program import Buffer, Segment

TEAMS = (2, 3, 7)
ROWS = (41, 18)  # of the first step and of the second
PIECES = {"columns": "panels", "images": "blocks"}  # the operand that says how many there are


def table_of(program):
    """The program's table without its kernels: nothing is compiled."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Kernel, "address", lambda *args: 0)
        return program.table()


def _share(count, thread, threads):
    return count * thread // threads, count * (thread + 1) // threads


def _part(split, pieces, rows, thread, threads):
    """What a kernel touches that is told it is thread `thread` of `threads`.

    How the buffer is cut, then ranges of pieces.
    """
    if split == "alone":
        return "all", (0, int(thread == 0))
    if isinstance(pieces, tuple):
        return _cell(split, *pieces, rows, thread, threads)
    if split == "columns":
        return ("columns", pieces), _share(pieces, thread, threads)
    if split == "rows" and pieces:
        return ("blocks", pieces), _share(pieces, thread, threads)
    if split == "rows":
        first, end = _share(-(-rows // ROW_GROUP), thread, threads)
        return "rows", (min(first * ROW_GROUP, rows), min(end * ROW_GROUP, rows))
    if split == "images":
        first, end = _share(pieces, thread, threads)
        return ("images", pieces), (first, end), (rows * first // pieces, rows * end // pieces)
    assert split in ("all", "steps"), split
    return "all", (0, 1)


def _cell(split, grid, parts, panels, rows, thread, threads):
    """A thread's part in a grid of threads; threads left over have none."""
    parts = min(parts, threads)
    columns = _share(panels, thread // parts, threads // parts)
    if thread // parts >= threads // parts:
        columns = (0, 0)
    own = _part("rows", 0, rows, thread % parts, parts)[1]
    if split == "grid columns":
        return ("columns", panels) if parts == 1 else ("all",), columns
    if split == "grid rows":
        return ("rows" if parts == threads else "all"), own
    if grid == "row_parts" and parts == threads:
        return "rows", own
    if parts == 1:
        return ("columns", panels), columns
    return ("grid", grid, parts, panels), (thread % parts, thread % parts + 1), columns


@functools.cache
def _touched(split, pieces, rows, blocks, thread, threads):
    """The part of one thread of the team.

    Within a group of operations that of all its blocks together.
    """
    if not blocks:
        return _part(split, pieces, rows, thread, threads)
    parts = [
        _part(split, pieces, rows, block, blocks)
        for block in range(*_share(blocks, thread, threads))
    ]
    if not parts:
        return "all", (0, 0)
    # Blocks follow each other, and so do the parts; where one is empty it lies between the others.
    return parts[0][0], *(
        (min(a for a, _ in r), max(b for _, b in r)) for r in zip(*(part[1:] for part in parts))
    )


@functools.cache
def _meet(one, other, threads):
    """Whether different threads touch the same numbers in two accesses."""
    for a in range(threads):
        cut, *mine = _touched(*one, a, threads)
        if all(first >= end for first, end in mine):
            continue
        for b in range(threads):
            its_cut, *its = _touched(*other, b, threads)
            if a == b or all(first >= end for first, end in its):
                continue
            if cut != its_cut:
                return True
            shared = [max(p, r) < min(q, s) for (p, q), (r, s) in zip(mine, its)]
            # Two cells of a grid are apart where their rows or columns are. An image's numbers or a
            # block's results: the parts are apart only where both are.
            if all(shared) if cut[0] == "grid" else any(shared):
                return True
    return False


@functools.cache
def _meet_elsewhere(one, other, threads):
    """Whether different threads touch anything in two accesses."""
    def touches(part, thread):
        return all(first < end for first, end in _touched(*part, thread, threads)[1:])

    return any(touches(one, a) and touches(other, b)
               for a in range(threads) for b in range(threads) if a != b)


def _accesses(op, rows, blocks):
    """Buffer name, whether it is written, and what decides about the part, of each buffer that
    threads share.
    """
    for name, access in KERNELS[op.kernel].buffers().items():
        buffer = op.operands[name]
        if buffer.segment != Segment.PRIVATE:
            if access.split.startswith("grid"):
                pieces = (op.grid, op.operands[op.grid], op.operands["panels"])
            elif access.split in PIECES:
                pieces = op.operands[PIECES[access.split]]
            else:
                pieces = op.operands.get("blocks", 0)
            yield buffer.name, access.writes, (access.split, pieces, rows, blocks)


def _walked(program, table):
    """The operations of a step as the executor reads them.

    `(index, operation, blocks of its group or 0, threads arrive, they wait)`.
    """
    i = 0
    while i < len(table):
        group = int(table[i, 1]) >> GROUP_SHIFT & GROUP_MASK
        size, blocks = (group, int(table[i, 1]) >> BLOCKS_SHIFT) if group > 1 else (1, 0)
        for k in range(i, i + size):
            word = int(table[k, 1]) if k == i + size - 1 else 0
            yield k, program.operations[k], blocks, bool(word & ARRIVAL), bool(word & BARRIER)
        i += size


def races(program, table=None, teams=TEAMS, rows=ROWS, own_places=True):
    """`(first kernel, second kernel, buffer)` of each pair of operations that race.

    Parameters
    ----------
    program : Program
    table : ndarray, optional
        Its table, as it is or changed.
    teams : tuple of int
        Numbers of threads.
    rows : tuple of int
        Rows of each step that follows.
    own_places : bool
        Whether buffers stand where their names say; not in inference, where a thread has memory of
        its own and uses it again.
    """
    table = table_of(program) if table is None else table
    shared = check_places(program) if own_places else {}
    found, unmet, arrived = [], [], 0  # accesses that no barrier is behind, and those before one
    for step, n in enumerate(rows):
        for i, op, blocks, arrival, barrier in _walked(program, table):
            mine = [(step, i, op.kernel, *access) for access in _accesses(op, n, blocks)]
            for s, j, kernel, buffer, writes, part in unmet:
                for _, _, _, its_buffer, its_writes, its_part in mine:
                    elsewhere = its_buffer in shared.get(buffer, ())
                    if buffer != its_buffer and not elsewhere:
                        continue
                    if (writes or its_writes) and (s, j) != (step, i):
                        meet = _meet_elsewhere if elsewhere else _meet
                        if any(meet(part, its_part, team) for team in teams):
                            found.append((kernel, op.kernel, buffer))
            unmet = unmet + mine
            if arrival:
                arrived = len(unmet)
            if barrier:
                unmet, arrived = unmet[arrived:], 0
    return sorted(set(found))


def check_places(program):
    """Which buffers share memory, by name.

    Each of them holds what it holds from its first use to its last, and no other is used meanwhile.
    All the others have one name for each place, since buffers are told apart by name.
    """
    names, ranges, uses = {}, {}, {}
    for i, op in enumerate(program.operations):
        for value in op.operands.values():
            if not isinstance(value, Buffer) or value.segment == Segment.PRIVATE:
                continue
            if value.segment == Segment.WORK and value.name in program.pieces:
                first, size = program.pieces[value.name]
                assert first % 64 == 0 and first <= value.offset < first + max(size, 1), value
                ranges[value.name] = first, first + size
                uses[value.name] = uses.get(value.name, (i, i))[0], i
                continue
            assert names.setdefault(value.operand, value.name) == value.name, (
                value,
                names[value.operand],
            )
    shared = {name: set() for name in ranges}
    for name, (first, end) in ranges.items():
        for other, (its_first, its_end) in ranges.items():
            if name != other and max(first, its_first) < min(end, its_end):
                assert uses[name][1] < uses[other][0] or uses[other][1] < uses[name][0]
                shared[name].add(other)
    return shared
