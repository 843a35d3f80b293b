#!/usr/bin/env python
"""Write the speed table of docs/benchmarks.md from what a side-by-side measurement printed.

    speed_table.py OUTPUT [OUTPUT ...]

Each OUTPUT is a text file with lines such as

    2 threads; a cache line's way between cores and back: 90 ns
    train (784, 128) batch 32, 2 epochs: nbbn 0.1s  torch 0.9s (x9.00)  fastest peer / nbbn = 9.00

The table stands between the two markers there; machine and versions are those of the
environment that runs this script.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import re
import sys
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
BEGIN, END = "<!-- speed table: scripts/speed_table.py -->", "<!-- end of the speed table -->"
LINE = re.compile(
    r"^(?P<work>[^:]+): nbbn (?P<own>\S+?)(?P<unit>us|s)  (?P<peers>.*?)  "
    r"fastest peer / nbbn = (?P<ratio>\S+)$"
)
PEER = re.compile(r"(?P<name>\S.*?) (?P<value>\S+?)(?:us|s) \(x(?P<ratio>[^)]+)\)(?:  |$)")
MODE = re.compile(r"^(\d+) threads; a cache line's way between cores and back: (\d+) ns$", re.M)
PACKAGES = ("numba", "numpy", "torch", "jax", "onnxruntime", "scikit-learn")


def rows_of(text: str) -> list[str]:
    """A Markdown table row of each measured line."""
    rows = []
    for line in text.splitlines():
        found = LINE.match(line.strip())
        if found:
            peers = [
                f"{p['name']} {p['value']} {found['unit']}" for p in PEER.finditer(found["peers"])
            ]
            own = f"{found['own']} {found['unit']}"
            rows.append(f"| {found['work']} | {own} | {', '.join(peers)} | {found['ratio']} |")
    return rows


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


def versions() -> str:
    """Versions of what was compared, as installed here."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return ", ".join(found)


def mode(texts: list[str]) -> str:
    """Threads, and how far apart the cores were during the runs."""
    found = [(int(threads), int(ns)) for text in texts for threads, ns in MODE.findall(text)]
    if not found:
        return "threads not stated"
    threads, way = sorted({threads for threads, _ in found}), [ns for _, ns in found]
    return (
        f"{'/'.join(map(str, threads))} threads; "
        f"a cache line's way between the cores and back: {min(way)} to {max(way)} ns"
    )


def main() -> int:
    """Replace the table in the page."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("outputs", nargs="+", type=Path, metavar="OUTPUT")
    parser.add_argument(
        "--note", default="", help="a sentence about the run, for instance the state of the machine"
    )
    args = parser.parse_args()
    texts = [path.read_text() for path in args.outputs]
    rows = [row for text in texts for row in rows_of(text)]
    if not rows:
        print("no measured line found; nothing was changed", file=sys.stderr)
        return 2
    text = PAGE.read_text()
    if BEGIN not in text or END not in text:
        print(
            f"{PAGE} has no markers {BEGIN!r} and {END!r}; nothing was changed", file=sys.stderr
        )
        return 2
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    table = [
        BEGIN,
        f"Measured on {machine()}; {versions()}; float32, {mode(texts)};",
        "medians of rounds in turn, each contestant in a process of its own. "
        "A ratio is the fastest peer's time divided by",
        f"nbbn's: above 1, nbbn is faster. {args.note}".rstrip(),
        "",
        "| work | nbbn | peers | fastest peer / nbbn |",
        "|---|---|---|---|",
        *rows,
        END,
    ]
    PAGE.write_text(before + "\n".join(table) + after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
