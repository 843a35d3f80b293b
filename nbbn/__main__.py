"""`python -m nbbn`: the command line."""

import sys

from nbbn.cli import main

sys.exit(main())
