"""From models to files and back, and from models to folded ones."""

from __future__ import annotations

import warnings

from nbbn.fold import FoldReport, fold_checked
from nbbn.interop import native
from nbbn.interop.files import FileError
from nbbn.models.sequential import Sequential
from nbbn.network import Network
from nbbn.predictor import FoldedModel, Predictor

# scikit-learn's import takes longer than loading a folded model: estimators are imported where one is loaded.
_ESTIMATORS = ("MLPClassifier", "MLPRegressor")
_AROUND_LAYERS = ("SequentialClassifier", "SequentialRegressor")


def fold(model, *, strict: bool = False, check=None):
    """Fold every batch norm into the layers next to it; the source stays as it is.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, Sequential, SequentialClassifier, SequentialRegressor, FoldedModel or onnx.ModelProto
        Fitted; of an ONNX model any graph.
    strict : bool
        Raise where a batch norm cannot be folded.
    check : array-like of shape (rows, features), optional
        Rows to compare both networks on, besides the random ones always used. Of an ONNX model with several inputs a
        mapping from their names to arrays.

    Returns
    -------
    FoldedModel or onnx.ModelProto
        `report` says what was folded into what, and the largest difference. A `ModelProto` for a `ModelProto`;
        `nbbn.interop.onnx_fold.folding.fold_onnx` gives the report of that too.

    Raises
    ------
    TypeError
        For anything that is no model.
    FoldRefused
        With `strict`, where a batch norm could not be folded.
    FoldCheckFailed
        Where the outputs differ by more than rounding explains.

    Notes
    -----
    Computed in float64 and cast last.
    """
    if type(model).__name__ == "ModelProto":
        from nbbn.interop.onnx_fold.folding import fold_onnx

        return fold_onnx(model, strict=strict, check=check)[0]
    if isinstance(model, FoldedModel):
        network, kind, classes = model.network, model.kind, getattr(model, "classes_", None)
    elif isinstance(model, Sequential):
        network, kind, classes = model.network(), None, None
    elif hasattr(model, "network_and_meaning"):  # an estimator
        network, kind, classes = model.network_and_meaning()
    else:
        names = ", ".join([*_ESTIMATORS, "Sequential", *_AROUND_LAYERS, "FoldedModel"])
        raise TypeError(f"fold takes a fitted {names}, or an onnx.ModelProto, got {type(model).__name__}")
    folded, report = fold_checked(network, strict=strict, check=check, run=Predictor)
    return FoldedModel(folded, kind=kind, classes=classes, report=report)


def save_folded(model: FoldedModel, path) -> None:
    """Write a folded model."""
    classes = getattr(model, "classes_", None)
    meta = {
        "model": "FoldedModel",
        "kind": model.kind,
        "classes": None if classes is None else native.labels_to_json(classes),
        "report": model.report.to_dict(),
    }
    native.save(path, model.network, meta)


def save_estimator(estimator, path) -> None:
    """Write a fitted estimator: parameters, weights, running statistics and curves."""
    network, meaning = estimator.network(), estimator._task
    if estimator._described(network.input_shape[0]).layers != network.layers:
        raise ValueError(
            "hidden_layer_sizes, activation or a parameter of batch norm was changed after the fit: set it back, or fit again"
        )
    meta = {
        "model": type(estimator).__name__,
        "kind": meaning.kind,
        "classes": None if meaning.classes is None else native.labels_to_json(meaning.classes),
        **estimator._file_meta(),
    }
    native.save(path, network, meta)


def save_sequential(model: Sequential, path, *, training: bool = True) -> None:
    """Write a `Sequential`: layers and weights and, with `training`, what a fit goes on from."""
    network, meta, slots = model.network(), {"model": "Sequential", "name": model.name}, {}
    if training:
        try:
            meta["training"], slots = model.training_state()
        except ValueError as err:
            warnings.warn(f"{path}: saved without the arguments of compile: {err}", stacklevel=3)
    native.save(path, network, meta, slots)


def save_sequential_estimator(estimator, path) -> None:
    """Write a fitted estimator around layers, and what its next fit goes on from."""
    classes = getattr(estimator, "classes_", None)
    about, slots = estimator._file_meta()
    meta = {
        "model": type(estimator).__name__,
        "classes": None if classes is None else native.labels_to_json(classes),
        **about,
    }
    native.save(path, estimator.model_.network(), meta, slots)


def _load_sequential(network: Network, meta: dict, slots: native.Slots) -> Sequential:
    model = Sequential(name=meta["name"])
    model.restore(network, meta.get("training"), slots)
    return model


def load(path):
    """Open what `save` wrote.

    Parameters
    ----------
    path : path-like
        One safetensors file; nothing in it is executed.

    Returns
    -------
    FoldedModel, MLPClassifier, MLPRegressor, Sequential, SequentialClassifier or SequentialRegressor
        What was saved.

    Raises
    ------
    FileError
        For a missing, broken or foreign file; a `ValueError` that names the path and what to do.
    """
    network, meta, slots = native.load(path)
    name = meta.get("model")
    try:
        classes = None if meta.get("classes") is None else native.labels_from_json(meta["classes"])
        if name == "FoldedModel":
            report = FoldReport.from_dict(meta["report"])
            return FoldedModel(network, kind=meta["kind"], classes=classes, report=report)
        if name == "Sequential":
            return _load_sequential(network, meta, slots)
        if name in (*_AROUND_LAYERS, *_ESTIMATORS):
            from nbbn import estimators

            return getattr(estimators, name)._restored(network, classes, meta, slots)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise FileError(f"{path}: not a model that nbbn saved ({error}); save it anew") from error
    raise FileError(f"{path}: holds a {name!r}, which this version of nbbn does not know; update nbbn")
