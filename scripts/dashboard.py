#!/usr/bin/env python
"""Measure, keep and publish the project's speed.

    dashboard.py [--profile quick|full] [--bench REGEX] [--serve]

Runs the benchmarks of `asv_bench/` on this commit with this Python, adds the figures to those kept
from earlier runs, and writes two pages: one that shows how far ahead of the alternatives each
figure is, and asv's own. Needs the extra `bench`; peers that are not installed are skipped by name.
asv_bench/README.md says how to read the figures.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from asv_bench.dashboard.command import main

if __name__ == "__main__":
    sys.exit(main(description=__doc__))
