"""Publishing: asv's own page, made independent of the web, and ours above it."""

from __future__ import annotations

import sys
from pathlib import Path

from . import assets
from .page import write_page
from .paths import ROOT, SUITE, DashboardError, Data
from .records import load_benchmarks
from .suite import asv


def publish(
    data: Data,
    output: Path,
    branch: str,
    machine: str | None = None,
    repo: Path = ROOT,
    suite: Path = SUITE,
) -> Path:
    """Write both pages from what the data folder holds; the path of ours."""
    load_benchmarks(data.results)
    conf = data.configuration(suite, branch, output / "asv", repo)
    # The branch as a range: results of commits that are no longer in the repository would stop asv.
    if asv("publish", "--config", str(conf), "--no-pull", branch, quiet=True):
        raise DashboardError("asv could not publish its page; its message stands above")
    assets.drop_unmeasured(output / "asv")
    if assets.fetch(data.vendor):
        left = assets.localize(output / "asv" / "index.html", data.vendor)
    else:
        left = ["its scripts, which could not be installed: it is the one page that needs the web"]
    for address in left:
        print(f"asv's page still needs {address}", file=sys.stderr)
    return write_page(data, output, branch, machine, repo)
