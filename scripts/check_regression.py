#!/usr/bin/env python
"""Fail where one commit is slower than another: `check_regression.py BASE [HEAD] [--bench REGEX]`.

Both are checked out into folders of their own and measured in turn, round by round, by the
benchmarks of HEAD. Status 0: nothing is slower; 1: a benchmark is, or no longer runs; 2: nothing
was measured, or the arguments are unusable. Needs the extra `bench`. Run it alone on the machine.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asv_bench.dashboard.gate import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
