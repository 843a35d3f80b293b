"""Operations: what layers declare, how shapes and sources follow, and that every backend knows all
of them.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import nbbn
from nbbn import activations, fallback, inputs, layers
from nbbn import operations as op
from nbbn.fold.network import OPERATIONS as FOLD_OPERATIONS
from nbbn.formats.csource.steps import OPERATIONS as C_OPERATIONS
from nbbn.network import Network, computation
from nbbn.program import backward, inference, training_forward
from nbbn.program.forward import repeats_of_last

BACKENDS = {
    "NumPy": fallback.OPERATIONS, "C": C_OPERATIONS, "fold": FOLD_OPERATIONS,
    "inference": inference.FORWARD, "training, forward": training_forward.FORWARD,
    "training, backward": backward.BACKWARD,
}


def test_all_operations_are_listed():
    declared = {
        kind
        for kind in vars(op).values()
        if isinstance(kind, type) and issubclass(kind, op.Operation)
    }
    assert declared - {op.Operation, op.Weighted} == set(op.OPERATIONS)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_knows_every_operation(backend):
    assert set(BACKENDS[backend]) == set(op.OPERATIONS)


def test_a_chain_reads_the_step_before():
    chain = [
        layers.Dense(4, "relu"), layers.Dropout(0.5), layers.BatchNormalization(), layers.Softmax(),
    ]
    steps = computation(chain, (3,)).steps
    assert [type(step.operation) for step in steps] == [
        op.Dense, op.Elementwise, op.Disturb, op.BatchNorm, op.Softmax,
    ]
    assert [step.sources for step in steps] == [(-1,), (0,), (1,), (2,), (3,)]
    assert [step.layer for step in steps] == [0, 0, 1, 2, 3]
    assert [step.shapes for step in steps] == [((3,),), *[((4,),)] * 4]
    inference = computation(chain, (3,)).inference.steps
    assert [type(step.operation) for step in inference] == [
        op.Dense, op.Elementwise, op.BatchNorm, op.Softmax,
    ]
    assert [step.sources for step in inference] == [(-1,), (0,), (1,), (2,)]


def test_what_does_nothing_has_no_step():
    chain = [
        layers.Input((2, 3, 4)), layers.Activation("linear"), layers.Dropout(0.0),
        layers.GaussianNoise(0.0), layers.ZeroPadding2D(0), layers.Reshape((2, 3, -1)),
    ]
    whole = computation(chain, (2, 3, 4))
    assert whole.steps == () and whole.output_shape == (2, 3, 4) and whole.ends_with == "linear"


@pytest.mark.parametrize(
    ("chain", "ends_with"),
    [
        ([layers.Dense(2, "softmax"), layers.Activation("linear")], "softmax"),
        ([layers.Dense(4, "softmax"), layers.Reshape((2, 2)), layers.Dropout(0.1)], "softmax"),
        ([layers.Dense(2), layers.Softmax()], "softmax"),
        ([layers.Dense(2), layers.ReLU(6)], "clipped_relu"),
        ([layers.Dense(2, "sigmoid")], "sigmoid"),
        ([layers.Dense(2, "sigmoid"), layers.BatchNormalization()], "linear"),
        ([layers.Dense(2)], "linear"), ([layers.Softmax()], "softmax"), ([], "linear"),
    ],
    ids=repr,
)
def test_what_a_network_ends_with(chain, ends_with):
    assert computation(chain, (3,)).ends_with == ends_with


SHAPES = [(5,), (4, 5), (2, 3, 4), (2, 3, 4, 5), (2, 1, 3, 2, 3)]


@pytest.mark.parametrize(
    ("shape", "axes"),
    [(shape, axes) for shape in SHAPES for n in range(1, len(shape) + 1)
     for axes in itertools.combinations(range(len(shape)), n)],
    ids=repr,
)  # fmt: skip
def test_axes_move_to_the_end_and_back(shape, axes):
    """Values against NumPy's moveaxis, for every choice of axes.

    Permutations are of three axes at most.
    """
    seen = []
    operations = op.over_last(shape, axes, lambda inner: [seen.append(inner), op.Softmax()][1:])
    assert all(len(o.order) <= 3 for o in operations if isinstance(o, op.Permute))
    x = np.random.default_rng(0).standard_normal((2, *shape))
    builder = op.Builder(shape)
    builder.add_layer(0, operations, {}, (-1,))
    y, steps = x, builder.computation().steps
    for step in steps:
        y = fallback.OPERATIONS[type(step.operation)](step, {}, y)
        assert y.shape == (2, *step.output_shape)
    over = tuple(axis + 1 for axis in axes)
    e = np.exp(x)
    np.testing.assert_allclose(y, e / e.sum(over, keepdims=True), rtol=1e-13)
    assert seen[0][-1] == np.prod([shape[axis] for axis in axes])


@pytest.mark.parametrize(
    "times",
    [(3,), (1,), *itertools.product((1, 2), (1, 3)), *itertools.product((1, 2), (1, 3), (1, 4))],
    ids=repr,
)
def test_repeats_along_any_axis_are_repeats_of_the_last(times):
    """What the engine makes of one.

    Values against NumPy's repeat, and the gradient's way back to the axes.
    """
    x = np.random.default_rng(0).standard_normal((2, *range(2, 2 + len(times))))
    ref = x
    for axis, many in enumerate(times, 1):
        ref = ref.repeat(many, axis)
    (step,) = stepped(op.Repeat(times), x)
    np.testing.assert_array_equal(fallback.OPERATIONS[op.Repeat](step, {}, x), ref)
    assert step.output_shape == ref.shape[1:]
    y = x
    for order, many in repeats_of_last(op.Repeat(times)):
        (step,) = stepped(order, y)
        y = fallback.OPERATIONS[op.Permute](step, {}, y).repeat(many, -1)
    np.testing.assert_array_equal(y, ref)


def stepped(operation, x):
    builder = op.Builder(x.shape[1:])
    builder.add_layer(0, [operation], {}, (-1,))
    return builder.computation().steps


def test_a_layer_tells_its_arrays():
    layer = layers.Dense(
        2, kernel_regularizer=nbbn.regularizers.L1L2(0.1, 0.2), bias_regularizer="l2"
    )
    arrays = layer.arrays((3,))
    assert arrays["kernel"] == op.Array((3, 2), True, 0.1, 0.2)
    assert arrays["bias"] == op.Array((2,), True, 0.0, 0.01)
    norm = layers.BatchNormalization(trainable=False).arrays((3,))
    assert [array.trained for array in norm.values()] == [False] * 4
    assert [array.trained for array in layers.BatchNormalization().arrays((3,)).values()] == [
        True, True, False, False,
    ]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", activations.ELEMENTWISE)
def test_activations_keep_dtype_and_nan(name, dtype):
    function = activations.ELEMENTWISE[name]
    x = np.array([np.nan, -np.inf, np.inf, 0.0, -1.0], dtype)
    y = function(x)
    assert y.dtype == dtype and np.isnan(y[0])
    assert function.not_negative <= bool((y[1:] >= 0).all() or np.isnan(y[1:]).any())


def test_the_bound_of_a_relu_holds_for_infinities():
    x = np.array([-np.inf, np.inf, -1.0, 7.0, np.nan])
    np.testing.assert_array_equal(
        activations.ELEMENTWISE["clipped_relu"](x, 0.0, 6.0, 0.0), [0, 6, 0, 6, np.nan]
    )
    np.testing.assert_array_equal(
        activations.ELEMENTWISE["leaky_relu"](x, 0.0), [0, np.inf, 0, 7, np.nan]
    )


def test_elu_keeps_its_digits_near_zero():
    x = np.array([-1e-7, -1e-6, -1e-12], np.float32)
    np.testing.assert_allclose(
        activations.ELEMENTWISE["elu"](x), np.expm1(x.astype(float)), rtol=1e-6
    )
    np.testing.assert_allclose(
        activations.ELEMENTWISE["selu"](x),
        activations.SELU_SCALE * activations.SELU_ALPHA * np.expm1(x.astype(float)),
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("name", "moves"),
    [
        ("relu", False), ("tanh", False), ("gelu", False), ("sigmoid", True), ("softplus", True),
        ("exponential", True),
    ],
)
def test_what_zero_becomes(name, moves):
    assert activations.ELEMENTWISE[name].moves_zero(()) == moves


def test_a_network_in_inference_has_nothing_that_disturbs():
    network = Network((layers.Dropout(0.5), layers.GaussianNoise(0.1)), (3,), [{}, {}], np.dtype("f4"))
    assert network.computation().steps == ()
    assert [type(step.operation) for step in network.computation(training=True).steps] == [
        op.Disturb, op.Disturb,
    ]


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_finite_numbers_whose_sum_is_not(dtype):
    x = np.full(9, np.finfo(dtype).max, dtype)
    assert inputs.all_finite(x)
    x[4] = np.nan
    assert not inputs.all_finite(x)
