"""Models in the manner of Keras."""

from nbbn.models.sequential import Sequential

__all__ = ["Sequential", "SequentialClassifier", "SequentialRegressor", "load_model"]


def load_model(path):
    """Open what `save` wrote: `nbbn.load` by Keras's name."""
    from nbbn.loading import load

    return load(path)


def __getattr__(name):
    """The estimators, which need scikit-learn, when they are first asked for."""
    if name in ("SequentialClassifier", "SequentialRegressor"):
        from nbbn import estimators

        return getattr(estimators, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__():
    return __all__
