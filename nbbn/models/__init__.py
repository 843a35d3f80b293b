"""Models in the manner of Keras."""

from nbbn.models.estimators import SequentialClassifier, SequentialRegressor
from nbbn.models.sequential import Sequential

__all__ = ["Sequential", "SequentialClassifier", "SequentialRegressor", "load_model"]


def load_model(path):
    """Open what `save` wrote: `nbbn.load` by Keras's name."""
    from nbbn.saving import load

    return load(path)
