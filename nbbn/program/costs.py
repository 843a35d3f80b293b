"""What an operation costs on a team of threads: a count of its work, moved bytes and meetings.

A model, and a coarse one: it orders the ways to split a matrix product, and says where a step's
time goes (`scripts/scaling.py`). Results do not depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nbbn.kernels.simd import REGISTERS
from nbbn.kernels.team import ROW_GROUP
from nbbn.program.layout import lanes
from nbbn.program.program import Operation, Program, Segment


@dataclass(frozen=True)
class Machine:
    """What a core does, as far as the costs need it.

    Attributes
    ----------
    cycles : float
        A second.
    products : float
        Vectors multiplied and added a cycle by a matrix tile of two panels.
    odd_panel : float
        How many times slower a tile of one panel is.
    vectors : float
        Vectors a cycle of what is no matrix product: norms, losses, steps of an optimiser, rows
        that are gathered.
    link : float
        Bytes a second that one core reads of what another has written.
    memory : float
        Bytes a second that a core reads of the caller's rows, which stand in memory at random.
    barrier : float
        Seconds of a meeting of two threads.
    arrival : float
        Seconds that each further thread adds to it.
    """

    cycles: float = 3e9
    products: float = 1.8 if REGISTERS == 32 else 1.5
    odd_panel: float = 1.2
    vectors: float = 0.05
    link: float = 5e9
    memory: float = 10e9
    barrier: float = 0.4e-6
    arrival: float = 0.05e-6

    def meeting(self, threads: int) -> float:
        """Seconds of a barrier."""
        return self.barrier + self.arrival * (threads - 2) if threads > 1 else 0.0


HERE = Machine()


@dataclass(frozen=True)
class Cost:
    """Of one operation, of the thread with the most to do.

    Attributes
    ----------
    products : float
        Multiply-adds of a matrix product; of all threads together.
    numbers : float
        Numbers that are handled in another way; of all threads together.
    moved : float
        Bytes that the thread reads of what others have written.
    seconds : float
        Predicted, without the barrier behind it.
    """

    products: float
    numbers: float
    moved: float
    seconds: float


def cost(operation: Operation, program: Program, rows: int, threads: int,
         machine: Machine = HERE) -> Cost:
    """The cost of an operation on a batch of rows."""
    dtype = program.dtype
    of, v, size = operation.operands, lanes(dtype), dtype.itemsize
    if operation.grid == "row_parts":
        return _forward(of, rows, threads, v, size, machine)
    if operation.grid == "depth_parts":
        return _update(of, rows, threads, v, size, machine)
    return _other(operation, rows, threads, v, size, machine)


def _cells(parts: int, threads: int) -> tuple[int, int]:
    """Row parts and column parts of a grid."""
    parts = min(parts, threads)
    return parts, threads // parts


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _product(rows: float, depth: float, panels: int, v: int, machine: Machine) -> float:
    """Seconds of a block of a matrix product."""
    slower = panels + (machine.odd_panel - 1) * (panels % 2)
    return rows * depth * slower / (machine.products * machine.cycles)


def _forward(of: dict[str, Any], rows: int, threads: int, v: int, size: int,
             machine: Machine) -> Cost:
    row_parts, column_parts = _cells(of["row_parts"], threads)
    own = min(rows, ROW_GROUP * _ceil(_ceil(rows, ROW_GROUP), row_parts))
    panels, depth = _ceil(of["panels"], column_parts), of["depth"]
    private = of["x"].segment == Segment.PRIVATE
    x = 0.0 if private else own * depth * size * (1 - 1 / threads)
    weights = depth * panels * v * size * (1 - 1 / row_parts)
    seconds = _product(own, depth, panels, v, machine) + (x + weights) / machine.link
    return Cost(rows * depth * of["panels"] * v, 0, x + weights, seconds)


def _update(of: dict[str, Any], rows: int, threads: int, v: int, size: int,
            machine: Machine) -> Cost:
    depth_parts, column_parts = _cells(of["depth_parts"], threads)
    own = v * _ceil(_ceil(of["depth"], v), depth_parts)
    panels = _ceil(of["panels"], column_parts)
    private = of["x"].segment == Segment.PRIVATE
    x = 0.0 if private else rows * own * size * (1 - 1 / threads)
    # Its columns' gradients, and the weights for who multiplies with them next.
    others = (rows + own) * panels * v * size * (1 - 1 / depth_parts)
    stepped = own * panels / (machine.vectors * machine.cycles)
    seconds = _product(rows, own, panels, v, machine) + stepped + (x + others) / machine.link
    numbers = of["depth"] * of["panels"] * v
    return Cost(rows * of["depth"] * of["panels"] * v, numbers, x + others, seconds)


# How operands end that say where a row's numbers are.
_OF_ROWS = ("_stride", "_panel", "_image", "_pixel", "pixels")


def _other(operation: Operation, rows: int, threads: int, v: int, size: int,
           machine: Machine) -> Cost:
    """Of what is split in one way: by columns, rows or blocks of images."""
    of = operation.operands
    splits = {access.split for _, access, _ in operation.accesses() if access.writes}
    most = of.get("blocks") or (rows if "rows" in splits else of.get("panels", 1))
    share = _ceil(most, min(threads, most)) / most
    if "x" in of and of.get("out") is not None and of["out"].segment == Segment.PRIVATE:
        share = 1.0  # each thread gathers for itself
    image = of.get("z_image") or of.get("dz_image")
    if image and "weight_depth" in of:
        products = rows * image * of["weight_depth"]
        return Cost(products, 0, 0, products / v * share / (machine.products * machine.cycles))
    touches_rows = any(name.endswith(_OF_ROWS) for name in of)
    width = of.get("width") or of.get("panels", 1) * v
    numbers = (rows if touches_rows or "labels" in of else 1) * of.get("pixels", 1) * width
    seconds = numbers / v * share / (machine.vectors * machine.cycles)
    if operation.kernel.startswith("gather_"):
        seconds = max(seconds, numbers * share * size / machine.memory)
    return Cost(0, numbers, 0, seconds)


def result_bytes(operation: Operation, program: Program, rows: int) -> float:
    """Bytes that a matrix product writes."""
    panels: int = operation.operands["panels"]
    return rows * panels * lanes(program.dtype) * program.dtype.itemsize


def step_seconds(program: Program, rows: int, threads: int, machine: Machine = HERE) -> float:
    """Predicted seconds of a step, barriers included."""
    work = sum(cost(op, program, rows, threads, machine).seconds for op in program.operations)
    return work + sum(program.barriers()) * machine.meeting(threads)
