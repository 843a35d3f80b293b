"""Models as ONNX files: what a user calls; `networks` writes the network."""

from __future__ import annotations

from nbbn.interop.onnx_writing import networks


def to_onnx(model, path=None, fold: bool = True):
    """Write a model as an ONNX file (needs the extra `onnx`).

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, Sequential, SequentialClassifier, SequentialRegressor or FoldedModel
        Fitted; it stays as it is.
    path : path-like or None
        The file appears whole or not at all. None writes none.
    fold : bool
        Fold the batch norms into their neighbours first, which is checked on random rows; else they are nodes of their own.

    Returns
    -------
    onnx.ModelProto
        Opset 13 (17 with a layer norm), checked by `onnx.checker`.

    Raises
    ------
    ImportError
        Without the package onnx.
    TypeError
        For anything that is no model, or a `fold` that is no bool.
    LayerError, ValueError
        For a model that is not fitted, or that ONNX cannot express.
    FoldCheckFailed
        With `fold`, where the outputs differ by more than rounding explains.
    FileError
        Where the file cannot be written.

    Notes
    -----
    The input `x` has shape (n, features) or (n, height, width, channels) and the dtype that the model computes in: float64 for an
    estimator that was fitted on float64, else float32. Outputs:

    =============================== ==============================================================================================
    a classifier                    `label` (n,): int64, strings for classes that are strings, the index of the class for any
                                    others; `probabilities` (n, classes), two columns for a binary one
    a classifier of several labels  `label` (n, labels) of int64, 0 or 1; `probabilities` (n, labels)
    a regressor, a `Sequential`     `output` (n, ...), with one axis more than `predict` gives for a single target
    =============================== ==============================================================================================
    """
    from nbbn.saving import fold as folded

    if not isinstance(fold, bool):
        raise TypeError(f"to_onnx: fold must be True or False, got {fold!r}")
    networks.import_onnx()
    whole = folded(model)
    source = getattr(model, "network", None)
    network = whole.network if fold or not callable(source) else source()
    return networks.to_onnx(network, path, classes=getattr(whole, "classes_", None), kind=whole.kind)
