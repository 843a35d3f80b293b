"""Models from files of other programs, and models as ONNX files."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nbbn import formats
from nbbn.folded_model import FoldedModel
from nbbn.formats.files import PathLike
from nbbn.interop.pipelines import is_pipeline
from nbbn.interop.pipelines import to_onnx as pipeline_to_onnx
from nbbn.layers import Layer
from nbbn.loading import for_inference, model_of
from nbbn.models.functional import Model
from nbbn.models.sequential import Sequential
from nbbn.utils import keras_name

if TYPE_CHECKING:
    from nbbn.loading import AnyModel


def open_model(path: PathLike) -> AnyModel:
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

    Examples
    --------
    >>> import nbbn
    >>> nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))]).save("model.safetensors")
    >>> nbbn.interop.open_model("model.safetensors").output_shape
    (None, 3)
    """
    return model_of(formats.reader_of(path).read(path), path)


def from_keras(path: PathLike) -> Sequential | Model:
    """Read a model that Keras saved, with h5py and json; Keras is not needed.

    Parameters
    ----------
    path : path-like
        A `.keras` file, or an HDF5 file (`.h5`) of a whole model; of Keras 3, or of Keras 2 with
        the same layers. Its content tells which, not its name.

    Returns
    -------
    Sequential or Model
        A `Sequential` where each layer reads the one before it, else a `Model`. Built, with the
        file's weights, running statistics and trainable flags; not compiled.

    Raises
    ------
    ImportError
        Without the package h5py.
    FileError
        For a missing, broken or foreign file, and for a model that nbbn cannot hold: layers that it
        does not have, custom ones and `Lambda` (no code is run) included, and classes of one's own.
        The message names file and layer.

    Notes
    -----
    Sequential and functional models are read: branches, several inputs and outputs, layers that are
    called several times, models within models. The layers of these become the whole's; one whose
    name is taken gets that of its model in front. `+`, `-`, `*` and the functions of `keras.ops`
    that layers stand for become these layers. Weights are found by the layers' names and those of
    their models. The policies float32, `mixed_float16` and `mixed_bfloat16`, whose weights are
    float32, give a model in float32, and float64 gives one in float64. Arguments of `compile` and
    the optimiser's state are not read: call `compile` before training on. An initializer that nbbn
    does not have becomes the layer's default one, which only new weights would show.

    No more memory is taken than a small multiple of the file's size, whatever the file promises.
    h5py reads in a process of its own, since damaged files can make the HDF5 library crash.

    Examples
    --------
    >>> from nbbn.interop import from_keras
    >>> model = from_keras("model.keras")                    # doctest: +SKIP
    >>> model.fold().save("model.safetensors")               # doctest: +SKIP
    """
    from nbbn.formats import keras

    return model_of(keras.read(path), path)


def from_torch(state_dict_or_path: Mapping[str, Any] | PathLike,
               layers: Sequence[Layer] | Sequential | Model, *,
               flatten: str = "channels_first") -> Sequential | Model:
    """Layers of nbbn with the weights of a PyTorch model.

    Parameters
    ----------
    state_dict_or_path : mapping or path-like
        A state dict, of tensors or arrays; or a file of one: `.safetensors`, read without torch, or
        `.pt`, where torch is installed and reads it with `weights_only=True`. Of a checkpoint the
        entry `state_dict`, `model_state_dict`, `model_state`, `model`, `net`, `params_ema`,
        `params`, `ema` or the like is taken, the first of these that is there.
    layers : list of Layer, Sequential or Model
        The network, as nbbn's layers say it; of a list the first with the shape of its rows
        (`Input`, or `input_shape=`). Images have their channels last.
    flatten : {"channels_first", "channels_last"}
        The order in which the PyTorch model flattens images: its own, or, where the model turns
        them by `permute(0, 2, 3, 1)` before, nbbn's. A state dict does not say it, and the wrong
        one gives wrong numbers without a word: compare a few rows.

    Returns
    -------
    Sequential or Model
        A `Model` for a `Model`. New and built, not compiled; what is given stays as it is.

    Raises
    ------
    FileError
        For a missing, broken or foreign file, and for tensors that do not fit the layers: missing,
        left over, or of other shapes. The message names module and layer.
    TypeError, ValueError
        For layers that are none, do not fit each other, or do not say the shape of their rows.
    ImportError
        For a `.pt` file where torch is not installed.

    Notes
    -----
    A layer with a name takes the module of that path in the state dict (`name="features.0"`),
    behind a prefix that all have, such as `module.` or `_orig_mod.`; a name of no module is
    refused. The other layers with weights take the other modules in order, which is that of
    definition in the PyTorch model: Linear, Conv2d, ConvTranspose2d, BatchNorm, LayerNorm and
    GroupNorm. Weight norm and spectral norm are computed; other parametrisations are refused. A
    safetensors file has lost the order: there, modules whose paths differ in their numbers alone
    keep the order of these, shapes tell the rest, and where they cannot, the error asks for names.

    The layers of a `Model` are in the order in which they were called. Where the modules come in
    another, as where PyTorch defines a shortcut behind the layers that it goes around, layers that
    read each other, as a convolution and its norm, take modules that follow each other. Of several
    such runs of the same shapes the first takes those that come first: where that may be another
    than in PyTorch, name the layers after the modules.

    Kernels are turned into nbbn's layouts: `(out, in)` to `(in, out)`, `(out, in, h, w)` to
    `(h, w, in, out)`. A Dense after a Flatten of images has its rows put in nbbn's order, as torch
    flattens channels first; the same goes for norms in between, and for a Dense before a Reshape to
    images.

    Epsilon and momentum are not in a state dict: they are the given layers'. PyTorch's defaults are
    `epsilon=1e-5` and `momentum=0.9` here (its own 0.1 weights the new value). Its running variance
    is the unbiased one; it is kept as it is stored. Padding is the layers', too: torch's
    `padding=1` with a stride above 1 is `ZeroPadding2D(1)` and `padding="valid"` here.

    The result computes in float64 if the layers say so, or if all tensors are of float64; else in
    float32.

    Examples
    --------
    >>> import numpy as np
    >>> from safetensors.numpy import save_file
    >>> from nbbn import layers
    >>> from nbbn.interop import from_torch
    >>> kernel = np.arange(6.0, dtype="float32").reshape(2, 3)  # PyTorch: (out, in)
    >>> save_file({"0.weight": kernel, "0.bias": np.zeros(2, "float32")}, "weights.safetensors")
    >>> model = from_torch("weights.safetensors", [layers.Dense(2, input_shape=(3,))])
    >>> model.predict(np.ones((1, 3), "float32"), verbose=0)
    array([[ 3., 12.]], dtype=float32)
    """
    from nbbn.formats import torch

    if flatten not in ("channels_first", "channels_last"):
        raise ValueError("flatten must be 'channels_first' or 'channels_last', the order in which "
                         f"the PyTorch model flattens images, got {flatten!r}")
    if not isinstance(layers, Sequential | Model | list | tuple):
        raise TypeError("from_torch takes a list of layers, a Sequential or a Model, "
                        f"got {type(layers).__name__}")
    own = [layer.name for layer in layers] if isinstance(layers, list | tuple) else None
    model = layers if isinstance(layers, Sequential | Model) else Sequential(layers)
    if not model.built:
        raise ValueError("from_torch needs the shape of one row: "
                         "begin the layers with Input((...)), or give the first input_shape=")
    network = model.network()
    if own is None:
        own = [layer.name for layer in network.layers if not _is_automatic(layer)]
    named = {name for name in own if name is not None}
    content = torch.read(state_dict_or_path, network, model._layers.call_order, named, flatten,
                         model._own_words())
    return model_of(content, "state_dict")


def _is_automatic(layer: Layer) -> bool:
    """Whether a `Sequential` may have named the layer after its class: no module's name then."""
    return bool(re.fullmatch(rf"{keras_name(type(layer).__name__)}(_[0-9]+)?", layer.name or ""))


def from_onnx(path_or_proto: Any) -> Sequential | Model | FoldedModel:
    """Read an ONNX model.

    Parameters
    ----------
    path_or_proto : path-like or onnx.ModelProto
        Of opset 7 or later, its inputs of known shape (but for the number of rows). Files of
        weights beside the model are read where they lie in its folder.

    Returns
    -------
    Sequential, Model or FoldedModel
        A `FoldedModel`, whose `predict` gives labels, for a model with the outputs `label` and
        `probabilities`, as `to_onnx` writes classifiers; it holds what the file holds, batch norms
        included. Else, not compiled, a built `Sequential` where the layers stand in a row, and a
        `Model` where they do not, or where there are several inputs or outputs.

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
    channels first, gives a model that takes (n, height, width, channels), or (n, steps, channels),
    and, if it ends in images, returns them so; weights after a flattening are put in order. A graph
    that transposes its input first, as those of Keras and nbbn do, takes the rows that it declares.

    Read are: Gemm, MatMul, Add, Sub, Mul and Div with constants (a bias, the gain of a norm, else a
    batch norm, and along several axes a Normalization); Add, Sub, Mul, Max, Min, Sum, Mean, MatMul
    and Concat of several values; Gather of a table's rows by whole numbers, and of neighbours;
    ReduceSum over the last axis or all others, of products of vectors as Dot, and what makes a
    cosine of it, whose least length becomes that of Dot, 1e-7; of images and of
    steps Conv (groups and depthwise), ConvTranspose, MaxPool, AveragePool, GlobalAveragePool,
    GlobalMaxPool, ReduceMean and ReduceMax, Pad with zeros, Resize and Upsample that repeat the
    nearest number; Expand, Slice, Split; BatchNormalization, LayerNormalization,
    InstanceNormalization, GroupNormalization; Relu, LeakyRelu, PRelu, Elu, Selu, Gelu,
    Sigmoid, HardSigmoid, HardSwish, Shrink, Tanh, Softplus, Softsign, Mish,
    Exp, Abs, Neg, Pow of 2, Softmax, LogSoftmax, Clip and Min on top of a ReLU, Clip between -1 and
    1, and the forms of several nodes that exporters give activations, softmax and norms; Flatten,
    Reshape, Squeeze, Unsqueeze, Transpose, Dropout, Cast, Identity. Rows of no axes, one number
    each, are of length 1 here.

    Nodes with the same weights are one layer that is called several times, unless all nodes stand
    in a row.

    The model computes in float64 if the graph's floats are of float64, else in float32. A layer may
    differ from the one that was written where it computes the same: a depthwise convolution for a
    grouped one, a batch norm for an affine map, the larger of `x` and `-x` for `|x|`.

    Examples
    --------
    >>> import nbbn
    >>> from nbbn.interop import from_onnx, to_onnx
    >>> written = to_onnx(nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))]), "model.onnx")
    >>> from_onnx("model.onnx").layers
    [Dense(units=3, name='dense')]
    """
    from nbbn.formats.onnx.read import read

    return model_of(read(path_or_proto), "the ONNX model")


def to_onnx(model: Any, path: PathLike | None = None, fold: bool = True,
            dtype: str | None = None) -> Any:
    """Write a model as an ONNX file (needs the extra `onnx`).

    Parameters
    ----------
    model : estimator, Sequential, FoldedModel or sklearn.pipeline.Pipeline
        Fitted; it stays as it is. Of a pipeline that ends in an `MLPClassifier` or `MLPRegressor`
        the whole is written (needs the package skl2onnx).
    path : path-like or None
        The file appears whole or not at all. None writes none.
    fold : bool
        Fold the batch norms into their neighbours first, which is checked on random rows; else they
        are nodes of their own.
    dtype : {None, "float32", "float64"}
        What the file computes in and its input is made of; None: as the model. The weights, folded
        as the model computes, are rounded once.

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
        For a model that is not fitted, or that ONNX cannot express, and for another dtype.
    FoldCheckFailed
        With `fold`, where the outputs differ by more than rounding explains.
    FileError
        Where the file cannot be written.

    Notes
    -----
    The input `x` has shape (n, features) or (n, height, width, channels) and the given dtype, by
    default that which the model computes in: float64 for an estimator that was fitted on float64,
    else float32. Outputs:

    =============================== ================================================================
    a classifier                    `label` (n,): int64, strings for classes that are strings, the
                                    index of the class for any others; `probabilities` (n, classes),
                                    two columns for a binary one
    a classifier of several labels  `label` (n, labels) of int64, 0 or 1; `probabilities` (n,
                                    labels)
    a regressor, a `Sequential`     `output` (n, ...), with one axis more than `predict` gives for a
                                    single target
    several outputs                 each by the name of the layer that gives it, as in the model;
                                    inputs by their names, `x1`, `x2`, ... without
    =============================== ================================================================

    A pipeline's file takes what the pipeline takes: `x`, or one input (n, 1) for each column of the
    frame that its `ColumnTransformer` reads, by the column's name: strings where texts were learnt,
    int64 where whole numbers are encoded, else numbers of the network's dtype. It gives `label` and
    `probabilities`, or `variable`. Where ONNX Runtime is installed (and pandas, for a frame), both
    are compared on random rows, and a difference is refused.

    Examples
    --------
    >>> import nbbn
    >>> from nbbn.interop import to_onnx
    >>> layers = nbbn.layers
    >>> model = nbbn.Sequential([layers.Dense(3, input_shape=(4,)), layers.BatchNormalization()])
    >>> written = to_onnx(model, "model.onnx")
    >>> nbbn.interop.from_onnx("model.onnx").output_shape
    (None, 3)
    """
    from nbbn.formats.onnx.file import import_onnx

    if not isinstance(fold, bool):
        raise TypeError(f"to_onnx: fold must be True or False, got {fold!r}")
    import_onnx("to_onnx")
    if is_pipeline(model):
        if not fold:
            raise ValueError("to_onnx: a pipeline is written folded; leave fold=True")
        return pipeline_to_onnx(model, path, dtype)
    whole = for_inference(model)
    return (whole.fold() if fold else whole).to_onnx(path, dtype=dtype)
