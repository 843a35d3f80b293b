"""Files of other programs: Keras, PyTorch, ONNX, scikit-learn's converter; and `open_model` for any of them.

Each function's own packages are imported when it is called.
"""

from importlib import import_module

_HOMES = {
    "from_keras": "nbbn.formats.keras",
    "from_torch": "nbbn.formats.torch",
    "from_onnx": "nbbn.interop.onnx_reading.importing",
    "open_model": "nbbn.interop.opening",
    "register_skl2onnx": "nbbn.interop.skl2onnx",
    "to_onnx": "nbbn.interop.onnx_writing.models",
}

__all__ = sorted(_HOMES)


def __getattr__(name):
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__():
    return __all__
