"""Errors that more than one room raises."""


class LayerError(ValueError):
    """A layer that does not fit the rows that it gets, or is given arguments it does not take."""
