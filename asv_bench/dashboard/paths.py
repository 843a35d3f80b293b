"""Where things stand: this clone, and the folder that outlives it."""

from __future__ import annotations

import json
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SUITE = ROOT / "asv_bench"


class DashboardError(Exception):
    """What a person has to put right; its text says how."""


def default_data() -> Path:
    """`$NBBN_BENCH_DATA`, else a folder for this user's data, which survives the clone."""
    named = os.environ.get("NBBN_BENCH_DATA")
    if named:
        return Path(named)
    home = os.environ.get("XDG_DATA_HOME")
    return (Path(home) if home else Path.home() / ".local" / "share") / "nbbn-bench"


class Data:
    """The folder that is kept.

    Results in asv's own layout, what they were measured with, times and spread of the contests,
    scripts of asv's page.
    """

    def __init__(self, folder: Path):
        self.folder = folder.expanduser().resolve()
        self.results = self.folder / "results"
        self.context = self.folder / "context"
        self.details = self.folder / "details"
        self.vendor = self.folder / "vendor"

    def configuration(self, suite: Path, branch: str, html: Path, repo: Path = ROOT) -> Path:
        """Write asv's configuration for this folder, the suite's with absolute paths; its path."""
        conf = json.loads((suite / "asv.conf.json").read_text())
        conf |= {
            "repo": str(repo),
            "branches": [branch],
            "benchmark_dir": str(suite / "benchmarks"),
            "results_dir": str(self.results),
            "env_dir": str(self.folder / "env"),
            "html_dir": str(html),
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "asv.conf.json"
        path.write_text(json.dumps(conf, indent=1))
        return path
