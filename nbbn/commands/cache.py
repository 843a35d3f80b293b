"""Show where compiled kernels are kept and how much they take, or remove them."""

from __future__ import annotations

import argparse
import shutil

EXAMPLES = (
    "cache",
    "cache --clear",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of `nbbn cache`."""
    parser.add_argument("--clear", action="store_true",
                        help="remove all compiled kernels; they are compiled anew when used")


def run(args: argparse.Namespace) -> None:
    """Carry out `nbbn cache`."""
    from nbbn.kernels.cache import cache_root

    root = cache_root()
    files = [path for path in root.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    print(f"{root}: {len(files)} files, {size / 1e6:.1f} MB")
    if args.clear and root.exists():
        shutil.rmtree(root)
        print("cleared")
