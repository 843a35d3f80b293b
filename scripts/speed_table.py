#!/usr/bin/env python
"""Measure nbbn beside the alternatives that are installed, and write the table of the documents.

    speed_table.py                     measure all works; write the table where its markers stand
    speed_table.py --short             a few works and rounds: whether it runs, not what to quote
    speed_table.py --works 'predict'   the works whose names the pattern finds
    speed_table.py --dry-run           print the table, write nothing

The works are those of the dashboard's contests (asv_bench/benchmarks/versus.py): nbbn and a peer in
one process, in turn, round by round, a process for each peer. Peers use their BLAS as users have
it: OPENBLAS_CORETYPE and OPENBLAS_L2_SIZE, which some machines set, are taken away. Run it alone.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asv_bench.dashboard.paths import ROOT
from asv_bench.dashboard.suite import CONTEXT

BEGIN, END = "<!-- speed table: scripts/speed_table.py -->", "<!-- end of the speed table -->"
# What no user's machine sets, and some of ours do.
PINNED = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
PEERS = ("scikit-learn", "PyTorch", "torch.compile", "ONNX Runtime", "JAX")
SHAPES = ((32, 128), (256, 512), (8192, 256), (65536, 256), (32, 28, 28, 32))
# Class of `versus`, its parameters but for the peer; what to call the work.
WORKS: tuple[tuple[str, str, list], ...] = (
    *((f"train 784-128-64-32-10, batch {n}, an epoch", "Training", [n]) for n in (32, 256, 1024)),
    ("train the convolutional network, batch 128, 3,200 images", "ConvolutionalTraining", []),
    *((f"predict 784-128-64-32-10, {n:,} rows", "Inference", [n]) for n in (1, 32, 1000, 10_000)),
    *((f"predict with the convolutional network, {n:,} images", "ConvolutionalInference", [n])
      for n in (1, 32, 1000)),
    *((f"batch norm and ReLU {' x '.join(map(str, shape))}, {way}", "BatchNorm", [shape, way])
      for shape in SHAPES for way in ("forward", "forward, backward")),
)  # fmt: skip
SHORT = "784-128-64-32-10, 32 rows|ReLU 32 x 128, forward$"
# Runs one contest and prints its figures, or which peer is missing.
CONTEST = """
import json, sys
name, given = sys.argv[1], json.loads(sys.argv[2])
params = [tuple(each) if isinstance(each, list) else each for each in given]
from asv_bench.benchmarks import contest, versus
benchmark = getattr(versus, name)()
try:
    benchmark.setup(*params)
except NotImplementedError as error:
    print(json.dumps({"missing": str(error)}))
else:
    print(json.dumps(contest.figures(benchmark.own, benchmark.peer)))
"""


def environment(rounds: int, seconds: float) -> dict[str, str]:
    """The variables of a contest's process."""
    kept = {name: value for name, value in os.environ.items() if name not in PINNED}
    return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
            "NBBN_BENCH_ROUNDS": str(rounds), "NBBN_BENCH_SECONDS": str(seconds)}


def printed(code: str, env: dict[str, str], *arguments: str) -> dict:
    """The JSON that a program prints last."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], env=env, cwd=ROOT,
                          capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"{' '.join(arguments) or 'the versions'}: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def peers_of(name: str) -> tuple[str, ...]:
    """The peers that a class of `versus` knows."""
    from asv_bench.benchmarks import versus

    params = getattr(versus, name).params
    own = params[-1] if isinstance(params, tuple) else params
    return tuple(peer for peer in PEERS if peer in own)


def measured(works: list[tuple[str, str, list]],
             env: dict[str, str]) -> Iterator[tuple[str, dict[str, dict]]]:
    """Of each work the figures by peer; peers that are not installed are left out."""
    for title, name, params in works:
        found = {}
        for peer in peers_of(name):
            figures = printed(CONTEST, env, name, json.dumps([*params, peer]))
            if "missing" not in figures:
                found[peer] = figures
        yield title, found


def time_of(seconds: float) -> str:
    """Seconds in the unit that reads best, three figures."""
    scale, unit = next(((s, u) for s, u in ((1, "s"), (1e-3, "ms")) if seconds >= s), (1e-6, "us"))
    value = seconds / scale
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"


def row_of(title: str, found: dict[str, dict]) -> str:
    """A work's row of the Markdown table, the fastest peer first."""
    ordered = sorted(found.items(), key=lambda pair: pair[1]["ratio"])
    own = statistics.median(figures["own"][1] for figures in found.values())
    peers = ", ".join(f"{peer} {time_of(figures['peer'][1])} ({figures['ratio']:.2f})"
                      for peer, figures in ordered)
    _, fastest = ordered[0]
    low, _, high = fastest["ratios"]
    ratio = f"{fastest['ratio']:.2f}" if fastest["sure"] else f"about 1 ({fastest['ratio']:.2f})"
    return f"| {title} | {time_of(own)} | {peers} | {ratio} | {low:.2f} to {high:.2f} |"


def machine() -> str:
    """Processor, cores, operating system, Python."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        fields = dict(re.findall(r"^([^\t:]+)\s*: (.*)$", cpuinfo.read_text(), re.M))
        name = f"{fields.get('model name', name)} (family {fields.get('cpu family', '?')})"
    return (
        f"{name}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    )


def table_of(results: list[tuple[str, dict[str, dict]]], context: dict, on: str,
             note: str = "") -> str:
    """The table with what it was measured on, from marker to marker."""
    versions = ", ".join(f"{name} {v}" for name, v in context["packages"].items() if v)
    rounds = sorted({figures["rounds"] for _, found in results for figures in found.values()})
    told = f"{rounds[0]} to {rounds[-1]}" if len(rounds) > 1 else str(rounds[0])
    head = (
        f"Measured on {on}; {versions}; {'; '.join(context['blas'])}; float32, "
        f"{context['threads']} threads; medians of {told} rounds, nbbn and a peer in turn in one "
        "process. Beside a peer's time stands what it is as a multiple of nbbn's: above 1, nbbn is "
        "faster. The last column is the middle half of the rounds' ratios to the fastest peer; "
        "\"about 1\" where the rounds do not agree on who is ahead."
    )
    return "\n".join([
        BEGIN, f"{head} {note}".rstrip(), "",
        "| work | nbbn | peers | fastest peer / nbbn | half of the rounds within |",
        "|---|---|---|---|---|",
        *(row_of(title, found) for title, found in results if found), END,
    ])


def page_with_markers() -> Path | None:
    """The document that the table stands in."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return next((page for page in pages if BEGIN in page.read_text(encoding="utf-8")), None)


def replaced(text: str, table: str) -> str:
    """The document with this table; ValueError without both markers."""
    if BEGIN not in text or END not in text:
        raise ValueError(f"lacks the markers {BEGIN!r} and {END!r}")
    return text.split(BEGIN)[0] + table + text.split(END, 1)[1]


def parser() -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = p.add_argument
    add("--works", metavar="REGEX", default="", help="works whose names it finds (all)")
    add("--short", action="store_true", help="a few works, three rounds")
    add("--rounds", type=int, metavar="N", help="rounds of a contest (15; 3 with --short)")
    add("--dry-run", action="store_true", help="print the table, write nothing")
    add("--page", type=Path, metavar="FILE",
        help="the document with the markers (README.md, or the page of docs/ that has them)")
    add("--note", default="", help="a sentence about the run, as of the state of the machine")
    return p


def main(arguments: list[str] | None = None) -> int:
    """Measure and write. 0 done; 2 unusable arguments or surroundings."""
    args = parser().parse_args(arguments)
    page = args.page or page_with_markers()
    works = [work for work in WORKS if re.search(args.works, work[0])
             and (not args.short or re.search(SHORT, work[0]))]
    rounds = args.rounds or (3 if args.short else 15)
    env = environment(rounds, 1 if args.short else 60)
    try:
        if not works:
            raise ValueError(f"no work is called {args.works!r}: {'; '.join(w for w, *_ in WORKS)}")
        if not args.dry_run:
            if page is None:
                raise ValueError(f"no document has the markers {BEGIN!r} and {END!r}; give --page")
            replaced(page.read_text(encoding="utf-8"), "")  # before minutes are spent
        results = []
        for title, found in measured(works, env):
            print(f"{title}: {', '.join(found) or 'no peer is installed'}", file=sys.stderr)
            results.append((title, found))
        if not any(found for _, found in results):
            raise ValueError("no peer is installed: python -m pip install -e '.[peers,onnx]'")
        table = table_of(results, printed(CONTEXT, env), machine(), args.note)
        if args.dry_run:
            print(table)
        else:
            page.write_text(replaced(page.read_text(encoding="utf-8"), table), encoding="utf-8")
            print(f"written: {page}")
    except (OSError, RuntimeError, ValueError) as error:
        print(f"speed_table.py: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
