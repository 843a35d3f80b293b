"""Models that ONNX's exporters wrote, and models as ONNX files."""

from __future__ import annotations

from typing import Any

from nbbn.folded_model import FoldedModel
from nbbn.formats.files import PathLike
from nbbn.loading import for_inference, model_of
from nbbn.models.sequential import Sequential


def from_onnx(path_or_proto: Any) -> Sequential | FoldedModel:
    """Read an ONNX model whose layers stand in a row.

    Parameters
    ----------
    path_or_proto : path-like or onnx.ModelProto
        Of opset 7 or later, with one input of known shape (but for the number of rows). Files of
        weights beside the model are read where they lie in its folder.

    Returns
    -------
    Sequential or FoldedModel
        A `FoldedModel`, whose `predict` gives labels, for a model with the outputs `label` and
        `probabilities`, as `to_onnx` writes classifiers; it holds what the file holds, batch norms
        included. Else a built `Sequential`, not compiled.

    Raises
    ------
    ImportError
        Without the package onnx.
    FileError
        For a missing, broken or foreign file, and for a graph that nbbn cannot hold. The message
        names the node and its operator.
    TypeError
        For anything but a path or a model.

    Notes
    -----
    nbbn has the channels of images last. A graph whose convolutions read its input as it is,
    channels first, gives a model that takes (n, height, width, channels) and, if it ends in images,
    returns them so; weights after a flattening are put in order. A graph that transposes its input
    first, as those of Keras and nbbn do, takes the rows that it declares.

    Read are: Gemm, MatMul, Add, Sub, Mul and Div with constants (a bias, the gain of a norm, else a
    batch norm); Conv (groups and depthwise), ConvTranspose, MaxPool, AveragePool,
    GlobalAveragePool, GlobalMaxPool, ReduceMean and ReduceMax over images, Pad with zeros, Resize
    and Upsample that repeat the nearest number; BatchNormalization, LayerNormalization,
    InstanceNormalization, GroupNormalization; Relu, LeakyRelu, PRelu of one slope, Elu, Selu, Gelu,
    Sigmoid, Tanh, Softplus, Softsign, Mish, Exp, Softmax, Clip and Min on top of a ReLU, and the
    forms of several nodes that exporters give activations, softmax and norms; Flatten, Reshape,
    Squeeze, Unsqueeze, Transpose, Dropout, Identity.

    The model computes in float64 if the graph's input is of float64, else in float32. A layer may
    differ from the one that was written where it computes the same: a depthwise convolution for a
    grouped one, a batch norm for an affine map.
    """
    from nbbn.formats.onnx.read import read

    return model_of(read(path_or_proto), "the ONNX model")


def to_onnx(model: Any, path: PathLike | None = None, fold: bool = True) -> Any:
    """Write a model as an ONNX file (needs the extra `onnx`).

    Parameters
    ----------
    model : estimator, Sequential or FoldedModel
        Fitted; it stays as it is.
    path : path-like or None
        The file appears whole or not at all. None writes none.
    fold : bool
        Fold the batch norms into their neighbours first, which is checked on random rows; else they
        are nodes of their own.

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
    The input `x` has shape (n, features) or (n, height, width, channels) and the dtype that the
    model computes in: float64 for an estimator that was fitted on float64, else float32. Outputs:

    =============================== ================================================================
    a classifier                    `label` (n,): int64, strings for classes that are strings, the
                                    index of the class for any others; `probabilities` (n, classes),
                                    two columns for a binary one
    a classifier of several labels  `label` (n, labels) of int64, 0 or 1; `probabilities` (n,
                                    labels)
    a regressor, a `Sequential`     `output` (n, ...), with one axis more than `predict` gives for a
                                    single target
    =============================== ================================================================
    """
    from nbbn.formats.onnx.file import import_onnx

    if not isinstance(fold, bool):
        raise TypeError(f"to_onnx: fold must be True or False, got {fold!r}")
    import_onnx("to_onnx")
    whole = for_inference(model)
    return (whole.fold() if fold else whole).to_onnx(path)
