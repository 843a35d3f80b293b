#!/usr/bin/env python
"""What a fit on several machines gains: messages of a step, their time on a network, the speed-up.

    scale.py --features 784 --hidden 128 64 32 --outputs 10 --batch 256 1024 4096
    scale.py --latency 25 --bandwidth 3.1 --machines 2 3 5
    scale.py --ranks 2 --page docs/scale.md

Messages are those of the program that `nbbn.distributed` runs: their number and bytes are counted
in it. What the busiest rank computes is measured on this machine; a network is a latency in us and
a bandwidth in GB/s. `--ranks` runs so many ranks here and sets what they take beside what was
predicted. `--page` writes the tables and a plot beside them.
"""

from __future__ import annotations

import argparse
import functools
import json
import math
import os
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scaling import F32, Case, markdown, network

import nbbn
from nbbn.group import Group, Order, Share
from nbbn.optimizers import Adam
from nbbn.program.kept import training_program
from nbbn.program.shards import Calls, World

ROOT = Path(__file__).resolve().parents[1]
# Of a network: features, units of the hidden layers, outputs.
Sizes = tuple[int, tuple[int, ...], int]
MACHINES = (1, 2, 4, 8, 16, 32, 64)
# Stand for the functions of an MPI in programs that are counted, and never run.
CALLS = Calls(1, 2, 3, 4, {F32.name: 5})


@dataclass(frozen=True)
class Network:
    """How ranks reach each other.

    Attributes
    ----------
    name : str
    latency : float
        Seconds of a message without bytes.
    bandwidth : float
        Bytes a second that a rank receives.
    one_core : bool
        Whether a rank is one core of a machine, and not a machine.
    """

    name: str
    latency: float
    bandwidth: float
    one_core: bool = False

    def seconds(self, message: Message, ranks: int) -> float:
        """Of a message from each rank to each: in rounds that double, every byte but one's own."""
        return (math.ceil(math.log2(ranks)) * self.latency
                + (ranks - 1) * message.size / self.bandwidth)


NETWORKS = (
    Network("Ethernet, 10 Gbit/s", 30e-6, 1.25e9), Network("Ethernet, 100 Gbit/s", 10e-6, 12.5e9),
    Network("shared memory", 2e-6, 10e9, one_core=True),
)


@dataclass(frozen=True)
class Message:
    """What each rank sends each other at one point of a step."""

    kind: str
    size: int  # bytes


def messages(sizes: Sizes, batch: int, ranks: int) -> list[Message]:
    """Of a training step, in their order."""
    if ranks == 1:
        return []
    lowered = training_program(network(*sizes), F32, batch, "softmax_cross_entropy", Adam(1e-3),
                               world=World(0, (1,) * ranks, CALLS))
    found = []
    for op in lowered.program.operations:
        if op.kernel in ("gather_in_place", "exchange"):
            kind = "all-to-all" if op.operands["function"] == CALLS.scatter else "all-gather"
            found.append(Message(kind, op.operands["count"] * F32.itemsize))
    return found


class OneShard(Group):
    """One process that works as a rank does, and meets nobody."""

    world = World(0, (1,))

    def share(self, order: Order, edges: np.ndarray) -> Share:
        places = np.concatenate([np.arange(n) for n in np.diff(edges)])
        return Share(order, edges, np.diff(edges), places)


def busiest(batch: int, ranks: int) -> int:
    """Rows of a batch that the rank with most of them has, on average: rows lie at random."""
    if ranks == 1:
        return batch
    drawn = np.random.default_rng(0).multinomial(batch, [1 / ranks] * ranks, 1000)
    return round(drawn.max(axis=1).mean())


@functools.cache
def alone(sizes: Sizes, batch: int, threads: int) -> float:
    """Measured seconds of one machine's step."""
    return Case(*sizes, batch).measured(threads, min)


@functools.cache
def of_rank(sizes: Sizes, rows: int, threads: int) -> float:
    """Measured seconds of what a rank computes in a step, on so many rows."""
    return Case(*sizes, rows, OneShard()).measured(threads, min)


def network_seconds(sizes: Sizes, batch: int, ranks: int, way: Network) -> float:
    """Predicted seconds of a step's messages."""
    return sum(way.seconds(message, ranks) for message in messages(sizes, batch, ranks))


def step_seconds(sizes: Sizes, batch: int, ranks: int, way: Network) -> float:
    """Predicted seconds of a step."""
    threads = threads_of(way)
    if ranks == 1:
        return alone(sizes, batch, threads)
    computed = of_rank(sizes, busiest(batch, ranks), threads)
    return computed + network_seconds(sizes, batch, ranks, way)


def threads_of(way: Network) -> int:
    """Of a rank."""
    return 1 if way.one_core else nbbn.get_num_threads()


HEADINGS = ["ranks", "rows of the busiest", "computing, us", "messages", "received, KB",
            "network, us", "step, us", "speed-up"]


def table(sizes: Sizes, batch: int, machines: list[int], way: Network) -> list[list[str]]:
    """A row for each number of ranks: what stands under `HEADINGS`."""
    rows, one = [], step_seconds(sizes, batch, 1, way)
    for ranks in machines:
        sent, whole = messages(sizes, batch, ranks), step_seconds(sizes, batch, ranks, way)
        spent = network_seconds(sizes, batch, ranks, way)
        rows.append([
            str(ranks), str(busiest(batch, ranks)), f"{(whole - spent) * 1e6:.0f}", str(len(sent)),
            f"{sum(m.size for m in sent) * (ranks - 1) / 1e3:.0f}", f"{spent * 1e6:.0f}",
            f"{whole * 1e6:.0f}", f"{one / whole:.2f}",
        ])  # fmt: skip
    return rows


def of_messages(sizes: Sizes, batch: int, ranks: int) -> str:
    """A table of a step's messages."""
    rows = [[str(k + 1), m.kind, str(m.size)]
            for k, m in enumerate(messages(sizes, batch, ranks))]
    return markdown(["message", "kind", "bytes from each rank to each"], rows)


# -- ranks of this machine


def run_ranks(given: argparse.Namespace) -> list[float]:
    """Measured seconds of a step of each batch, on so many ranks of this machine."""
    beside = Path(given.python).with_name("mpiexec")
    launcher, *more = shlex.split(given.launcher)
    if launcher == "mpiexec" and beside.exists():
        launcher = str(beside)
    if shutil.which(launcher) is None:
        raise SystemExit(f"there is no {launcher}: pip install mpi4py mpich, or say --launcher")
    sizes = ["--features", given.features, "--outputs", given.outputs, "--hidden", *given.hidden,
             "--batch", *given.batch, "--machines", 1]
    command = [launcher, *more, "-n", str(given.ranks), given.python, __file__, "--in-job",
               *map(str, sizes)]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True,
                          text=True)
    lines = [line[7:] for line in done.stdout.splitlines() if line.startswith("RESULT ")]
    if done.returncode != 0 or not lines:
        raise SystemExit(f"{shlex.join(command)}: status {done.returncode}\n{done.stderr[-2000:]}")
    found: list[float] = json.loads(lines[0])
    return found


def in_job(given: argparse.Namespace) -> None:
    """What each of these ranks does."""
    from mpi4py import MPI

    from nbbn.distributed.order import Layout
    from nbbn.distributed.ranks import Ranks

    found = []
    for batch in given.batch:
        group = Ranks(MPI.COMM_WORLD.Dup())
        rows = batch * max(3, 20_000 // batch)  # as Case takes them
        first, end = (rows * k // group.ranks for k in (group.rank, group.rank + 1))
        group.lay_out(Layout(first, np.array([0, end - first]), rows), [1] * group.ranks)
        with nbbn.num_threads(1):
            case = Case(given.features, given.hidden, given.outputs, batch, group)
            found.append(max(group.gathered(case.measured(1, min))))
        group.free()
    if MPI.COMM_WORLD.rank == 0:
        print("RESULT", json.dumps(found), flush=True)


def beside_measured(sizes: Sizes, given: argparse.Namespace) -> str:
    """A table of what was predicted for ranks of this machine, and what they take."""
    rows = []
    for batch, seconds in zip(given.batch, run_ranks(given)):
        one = alone(sizes, batch, 1)
        predicted = step_seconds(sizes, batch, given.ranks, NETWORKS[-1])
        rows.append([str(batch), f"{one * 1e6:.0f}", f"{predicted * 1e6:.0f}",
                     f"{seconds * 1e6:.0f}", f"{one / predicted:.2f}", f"{one / seconds:.2f}"])
    return markdown(["batch", "one core, us", "predicted, us", "measured, us",
                     "predicted speed-up", "measured speed-up"], rows)


# -- the page


def plot(path: Path, machines: list[int], ways: list[Network],
         tables: dict[tuple[str, int], list[list[str]]]) -> None:
    """Speed-ups over ranks, a picture for each network."""
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, pictures = plt.subplots(1, len(ways), figsize=(4.2 * len(ways), 4), squeeze=False)
    for axes, way in zip(pictures[0], ways):
        axes.plot(machines, machines, ":", color="gray", label="as many times as ranks")
        for (name, batch), rows in tables.items():
            if name == way.name:
                axes.plot(machines, [float(row[-1]) for row in rows], "-o", ms=3,
                          label=f"batch {batch}")
        axes.set(xscale="log", yscale="log", xlabel="ranks", ylabel="speed-up", title=way.name,
                 xticks=machines, xticklabels=machines)
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=784)
    parser.add_argument("--hidden", type=int, nargs="+", default=[128, 64, 32])
    parser.add_argument("--outputs", type=int, default=10)
    parser.add_argument("--batch", type=int, nargs="+", default=[256, 1024, 4096])
    parser.add_argument("--machines", type=int, nargs="+", default=list(MACHINES))
    parser.add_argument("--latency", type=float, help="us of a message, of a network of your own")
    parser.add_argument("--bandwidth", type=float, help="its GB/s")
    parser.add_argument("--ranks", type=int, help="run so many ranks here, and measure")
    parser.add_argument("--python", default=sys.executable, help="with mpi4py, for --ranks")
    parser.add_argument("--launcher", default="mpiexec", help="what starts them, with its options")
    parser.add_argument("--page", type=Path, help="a Markdown file to write, with a plot")
    parser.add_argument("--in-job", action="store_true", help=argparse.SUPPRESS)
    return parser


def ways_of(given: argparse.Namespace, parser: argparse.ArgumentParser) -> list[Network]:
    """The networks to predict for."""
    if (given.latency is None) != (given.bandwidth is None):
        parser.error("--latency and --bandwidth make a network together: give both")
    if given.latency is None:
        return list(NETWORKS)
    if not (given.latency >= 0 and given.bandwidth > 0):
        parser.error("--latency must be at least 0 and --bandwidth above 0")
    name = f"{given.latency:g} us, {given.bandwidth:g} GB/s"
    return [Network(name, given.latency / 1e6, given.bandwidth * 1e9)]


def checked(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; exits where one of them cannot be."""
    given = parser.parse_args()
    if min(given.machines) < 1 or min(given.batch) < max(2, *given.machines):
        parser.error("--machines must be at least 1, and --batch at least as many rows")
    if given.ranks is not None and not 2 <= given.ranks <= (os.cpu_count() or 1):
        parser.error(f"--ranks must be 2 to this machine's {os.cpu_count()} cores")
    return given


def main() -> int:
    parser = arguments()
    given = checked(parser)
    if given.in_job:
        in_job(given)
        return 0
    ways, sizes = ways_of(given, parser), (given.features, tuple(given.hidden), given.outputs)
    name, tables = "-".join(map(str, [given.features, *given.hidden, given.outputs])), {}
    page = [f"## {name}: messages of a step on 2 ranks", of_messages(sizes, given.batch[0], 2)]
    for way in ways:
        page += [f"## {name}: {way.name}", facts(way)]
        for batch in given.batch:
            tables[way.name, batch] = table(sizes, batch, given.machines, way)
            page += [f"Batches of {batch} rows:", markdown(HEADINGS, tables[way.name, batch])]
    if given.ranks:
        page += [f"## {name}: {given.ranks} ranks here", BESIDE, beside_measured(sizes, given)]
    print("\n\n".join(page))
    if given.page:
        picture = given.page.with_suffix(".png")
        plot(picture, given.machines, ways, tables)
        text = ["# Ranks", INTRODUCTION, f"![Speed-ups over ranks]({picture.name})", *page]
        given.page.write_text("\n\n".join(text) + "\n")
    return 0


def facts(way: Network) -> str:
    """What is taken for granted of a network and of its ranks."""
    each = "one core" if way.one_core else f"a machine of {nbbn.get_num_threads()} cores"
    return (f"A message takes {way.latency * 1e6:g} us, and a rank receives "
            f"{way.bandwidth / 1e9:g} GB/s; each rank is {each}.")


BESIDE = """\
One thread a rank, over shared memory. What was predicted leaves out that ranks of one machine share
its memory and caches, and that each message waits for whoever comes last: other programs' work on
either core delays both."""

INTRODUCTION = """\
A step of `nbbn.distributed.fit` on k ranks takes what its busiest rank computes, which is measured
here on as many rows (the least of seven rounds), and what its messages take, which are counted in
the program that ranks run. Rows lie at random, so the busiest has more than an equal share. A
message from each rank to each takes ceil(log2 k) latencies, and the time in which a rank receives
what the others send it. Nothing is counted for adding up what came, nor for messages that go on
beside computing: there are none. Speed-ups are over one rank's step as `fit` takes it. Written by
`scripts/scale.py --ranks 2 --page`."""


if __name__ == "__main__":
    sys.exit(main())
