"""The CPU quota of a container or a service: the kernel's control groups, versions 1 and 2.

A group may use so many microseconds of CPU in each period; all its threads stop until the next one
when these are spent. More threads than the quota has cores spend it early, most of it waiting.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path


def cores(groups: str = "/sys/fs/cgroup", process: str = "/proc/self/cgroup") -> int | None:
    """Whole cores that the quota gives, at least 1; None without one.

    Parameters
    ----------
    groups : str
        Where the file systems of the control groups are.
    process : str
        The file that says which groups this process is in.
    """
    shares = [share for share in map(_share, _folders(Path(groups), Path(process))) if share]
    return max(1, math.ceil(min(shares))) if shares else None


def _folders(groups: Path, process: Path) -> Iterator[Path]:
    """Folders of this process's groups and of all above them, in both versions."""
    try:
        lines = process.read_text().splitlines()
    except OSError:
        lines = []
    for line in ["0::/", "1:cpu:/", *lines]:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root = groups
        elif "cpu" in controllers.split(","):
            root = groups / "cpu"
        else:
            continue
        inner = Path(path.lstrip("/"))
        yield from (root / part for part in (inner, *inner.parents))


def _share(folder: Path) -> float | None:
    """Cores that a group may use."""
    try:
        if (folder / "cpu.max").exists():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        return int(quota) / int(period) if quota not in ("max", "-1") else None
    except (OSError, ValueError):
        return None
