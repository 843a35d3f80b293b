"""Small ONNX graphs for the tests of folding, written node by node."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Builder:
    """A graph in the making; values are referred to by name.

    Parameters
    ----------
    opset, ir_version : int
    dtype : numpy dtype
        Of inputs and weights.
    """

    def __init__(self, opset=17, ir_version=8, dtype=np.float32, seed=0):
        self.opset, self.ir_version, self.dtype = opset, ir_version, np.dtype(dtype)
        self.element = helper.np_dtype_to_tensor_dtype(self.dtype)
        self.rng = np.random.default_rng(seed)
        self.nodes, self.tensors, self.inputs, self.outputs, self.functions = [], [], [], [], []

    def input(self, name, *shape, element=None):
        self.inputs.append(helper.make_tensor_value_info(name, element or self.element, shape))
        return name

    def output(self, name, *shape, element=None):
        self.outputs.append(
            helper.make_tensor_value_info(name, element or self.element, shape or None)
        )
        return name

    def tensor(self, array, name=None, dtype=None):
        name = name or f"t{len(self.tensors)}"
        self.tensors.append(numpy_helper.from_array(np.asarray(array, dtype or self.dtype), name))
        return name

    def weights(self, *shape, name=None):
        fan_in = np.prod(shape[1:]) or 1
        return self.tensor(self.rng.normal(size=shape) / np.sqrt(fan_in), name)

    def add(self, op, *inputs, name=None, n_outputs=1, domain="", **attributes):
        """A node; returns the name of its (first) output."""
        outputs = [f"v{len(self.nodes)}" + (f"_{i}" if i else "") for i in range(n_outputs)]
        node = helper.make_node(
            op, inputs, outputs, name=name or f"{op.lower()}{len(self.nodes)}", domain=domain,
            **attributes,
        )
        self.nodes.append(node)
        return outputs[0]

    def norm(self, x, channels, *, positive=False, epsilon=1e-3, **more):
        """A batch norm with means far from 0, and gains of both signs unless `positive`."""
        gamma = self.rng.uniform(0.5, 1.5, channels) * (
            1 if positive else self.rng.choice([-1, 1], channels)
        )
        beta, mean, var = (
            self.rng.normal(size=channels),
            self.rng.normal(size=channels),
            self.rng.uniform(0.3, 3, channels),
        )
        arrays = [self.tensor(array) for array in (gamma, beta, mean, var)]
        return self.add("BatchNormalization", x, *arrays, epsilon=epsilon, **more)

    def conv(
        self, x, channels_in, channels_out, *window, groups=1, bias=True, transposed=False, **more
    ):
        shape = (
            (channels_in, channels_out // groups)
            if transposed
            else (channels_out, channels_in // groups)
        )
        inputs = [
            x,
            self.weights(*shape, *window),
            *([self.tensor(self.rng.normal(size=channels_out))] if bias else []),
        ]
        return self.add(
            "ConvTranspose" if transposed else "Conv", *inputs, group=groups, kernel_shape=window,
            **more,
        )

    def model(self, *outputs):
        """The model, checked.

        It gives out what `output` named, or `outputs`, or else what the last node gives.
        """
        inputs, outs = list(self.inputs), list(self.outputs)
        if self.ir_version < 4:
            inputs += [
                helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in self.tensors
            ]
        names = outputs or ([] if outs else [self.nodes[-1].output[0]])
        graph = helper.make_graph(self.nodes, "graph", inputs, outs, self.tensors)
        graph.output.extend(self._with_shape(graph, name) for name in names)
        domains = {node.domain for node in self.nodes} - {""}
        imports = [
            helper.make_opsetid("", self.opset),
            *(helper.make_opsetid(d, 1) for d in domains),
        ]
        model = helper.make_model(
            graph, opset_imports=imports, ir_version=self.ir_version, producer_name="tests"
        )
        onnx.checker.check_model(model)
        return model

    def _with_shape(self, graph, name):
        """An output, of the shape that inference finds."""
        trial = helper.make_graph(graph.node, "trial", graph.input, [], graph.initializer)
        imports = [helper.make_opsetid("", self.opset)]
        trial.output.append(helper.make_tensor_value_info(name, self.element, None))
        found = onnx.shape_inference.infer_shapes(
            helper.make_model(trial, opset_imports=imports, ir_version=8)
        )
        return found.graph.output[0]


def small():
    """conv, BN, ReLU, BN, pool, dense, BN: all of it folds."""
    g = Builder()
    x = g.add("Relu", g.norm(g.conv(g.input("x", "n", 3, 6, 6), 3, 8, 3, 3), 8))
    x = g.add("Flatten", g.add("AveragePool", g.norm(x, 8), kernel_shape=[2, 2]))
    g.norm(g.add("Gemm", x, g.weights(5, 72), g.weights(5), transB=1), 5)
    return g.model()


def run(model, *arrays, **feed):
    """All outputs in float64.

    Of a float32 graph on ONNX Runtime, of others on onnx's own evaluator.
    """
    inputs = [
        v.name for v in model.graph.input if v.name not in {t.name for t in model.graph.initializer}
    ]
    feed = {**dict(zip(inputs, arrays)), **feed}
    if any(v.type.tensor_type.elem_type == TensorProto.DOUBLE for v in model.graph.input):
        return [
            np.asarray(out, float)
            for out in onnx.reference.ReferenceEvaluator(model).run(None, feed)
        ]
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [np.asarray(out, float) for out in session.run(None, feed)]


def ops(model):
    """The operators of a graph, in order."""
    return [node.op_type for node in model.graph.node]
