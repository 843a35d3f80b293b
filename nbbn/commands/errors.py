"""What a command raises to end with a given exit status."""


class UnusableInput(Exception):
    """The arguments or the input cannot be used: exit status 2."""


class WorkFailed(Exception):
    """The work was done and a check did not hold, or the machine failed: exit status 1."""
