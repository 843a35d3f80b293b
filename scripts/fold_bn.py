#!/usr/bin/env python3
"""Fold the batch norms of a model file: `fold_bn.py IN OUT`, the same as `nbbn fold`.

In a clone this needs nbbn's dependencies alone, not nbbn itself.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
try:
    from nbbn.cli import main
except ImportError as error:
    sys.exit(
        f"fold_bn.py: {error}; install nbbn's dependencies, "
        "or use: python3 scripts/run.py fold IN OUT"
    )

if __name__ == "__main__":
    sys.exit(main(["fold", *sys.argv[1:]]))
