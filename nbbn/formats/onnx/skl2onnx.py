"""Networks within scikit-learn pipelines that skl2onnx converts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nbbn.formats.onnx.write import write
from nbbn.network import Network

# Of a fitted estimator its network, kind and classes.
Meaning = Callable[[Any], tuple[Network, str | None, np.ndarray | None]]


def register(classifier: type, regressor: type, meaning: Meaning) -> None:
    """Teach skl2onnx to convert two classes of estimators; may be called again.

    Raises
    ------
    ImportError
        Without the package skl2onnx.
    """
    try:
        from skl2onnx import update_registered_converter as add
    except ImportError as err:
        why = "register_skl2onnx needs the package skl2onnx: pip install skl2onnx"
        raise ImportError(why) from err

    def convert(scope: Any, operator: Any, container: Any) -> None:
        network, kind, classes = meaning(operator.raw_operator)
        model = write(network, classes=classes, kind=kind)
        _put(model, scope, operator, container)

    def shapes_of_classifier(operator: Any) -> None:
        _classifier_shapes(operator, *meaning(operator.raw_operator))

    def shapes_of_regressor(operator: Any) -> None:
        network, *_ = meaning(operator.raw_operator)
        rows = operator.inputs[0].get_first_dimension()
        operator.outputs[0].type = _floats(operator)([rows, network.output_shape[0]])

    # Both are looked up by skl2onnx itself when it parses a classifier.
    options = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    add(classifier, f"Nbbn{classifier.__name__}", shapes_of_classifier, convert, options=options)
    add(regressor, f"Nbbn{regressor.__name__}", shapes_of_regressor, convert)


def _classifier_shapes(
    operator: Any, network: Network, kind: str | None, classes: np.ndarray
) -> None:
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    rows, count = operator.inputs[0].get_first_dimension(), len(classes)
    label, probabilities = operator.outputs
    if kind == "multilabel":
        label.type = Int64TensorType([rows, count])
    else:
        strings = all(isinstance(value, str) for value in classes.tolist())
        label.type = (StringTensorType if strings else Int64TensorType)([rows])
    probabilities.type = _floats(operator)([rows, count])


def _floats(operator: Any) -> type:
    """The type of the floats that come out: those that go in, else float32."""
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    double = isinstance(operator.inputs[0].type, DoubleTensorType)
    return DoubleTensorType if double else FloatTensorType


def _put(model: Any, scope: Any, operator: Any, container: Any) -> None:
    """Put a model's nodes in skl2onnx's graph."""
    from onnx import TensorProto, helper, numpy_helper

    element = model.graph.input[0].type.tensor_type.elem_type
    names = {"x": scope.get_unique_variable_name("x")}

    def add(kind: str, inputs: Any, output: str, **options: Any) -> None:
        name = scope.get_unique_operator_name(kind)
        container.add_node(kind, inputs, output, name=name, **options)

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
