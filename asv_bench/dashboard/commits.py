"""What git knows: names of commits, ranges, and their trees in folders of their own."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .paths import ROOT, DashboardError


def git(*arguments: str, repo: Path = ROOT) -> str:
    """What git prints."""
    done = subprocess.run(["git", "-C", str(repo), *arguments], capture_output=True, text=True)
    if done.returncode:
        raise DashboardError(f"git {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout.strip()


def commit_of(name: str, repo: Path = ROOT) -> str:
    """The full hash of a commit."""
    return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", repo=repo)


def commits_in(spec: str, repo: Path = ROOT) -> list[str]:
    """Hashes of a range such as `main~3..main`, oldest first."""
    found = git("rev-list", "--reverse", "--first-parent", spec, repo=repo).split()
    if not found:
        raise DashboardError(
            f"the range {spec!r} has no commit; it is a range of git, as in main~3..main"
        )
    return found


def branch_of(repo: Path = ROOT) -> str:
    """The branch that is checked out, or HEAD."""
    return git("rev-parse", "--abbrev-ref", "HEAD", repo=repo)


def changed(*paths: str, repo: Path = ROOT) -> list[str]:
    """Files under these paths that differ from the commit."""
    return [line[3:] for line in git("status", "--porcelain", "--", *paths, repo=repo).splitlines()]


@contextlib.contextmanager
def checked_out(commit: str, repo: Path = ROOT) -> Iterator[Path]:
    """The tree of a commit in a folder of its own, for as long as the block lasts."""
    with tempfile.TemporaryDirectory(prefix="nbbn-bench-") as folder:
        tree = Path(folder) / commit[:10]
        git("worktree", "add", "--quiet", "--detach", str(tree), commit, repo=repo)
        try:
            yield tree
        finally:
            git("worktree", "remove", "--force", str(tree), repo=repo)
