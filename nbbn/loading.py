"""Any model from any file, and any model folded: what stands above all classes of models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import ArrayLike

from nbbn.fold import FoldReport
from nbbn.folded_model import FoldedModel
from nbbn.formats import Content, check_own, native
from nbbn.formats.content import labels_from_json
from nbbn.formats.files import FileError, PathLike
from nbbn.models.functional import Model
from nbbn.models.sequential import Sequential

if TYPE_CHECKING:
    from nbbn.estimators import (
        MLPClassifier,
        MLPRegressor,
        SequentialClassifier,
        SequentialRegressor,
    )

    Estimator: TypeAlias = MLPClassifier | MLPRegressor | SequentialClassifier | SequentialRegressor
    AnyModel: TypeAlias = FoldedModel | Sequential | Model | Estimator


def fold(model: Any, *, strict: bool = False, check: ArrayLike | None = None) -> Any:
    """Fold every batch norm into the layers next to it; the source stays as it is.

    Parameters
    ----------
    model : MLPClassifier, MLPRegressor, Sequential, SequentialClassifier, SequentialRegressor, \
FoldedModel or onnx.ModelProto
        Fitted; of an ONNX model any graph.
    strict : bool
        Raise where a batch norm cannot be folded.
    check : array-like of shape (rows, features), optional
        Rows to compare both networks on, besides the random ones always used. Of an ONNX model with
        several inputs a mapping from their names to arrays.

    Returns
    -------
    FoldedModel or onnx.ModelProto
        `report` says what was folded into what, and the largest difference. A `ModelProto` for a
        `ModelProto`; `nbbn.interop.onnx_fold.fold_onnx` gives the report of that too.

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

    Examples
    --------
    >>> import numpy as np
    >>> import nbbn
    >>> X = np.random.default_rng(0).normal(size=(64, 4))
    >>> clf = nbbn.MLPClassifier((8,), max_iter=200, tol=1e-2, random_state=0).fit(X, X[:, 0] > 0)
    >>> folded = nbbn.fold(clf, check=X)
    >>> folded.report.n_folded, bool((folded.predict(X) == clf.predict(X)).all())
    (1, True)
    """
    if type(model).__name__ == "ModelProto":
        from nbbn.formats.onnx.fold import fold_onnx

        return fold_onnx(model, strict=strict, check=check)[0]
    return for_inference(model).fold(strict=strict, check=check)


def for_inference(model: Any) -> FoldedModel:
    """A fitted model for inference alone, its batch norms as they are; TypeError for no model."""
    if isinstance(model, FoldedModel):
        return model
    if isinstance(model, Sequential | Model):
        return FoldedModel(model.network())
    if not hasattr(type(model), "for_inference"):  # an estimator has it
        names, kind = ", ".join(_MODELS), type(model)
        # Of a namesake whose.
        whose = f"{kind.__module__.partition('.')[0]}'s " if kind.__name__ in _MODELS else ""
        given = f"{whose}{kind.__name__}"
        raise TypeError(f"fold takes a fitted {names}, or an onnx.ModelProto, got {given}"
                        f"{_way(model)}")
    return model.for_inference()


def _way(model: Any) -> str:
    """How another program's model comes to be folded."""
    if isinstance(model, str | Path):
        return "; open the file first, nbbn.load(path), or on the command line: nbbn fold IN OUT"
    if type(model).__name__ in _SWAPPED and type(model).__module__.startswith("sklearn."):
        return f"; fit nbbn.{type(model).__name__}, which takes the same arguments"
    packages = {cls.__module__.partition(".")[0] for cls in type(model).__mro__}
    return next((f"; {way}" for name, way in _WAYS.items() if name in packages), "")


# Classes of scikit-learn's that have a namesake here.
_SWAPPED = ("MLPClassifier", "MLPRegressor")
# By the package that a model's class, or one that it derives from, is of.
_WAYS = {
    "torch": "give nbbn.interop.from_torch(model.state_dict(), layers), or export it to ONNX",
    **dict.fromkeys(("keras", "tf_keras", "tensorflow"),
                    "save it as .keras and give nbbn.interop.from_keras(path)"),
    "sklearn": "of a pipeline or search fold the network within: model[-1], model.best_estimator_",
}


def load(path: PathLike) -> AnyModel:
    """Open what `save` wrote.

    Parameters
    ----------
    path : path-like
        One safetensors file; nothing in it is executed.

    Returns
    -------
    FoldedModel, Sequential, MLPClassifier, MLPRegressor, SequentialClassifier, SequentialRegressor
        What was saved.

    Raises
    ------
    FileError
        For a missing, broken or foreign file; a `ValueError` that names the path and what to do.

    Examples
    --------
    >>> import nbbn
    >>> model = nbbn.Sequential([nbbn.layers.Dense(3, input_shape=(4,))])
    >>> model.save("model.safetensors")
    >>> nbbn.load("model.safetensors").output_shape
    (None, 3)
    """
    check_own(path)
    return model_of(native.load(path), path)


def model_of(content: Content, path: PathLike) -> Any:
    """The model that a file holds; FileError for a content that is no model's."""
    name = content.meta.get("model")
    make = _MODELS.get(name) if isinstance(name, str) else None
    if make is None:
        raise FileError(f"{path}: holds a {name!r}, which this version of nbbn does not know; "
                        "update nbbn")
    try:
        return make(content)
    except (ValueError, TypeError, KeyError, AttributeError, IndexError) as error:
        raise FileError(f"{path}: not a model that nbbn saved ({error}); save it anew") from error


def _labels(content: Content) -> Any:
    classes = content.meta.get("classes")
    return None if classes is None else labels_from_json(classes)


def _folded(content: Content) -> FoldedModel:
    return FoldedModel(content.network, report=FoldReport.from_dict(content.meta["report"]),
                       kind=content.meta["kind"], classes=_labels(content))


def _graph(content: Content) -> Model:
    model, meta = Model._empty(), content.meta
    model.restore(content.network, meta.get("training"), content.slots, meta)
    model.name = content.meta["name"]
    return model


def _sequential(content: Content) -> Sequential:
    model = Sequential(name=content.meta["name"])
    model.restore(content.network, content.meta.get("training"), content.slots, content.meta)
    return model


def _estimator(content: Content) -> Estimator:
    # scikit-learn's import takes longer than loading a folded model.
    from nbbn import estimators

    return getattr(estimators, content.meta["model"]).from_content(content, _labels(content))


_MODELS: dict[str, Callable[[Content], Any]] = {
    "MLPClassifier": _estimator, "MLPRegressor": _estimator, "Sequential": _sequential,
    "Model": _graph,
    "SequentialClassifier": _estimator, "SequentialRegressor": _estimator, "FoldedModel": _folded,
}
