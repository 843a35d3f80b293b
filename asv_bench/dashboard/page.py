"""Our page: today's ratio to each peer, its history, nbbn's own figures.

Also what they were measured with. One static file.
"""

from __future__ import annotations

import datetime
import json
from html import escape
from pathlib import Path

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
from .sections import Shown, overview, own_sections, ratio_section
from .summary import RATIOS, Topic, documentation, sources, summarize

STYLE = Path(__file__).with_name("style.css")
FILTER = Path(__file__).with_name("filter.js")


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
