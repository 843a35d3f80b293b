"""One door for files of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nbbn import formats
from nbbn.formats.files import PathLike
from nbbn.loading import model_of

if TYPE_CHECKING:
    from nbbn.loading import Model


def open_model(path: PathLike) -> Model:
    """Open a model that nbbn, Keras or an ONNX exporter wrote.

    Parameters
    ----------
    path : path-like
        nbbn's own file, a `.keras` or whole-model `.h5` file, or an `.onnx` file; its content tells
        which.

    Returns
    -------
    FoldedModel, Sequential, MLPClassifier, MLPRegressor, SequentialClassifier, SequentialRegressor
        Ready for `predict`: what was saved for nbbn's own file, else what `from_keras` and
        `from_onnx` return.

    Raises
    ------
    FileError
        For a missing, broken or foreign file; for one with weights alone (`.pt`, a safetensors file
        of another program) it says that `from_torch` reads them with the layers.
    ImportError
        Where the package that reads such files is not installed; names the extra.
    """
    return model_of(formats.reader_of(path).read(path), path)
