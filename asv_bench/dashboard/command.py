"""The command: its options, and the order of the work."""

from __future__ import annotations

import argparse
import functools
import http.server
import json
import sys
from pathlib import Path

from . import commits
from .paths import ROOT, SUITE, DashboardError, Data, default_data
from .records import save_context, save_details
from .site import publish
from .suite import PROFILES, asv, context_of, require_asv, run

# What must not differ from the commit that figures are stored under.
MEASURED = ("nbbn", "asv_bench/benchmarks")


def parser(description: str | None = None) -> argparse.ArgumentParser:
    """The options."""
    p = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument(
        "--profile",
        choices=list(PROFILES),
        default="quick",
        help="quick: minutes; full: more rounds (quick)",
    )
    p.add_argument("--bench", metavar="REGEX", help="only benchmarks whose name(parameters) match")
    p.add_argument(
        "--range",
        metavar="A..B",
        help="measure each of these commits with this suite, not the present one",
    )
    p.add_argument(
        "--python",
        default=sys.executable,
        metavar="PATH",
        help="the Python to measure with (this one)",
    )
    p.add_argument(
        "--machine", metavar="NAME", help="the machine's name in the results (its host name)"
    )
    p.add_argument(
        "--data",
        type=Path,
        default=default_data(),
        metavar="DIR",
        help="what is kept (%(default)s)",
    )
    p.add_argument(
        "--output", type=Path, metavar="DIR", help="the pages (site/ in the data folder)"
    )
    p.add_argument(
        "--branch",
        metavar="NAME",
        help="the branch whose commits the pages show (the one checked out)",
    )
    p.add_argument("--no-run", action="store_true", help="publish what is there already")
    p.add_argument(
        "--serve",
        nargs="?",
        const=8000,
        type=int,
        metavar="PORT",
        help="then serve the pages (port 8000)",
    )
    return p


def measure(data: Data, args: argparse.Namespace) -> int:
    """Run the suite on this commit or on each of a range; asv's worst exit status."""
    conf = data.configuration(SUITE, commits.branch_of(), data.folder / "site" / "asv")
    if asv("machine", "--yes", "--config", str(conf), quiet=True):
        raise DashboardError("asv could not describe this machine; its message stands above")
    if args.range:
        worst = 0
        for commit in commits.commits_in(args.range):
            with commits.checked_out(commit) as tree:
                worst = max(worst, measure_one(data, conf, tree, commit, args))
        return worst
    changed = commits.changed(*MEASURED)
    if changed:
        raise DashboardError(
            f"{', '.join(changed[:3])} differ from the commit that the figures would be stored "
            "under: commit them first"
        )
    return measure_one(data, conf, ROOT, commits.commit_of("HEAD"), args)


def measure_one(data: Data, conf: Path, tree: Path, commit: str, args: argparse.Namespace) -> int:
    """Run the suite on one tree and keep what it was measured with."""
    context = context_of(args.python, tree, args.profile)
    print(
        f"measuring {commit[:10]} with {args.python}, {context['threads']} threads, "
        f"profile {args.profile}",
        flush=True,
    )
    lines = data.folder / "details.jsonl"
    lines.unlink(missing_ok=True)
    effort = PROFILES[args.profile]
    status = run(conf, tree, commit, args.python, effort, args.bench, args.machine, details=lines)
    if status not in (0, 2):
        raise DashboardError(f"asv ended with status {status}; its message stands above")
    machine = machine_of(data, commit)
    save_context(data, machine, commit, context)
    save_details(data, machine, commit, lines)
    return status


def machine_of(data: Data, commit: str) -> str:
    """The machine under whose name asv has just stored the commit's results."""
    found = list(data.results.glob(f"*/{commit[:8]}-*.json"))
    if not found:
        raise DashboardError(f"asv kept no result of {commit[:10]}; its output above says why")
    return max(found, key=lambda path: path.stat().st_mtime).parent.name


def serve(folder: Path, port: int) -> None:
    """Serve the pages to this machine until Ctrl-C."""
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), handler) as server:
        print(
            f"serving {folder} on port {server.server_port} of this machine; Ctrl-C ends",
            flush=True,
        )
        server.serve_forever()


def main(arguments: list[str] | None = None, description: str | None = None) -> int:
    """Measure, publish, serve.

    0 done; 1 a benchmark failed; 2 unusable arguments or surroundings.
    """
    args = parser(description).parse_args(arguments)
    data, status = Data(args.data), 0
    output = (args.output or data.folder / "site").expanduser().resolve()
    try:
        require_asv()
        if not args.no_run:
            status = measure(data, args)
        page = publish(data, output, args.branch or commits.branch_of(), args.machine)
    except (DashboardError, json.JSONDecodeError) as error:
        print(f"dashboard.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "dashboard.py: interrupted; asv keeps a commit's figures when all of them are there",
            file=sys.stderr,
        )
        return 130
    print(f"written: {page}")
    if status:
        print("dashboard.py: some benchmarks failed: the page names them", file=sys.stderr)
    if args.serve is not None:
        try:
            serve(output, args.serve)
        except KeyboardInterrupt:
            print()
    return 1 if status else 0
