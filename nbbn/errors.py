"""Errors that more than one room raises."""


class LayerError(ValueError):
    """A layer that does not fit the shape it is given, or is given arguments that it does not take."""
