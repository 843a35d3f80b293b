"""nbbn's estimators within scikit-learn pipelines that skl2onnx converts."""

from __future__ import annotations

from typing import Any

import numpy as np


def register_skl2onnx() -> None:
    """Teach skl2onnx to convert `MLPClassifier` and `MLPRegressor`, alone or at a Pipeline's end.

    May be called again.

    Raises
    ------
    ImportError
        Without the package skl2onnx.

    Notes
    -----
    `skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})` then gives the outputs `label`
    and `probabilities` of a classifier, or `variable` of a regressor. Batch norms are folded. The
    network computes in the dtype of its fit; what goes in and comes out is cast to the types that
    skl2onnx declares.

    Examples
    --------
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> import skl2onnx  # doctest: +SKIP
    >>> nbbn.interop.register_skl2onnx()  # doctest: +SKIP
    >>> pipeline = make_pipeline(StandardScaler(), nbbn.MLPClassifier()).fit(X, y)  # doctest: +SKIP
    >>> skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})  # doctest: +SKIP
    """
    try:
        from skl2onnx import update_registered_converter as add
    except ImportError as err:
        raise ImportError("register_skl2onnx needs the package skl2onnx: "
                          "pip install skl2onnx") from err
    from nbbn.estimators import MLPClassifier, MLPRegressor

    # Both are looked up by skl2onnx itself when it parses a classifier.
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    add(MLPClassifier, "NbbnMLPClassifier", _shapes_of_classifier, _convert, options=options)
    add(MLPRegressor, "NbbnMLPRegressor", _shapes_of_regressor, _convert)


def _shapes_of_classifier(operator: Any) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    model = operator.raw_operator.for_inference()
    rows = operator.inputs[0].get_first_dimension()
    label, probabilities = operator.outputs
    if model.kind == "multilabel":
        label.type = Int64TensorType([rows, len(model.classes_)])
    else:
        strings = all(isinstance(value, str) for value in model.classes_.tolist())
        label.type = (StringTensorType if strings else Int64TensorType)([rows])
    probabilities.type = _floats(operator)([rows, len(model.classes_)])


def _shapes_of_regressor(operator: Any) -> None:
    rows = operator.inputs[0].get_first_dimension()
    outputs = operator.raw_operator.network().output_shape[0]
    operator.outputs[0].type = _floats(operator)([rows, outputs])


def _floats(operator: Any) -> type:
    """The type of the floats that come out: those that go in, else float32."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    double = isinstance(operator.inputs[0].type, DoubleTensorType)
    return DoubleTensorType if double else FloatTensorType


def _convert(scope: Any, operator: Any, container: Any) -> None:
    """Put the network's nodes in skl2onnx's graph."""
    from onnx import TensorProto, helper, numpy_helper

    from nbbn.loading import for_inference

    def add(kind: str, inputs: Any, output: Any, **options: Any) -> None:
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, inputs, output, name=name, **options)

    model = for_inference(operator.raw_operator).fold().to_onnx()
    element = model.graph.input[0].type.tensor_type.elem_type
    names = {"x": scope.get_unique_variable_name("x")}
    add("Cast", operator.inputs[0].full_name, names["x"], to=element)
    for tensor in model.graph.initializer:
        names[tensor.name] = scope.get_unique_variable_name(tensor.name)
        values = np.ravel(numpy_helper.to_array(tensor)).tolist()
        flat = [text.decode() if isinstance(text, bytes) else text for text in values]
        container.add_initializer(names[tensor.name], tensor.data_type, list(tensor.dims), flat)
    version = model.opset_import[0].version
    for node in model.graph.node:
        (output,) = node.output
        names[output] = scope.get_unique_variable_name(output)
        options = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        inputs = [names[name] for name in node.input]
        add(node.op_type, inputs, [names[output]], op_version=version, **options)
    double = "Double" in _floats(operator).__name__
    floats = TensorProto.DOUBLE if double else TensorProto.FLOAT
    for own, output in zip(model.graph.output, operator.outputs):
        if own.name == "label":
            add("Identity", names[own.name], output.full_name)
        else:
            add("Cast", names[own.name], output.full_name, to=floats)
