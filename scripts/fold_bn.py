#!/usr/bin/env python3
"""Fold the batch norms of a saved model into its weights: `fold_bn.py IN OUT`, the same as `nbbn fold`."""

import sys

from nbbn.cli import main

if __name__ == "__main__":
    sys.exit(main(["fold", *sys.argv[1:]]))
