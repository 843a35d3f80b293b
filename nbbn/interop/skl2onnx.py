"""nbbn's estimators within scikit-learn pipelines that skl2onnx converts."""

from __future__ import annotations

import numpy as np


def register_skl2onnx() -> None:
    """Teach skl2onnx to convert `MLPClassifier` and `MLPRegressor`, alone or at the end of a Pipeline; may be called again.

    Raises
    ------
    ImportError
        Without the package skl2onnx.

    Notes
    -----
    `skl2onnx.to_onnx(pipeline, X[:1], options={"zipmap": False})` then gives the outputs `label` and `probabilities` of a
    classifier, or `variable` of a regressor. Batch norms are folded. The network computes in the dtype of its fit; what goes in
    and comes out is cast to the types that skl2onnx declares.

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
        from skl2onnx import update_registered_converter
    except ImportError as err:
        raise ImportError("register_skl2onnx needs the package skl2onnx: pip install skl2onnx") from err
    from nbbn.estimators import MLPClassifier, MLPRegressor

    # Both are looked up by skl2onnx itself when it parses a classifier.
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    update_registered_converter(MLPClassifier, "NbbnMLPClassifier", _shapes_of_classifier, _convert, options=options)
    update_registered_converter(MLPRegressor, "NbbnMLPRegressor", _shapes_of_regressor, _convert)


def _shapes_of_classifier(operator) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    estimator = operator.raw_operator
    classes, rows = estimator.classes_, operator.inputs[0].get_first_dimension()
    label, probabilities = operator.outputs
    if estimator.network().output_shape[0] == len(classes) and estimator.fold().kind == "multilabel":
        label.type = Int64TensorType([rows, len(classes)])
    else:
        strings = all(isinstance(value, str) for value in classes.tolist())
        label.type = (StringTensorType if strings else Int64TensorType)([rows])
    probabilities.type = _floats(operator)([rows, len(classes)])


def _shapes_of_regressor(operator) -> None:
    rows = operator.inputs[0].get_first_dimension()
    operator.outputs[0].type = _floats(operator)([rows, operator.raw_operator.network().output_shape[0]])


def _floats(operator):
    """The type of the floats that come out: those that go in, else float32."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    return DoubleTensorType if isinstance(operator.inputs[0].type, DoubleTensorType) else FloatTensorType


def _convert(scope, operator, container) -> None:
    """Put the network's nodes in skl2onnx's graph."""
    import onnx

    from nbbn.interop.onnx import to_onnx

    model = to_onnx(operator.raw_operator)
    element = model.graph.input[0].type.tensor_type.elem_type
    names = {"x": scope.get_unique_variable_name("x")}
    container.add_node(
        "Cast", operator.inputs[0].full_name, names["x"], to=element, name=scope.get_unique_operator_name("Cast")
    )
    for tensor in model.graph.initializer:
        names[tensor.name] = scope.get_unique_variable_name(tensor.name)
        values = onnx.numpy_helper.to_array(tensor)
        flat = [text.decode() if isinstance(text, bytes) else text for text in np.ravel(values).tolist()]
        container.add_initializer(names[tensor.name], tensor.data_type, list(tensor.dims), flat)
    for node in model.graph.node:
        names[node.output[0]] = scope.get_unique_variable_name(node.output[0])
        container.add_node(
            node.op_type,
            [names[name] for name in node.input],
            [names[node.output[0]]],
            name=scope.get_unique_operator_name(node.op_type),
            op_version=model.opset_import[0].version,
            **{a.name: onnx.helper.get_attribute_value(a) for a in node.attribute},
        )
    floats = onnx.TensorProto.DOUBLE if "Double" in _floats(operator).__name__ else onnx.TensorProto.FLOAT
    for own, output in zip(model.graph.output, operator.outputs):
        name = scope.get_unique_operator_name("Output")
        if own.name == "label":
            container.add_node("Identity", names[own.name], output.full_name, name=name)
        else:
            container.add_node("Cast", names[own.name], output.full_name, to=floats, name=name)
