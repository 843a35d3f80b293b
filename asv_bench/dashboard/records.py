"""asv's stored results as flat records.

One figure of one benchmark with one set of parameters at one commit.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .paths import DashboardError, Data


@dataclass(frozen=True)
class Record:
    """One figure. `value` is NaN where the benchmark was skipped and None where it failed."""

    benchmark: str
    parameters: tuple[str, ...]
    commit: str
    date: int  # of the commit, milliseconds
    started: int  # of the measurement, milliseconds
    value: float | None
    machine: str
    interval: tuple[float, float] | None = None  # of 99 % confidence, where asv has one

    @property
    def key(self) -> tuple:
        return self.benchmark, self.parameters

    @property
    def measured(self) -> bool:
        return self.value is not None and math.isfinite(self.value)


def readable(parameter: str) -> str:
    """A parameter as asv stores it (its repr) without quotes."""
    return (
        parameter[1:-1]
        if len(parameter) > 1 and parameter[0] == parameter[-1] and parameter[0] in "'\""
        else parameter
    )


def load_benchmarks(results: Path) -> dict[str, dict]:
    """What asv knows of each benchmark: its parameters' names, unit, version, documentation."""
    path = results / "benchmarks.json"
    if not path.is_file():
        raise DashboardError(
            f"{results} holds no results of asv (no benchmarks.json): run the benchmarks first"
        )
    return {name: b for name, b in json.loads(path.read_text()).items() if isinstance(b, dict)}


def load_records(results: Path, machine: str | None = None) -> list[Record]:
    """All figures of the benchmarks' present versions; of several runs at a commit the latest."""
    from asv.results import iter_results

    benchmarks = load_benchmarks(results)
    latest: dict[tuple, Record] = {}
    for stored in iter_results(str(results)):
        if machine is not None and stored.params["machine"] != machine:
            continue
        for name in stored.get_result_keys(benchmarks):
            for record in _expanded(stored, name):
                place = (record.machine, record.commit, *record.key)
                before = latest.get(place)
                if before is None or _rank(record) >= _rank(before):
                    latest[place] = record
    return sorted(latest.values(), key=lambda r: (r.date, r.commit, r.benchmark))


def _rank(record: Record) -> tuple[bool, float]:
    """Which of two records of one figure counts: a measured one, then the later one."""
    return record.measured, record.started


def _expanded(stored: Any, name: str) -> Iterator[Record]:
    """A record for each combination of parameters."""
    axes = stored.get_result_params(name)
    values = stored.get_result_value(name, axes)
    started = stored.started_at.get(name) or 0
    values = values or []
    stats = stored.get_result_stats(name, axes) or []
    stats = [*stats, *[None] * (len(values) - len(stats))]
    for parameters, value, about in zip(itertools.product(*axes), values, stats):
        low, high = (about or {}).get("ci_99_a"), (about or {}).get("ci_99_b")
        known = low is not None and high is not None and math.isfinite(low + high)
        yield Record(
            name,
            tuple(map(readable, parameters)),
            stored.commit_hash,
            stored.date,
            started,
            value,
            stored.params["machine"],
            (low, high) if known else None,
        )


def latest_machine(records: list[Record]) -> str:
    """The machine that measured last."""
    if not records:
        raise DashboardError(
            "no results of commits on this branch: run the benchmarks first, "
            "or name a --branch that was measured"
        )
    return max(records, key=lambda r: r.started).machine


def machine_facts(results: Path, machine: str) -> dict:
    """Processor, cores, memory and system, as asv stored them."""
    path = results / machine / "machine.json"
    return json.loads(path.read_text()) if path.is_file() else {}


def save_context(data: Data, machine: str, commit: str, context: dict) -> None:
    """Keep what a commit was measured with; a later run of the same commit replaces it."""
    path = data.context / machine / f"{commit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(context, indent=1))


def save_details(data: Data, machine: str, commit: str, lines: Path) -> None:
    """Add what contests have written of a commit to what is kept of it."""
    found = load_details(data, machine, commit)
    if lines.is_file():
        for line in lines.read_text().splitlines():
            about = json.loads(line)
            found[about.pop("benchmark"), tuple(map(readable, about.pop("parameters")))] = about
    path = data.details / machine / f"{commit}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = [{"benchmark": b, "parameters": list(p), **about} for (b, p), about in found.items()]
    path.write_text(json.dumps(kept, indent=1))


def load_details(data: Data, machine: str, commit: str) -> dict[tuple, dict]:
    """Times and spread of a commit's contests by benchmark and parameters, where there are any."""
    path = data.details / machine / f"{commit}.json"
    kept = json.loads(path.read_text()) if path.is_file() else []
    return {(about.pop("benchmark"), tuple(about.pop("parameters"))): about for about in kept}


def load_context(data: Data, machine: str, commit: str) -> dict:
    """What a commit was measured with, or nothing."""
    path = data.context / machine / f"{commit}.json"
    return json.loads(path.read_text()) if path.is_file() else {}
