"""Models in the manner of Keras."""

from nbbn.models.sequential import Sequential

__all__ = ["Sequential", "load_model"]


def load_model(path):
    """Open what `save` wrote: `nbbn.load` by Keras's name."""
    from nbbn.saving import load

    return load(path)
