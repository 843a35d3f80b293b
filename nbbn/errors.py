"""Errors that more than one room raises."""


class LayerError(ValueError):
    """A layer that does not fit the rows that it gets, or is given arguments it does not take.

    Examples
    --------
    >>> import nbbn
    >>> try:
    ...     nbbn.Sequential([nbbn.layers.Flatten(input_shape=(4,)), nbbn.layers.Conv2D(3, 3)])
    ... except nbbn.layers.LayerError as error:
    ...     print(str(error).split(":")[0])
    layer 'conv2d' (Conv2D) does not fit after layer 'flatten' (Flatten), whose rows have shape (4,)
    """
