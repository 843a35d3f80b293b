"""Batch norms with channels that never varied, to ONNX and back.

ONNX's epsilon is a float32: what that loses is written into the variance, which becomes negative
where it was 0.
"""

from __future__ import annotations

import numpy as np
import pytest

import nbbn
from nbbn.interop import from_onnx, to_onnx
from nbbn.layers import BatchNormalization, Conv2D, Dense, Flatten, Input

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'nbbn[onnx]'")

VARIANCES = [0.0, 1e-12, 0.5, 0.0, 2.0]
FRONTS = {
    "features": ((3,), [Dense]),
    "images": ((4, 4, 2), [Conv2D]),
    "flat images": ((2, 2, 2), [Conv2D, Flatten]),
}
# The next float32 is above 0.001 and 0.1, and below 0.00001.
EPSILONS = [1e-3, 0.1, 1e-5]


def model_of(front, dtype, epsilon):
    shape, kinds = FRONTS[front]
    own = {"dtype": dtype}
    made = {
        Dense: lambda: Dense(5, **own),
        Conv2D: lambda: Conv2D(5, 2, **own),
        Flatten: lambda: Flatten(**own),
    }
    model = nbbn.Sequential(
        [
            Input(shape), *(made[kind]() for kind in kinds),
            BatchNormalization(epsilon=epsilon, **own), Dense(2, **own),
        ]
    )
    rng, norm = np.random.default_rng(2), model.layers[-2]
    gamma, beta, mean = rng.normal(1, 0.3, (3, 5))
    norm.set_weights([np.asarray(array, dtype) for array in (gamma, beta, mean, VARIANCES)])
    return model


def arrays_of(model):
    """The batch norm of a model: its epsilon and its arrays."""
    network = model.network()
    at = [isinstance(layer, BatchNormalization) for layer in network.layers].index(True)
    return network.layers[at].epsilon, network.weights[at]


@pytest.mark.parametrize("epsilon", EPSILONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("front", FRONTS)
def test_there_and_back(front, dtype, epsilon):
    model = model_of(front, dtype, epsilon)
    written = to_onnx(model, fold=False)
    lost = float(np.float32(epsilon)) - epsilon
    (node,) = [node for node in written.graph.node if node.op_type == "BatchNormalization"]
    constants = {c.name: onnx.numpy_helper.to_array(c) for c in written.graph.initializer}
    assert (constants[node.input[4]].min() < 0) == (lost > 0)  # or this tests nothing
    read = from_onnx(written)
    got_epsilon, got = arrays_of(read)
    _, ref = arrays_of(model)
    assert got["var"].dtype == dtype and got["var"].min() >= 0
    assert got_epsilon == pytest.approx(epsilon, abs=abs(lost) * 1.001)
    # What a batch norm divides by, to the last digits: dead channels have nothing but epsilon.
    rounding = 4 * float(np.finfo(dtype).eps)
    np.testing.assert_allclose(
        got["var"] + got_epsilon,
        ref["var"] + epsilon,
        rtol=max(rounding, 2e-7 * (dtype == "float32")),
    )
    for name in ("gamma", "beta", "mean"):
        np.testing.assert_array_equal(got[name], ref[name])
    x = np.random.default_rng(0).standard_normal((6, *FRONTS[front][0])).astype(dtype)
    np.testing.assert_allclose(
        read.predict(x, verbose=0), model.predict(x, verbose=0), rtol=0,
        atol=1e-11 if dtype == "float64" else 3e-5,
    )


@pytest.mark.parametrize("low", [-1.0, -0.0011])
def test_a_variance_below_minus_epsilon_is_no_variance(low):
    """It cannot be what an epsilon lost, and has no root."""
    written = to_onnx(model_of("features", "float32", 1e-3), fold=False)
    (node,) = [node for node in written.graph.node if node.op_type == "BatchNormalization"]
    constant = next(c for c in written.graph.initializer if c.name == node.input[4])
    constant.CopyFrom(
        onnx.numpy_helper.from_array(np.array([low, 1, 1, 1, 1], np.float32), constant.name)
    )
    with pytest.raises(nbbn.FileError, match="negative"):
        from_onnx(written)
