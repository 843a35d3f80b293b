"""Try a claim about batch norm: a table, a verdict in words, a picture; without one, list them."""

from __future__ import annotations

import argparse
import sys
from importlib.util import find_spec
from pathlib import Path

from nbbn import evidence
from nbbn.commands.arguments import count, seed
from nbbn.commands.errors import UnusableInput
from nbbn.commands.files import check_folder, with_folder
from nbbn.evidence import Result
from nbbn.evidence.figures import write_png
from nbbn.names import find
from nbbn.terminal import print_table

EXAMPLES = (
    "show",
    "show faster-training --quick",
    "show faster-training --runs 10 --out figures",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn show`."""
    add = parser.add_argument
    add("claim", nargs="?", metavar="CLAIM", help="its name (default: list them)")
    add("--runs", type=count, default=5, metavar="N", help="runs, 2 or more (5)")
    add("--quick", action="store_true", help="a look of some 10 s instead of the whole study")
    add("--seed", type=seed, default=0, metavar="N", help="of every random choice (0)")
    add("--out", type=Path, metavar="DIR", help="write CLAIM.png and CLAIM.json there")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn show`."""
    if args.claim is None:
        _list(args.program)
        return
    find("claim", args.claim, {claim.name: claim for claim in evidence.claims()}, {})
    if args.runs < 2:
        raise UnusableInput("--runs must be 2 or more: one run has no interval")
    if args.out is not None:
        check_folder(args.out)
        if find_spec("matplotlib") is None:
            raise UnusableInput("--out draws a picture, which needs matplotlib, which is not "
                                'installed; install it: python -m pip install "nbbn[plot]"')
    with _Notes() as notes:
        result = evidence.show(args.claim, args.runs, args.quick, args.seed, notes.say)
    result.print()
    if args.out is not None:
        print("written: " + ", ".join(map(str, _write(result, args.out))))


def _list(program: str) -> None:
    rows = [(claim.name, claim.sentence, f"{claim.minutes}") for claim in evidence.claims()]
    print_table("claims", ("name", "claim", "minutes"), rows, right=[2])
    print(f"try one: {program} show {rows[0][0]} --quick")


def _write(result: Result, folder: Path) -> list[Path]:
    picture = with_folder(folder / f"{result.claim}.png")
    write_png(result.figure(), picture)
    data = with_folder(folder / f"{result.claim}.json")
    result.save(data)
    return [picture, data]


class _Notes:
    """A line on stderr that says how far it is; nothing in a log."""

    def __init__(self) -> None:
        self._shown = sys.stderr.isatty()

    def __enter__(self) -> _Notes:
        return self

    def say(self, text: str) -> None:
        """Replace the line."""
        if self._shown:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def __exit__(self, *raised: object) -> None:
        if self._shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
