"""A gate on speed: two commits measured in turn, round by round, and compared."""

from __future__ import annotations

import argparse
import contextlib
import statistics
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .commits import checked_out, commit_of
from .paths import ROOT, DashboardError, Data
from .records import load_benchmarks, load_records
from .suite import Effort, asv, check_source, require_asv, run

GATE = Effort({"rounds": "1", "repeat": "(1,5,0.5)"})

Times = dict[tuple, list[float]]  # (benchmark, parameters): seconds of each round


@dataclass(frozen=True)
class Limits:
    """What counts as slower: beyond the factor, by more than so many seconds, in every round."""

    factor: float = 1.3
    seconds: float = 0.0005


@dataclass(frozen=True)
class Comparison:
    """One benchmark at both commits, a time a round."""

    name: str
    base: list[float]
    head: list[float]

    @property
    def medians(self) -> tuple[float, float]:
        return statistics.median(self.base), statistics.median(self.head)

    def slower(self, limits: Limits) -> bool:
        base, head = self.medians
        steady = all(h > b for b, h in zip(self.base, self.head))
        return head > limits.factor * base and head - base > limits.seconds and steady

    def __str__(self) -> str:
        base, head = self.medians
        return f"{self.name}: {base:.3g} s -> {head:.3g} s, {head / base:.2f} times"


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("base", help="the commit to compare with")
    p.add_argument(
        "head",
        nargs="?",
        default="HEAD",
        help="the commit to check (HEAD); its benchmarks are run on both",
    )
    p.add_argument(
        "--bench",
        default=r"\btime_",
        metavar="REGEX",
        help="benchmarks whose name(parameters) match (all times)",
    )
    p.add_argument("--rounds", type=int, default=5, help="how often each commit is measured (5)")
    p.add_argument(
        "--factor",
        type=float,
        default=Limits.factor,
        help="slower is beyond this factor (%(default)s)",
    )
    p.add_argument(
        "--seconds", type=float, default=Limits.seconds, help="and by more than this (%(default)s)"
    )
    p.add_argument(
        "--python",
        default=sys.executable,
        metavar="PATH",
        help="the Python to measure with (this one)",
    )
    p.add_argument("--repo", type=Path, default=ROOT, metavar="DIR", help="the clone (this one)")
    return p


@contextlib.contextmanager
def both_trees(repo: Path, base: str, head: str) -> Iterator[dict[str, Path]]:
    """The trees of the two commits, in folders of their own."""
    with contextlib.ExitStack() as stack:
        yield {
            side: stack.enter_context(checked_out(c, repo))
            for side, c in (("base", base), ("head", head))
        }


def measure(repo: Path, commits: dict[str, str], args: argparse.Namespace) -> dict[str, Times]:
    """Seconds of each benchmark at both commits by round; every other round goes backwards."""
    found: dict[str, Times] = {"base": {}, "head": {}}
    with (
        both_trees(repo, commits["base"], commits["head"]) as trees,
        tempfile.TemporaryDirectory() as folder,
    ):
        suite = trees["head"] / "asv_bench"
        for side in trees:
            check_source(args.python, trees[side])
        for i in range(args.rounds):
            for side in list(trees)[:: 1 if i % 2 == 0 else -1]:
                data = Data(Path(folder) / f"{side}-{i}")
                conf = data.configuration(suite, "HEAD", data.folder / "html", repo)
                if i == 0:
                    asv("machine", "--yes", "--config", str(conf), quiet=True)
                print(f"round {i + 1} of {args.rounds}: {side}", flush=True)
                run(conf, trees[side], commits[side], args.python, GATE, args.bench, quiet=True)
                collect(data, found[side])
    return found


def collect(data: Data, times: Times) -> None:
    """Add a round's seconds."""
    try:
        units = {name: about["unit"] for name, about in load_benchmarks(data.results).items()}
        records = load_records(data.results)
    except DashboardError:
        return  # nothing was measured: the comparison says so
    for record in records:
        if record.value is not None and record.measured and units[record.benchmark] == "seconds":
            times.setdefault(record.key, []).append(record.value)


def compare(found: dict[str, Times], rounds: int) -> tuple[list[Comparison], list[str]]:
    """What both commits have a time of in every round; the names of what only the base has."""

    def whole(side: str) -> Times:
        return {key: seconds for key, seconds in found[side].items() if len(seconds) == rounds}

    base, head = whole("base"), whole("head")
    both = [Comparison(name_of(key), base[key], head[key]) for key in sorted(base) if key in head]
    return both, [name_of(key) for key in sorted(base) if key not in head]


def name_of(key: tuple) -> str:
    """A benchmark with its parameters."""
    benchmark, parameters = key
    return f"{benchmark}({', '.join(parameters)})" if parameters else benchmark


def verdict(comparisons: list[Comparison], lost: list[str], limits: Limits) -> int:
    """Print what was found: 0 none is slower, 1 some are or no longer run, 2 none was compared."""
    if not comparisons and not lost:
        print(
            "nothing was measured: no benchmark that matches ran on both commits in every round",
            file=sys.stderr,
        )
        return 2
    slower = [c for c in comparisons if c.slower(limits)]
    for c in slower:
        print(f"slower: {c}")
    for name in lost:
        print(f"no longer runs: {name}")
    rule = f"slower is beyond {limits.factor:g} times and {limits.seconds:g} s, in every round"
    print(f"{len(comparisons)} compared, {len(slower)} slower, {len(lost)} no longer run ({rule})")
    return 1 if slower or lost else 0


def main(arguments: list[str] | None = None, description: str | None = None) -> int:
    """Compare two commits."""
    args = parser(description).parse_args(arguments)
    try:
        if args.rounds < 1 or args.factor < 1 or args.seconds < 0:
            raise DashboardError(
                "--rounds must be >= 1, --factor >= 1, --seconds >= 0; "
                f"got {args.rounds}, {args.factor}, {args.seconds}"
            )
        require_asv()
        repo = args.repo.resolve()
        commits = {"base": commit_of(args.base, repo), "head": commit_of(args.head, repo)}
        found = measure(repo, commits, args)
    except DashboardError as error:
        print(f"check_regression.py: {error}", file=sys.stderr)
        return 2
    return verdict(*compare(found, args.rounds), Limits(args.factor, args.seconds))
