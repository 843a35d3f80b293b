#!/usr/bin/env python3
"""Fold the batch norms of a saved model into its weights: `fold_bn.py IN OUT`, the same as `nbbn fold`."""

import sys

try:
    from nbbn.cli import main
except ImportError as error:
    sys.exit(f"fold_bn.py: {error}; run it where nbbn is installed, or use: python3 scripts/run.py fold IN OUT")

if __name__ == "__main__":
    sys.exit(main(["fold", *sys.argv[1:]]))
