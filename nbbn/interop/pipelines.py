"""Whole pipelines of scikit-learn that end in a network, as one ONNX file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nbbn.formats.files import PathLike, one_line, write_whole
from nbbn.interop.skl2onnx import register_skl2onnx

# Rows that the file and the pipeline are compared on, and the largest difference allowed, as a
# share of the largest output.
_ROWS, _TOLERANCE = 64, 1e-3
# What columns of a frame are declared as.
NUMBER, WHOLE, TEXT = "number", "whole number", "text"


def is_pipeline(model: Any) -> bool:
    """Whether a model is a pipeline of scikit-learn's."""
    return any(cls.__name__ == "Pipeline" and cls.__module__.startswith("sklearn.")
               for cls in type(model).__mro__)


def to_onnx(pipeline: Any, path: PathLike | None = None, dtype: str | None = None) -> Any:
    """A fitted pipeline as an ONNX model; `nbbn.interop.to_onnx` says what it takes."""
    from sklearn.utils.validation import check_is_fitted

    from nbbn.estimators import MLPClassifier, MLPRegressor

    last = pipeline[-1]
    if not isinstance(last, (MLPClassifier, MLPRegressor)):
        raise TypeError("to_onnx takes a pipeline that ends in an nbbn.MLPClassifier or "
                        f"nbbn.MLPRegressor, this one ends in {type(last).__name__}")
    check_is_fitted(last)
    register_skl2onnx()
    from skl2onnx import convert_sklearn

    kinds = _kinds(pipeline)
    own = last.network().astype(dtype).dtype
    functions, shapes = _imputers()
    options = {id(last): {"zipmap": False}} if isinstance(last, MLPClassifier) else None
    try:
        model = convert_sklearn(
            pipeline, initial_types=_types(pipeline, kinds, own), options=options, target_opset=17,
            custom_conversion_functions=functions, custom_shape_calculators=shapes)
    except (RuntimeError, NotImplementedError, ValueError, TypeError) as err:
        raise ValueError("to_onnx: skl2onnx cannot express a step of this pipeline "
                         f"({one_line(err, 300)}); export the network alone: "
                         "to_onnx(pipeline[-1])") from err
    _drop_unused(model.graph)
    _compare(pipeline, model, kinds, own)
    if path is not None:
        write_whole(path, model.SerializeToString())
    return model


def _drop_unused(graph: Any) -> None:
    """Take away inputs that no node reads: columns that the pipeline drops."""
    used = {name for node in graph.node for name in node.input}
    for value in [value for value in graph.input if value.name not in used]:
        graph.input.remove(value)


# -- what goes in


def _kinds(pipeline: Any) -> list[tuple[str, str]] | None:
    """Name and kind of each column of the frame that a pipeline was fitted on; None for arrays."""
    first = pipeline[0]
    if not hasattr(first, "transformers_") or not hasattr(first, "feature_names_in_"):
        return None
    names = [str(name) for name in first.feature_names_in_]
    found = dict.fromkeys(names, NUMBER)
    for _, transformer, columns in first.transformers_:
        own = _selected(first, columns)
        found.update(zip(own, _kinds_of(transformer, len(own))))
    return list(found.items())


def _selected(transformer: Any, columns: Any) -> list[str]:
    """The names that a column transformer's selection stands for."""
    names = np.asarray(transformer.feature_names_in_, object)
    if isinstance(columns, str):
        return [columns]
    if isinstance(columns, (int, slice)):
        return [str(name) for name in np.atleast_1d(names[columns])]
    own = list(columns)
    if all(isinstance(column, str) for column in own):
        return own
    return [str(name) for name in names[np.asarray(own)]] if own else []


def _kinds_of(transformer: Any, count: int) -> list[str]:
    """What a fitted transformer's columns held: texts, where it has learnt texts."""
    if isinstance(transformer, str):
        return [NUMBER] * count
    learnt = None
    for step in _steps(transformer):
        learnt = getattr(step, "categories_", None)
        if learnt is None:
            learnt = getattr(step, "statistics_", None)
            learnt = None if learnt is None else [np.asarray([value]) for value in learnt]
        if learnt is not None:
            break
    if learnt is None or len(learnt) != count:
        return [NUMBER] * count
    return [_kind(values) for values in learnt]


def _steps(transformer: Any) -> Iterator[Any]:
    """A transformer, or the steps of a pipeline of them."""
    yield from transformer if is_pipeline(transformer) else [transformer]


def _kind(values: np.ndarray) -> str:
    if any(isinstance(value, str) for value in np.asarray(values, object).tolist()):
        return TEXT
    return WHOLE if np.asarray(values).dtype.kind in "iub" else NUMBER


def _types(pipeline: Any, kinds: list[tuple[str, str]] | None,
           own: np.dtype) -> list[tuple[str, Any]]:
    """The inputs: `x` for arrays, one for each column of a frame; their floats are of `own`."""
    from skl2onnx.common.data_types import (
        DoubleTensorType,
        FloatTensorType,
        Int64TensorType,
        StringTensorType,
    )

    number = FloatTensorType if own == np.float32 else DoubleTensorType
    if kinds is None:
        return [("x", number([None, pipeline.n_features_in_]))]
    types = {NUMBER: number, WHOLE: Int64TensorType, TEXT: StringTensorType}
    return [(name, types[kind]([None, 1])) for name, kind in kinds]


# -- SimpleImputer(add_indicator=True), whose indicators skl2onnx leaves out


def _imputers() -> tuple[dict[type, Any], dict[type, Any]]:
    from skl2onnx._supported_operators import sklearn_operator_name_map
    from skl2onnx.common._registration import get_converter, get_shape_calculator
    from sklearn.impute import SimpleImputer

    alias = sklearn_operator_name_map[SimpleImputer]
    convert, shape = get_converter(alias), get_shape_calculator(alias)

    def converts(scope: Any, operator: Any, container: Any) -> None:
        (_impute if _is_plain(operator) else convert)(scope, operator, container)

    def calculates(operator: Any) -> None:
        if not _is_plain(operator):
            shape(operator)
            return
        rows = operator.inputs[0].get_first_dimension()
        width = len(_kept(operator.raw_operator)) + len(_flagged(operator.raw_operator))
        operator.outputs[0].type = type(operator.inputs[0].type)([rows, width])

    return {SimpleImputer: converts}, {SimpleImputer: calculates}


def _is_plain(operator: Any) -> bool:
    """Whether an imputer puts numbers in place of NaN."""
    missing, kind = operator.raw_operator.missing_values, type(operator.inputs[0].type).__name__
    nan = isinstance(missing, float) and np.isnan(missing)
    return nan and kind in ("FloatTensorType", "DoubleTensorType")


def _kept(imputer: Any) -> np.ndarray:
    """Columns that are not empty, or that are kept even so."""
    statistics = np.asarray(imputer.statistics_, float)
    return np.flatnonzero(~np.isnan(statistics))


def _flagged(imputer: Any) -> np.ndarray:
    """Columns that have an indicator."""
    return np.asarray(imputer.indicator_.features_ if imputer.add_indicator else [], np.int64)


def _impute(scope: Any, operator: Any, container: Any) -> None:
    from onnx import TensorProto
    from skl2onnx.operator_converters.common import concatenate_variables

    imputer, output = operator.raw_operator, operator.outputs[0]
    double = "Double" in type(operator.inputs[0].type).__name__
    element = TensorProto.DOUBLE if double else TensorProto.FLOAT

    def node(kind: str, inputs: list[str], out: str | None = None, **options: Any) -> str:
        out = out or scope.get_unique_variable_name(kind.lower())
        container.add_node(kind, inputs, [out], name=scope.get_unique_operator_name(kind),
                           op_version=13, **options)
        return out

    def constant(values: np.ndarray, kind: int) -> str:
        name = scope.get_unique_variable_name("constant")
        container.add_initializer(name, kind, list(values.shape), values.tolist())
        return name

    x = concatenate_variables(scope, operator.inputs, container)
    gone = node("IsNaN", [x])
    statistics = constant(np.nan_to_num(np.asarray(imputer.statistics_, float)), element)
    whole = node("Where", [gone, statistics, x])
    parts = [node("Gather", [whole, constant(_kept(imputer), TensorProto.INT64)], axis=1)]
    if len(flagged := _flagged(imputer)):
        flags = node("Cast", [gone], to=element)
        parts.append(node("Gather", [flags, constant(flagged, TensorProto.INT64)], axis=1))
    node("Concat", parts, output.full_name, axis=1)


# -- the check


def _compare(pipeline: Any, model: Any, kinds: list[tuple[str, str]] | None,
             own: np.dtype) -> None:
    """ValueError where the file computes something else, on random rows.

    Nothing is compared without ONNX Runtime, nor for a frame without pandas.
    """
    try:
        import onnxruntime

        rows, feeds = _random_rows(pipeline, kinds, own)
    except ImportError:
        return
    try:
        ref = pipeline.predict_proba(rows) if hasattr(pipeline[-1], "classes_") \
            else pipeline.predict(rows)
    except ValueError:  # rows that a step of the pipeline's own does not take
        return
    session = onnxruntime.InferenceSession(model.SerializeToString(),
                                           providers=["CPUExecutionProvider"])
    asked = {value.name for value in session.get_inputs()}
    given = {name: values for name, values in feeds.items() if name in asked}
    got = np.reshape(session.run(None, given)[-1], np.shape(ref))
    apart = float(np.abs(got - ref).max())
    if not apart <= _TOLERANCE * max(1.0, float(np.abs(ref).max())):
        raise ValueError(f"to_onnx: the file's outputs differ from the pipeline's by {apart:.3g}: "
                         "skl2onnx does not express one of its steps faithfully; export the "
                         "network alone: to_onnx(pipeline[-1])")


def _random_rows(pipeline: Any, kinds: list[tuple[str, str]] | None,
                 dtype: np.dtype) -> tuple[Any, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    if kinds is None:
        x = rng.normal(size=(_ROWS, pipeline.n_features_in_)).astype(dtype)
        return x, {"x": x}
    import pandas

    draw = {NUMBER: lambda name: rng.normal(size=_ROWS).astype(dtype),
            WHOLE: lambda name: rng.choice(_learnt(pipeline[0], name), _ROWS).astype(np.int64),
            TEXT: lambda name: rng.choice(_learnt(pipeline[0], name), _ROWS).astype(object)}
    columns = {name: draw[kind](name) for name, kind in kinds}
    return pandas.DataFrame(columns), {name: a[:, None] for name, a in columns.items()}


def _learnt(transformer: Any, name: str) -> np.ndarray:
    """Values that one of the transformers has learnt of a column; no missing ones."""
    for _, step, columns in transformer.transformers_:
        own = _selected(transformer, columns)
        if name not in own or isinstance(step, str):
            continue
        for one in _steps(step):
            if hasattr(one, "categories_"):
                values = np.asarray(one.categories_[own.index(name)], object)
                return np.array([v for v in values if v == v and v is not None], object)
            if hasattr(one, "statistics_"):
                return np.array([one.statistics_[own.index(name)]], object)
    return np.array([0], object)
