"""Publish the dashboard beside the site: `NBBN_DASHBOARD` is the folder of its pages."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any


def copy(app: Any, error: Exception | None) -> None:
    """Copy the pages into `benchmarks/`, where the site has been built as HTML."""
    source = os.environ.get("NBBN_DASHBOARD")
    if error or not source or app.builder.format != "html":
        return
    if not (Path(source) / "index.html").is_file():
        raise ValueError(
            f"NBBN_DASHBOARD: {source} holds no index.html; publish the dashboard there first "
            "(scripts/dashboard.py), or unset the variable"
        )
    target = Path(app.outdir) / "benchmarks"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", copy)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
