#!/usr/bin/env python
"""How a training step grows with threads: counts, predicted time, and measured time beside it.

    scaling.py --features 784 --hidden 128 64 32 --outputs 10 --batch 32 256 1024
    scaling.py --batch 256 --threads 16 --operations
    scaling.py --measure --page docs/scaling.md

For each batch and team of threads: multiply-adds, bytes that the busiest thread reads of what other
cores have written, barriers, and the seconds that follow from them (`nbbn.program.costs`). What a
core multiplies, what a barrier costs and how fast cores read each other's writes is measured on
this machine first. `--measure` times the step where this machine has the threads; `--page` writes
the tables and a plot beside them.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

import nbbn
from nbbn.group import ALONE, Group
from nbbn.kernels import KERNELS
from nbbn.kernels.executor import BARRIER, STEP_WORDS
from nbbn.layers import BatchNormalization, Dense, Layer, ReLU
from nbbn.network import computation
from nbbn.operations import Computation
from nbbn.optimizers import Adam
from nbbn.program.costs import HERE, Cost, Machine, cost, step_seconds
from nbbn.program.layout import lanes
from nbbn.program.program import Program, Segment
from nbbn.program.runnable import TrainingRun
from nbbn.program.splits import split
from nbbn.trainer import Trainer

F32 = np.dtype("float32")
TEAMS = (1, 2, 4, 8, 16, 32, 64)
ROUNDS = 7
FASTEST_LINK = 50e9  # bytes a second


def network(features: int, hidden: Sequence[int], outputs: int) -> Computation:
    """Of dense layers with batch norms and ReLUs."""
    layers: list[Layer] = []
    for units in hidden:
        layers += [Dense(units), BatchNormalization(), ReLU()]
    return computation([*layers, Dense(outputs, activation="softmax")], (features,))


class Case:
    """A network's training step on a batch, which a group of processes may share."""

    def __init__(self, features: int, hidden: Sequence[int], outputs: int, batch: int,
                 group: Group = ALONE):
        self.features, self.outputs, self.batch = features, outputs, batch
        self.steps, self.group = max(3, 20_000 // batch), group
        self.trainer = Trainer(network(features, hidden, outputs), F32, F32, batch,
                               "softmax_cross_entropy", Adam(1e-3), group=group)

    def program(self, threads: int) -> Program:
        """As it is split over a team."""
        return split(self.trainer.lowered.program, self.batch, threads)

    def costs(self, threads: int, machine: Machine) -> list[Cost]:
        """Of each operation."""
        program = self.program(threads)
        return [cost(op, program, self.batch, threads, machine) for op in program.operations]

    def measured(self, threads: int,
                 figure: Callable[[list[float]], float] = statistics.median) -> float:
        """Seconds of a step on random rows: the median, or another figure, of some rounds."""
        rng, steps = np.random.default_rng(0), self.steps
        rows = steps * self.batch
        share = self.group.share(rng.permutation(rows), np.arange(0, rows + 1, self.batch))
        arrays = {
            Segment.X: rng.random((rows, self.features), np.float32),
            Segment.Y: rng.integers(0, self.outputs, rows), Segment.ORDER: share.order,
            Segment.LOSSES: np.empty(rows), Segment.HITS: np.zeros(rows),
        }
        if share.places is not None:
            arrays[Segment.PLACES] = share.places
        words = np.zeros((steps, STEP_WORDS), np.int64)
        words[:, 0], words[:, 1] = np.diff(share.edges), share.edges[:-1]
        words[:, 3:6] = np.array([1e-3, 0.0, float(self.batch)]).view(np.int64)
        words[:, 6] = self.batch
        return timed(self.trainer._steps, words, arrays, threads, figure) / steps


def timed(run: TrainingRun, words: np.ndarray, arrays: dict[Segment, np.ndarray],
          threads: int, figure: Callable[[list[float]], float] = statistics.median) -> float:
    """Seconds of a run of steps: a figure of some rounds."""
    run.run(words, arrays, threads)
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        run.run(words, arrays, threads)
        found.append(time.perf_counter() - began)
    return figure(found)


def seconds_of(operations: list[tuple[str, dict[str, int]]], rows: int, repeats: int,
               threads: int) -> float:
    """Median seconds of kernels in a row, on memory of their own, a barrier behind each.

    Operands that are no numbers are buffers of their name; `x` begins at `x_from` of it.
    """
    program = Program(F32)
    buffers = {name: program.buffer(name, Segment.WORK, 1 << 18)
               for name in ("x", "z", "out", "weights", "bias")}
    for kernel, numbers in operations:
        places = {**buffers, "x": buffers["x"].at(numbers.get("x_from", 0), F32.itemsize)}
        program.add(kernel, **{name: numbers.get(name, places.get(name))
                               for name in KERNELS[kernel].operands})
    run = TrainingRun(program, F32, np.zeros(64, np.uint8), rows)
    table = run.table(threads).copy()
    table[:, 1] |= BARRIER
    run._tables[threads] = table
    words = np.zeros((repeats, STEP_WORDS), np.int64)
    words[:, 0] = rows
    return timed(run, words, {}, threads) / repeats


def this_machine() -> Machine:
    """What a core multiplies here, what two threads' meeting costs, and their way to each other."""
    rows, depth, panels, v = 256, 512, 8, lanes(F32)
    product = {"x_stride": depth + v, "depth": depth, "weight_depth": depth,
               "z_stride": panels * v, "panels": panels, "row_parts": 1, "shared": 0,
               "relu": 0}
    seconds = seconds_of([("dense_forward", product)], rows, 50, 1)
    machine = replace(HERE, products=rows * depth * panels / seconds / HERE.cycles)
    if nbbn.get_num_threads() < 2:
        return machine
    alone, both = (seconds_of([("column_sum", {"x_stride": v, "panels": 1})], 1, 5000, n)
                   for n in (1, 2))
    # Columns that the thread itself has written, and as many that the other one has.
    stride = (panels + panels // 2 + 1) * v
    written = ("relu_forward", {"x_stride": stride, "panels": panels})
    own, others = (
        seconds_of([written, ("column_sum", {"x_stride": stride, "panels": panels, "x_from": at})],
                   rows, 200, 2)
        for at in (0, panels // 2 * v)
    )
    # Where the difference drowns in noise the way is short, and no core reads faster than that.
    moved = rows * panels // 2 * v * F32.itemsize
    link = moved / max(others - own, moved / FASTEST_LINK)
    return replace(machine, barrier=max(both - alone, 5e-8), link=link)


def table(case: Case, teams: list[int], machine: Machine, measure: bool) -> list[list[str]]:
    """A row for each team of threads: what stands under `HEADINGS`."""
    rows = []
    for threads in teams:
        costs, program = case.costs(threads, machine), case.program(threads)
        predicted = step_seconds(program, case.batch, threads, machine)
        here = measure and threads <= nbbn.get_num_threads()
        rows.append([
            str(threads), f"{sum(c.products for c in costs) / 1e6:.1f}",
            f"{sum(c.moved for c in costs) / 1e3:.0f}", str(sum(program.barriers())),
            f"{predicted * 1e6:.0f}", f"{case.measured(threads) * 1e6:.0f}" if here else "-",
        ])  # fmt: skip
    return rows


HEADINGS = ["threads", "products, M", "moved, KB", "barriers", "predicted, us", "measured, us"]


def markdown(headings: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def by_operation(case: Case, threads: int, machine: Machine) -> str:
    """The program of a step with its costs."""
    program, rows = case.program(threads), []
    barriers = program.barriers()
    for op, spent, barrier in zip(program.operations, case.costs(threads, machine), barriers):
        parts = str(op.operands[op.grid]) if op.grid else ""
        rows.append([op.kernel, parts, f"{spent.products / 1e6:.2f}", f"{spent.moved / 1e3:.1f}",
                     f"{spent.seconds * 1e6:.2f}", "|" if barrier else ""])
    return markdown(["kernel", "row parts", "products, M", "moved, KB", "us", "barrier"], rows)


def plot(path: Path, teams: list[int], tables: dict[int, list[list[str]]]) -> None:
    """Predicted times a step over threads, measured ones as dots."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    for batch, rows in tables.items():
        (line,) = axes.plot(teams, [float(row[4]) for row in rows], label=f"batch {batch}")
        dots = [(int(row[0]), float(row[5])) for row in rows if row[5] != "-"]
        axes.plot([n for n, _ in dots], [us for _, us in dots], "o", color=line.get_color())
    axes.set(xscale="log", yscale="log", xlabel="threads", ylabel="us a step", xticks=teams,
             xticklabels=teams, title="A training step: predicted (lines) and measured (dots)")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--outputs", type=int, default=10)
    parser.add_argument("--batch", type=int, nargs="+", default=[32, 256, 1024])
    parser.add_argument("--threads", type=int, nargs="+", default=list(TEAMS))
    parser.add_argument("--operations", action="store_true", help="the costs of each operation")
    parser.add_argument("--measure", action="store_true", help="time the steps as well")
    parser.add_argument("--page", type=Path, help="a Markdown file to write, with a plot")
    return parser


def facts(machine: Machine) -> str:
    """What was measured of the machine."""
    speed, link = machine.products * machine.cycles / 1e9, machine.link / 1e9
    return (f"{os.cpu_count()} cores; one multiplies and adds {speed:.2f} billion vectors a "
            f"second, two threads meet in {machine.barrier * 1e6:.2f} us, and one reads what the "
            f"other has written at {link:.0f} GB/s.")


def main() -> int:
    given = arguments().parse_args()
    tables, page = {}, []
    for batch in given.batch:
        machine = this_machine()  # anew: a shared machine is now faster, now slower
        case = Case(given.features, given.hidden, given.outputs, batch)
        sizes = "-".join(map(str, [given.features, *given.hidden, given.outputs]))
        title = f"## {sizes}, batch {batch}"
        tables[batch] = table(case, given.threads, machine, given.measure)
        part = [title, facts(machine), markdown(HEADINGS, tables[batch])]
        if given.operations:
            part += [f"On {n} threads:\n\n{by_operation(case, n, machine)}" for n in given.threads]
        print("\n\n".join(["", *part]))
        page += part
    if given.page:
        picture = given.page.with_suffix(".png")
        plot(picture, given.threads, tables)
        text = ["# Threads", INTRODUCTION, f"![Seconds a step over threads]({picture.name})", *page]
        given.page.write_text("\n\n".join(text) + "\n")
    return 0


INTRODUCTION = """\
Each matrix product of a training step is split over the threads in a grid of rows and columns,
whose form follows from what it costs: multiply-adds, bytes that come from another core, barriers.
The order of every sum follows from the shapes alone, so the bits are the same for every grid and
every number of threads. The tables say what a step comes to; the time is predicted from these
counts, and measured where this machine has the threads. Written by `scripts/scaling.py --measure
--page`."""


if __name__ == "__main__":
    sys.exit(main())
