"""`python -m nbbn`: the command line."""

import sys

from nbbn.cli import main

if __name__ == "__main__":
    sys.exit(main())
