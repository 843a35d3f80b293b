"""Files of other programs as models, and models as files of other programs.

`from_keras`, `from_torch`, `from_onnx` and `open_model` read, `to_onnx` writes, `register_skl2onnx`
teaches scikit-learn's converter. A format's own packages are imported when it is read or written.
"""

from nbbn.interop.programs import from_keras, from_onnx, from_torch, open_model, to_onnx
from nbbn.interop.skl2onnx import register_skl2onnx

__all__ = ["from_keras", "from_onnx", "from_torch", "open_model", "register_skl2onnx", "to_onnx"]


def __dir__() -> list[str]:
    return __all__
