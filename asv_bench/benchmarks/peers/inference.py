"""Inference with the very network that nbbn folded, as an ONNX file or as its arrays.

Each function takes the folded model and the rows, and returns a call that gives the probabilities.
"""

from __future__ import annotations

import os
import tempfile
import warnings
from typing import Any

import numpy as np

import nbbn

from ..timed import Call
from .availability import THREADS, require
from .images import jax_function, linear, torch_modules


def onnx_runtime(folded: nbbn.FoldedModel, x: np.ndarray) -> Call:
    """A session over the ONNX file that the folded model writes."""
    ort = require("ONNX Runtime")
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        missing = "ONNX Runtime needs the package onnx here, to be given a file"
        raise NotImplementedError(missing) from error
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "model.onnx")
        folded.to_onnx(path)
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed, wanted = {session.get_inputs()[0].name: x}, [session.get_outputs()[-1].name]
    return lambda: session.run(wanted, feed)[0]


def arrays(folded: nbbn.FoldedModel) -> list[tuple[np.ndarray, np.ndarray]]:
    """Kernel and bias of each dense layer."""
    return [(w["kernel"], w["bias"]) for w in folded.network.weights if "kernel" in w]


def frozen(torch: Any, network: Any, example: Any) -> Any:
    """The network as a frozen graph, which beats eager mode on few rows."""
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        return torch.jit.freeze(torch.jit.trace(network, example))


def pytorch(folded: nbbn.FoldedModel, x: np.ndarray) -> Call:
    """Linear layers and ReLU, frozen, in inference mode."""
    torch = require("PyTorch")
    from torch import nn

    layers: list[Any] = []
    for kernel, bias in arrays(folded):
        layers += [linear(kernel, bias), nn.ReLU()]
    rows = torch.from_numpy(x)
    network = frozen(torch, nn.Sequential(*layers[:-1], nn.Softmax(1)).eval(), rows)

    def predict() -> np.ndarray:
        with torch.inference_mode():
            return network(rows).numpy()

    return predict


def jax_compiled(folded: nbbn.FoldedModel, x: np.ndarray) -> Call:
    """One compiled function, its weights constants; the answer comes back as a NumPy array."""
    jax = require("JAX")
    import jax.numpy as jnp

    layers = [(jnp.asarray(kernel), jnp.asarray(bias)) for kernel, bias in arrays(folded)]

    @jax.jit
    def network(rows: Any) -> Any:
        for kernel, bias in layers[:-1]:
            rows = jax.nn.relu(rows @ kernel + bias)
        return jax.nn.softmax(rows @ layers[-1][0] + layers[-1][1])

    return lambda: np.asarray(network(x))


def scikit_learn(folded: nbbn.FoldedModel, x: np.ndarray) -> Call:
    """Its estimator with the folded weights put in."""
    require("scikit-learn")
    from sklearn.neural_network import MLPClassifier

    layers = arrays(folded)
    hidden = [len(bias) for _, bias in layers[:-1]]
    estimator = MLPClassifier(hidden, max_iter=1, solver="sgd")
    estimator.partial_fit(x[:1], folded.classes_[:1], classes=folded.classes_)
    estimator.coefs_, estimator.intercepts_ = [k for k, _ in layers], [b for _, b in layers]
    return lambda: estimator.predict_proba(x)


def pytorch_images(folded: nbbn.FoldedModel, x: np.ndarray) -> Call:
    """Convolutions with their batch norms folded in, channels last, in inference mode."""
    torch = require("PyTorch")
    network = torch.nn.Sequential(torch_modules(folded.network), torch.nn.Softmax(1)).eval()
    images = torch.from_numpy(x).permute(0, 3, 1, 2)  # the strides of channels last

    def predict() -> np.ndarray:
        with torch.inference_mode():
            return network(images).numpy()

    return predict


def jax_images(folded: nbbn.FoldedModel, x: np.ndarray) -> Call:
    """One compiled function, its weights constants; the answer comes back as a NumPy array."""
    jax = require("JAX")
    apply, arrays = jax_function(folded.network)
    network = jax.jit(lambda images: jax.nn.softmax(apply(arrays, images)))
    return lambda: np.asarray(network(x))


DENSE = {
    "ONNX Runtime": onnx_runtime,
    "PyTorch": pytorch,
    "JAX": jax_compiled,
    "scikit-learn": scikit_learn,
}
IMAGES = {"ONNX Runtime": onnx_runtime, "PyTorch": pytorch_images, "JAX": jax_images}
