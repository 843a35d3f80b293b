"""Sections of our page: a tile for each peer, ratios by topic, nbbn's own figures."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from . import charts
from .summary import Row, Standing, Topic, geometric_mean, means, peer_order, standing


@dataclass(frozen=True)
class Shown:
    """What all parts of the page speak of: the commits, oldest first, and the contests' details."""

    labels: list[str]
    # Of each commit's contests, by benchmark and parameters.
    details: list[dict[tuple, dict]]

    def of(self, row: Row) -> dict:
        """Times and spread of a row's latest figure, or nothing."""
        return self.details[row.points[-1][0]].get(row.key, {}) if row.points else {}


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
