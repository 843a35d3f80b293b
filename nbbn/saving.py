"""`load_model` and `save_model` where Keras 3 has them, too."""

from nbbn.models import load_model, save_model

__all__ = ["load_model", "save_model"]


def __dir__() -> list[str]:
    return __all__
