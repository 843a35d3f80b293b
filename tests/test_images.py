"""Networks of images.

Training, inference and folding against the oracle, at any number of threads.
"""

import naive_layers as naive
import numpy as np
import pytest
from networks import NETWORKS

import nbbn
from nbbn.fold import fold_checked
from nbbn.layers import (
    Activation,
    BatchNormalization,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GaussianNoise,
    MaxPooling2D,
    Reshape,
)
from nbbn.network import Network, computation
from nbbn.optimizers import SGD, Adam
from nbbn.predictor import Predictor
from nbbn.program.inference import InferenceProgram
from nbbn.program.program import Segment
from nbbn.program.training import lower_training
from nbbn.trainer import Trainer, batches

IMAGE, ROWS, BATCH, RATE = (7, 6, 3), 27, 9, 0.01
norm = BatchNormalization
END = [Flatten(), Dense(5, activation="softmax")]


def shapes_of(layers, shape):
    shapes = [tuple(shape)]
    for layer in layers:
        shapes.append(tuple(layer.output_shape(shapes[-1])))
    return shapes


def drawn(layers, shape, dtype, seed=3):
    """An oracle with random weights, small at the end so that no probability is clipped, and the
    same weights in `dtype`.
    """
    net = naive.NaiveNetwork(layers, shape).draw(np.random.default_rng(seed))
    net.weights[-1]["kernel"] *= 0.05
    weights = [
        {name: array.astype(dtype) for name, array in arrays.items()} for arrays in net.weights
    ]
    net.weights = [
        {name: array.astype(float) for name, array in arrays.items()} for arrays in weights
    ]
    return net, weights


def trained(layers, shape, weights, dtype, x, y, threads, **settings):
    with nbbn.num_threads(threads):
        trainer = Trainer(
            computation(layers, shape), np.dtype(dtype), x.dtype, BATCH, "softmax_cross_entropy",
            SGD(RATE), **settings,
        )
        trainer.upload(weights)
        edges = batches(len(x), BATCH, merge_tail=False)
        epoch = trainer.epoch(x, y, np.arange(len(x)), edges, np.full(len(edges) - 1, RATE))
        return epoch.loss, trainer.download(), trainer.outputs(x)


FORWARD = [Conv2D(6, 2, activation="relu"), norm(), Conv2D(8, 2, groups=2), norm(), *END]
FOLDS = {
    **{
        name: (NETWORKS[name].input_shape, NETWORKS[name].built(nbbn)[0])
        for name in (
            "conv, norm, no bias", "conv, twice", "conv, same, twice", "transposed, twice",
            "norm, conv", "conv, frozen norm",
        )
    },
    "forward into groups": (IMAGE, FORWARD),
    "forward into depthwise": (
        IMAGE,
        [Conv2D(6, 2, activation="relu"), norm(), DepthwiseConv2D(2, depth_multiplier=2), *END],
    ),
    "past dropout": (IMAGE, [Conv2D(6, 2), Dropout(0.3), norm(), GaussianNoise(0.1), *END]),
}


@pytest.mark.parametrize(("dtype", "tolerance"), [("f8", 1e-12), ("f4", 1e-5)])
@pytest.mark.parametrize("name", FOLDS)
def test_folded_equals_unfolded(name, dtype, tolerance):
    shape, layers = FOLDS[name]
    net, weights = drawn(layers, shape, dtype)
    network = Network(tuple(layers), shape, weights, np.dtype(dtype))
    folded, report = fold_checked(network, strict=True, run=Predictor)
    assert report.n_folded == report.n_total > 0
    assert not any(isinstance(layer, norm) for layer in folded.layers)
    x = np.random.default_rng(1).standard_normal((5, *shape)).astype(dtype)
    np.testing.assert_allclose(
        Predictor(folded)(x), net.forward(x.astype(float), False), atol=tolerance
    )


def test_a_norm_before_a_padded_convolution_is_not_folded():
    layers = [Conv2D(6, 2, activation="relu"), norm(), Conv2D(8, 2, padding="same"), *END]
    _, weights = drawn(layers, IMAGE, "f8")
    folded, report = fold_checked(
        Network(tuple(layers), IMAGE, weights, np.dtype("f8")), run=Predictor
    )
    assert report.n_folded == 0
    assert "pads with zeros" in report.entries[0].reason
    assert any(isinstance(layer, norm) for layer in folded.layers)


@pytest.mark.parametrize(
    "pool",
    [MaxPooling2D(2), MaxPooling2D((1, 2)), MaxPooling2D((3, 2)), MaxPooling2D((2, 3), strides=1)],
)
@pytest.mark.parametrize("rows", [1, 5, 33])
def test_pools_in_the_convolution(pool, rows):
    layers = [
        Conv2D(10, 3, activation="relu"), pool, Conv2D(5, 2, padding="same"), MaxPooling2D((1, 2)),
        *END,
    ]
    net, weights = drawn(layers, (9, 11, 3), "f8")
    network = Network(tuple(layers), (9, 11, 3), weights, np.dtype("f8"))
    kernels = [
        op.kernel
        for op in InferenceProgram(network.computation(), network.dtype).program.operations
    ]
    assert kernels.count("conv_pool_forward") == (2 if pool.strides == pool.pool_size else 1)
    x = np.random.default_rng(1).standard_normal((rows, 9, 11, 3))
    np.testing.assert_allclose(Predictor(network)(x), net.forward(x, False), atol=1e-12)


@pytest.mark.parametrize("shape", [(40,), (4, 5, 7)])
def test_dropout_keeps_the_mean_and_drops_its_share(shape):
    """A network that hands its rows on: the loss's gradient by the bias shows what was dropped."""
    layers = [Reshape(shape), Dropout(0.3), Flatten(), Dense(2, activation="softmax")]
    size = int(np.prod(shape))
    x, y = np.ones((200, size), "f4"), np.zeros(200, np.int64)
    weights = [{}, {}, {}, {"kernel": np.zeros((size, 2), "f4"), "bias": np.zeros(2, "f4")}]
    steps = {}
    for seed in (1, 2):
        for threads in (1, 2):
            with nbbn.num_threads(threads):
                trainer = Trainer(
                    computation(layers, (size,)), np.dtype("f4"), x.dtype, 200,
                    "softmax_cross_entropy", SGD(1.0), seed=seed,
                )
                trainer.upload(weights)
                trainer.epoch(x, y, np.arange(200), np.array([0, 200]), np.ones(1))
                steps[seed, threads] = trainer.download()[3]["kernel"]
    np.testing.assert_array_equal(steps[1, 1], steps[1, 2])
    assert (steps[1, 1] != steps[2, 1]).any()
    # The gradient is the mean over the rows of x / (1 - rate) / 2.
    kept = 2 * steps[1, 1][:, 0] * 0.7
    assert abs(kept.mean() - 0.7) < 4 * np.sqrt(0.21 / (200 * size))
    assert np.std(kept) == pytest.approx(np.sqrt(0.21 / 200), rel=0.35)


def test_a_dropped_step_differs_from_the_one_before():
    layers = [Dense(30), Dropout(0.5), Dense(2, activation="softmax")]
    net, weights = drawn(layers, (8,), "f4")
    x, y = np.random.default_rng(0).standard_normal((9, 8)).astype("f4"), np.zeros(9, np.int64)
    trainer = Trainer(
        computation(layers, (8,)), np.dtype("f4"), x.dtype, 9, "softmax_cross_entropy", SGD(0.0)
    )
    trainer.upload(weights)
    losses = [
        trainer.epoch(x, y, np.arange(9), np.array([0, 9]), np.zeros(1)).loss for _ in range(3)
    ]
    assert len(set(losses)) == 3
    np.testing.assert_allclose(trainer.outputs(x), net.forward(x, False), atol=1e-5)


def test_a_cumulative_average_weighs_every_batch_the_same():
    layers = [norm(momentum=None), Flatten(), Dense(2, activation="softmax")]
    for shape in [(6,), (2, 3, 4)]:
        net, weights = drawn(layers, shape, "f8")
        x = np.random.default_rng(0).standard_normal((ROWS, *shape)) * 3 + 1
        _, got, _ = trained(layers, shape, weights, "f8", x, np.zeros(ROWS, np.int64), 2)
        parts = x.reshape(3, -1, shape[-1])
        np.testing.assert_allclose(got[0]["mean"], parts.mean(1).mean(0), rtol=1e-12)
        np.testing.assert_allclose(got[0]["var"], parts.var(1).mean(0), rtol=1e-12)


def test_image_moments_at_a_mean_of_a_million():
    layers = [norm(momentum=None), Flatten(), Dense(2, activation="softmax")]
    x = (np.random.default_rng(0).standard_normal((ROWS, 4, 5, 3)) + 1e6).astype("f4")
    weights = [
        {
            "gamma": np.ones(3, "f4"), "beta": np.zeros(3, "f4"), "mean": np.zeros(3, "f4"),
            "var": np.ones(3, "f4"),
        },
        {},
        {"kernel": np.zeros((60, 2), "f4"), "bias": np.zeros(2, "f4")},
    ]
    _, got, _ = trained(layers, (4, 5, 3), weights, "f4", x, np.zeros(ROWS, np.int64), 2)
    parts = x.astype(float).reshape(3, -1, 3)
    np.testing.assert_allclose(got[0]["var"], parts.var(1).mean(0), rtol=1e-5)
    np.testing.assert_allclose(got[0]["mean"], parts.mean(1).mean(0), rtol=1e-6)


def test_working_memory_beyond_activations_stays_small():
    """No patches of a whole batch.

    What is neither an activation nor a gradient stays below 32 MB at batch 128.
    """
    layers = []
    for filters in (32, 64):
        layers += [Conv2D(filters, 3, use_bias=False), norm(), Activation("relu"), MaxPooling2D(2)]
    layers += [
        Flatten(), Dense(64, use_bias=False), norm(), Activation("relu"),
        Dense(10, activation="softmax"),
    ]
    shapes = shapes_of(layers, (28, 28, 1))
    lowered = lower_training(
        computation(layers, shapes[0]), np.dtype("f4"), 128, "softmax_cross_entropy", Adam()
    )
    numbers = sum(int(np.prod(shape)) for shape in shapes)
    assert sum(lowered.program.sizes.values()) - 2 * 128 * 4 * numbers < 32 << 20


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_deep_inference_takes_the_memory_of_two_layers(dtype):
    """Buffers live from their writer to their last reader: 32 layers take no more than 2, and what
    one of them has beside its images.
    """
    sizes, beside = [], 0
    for depth in (2, 32):
        layers = [Conv2D(32, 3, padding="same", activation="relu") for _ in range(depth)]
        program = InferenceProgram(
            computation(layers, (28, 28, 32)).inference, np.dtype(dtype)
        ).program
        sizes.append(program.sizes[Segment.WORK])
        _, beside = program.pieces.get("patches", (0, 0))
    assert sizes[1] <= sizes[0] <= 0.3e6 * np.dtype(dtype).itemsize + beside
    assert beside <= 8e5
