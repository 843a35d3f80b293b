"""Our page: today's ratio to each peer, its history, nbbn's own figures.

Also what they were measured with. One static file.
"""

from __future__ import annotations

import datetime
import itertools
from collections.abc import Iterator
from html import escape
from pathlib import Path

from . import charts
from .commits import commits_in, git
from .paths import ROOT, SUITE, DashboardError, Data
from .records import (
    Record,
    latest_machine,
    load_benchmarks,
    load_context,
    load_records,
    machine_facts,
)
from .summary import (
    RATIOS,
    Row,
    Standing,
    Topic,
    documentation,
    means,
    peer_order,
    standing,
    summarize,
)

STYLE = Path(__file__).with_name("style.css")


def write_page(
    data: Data, output: Path, branch: str, machine: str | None = None, repo: Path = ROOT
) -> Path:
    """Write `index.html` into `output` from what the data folder holds; its path."""
    records, names = selected(load_records(data.results), machine, branch, repo)
    machine = records[0].machine
    texts = documentation(SUITE)
    topics = summarize(records, load_benchmarks(data.results), names, texts)
    dates = {r.commit: r.date for r in records}
    labels = [f"{commit[:8]}, {day(dates[commit])}" for commit in names]
    newest = names[-1]
    context = load_context(data, machine, newest)
    ratios = [t for t in topics if t.name.startswith(RATIOS)]
    own = [t for t in topics if not t.name.startswith(RATIOS)]
    parts = [
        header(
            newest, subject(newest, repo), context, machine_facts(data.results, machine), len(names)
        ),
        overview(ratios, len(names) - 1),
        *(ratio_section(t, labels) for t in ratios if any(t.rows.values())),
        '<h2 id="own">nbbn\'s own figures</h2><p class="lead">The latest figure, its change since '
        "the figure before, its history. Less is better, except for shares and speed-ups.</p>",
        *own_sections(own, labels, texts),
    ]
    path = output / "index.html"
    path.write_text(document("".join(parts), STYLE.read_text()))
    return path


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


def document(body: str, style: str) -> str:
    """The whole file."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        "<title>nbbn: performance</title>"
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<link rel="icon" href="data:,"><style>{style}</style></head>'
        f"<body><main>{body}</main></body></html>\n"
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


def header(commit: str, title: str, context: dict, facts: dict, commits: int) -> str:
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
        "commit": f"{commit[:10]} {title}",
        "measured": " ".join(filter(None, measured)),
        "machine": ", ".join(filter(None, [facts.get("cpu"), cores, facts.get("os")])),
        "memory": f"{int(memory) / 2**30:.0f} GiB" if memory.isdigit() else memory,
        "threads": str(context.get("threads", "")),
        "versions": ", ".join(
            f"{n} {v}" if v else f"{n} not installed"
            for n, v in packages.items()
            if n != "nbbn" or v
        ),
        "load before": load_text(context.get("load")),
        "history": f"{commits} commit{'s' if commits != 1 else ''}",
    }
    items = "".join(
        f"<dt>{escape(k)}</dt><dd>{escape(v)}</dd>" for k, v in rows.items() if v.strip()
    )
    return (
        "<header><h1>nbbn: performance</h1><nav>"
        '<a href="asv/index.html">asv\'s page: every figure, every commit</a>'
        f'<a href="#own">nbbn\'s own figures</a></nav><dl>{items}</dl></header>'
    )


def load_text(load: float | None) -> str:
    """The machine's load when the run began, and what it means."""
    if load is None:
        return ""
    busy = ": other work was running, do not trust these figures" if load > 0.5 else ""
    return f"{load:g}{busy}"


def overview(topics: list[Topic], newest: int) -> str:
    """A tile for each peer."""
    tiles = [
        f'<div class="tile c{peer_order(peer)}"><h3>{escape(peer)}</h3>'
        f'<p class="big">{times(found.mean)}</p><p>{tile_text(found)}</p></div>'
        for peer, found in standing(topics, newest).items()
    ]
    if not tiles:
        return '<p class="lead">No peer was measured: install the extra peers and run again.</p>'
    lead = (
        "The peer's time divided by nbbn's, both measured in turn in one process: "
        "above 1, nbbn is faster."
    )
    return (
        f'<h2>How far ahead</h2><p class="lead">{lead}</p><div class="tiles">{"".join(tiles)}</div>'
    )


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


def ratio_section(topic: Topic, labels: list[str]) -> str:
    """Bars of today's ratios by peer, and a history of each peer's mean."""
    colours = {peer: peer_order(peer) for peer in topic.rows}
    series = {peer: means(rows) for peer, rows in topic.rows.items()}
    series = {peer: points for peer, points in series.items() if points}
    groups = "".join(
        f'<div class="group"><h4 class="c{colours[peer]}">{escape(peer)}</h4>'
        f"{ratio_rows(rows, labels)}</div>"
        for peer, rows in topic.rows.items()
    )
    legend = "".join(f'<span class="c{colours[p]}">{escape(p)}</span>' for p in series)
    drawn = charts.history(series, labels, colours)
    caption = f"<figcaption>Geometric mean by commit. {legend}</figcaption>"
    figure = f"<figure>{drawn}{caption}</figure>" if drawn else ""
    title = f"<h3>{escape(words(topic.name))}</h3><p>{escape(topic.text)}</p>"
    return (
        f'<section id="{topic.name}">{title}{figure}'
        f'<div class="groups">{groups}</div>{link(topic)}</section>'
    )


def link(topic: Topic) -> str:
    """To the benchmark's graph on asv's page."""
    return f'<p class="link"><a href="asv/index.html#{topic.name}">{escape(topic.name)}</a></p>'


def ratio_rows(rows: list[Row], labels: list[str]) -> str:
    """The measured works, a line each, and how many others there are."""
    lines = [ratio_row(row, labels) for row in rows if row.latest is not None]
    missing: dict[str, list[str]] = {}
    for row in rows:
        if row.latest is None:
            missing.setdefault(row.missing or "", []).append(row.label or "all")
    for why, names in missing.items():
        listed = "" if len(names) == len(rows) else f": {escape('; '.join(names))}"
        lines.append(f'<p class="none">{why}{listed}</p>')
    return "".join(lines)


def ratio_row(row: Row, labels: list[str]) -> str:
    """A work: its bar, its ratio, its small history."""
    label, ratio = escape(row.label or "all"), row.values[-1]
    return (
        f'<div class="row"><span class="label">{label}{stale(row, labels)}</span>'
        f"{charts.bar(ratio)}"
        f'<span class="value {"ahead" if ratio >= 1 else "behind"}">{times(ratio)}</span>'
        f"{charts.spark(row.values)}</div>"
    )


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
    return f'<details id="{topic.name}">{title}{rows}{link(topic)}</details>'


def own_row(row: Row, unit: str, labels: list[str]) -> str:
    """A figure, its change and its small history."""
    label = escape(row.label or "all")
    if row.latest is None:
        why = f'<span class="none">{row.missing}</span>'
        return f'<div class="row own"><span class="label">{label}</span>{why}</div>'
    before = row.values[-2] if len(row.values) > 1 else 0
    change = f"{100 * (row.latest / before - 1):+.0f} %" if before else ""
    cells = (
        f'<span class="value">{figure(row.latest, unit)}</span><span class="change">{change}</span>'
    )
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
