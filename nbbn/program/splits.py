"""Which block of a matrix product each thread computes: a grid for each operation, by its cost.

From columns alone (one part of the rows) to rows alone. What an operation writes is read by others:
where these want the same part of it in the same thread no barrier stands between.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from nbbn.kernels.registry import Access
from nbbn.kernels.team import BY_ROWS
from nbbn.program.costs import HERE, Machine, cost, result_bytes, step_seconds
from nbbn.program.program import Buffer, Operation, Program

# A split other than by columns must take less than this share of the time of that one, which moves
# least and whose costs are known best.
WORTH_IT = 0.85


def split(program: Program, rows: int, threads: int, machine: Machine = HERE) -> Program:
    """The program with the splits that cost least on a team of threads; found once.

    Parameters
    ----------
    program : Program
    rows : int
        Of a batch.
    threads : int
    machine : Machine
    """
    if threads == 1:
        return program
    if (rows, threads, machine) not in program.splits:
        program.splits[rows, threads, machine] = _split(program, rows, threads, machine)
    return program.splits[rows, threads, machine]


def _split(program: Program, rows: int, threads: int, machine: Machine) -> Program:
    """The cheaper of two: each thread gathers all rows for itself, or all threads share them."""
    whole = _in_grids(program, rows, threads, machine)
    if not program.shared:
        return whole
    shared = _in_grids(_with_shared_rows(program), rows, threads, machine)
    return min(whole, shared, key=lambda way: step_seconds(way, rows, threads, machine))


# Kernels that gather for one thread, and those that do it for all.
_SHARING = {"gather_all_rows": "gather_rows", "gather_all_panels": "gather_panels"}


def _with_shared_rows(program: Program) -> Program:
    operations = []
    for op in program.operations:
        operands = {name: program.shared.get(value, value) if isinstance(value, Buffer) else value
                    for name, value in op.operands.items()}
        operations.append(Operation(_SHARING.get(op.kernel, op.kernel), operands))
    return program.with_operations(operations)


def _in_grids(program: Program, rows: int, threads: int, machine: Machine) -> Program:
    chosen = list(program.operations)
    whole = program.with_operations(chosen)
    for i, operation in enumerate(chosen):
        if operation.grid is None:
            continue
        ways = [_with_parts(operation, parts) for parts in _parts(operation, threads)]
        seconds = [_seconds(whole, i, way, rows, threads, machine) for way in ways]
        best = min(range(len(ways)), key=seconds.__getitem__)
        chosen[i] = ways[best if seconds[best] < WORTH_IT * seconds[0] else 0]
    return whole


def _parts(operation: Operation, threads: int) -> list[int]:
    """Numbers of row parts to choose from: those that leave no thread over."""
    parts = [n for n in range(1, threads) if threads % n == 0]
    return [*parts, BY_ROWS if operation.grid == "row_parts" else threads]


def _with_parts(operation: Operation, parts: int) -> Operation:
    assert operation.grid
    return replace(operation, operands={**operation.operands, operation.grid: parts})


def _seconds(program: Program, i: int, way: Operation, rows: int, threads: int,
             machine: Machine) -> float:
    """What an operation costs in a way.

    Where what follows wants another part of what it has written, with a barrier and the way of that
    part from core to core.
    """
    seconds = cost(way, program, rows, threads, machine).seconds
    written = {name: access for name, access, _ in way.accesses() if access.writes}
    for reader, access in _next_readers(program, i, set(written)):
        if access.split in ("columns", "rows") and access.split != written[reader].split:
            seconds += machine.meeting(threads)
            if way.grid == "row_parts":
                share = result_bytes(way, program, rows) / threads * (1 - 1 / threads)
                seconds += share / machine.link
    return seconds


def _next_readers(program: Program, i: int, names: set[str]) -> Iterator[tuple[str, Access]]:
    """For each buffer its next use in the step."""
    wanted = set(names)
    for operation in program.operations[i + 1 :]:
        for name, access, _ in operation.accesses():
            if name in wanted:
                wanted.discard(name)
                yield name, access
