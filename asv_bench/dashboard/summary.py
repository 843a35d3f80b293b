"""What the page shows, worked out from the records.

Ratios by topic and peer, their histories, and nbbn's own figures.
"""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass, field
from pathlib import Path

from .records import Record

RATIOS = "versus."
# Their order, and their colours.
PEERS = ("scikit-learn", "PyTorch", "torch.compile", "ONNX Runtime", "JAX")


@dataclass
class Row:
    """One figure and its way here: points (index of the commit, value), the last one the latest."""

    label: str
    points: list[tuple[int, float]] = field(default_factory=list)
    missing: str | None = None  # why the latest run has none
    key: tuple = ()  # benchmark and parameters
    intervals: dict[int, tuple[float, float]] = field(default_factory=dict)  # by commit

    def at(self, index: int) -> float | None:
        """The figure at a commit, or the last one before it."""
        return next((value for i, value in reversed(self.points) if i <= index), None)

    @property
    def change_is_sure(self) -> bool | None:
        """Whether the last change is beyond the spread of both figures; None: not known."""
        if len(self.points) < 2:
            return None
        pair = [self.intervals.get(i) for i, _ in self.points[-2:]]
        if None in pair:
            return None
        (before_low, before_high), (low, high) = pair
        return high < before_low or before_high < low

    @property
    def latest(self) -> float | None:
        return self.points[-1][1] if self.points else None

    @property
    def values(self) -> list[float]:
        return [value for _, value in self.points]


@dataclass
class Topic:
    """A benchmark: its rows by peer (of nbbn's own figures: one peer, "")."""

    name: str
    text: str
    unit: str
    source: str = ""
    rows: dict[str, list[Row]] = field(default_factory=dict)


def geometric_mean(values: list[float]) -> float:
    """The mean of ratios."""
    return math.exp(sum(map(math.log, values)) / len(values))


def label_of(names: list[str], values: tuple[str, ...], without: str | None = None) -> str:
    """Parameters in words: numbers and switches with their names, all else speaks for itself."""
    bare = [
        v if v[:1] not in "0123456789TFN" else f"{n.replace('_', ' ')} {v}"
        for n, v in zip(names, values)
    ]
    return ", ".join(text for n, text in zip(names, bare) if n != without)


def sources(suite: Path) -> dict[str, str]:
    """The source of each class of the suite, by name."""
    found = {}
    for path in sorted((suite / "benchmarks").glob("*.py")):
        text = path.read_text()
        for node in ast.parse(text).body:
            if isinstance(node, ast.ClassDef):
                first = min([node.lineno, *(each.lineno for each in node.decorator_list)])
                lines = text.splitlines()[first - 1 : node.end_lineno]
                found[f"{path.stem}.{node.name}"] = "\n".join(lines)
    return found


def documentation(suite: Path) -> dict[str, str]:
    """What each module of the suite and each of its classes says of itself, by name."""
    found = {}
    for path in sorted((suite / "benchmarks").glob("*.py")):
        module = ast.parse(path.read_text())
        found[path.stem] = " ".join((ast.get_docstring(module) or "").split())
        for node in module.body:
            if isinstance(node, ast.ClassDef):
                found[f"{path.stem}.{node.name}"] = " ".join(
                    (ast.get_docstring(node) or "").split()
                )
    return found


def summarize(
    records: list[Record],
    benchmarks: dict[str, dict],
    order: list[str],
    texts: dict[str, str] | None = None,
    code: dict[str, str] | None = None,
) -> list[Topic]:
    """Topics in the benchmarks' order, rows in the parameters' order.

    Parameters
    ----------
    records : list of Record
        Of one machine.
    benchmarks : dict
        asv's description of each benchmark.
    order : list of str
        Commits, oldest first.
    texts, code : dict, optional
        What each class says of itself, and its source.
    """
    place = {commit: i for i, commit in enumerate(order)}
    found: dict[str, dict[tuple, Row]] = {}
    for record in sorted(records, key=lambda r: place[r.commit]):
        about = benchmarks[record.benchmark]
        rows = found.setdefault(record.benchmark, {})
        row = rows.setdefault(
            record.parameters,
            Row(label_of(about["param_names"], record.parameters, "peer"), key=record.key),
        )
        if record.measured and record.value is not None:
            row.points.append((place[record.commit], record.value))
            if record.interval is not None:
                row.intervals[place[record.commit]] = record.interval
            row.missing = None
        elif record.value is None:
            row.missing = f"failed at {record.commit[:8]}"
        elif not row.points:
            row.missing = "not measured"
    return [
        topic(benchmarks[name], found[name], texts or {}, code or {}) for name in sorted(found)
    ]


def topic(
    about: dict, rows: dict[tuple, Row], texts: dict[str, str], code: dict[str, str]
) -> Topic:
    """A benchmark's rows, put under their peers."""
    of = about["name"].rpartition(".")[0]
    made = Topic(about["name"], texts.get(of, ""), about["unit"], code.get(of, ""))
    names = about["param_names"]
    for parameters, row in rows.items():
        peer = parameters[names.index("peer")] if "peer" in names else ""
        made.rows.setdefault(peer, []).append(row)
    ordered = sorted(made.rows, key=peer_order)
    made.rows = {peer: made.rows[peer] for peer in ordered}
    return made


def peer_order(peer: str) -> int:
    """A peer's place, and the number of its colour."""
    return PEERS.index(peer) if peer in PEERS else len(PEERS)


def means(rows: list[Row]) -> list[tuple[int, float, int]]:
    """Geometric mean at each commit that measured any of the rows; how many it did not.

    Of all rows at every point, those that a commit lacks by the figure before: so all means are of
    the same works, and the last one is that of the rows' latest figures. They begin where each row
    has a figure.
    """
    rows = [row for row in rows if row.points]
    found = []
    for place in sorted({i for row in rows for i, _ in row.points}):
        values = [value for row in rows if (value := row.at(place)) is not None]
        if len(values) == len(rows):
            carried = sum(all(i != place for i, _ in row.points) for row in rows)
            found.append((place, geometric_mean(values), carried))
    return found


@dataclass(frozen=True)
class Standing:
    """A peer's latest ratios: of each topic, and of all together."""

    topics: dict[str, list[Row]]
    newest: int  # index of the newest commit

    @property
    def rows(self) -> list[Row]:
        return [row for rows in self.topics.values() for row in rows]

    @property
    def ratios(self) -> list[float]:
        return [row.values[-1] for row in self.rows]

    @property
    def older(self) -> int:
        """How many are not of the newest commit."""
        return sum(row.points[-1][0] < self.newest for row in self.rows)

    @property
    def mean(self) -> float:
        return geometric_mean(self.ratios)

    @property
    def ahead(self) -> int:
        return sum(ratio > 1 for ratio in self.ratios)


def standing(topics: list[Topic], newest: int) -> dict[str, Standing]:
    """Where nbbn stands with each peer; `newest` is the index of the newest commit."""
    found: dict[str, dict[str, list[Row]]] = {}
    for each in topics:
        for peer, rows in each.rows.items():
            if measured := [row for row in rows if row.points]:
                found.setdefault(peer, {})[each.name] = measured
    return {
        peer: Standing(of, newest)
        for peer, of in sorted(found.items(), key=lambda pair: peer_order(pair[0]))
        if peer
    }
