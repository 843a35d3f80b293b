"""Files of other programs: Keras, PyTorch, ONNX, scikit-learn's converter; and `open_model` for any of them.

Each function's own packages are imported when it is called.
"""

from importlib import import_module

_HOMES = {
    "from_keras": "keras",
    "from_torch": "torch",
    "from_onnx": "onnx",
    "open_model": "opening",
    "register_skl2onnx": "onnx",
    "to_onnx": "onnx",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__():
    return __all__
