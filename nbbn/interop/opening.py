"""One door for files of any kind: which reader a file belongs to, by its content."""

from __future__ import annotations

import io
import zipfile

from nbbn.interop.files import FileError, first_bytes, read_whole
from nbbn.interop.keras import hdf5
from nbbn.interop.keras import reading as keras

_STATE_DICT = (
    "holds weights without layers; read it with nbbn.interop.from_torch(path, layers) and save what that returns"
)


def open_model(path):
    """Open a model that nbbn, Keras or an ONNX exporter wrote.

    Parameters
    ----------
    path : path-like
        nbbn's own file, a `.keras` or whole-model `.h5` file, or an `.onnx` file; its content tells which.

    Returns
    -------
    MLPClassifier, MLPRegressor, Sequential or FoldedModel
        Ready for `predict`: what was saved for nbbn's own file, else what `from_keras` and `from_onnx` return.

    Raises
    ------
    FileError
        For a missing, broken or foreign file; for one with weights alone (`.pt`, a safetensors file of another program) it says
        that `from_torch` reads them with the layers.
    ImportError
        Where the package that reads such files is not installed; names the extra.
    """
    start = first_bytes(path)
    if start.startswith(hdf5.MAGIC):
        return keras.from_keras(path)
    if start.startswith(keras.ZIP_MAGIC):
        if _is_of_torch(path):
            raise FileError(f"{path}: {_STATE_DICT}")
        return keras.from_keras(path)
    if start[8:9] == b"{" or str(path).lower().endswith(".safetensors"):
        from nbbn.saving import load

        return load(path)
    if start[:1] == b"\x80" and 2 <= (start + b"\0\0")[1] <= 5:  # a pickle, as torch wrote before it wrote archives
        raise FileError(f"{path}: {_STATE_DICT}")
    if start[:1] == b"\x08" or str(path).lower().endswith(".onnx"):  # a version comes first in an ONNX file
        from nbbn.interop.onnx import from_onnx

        return from_onnx(path)
    raise FileError(f"{path}: is no model file that nbbn reads; give nbbn's own, .keras, .h5 or .onnx")


def _is_of_torch(path) -> bool:
    """Whether an archive is one of torch's: a pickle and the tensors' numbers beside it."""
    try:
        with zipfile.ZipFile(io.BytesIO(read_whole(path))) as archive:
            return any(name.endswith("data.pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, NotImplementedError):
        return False
