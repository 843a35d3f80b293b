"""Our page: today's ratio to each peer, its history, nbbn's own figures.

Also what they were measured with. One static file.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

from . import charts
from .commits import commits_in, git, page_of_commits, tags
from .paths import ROOT, SUITE, DashboardError, Data
from .records import (
    Record,
    latest_machine,
    load_benchmarks,
    load_context,
    load_details,
    load_records,
    machine_facts,
)
from .summary import (
    RATIOS,
    Row,
    Standing,
    Topic,
    documentation,
    geometric_mean,
    means,
    peer_order,
    sources,
    standing,
    summarize,
)

STYLE = Path(__file__).with_name("style.css")
FILTER = Path(__file__).with_name("filter.js")


@dataclass(frozen=True)
class Shown:
    """What all parts of the page speak of: the commits, oldest first, and the contests' details."""

    labels: list[str]
    # Of each commit's contests, by benchmark and parameters.
    details: list[dict[tuple, dict]]

    def of(self, row: Row) -> dict:
        """Times and spread of a row's latest figure, or nothing."""
        return self.details[row.points[-1][0]].get(row.key, {}) if row.points else {}


def write_page(
    data: Data, output: Path, branch: str, machine: str | None = None, repo: Path = ROOT
) -> Path:
    """Write `index.html` into `output` from what the data folder holds; its path."""
    records, names = selected(load_records(data.results), machine, branch, repo)
    machine = records[0].machine
    texts = documentation(SUITE)
    topics = summarize(records, load_benchmarks(data.results), names, texts, sources(SUITE))
    dates, tagged = {r.commit: r.date for r in records}, tags(repo)
    labels = [
        f"{tagged[commit] if commit in tagged else commit[:8]}, {day(dates[commit])}"
        for commit in names
    ]
    shown = Shown(labels, [load_details(data, machine, commit) for commit in names])
    newest, web = names[-1], page_of_commits(repo)
    context = load_context(data, machine, newest)
    ratios = [t for t in topics if t.name.startswith(RATIOS)]
    own = [t for t in topics if not t.name.startswith(RATIOS)]
    parts = [
        header(
            newest,
            subject(newest, repo),
            context,
            machine_facts(data.results, machine),
            len(names),
            web,
        ),
        overview(ratios, len(names) - 1),
        *(ratio_section(t, shown) for t in ratios if any(t.rows.values())),
        '<h2 id="own">nbbn\'s own figures</h2><p class="lead">The latest figure with its spread, '
        "its change since the figure before, its history. A change within the spread of both "
        "figures is grey. Less is better, except for shares and speed-ups.</p>",
        *own_sections(own, labels, texts),
        commit_list(names, labels, web, repo),
    ]
    path = output / "index.html"
    path.write_text(document("".join(parts), STYLE.read_text(), FILTER.read_text()))
    (output / "figures.json").write_text(json.dumps(as_data(topics, names, shown), indent=1))
    return path


def as_data(topics: list[Topic], names: list[str], shown: Shown) -> list[dict]:
    """All figures of the page, for programs."""
    return [
        {
            "benchmark": topic.name,
            "parameters": list(row.key[1]),
            "unit": topic.unit,
            "figures": {names[i]: value for i, value in row.points},
            "intervals": {names[i]: list(pair) for i, pair in row.intervals.items()},
            "details": {names[i]: each[row.key] for i, each in enumerate(shown.details)
                        if row.key in each},
        }
        for topic in topics for rows in topic.rows.values() for row in rows
    ]


def selected(
    records: list[Record], machine: str | None, branch: str, repo: Path
) -> tuple[list[Record], list[str]]:
    """One machine's records of the branch's commits, and these commits, oldest first."""
    line = commits_in(branch, repo)
    known = set(line)
    here = [r for r in records if r.commit in known]
    machine = machine or latest_machine(here)
    here = [r for r in here if r.machine == machine]
    if not any(r.measured for r in here):
        raise DashboardError(
            f"no figure of the machine {machine!r} on {branch}: run the benchmarks first"
        )
    measured = {r.commit for r in here}
    return here, [commit for commit in line if commit in measured]


def document(body: str, style: str, script: str = "") -> str:
    """The whole file."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<title>nbbn: performance</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><style>{style}</style></head>'
        f"<body><main>{body}</main><script>{script}</script></body></html>\n"
    )


def day(date: int) -> str:
    """Of milliseconds since 1970."""
    return datetime.datetime.fromtimestamp(date / 1000, datetime.timezone.utc).strftime("%Y-%m-%d")


def subject(commit: str, repo: Path) -> str:
    """The commit's first line, if this clone has it."""
    try:
        return git("show", "--no-patch", "--format=%s", commit, repo=repo)
    except DashboardError:
        return ""


def commit_link(commit: str, text: str, web: str | None) -> str:
    """A commit's name, as a link where its page on the web is known."""
    name = f"<code>{escape(text)}</code>"
    return f'<a href="{escape(web + commit)}">{name}</a>' if web else name


def commit_list(names: list[str], labels: list[str], web: str | None, repo: Path) -> str:
    """All commits of the page, the newest first."""
    rows = "".join(
        f"<li>{commit_link(commit, commit[:10], web)} {escape(label)}: "
        f"{escape(subject(commit, repo))}</li>"
        for commit, label in zip(reversed(names), reversed(labels))
    )
    return f'<details id="commits"><summary>commits</summary><ul>{rows}</ul></details>'


def header(
    commit: str, title: str, context: dict, facts: dict, commits: int, web: str | None = None
) -> str:
    """Which commit, on what, with what."""
    packages = {
        "nbbn": context.get("nbbn"),
        "Python": context.get("python"),
        **context.get("packages", {}),
    }
    memory = facts.get("ram", "")
    measured = [context.get("started", "")[:16].replace("T", " "), context.get("profile")]
    cores = f"{facts['num_cpu']} cores" if facts.get("num_cpu") else ""
    rows = {
        "commit": title,
        "measured": " ".join(filter(None, measured)),
        "machine": ", ".join(filter(None, [facts.get("cpu"), cores, facts.get("os")])),
        "memory": f"{int(memory) / 2**30:.0f} GiB" if memory.isdigit() else memory,
        "threads": str(context.get("threads", "")),
        "BLAS of the peers": "; ".join(context.get("blas", [])),
        "variables set": ", ".join(f"{n}={v}" for n, v in context.get("pinned", {}).items()),
        "versions": ", ".join(
            f"{n} {v}" if v else f"{n} not installed"
            for n, v in packages.items()
            if n != "nbbn" or v
        ),
        "load before": load_text(context.get("load")),
        "history": f"{commits} commit{'s' if commits != 1 else ''}",
    }
    hashed = {"commit": f"{commit_link(commit, commit[:10], web)} "}
    items = "".join(
        f"<dt>{escape(k)}</dt><dd>{hashed.get(k, '')}{escape(v)}</dd>"
        for k, v in rows.items()
        if v.strip() or k in hashed
    )
    return (
        "<header><h1>nbbn: performance</h1><nav>"
        '<a href="asv/index.html">asv\'s page: every figure, every commit</a>'
        '<a href="#own">nbbn\'s own figures</a><a href="#commits">commits</a>'
        f'<a href="figures.json" download>the figures as JSON</a></nav><dl>{items}</dl>'
        '<p class="filter" hidden><label for="filter">show only</label> <input type="search" '
        'id="filter" placeholder="words: rows 32, PyTorch"> <span id="found"></span></p></header>'
    )


def load_text(load: float | None) -> str:
    """The machine's load when the run began, and what it means."""
    if load is None:
        return ""
    busy = ": other work was running, do not trust these figures" if load > 0.5 else ""
    return f"{load:g}{busy}"


def overview(topics: list[Topic], newest: int) -> str:
    """A tile for each peer."""
    tiles = [tile(peer, found) for peer, found in standing(topics, newest).items()]
    if not tiles:
        return '<p class="lead">No peer was measured: install the extra peers and run again.</p>'
    lead = (
        "The peer's time divided by nbbn's, both measured in turn in one process: "
        "above 1, nbbn is faster. A tile's figure is the geometric mean of all works that stand "
        "below, topic by topic with the same figures as there, and its line the same over commits."
    )
    return (
        f'<h2>How far ahead</h2><p class="lead">{lead}</p><div class="tiles">{"".join(tiles)}</div>'
    )


def tile(peer: str, found: Standing) -> str:
    """A peer's figure, what it is made of, and the way of the same works here."""
    parts = "".join(
        f'<li><a href="#{name}">{escape(words(name))}</a> {times(mean_of(rows))} '
        f"<small>{of_works(rows)}</small></li>"
        for name, rows in found.topics.items()
    )
    line = charts.spark([mean for _, mean, _ in means(found.rows)])
    return (
        f'<div class="tile c{peer_order(peer)}"><h3>{escape(peer)}</h3>'
        f'<p class="big">{times(found.mean)}</p>{line}<p>{tile_text(found)}</p><ul>{parts}</ul>'
        "</div>"
    )


def mean_of(rows: list[Row]) -> float:
    """Geometric mean of the latest figures."""
    return geometric_mean([row.values[-1] for row in rows if row.points])


def of_works(rows: list[Row]) -> str:
    """How many works these are."""
    count = sum(bool(row.points) for row in rows)
    return f"{count} works" if count > 1 else "one work"


def tile_text(found: Standing) -> str:
    """What a tile's figure is made of."""
    count = len(found.ratios)
    older = f"; {found.older} measured at an earlier commit" if found.older else ""
    mean = f"geometric mean of {count} works" if count > 1 else "one work"
    return f"{mean}; ahead in {found.ahead} of {count}, the least {times(min(found.ratios))}{older}"


def times(ratio: float) -> str:
    """A ratio in three figures."""
    return f"{ratio:.3g}&times;" if ratio < 100 else f"{ratio:.0f}&times;"


def words(name: str) -> str:
    """`versus.BatchNorm.track_ratio` as a title."""
    title = name.split(".")[1]
    return "".join(f" {c.lower()}" if c.isupper() and i else c for i, c in enumerate(title))


def ratio_section(topic: Topic, shown: Shown) -> str:
    """Bars of today's ratios by peer, and a history of each peer's mean."""
    colours = {peer: peer_order(peer) for peer in topic.rows}
    series = {peer: means(rows) for peer, rows in topic.rows.items()}
    series = {peer: points for peer, points in series.items() if points}
    absent = [p for p, rows in topic.rows.items() if all(nothing_of(row) for row in rows)]
    groups = "".join(
        f'<div class="group" data-peer="{escape(peer)}"><h4 class="c{colours[peer]}">'
        f"{escape(peer)}</h4>{ratio_rows(peer, rows, shown)}</div>"
        for peer, rows in topic.rows.items()
        if peer not in absent
    )
    legend = "".join(
        f'<span class="c{colours[p]}">{escape(p)} {times(points[-1][1])}</span>'
        for p, points in series.items()
    )
    drawn = charts.history(series, shown.labels, colours)
    caption = "Geometric mean of the works below, the latest figure of each; by commit"
    if any(older for points in series.values() for *_, older in points):
        caption += ", hollow where some figures are of the commit before"
    figure = (
        f"<figure>{drawn}<figcaption>{caption}. {legend}</figcaption></figure>" if drawn else ""
    )
    title = f"<h3>{escape(words(topic.name))}</h3><p>{escape(topic.text)}</p>"
    others = f'<p class="none">not measured: {escape(", ".join(absent))}</p>' if absent else ""
    return (
        f'<section id="{topic.name}" class="topic" data-words="{escape(words_of(topic))}">{title}'
        f'{figure}<div class="groups">{groups}</div>{others}{link(topic)}</section>'
    )


def nothing_of(row: Row) -> bool:
    """Whether a work was never measured, and did not fail."""
    return row.latest is None and row.missing == "not measured"


def words_of(topic: Topic) -> str:
    """By what the filter finds a benchmark."""
    return f"{topic.name} {words(topic.name)} {topic.text}"


def link(topic: Topic) -> str:
    """To the benchmark's graph on asv's page; its source."""
    graph = f'<p class="link"><a href="asv/index.html#{topic.name}">{escape(topic.name)}</a></p>'
    if not topic.source:
        return graph
    code = f"<pre><code>{escape(topic.source)}</code></pre>"
    return f'{graph}<details class="source"><summary>source</summary>{code}</details>'


def ratio_rows(peer: str, rows: list[Row], shown: Shown) -> str:
    """The measured works, a line each, and how many others there are."""
    lines = [ratio_row(peer, row, shown) for row in rows if row.latest is not None]
    missing: dict[str, list[str]] = {}
    for row in rows:
        if row.latest is None:
            missing.setdefault(row.missing or "", []).append(row.label or "all")
    for why, names in missing.items():
        listed = "" if len(names) == len(rows) else f": {escape('; '.join(names))}"
        lines.append(f'<p class="none">{why}{listed}</p>')
    return "".join(lines)


def ratio_row(peer: str, row: Row, shown: Shown) -> str:
    """A work: its bar, its ratio, its small history, the times and the spread."""
    label, ratio, details = escape(row.label or "all"), row.values[-1], shown.of(row)
    kind = "ahead" if ratio >= 1 else "behind"
    if details and not details["sure"]:
        kind = "unsure"
    return (
        f'<div class="row"><span class="label">{label}{stale(row, shown.labels)}</span>'
        f"{charts.bar(ratio)}"
        f'<span class="value {kind}">{times(ratio)}</span>'
        f"{charts.spark(row.values)}{in_seconds(peer, details)}</div>"
    )


def in_seconds(peer: str, details: dict) -> str:
    """Both times, the middle half of the rounds' ratios, and whether all rounds agree."""
    if not details:
        return ""
    low, _, high = details["ratios"]
    own, other = (figure(details[side][1], "s") for side in ("own", "peer"))
    both = f"nbbn {own}, {escape(peer)} {other}"
    spread = f"half of {details['rounds']} rounds within {low:.3g} to {high:.3g}"
    same = "" if details["sure"] else ": not told apart from 1"
    return f'<small class="times">{both}; {spread}{same}</small>'


def stale(row: Row, labels: list[str]) -> str:
    """A note where the figure is not of the newest commit."""
    index = row.points[-1][0]
    why = f"<strong>{row.missing}</strong>; " if row.missing else ""
    return "" if index == len(labels) - 1 else f" <small>{why}at {escape(labels[index])}</small>"


def own_sections(topics: list[Topic], labels: list[str], texts: dict[str, str]) -> Iterator[str]:
    """nbbn's own figures, those of a module under its name and what it says of itself."""
    for module, own in itertools.groupby(topics, lambda topic: topic.name.split(".")[0]):
        yield f'<h3 id="{module}">{escape(module)}</h3><p>{escape(texts.get(module, ""))}</p>'
        yield from (own_section(topic, labels) for topic in own)


def own_section(topic: Topic, labels: list[str]) -> str:
    """A table of nbbn's own figures."""
    rows = "".join(own_row(row, topic.unit, labels) for rows in topic.rows.values() for row in rows)
    title = f"<summary>{escape(topic.name)}</summary><p>{escape(topic.text)}</p>"
    named = f'id="{topic.name}" class="topic" data-words="{escape(words_of(topic))}"'
    return f"<details {named}>{title}{rows}{link(topic)}</details>"


def own_row(row: Row, unit: str, labels: list[str]) -> str:
    """A figure, its change and its small history."""
    label = escape(row.label or "all")
    if row.latest is None:
        why = f'<span class="none">{row.missing}</span>'
        return f'<div class="row own"><span class="label">{label}</span>{why}</div>'
    before = row.values[-2] if len(row.values) > 1 else 0
    change = f"{100 * (row.latest / before - 1):+.0f} %" if before else ""
    sure = {True: " sure", False: " unsure", None: ""}[row.change_is_sure]
    note = ' title="within the spread of both figures"' if row.change_is_sure is False else ""
    cells = (
        f'<span class="value">{figure(row.latest, unit)}</span>'
        f'<span class="change{sure}"{note}>{change}</span>'
    )
    interval = row.intervals.get(row.points[-1][0])
    if interval is not None:
        low, high = (figure(each, unit) for each in interval)
        label += f' <small class="times">{low} to {high}, 99 % confidence</small>'
    history = charts.spark(row.values, logarithmic=min(row.values) > 0)
    named = f'<span class="label">{label}{stale(row, labels)}</span>'
    return f'<div class="row own">{named}{cells}{history}</div>'


def figure(value: float, unit: str) -> str:
    """A figure in the unit that reads best."""
    if unit in ("seconds", "s"):
        for scale, name in ((1, "s"), (1e-3, "ms"), (1e-6, "&micro;s")):
            if value >= scale or scale == 1e-6:
                return f"{value / scale:.3g} {name}"
    if unit == "bytes":
        return f"{value / 2**20:.4g} MiB"
    return f"{value:.3g} {escape(unit)}"
