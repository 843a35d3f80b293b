"""What git knows: names of commits, ranges, and their trees in folders of their own."""

from __future__ import annotations

import contextlib
import re
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
    return done.stdout.rstrip()


def commit_of(name: str, repo: Path = ROOT) -> str:
    """The full hash of a commit."""
    try:
        return git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", repo=repo)
    except DashboardError:
        raise DashboardError(
            f"{name!r} names no commit of this repository; give a branch, a tag or a hash"
        ) from None


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


def tags(repo: Path = ROOT) -> dict[str, str]:
    """The tags of each commit that has one."""
    form = "%(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end) %(refname:short)"
    found: dict[str, list[str]] = {}
    for line in git("for-each-ref", "refs/tags", f"--format={form}", repo=repo).splitlines():
        commit, name = line.split(" ", 1)
        found.setdefault(commit, []).append(name)
    return {commit: ", ".join(names) for commit, names in found.items()}


def page_of_commits(repo: Path = ROOT) -> str | None:
    """Where the commits of this clone can be read on the web; None where no such place is known.

    The address of the remote `origin`, where it is one of a public host; without a user's name.
    """
    try:
        address = git("remote", "get-url", "origin", repo=repo)
    except DashboardError:
        return None
    found = re.fullmatch(
        r"(?:https?://(?:[^@/]+@)?|ssh://(?:[^@/]+@)?|[^@/:]+@)"
        r"(?P<host>[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+)(?::\d+)?[/:](?P<path>[\w./~-]+?)(?:\.git)?/?",
        address,
    )
    if found is None or re.fullmatch(r"[\d.]+", found["host"]):
        return None
    return f"https://{found['host']}/{found['path'].lstrip('/')}/commit/"


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
