#!/usr/bin/env python
"""Measure networks with branches beside ONNX Runtime and PyTorch, and against the machine's peak.

    graph_speed.py                        all cases
    graph_speed.py resnet18-32 train      those whose names begin so
    graph_speed.py --profile resnet18-32  where nbbn's time goes, operation by operation
    graph_speed.py --short                small networks: whether it runs, not what to quote

Every contestant has a process of its own; they are timed in turn, round by round, so that the
machine's drift hits all, with pauses, since thread pools spin for a while after their last call. A
ratio is the peer's median over nbbn's: above 1, nbbn is faster. A peer that is not installed is
skipped by name. ONNX Runtime gets the folded network as nbbn writes it, PyTorch the same weights in
channels last, batch norms fused by itself. Answers are compared before anything is timed.

The share of the peak counts the multiply-adds of the network's convolutions and dense layers as
they are defined, three times in training, over those of chains of FMA instructions in registers,
measured before and after each case; minimal filtering takes fewer, and its share may pass 100 %. A
profile runs each operation alone many times, so what it reads is mostly in the caches: the sum may
fall short of the whole. Run it alone on the machine.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import statistics
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numba
import numpy as np

import nbbn
from asv_bench.benchmarks import contest, recipes
from nbbn.kernels import simd
from nbbn.program.fusion import Node, fuse

# What no user's machine sets, and some of ours do: contestants' processes go without.
PINNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
# Seconds before each turn.
PAUSE = 0.4
OWN, ORT, TORCH = "nbbn", "ONNX Runtime", "PyTorch"
CLASSES = {32: 10, 224: 1000}
# Of an epoch whose training is timed: a fit takes the weights in and out once, as PyTorch does not.
BATCHES = 8


@dataclass(frozen=True)
class Case:
    """A network at a size: so many images at once, or a step of training on so many."""

    network: str
    side: int
    images: int
    training: bool = False
    short: bool = False

    @property
    def name(self) -> str:
        name = f"{self.network}-{self.side}-{self.images}"
        return f"train-{name}" if self.training else name

    @property
    def peers(self) -> tuple[str, ...]:
        return (TORCH,) if self.training else (ORT, TORCH)

    def model(self) -> nbbn.Model:
        """The same weights each time."""
        nbbn.set_random_seed(0)
        shape, classes = (self.side, self.side, 3), CLASSES[self.side]
        sizes: dict[str, Any] = {}
        if self.short:
            sizes = {"width": 8} if self.network == "resnet18" else {
                "stages": ((1, 8, 1, 1), (3, 8, 2, 2)), "last": 32}
        return recipes.settled(getattr(recipes, self.network)(shape, classes, **sizes))

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Images and labels."""
        rng, count = np.random.default_rng(0), self.images * (BATCHES if self.training else 1)
        x = rng.standard_normal((count, self.side, self.side, 3), dtype=np.float32)
        return x, rng.integers(0, CLASSES[self.side], count)

    def nodes(self) -> list[Node]:
        """What is computed for a row."""
        return fuse(self.model().network().computation(), training=False)

    def operations(self) -> int:
        """Floating-point operations of a call, or of a step of training."""
        work = 2 * self.images * sum(node.work for node in self.nodes() if node.has_kernel)
        return 3 * work if self.training else work


CASES = (
    *(Case("resnet18", side, images) for side in (32, 224) for images in (1, 32)),
    *(Case("mobilenet_v2", 224, images) for images in (1, 32)),
    Case("resnet18", 32, 64, training=True),
)


# -- the machine


@numba.njit(nogil=True)
def chains(address: int, times: int) -> None:
    """Ten chains of FMAs, `times` long, in registers: 20 operations a lane a time."""
    p = simd.pointer_to(address, numba.float32)
    x, y = simd.splat(p, 0.5), simd.splat(p, 1.0)
    a = b = c = d = e = f = g = h = i = j = x
    for _ in range(times):
        a, b = simd.fma(a, x, y), simd.fma(b, x, y)
        c, d = simd.fma(c, x, y), simd.fma(d, x, y)
        e, f = simd.fma(e, x, y), simd.fma(f, x, y)
        g, h = simd.fma(g, x, y), simd.fma(h, x, y)
        i, j = simd.fma(i, x, y), simd.fma(j, x, y)
    for k, vector in enumerate((a, b, c, d, e, f, g, h, i, j)):
        simd.store(p, k * simd.lanes(p), vector)


def peak(threads: int, times: int = 10_000_000) -> float:
    """FMA operations a second of so many threads, float32."""
    lanes = simd.lanes_of(4)
    outs = [np.zeros(10 * lanes, np.float32) for _ in range(threads)]
    chains(outs[0].ctypes.data, 1)
    with ThreadPoolExecutor(threads) as pool:
        seconds = []
        for _ in range(3):
            began = time.perf_counter()
            list(pool.map(lambda out: chains(out.ctypes.data, times), outs))
            seconds.append(time.perf_counter() - began)
    return 20 * lanes * times * threads / min(seconds)


# -- the contest


def call_of(contestant: str, case: Case, folder: Path) -> tuple[Any, np.ndarray | None]:
    """What is timed, and the answers by which contestants are compared."""
    from asv_bench.benchmarks.peers import graphs
    from asv_bench.benchmarks.peers.inference import onnx_runtime

    x, y = case.rows()
    if case.training:
        model = case.model()
        if contestant == TORCH:
            return graphs.pytorch_training(model, x, y, case.images), None
        model.compile("adam", "sparse_categorical_crossentropy")
        return lambda: model.fit(x, y, batch_size=case.images, epochs=1, verbose=0), None
    if contestant == TORCH:
        model = case.model()
        return graphs.pytorch(model, x), graphs.pytorch(model, x, exact=True)()
    folded = nbbn.load(folder / "folded.safetensors")
    call = onnx_runtime(folded, x) if contestant == ORT else lambda: folded.predict(x)
    return call, call()


def serve(pipe: Connection, contestant: str, case: Case, folder: Path, cores: list[int]) -> None:
    """A contestant's process: ready, or why not; then seconds of a block for each word."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    try:
        call, answer = call_of(contestant, case, folder)
        inner, waking = contest.plan(call)
    except (ImportError, NotImplementedError) as error:
        pipe.send(("missing", str(error)))
        return
    except BaseException:
        pipe.send(("failed", traceback.format_exc()))
        return
    pipe.send(("ready", answer))
    while pipe.recv() is not None:
        pipe.send(contest.block(call, inner, waking))


def measure(case: Case, rounds: int, cores: list[int]) -> dict[str, float]:
    """Median seconds of each contestant: a call, or a step of training."""
    context = multiprocessing.get_context("spawn")
    pipes: dict[str, Connection] = {}
    answers: dict[str, np.ndarray | None] = {}
    processes = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if not case.training:
            case.model().fold().save(folder / "folded.safetensors")
        for contestant in (OWN, *case.peers):
            here, there = context.Pipe()
            process = context.Process(target=serve, daemon=True,
                                      args=(there, contestant, case, folder, cores))
            process.start()
            there.close()
            try:
                state, answer = here.recv()
            except EOFError:
                state, answer = "failed", "its process has ended"
            if state == "failed" or (state == "missing" and contestant == OWN):
                raise RuntimeError(f"{case.name}, {contestant}: {answer}")
            if state == "missing":
                print(f"    {contestant} is skipped: {answer}")
                continue
            pipes[contestant], answers[contestant] = here, answer
            processes.append(process)
    for contestant, answer in answers.items():
        if answer is not None:
            np.testing.assert_allclose(answer, answers[OWN], atol=1e-4, err_msg=contestant)
    taken: dict[str, list[float]] = {contestant: [] for contestant in pipes}
    for k in range(rounds):
        for contestant in list(pipes)[:: 1 if k % 2 == 0 else -1]:
            time.sleep(PAUSE)
            pipes[contestant].send("go")
            taken[contestant].append(pipes[contestant].recv())
    for pipe, process in zip(pipes.values(), processes):
        pipe.send(None)
        process.join()
    steps = BATCHES if case.training else 1
    return {name: statistics.median(seconds) / steps for name, seconds in taken.items()}


def line(case: Case, seconds: dict[str, float], rate: float) -> str:
    """A case's figures; `rate` is the machine's peak in operations a second."""
    own, operations = seconds[OWN], case.operations()
    cells = [f"{case.name:22}"]
    for name, each in seconds.items():
        share = f"{operations / each / rate:4.0%} of the peak"
        ratio = "" if name == OWN else f", x{each / own:.2f}"
        cells.append(f"{name} {each * 1e3:.4g} ms ({share}{ratio})")
    return "  ".join(cells)


# -- the profile

# Kernels whose multiply-adds are those of a node, and the operands that say which.
_MULTIPLIES = re.compile("(conv|depthwise|pointwise|dense)_")
_OF_NODE = re.compile(r"(?:gradient_window|gradient_reads|dkernel_parts|[zyad])(\d+)")
_OF_LAYER = re.compile(r"kernel(\d+)T?")


@dataclass
class Part:
    """An operation of a program, alone."""

    kernel: str
    node: Node | None
    seconds: float


def node_of(operation: Any, nodes: list[Node]) -> Node | None:
    """The node that an operation is of, by the names of its buffers."""
    names = [value.name for value in operation.operands.values() if hasattr(value, "name")]
    found = [match for name in names if (match := _OF_NODE.fullmatch(name))]
    written = [int(match[1]) for match in found]
    for name in names:
        if (match := _OF_LAYER.fullmatch(name)):
            return next((node for node in nodes if node.layer == int(match[1])), None)
    return nodes[written[-1]] if written and written[-1] < len(nodes) else None


def alone(table: np.ndarray, k: int, threads: int) -> np.ndarray:
    """Operation `k` as a program: threads meet behind it."""
    from nbbn.kernels.executor import ARRIVAL, BARRIER

    row = table[k : k + 1].copy()
    row[0, 1] = 0 if threads == 1 else BARRIER | ARRIVAL
    return row


def timed(call: Any, seconds: float) -> float:
    """Median seconds of a call over as many as fit."""
    call()
    taken, end = [], time.perf_counter() + seconds
    while not taken or time.perf_counter() < end:
        began = time.perf_counter()
        call()
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def inference_parts(case: Case, threads: int, seconds: float) -> tuple[float, list[Part]]:
    """Seconds of the folded network on `case.images`, and of each of its operations."""
    from nbbn.program.inference import InferenceProgram
    from nbbn.program.runnable import InferenceRun

    network = case.model().fold().network
    lowered = InferenceProgram(network.computation(), network.dtype)
    nodes = fuse(network.computation(), training=False)
    params = lowered.parameters.memory()
    lowered.parameters.upload(params, network.weights)
    run = InferenceRun(lowered, params)
    x = np.ascontiguousarray(case.rows()[0].reshape(case.images, -1))
    out = np.empty((case.images, run.outputs), run.dtype)

    def call() -> None:
        if threads > 1:
            run._fill_on_team(x, out, threads)
        else:
            run._fill_alone(x, out)

    whole = timed(call, 5 * seconds)
    together = threads > 1 and run._shares_rows(case.images, threads)
    program, table = lowered.program, run.table
    if together:
        program, table = lowered.together(), run.shared_table
    print(f"    {'one block of images' if together else f'blocks of up to {run.block} images'}")
    parts = []
    for k, operation in enumerate(program.operations):
        row = alone(table, k, threads)
        if together:
            run.__dict__["shared_table"] = row
        else:
            run.table = row
        parts.append(Part(operation.kernel, node_of(operation, nodes), timed(call, seconds)))
    return whole, parts


def training_parts(case: Case, threads: int, seconds: float) -> tuple[float, list[Part]]:
    """Seconds of a step of training, and of each of its operations."""
    from nbbn.kernels.executor import STEP_WORDS
    from nbbn.optimizers import Adam
    from nbbn.program.program import Segment
    from nbbn.program.splits import split
    from nbbn.trainer import Trainer

    network = case.model().network()
    computation, rows = network.computation(training=True), case.images
    trainer = Trainer(computation, network.dtype, network.dtype, rows, "softmax_cross_entropy",
                      Adam(1e-3))
    trainer.upload(network.weights)
    x, y = case.rows()
    steps = np.zeros((BATCHES, STEP_WORDS), np.int64)
    steps[:, 0] = steps[:, 6] = rows
    steps[:, 1], steps[:, 2] = np.arange(BATCHES) * rows, np.arange(BATCHES)
    steps[:, 3], steps[:, 5] = np.float64(1e-9).view(np.int64), np.float64(rows).view(np.int64)
    losses, hits = np.empty(len(x)), np.zeros(len(x))
    arrays = {Segment.X: x, Segment.Y: y.astype(np.int64), Segment.ORDER: np.arange(len(x)),
              Segment.LOSSES: losses, Segment.HITS: hits}
    run = trainer._steps

    def call() -> None:
        run.run(steps, arrays, threads)

    whole = timed(call, 5 * seconds) / BATCHES
    table = run.table(threads)
    from nbbn.program.measured import machine

    program = split(trainer.lowered.program, run._rows, threads, machine(threads))
    nodes, parts = fuse(computation, training=True), []
    for k, operation in enumerate(program.operations):
        run._tables[threads] = alone(table, k, threads)
        took = timed(call, seconds) / BATCHES
        parts.append(Part(operation.kernel, node_of(operation, nodes), took))
    return whole, parts


def shape_of(node: Node) -> str:
    """A node's shapes and window."""
    window = getattr(node.operation, "window", None)
    shapes = ["x".join(map(str, shape)) for shape in (node.input_shape, node.output_shape)]
    text = " -> ".join(shapes)
    if window is None:
        return text
    strides = f"/{max(window.strides)}" if max(window.strides) > 1 else ""
    return f"{text}, {'x'.join(map(str, window.size))}{strides}"


def print_profile(case: Case, threads: int, seconds: float, rate: float) -> None:
    """The table of a case."""
    parts_of = training_parts if case.training else inference_parts
    whole, parts = parts_of(case, threads, seconds)
    total = sum(part.seconds for part in parts)
    print(f"{case.name}: {whole * 1e3:.4g} ms on {threads} threads, the parts' sum "
          f"{total * 1e3:.4g} ms")
    print(f"{'ms':>9} {'share':>6} {'GFLOP/s':>8} {'of peak':>8}  operation")
    of_kernel: dict[str, float] = {}
    for part in parts:
        of_kernel[part.kernel] = of_kernel.get(part.kernel, 0.0) + part.seconds
        flops = ""
        if part.node is not None and part.node.has_kernel and _MULTIPLIES.match(part.kernel):
            each = 2 * case.images * part.node.work / part.seconds
            flops = f"{each / 1e9:8.0f} {each / rate:8.0%}"
        shape = shape_of(part.node) if part.node is not None else ""
        print(f"{part.seconds * 1e3:9.4f} {part.seconds / total:6.1%} {flops:17}  "
              f"{part.kernel} {shape}")
    print("    by kernel")
    for kernel, spent in sorted(of_kernel.items(), key=lambda item: -item[1]):
        print(f"{spent * 1e3:9.4f} {spent / total:6.1%}  {kernel}")


def main() -> int:
    """Print a line, or a profile, of each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("cases", nargs="*", metavar="CASE",
                        help=f"the beginning of names: {', '.join(case.name for case in CASES)}")
    parser.add_argument("--threads", type=int, default=nbbn.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--profile", action="store_true", help="time by operation")
    parser.add_argument("--seconds", type=float, default=0.1, help="of each operation's profile")
    parser.add_argument("--short", action="store_true", help="small networks, to try it")
    options = parser.parse_args()
    begins = tuple(options.cases) or ("",)
    chosen = [case for case in CASES if case.name.startswith(begins)]
    if not chosen:
        parser.error(f"no case is called {', '.join(begins)}...")
    have = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    cores = have[: options.threads]
    if have:
        os.sched_setaffinity(0, cores)
    for pin in PINNED:
        os.environ.pop(pin, None)
    nbbn.set_num_threads(options.threads)
    for case in chosen:
        case = Case(case.network, case.side, case.images, case.training, options.short)
        rate = peak(options.threads)
        if options.profile:
            print_profile(case, options.threads, options.seconds, rate)
            continue
        seconds = measure(case, options.rounds, cores)
        rate = max(rate, peak(options.threads))
        print(line(case, seconds, rate), f" peak {rate / 1e9:.0f} GFLOP/s", flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
