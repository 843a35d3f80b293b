"""`python tied.py PARENT COMMAND...` runs a command that is killed when its parent process ends.

PARENT is the number of the process that must still be there; 0: whichever it is.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1

if __name__ == "__main__":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if sys.argv[1] not in ("0", str(os.getppid())):
        sys.exit(1)  # it ended before this
    os.execvp(sys.argv[2], sys.argv[2:])
